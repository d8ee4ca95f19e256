package transport

import (
	"net/http"
	"net/netip"
	"time"

	"sluice/broker"
)

// ledger is what operators are told of one session besides what it consists of. Without Config.Admin there is none: an idle
// connection should not pay for what nobody asks.
type ledger struct {
	since  int64      // Unix milliseconds
	remote netip.Addr // the client, as the access log has it

	// Owned by the writer.
	trace     [16]byte // the trace of what it was last given; zero: none was sampled
	bytes     uint64   // that its link has taken
	messages  uint64   // taken for it from its logs, without gaps
	conflated uint64   // not given to it, since a newer one was
	filtered  uint64   // not given to it, since a filter said so
	lapped    uint64   // for which it was told a gap, since its policy wants that of slow readers
	gaps      uint64   // that it was told, whatever for
}

// newLedger begins the ledger of a session that r asks for; nil without Config.Admin.
func (s *Server) newLedger(r *http.Request) *ledger {
	if !s.config.Admin {
		return nil
	}
	return &ledger{since: time.Now().UnixMilli(), remote: s.limits.clients.Addr(r)}
}

// take books a batch that was taken for the session.
func (l *ledger) take(b *broker.Batch) {
	l.messages += uint64(len(b.Messages) - b.Gaps)
	l.gaps += uint64(b.Gaps)
	l.conflated += uint64(b.Conflated)
	l.filtered += uint64(b.Skipped - b.Conflated)
	l.lapped += uint64(b.Lapped)
}

// dropped is how many messages were not given to it on purpose.
func (l *ledger) dropped() uint64 { return l.conflated + l.filtered + l.lapped }
