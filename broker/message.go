package broker

import (
	"sync/atomic"
	"time"
	"unicode/utf8"

	"sluice/otel"
)

// Message is one message of one channel. It is immutable once it has been given to a backend or a
// log: all subscriptions of a node share it, so nobody may write to its fields or its Data.
//
// A durable message has a Position and names its predecessor. A live message (plain PUBLISH, or
// published with Live) has neither: it is in no history and can't be resumed.
type Message struct {
	Channel  string
	Position Position  // zero: live
	Previous Position  // the durable message before it in the channel; the channel's genesis for the first
	Event    string    // SSE event name; "" is "message"
	Key      string    // conflation key; "" has none
	Trace    string    // W3C traceparent of the publish span, or of who published without Sluice; "" has none
	Time     time.Time // when it was published, by the publishing node's or Redis' clock; zero: unknown
	Data     []byte
	Gap      *Gap // not nil: no message at all but the notice of a gap

	text    atomic.Int32  // 0 unknown, 1 valid UTF-8, 2 not
	arrived atomic.Uint32 // microseconds of Now, which go round in 71 minutes; 0: not noted
	trace   atomic.Pointer[otel.Delivery]
	wires   [MaxFormats]atomic.Pointer[[]byte]
}

// MaxFormats is how many wire formats a message or a batch can remember its encoding in.
const MaxFormats = 4

// Durable reports whether m has a place in its channel's history.
func (m *Message) Durable() bool { return !m.Position.IsZero() }

// Now returns nanoseconds by a clock that nobody sets, from the start of the process on.
func Now() int64 { return otel.Now() }

// Waited returns how long before now, a time of Now, a log of this process was first handed m: nanoseconds, of which it
// tells whole microseconds, and at most 71 minutes. It returns false if that was not noted: see Options.Arrivals.
func (m *Message) Waited(now int64) (nanoseconds int64, ok bool) {
	at := m.arrived.Load()
	return int64(uint32(now/1000)-at) * 1000, at != 0
}

// arrive notes that m has come, once.
func (m *Message) arrive() {
	if m.arrived.Load() != 0 {
		return
	}
	at := uint32(Now() / 1000)
	if at == 0 {
		at-- // a microsecond earlier
	}
	m.arrived.CompareAndSwap(0, at)
}

// Text reports whether Data is valid UTF-8. The answer is computed once and shared.
func (m *Message) Text() bool {
	switch m.text.Load() {
	case 1:
		return true
	case 2:
		return false
	}
	ok := utf8.Valid(m.Data)
	if ok {
		m.text.Store(1)
	} else {
		m.text.Store(2)
	}
	return ok
}

// Wire returns the encoding of m in the given format (0 ≤ format < MaxFormats), made by encode at
// the first call and shared by all later ones. Concurrent first calls may encode twice; one wins.
func (m *Message) Wire(format int, encode func(*Message) []byte) []byte {
	return memo(&m.wires[format], func() []byte { return encode(m) })
}

func memo(slot *atomic.Pointer[[]byte], make func() []byte) []byte {
	if b := slot.Load(); b != nil {
		return *b
	}
	b := make()
	if !slot.CompareAndSwap(nil, &b) {
		return *slot.Load()
	}
	return b
}

// size is what m costs a log, in bytes: the payload, an encoding of it, and a flat rate for the rest.
func (m *Message) size() int { return 2*len(m.Data) + len(m.Event) + len(m.Key) + 256 }

// Reason says why there is a gap.
type Reason string

const (
	// Truncated: the history no longer reaches back that far (length, age, restart without persistence).
	Truncated Reason = "truncated"
	// Fork: the position belongs to another line of history (fail-over, split brain, restored backup).
	Fork Reason = "fork"
	// Interrupted: the link to Redis was down; live messages may have been lost, durable ones were not.
	Interrupted Reason = "interrupted"
	// Lapped: the session read so slowly that the log had moved on and no history could fill the hole.
	Lapped Reason = "lapped"
	// BadToken: the resume token could not be read or is for other channels.
	BadToken Reason = "bad_token"
	// NoHistory: the session was granted no history, only what is published from now on.
	NoHistory Reason = "no_history"
)

// Gap tells a subscription that messages may be missing between From and To.
type Gap struct {
	From   Position // the last position before the gap; zero if unknown
	To     Position // the first position after it that is known; zero if unknown
	Reason Reason

	lapped int // how many messages it stands for, where a policy has it told instead
}
