package broker

import (
	"sync"
	"sync/atomic"
)

// Log is one channel as this node sees it: a bounded ring of messages that all subscriptions read
// by cursors. It follows one line of the channel's history by its predecessor links and repairs
// itself from the backend whenever a link does not fit.
//
// It is in one of three states: joining until the backend's subscription is confirmed and the head
// of the history is known, then live, and repairing while something may be missing. What arrives
// while it is not live waits in pending, in order.
type Log struct {
	channel string
	broker  *Broker
	refs    int // Open minus Close; guarded by broker.mu

	mu         sync.Mutex
	state      logState
	ready      bool     // was live once: last and base mean something
	last       Position // newest position of the line that is followed
	base       Position // the position just before the ring's first durable message; last if it has none
	ring       ring
	pending    []*Message
	spilled    bool   // pending was full and dropped something
	epoch      uint32 // counts Lost and Joined: a read that began before is stale
	sawLive    bool
	sawStored  bool
	broken     bool     // live messages may have been lost; told when the repair is done
	suspect    Position // last at the previous Verify, if it did not match then
	forked     bool     // the next read must look for the fork
	queued     bool     // in the broker's queue of logs to read
	liveEnd    uint64   // one past the newest live message that fell out of the ring
	exhausted  bool     // the history reaches no further back than base
	filling    bool     // a backfill is under way
	unreadable bool     // the last read found that the channel's keys are not Sluice's; makeVerify looks again
	page       *page    // the newest page read for those behind the ring
	memo       [4]*Batch
	memoNext   int
	lanes      []*Lane
	compacts   []*compact
	listeners  []Listener
	flowing    int          // subscriptions that have started and are not closed
	traces     []openTrace  // by index
	tracesFull int          // they are looked through when there are so many
	unmarked   atomic.Int32 // of them, those that not all listeners have marked
}

type logState uint8

const (
	joining logState = iota
	live
	repairing
)

// maxPending bounds what waits for a repair; durable messages beyond it are read again.
const maxPending = 4096

// Listener is told when one of its subscriptions may have something to take: new messages, a page
// of history, or that the log is ready. Notify is called with the log locked: it must return at
// once and not call back. A node has a few listeners per log, one per writer.
type Listener interface{ Notify() }

// Channel returns the channel's name.
func (l *Log) Channel() string { return l.channel }

// Listen adds x to those who are told. Each Listen needs one Unlisten.
func (l *Log) Listen(x Listener) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.listeners = append(l.listeners, x)
}

// Unlisten takes x out again.
func (l *Log) Unlisten(x Listener) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, y := range l.listeners {
		if x == y {
			l.listeners = append(l.listeners[:i:i], l.listeners[i+1:]...)
			return
		}
	}
}

func (l *Log) notify() {
	for _, x := range l.listeners {
		x.Notify()
	}
}

// deliver takes what the backend announced.
func (l *Log) deliver(m *Message) {
	if l.broker.options.Arrivals {
		m.arrive()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state != live {
		l.hold(m)
		return
	}
	if l.accept(m) {
		l.notify()
	}
}

func (l *Log) hold(m *Message) {
	if len(l.pending) >= maxPending {
		l.spilled = true
		if !m.Durable() {
			l.broken = true
		}
		return
	}
	l.pending = append(l.pending, m)
}

// accept appends m if it fits the line, drops it if it is known, and begins a repair otherwise. It
// reports whether the ring changed.
func (l *Log) accept(m *Message) bool {
	switch {
	case !m.Durable():
		l.sawLive = true
		l.broker.stats.Live.Add(1)
		l.push(m)
		return true
	case m.Previous == l.last && l.last.Before(m.Position):
		l.follow(m)
		return true
	case l.known(m.Position):
		return false
	}
	l.repair()
	l.hold(m)
	return false
}

// known reports whether the message at p was delivered: it is in the ring, or older than the ring.
func (l *Log) known(p Position) bool {
	if p == l.last || p == l.base || p.Before(l.base) {
		return true
	}
	_, ok := l.ring.find(p)
	return ok
}

func (l *Log) follow(m *Message) {
	l.sawStored = true
	if l.broker.options.Arrivals {
		m.arrive()
	}
	l.broker.stats.Durable.Add(1)
	l.push(m)
	l.last = m.Position
}

func (l *Log) push(m *Message) {
	if l.flowing > 0 && l.broker.options.Arrivals && m.Gap == nil {
		l.trace(m)
	}
	for _, c := range l.compacts {
		c.push(l.ring.next, m)
	}
	l.ring.push(m)
	o := &l.broker.options
	for l.ring.len() > o.RingMessages || l.ring.bytes > o.RingBytes && l.ring.len() > 1 {
		l.shift()
	}
}

// shift drops the oldest message of the ring.
func (l *Log) shift() {
	o := &l.broker.options
	i := l.ring.first
	old := l.ring.shift()
	switch {
	case old.Durable():
		l.base = old.Position
		l.exhausted = false
	case old.Gap != nil:
		if !old.Gap.To.IsZero() {
			l.base = old.Gap.To
		}
	default:
		l.liveEnd = i + 1
	}
	for _, c := range l.compacts {
		c.shift(i, old, l.base, o.RingMessages, o.RingBytes)
	}
}

// tell puts a gap in the line, for all subscriptions alike.
func (l *Log) tell(g Gap) {
	l.broker.stats.gap(g.Reason)
	l.broker.log.Debug("gap in a channel", "channel", l.channel, "reason", g.Reason, "from", g.From.String(), "to", g.To.String())
	l.push(&Message{Channel: l.channel, Gap: &g})
}

// repair asks the broker to read the history after last.
func (l *Log) repair() {
	l.state = repairing
	l.broker.stats.Repairs.Add(1)
	l.broker.enqueue(l)
}

// batch returns what follows index from, up to end: at most maxBatchBytes of it, and without live
// messages if durable is set. Nearly all subscriptions ask for the same batch, so the last few are kept.
func (l *Log) batch(from, end uint64, durable bool) *Batch {
	for _, b := range l.memo {
		if b != nil && b.from == from && b.durable == durable && b.to <= end && (b.to == end || b.full) {
			return b
		}
	}
	var ms []*Message
	if !durable {
		ms = make([]*Message, 0, min(int(end-from), maxBatchMessages))
	}
	size, i := 0, from
	for ; i < end && len(ms) < maxBatchMessages && size < maxBatchBytes; i++ {
		m := l.ring.at(i)
		if durable && !m.Durable() && m.Gap == nil {
			continue
		}
		ms = append(ms, m)
		size += len(m.Data)
	}
	b := newBatch(ms)
	b.Live = !durable
	b.from, b.to, b.durable, b.full = from, i, durable, i < end
	l.memo[l.memoNext] = b
	l.memoNext = (l.memoNext + 1) % len(l.memo)
	return b
}
