package broker

import (
	"iter"
	"maps"
	"slices"
	"sync/atomic"
	"time"
)

// Stage is one step of the delivery middleware: a pure decision on what becomes of the messages that
// wait for a cursor. It keeps nothing between calls: what it returns depends on its arguments and on
// how it was made, so that a thousand subscriptions of one policy share one call, and that
// stages are tested as tables. Stages may be used by several goroutines at once.
//
// The stages of a policy stand in a row: what one lets through is what the next one sees. They are in
// package middleware; docs/stages.md shows how to write one.
type Stage interface {
	// Name is the reason under which the messages that it drops are counted, such as "filter".
	Name() string

	// Take returns those of the pending messages that go out now, in the order in which they
	// stand; those that it leaves out are dropped and count as delivered. Or it holds them all
	// back: then ready is empty and again says when to ask again, with the same messages and those
	// that have come since. It must not write to p.Messages; it may return it, or a part of it.
	//
	// Dropping everything (ready empty, again zero) is a decision about each single message: it will
	// not be asked about them again.
	Take(now time.Time, p Pending) (ready []*Message, again Again)
}

// Pending is what waits for a cursor.
type Pending struct {
	Messages []*Message // in order, at least one; gaps are not among them
	Since    time.Time  // since when the first of them has waited; zero: for so long that nothing may hold it any more
	Last     time.Time  // when something was last delivered; zero: longer ago than any interval
}

// Again says when a stage that holds messages back wants to be asked again. The zero value is for
// stages that hold nothing back.
type Again struct {
	At       time.Time // at this time
	Messages int       // or before it, once so many wait; 0: their number does not matter
}

// IsZero reports whether nothing is held back.
func (a Again) IsZero() bool { return a.At.IsZero() }

// Policy is how the messages of a channel are delivered to one kind of subscriber. The zero value
// delivers everything as it comes. It is immutable; see Log.Lane.
type Policy struct {
	ID     string  // policies of one channel with the same ID are the same
	Stages []Stage // in order; none: everything as it comes

	// Key is what the stages conflate by; nil: they do not. With it a subscription finds the newest
	// message of each key as far as ever it is behind.
	Key *Key

	Array bool // its batches go out as arrays where the wire format has them
	Max   int  // messages in a batch; 0: as many as fit

	Slow  Slow
	Drops *Drops // where what is dropped is counted; nil: nowhere
}

// Slow says what becomes of a subscription that cannot keep up. One that comes back from being away
// is not slow until it has caught up once.
type Slow struct {
	Ring   int     // it is slow once it is so many messages further behind than it should be; 0: never
	Then   Then    // what happens then
	Stages []Stage // of ThenConflate: what stands in for the policy's stages as long as it is slow
	Key    *Key    // of ThenConflate: what those conflate by
}

// Key says which messages supersede each other. Its functions may be called concurrently.
type Key struct {
	ID string // keys with the same ID are the same

	// Of returns what a message is conflated by, and false for one that nothing supersedes.
	Of func(*Message) (key string, ok bool)

	// Wants reports whether the policy's filter lets a message through: one that it drops supersedes
	// nothing. nil: all.
	Wants func(*Message) bool
}

// Then is what happens to a slow subscription.
type Then uint8

// What can happen to a slow subscription.
const (
	ThenHistory    Then = iota // it gets everything; what has left the node's memory is read again from the history
	ThenConflate               // it gets the newest of each key until it has caught up
	ThenGap                    // it is told a gap and goes on with what is new
	ThenDisconnect             // its session ends; it may come back and resume
)

// Drops counts what was dropped on purpose, by reason: the names of stages, and the reasons below. One
// message that two subscriptions did not get counts twice. It may be used concurrently.
type Drops struct{ counts map[string]*atomic.Int64 }

// Reasons for drops that are no stage's.
const (
	DropConflated = "conflate" // superseded; the name of the stage, too, since it need not see what has left the ring
	DropSlow      = "slow"     // conflated because the subscription was slow
	DropLapped    = "lapped"   // a slow subscription was told a gap instead
)

// NewDrops returns counters for the given reasons; others are not counted.
func NewDrops(reasons ...string) *Drops {
	d := &Drops{counts: map[string]*atomic.Int64{}}
	for _, r := range append(reasons, DropConflated, DropSlow, DropLapped) {
		d.counts[r] = new(atomic.Int64)
	}
	return d
}

// Add counts n messages dropped for reason.
func (d *Drops) Add(reason string, n int) {
	if d == nil || n <= 0 {
		return
	}
	if c := d.counts[reason]; c != nil {
		c.Add(int64(n))
	}
}

// All yields the reasons, sorted, with their counts.
func (d *Drops) All() iter.Seq2[string, int64] {
	return func(yield func(string, int64) bool) {
		for _, r := range slices.Sorted(maps.Keys(d.counts)) {
			if !yield(r, d.counts[r].Load()) {
				return
			}
		}
	}
}
