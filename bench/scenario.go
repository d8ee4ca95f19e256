package main

// Kinds of stages.
const (
	idle      = "idle"      // nothing is published for Secs
	paced     = "paced"     // Rate messages a second for Secs
	saturated = "saturated" // Inflight messages published and not yet delivered everywhere, for Secs
	resume    = "resume"    // all go away, Missed messages a channel are published, all come back
	stalled   = "stalled"   // paced, while the scenario's Stalled connections do not read
	flood     = "flood"     // paced, faster than all could have it: first all but Clients leave
	unheard   = "unheard"   // paced, on a channel that nobody listens to: what publishing alone costs
	conflated = "conflated" // paced, for targets that get only the newest of each key, so often a second
	besieged  = "besieged"  // paced, beside 5,000 hostile connections
	lagging   = "lagging"   // paced, while Stalled connections more do not read and Crawling ones read 1 KiB a second
)

// Stage is one measured part of a scenario.
type Stage struct {
	Kind     string  `json:"kind"`
	Secs     float64 `json:"secs,omitempty"`
	Rate     float64 `json:"rate,omitempty"`
	Inflight int     `json:"inflight,omitempty"`
	Missed   int     `json:"missed,omitempty"`
	Bundle   int     `json:"bundle,omitempty"` // messages in a publish request; 0: 1
	Clients  int     `json:"clients,omitempty"`
}

// Scenario is a set of connections and the stages that they go through, one after the other.
type Scenario struct {
	Name    string
	About   string
	Conns   int
	PerConn int // channels per connection
	// Channels is how many there are. Connection i listens to channel i and, with PerConn > 1, to
	// others evenly spaced.
	Channels int
	Payload  int // bytes
	Dialing  int // connects under way at once
	Stalled  int // connections that stop reading in the stalled stage
	// Prefill is how many messages go to every channel before anyone connects, so that histories
	// and heaps have their final size when memory is compared.
	Prefill int
	Stages  []Stage

	Keys     int      // messages have one of so many keys, in turn; the stages are judged, then (runner.judge)
	Crawling int      // with them the slow ones are no part of Conns, and come in the lagging stage
	Terms    []Term   // not nil: only Sluice takes part, as it is and with each of these
	Settings []string // more arguments for Sluice
	Rules    string   // its settings file
}

// Term is what holds for all subscribers of a target.
type Term struct {
	Name      string
	Query     string   // what they wish
	Rules     string   // the settings file
	PerSec    float64  // deliveries a second that it allows, in the conflated stage
	Env       []string // of Sluice, NAME=value; spans go to a collector that takes and forgets them
	Envelopes bool     // over the JSON subprotocol, where a delivery is one array
	Stages    []Stage  // instead of the scenario's
}

