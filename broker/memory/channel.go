package memory

import (
	"strings"
	"sync"
	"time"

	"sluice/broker"
)

// channel is one channel. Its lock is held over append and Deliver, which is all there is to order.
type channel struct {
	name string

	mu        sync.Mutex
	state     state
	forgotten bool              // no longer in the map; look it up again
	held      []*broker.Message // published while joining, delivered right after it
	last      broker.Position   // of the newest durable message, or the genesis
	history   history
	expires   time.Duration // when the history ends, unless something is published before
	recent    *recent       // nil: no publish had an ID lately
	touched   time.Duration // when it was last of use to someone
}

// state says what happens to what is published. joining lasts as long as the call of Sink.Joined:
// that one must not run beside a Deliver, and can't run under the lock, since a sink may publish.
type state uint8

const (
	apart state = iota
	joining
	joined
)

// publish does what Backend.Publish promises. c.mu is held.
func (c *channel) publish(b *Backend, m *broker.Message, o broker.PublishOptions, now time.Time) (broker.Receipt, error) {
	age := b.age(now)
	c.expire(b, age)
	c.touched = age
	var extra int64
	if o.ID != "" {
		if p, ok := c.recent.find(o.ID); ok {
			return broker.Receipt{Position: p, Duplicate: true}, nil
		}
		extra = idCost + int64(len(o.ID))
	}
	out := &broker.Message{Channel: c.name, Event: m.Event, Key: m.Key, Trace: m.Trace, Time: m.Time, Data: m.Data}
	if out.Time.IsZero() {
		out.Time = now
	}
	if !o.Live {
		out.Previous = c.last
		out.Position = c.next(now)
	}
	if err := c.store(b, out, o, extra, age); err != nil {
		return broker.Receipt{}, err
	}
	if o.ID != "" {
		if c.recent == nil {
			c.recent = &recent{known: map[string]broker.Position{}}
		}
		c.recent.add(strings.Clone(o.ID), out.Position, age+b.config.IdempotencyWindow)
	}
	switch c.state {
	case joined:
		b.sink.Deliver(out)
	case joining:
		c.held = append(c.held, out)
	}
	return broker.Receipt{Position: out.Position}, nil
}

// next is the position after last, at the time of now, or later if the clock has gone back.
func (c *channel) next(now time.Time) broker.Position {
	p := broker.Position{MS: uint64(max(now.UnixMilli(), 0)), Tag: tag()}
	if p.MS <= c.last.MS {
		p.MS, p.Seq = c.last.MS, c.last.Seq+1
	}
	return p
}

// store makes room for m, if it is durable, and extra bytes, and appends it. What an error leaves is
// what was there before.
func (c *channel) store(b *Backend, m *broker.Message, o broker.PublishOptions, extra int64, age time.Duration) error {
	if !m.Durable() {
		return b.reserve(extra)
	}
	limit, keep := o.Messages, o.Age
	if limit <= 0 {
		limit = broker.DefaultHistoryMessages
	}
	if keep <= 0 {
		keep = broker.DefaultHistoryAge
	}
	drop := max(c.history.n+1-limit, 0)
	if err := b.reserve(cost(m) + extra - c.history.size(drop)); err != nil {
		return err
	}
	c.history.drop(drop)
	c.history.push(m)
	c.last = m.Position
	c.expires = age + keep
	return nil
}

// expire drops what is past its time. c.mu is held.
func (c *channel) expire(b *Backend, age time.Duration) {
	var freed int64
	if c.history.n > 0 && c.expires <= age {
		freed += c.history.size(c.history.n)
		c.history.drop(c.history.n)
	}
	if c.recent != nil {
		freed += c.recent.expire(age)
		if len(c.recent.order) == 0 {
			c.recent = nil
		}
	}
	if freed > 0 {
		b.bytes.Add(-freed)
	}
}

// idle reports whether nobody would miss the channel, which was not of use since before. c.mu is held.
func (c *channel) idle(before time.Duration) bool {
	return c.state == apart && c.history.n == 0 && c.recent == nil && c.touched <= before
}

// part ends deliveries. c.mu is held.
func (c *channel) part() { c.state, c.held = apart, nil }

// read answers r. c.mu is held.
func (c *channel) read(b *Backend, r broker.Range, now time.Time) broker.Page {
	age := b.age(now)
	c.expire(b, age)
	c.touched = age
	h, from, to := &c.history, 0, c.history.n
	limit := max(r.Limit, 0)
	if r.Newest {
		if !r.Before.IsZero() {
			to = h.find(r.Before)
		}
		from = max(to-limit, 0)
	} else {
		from = h.find(r.After)
		to = min(to, from+limit)
	}
	return broker.Page{Messages: h.slice(from, to), Head: c.last}
}
