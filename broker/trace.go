package broker

import (
	"context"
	"slices"

	"sluice/otel"
)

// What a log and its lanes tell of messages that are traced. Nearly none is: what is asked of each message is whether it has
// a trace, and of each log whether any of its messages has.

// openTrace is a traced message of a log that somebody may still have to take.
type openTrace struct {
	index    uint64
	delivery *otel.Delivery
	marked   uint64 // by which writers, a bit each; those beyond 64 share one
	missing  int    // how many listeners have not marked it
	shares   []share
}

// share is how many subscribers of a traced message a lane speaks for.
type share struct {
	lane    *Lane
	owed    int  // that were there when it came, and of which nothing has been told
	decided bool // the lane has dropped it, and that has been told for all of them
}

// of returns the share of a lane, nil if it had none.
func (x *openTrace) of(n *Lane) *share {
	for i := range x.shares {
		if x.shares[i].lane == n {
			return &x.shares[i]
		}
	}
	return nil
}

// Delivery is where to tell what becomes of m on this node; nil if m is not traced, or was not published while somebody here listened.
func (m *Message) Delivery() *otel.Delivery { return m.trace.Load() }

// Context names the span as whose child a client may go on: this node's delivery, else the publish if that is sampled; zero if there is none.
func (m *Message) Context() otel.Context {
	if d := m.trace.Load(); d != nil {
		return d.Context()
	}
	if m.Trace == "" {
		return otel.Context{}
	}
	c, ok := otel.ParseContext(m.Trace)
	if !ok || !c.Sampled {
		return otel.Context{}
	}
	return c
}

// publishTraced publishes m in a span, which goes on with the message.
func (b *Broker) publishTraced(ctx context.Context, m *Message, o PublishOptions) (Receipt, error) {
	clock := b.options.Clock
	offset, _, _ := clock.Offset()
	span := b.options.Tracer.Publish(ctx, m.Channel, m.Trace, o.Live, m.Time.Add(-offset))
	m.Trace = span.Context().String()
	r, err := b.backend.Publish(ctx, m, o)
	position := ""
	if !r.Position.IsZero() {
		position = r.Position.String()
	}
	span.Published(clock, position, r.Duplicate, err)
	return r, err
}

// trace notes that m comes to those who listen: how long it was on its way, and its delivery if it is to be traced. m is about to get
// the index ring.next. l.mu is held.
func (l *Log) trace(m *Message) {
	now := Now()
	a := otel.Arrival{Channel: l.channel, Trace: m.Trace, Arrived: now, Subscribers: l.flowing}
	if waited, ok := m.Waited(now); ok {
		a.Arrived -= waited
	}
	if !m.Time.IsZero() {
		a.Published = m.Time.UnixNano()
		l.broker.transit.Observe(max(0, a.Arrived+l.broker.options.Clock.Wall()-a.Published))
	}
	t := l.broker.options.Tracer
	if t == nil {
		return
	}
	if m.Durable() {
		a.Position = m.Position.String()
	}
	d := t.Deliver(a)
	if d == nil {
		return
	}
	m.trace.Store(d)
	if len(l.traces) >= l.tracesFull {
		l.prune()
	}
	x := openTrace{index: l.ring.next, delivery: d, missing: len(l.listeners)}
	for _, n := range l.lanes {
		if n.flowing > 0 {
			x.shares = append(x.shares, share{lane: n, owed: n.flowing})
		}
	}
	l.traces = append(l.traces, x)
	if x.missing > 0 {
		l.unmarked.Add(1)
	}
}

// prune forgets the traced messages of which nothing has to be told any more. It is called each time that there are twice as many as it has
// left, so that a message costs the same however many are open. l.mu is held.
func (l *Log) prune() {
	l.traces = slices.DeleteFunc(l.traces, func(x openTrace) bool {
		over := x.delivery.Over()
		if over && x.missing > 0 { // a listener has gone before it marked anything
			l.unmarked.Add(-1)
		}
		return over
	})
	l.tracesFull = max(16, 2*len(l.traces))
}

// Marked notes that a writer, one of l's listeners, has marked all its subscriptions since it was last notified: whatever had
// come by then is theirs to take.
func (l *Log) Marked(writer int, at int64) {
	if l.unmarked.Load() == 0 {
		return
	}
	bit := uint64(1) << min(writer, 63)
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := len(l.traces) - 1; i >= 0; i-- {
		x := &l.traces[i]
		if x.marked&bit != 0 {
			break // and so are those before
		}
		x.delivery.Marked(writer, at)
		x.marked |= bit
		if x.missing--; x.missing == 0 {
			l.unmarked.Add(-1)
		}
	}
}

