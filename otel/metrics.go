package otel

import "slices"

// Instrument is one metric of the page below.
type Instrument uint8

// All metrics of a node. docs/observability.md says how to read them, and a test holds it against this page.
const (
	PublishToWrite Instrument = iota
	TransitTime
	QueueTime
	WriteTime
	DeliveriesPerWrite
	Deliveries
	Writes
	WrittenBytes
	ClampedTimes
	ClockOffset
	ClockError
	TraceRefused

	Sessions
	SessionsLimit
	Sockets
	SocketsLimit
	Subscriptions
	SubscriptionsLimit
	LagMessages
	LagTime
	SessionsOwing
	Connects
	Closes
	WebSocketCloses
	RateLimited

	WebhookRequests
	WebhookDecisions
	WebhookReused
	WebhookInFlight
	Revocations

	Publishes
	PublishTime

	Channels
	LogMessages
	LogBytes
	Received
	Drops
	Gaps
	Repairs
	HistoryReads
	Resumes

	RedisConnections
	RedisConnected
	RedisReconnects
	RedisReceived
	RedisDropped
	RedisRetries
	RedisLoads

	TracedSpans

	Ready
	ProbeTime
	BuildInfo

	instruments // how many there are
)

// kind is what a metric is to Prometheus.
type kind string

const (
	counter   kind = "counter"
	gauge     kind = "gauge"
	histogram kind = "histogram"
)

// row is what the page says of an instrument.
type row struct {
	name   string
	kind   kind
	unit   string // by UCUM: s and By, which the name tells too, or {things}; "" of what has none
	labels []string
	layout *Layout // of a histogram
	help   string
}

// baseUnits are the units that Prometheus has in names, by what UCUM calls them.
var baseUnits = map[string]string{"s": "seconds", "By": "bytes"}

