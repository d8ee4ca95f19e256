package otel

import (
	"encoding/binary"
	"math"
	"math/bits"
	"sync"
)

// Delivery is what happens to one traced message on this node: those who write it note it here, and Tracer.Run makes the spans
// when nobody is left who owes a word, or at the deadline. It costs an untraced message nothing and a traced one some
// 50 ns a socket; only few sockets are kept whole.
//
// All methods may be called concurrently, and on nil, which notes nothing.
type Delivery struct {
	// Set when it is made.
	tracer   *Tracer
	arrival  Arrival
	parent   Context // of the publish, or of who published without Sluice; zero: nobody said
	self     Context // of the deliver span
	wall     int64   // what makes Unix nanoseconds of a time of Now
	start    int64   // the publish, of Now; when it arrived if that is not known
	clamped  bool    // it was published in this node's future
	sampled  string  // why it is traced
	detailed bool    // sockets have spans

	mu        sync.Mutex
	done      bool
	open      int               // subscribers that nobody has said anything of
	marks     [markSlots]int64  // when a writer had marked its sessions, of Now
	last      int64             // when something was last said
	written   int               // subscribers
	conflated int               // subscribers
	dropped   int               // subscribers
	left      int               // subscribers that ended first
	longest   int64             // from publish to write
	ages      *[ageCells]uint32 // from publish to write, by cell of 1,024 ns; nil: there is one subscriber at most
	sockets   []socket
	slowest   *socket // nil: nothing has been written, or all was picked
	decisions []decision
	acks      int
}

const (
	markSlots = 8   // writers beyond share them
	ageCells  = 512 // 19 hours
)

// Write is one message written to one client.
type Write struct {
	Session  [12]byte
	Over     string      // ws or sse
	Writer   int         // the number of the goroutine
	Begin    int64       // when putting it together began, of Now
	End      int64       // when the write returned
	Released int64       // when a policy let it go; 0: none held it
	Bytes    int         // of the whole write
	Messages int         // in it
	Index    int         // of this one among them
	Pinned   bool        // the session wants to see all of its messages
	Ages     *Histogram  // which the age was observed in, for an exemplar
	Batch    []*Delivery // the traced ones in the write, if there are several; it is kept, and not written to
}

// socket is a Write that has spans.
type socket struct {
	Write
	span [8]byte
	by   string // why it was picked
}

// decision is why some did not get the message.
type decision struct {
	name   string // conflate or drop
	over   string // ws or sse; "": all that follow one policy
	reason string
	by     Context // the message that superseded it
	failed bool
	n      int
	at     int64
}

// begin finds the start on this node's clock.
func (d *Delivery) begin(c *Clock) {
	d.wall = c.wall()
	d.start, d.last = d.arrival.Arrived, d.arrival.Arrived
	if d.arrival.Published != 0 {
		offset, _, _ := c.Offset()
		d.start = d.arrival.Published - int64(offset) - d.wall
	}
	if d.start > d.arrival.Arrived {
		d.start, d.clamped = d.arrival.Arrived, true
	}
	if d.arrival.Subscribers > 1 {
		d.ages = new([ageCells]uint32)
	}
}

// Context returns what clients are told: the deliver span, as whose children they may go on. It is zero for nil.
func (d *Delivery) Context() Context {
	if d == nil {
		return Context{}
	}
	return d.self
}

// Marked notes that a writer has marked all its sessions that listen.
func (d *Delivery) Marked(writer int, at int64) {
	if d == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.done {
		return
	}
	if m := &d.marks[writer%markSlots]; *m == 0 || writer >= markSlots {
		*m = at
	}
}

// Wrote notes that one subscriber has been written to. w is not kept, but its Batch is.
func (d *Delivery) Wrote(w *Write) {
	if d == nil {
		return
	}
	age := w.End - d.start
	d.mu.Lock()
	if d.done {
		d.mu.Unlock()
		d.wroteLate(w, age)
		return
	}
	d.written++
	if d.ages != nil {
		d.ages[min(cell(max(age, 0)>>10), ageCells-1)]++
	}
	switch by := d.pick(w); {
	case by != "":
		d.sockets = append(d.sockets, d.keep(w, by))
	case age > d.longest:
		if d.slowest == nil {
			d.slowest = new(socket)
		}
		*d.slowest = d.keep(w, pickedSlowest)
	}
	d.longest = max(d.longest, age)
	d.say(1, w.End)
}

// say notes that n subscribers have been accounted for, and gives up the lock.
func (d *Delivery) say(n int, at int64) {
	d.last = max(d.last, at)
	d.open -= n
	over := d.open <= 0
	d.done = over
	d.mu.Unlock()
	if over {
		d.tracer.over(d)
	}
}