// own yields the traced messages that s is to account for: those that came while it was there, that it has not taken, and that its lane has not
// dropped for it. l.mu is held.
func (s *Subscription) own(yield func(*openTrace)) {
	from := s.liveFrom
	if s.phase == flowing {
		from = max(from, s.next)
	}
	for i := len(s.log.traces) - 1; i >= 0; i-- {
		x := &s.log.traces[i]
		if x.index < from {
			break
		}
		if p := x.of(s.lane); p == nil || !p.decided {
			yield(x)
		}
	}
}

// abandon tells the traced messages that s owes a word that it will not take them: why is what went wrong, "" if nothing did.
func (s *Subscription) abandon(over, why string) {
	s.own(func(x *openTrace) {
		if p := x.of(s.lane); p != nil {
			p.owed--
		}
		if why == "" {
			x.delivery.Left()
		} else {
			x.delivery.Failed(over, why)
		}
	})
}

// skip tells those before an index that s does not get them.
func (s *Subscription) skip(to uint64, reason string) {
	s.own(func(x *openTrace) {
		if x.index >= to {
			return
		}
		if p := x.of(s.lane); p != nil {
			p.owed--
		}
		x.delivery.Dropped(reason, 1)
	})
}

// speak has another lane account for s from now on; nil is none.
func (s *Subscription) speak(n *Lane) {
	if s.phase == waiting {
		return
	}
	if s.lane != nil {
		s.lane.flowing--
	}
	if n != nil {
		n.flowing++
	}
	s.own(func(x *openTrace) {
		if p := x.of(s.lane); p != nil {
			p.owed--
		}
		if n == nil {
			return
		}
		if p := x.of(n); p != nil {
			p.owed++
		} else {
			x.shares = append(x.shares, share{lane: n, owed: 1})
		}
	})
}

// lost is a traced message that a stage has dropped.
type lost struct {
	message *Message
	reason  string
	by      otel.Context // of the message that took its place
}

// lose notes those of before that are not in after.
func (r *run) lose(reason string, before, after []*Message) {
	for _, m := range before {
		if len(after) > 0 && after[0] == m {
			after = after[1:]
		} else if m.Delivery() != nil {
			r.lost = append(r.lost, lost{message: m, reason: reason})
		}
	}
}

// succeed finds which of the ready messages took the place of the lost ones that were conflated by key.
func (r *run) succeed(ready []*Message, key *Key, order []*Message) {
	if len(r.lost) == 0 || key == nil {
		return
	}
	place := make(map[*Message]int, len(order))
	for i, m := range order {
		place[m] = i
	}
	for i := range r.lost {
		x := &r.lost[i]
		k, ok := key.Of(x.message)
		if x.reason != DropConflated || !ok {
			continue
		}
		for _, m := range ready {
			if place[m] <= place[x.message] {
				continue
			}
			if other, ok := key.Of(m); ok && other == k {
				x.by = m.Context()
				break
			}
		}
	}
}

// report tells the lost messages that those of whom the lane speaks do not get them. l.mu is held.
func (n *Lane) report(r *run) {
	for i := range r.lost {
		x := n.log.open(&r.lost[i])
		if x == nil {
			continue
		}
		p := x.of(n)
		if p == nil || p.decided {
			continue
		}
		p.decided = true
		r.lost[i].tell(x.delivery, p.owed, false)
	}
}

// reportMissed tells lost messages that s alone does not get them: the lane did not drop them when it let them go, but now something newer is
// there. slow says that it is because s is slow. l.mu is held.
func (s *Subscription) reportMissed(r *run, slow bool) {
	for i := range r.lost {
		x := s.log.open(&r.lost[i])
		if x == nil || x.index < s.liveFrom {
			continue
		}
		if p := x.of(s.lane); p != nil {
			if p.decided {
				continue
			}
			p.owed--
		}
		r.lost[i].tell(x.delivery, 1, slow)
	}
}

// open returns what is known of a lost message, nil if it is too old.
func (l *Log) open(x *lost) *openTrace {
	for i := range l.traces {
		if l.traces[i].delivery == x.message.Delivery() {
			return &l.traces[i]
		}
	}
	return nil
}

func (x *lost) tell(d *otel.Delivery, n int, slow bool) {
	switch {
	case slow:
		d.Conflated(DropSlow, n, x.by)
	case x.reason == DropConflated:
		d.Conflated(x.reason, n, x.by)
	default:
		d.Dropped(x.reason, n)
	}
}
