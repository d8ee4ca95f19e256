package main

// Result is one line of output: one scenario with one target, once.
type Result struct {
	Run      string         `json:"run"` // the same for all lines of one invocation
	Host     string         `json:"host"`
	At       string         `json:"at"`
	Target   string         `json:"target"`
	Rival    string         `json:"rival"` // the target that it is compared with
	Scenario string         `json:"scenario"`
	Rep      int            `json:"rep"`
	Conns    int            `json:"conns"`
	Quick    bool           `json:"quick,omitempty"`
	Error    string         `json:"error,omitempty"`
	Connect  *ConnectResult `json:"connect,omitempty"`
	Stages   []StageResult  `json:"stages,omitempty"`
}

// ConnectResult is how the connections came about.
type ConnectResult struct {
	Ready       int      `json:"ready"`
	Secs        float64  `json:"secs"`
	PerSec      float64  `json:"conns_per_s"`
	CPUms       float64  `json:"server_cpu_ms_per_conn"`
	Latency     *Latency `json:"latency"`
	RSSBefore   int64    `json:"rss_kib_before"`
	RSS         int64    `json:"rss_kib_after"`
	WarmMissing int64    `json:"warmup_missing,omitempty"` // subscriptions that never got the warm-up message
}

// StageResult is what one stage measured. CPU of the server includes the kernel's way up to the
// clients' sockets, which on loopback runs in the sender's context.
type StageResult struct {
	Stage
	Measured   float64  `json:"measured_s"`
	Published  int64    `json:"published"`
	PubErrors  int64    `json:"publish_errors,omitempty"`
	PubError   string   `json:"publish_error,omitempty"`
	PubLagP99  float64  `json:"publish_lag_p99_ms"` // how late the tool itself was
	Expected   int64    `json:"expected"`
	Received   int64    `json:"received"`
	Lost       int64    `json:"lost"`
	Duplicated int64    `json:"duplicated"`
	Reordered  int64    `json:"reordered"`
	Closed     int64    `json:"closed_by_server,omitempty"`
	PerSec     float64  `json:"deliveries_per_s"`
	Latency    *Latency `json:"latency,omitempty"`

	CPU         float64 `json:"server_cpu_s"`
	Util        float64 `json:"server_cpu_util"`
	CPUus       float64 `json:"server_cpu_us_per_delivery"`
	Writes      float64 `json:"server_writes_per_delivery"`
	Frames      float64 `json:"deliveries_per_frame"`
	Bytes       float64 `json:"wire_bytes_per_delivery"`
	RSS         int64   `json:"rss_kib_end"`
	RSSPeak     int64   `json:"rss_kib_peak"`
	LoadUtil    float64 `json:"load_cpu_util"`     // of the tool; above 0.9 the server is not the limit
	ForeignUtil float64 `json:"foreign_core_util"` // of the server's core, used by anyone else

	Reconnect  float64 `json:"reconnect_s,omitempty"` // resume: until all were connected
	Recovered  float64 `json:"recovered_s,omitempty"` // resume: until nothing was missing any more
	KernelEach float64 `json:"stalled_kernel_kib_each,omitempty"`
	UserEach   float64 `json:"stalled_user_kib_each,omitempty"`
	Cut        int     `json:"stalled_cut,omitempty"`         // stalled connections that the server had closed
	StalledGot float64 `json:"stalled_got_average,omitempty"` // messages each got after reading on

	Descriptors int `json:"server_fds,omitempty"` // besieged: at its beginning

	RSSSlope       float64 `json:"rss_kib_per_s,omitempty"`    // stalled, lagging: growth in the second half
	KernelSlope    float64 `json:"kernel_kib_per_s,omitempty"` // the same of the slow clients' socket buffers
	RSSOverTime    []int64 `json:"rss_kib,omitempty"`          // every 5 s
	KernelOverTime []int64 `json:"kernel_kib,omitempty"`

	// Scenarios with keys. A delivery is what comes together.
	PublishUs   float64 `json:"publish_cpu_us,omitempty"`              // unheard: of the server, a message
	DeliveryUs  float64 `json:"server_cpu_us_per_pulse,omitempty"`     // a delivery, without what publishing costs
	WriteUs     float64 `json:"server_cpu_us_per_write,omitempty"`     // without what publishing costs
	PerClient   float64 `json:"pulses_per_s_and_client_max,omitempty"` // deliveries a second to the client that got most
	Together    float64 `json:"messages_per_pulse,omitempty"`          // in a delivery
	MostInFrame int     `json:"messages_per_frame_max,omitempty"`
	TooOften    int64   `json:"clients_too_often,omitempty"` // clients that got more deliveries than they should
	StaleKeys   int64   `json:"stale_keys,omitempty"`        // clients times keys whose newest message was not the last that came
	StaleSlow   int64   `json:"stale_keys_of_the_slow,omitempty"`
}
