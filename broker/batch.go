package broker

import "sync/atomic"

// Batch is a run of messages of one channel, in order. It is immutable and shared by all
// subscriptions that are owed the same run; so are its encodings.
type Batch struct {
	Messages []*Message
	Last     Position // where a subscription stands that has it; zero: where it stood
	Skipped  int      // messages that were dropped on purpose since the batch before
	Array    bool     // the policy asks for an array where the wire format has them
	Released int64    // when the policy let it go, a time of Now; 0: it was not held, or nobody is to know
	Live     bool     // it was published while its subscribers were there: not what they had missed, nor from the history

	// For the accounts of those who deliver.
	Conflated int // of Skipped: superseded by a newer message; the others were filtered out
	Gaps      int // of Messages
	Lapped    int // it is a gap that a policy tells instead of so many messages, since the subscription is slow

	from, to uint64 // log indices
	durable  bool   // live messages are left out
	full     bool   // it ended because it was large enough
	wires    [MaxFormats]atomic.Pointer[[]byte]
}

// A batch ends after this much, so that one write stays small and a slow reader's share too.
const (
	maxBatchBytes    = 16 << 10
	maxBatchMessages = 512
)

// skipping returns b as it is for a subscription from which n more were dropped before.
func (b *Batch) skipping(n int) *Batch {
	return &Batch{
		Messages: b.Messages, Last: b.Last, Array: b.Array, Live: b.Live, Released: b.Released,
		Skipped: b.Skipped + n, Conflated: b.Conflated, Gaps: b.Gaps,
		from: b.from, to: b.to, durable: b.durable,
	}
}

// Wire returns the encoding of b in the given format, made by encode at the first call and shared
// by all later ones. A batch of one message shares the message's own.
func (b *Batch) Wire(format int, encode func([]*Message) []byte) []byte {
	return memo(&b.wires[format], func() []byte { return encode(b.Messages) })
}

func newBatch(ms []*Message) *Batch {
	b := &Batch{Messages: ms}
	for _, m := range ms {
		if m.Gap != nil {
			b.Gaps++
		}
		if p := m.After(); !p.IsZero() {
			b.Last = p
		}
	}
	return b
}

// After is the position that a subscription stands at once it has m; zero if m does not move it: a
// live message, or a gap whose end is not known.
func (m *Message) After() Position {
	if m.Gap != nil {
		return m.Gap.To
	}
	return m.Position
}