// durations are nanoseconds, told in seconds; sizes are numbers of messages.
var (
	durations = NewLayout(1e9,
		5e3, 10e3, 25e3, 50e3, 100e3, 250e3, 500e3,
		1e6, 2_500e3, 5e6, 10e6, 25e6, 50e6, 100e6, 250e6, 500e6,
		1e9, 2_500e6, 5e9, 10e9, 30e9, 60e9)
	sizes = NewLayout(1, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
)

var page = [instruments]row{
	PublishToWrite: {"sluice_publish_to_write_seconds", histogram, "s", []string{"transport"}, durations,
		"From a message's publish time to the end of the write that carried it, for messages published while their subscriber was there."},
	TransitTime: {"sluice_transit_seconds", histogram, "s", nil, durations,
		"From a message's publish time to its arrival at this node."},
	QueueTime: {"sluice_queue_seconds", histogram, "s", []string{"transport"}, durations,
		"From a message's arrival at this node to the end of the write that carried it; what a policy holds back waits here."},
	WriteTime: {"sluice_write_seconds", histogram, "s", []string{"transport"}, durations,
		"What one write took a writer: putting it together and the system call. Over TLS and HTTP/2: until the connection took it."},
	DeliveriesPerWrite: {"sluice_deliveries_per_write", histogram, "{message}", []string{"transport"}, sizes,
		"Messages in a write that had any."},
	Deliveries: {"sluice_deliveries_total", counter, "{message}", []string{"transport", "source"}, nil,
		"Messages written to clients. Source live: published while the subscriber was there; history: before it came, or read again for it."},
	Writes: {"sluice_writes_total", counter, "{write}", []string{"transport"}, nil,
		"Writes to clients' connections, those without messages too."},
	WrittenBytes: {"sluice_written_bytes_total", counter, "By", []string{"transport"}, nil,
		"Bytes written to clients' connections, before TLS and HTTP/2, without WebSocket handshakes."},
	ClampedTimes: {"sluice_clock_clamped_total", counter, "{message}", []string{"transport"}, nil,
		"Messages whose publish time was in this node's future; they count as 0 seconds old."},
	ClockOffset: {"sluice_clock_offset_seconds", gauge, "s", nil, nil,
		"By how much Redis' clock is ahead of this node's. Publish times are told by Redis' clock."},
	ClockError: {"sluice_clock_error_seconds", gauge, "s", nil, nil,
		"How wrong that may be: half of the best round trip."},
	TraceRefused: {"sluice_trace_refused_total", counter, "{message}", nil, nil,
		"Messages that were sampled and not traced, because too many were under way."},

	Sessions: {"sluice_sessions", gauge, "{session}", []string{"transport", "format"}, nil,
		"Client connections that are open."},
	SessionsLimit: {"sluice_sessions_limit", gauge, "{session}", nil, nil,
		"Connections that this node takes at once (max-sessions)."},
	Sockets: {"sluice_sockets", gauge, "{socket}", nil, nil,
		"TCP connections that are open, those that are no stream or WebSocket too."},
	SocketsLimit: {"sluice_sockets_limit", gauge, "{socket}", nil, nil,
		"TCP connections that this node takes at once (max-sockets)."},
	SubscriptionsLimit: {"sluice_subscriptions_limit", gauge, "{subscription}", nil, nil,
		"Subscriptions that this node takes at once (max-subscriptions)."},
	Subscriptions: {"sluice_subscriptions", gauge, "{subscription}", []string{"transport"}, nil,
		"Channels that connections listen to, each counted once per connection."},
	LagMessages: {"sluice_lag_messages", gauge, "{message}", []string{"transport"}, nil,
		"The most messages that a connection is behind in a channel; what a policy holds back is not among them."},
	LagTime: {"sluice_lag_seconds", gauge, "s", []string{"transport"}, nil,
		"For how long the oldest byte has waited that the client of a connection has not taken."},
	SessionsOwing: {"sluice_sessions_owing", gauge, "{session}", []string{"transport"}, nil,
		"Connections whose client has not taken everything yet."},
	Connects: {"sluice_connects_total", counter, "{request}", []string{"transport", "result"}, nil,
		"Requests for a stream or a WebSocket, by result: ok, or the code of the refusal."},
	Closes: {"sluice_closes_total", counter, "{session}", []string{"transport", "reason"}, nil,
		"Connections that ended, by who or what ended them: peer, server, slow, silent."},
	WebSocketCloses: {"sluice_websocket_closes_total", counter, "{session}", []string{"code"}, nil,
		"WebSocket connections that ended, by close code; 1006 without a close frame, other for codes that have no name."},
	RateLimited: {"sluice_rate_limited_total", counter, "{refusal}", []string{"kind"}, nil,
		"What was refused by a limit: connect, publish, command, bytes, granted, address_connections, subject_connections and address_sockets (per client), session_command and session_queue (per connection), and node_… (all clients together)."},

	WebhookRequests: {"sluice_webhook_requests_total", counter, "{request}", []string{"result"}, nil,
		"Requests to the authorization webhook, by result: answered, failed (no answer, or none that can be used)."},
	WebhookDecisions: {"sluice_webhook_decisions_total", counter, "{decision}", []string{"result"}, nil,
		"Callers about whom the webhook was needed, by result: allowed, denied, unavailable (refused for want of an answer)."},
	WebhookReused: {"sluice_webhook_reused_total", counter, "{decision}", []string{"age"}, nil,
		"Of these, callers with a kept answer: fresh, or stale because the webhook was away."},
	WebhookInFlight: {"sluice_webhook_in_flight", gauge, "{request}", nil, nil,
		"Requests to the authorization webhook that are under way."},
	Revocations: {"sluice_revocations", gauge, "{revocation}", nil, nil,
		"Revocations that are in force on this node."},

	Publishes: {"sluice_publishes_total", counter, "{message}", []string{"transport", "result"}, nil,
		"Messages that clients asked this node to publish, by result: ok, or the code of the refusal. A request that is refused as a whole counts once."},
	PublishTime: {"sluice_publish_seconds", histogram, "s", []string{"transport"}, durations,
		"From handing a message to the backend until its acknowledgement, for those that were acknowledged."},

	Channels: {"sluice_channels", gauge, "{channel}", nil, nil,
		"Channels that this node holds a log of."},
	LogMessages: {"sluice_log_messages", gauge, "{message}", nil, nil,
		"Messages in these logs."},
	LogBytes: {"sluice_log_bytes", gauge, "By", nil, nil,
		"What these messages count against ring-bytes: payload, an encoding, and a flat rate."},
	Received: {"sluice_received_messages_total", counter, "{message}", []string{"kind"}, nil,
		"Messages that arrived in logs, durable and live; those that a repair read too."},
	Drops: {"sluice_dropped_messages_total", counter, "{message}", []string{"pattern", "reason"}, nil,
		"Messages not delivered on purpose, once for each subscription, by the pattern of the channel rule and reason."},
	Gaps: {"sluice_gaps_total", counter, "{gap}", []string{"reason"}, nil,
		"Gaps told to one subscription, or to all of a channel at once, by reason."},
	Repairs: {"sluice_repairs_total", counter, "{repair}", nil, nil,
		"Logs that had to be read again because a message was missing."},
	HistoryReads: {"sluice_history_reads_total", counter, "{read}", nil, nil,
		"Ranges of history read from the backend."},
	Resumes: {"sluice_resumes_total", counter, "{subscription}", []string{"result"}, nil,
		"Subscriptions that came with a position and were served from memory, from the history, or told a gap."},

	RedisConnections: {"sluice_redis_connections", gauge, "{connection}", nil, nil,
		"Redis Pub/Sub connections that are up."},
	RedisConnected: {"sluice_redis_connected", gauge, "", nil, nil,
		"1 while all Redis Pub/Sub connections are up, else 0."},
	RedisReconnects: {"sluice_redis_reconnects_total", counter, "{attempt}", nil, nil,
		"Attempts to make a Redis Pub/Sub connection again."},
	RedisReceived: {"sluice_redis_received_messages_total", counter, "{message}", []string{"kind"}, nil,
		"Messages received from Redis: announced by a function, or plain PUBLISH."},
	RedisDropped: {"sluice_redis_dropped_messages_total", counter, "{message}", []string{"reason"}, nil,
		"Messages from Redis that were not taken: too_large or malformed."},
	RedisRetries: {"sluice_redis_publish_retries_total", counter, "{attempt}", nil, nil,
		"Publishes to Redis that were tried again."},
	RedisLoads: {"sluice_redis_function_loads_total", counter, "{load}", nil, nil,
		"Times that the functions were missing in Redis and were loaded."},

	TracedSpans: {"sluice_trace_spans_total", counter, "{span}", []string{"result"}, nil,
		"Spans that ended, by what became of them: exported; failed, the collector did not take them; dropped, because too many waited. They are counted when that is known."},

	Ready: {"sluice_ready", gauge, "", nil, nil,
		"1 if a message published to the backend came back to this node within a second, and it has memory and is not stopping, else 0."},
	ProbeTime: {"sluice_probe_seconds", gauge, "s", nil, nil,
		"How long that message took."},
	BuildInfo: {"sluice_build_info", gauge, "", []string{"version", "revision", "goversion"}, nil,
		"Always 1; the labels say what is running."},
}

// Name returns the metric's name.
func (i Instrument) Name() string { return page[i].name }

// Labels returns the names of its labels.
func (i Instrument) Labels() []string { return slices.Clone(page[i].labels) }

// Help returns what it means, in a sentence or two.
func (i Instrument) Help() string { return page[i].help }

// Kind returns counter, gauge or histogram.
func (i Instrument) Kind() string { return string(page[i].kind) }

// Histogram returns a new histogram of an instrument that is one; several may be told as one.
func (i Instrument) Histogram() *Histogram { return &Histogram{layout: page[i].layout} }

// Bounds returns where the buckets of an instrument that is a histogram end, ascending, in the unit that is told.
func (i Instrument) Bounds() []float64 {
	l := page[i].layout
	bounds := make([]float64, len(l.bounds))
	for b := range bounds {
		bounds[b] = float64(l.bounds[b]) / l.unit
	}
	return bounds
}

// Instruments returns the whole page.
func Instruments() []Instrument {
	all := make([]Instrument, instruments)
	for i := range all {
		all[i] = Instrument(i)
	}
	return all
}
