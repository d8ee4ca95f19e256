package broker

import "slices"

// Subscription is a cursor into a log: what one client has been given of one channel. Its owner
// alone may use it, from one goroutine at a time. The zero value is ready for Log.Subscribe.
type Subscription struct {
	log      *Log
	since    Position // where the client left off; zero: it starts now
	position Position // after what Take handed out last
	next     uint64   // index of the next message in the ring
	liveFrom uint64   // live messages before it were sent before the client came: not its own
	phase    phase
	stale    uint8 // empty pages in a row
	tooSlow  bool  // its policy wants it ended
	resuming resumeResult
	caughtUp bool  // under its lane it once had everything: from then on who is behind is slow
	gap      *Gap  // to hand out before anything else
	page     *page // being read, or to hand out next
	lane     *Lane // the policy it is under; nil: everything as it comes
	told     uint64
	carry    int // messages of the history that were dropped and not told of yet
}

type phase uint8

const (
	waiting  phase = iota // for the log to be ready, or to reach far enough back for since
	flowing               // next is a place in the ring
	ahead                 // the client has seen more than this node; next counts, since is skipped to
	fetching              // behind the ring: a page of history is on its way
)

// Subscribe starts s after since, or now if since is zero. Taking the place in the log is one step
// with learning the position: nothing is missed or repeated in between. The log must be open for as
// long as s is used.
func (l *Log) Subscribe(s *Subscription, since Position) {
	*s = Subscription{log: l, since: since, position: since}
	if !since.IsZero() {
		l.broker.stats.Resumes.Add(1)
		s.resuming = resumeMemory
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s.start()
}

// Channel returns the name of the channel.
func (s *Subscription) Channel() string { return s.log.channel }

// Log returns the log that s reads.
func (s *Subscription) Log() *Log { return s.log }

// Position returns the position after what was taken last: what the client resumes from. Until the
// subscription has started it is the one that it came with.
func (s *Subscription) Position() Position { return s.position }

// Resumed reports whether s came with a position.
func (s *Subscription) Resumed() bool { return !s.since.IsZero() }

// Close says that s takes nothing any more; all that may be called then is Follow. If it ends because something went wrong, why
// says what, and over which transport it went; else why is "".
func (s *Subscription) Close(over, why string) {
	l := s.log
	l.mu.Lock()
	defer l.mu.Unlock()
	if s.phase == waiting {
		return
	}
	s.abandon(over, why)
	l.flowing--
	if s.lane != nil {
		s.lane.flowing--
	}
	s.phase = waiting
}

// Started reports whether s has its place: from now on nothing that is published is missed.
func (s *Subscription) Started() bool {
	if s.phase != waiting {
		return true
	}
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	s.start()
	return s.phase != waiting
}

// start finds the place of a waiting subscription if the log can tell it by now. l.mu is held.
func (s *Subscription) start() {
	if s.phase != waiting || !s.log.ready {
		return
	}
	s.place()
	if s.phase != waiting {
		s.log.flowing++
		if s.lane != nil {
			s.lane.flowing++
		}
	}
}

func (s *Subscription) place() {
	l := s.log
	s.liveFrom = l.ring.next
	switch {
	case s.since.IsZero():
		s.position = l.last
		s.flow(l.ring.next)
		return
	case s.since == l.last:
		s.position = s.since
		s.flow(l.ring.next)
		return
	case l.last.Before(s.since), l.last.SameID(s.since) && l.last != s.since:
		s.position, s.next, s.phase = s.since, l.ring.next, ahead
		s.resumed(resumeMemory)
		return
	}
	s.position = s.since
	if s.locate() {
		return
	}
	if s.resuming == resumeMemory {
		s.resuming = resumeHistory // whatever comes now, memory alone did not do
	}
	if !l.exhausted && l.room() > 0 {
		l.backfill() // all who are behind wait for this one read
		return
	}
	if l.exhausted && s.since.Before(l.base) {
		s.lose(Gap{From: s.since, To: l.base, Reason: Truncated})
		s.flow(l.ring.first)
		return
	}
	s.fetch()
}

// locate places s by its position in the ring or just before it.
func (s *Subscription) locate() bool {
	l := s.log
	if i, ok := l.ring.find(s.position); ok {
		s.flow(i + 1)
		return true
	}
	if s.position == l.base {
		if max(s.next, s.liveFrom) < l.liveEnd { // live messages fell out while the history was read
			s.lose(Gap{From: s.position, Reason: Lapped})
		}
		s.flow(l.ring.first)
		return true
	}
	return false
}

// flow goes on in the ring. What was dropped before and not told of looks as if it had been just before next.
func (s *Subscription) flow(next uint64) {
	s.next, s.told, s.phase = next, next-uint64(s.carry), flowing
	s.carry = 0
	s.resumed(resumeMemory)
}

func (s *Subscription) lose(g Gap) {
	s.log.broker.stats.gap(g.Reason)
	s.gap = &g
	s.resumed(resumeGap)
}

// Take returns the next run of messages that s is owed and moves the cursor behind it, or nil if
// there is nothing now; the log's listeners are notified when there may be more.
func (s *Subscription) Take() *Batch {
	l := s.log
	l.mu.Lock()
	defer l.mu.Unlock()
	s.start()
	b := s.take()
	if b == nil || len(b.Messages) == 0 {
		return nil
	}
	if !b.Last.IsZero() {
		s.position = b.Last
	}
	if s.phase == fetching && s.page == nil {
		s.advance()
	}
	return b
}

func (s *Subscription) take() *Batch {
	l := s.log
	if s.phase == ahead {
		if b := s.takeAhead(); len(b.Messages) > 0 {
			return b
		}
	}
	if s.lane != nil {
		if b := s.takeLane(); b != nil {
			return b
		}
	} else if s.phase == flowing && s.gap == nil && s.next < l.ring.first {
		s.lapped()
	}
	for s.page != nil && s.page.batch != nil && (s.page.gap != nil || len(s.page.batch.Messages) == 0) {
		s.turn()
	}
	switch {
	case s.gap != nil:
		b := newBatch([]*Message{{Channel: l.channel, Gap: s.gap}})
		b.Lapped, s.gap = s.gap.lapped, nil
		return b
	case s.phase == flowing && s.lane != nil:
		return nil
	case s.phase == flowing:
		return s.takeRing()
	case s.page == nil || s.page.batch == nil:
		return nil // on its way
	}
	return s.takePage()
}

// takePage returns the page that has come. Under a policy it may make several batches, the later ones of
// which become pages of their own, or none.
func (s *Subscription) takePage() *Batch {
	b := s.page.upTo(s.log.base)
	s.resumed(resumeHistory)
	if s.lane == nil || s.page.sifted {
		s.page, s.stale = s.page.rest, 0
		return b
	}
	s.page, s.stale = nil, 0
	for _, made := range slices.Backward(s.lane.page(b)) {
		s.page = &page{batch: made, sifted: true, rest: s.page}
	}
	if s.page != nil {
		if s.carry > 0 {
			s.page.batch = s.page.batch.skipping(s.carry)
			s.carry = 0
		}
		return s.takePage()
	}
	s.carry += len(b.Messages)
	if !b.Last.IsZero() {
		s.position = b.Last
	}
	s.advance()
	return s.take()
}

func (s *Subscription) takeRing() *Batch {
	l := s.log
	for s.next < s.liveFrom && s.next < l.ring.next {
		b := l.batch(s.next, min(s.liveFrom, l.ring.next), true)
		s.next = b.to
		if len(b.Messages) > 0 {
			return b
		}
	}
	if s.next == l.ring.next {
		return nil
	}
	b := l.batch(s.next, l.ring.next, false)
	s.next = b.to
	return b
}

// takeAhead skips what the client has seen on another node, until its position comes by. If that did
// not come by, the history tells whether it fell out of the ring or is on another line.
func (s *Subscription) takeAhead() *Batch {
	l := s.log
	if s.next < l.ring.first {
		s.next = l.ring.first
	}
	var ms []*Message
	for ; s.next < l.ring.next && s.phase == ahead; s.next++ {
		m := l.ring.at(s.next)
		if d := m.Delivery(); d != nil && m.Durable() && (m.Position == s.since || m.Position.Before(s.since)) {
			d.Left() // the client has it from another node
		}
		switch {
		case !m.Durable():
			ms = append(ms, m)
		case m.Position == s.since:
			s.phase = flowing
		case m.Previous == s.since:
			s.phase = flowing
			s.next-- // it is the next to take
		case !m.Position.Before(s.since):
			s.fetch()
		}
	}
	s.told = s.next
	if s.lane != nil {
		ms = new(run).siftAll(s.lane.policy.Stages, s.lane.last, ms)
	}
	b := newBatch(ms)
	b.Live = true
	return b
}

// lapped is for a reader so slow that the ring has moved past it: what is durable is read again
// from the history, live messages are gone and that is told.
func (s *Subscription) lapped() {
	l := s.log
	if max(s.next, s.liveFrom) < l.liveEnd {
		s.lose(Gap{From: s.position, Reason: Lapped})
	}
	if s.position == l.base || s.position.IsZero() || l.base.Before(s.position) {
		s.leave()
		s.flow(l.ring.first)
		return
	}
	s.next = max(s.next, l.liveEnd) // that has been told
	s.fetch()
}
