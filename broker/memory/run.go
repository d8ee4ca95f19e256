package memory

import (
	"context"
	"errors"
	"time"

	"sluice/broker"
)

// order is one Join or Leave, for Run to carry out.
type order struct {
	channel string
	join    bool
}

const (
	// joinBatch is how many channels are joined by one call of Sink.Joined; publishing to them goes
	// on meanwhile, delivering does not.
	joinBatch = 256
	// sweepPause is between the sweeps of two shards: what expired is freed within 16 s, if nobody
	// comes across it before.
	sweepPause = 250 * time.Millisecond
)

// Run delivers to s until ctx ends; it answers joins, and sweeps what has expired while there is
// anything that could. Nothing of s is called any more when it has returned. It returns an error only
// if it is called a second time.
func (b *Backend) Run(ctx context.Context, s broker.Sink) error {
	if !b.running.CompareAndSwap(false, true) {
		return errors.New("memory: Run called twice; a backend serves one broker")
	}
	defer close(b.ended)
	defer b.part()
	b.sink = s
	b.list(true)
	defer b.list(false)
	s.Revoked(b.revocations.All())
	r := runner{backend: b, waiting: map[string]struct{}{}}
	timer := time.NewTimer(sweepPause)
	defer timer.Stop()
	armed := true
	for {
		r.answer()
		if !armed && b.channels.Load() > 0 { // the first channel has woken us
			timer.Reset(sweepPause)
			armed = true
		}
		select {
		case <-ctx.Done():
			return nil
		case answer := <-b.probes:
			close(answer)
		case <-b.wake:
		case <-timer.C:
			armed = false
			r.sweep()
			r.again()
		}
	}
}

// Join has everything that is published to the channels delivered; Sink.Joined tells from when on,
// at once if Run is running and otherwise when it does. Beyond Config.MaxChannels a new channel waits
// for room.
func (b *Backend) Join(channels ...string) { b.order(channels, true) }

// Leave ends what Join began. Messages that are published meanwhile may still be delivered.
func (b *Backend) Leave(channels ...string) { b.order(channels, false) }

// order only queues: a sink may call Join and Leave from anywhere, also from Deliver, under a channel's lock.
func (b *Backend) order(channels []string, join bool) {
	b.intake.Lock()
	for _, c := range channels {
		b.intake.orders = append(b.intake.orders, order{c, join})
	}
	b.intake.Unlock()
	b.kick()
}

// part makes sure that no delivery is under way and none follows.
func (b *Backend) part() {
	for i := range b.shards {
		for _, c := range b.shards[i].list() {
			c.mu.Lock()
			c.part()
			c.mu.Unlock()
		}
	}
}

// list returns the shard's channels, so that they can be gone through without its lock.
func (s *shard) list() []*channel {
	s.mu.RLock()
	defer s.mu.RUnlock()
	cs := make([]*channel, 0, len(s.channels))
	for _, c := range s.channels {
		cs = append(cs, c)
	}
	return cs
}

// runner is the state of Run; nothing else touches it.
type runner struct {
	backend *Backend
	joining []*channel          // in the state joining, not told yet
	waiting map[string]struct{} // joined by the sink, but there was no room
	next    int                 // shard to sweep
}

// answer carries out the orders that have come.
func (r *runner) answer() {
	b := r.backend
	b.intake.Lock()
	orders, fresh := b.intake.orders, b.intake.revoked
	b.intake.orders, b.intake.revoked = nil, nil
	b.intake.Unlock()
	if len(fresh) > 0 {
		b.sink.Revoked(fresh)
	}
	for _, o := range orders {
		if o.join {
			r.join(o.channel)
		} else {
			r.leave(o.channel)
		}
		if len(r.joining) >= joinBatch {
			r.tell()
		}
	}
	r.tell()
}

func (r *runner) join(name string) {
	c, err := r.backend.open(name, r.backend.now())
	if err != nil {
		r.waiting[name] = struct{}{}
		return
	}
	if c.state != joining { // joined already or not: each Join is answered
		c.state = joining
		r.joining = append(r.joining, c)
	}
	c.mu.Unlock()
}

func (r *runner) leave(name string) {
	delete(r.waiting, name)
	if c := r.backend.lookup(name); c != nil {
		c.part()
		c.touched = r.backend.age(r.backend.now())
		c.mu.Unlock()
	}
}

// again tries those for which there was no room.
func (r *runner) again() {
	for name := range r.waiting {
		if r.backend.channels.Load() >= int64(r.backend.config.MaxChannels) {
			break
		}
		delete(r.waiting, name)
		r.join(name)
	}
	r.tell()
}

// tell calls Sink.Joined for those that are joining, and then delivers what was published meanwhile.
func (r *runner) tell() {
	if len(r.joining) == 0 {
		return
	}
	names := make([]string, len(r.joining))
	for i, c := range r.joining {
		names[i] = c.name
	}
	b := r.backend
	b.sink.Joined(names)
	for _, c := range r.joining {
		c.mu.Lock()
		if c.state == joining { // it may have been left since, in the same breath
			c.state = joined
			for _, m := range c.held {
				b.sink.Deliver(m)
			}
			c.held = nil
		}
		c.mu.Unlock()
	}
	clear(r.joining)
	r.joining = r.joining[:0]
}

// sweep frees what has expired in the next shard; in all of them if there was no room for something.
func (r *runner) sweep() {
	b := r.backend
	n := 1
	if b.full.Swap(false) {
		n = shardCount
	}
	remember := b.config.Remember
	if b.channels.Load() >= int64(b.config.MaxChannels) {
		remember = min(remember, time.Minute) // else strangers' names could shut out new channels for a day
	}
	for range n {
		s := &b.shards[r.next]
		r.next = (r.next + 1) % shardCount
		r.sweepShard(s, b.age(b.now()), remember)
	}
}

func (r *runner) sweepShard(s *shard, age, remember time.Duration) {
	var idle []*channel
	for _, c := range s.list() {
		c.mu.Lock()
		c.expire(r.backend, age)
		if c.idle(age - remember) {
			idle = append(idle, c)
		}
		c.mu.Unlock()
	}
	if len(idle) > 0 {
		r.backend.forget(s, idle, age-remember)
	}
}
