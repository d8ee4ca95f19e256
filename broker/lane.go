package broker

import (
	"slices"
	"time"
)

// Lane is one policy at work on one log: the place where the stages are asked, once for all
// subscriptions that follow it, however many. All of them are given the same runs of messages at the same
// times; one that was not there for a run (it was busy, or has just resumed) has what it missed
// put together for itself, and is in step again with the next.
//
// Nothing is queued in it: what is held back stays in the log, in front of the cursors.
type Lane struct {
	log    *Log
	policy *Policy

	// Guarded by log.mu.
	refs      int // Lane minus Release
	followers int
	flowing   int       // of them, those that have started
	run       *run      // the newest, or an empty one where the lane began
	scanned   uint64    // what is between run.to and this was dropped
	at        Position  // of the last durable message or gap before scanned; zero: there was none
	since     time.Time // when the first message after scanned was seen; zero: there is none
	last      time.Time // when the newest run was made
	again     Again     // what a stage that holds said; Messages is an index of the log here
	seldom    [4]*run   // made for those who are not in step; storms ask for the same
	place     int       // of the next in seldom
	pages     [2]sifted // the same for pages of history
}

// sifted is what the stages made of a batch that did not come from the ring.
type sifted struct {
	from *Batch
	to   []*Batch
}

// Lane returns the lane of a policy on l, shared with all who asked for a policy with the same ID.
// Each call needs one Release.
func (l *Log) Lane(p *Policy) *Lane {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, n := range l.lanes {
		if n.policy.ID == p.ID {
			n.refs++
			return n
		}
	}
	n := &Lane{log: l, policy: p, refs: 1, scanned: l.ring.next}
	n.run = &run{from: n.scanned, to: n.scanned, quiet: n.scanned}
	l.lanes = append(l.lanes, n)
	l.compacted(p.Key, true)
	l.compacted(p.Slow.Key, true)
	return n
}

// Release gives up one Lane call.
func (n *Lane) Release() {
	l := n.log
	l.mu.Lock()
	defer l.mu.Unlock()
	if n.refs--; n.refs == 0 {
		l.lanes = slices.DeleteFunc(l.lanes, func(x *Lane) bool { return x == n })
		l.uncompact(n.policy.Key)
		l.uncompact(n.policy.Slow.Key)
	}
}

// Policy returns the policy that n was made with.
func (n *Lane) Policy() *Policy { return n.policy }

// Poll asks the stages. It reports whether there is a new run for the subscriptions of the lane to
// take, and else when to ask again: zero is when the log's listeners are next notified. It may be
// called at any time, by several goroutines; that is cheap as long as nothing is due.
func (n *Lane) Poll(now time.Time) (ready bool, again time.Time) { return n.poll(now, false) }

// Flush lets go what is held back, before its time: the node is about to stop.
func (n *Lane) Flush(now time.Time) { n.poll(now, true) }

// Newest names the newest run of n: another number than before says that there has been one since. Where
// several poll a lane, each of them learns from it of the runs that the others' calls made.
func (n *Lane) Newest() uint64 {
	n.log.mu.Lock()
	defer n.log.mu.Unlock()
	return n.run.to
}

func (n *Lane) poll(now time.Time, open bool) (ready bool, again time.Time) {
	l := n.log
	l.mu.Lock()
	defer l.mu.Unlock()
	next := l.ring.next
	if n.scanned == next {
		return false, time.Time{}
	}
	open = open || n.full()
	if !open && now.Before(n.again.At) && (n.again.Messages == 0 || next < uint64(n.again.Messages)) {
		return false, n.again.At
	}
	if n.since.IsZero() {
		n.since = now
	}
	c := l.compacted(n.policy.Key, false)
	if n.scanned < l.ring.first && (c == nil || n.scanned < c.lost) {
		return n.overrun(now), time.Time{}
	}
	p := Pending{Since: n.since, Last: n.last}
	if open {
		p = Pending{} // rather early than never
	}
	s := l.stretch(n.scanned, next, false, c)
	r := &run{from: n.run.to, to: next, quiet: n.scanned, traced: len(l.traces) > 0}
	p.Messages = s.bare
	ms, hold := r.sift(n.policy.Stages, now, p)
	if !hold.IsZero() {
		n.hold(hold, int(next-n.scanned), len(r.dropped) == 0)
		return false, n.again.At
	}
	n.again, n.since = Again{}, time.Time{}
	r.supersede(&s)
	r.count(n.policy.Drops, n.followers)
	r.succeed(ms, n.policy.Key, s.bare)
	n.report(r)
	r.cut(&s, ms, n.policy)
	n.scanned = next
	if !r.at.IsZero() {
		n.at = r.at
	}
	if len(r.batches) == 0 {
		return false, time.Time{}
	}
	if l.broker.options.Tracer != nil {
		released := Now()
		for _, b := range r.batches {
			b.Released = released
		}
	}
	n.run, n.last = r, now
	return true, time.Time{}
}