// Why a socket has spans, and why a message has.
const (
	sampledHead   = "head" // by the sampler, here or where it was published
	pickedHash    = "hash"
	pickedSlowest = "slowest"
	pickedPinned  = "pinned"
	pickedSlow    = "slow"
)

// pick says why w has spans, "" if it has none: without a memory of its own it picks about Sockets of all
// subscribers, for each message other ones.
func (d *Delivery) pick(w *Write) string {
	switch {
	case w.Pinned && len(d.sockets) < maxPinned:
		return pickedPinned
	case !d.detailed || d.tracer.config.Sockets <= 0 || len(d.sockets) >= 2*d.tracer.config.Sockets:
		return ""
	}
	if n := uint64(d.arrival.Subscribers); n > uint64(d.tracer.config.Sockets) {
		x := binary.BigEndian.Uint64(w.Session[:]) ^ binary.BigEndian.Uint64(d.self.Trace[:])
		x *= 0x9e3779b97f4a7c15 // so that near neighbours part
		x ^= x >> 32
		hi, _ := bits.Mul64(x*0x9e3779b97f4a7c15, n)
		if hi >= uint64(d.tracer.config.Sockets) {
			return ""
		}
	}
	return pickedHash
}

func (d *Delivery) keep(w *Write, by string) socket {
	return socket{Write: *w, by: by, span: newSpanID()}
}

// wroteLate makes the spans of a write after the deadline.
func (d *Delivery) wroteLate(w *Write, age int64) {
	by := d.pick(w)
	if slow := int64(d.tracer.config.Slow); by == "" && slow > 0 && age > slow && d.tracer.outliers.Allow() {
		by = pickedSlow
	}
	if by != "" {
		s := d.keep(w, by)
		d.tracer.later(func() { d.push(&s) })
	}
}

// Conflated notes that for n subscribers a newer message took the place of this one; by is zero if that one is not traced.
func (d *Delivery) Conflated(reason string, n int, by Context) {
	d.decide(decision{name: spanConflate, reason: reason, by: by, n: n})
}

// Dropped notes that n subscribers do not get the message on purpose.
func (d *Delivery) Dropped(reason string, n int) {
	d.decide(decision{name: spanDrop, reason: reason, n: n})
}

// Failed notes that one subscriber does not get the message because its session ended.
func (d *Delivery) Failed(over, reason string) {
	d.decide(decision{name: spanDrop, over: over, reason: reason, failed: true, n: 1})
}

func (d *Delivery) decide(x decision) {
	if d == nil || x.n <= 0 {
		return
	}
	x.at = Now()
	d.mu.Lock()
	if d.done {
		d.mu.Unlock()
		if x.failed {
			d.tracer.later(func() { d.decided(&x) })
		}
		return
	}
	if x.name == spanConflate {
		d.conflated += x.n
	} else {
		d.dropped += x.n
	}
	d.merge(x)
	d.say(x.n, x.at)
}

// merge adds x to a decision like it: a policy decides for all its followers, but sessions end one by one.
func (d *Delivery) merge(x decision) {
	for i := range d.decisions {
		y := &d.decisions[i]
		if y.name == x.name && y.over == x.over && y.reason == x.reason && y.by == x.by {
			y.n, y.at = y.n+x.n, x.at
			return
		}
	}
	if len(d.decisions) < maxDecisions {
		d.decisions = append(d.decisions, x)
	}
}

// Left notes that a subscriber ended, by itself, before it had taken the message.
func (d *Delivery) Left() {
	if d == nil {
		return
	}
	d.mu.Lock()
	if d.done {
		d.mu.Unlock()
		return
	}
	d.left++
	d.say(1, d.last)
}

// Over reports whether the deliver span has ended: nothing has to be told any more, but it may be.
func (d *Delivery) Over() bool { return d == nil || d.isOver() }

func (d *Delivery) isOver() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.done
}

// expire ends d at its deadline. It returns false if it is over already.
func (d *Delivery) expire() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.done {
		return false
	}
	d.done = true
	d.last = max(d.last, min(Now(), d.arrival.Arrived+int64(d.tracer.config.Wait)))
	return true
}

// forget gives up what was kept for acknowledgements.
func (d *Delivery) forget() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sockets = nil
}

// quantile returns an age that a share q of the writes did not exceed, in nanoseconds.
func (d *Delivery) quantile(q float64) int64 {
	if d.ages == nil {
		return d.longest
	}
	want := uint32(math.Ceil(q * float64(d.written)))
	var n uint32
	for c, k := range d.ages {
		if n += k; n >= want && n > 0 {
			return min(cellStart(c+1)<<10, d.longest)
		}
	}
	return d.longest
}
