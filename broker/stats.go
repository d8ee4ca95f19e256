package broker

import (
	"sync/atomic"

	"sluice/otel"
)

// Stats counts what a broker did since it was made. To be read only.
type Stats struct {
	Reads   atomic.Int64 // ranges read from the backend, but for Verify
	Repairs atomic.Int64 // logs that had to be read again
	Resumes atomic.Int64 // subscriptions that came with a position
	Durable atomic.Int64 // durable messages that logs took in, from announcements and from repairs
	Live    atomic.Int64 // live messages that logs took in

	gaps   [len(gapReasons)]atomic.Int64
	served [resumeResults]atomic.Int64
}

// gapReasons are those of the gaps that a broker tells.
var gapReasons = [...]Reason{Truncated, Fork, Interrupted, Lapped}

// Gaps returns how many gaps were told for a reason, to all subscriptions of a channel or to one of them.
func (s *Stats) Gaps(r Reason) int64 {
	for i, x := range gapReasons {
		if x == r {
			return s.gaps[i].Load()
		}
	}
	return 0
}

func (s *Stats) gap(r Reason) {
	for i, x := range gapReasons {
		if x == r {
			s.gaps[i].Add(1)
		}
	}
}

// resumeResult is what became of a subscription that came with a position.
type resumeResult uint8

const (
	resumeNone    resumeResult = iota // it came without, or that has been counted
	resumeMemory                      // the ring had everything
	resumeHistory                     // the history was read for it, or for others like it at the same time
	resumeGap                         // it was told a gap
	resumeResults
)

var resumeNames = [resumeResults]string{resumeMemory: "memory", resumeHistory: "history", resumeGap: "gap"}

// resumed counts what became of s, if it has come with a position and that is not known yet. Who had to wait for
// the history was not served from memory, though it is there by then.
func (s *Subscription) resumed(r resumeResult) {
	if s.resuming == resumeNone {
		return
	}
	s.log.broker.stats.served[max(r, s.resuming)].Add(1)
	s.resuming = resumeNone
}

// Measure tells the broker's numbers. It looks at each log, so it is for those who ask every few seconds.
func (b *Broker) Measure(r *otel.Readings) {
	logs := b.Logs()
	messages, bytes := 0, 0
	for _, l := range logs {
		l.mu.Lock()
		messages += l.ring.len()
		bytes += l.ring.bytes
		l.mu.Unlock()
	}
	r.Value(otel.Channels, float64(len(logs)))
	r.Value(otel.LogMessages, float64(messages))
	r.Value(otel.LogBytes, float64(bytes))
	s := &b.stats
	if b.transit != nil {
		r.Histogram(otel.TransitTime, []*otel.Histogram{b.transit})
	}
	r.Value(otel.Received, float64(s.Durable.Load()), "durable")
	r.Value(otel.Received, float64(s.Live.Load()), "live")
	r.Value(otel.Repairs, float64(s.Repairs.Load()))
	r.Value(otel.HistoryReads, float64(s.Reads.Load()))
	for i, reason := range gapReasons {
		r.Value(otel.Gaps, float64(s.gaps[i].Load()), string(reason))
	}
	for i := resumeMemory; i < resumeResults; i++ {
		r.Value(otel.Resumes, float64(s.served[i].Load()), resumeNames[i])
	}
}
