package broker

import "slices"

// compact makes a log remember the newest message of each key for as long as that is the newest,
// after it has fallen out of the ring too: however far behind a conflated subscription is, it finds the
// last state of every key, and what it costs is the number of keys, not how far behind.
//
// Each key is in one of two places: newest, if its newest message is in the ring, or kept, if that has
// fallen out. The kept ones are a list in the order of the ring's indices.
type compact struct {
	key     *Key
	refs    int
	newest  map[string]uint64
	kept    map[string]*keptMessage
	head    keptMessage // of the list, in a circle
	bytes   int         // of the kept ones
	keyless uint64      // one past the newest message that nothing supersedes
	lost    uint64      // one past the newest message that fell out and could not be kept though nothing superseded it
}

type keptMessage struct {
	prev, next *keptMessage
	index      uint64
	at         Position // of the newest durable message up to this one
	message    *Message
	key        string
}

// newCompact begins to compact a log with what is in its ring.
func newCompact(r *ring, key *Key) *compact {
	c := &compact{key: key, newest: map[string]uint64{}, kept: map[string]*keptMessage{}}
	c.head.prev, c.head.next = &c.head, &c.head
	if r.shifted {
		c.lost = r.first
	}
	for i := r.first; i < r.next; i++ {
		c.push(i, r.at(i))
	}
	return c
}

// keyOf returns the key of a message, and whether anybody wants it at all.
func (c *compact) keyOf(m *Message) (k string, ok, wanted bool) {
	switch {
	case m.Gap != nil:
		return "", false, true
	case c.key.Wants != nil && !c.key.Wants(m):
		return "", false, false
	}
	k, ok = c.key.Of(m)
	return k, ok, true
}

// push notes that m is now in the ring, at its end.
func (c *compact) push(i uint64, m *Message) {
	k, ok, wanted := c.keyOf(m)
	if !ok {
		if wanted && m.Gap == nil {
			c.keyless = i + 1
		}
		return
	}
	if old := c.kept[k]; old != nil {
		c.drop(old)
	}
	c.newest[k] = i
}

// unshift notes that m is now in the ring, at its beginning.
func (c *compact) unshift(i uint64, m *Message) {
	if k, ok, _ := c.keyOf(m); ok {
		if _, known := c.newest[k]; !known && c.kept[k] == nil {
			c.newest[k] = i
		}
	}
}

// shift notes that m has fallen out of the ring; base is the newest durable position that has. What is
// kept is bounded like the ring.
func (c *compact) shift(i uint64, m *Message, base Position, maxMessages, maxBytes int) {
	k, ok, wanted := c.keyOf(m)
	switch {
	case !wanted, ok && c.newest[k] != i:
		return // filtered out, or superseded
	case !ok:
		c.lost = i + 1
		return
	}
	delete(c.newest, k)
	e := &keptMessage{prev: c.head.prev, next: &c.head, index: i, at: base, message: m, key: k}
	e.prev.next, e.next.prev = e, e
	c.kept[k] = e
	c.bytes += m.size()
	for len(c.kept) > maxMessages || c.bytes > maxBytes {
		old := c.head.next
		c.lost = max(c.lost, old.index+1)
		c.drop(old)
	}
}

func (c *compact) drop(e *keptMessage) {
	e.prev.next, e.next.prev = e.next, e.prev
	delete(c.kept, e.key)
	c.bytes -= e.message.size()
}

// between calls yield for the kept messages from one index up to another, in order.
func (c *compact) between(from, to uint64, yield func(*keptMessage)) {
	e := &c.head
	for e.prev != &c.head && e.prev.index >= from { // from the back: nobody is far behind for long
		e = e.prev
	}
	for ; e != &c.head && e.index < to; e = e.next {
		yield(e)
	}
}

// compacted returns the log's memory of newest messages by key, nil for a nil key; keep adds a claim on
// it. l.mu is held.
func (l *Log) compacted(key *Key, keep bool) *compact {
	if key == nil {
		return nil
	}
	var found *compact
	for _, c := range l.compacts {
		if c.key.ID == key.ID {
			found = c
		}
	}
	if keep {
		if found == nil {
			found = newCompact(&l.ring, key)
			l.compacts = append(l.compacts, found)
		}
		found.refs++
	}
	return found
}

// uncompact gives up a claim. l.mu is held.
func (l *Log) uncompact(key *Key) {
	c := l.compacted(key, false)
	if c == nil {
		return
	}
	if c.refs--; c.refs == 0 {
		l.compacts = slices.DeleteFunc(l.compacts, func(x *compact) bool { return x == c })
	}
}
