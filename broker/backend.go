package broker

import (
	"context"
	"time"
)

// Backend is where messages are published, kept and announced: Redis in production, memory for
// tests, the demo and single nodes. backendtest.Run is its contract, and every backend must pass it.
//
// All methods may be called concurrently.
type Backend interface {
	// Publish stores m (unless o.Live) and announces it to all nodes that joined its channel, in the
	// order of the positions that it gives. m.Position and m.Previous are ignored and not written to.
	//
	// When it returns nil the backend has acknowledged the message; an error that wraps
	// ErrUnavailable means that nobody knows whether it did, and that it is safe to publish again
	// with the same o.ID. The backend keeps m.Data; the caller must not change it afterwards.
	Publish(ctx context.Context, m *Message, o PublishOptions) (Receipt, error)

	// Run connects and delivers to s until ctx ends, and returns nil then. It reconnects by itself;
	// it returns an error only for what no retry can mend. It is called once, before any Join.
	Run(ctx context.Context, s Sink) error

	// Join asks for the channels' messages; Sink.Joined answers when none can be missed any more.
	// Leave ends it; a message may still arrive after it. Both return at once and may be called with
	// channels that are joined or not joined already.
	Join(channels ...string)
	Leave(channels ...string)

	// Read answers one Page per Range, in order. An error concerns all of them; what is wrong with one channel alone is
	// its Page's Err, so that it costs the others nothing.
	// Reading a channel that never had a message gives it a genesis, a position before all others,
	// so that "nothing was missed" can be told from "all of it is gone".
	Read(ctx context.Context, ranges []Range) ([]Page, error)

	// Revoke stores r until r.Until and tells all nodes, those too that connect later. Of several with the same Kind
	// and Value the latest At and the latest Until hold. Nothing is announced or remembered beyond MaxRevocations:
	// then the error wraps ErrRevocationsFull. One that wraps ErrUnavailable means that nobody knows whether
	// it was stored; it is safe to repeat. The caller has checked r.
	Revoke(ctx context.Context, r Revocation) error

	// Ask puts a question of at most MaxQuestion bytes to all other nodes and returns the answer of the one that has it.
	// ErrNoAnswer: none has said within a second that it has, or it said so and nothing came before ctx ended; whether it has done
	// anything is not known then. An error that wraps ErrUnavailable: nobody was asked, or no answer could arrive. It needs Run.
	Ask(ctx context.Context, question []byte) ([]byte, error)

	// Probe publishes something to itself through the whole path and returns nil when it came back.
	Probe(ctx context.Context) error
}

// Sink receives what a backend delivers. Its methods must return soon: a backend calls them from
// the goroutine that reads its connection. Calls that concern one channel never run concurrently.
type Sink interface {
	// Deliver hands over one message of a joined channel: live ones as they come, durable ones with
	// Position and Previous. Durable messages may come twice or be missing; the broker sees it by Previous.
	Deliver(m *Message)
	// Joined says that everything published to these channels from now on will be delivered. It
	// comes after each Join, and again for all channels after a connection was lost and is back.
	Joined(channels []string)
	// Lost says that messages of these channels may be missed from now on, until Joined says otherwise.
	Lost(channels []string)
	// Revoked hands over revocations that are in force. The first call is the whole list, maybe an empty one; later
	// ones are what is new, and the whole list again after each loss of a connection, and whenever the
	// backend finds that it has changed. It may run concurrently with the other methods, not with itself.
	Revoked(list []Revocation)
	// Asked hands over what another node asks; its own questions never. Who has not what it is about says nothing. It
	// returns false for what can't be read, which the backend counts. It may run concurrently with the other methods.
	Asked(q Question) (readable bool)
	// Verify asks for a comparison of all joined channels with the history. A backend whose
	// announcements can get lost without an error calls it every few seconds.
	Verify()
}

// PublishOptions say how one message is stored.
type PublishOptions struct {
	// ID is the idempotency key: a publish whose ID was seen on this channel within the backend's
	// window (5 minutes) is not stored again and gets the first one's position. "" has none.
	ID string
	// Live announces without storing: no position, no resume.
	Live bool
	// Messages and Age limit the channel's history from this publish on. Messages is exact.
	// Age counts from the newest message; zero values mean DefaultHistory.
	Messages int
	Age      time.Duration
}

// Receipt is what a publisher gets for an acknowledged message.
type Receipt struct {
	Position  Position // zero for a live message
	Duplicate bool     // the ID was known; Position is the first publish's
}

// Range asks for a part of a channel's history.
//
//	{After: p, Limit: n}            the entry at p's stream ID if it is still there, then those after it: oldest n
//	{Newest: true, Limit: n}        the newest n entries
//	{Newest: true, Before: p, …}    the newest n entries with a stream ID before p's
//	{}                              (Limit 0) only the head
type Range struct {
	Channel string
	After   Position
	Before  Position
	Newest  bool
	Limit   int
}

// Page is the answer to a Range. Messages are always oldest first, each with Position and Previous;
// Head is the channel's last position (or genesis), read in one atomic step with the messages
// when After is set.
type Page struct {
	Messages []*Message
	Head     Position
	Err      error // what is stored of this channel can't be read: somebody else has written there; nil: all is well
}

// Limits of the history that hold where nothing else is configured.
const (
	DefaultHistoryMessages = 1000
	DefaultHistoryAge      = 5 * time.Minute
)