// full reports whether what is held back begins to fall out of the ring, although nothing supersedes
// it: then it is let go before its time.
func (n *Lane) full() bool {
	l := n.log
	o := &l.broker.options
	spare := int(n.scanned) - int(l.ring.first) // what goes before it
	if l.ring.bytes < o.RingBytes*3/4 {
		spare += o.RingMessages - l.ring.len()
	}
	if spare > o.RingMessages/4 && spare > l.ring.len()/4 {
		return false
	}
	c := l.compacted(n.policy.Key, false)
	return c == nil || c.keyless > n.scanned
}

// overrun makes an empty run of what was held back and has fallen out of the ring: each
// subscription finds out for itself what its policy makes of that.
func (n *Lane) overrun(now time.Time) bool {
	next := n.log.ring.next
	n.run = &run{from: n.run.to, to: next, quiet: n.run.to}
	n.scanned, n.last, n.again, n.since = next, now, Again{}, time.Time{}
	return true
}

// hold remembers when to ask again. If that depends on the number of messages, and some were dropped, the stages are not asked
// with each that comes: one that drops most of what it sees would see all of it again and again.
func (n *Lane) hold(a Again, pending int, exact bool) {
	n.again = a
	if a.Messages <= 0 {
		return
	}
	more := a.Messages
	if !exact {
		more = max(more, pending/2)
	}
	n.again.Messages = int(n.scanned) + pending + more
}

// missed returns the first batch of what is between from and to, for a subscription that was not there when
// it went out: nothing of it is held back. told is where its count of skipped messages begins. The
// batch is nil if all was dropped.
func (n *Lane) missed(from, to, told uint64, durable, slow bool) (*run, *Batch) {
	for _, r := range n.seldom {
		if r == nil || r.to != to || r.durable != durable || r.slow != slow {
			continue
		}
		if b := r.find(told); r.quiet == from && r.from == told || told == from && b != nil {
			return r, b
		}
	}
	stages, key := n.policy.Stages, n.policy.Key
	if slow {
		stages, key = n.policy.Slow.Stages, n.policy.Slow.Key
	}
	s := n.log.stretch(from, to, durable, n.log.compacted(key, false))
	r := &run{from: told, to: to, quiet: from, durable: durable, slow: slow, traced: len(n.log.traces) > 0}
	ready := r.siftAll(stages, n.last, s.bare)
	r.succeed(ready, key, s.bare)
	r.supersede(&s)
	r.cut(&s, ready, n.policy)
	n.seldom[n.place] = r
	n.place = (n.place + 1) % len(n.seldom)
	return r, r.find(told)
}

// page makes batches of one that did not come from the ring: a page of history.
func (n *Lane) page(b *Batch) []*Batch {
	for _, p := range n.pages {
		if p.from == b {
			return p.to
		}
	}
	s := stretch{messages: b.Messages, indices: make([]uint64, len(b.Messages))}
	for _, m := range b.Messages {
		if m.Gap == nil {
			s.bare = append(s.bare, m)
		}
	}
	r := &run{}
	r.cut(&s, r.siftAll(n.policy.Stages, n.last, s.bare), n.policy)
	r.count(n.policy.Drops, 1)
	n.pages[1] = n.pages[0]
	n.pages[0] = sifted{b, r.batches}
	return r.batches
}
