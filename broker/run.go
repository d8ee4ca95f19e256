package broker

import (
	"cmp"
	"slices"
	"time"
)

// run is what the stages made of a stretch of a log: the batches for those who stand at its beginning.
type run struct {
	from, to uint64   // of the log's indices
	quiet    uint64   // before it all was dropped: who stands between from and quiet is owed the same
	durable  bool     // live messages are left out
	slow     bool     // made by the stages for slow subscriptions
	at       Position // where who has had it stands; zero: where it stood
	batches  []*Batch
	dropped  []dropped
	traced   bool // some of the messages may be traced
	lost     []lost
	rivals   []*Message // what the last stage that conflates has chosen from; only until cut
}

// dropped is how many messages went for a reason.
type dropped struct {
	reason string
	n      int
}

// stretch is the messages of a log between two indices, with their indices.
type stretch struct {
	indices  []uint64
	messages []*Message // gaps too
	bare     []*Message // without gaps: what the stages see; the same slice if there are none
	kept     []Position // where who has had it stands, for the first messages: those that are not in the ring
	evicted  int        // how many have left the ring and are not kept: they were superseded, or nobody wanted them
	base     Position   // and before the first that is; zero: as the last of kept
}

// stretch collects what is between from and to, and what c knows of the time before the ring. l.mu is held.
func (l *Log) stretch(from, to uint64, durable bool, c *compact) stretch {
	var s stretch
	gaps := false
	add := func(i uint64, m *Message) bool {
		if durable && !m.Durable() && m.Gap == nil {
			return false
		}
		gaps = gaps || m.Gap != nil
		s.indices = append(s.indices, i)
		s.messages = append(s.messages, m)
		return true
	}
	if out := min(l.ring.first, to); from < out {
		if c != nil {
			c.between(from, out, func(e *keptMessage) {
				if add(e.index, e.message) {
					s.kept = append(s.kept, e.at)
				}
			})
		}
		s.evicted = int(out-from) - len(s.kept)
		if out == l.ring.first {
			s.base = l.base
		}
		from = out
	}
	if n := int(to) - int(from); n > 0 && s.messages == nil {
		s.indices, s.messages = make([]uint64, 0, n), make([]*Message, 0, n)
	}
	for ; from < to; from++ {
		add(from, l.ring.at(from))
	}
	s.bare = s.messages
	if gaps {
		s.bare = nil
		for _, m := range s.messages {
			if m.Gap == nil {
				s.bare = append(s.bare, m)
			}
		}
	}
	return s
}

// sift asks the stages in a row, and notes in r what each dropped.
func (r *run) sift(stages []Stage, now time.Time, p Pending) (ready []*Message, again Again) {
	for _, stage := range stages {
		if len(p.Messages) == 0 {
			return nil, Again{}
		}
		ready, again := stage.Take(now, p)
		if !again.IsZero() {
			again.Messages = max(0, again.Messages-len(p.Messages)) // that many more
			return nil, again
		}
		if n := len(p.Messages) - len(ready); n > 0 {
			r.dropped = append(r.dropped, dropped{stage.Name(), n})
			if r.traced {
				r.lose(stage.Name(), p.Messages, ready)
			}
			if stage.Name() == DropConflated {
				r.rivals = p.Messages
			}
		}
		p.Messages = ready
	}
	return p.Messages, Again{}
}

// position is where who has had the messages up to the i-th stands, if at was before it. Superseded
// messages that are not in memory any more moved it too.
func (s *stretch) position(i int, at Position) Position {
	if i < len(s.kept) {
		return s.kept[i]
	}
	if i == len(s.kept) && !s.base.IsZero() {
		at = s.base
	}
	if after := s.messages[i].After(); !after.IsZero() {
		at = after
	}
	return at
}

// cut makes a run's batches of those messages of s that are ready, and its gaps. The position moves over
// the dropped ones too.
func (r *run) cut(s *stretch, ready []*Message, p *Policy) {
	var b *Batch
	rivals, conflated, seen := r.rivals, 0, r.quiet
	r.rivals = nil
	size, begin, skipped := 0, r.from, 0
	for i, m := range s.messages {
		r.at = s.position(i, r.at)
		conflated += r.evicted(seen, s.indices[i])
		seen = s.indices[i] + 1
		if m.Gap == nil {
			rival := len(rivals) > 0 && rivals[0] == m
			if rival {
				rivals = rivals[1:]
			}
			if len(ready) == 0 || ready[0] != m {
				skipped++
				if rival {
					conflated++
				}
				continue
			}
			ready = ready[1:]
		}
		if b != nil && (size >= maxBatchBytes || len(b.Messages) >= maxBatchMessages || p.Max > 0 && len(b.Messages) >= p.Max) {
			b = nil
		}
		if b == nil {
			b = &Batch{from: begin, durable: r.durable, Array: p.Array, Live: !r.durable && r.to != 0}
			size = 0
			r.batches = append(r.batches, b)
		}
		b.Messages = append(b.Messages, m)
		if m.Gap != nil {
			b.Gaps++
		}
		b.Skipped += skipped
		b.Conflated += conflated
		b.Last, b.to = r.at, s.indices[i]+1
		size += len(m.Data)
		begin, skipped, conflated = b.to, 0, 0
	}
	if len(s.messages) == len(s.kept) && !s.base.IsZero() {
		r.at = s.base
	}
	if b != nil { // what was dropped at the end counts as delivered with the last; it is told with the next
		b.Last, b.to, b.Skipped = r.at, r.to, b.Skipped+skipped
		b.Conflated += conflated + r.evicted(seen, r.to)
	}
	if r.durable || r.to == 0 {
		return
	}
	for _, b := range r.batches { // what is not in memory any more was superseded, and counts
		b.Skipped = int(b.to-b.from) - len(b.Messages)
	}
}

// evicted is how many messages between two indices of the log are in memory no more: they were superseded.
func (r *run) evicted(from, to uint64) int {
	if r.durable || to <= from || r.to == 0 { // live messages are missing, too; or it is no stretch of the log
		return 0
	}
	return int(to - from)
}

// siftAll asks the stages about messages that nothing may hold back any more.
func (r *run) siftAll(stages []Stage, now time.Time, ms []*Message) []*Message {
	ready, hold := r.sift(stages, now, Pending{Messages: ms})
	if !hold.IsZero() { // a stage that breaks its contract must not cost anybody a message
		return ms
	}
	return ready
}

// supersede notes the messages that the stages did not even see.
func (r *run) supersede(s *stretch) {
	if s.evicted > 0 {
		r.dropped = append(r.dropped, dropped{DropConflated, s.evicted})
	}
}

// count counts what was dropped, for so many subscriptions.
func (r *run) count(d *Drops, times int) {
	for _, x := range r.dropped {
		d.Add(x.reason, x.n*times)
	}
}

// find returns the batch for who stands at told, nil if there is none.
func (r *run) find(told uint64) *Batch {
	i, found := slices.BinarySearchFunc(r.batches, told, func(b *Batch, told uint64) int { return cmp.Compare(b.from, told) })
	if !found {
		return nil
	}
	return r.batches[i]
}
