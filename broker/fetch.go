package broker

import (
	"context"
	"time"
)

// What is behind the ring is read by a few goroutines, a page or a backfill at a time. Subscriptions
// that want the same page share it, so a storm of resumes costs a few reads and not one each.

// page is a run of history right after a position. All its fields but after are set when it has been read.
type page struct {
	after Position
	batch *Batch // nil until then
	gap   *Gap   // stands before the batch
	ends  bool   // the history had no more

	short *Batch // what upTo made last

	// Of a page that is a subscription's own: what its lane has made of a shared one.
	sifted bool
	rest   *page // what the lane made of it besides
}

// fetch is one order for the fetchers: the page, or if that is nil the backfill of log.
type fetch struct {
	log  *Log
	page *page
	room int
}

const (
	fetchers  = 4
	pageLimit = 256
)

// fetch asks for the page after s.position, or shares one that is on its way. l.mu is held.
func (s *Subscription) fetch() {
	l := s.log
	s.phase = fetching
	if p := l.page; p == nil || p.after != s.position || p.batch != nil && p.ends {
		l.page = &page{after: s.position}
		l.broker.fetch(fetch{log: l, page: l.page})
	}
	s.page = l.page
}

// maxStale is how often in a row the history may have nothing after a position that the node is past.
const maxStale = 20

// turn takes the gap off a page that has come, and gives up one that is empty. l.mu is held.
func (s *Subscription) turn() {
	p := s.page
	if p.gap != nil {
		s.lose(*p.gap)
		s.position = p.gap.To
		s.page = &page{batch: p.batch}
	}
	if len(p.batch.Messages) > 0 {
		return
	}
	s.page = nil
	if s.stale++; s.stale > maxStale { // the history ends here, and it is not the line that the node follows
		s.lose(Gap{From: s.position, To: s.log.base, Reason: Fork})
		s.flow(s.log.ring.first)
	}
	s.advance()
}

// advance goes on after a page: into the ring if that is reached, else to the next page. l.mu is held.
func (s *Subscription) advance() {
	l := s.log
	switch {
	case s.phase != fetching, s.page != nil, s.locate():
	case l.last.Before(s.position):
		s.since, s.next, s.phase = s.position, l.ring.first, ahead
	default:
		s.fetch()
	}
}

// room is how many more messages can be put in front of the ring.
func (l *Log) room() int {
	o := &l.broker.options
	if l.ring.shifted || l.ring.bytes >= o.RingBytes {
		return 0
	}
	return o.RingMessages - l.ring.len()
}

// backfill reads what comes before the ring, so that it serves resumes from memory. l.mu is held.
func (l *Log) backfill() {
	if l.filling {
		return
	}
	l.filling = true
	l.broker.fetch(fetch{log: l, room: l.room()})
}

// upTo returns the page as far as base, if that is in it: from there on the ring has the live messages
// in between as well. l.mu is held.
func (p *page) upTo(base Position) *Batch {
	ms := p.batch.Messages
	if !base.Before(ms[len(ms)-1].Position) {
		return p.batch
	}
	if p.short != nil && p.short.Last == base {
		return p.short
	}
	for i, m := range ms {
		if m.Position == base {
			p.short = newBatch(ms[:i+1])
			return p.short
		}
	}
	return p.batch
}

func (b *Broker) fetch(f fetch) {
	b.fetches.Lock()
	b.fetches.orders = append(b.fetches.orders, f)
	b.fetches.Unlock()
	select {
	case b.fetches.wake <- struct{}{}:
	default: // all fetchers are about to look
	}
}

func (b *Broker) runFetches(ctx context.Context) {
	for {
		f, ok := b.nextFetch()
		switch {
		case ok && f.page != nil:
			b.fetchPage(ctx, f)
		case ok:
			b.fetchBackfill(ctx, f)
		default:
			select {
			case <-b.fetches.wake:
			case <-ctx.Done():
				return
			}
		}
		if ctx.Err() != nil {
			return
		}
	}
}

func (b *Broker) nextFetch() (f fetch, ok bool) {
	b.fetches.Lock()
	defer b.fetches.Unlock()
	if len(b.fetches.orders) == 0 {
		return fetch{}, false
	}
	f = b.fetches.orders[0]
	b.fetches.orders = b.fetches.orders[1:]
	return f, true
}