// scenarios lists all of them in the order in which they run. Paced rates are such that every
// target keeps up on one core.
func scenarios() []Scenario {
	return []Scenario{
		{Name: "broadcast", About: "1,000 clients on one channel",
			Conns: 1000, Channels: 1, PerConn: 1, Payload: 128, Dialing: 128,
			Stages: []Stage{{Kind: paced, Rate: 20, Secs: 8}, {Kind: saturated, Inflight: 4, Secs: 6}}},
		{Name: "firehose", About: "100 clients on one channel, 128 messages in flight",
			Conns: 100, Channels: 1, PerConn: 1, Payload: 128, Dialing: 100,
			Stages: []Stage{{Kind: saturated, Inflight: 128, Secs: 8}}},
		{Name: "many", About: "10,000 channels with one client each",
			Conns: 10000, Channels: 10000, PerConn: 1, Payload: 128, Dialing: 256,
			Stages: []Stage{{Kind: paced, Rate: 2000, Secs: 8}, {Kind: saturated, Inflight: 64, Secs: 6}}},
		{Name: "mid", About: "5,000 clients, each on 5 of 500 channels",
			Conns: 5000, Channels: 500, PerConn: 5, Payload: 128, Dialing: 256,
			Stages: []Stage{{Kind: paced, Rate: 400, Secs: 8}, {Kind: saturated, Inflight: 64, Secs: 6}}},
		{Name: "idle", About: "10,000 clients on 1,000 channels, each got one message, then silence",
			Conns: 10000, Channels: 1000, PerConn: 1, Payload: 128, Dialing: 256,
			Stages: []Stage{{Kind: idle, Secs: 10}}},
		{Name: "storm", About: "10,000 clients connect, 2,000 at once",
			Conns: 10000, Channels: 100, PerConn: 1, Payload: 128, Dialing: 2000},
		{Name: "resume", About: "5,000 clients come back at once, each having missed 50 messages",
			Conns: 5000, Channels: 10, PerConn: 1, Payload: 128, Dialing: 1000,
			Stages: []Stage{{Kind: paced, Rate: 20, Secs: 3}, {Kind: resume, Missed: 50}}},
		{Name: "prices", About: "5,000 messages/s over 50 keys to 1,000 clients, as they come and at 5 deliveries a second",
			Conns: 1000, Channels: 2, PerConn: 1, Payload: 128, Dialing: 128, Keys: 50,
			Stages: []Stage{{Kind: unheard, Rate: 5000, Bundle: 10, Secs: 10}, {Kind: paced, Rate: 20, Secs: 10}, {Kind: flood, Rate: 5000, Bundle: 10, Clients: 100, Secs: 10}},
			Terms: []Term{
				{Name: "rate", Query: "&rate=5/s&conflate=key", PerSec: 5, Stages: thinned()},
				{Name: "batch", Query: "&rate=5/s&conflate=key&batch=50ms", PerSec: 5, Stages: thinned()},
				{Name: "batch", Query: "&rate=5/s&conflate=key&batch=50ms", PerSec: 5, Envelopes: true, Stages: thinned()},
			}},
		{Name: "laggards", About: "1,000 clients; for a minute 50 more do not read and 50 more read 1 KiB a second",
			Conns: 1000, Channels: 1, PerConn: 1, Payload: 512, Dialing: 128, Keys: 50, Stalled: 50, Crawling: 50, Prefill: 2000,
			Stages: []Stage{{Kind: paced, Rate: 40, Secs: 60}, {Kind: lagging, Rate: 40, Secs: 60}},
			Terms:  []Term{},
			// Nobody is cut off, so that what the slow ones cost shows for the whole minute.
			Settings: []string{"--write-timeout=5m", "--max-lag=10m"},
			Rules:    "channels:\n  - match: \"*\"\n    history: {messages: 1000}\n    slow: {ring: 256, then: conflate}\n"},
		{Name: "hostile", About: "500 clients on 10 channels, without and beside 5,000 hostile connections",
			Conns: 500, Channels: 10, PerConn: 1, Payload: 128, Dialing: 64,
			Stages:   []Stage{{Kind: paced, Rate: 50, Secs: 20}, {Kind: besieged, Rate: 50, Secs: 20}},
			Terms:    []Term{},
			Settings: []string{"--address-connections=64", "--connect-rate=5", "--connect-burst=64", "--memory-limit=256MiB", "--send-buffer=64KiB"}},
		{Name: "idle-policy", About: "10,000 clients on 1,000 channels, silent, with and without a policy",
			Conns: 10000, Channels: 1000, PerConn: 1, Payload: 128, Dialing: 256,
			Stages: []Stage{{Kind: idle, Secs: 10}},
			Terms: []Term{
				{Name: "wish", Query: "&rate=5/s&conflate=key&batch=50ms"},
				{Name: "rule", Rules: "channels:\n  - match: \"*\"\n    deliver: {conflate: key, rate: 5/s, batch: {window: 50ms}}\n    slow: {ring: 256, then: conflate}\n"},
			}},
		{Name: "tracing", About: "1,000 clients on one channel, with tracing off, of 1 % of the messages, and of all",
			Conns: 1000, Channels: 1, PerConn: 1, Payload: 128, Dialing: 128,
			Stages: []Stage{{Kind: paced, Rate: 20, Secs: 8}, {Kind: saturated, Inflight: 4, Secs: 6}},
			Terms:  []Term{{Name: "1%", Env: sampling("0.01")}, {Name: "100%", Env: sampling("1")}}},
		{Name: "stalled", About: "2,000 clients, 8 KiB messages; 100 of the clients stop reading for 15 s",
			Conns: 2000, Channels: 1, PerConn: 1, Payload: 8 << 10, Dialing: 128, Stalled: 100, Prefill: 4000,
			Stages: []Stage{{Kind: paced, Rate: 10, Secs: 15}, {Kind: stalled, Rate: 10, Secs: 15}}},
	}
}

// sampling is the environment of a node that samples this share of the messages, and exports their spans.
func sampling(ratio string) []string {
	return []string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://" + collectorAddr + "/v1/traces",
		"OTEL_TRACES_SAMPLER=parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG=" + ratio}
}

// thinned returns the stages of those who get only the newest of each key.
func thinned() []Stage {
	return []Stage{{Kind: unheard, Rate: 5000, Bundle: 10, Secs: 10}, {Kind: conflated, Rate: 5000, Bundle: 10, Secs: 10}}
}

func findScenario(name string) (Scenario, bool) {
	for _, s := range scenarios() {
		if s.Name == name {
			return s, true
		}
	}
	return Scenario{}, false
}

// resumes reports whether s has a stage that only servers with a history can pass.
func (s *Scenario) resumes() bool {
	for _, st := range s.Stages {
		if st.Kind == resume {
			return true
		}
	}
	return false
}

// late is how many connections come only in the lagging stage.
func (s *Scenario) late() int {
	if s.Crawling == 0 {
		return 0
	}
	return s.Stalled + s.Crawling
}

// heard is how many channels have listeners: where silence is measured the last has none.
func (s *Scenario) heard() int {
	for _, st := range s.Stages {
		if st.Kind == unheard {
			return s.Channels - 1
		}
	}
	return s.Channels
}

// quick makes s small enough to see in seconds whether everything works; its figures mean nothing.
func (s *Scenario) quick() {
	s.Conns = max(s.Conns/20, 40)
	s.Channels = min(s.Channels, s.Conns)
	s.Prefill /= 20
	s.Stalled /= 20
	s.Crawling /= 20
	quicken(s.Stages)
	for _, t := range s.Terms {
		quicken(t.Stages)
	}
}

// last makes the stages that last a time last secs; 0 leaves them.
func (s *Scenario) last(secs float64) {
	stages := [][]Stage{s.Stages}
	for _, t := range s.Terms {
		stages = append(stages, t.Stages)
	}
	for _, some := range stages {
		for i := range some {
			if some[i].Secs > 0 && secs > 0 {
				some[i].Secs = secs
			}
		}
	}
}

func quicken(stages []Stage) {
	for i := range stages {
		st := &stages[i]
		st.Secs = min(st.Secs, 2)
		st.Clients /= 20
		if st.Bundle == 0 { // at 100 a second nothing would be superseded
			st.Rate = min(st.Rate, 100)
		}
	}
}
