package transport

import (
	"time"

	"github.com/labstack/echo/v4"

	"sluice/broker"
	"sluice/otel"
)

// stats is the answer of GET /admin/stats: what a page that asks every second needs, in one piece. Counters begin with the
// process; whoever wants rates takes differences, over Time.
type stats struct {
	Time    int64   `json:"time"` // Unix milliseconds
	Version string  `json:"version"`
	Uptime  float64 `json:"uptime"` // seconds

	Ready    bool     `json:"ready"`
	Draining bool     `json:"draining,omitempty"`
	ProbeMS  float64  `json:"probe_ms"`
	Notes    []string `json:"notes,omitempty"`

	Sessions      []sessionCount   `json:"sessions"`
	MaxSessions   int              `json:"max_sessions"`
	Subscriptions map[string]int64 `json:"subscriptions"` // by transport, as what follows
	Channels      int              `json:"channels"`

	Measured   bool              `json:"measured"` // whether there is anything in the next five, and in the histograms
	Deliveries map[string]uint64 `json:"deliveries"`
	Writes     map[string]uint64 `json:"writes"`
	Carrying   map[string]uint64 `json:"carrying"` // writes that had messages
	Bytes      map[string]uint64 `json:"bytes"`
	Clamped    map[string]uint64 `json:"clamped"`

	Publishes map[string]int64 `json:"publishes"` // acknowledged
	Received  map[string]int64 `json:"received"`  // by kind
	Dropped   map[string]int64 `json:"dropped"`   // by reason
	Gaps      map[string]int64 `json:"gaps"`      // by reason
	Closes    map[string]int64 `json:"closes"`    // by reason

	Bounds         []float64           `json:"bounds"` // seconds: where the buckets of the histograms end; the last has no end
	PublishToWrite map[string][]uint64 `json:"publish_to_write"`
	Queue          map[string][]uint64 `json:"queue"`
}

// sessionCount is how many sessions have a format.
type sessionCount struct {
	Transport string `json:"transport"`
	Format    string `json:"format"`
	Count     int64  `json:"count"`
}

// adminStats answers GET /admin/stats. It probes the backend, as /readyz does, which may take a second.
func (s *Server) adminStats(c echo.Context) error {
	if _, err := adminQuery(c); err != nil {
		return err
	}
	took, err := s.probe(c.Request().Context())
	n := &s.counts
	a := stats{
		Version: s.config.Version, Uptime: time.Since(s.started).Seconds(),
		Ready: err == nil && !s.draining.Load(), Draining: s.draining.Load(), ProbeMS: float64(took.Microseconds()) / 1000,
		MaxSessions: s.config.MaxSessions, Channels: s.broker.Channels(), Measured: s.config.Measured(),
		Subscriptions: map[string]int64{}, Publishes: map[string]int64{}, Dropped: map[string]int64{}, Gaps: map[string]int64{}, Closes: map[string]int64{},
		Received: map[string]int64{"durable": s.broker.Stats().Durable.Load(), "live": s.broker.Stats().Live.Load()},
	}
	if s.config.Status != nil {
		a.Notes = s.config.Status()
	}
	for i := range n.sessions {
		a.Sessions = append(a.Sessions, sessionCount{carrierNames[formatNames[i].over], formatNames[i].name, n.sessions[i].Load()})
	}
	for i := range streams {
		a.Subscriptions[carrierNames[i]] = n.subscriptions[i].Load()
		for why := range closeReasons {
			a.Closes[closeNames[why]] += n.closes[i][why].Load()
		}
	}
	for _, i := range []carrier{overHTTP, overWS} {
		a.Publishes[carrierNames[i]] = n.publishes[i][resultOK].Load()
	}
	s.policies.Drops(func(_, reason string, n int64) bool {
		a.Dropped[reason] += n
		return true
	})
	for _, r := range []broker.Reason{broker.Truncated, broker.Fork, broker.Interrupted, broker.Lapped} {
		a.Gaps[string(r)] = s.broker.Stats().Gaps(r)
	}
	a.Gaps[string(broker.BadToken)] = n.badTokens.Load()
	s.addMeters(&a)
	a.Time = time.Now().UnixMilli() // as late as may be: rates are over the time between two answers
	return adminAnswer(c, a)
}

// addMeters adds up what the writers have measured.
func (s *Server) addMeters(a *stats) {
	a.Deliveries, a.Writes, a.Carrying, a.Bytes, a.Clamped = map[string]uint64{}, map[string]uint64{}, map[string]uint64{}, map[string]uint64{}, map[string]uint64{}
	a.PublishToWrite, a.Queue = map[string][]uint64{}, map[string][]uint64{}
	a.Bounds = otel.PublishToWrite.Bounds()
	if !a.Measured {
		return
	}
	for i := range streams {
		var publishToWrite, queue []*otel.Histogram
		name := carrierNames[i]
		for _, w := range s.writers {
			m := &w.meter.by[i]
			publishToWrite, queue = append(publishToWrite, m.publishToWrite), append(queue, m.queue)
			a.Deliveries[name] += m.live.Load() + m.history.Load()
			a.Writes[name] += m.write.Count()
			a.Carrying[name] += m.perWrite.Count()
			a.Bytes[name] += m.bytes.Load()
			a.Clamped[name] += m.clamped.Load()
		}
		a.PublishToWrite[name], a.Queue[name] = otel.Buckets(publishToWrite...), otel.Buckets(queue...)
	}
}
