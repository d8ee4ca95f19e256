package broker

import (
	"context"
	"time"
)

// sink is the broker's side towards its backend.
type sink struct{ b *Broker }

func (s sink) Deliver(m *Message) {
	if l := s.b.lookup(m.Channel); l != nil {
		l.deliver(m)
	}
}

// Joined is when the position may be read: what is published after it will be delivered.
func (s sink) Joined(channels []string) {
	s.each(channels, func(l *Log) {
		if l.ready {
			l.state = repairing
		}
		s.b.enqueue(l)
	})
}

func (s sink) Lost(channels []string) {
	s.each(channels, func(l *Log) {
		if l.ready {
			l.state = repairing
			l.broken = l.broken || l.sawLive || !l.sawStored
		}
	})
}

// each begins a new epoch in the channels' logs: a read that is under way will not count.
func (s sink) each(channels []string, change func(*Log)) {
	for _, c := range channels {
		if l := s.b.lookup(c); l != nil {
			l.mu.Lock()
			l.epoch++
			l.unreadable = false // Joined has it read, and nothing may before
			change(l)
			l.mu.Unlock()
		}
	}
}

func (s sink) Verify() {
	logs := s.b.Logs()
	s.b.work.Lock()
	s.b.work.verify = logs
	s.b.work.Unlock()
	s.b.wake()
}

// Reads are made for many logs at once, so that a node with 100,000 channels is back in a second.
const (
	readBatch = 200
	readLimit = 500
)

// runWork makes the joins, leaves and reads that are asked for, in order, until ctx ends.
func (b *Broker) runWork(ctx context.Context) {
	pause := 20 * time.Millisecond
	for {
		b.work.Lock()
		joins := b.work.joins
		b.work.joins = nil
		reads := b.work.reads
		if len(reads) > readBatch {
			reads = reads[:readBatch:readBatch]
		}
		b.work.reads = b.work.reads[len(reads):]
		verify := b.work.verify
		if len(verify) > readBatch {
			verify = verify[:readBatch]
		}
		b.work.verify = b.work.verify[len(verify):]
		b.work.Unlock()

		b.makeJoins(joins)
		var err error
		if len(reads) > 0 {
			err = b.makeReads(ctx, reads)
		} else if len(verify) > 0 {
			b.makeVerify(ctx, verify)
		}
		switch {
		case err != nil:
			if !pauseFor(ctx, pause) {
				return
			}
			pause = min(2*pause, time.Second)
		case len(joins)+len(reads)+len(verify) == 0:
			select {
			case <-b.work.wake:
			case <-ctx.Done():
				return
			}
		default:
			pause = 20 * time.Millisecond
		}
		if ctx.Err() != nil {
			return
		}
	}
}

// makeJoins hands joins and leaves over in order, as few calls as that allows.
func (b *Broker) makeJoins(ms []membership) {
	for len(ms) > 0 {
		n := 1
		for n < len(ms) && ms[n].join == ms[0].join {
			n++
		}
		names := make([]string, n)
		for i := range names {
			names[i] = ms[i].channel
		}
		if ms[0].join {
			b.backend.Join(names...)
		} else {
			b.backend.Leave(names...)
		}
		ms = ms[n:]
	}
}

// makeReads brings logs up to date. An error leaves them queued; what is wrong with one of them alone leaves that to
// makeVerify.
func (b *Broker) makeReads(ctx context.Context, logs []*Log) error {
	ranges := make([]Range, len(logs))
	epochs := make([]uint32, len(logs))
	for i, l := range logs {
		l.mu.Lock()
		l.queued = false
		epochs[i] = l.epoch
		ranges[i] = l.wanted()
		l.mu.Unlock()
	}
	b.stats.Reads.Add(int64(len(ranges)))
	pages, err := b.backend.Read(ctx, ranges)
	for i, l := range logs {
		wanted := err == nil || b.lookup(l.channel) == l // the broker's lock is above the log's
		l.mu.Lock()
		switch {
		case !wanted:
		case err != nil:
			b.enqueue(l)
		case pages[i].Err != nil:
			if epochs[i] == l.epoch {
				l.unreadable = true
			}
			b.log.Warn("a channel's history can't be read", "channel", l.channel, "err", pages[i].Err)
		case epochs[i] != l.epoch:
			b.enqueue(l)
		default:
			l.mend(ranges[i], pages[i])
		}
		l.mu.Unlock()
	}
	if err != nil && ctx.Err() == nil {
		b.log.Warn("reading history failed; trying again", "channels", len(logs), "err", err)
	}
	return err
}

