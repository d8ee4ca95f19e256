package broker

// ring is the bounded memory of a log: messages under absolute indices first ≤ i < next. An index
// never changes its message, so a cursor is one number; older indices fall out at the front.
type ring struct {
	first, next uint64
	shifted     bool // something fell out: nothing may be put in front any more, its index was used
	bytes       int
	slots       []*Message // slot of index i is i & (len-1); len is a power of two
}

// ringStart leaves room in front for history that is read after the first message came.
const ringStart = 1 << 40

func (r *ring) len() int                 { return int(r.next - r.first) }
func (r *ring) at(i uint64) *Message     { return r.slots[i&uint64(len(r.slots)-1)] }
func (r *ring) set(i uint64, m *Message) { r.slots[i&uint64(len(r.slots)-1)] = m }

func (r *ring) push(m *Message) {
	r.grow()
	r.set(r.next, m)
	r.next++
	r.bytes += m.size()
}

func (r *ring) unshift(m *Message) {
	r.grow()
	r.first--
	r.set(r.first, m)
	r.bytes += m.size()
}

func (r *ring) shift() *Message {
	m := r.at(r.first)
	r.set(r.first, nil)
	r.first++
	r.shifted = true
	r.bytes -= m.size()
	return m
}

// grow doubles the slots when they are full; a quiet channel never pays for its limit.
func (r *ring) grow() {
	if r.len() < len(r.slots) {
		return
	}
	old := *r
	r.slots = make([]*Message, max(4, 2*len(old.slots)))
	for i := old.first; i < old.next; i++ {
		r.set(i, old.at(i))
	}
}

// find returns the index of the durable message at p. It looks from the newest backwards, since
// those who resume have mostly missed little.
func (r *ring) find(p Position) (uint64, bool) {
	for i := r.next; i > r.first; i-- {
		if r.at(i-1).Position == p {
			return i - 1, true
		}
	}
	return 0, false
}
