package otel

import (
	"sync/atomic"
	"time"
)

// epoch is where Now begins.
var epoch = time.Now()

// Now returns nanoseconds by a clock that nobody sets, from the start of the process on.
func Now() int64 { return int64(time.Since(epoch)) }

// Clock is a node's wall clock, and what is known of how far the clock is from it that publish times are told in: that of the
// backend, Redis. Nodes whose clocks differ agree on durations by it. A nil Clock is the machine's, without an offset.
//
// All methods may be called concurrently.
type Clock struct {
	// Skew is by how much this node's wall clock is made wrong; for tests, before anything uses it.
	Skew time.Duration

	estimate atomic.Pointer[estimate]
}

// estimate is what was measured last.
type estimate struct{ offset, bound time.Duration }

// Now returns the node's wall-clock time.
func (c *Clock) Now() time.Time {
	if c == nil {
		return time.Now()
	}
	return time.Now().Add(c.Skew)
}

// Estimate notes that the backend's clock is ahead of this node's by offset, give or take bound. What can't be told from no
// offset is none: it would only have spans of one machine overlap by microseconds.
func (c *Clock) Estimate(offset, bound time.Duration) {
	if offset.Abs() <= bound {
		offset = 0
	}
	c.estimate.Store(&estimate{offset, bound})
}

// Offset returns how far the backend's clock is ahead of this node's, and how wrong that may be. It is zero, and known is
// false, before the first estimate; so it stays where there is one clock only.
func (c *Clock) Offset() (offset, bound time.Duration, known bool) {
	if c == nil {
		return 0, 0, false
	}
	e := c.estimate.Load()
	if e == nil {
		return 0, 0, false
	}
	return e.offset, e.bound, true
}

// Publish returns the time now as publish times are told: by the backend's clock, in whole microseconds.
func (c *Clock) Publish() time.Time {
	offset, _, _ := c.Offset()
	return c.Now().Add(offset).Truncate(time.Microsecond)
}

// wall returns what makes of a time of Now Unix nanoseconds by this node's clock.
func (c *Clock) wall() int64 { return c.Now().UnixNano() - Now() }

// Wall returns what makes of a time of Now Unix nanoseconds as publish times are told.
func (c *Clock) Wall() int64 {
	offset, _, _ := c.Offset()
	return c.wall() + int64(offset)
}

// Measure tells the estimate.
func (c *Clock) Measure(r *Readings) {
	if offset, bound, known := c.Offset(); known {
		r.Value(ClockOffset, offset.Seconds())
		r.Value(ClockError, bound.Seconds())
	}
}