// readRange reads one range, again and again until it succeeds or ctx ends: sessions wait for it and have their own deadline.
func (b *Broker) readRange(ctx context.Context, r Range) (Page, bool) {
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		b.stats.Reads.Add(1)
		pages, err := b.backend.Read(ctx, []Range{r})
		if err == nil {
			return pages[0], true
		}
		b.log.Debug("read of history failed", "channel", r.Channel, "err", err)
		if !pauseFor(ctx, pause) || b.lookup(r.Channel) == nil {
			return Page{}, false
		}
	}
}

func pauseFor(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (b *Broker) fetchPage(ctx context.Context, f fetch) {
	l, p := f.log, f.page
	got, ok := b.readRange(ctx, Range{Channel: l.channel, After: p.after, Limit: pageLimit})
	if !ok || b.later(f, got) {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	p.ends = len(got.Messages) < pageLimit
	ms, gap := link(p.after, got)
	p.gap = gap
	p.batch = newBatch(ms)
	l.notify()
}

// later orders f again after a while if its channel alone could not be read: no fetcher waits for that. It reports
// whether that was so.
func (b *Broker) later(f fetch, got Page) bool {
	if got.Err == nil {
		return false
	}
	time.AfterFunc(time.Second, func() {
		if b.lookup(f.log.channel) == f.log {
			b.fetch(f)
		}
	})
	return true
}

// link cuts the entry at after itself off a page and tells whether the rest follows on it.
func link(after Position, got Page) ([]*Message, *Gap) {
	ms := got.Messages
	if len(ms) == 0 {
		switch {
		case got.Head == after:
			return nil, nil
		case after.Before(got.Head):
			return nil, &Gap{From: after, To: got.Head, Reason: Truncated}
		}
		return nil, &Gap{From: after, To: got.Head, Reason: Fork}
	}
	first := ms[0]
	switch {
	case first.Position == after:
		return ms[1:], nil
	case first.Position.SameID(after):
		return ms, &Gap{From: after, To: first.Previous, Reason: Fork}
	case first.Previous == after:
		return ms, nil
	case after.Before(first.Previous):
		return ms, &Gap{From: after, To: first.Previous, Reason: Truncated}
	}
	return ms, &Gap{From: after, To: first.Previous, Reason: Fork}
}

func (b *Broker) fetchBackfill(ctx context.Context, f fetch) {
	l := f.log
	l.mu.Lock()
	before := l.firstDurable()
	base := l.base
	l.mu.Unlock()
	got, ok := b.readRange(ctx, Range{Channel: l.channel, Newest: true, Before: before, Limit: f.room})
	if b.later(f, got) {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.filling = false
	if !ok {
		return
	}
	l.prepend(got.Messages, base, f.room)
	l.notify()
}

// firstDurable is the position of the ring's first durable message; zero if it has none.
func (l *Log) firstDurable() Position {
	for i := l.ring.first; i < l.ring.next; i++ {
		if m := l.ring.at(i); m.Durable() {
			return m.Position
		}
	}
	return Position{}
}

// prepend puts history in front of the ring: as much of it as leads to base without a break and
// fits. Afterwards either the ring is full or it is known that the history reaches no further.
func (l *Log) prepend(ms []*Message, base Position, asked int) {
	if l.base != base {
		return // the ring moved on meanwhile; those who wait try again
	}
	whole := len(ms) < asked // the history has no more than this
	for len(ms) > 0 && ms[len(ms)-1].Position != base && base.Before(ms[len(ms)-1].Position) {
		ms = ms[:len(ms)-1] // the ring was empty and more has been published since
	}
	n := len(ms)
	for ; n > 0 && l.room() > 0; n-- {
		m := ms[n-1]
		if m.Position != l.base {
			l.exhausted = true // what is there does not lead to the ring
			return
		}
		l.ring.unshift(m)
		for _, c := range l.compacts {
			c.unshift(l.ring.first, m)
		}
		l.base = m.Previous
	}
	if n == 0 && whole {
		l.exhausted = true // else the ring is full before the history is
	}
}