// wanted is what the log has to read to become live.
func (l *Log) wanted() Range {
	switch {
	case !l.ready:
		return Range{Channel: l.channel}
	case l.forked:
		return Range{Channel: l.channel, Newest: true, Limit: l.broker.options.RingMessages}
	}
	return Range{Channel: l.channel, After: l.last, Limit: readLimit}
}

// mend applies what was read, then what waited, and makes the log live if nothing is missing.
func (l *Log) mend(r Range, p Page) {
	defer l.notify()
	if l.broken && l.ready {
		l.tell(Gap{From: l.last, Reason: Interrupted})
	}
	l.broken = false
	switch {
	case !l.ready:
		l.last, l.base, l.ready = p.Head, p.Head, true
	case l.forked:
		l.mendFork(p)
	case !l.mendLine(r, p):
		return
	}
	l.state = live
	l.suspect = Position{}
	l.resume()
}

// mendLine follows the line after last. It reports false if there is more to read first.
func (l *Log) mendLine(r Range, p Page) bool {
	ms, gap := link(r.After, p)
	if r.After != l.last {
		l.broker.enqueue(l)
		return false
	}
	if gap != nil && gap.Reason == Fork {
		l.forked = true
		l.broker.enqueue(l)
		return false
	}
	if gap != nil {
		l.tell(*gap)
		l.last = gap.To
		if len(ms) == 0 {
			l.base = l.baseAfter(gap.To)
		}
	}
	for _, m := range ms {
		if m.Previous != l.last { // the middle was deleted by hand
			l.tell(Gap{From: l.last, To: m.Previous, Reason: Truncated})
		}
		l.follow(m)
	}
	if len(p.Messages) >= r.Limit {
		l.broker.enqueue(l)
		return false
	}
	if l.last != p.Head && l.last.Before(p.Head) {
		l.tell(Gap{From: l.last, To: p.Head, Reason: Truncated})
		l.last = p.Head
	}
	return true
}

// baseAfter keeps base meaning "just before the ring's first durable message".
func (l *Log) baseAfter(p Position) Position {
	if l.firstDurable().IsZero() {
		return p
	}
	return l.base
}

// mendFork moves over to another line of history: after a fail-over or a restored backup the
// backend no longer has what we followed. What it has and we have not seen is delivered after one gap.
func (l *Log) mendFork(p Page) {
	l.forked = false
	unseen := p.Messages
	common := false
	for i := len(unseen); i > 0; i-- {
		pos := unseen[i-1].Position
		if _, ok := l.ring.find(pos); ok || pos == l.base {
			unseen, common = unseen[i:], true
			break
		}
	}
	to := p.Head
	if n := len(p.Messages); n > 0 {
		to = p.Messages[n-1].Position
	}
	if !common {
		unseen = nil // how much of it the subscribers have seen can't be known
	}
	if len(unseen) > 0 {
		l.tell(Gap{From: l.last, To: unseen[0].Previous, Reason: Fork})
		for _, m := range unseen {
			l.follow(m)
		}
	} else if !common {
		l.tell(Gap{From: l.last, To: to, Reason: Fork})
		l.base = l.baseAfter(to)
	}
	l.last = to
	l.exhausted = false
}

// resume applies what waited for the repair. If that needs another repair, the rest goes on waiting.
func (l *Log) resume() {
	held := l.pending
	l.pending = nil
	for i, m := range held {
		l.accept(m)
		if l.state != live {
			l.pending = append(l.pending, held[i+1:]...)
			return
		}
	}
	if l.spilled {
		l.spilled = false
		l.repair()
	}
}

// makeVerify compares logs with the heads of their histories. A message may be on its way, so only
// a log that was behind twice without moving is read again.
func (b *Broker) makeVerify(ctx context.Context, logs []*Log) {
	ranges := make([]Range, len(logs))
	for i, l := range logs {
		ranges[i] = Range{Channel: l.channel}
	}
	pages, err := b.backend.Read(ctx, ranges)
	if err != nil {
		b.log.Debug("verify failed", "err", err)
		return
	}
	for i, l := range logs {
		l.mu.Lock()
		switch {
		case l.unreadable && pages[i].Err == nil:
			l.unreadable = false
			b.enqueue(l)
		case l.state != live || pages[i].Err != nil || pages[i].Head == l.last:
			l.suspect = Position{}
		case l.suspect != l.last:
			l.suspect = l.last
		default:
			l.repair()
		}
		l.mu.Unlock()
	}
}
