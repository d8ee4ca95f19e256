package transport

import (
	"sync/atomic"

	"sluice/broker"
	"sluice/otel"
)

// meter is what one writer measures: a few plain buckets of its own, one clock read per write and nothing per message but
// arithmetic. At the end of a pass it is put where whoever asks reads it. Without Config.Metrics there is none.
type meter struct {
	by [streams]streamMeter

	// Owned by the writer.
	taken []*broker.Batch // what is in the write that is being put together
	known known           // the newest of them: most sessions take the same
	lap   int64           // when the write before it ended, or the pass began; of broker.Now
	wall  int64           // what makes a publish time, in Unix nanoseconds, of a time of broker.Now; as of this pass
	clock *otel.Clock
	trace *writeTracer // nil: nothing is traced
}

// streamMeter is the part of one transport.
type streamMeter struct {
	publishToWrite, queue, write, perWrite *otel.Histogram

	live, history, bytes, clamped atomic.Uint64

	// Owned by the writer: what is not in the above yet.
	pending struct {
		publishToWrite, queue, write, perWrite otel.Tally

		live, history, bytes, clamped uint64
	}
}

func newMeter(w *writer) *meter {
	m := &meter{clock: w.server.config.Clock, trace: newWriteTracer(w)}
	for i := range m.by {
		b := &m.by[i]
		b.publishToWrite, b.queue = otel.PublishToWrite.Histogram(), otel.QueueTime.Histogram()
		b.write, b.perWrite = otel.WriteTime.Histogram(), otel.DeliveriesPerWrite.Histogram()
		p := &b.pending
		p.publishToWrite, p.queue, p.write, p.perWrite = b.publishToWrite.Tally(), b.queue.Tally(), b.write.Tally(), b.perWrite.Tally()
	}
	return m
}

// owed is what has been taken for a write and is not written yet: times, not messages, so that those of a client that reads
// nothing can be forgotten.
type owed struct {
	stamps  []stamp
	history int         // messages that have no stamp, since their age says nothing
	bytes   int         // of a write that is under way in a goroutine
	begin   int64       // when the first write of it began
	traces  *owedTraces // nil: nothing is traced
}

// stamp is a message that is owed. A time is 0 if it is not known.
type stamp struct {
	published int64 // Unix nanoseconds
	arrived   int64 // of broker.Now
}

func stampOf(m *broker.Message, now int64) (at stamp) {
	if !m.Time.IsZero() {
		at.published = m.Time.UnixNano()
	}
	if waited, ok := m.Waited(now); ok {
		at.arrived = now - waited
	}
	return at
}

// begin is called before a pass flushes.
func (m *meter) begin() {
	m.lap = broker.Now()
	m.wall = m.clock.Wall()
}

// wrote is called after each write of s: n bytes, which is all of it if whole is true. If later is true they are on their way,
// and finished is called when they are written.
func (m *meter) wrote(s *session, n int, whole, later bool) {
	begin, now := m.lap, broker.Now()
	m.lap = now
	b := &m.by[s.over]
	switch {
	case later:
		m.owe(s, begin, now)
		s.owed.bytes, s.owed.begin = n, begin
		return
	case n > 0:
		b.count(n, now-begin)
	}
	if !whole {
		m.owe(s, begin, now)
		return
	}
	d := delivery{to: b, now: now, wall: now + m.wall}
	if s.owed != nil {
		d.addOwed(s.owed)
		m.trace.wroteOwed(s, n, now, d.wall)
		s.owed = nil
	}
	for _, batch := range m.taken {
		k := m.know(batch)
		d.add(k)
		if m.trace != nil && (k.trace != nil || m.trace.wants(s, k, d.wall)) {
			m.trace.wrote(s, m.taken, k, begin, now, n)
		}
	}
	d.end()
	m.forget()
}

// finished is called when the write of s that was under way has ended, at a time of broker.Now.
func (m *meter) finished(s *session, at int64) {
	o, b := s.owed, &m.by[s.over]
	if o == nil {
		return
	}
	s.owed = nil
	b.count(o.bytes, at-o.begin)
	d := delivery{to: b, now: at, wall: m.clock.Wall() + at}
	d.addOwed(o)
	s.owed = o
	m.trace.wroteOwed(s, o.bytes, at, d.wall)
	s.owed = nil
	d.end()
}

// forget gives up what was taken.
func (m *meter) forget() {
	clear(m.taken)
	m.taken = m.taken[:0]
}

// known is what there is to know of one batch, so that its messages are looked at once and not for each session.
type known struct {
	batch     *broker.Batch
	messages  int   // without gaps
	published times // Unix nanoseconds, of those that have it
	arrived   times // of broker.Now, of those for which it was noted

	trace *batchTrace // nil: none of it is traced
	due   int64       // the first publish time, and what a policy held it back; only where anything is traced
}

// times are points in time. Their sum may overflow: what is computed of it is small again.
type times struct {
	all           []int64
	min, max, sum int64
}

func (t *times) add(at int64) {
	if len(t.all) == 0 {
		t.min, t.max = at, at
	}
	t.all = append(t.all, at)
	t.min, t.max, t.sum = min(t.min, at), max(t.max, at), t.sum+at
}

func (t *times) reset() { *t = times{all: t.all[:0]} }

// observe notes how long before now they all are, and returns how many are after it; those count as 0.
func (t *times) observe(in *otel.Tally, now int64) (after int) {
	n := len(t.all)
	if n == 0 || now >= t.max && in.ObserveAll(n, int64(n)*now-t.sum, now-t.max, now-t.min) {
		return 0
	}
	for _, at := range t.all {
		if at > now {
			after++
		}
		in.Observe(max(0, now-at))
	}
	return after
}

// know looks at the messages of b, unless it has just done that.
func (m *meter) know(b *broker.Batch) *known {
	k := &m.known
	if k.batch == b {
		return k
	}
	k.batch, k.messages, k.trace = b, 0, nil
	k.published.reset()
	k.arrived.reset()
	for _, msg := range b.Messages {
		if msg.Gap != nil {
			continue
		}
		k.messages++
		if !b.Live {
			continue // its age says nothing
		}
		if !msg.Time.IsZero() {
			k.published.add(msg.Time.UnixNano())
		}
		if waited, ok := msg.Waited(m.lap); ok {
			k.arrived.add(m.lap - waited)
		}
	}
	if m.trace != nil {
		m.trace.know(k)
	}
	return k
}

// owe notes in s what was taken, for when it will have been written.
func (m *meter) owe(s *session, begin, now int64) {
	if s.owed == nil {
		s.owed = &owed{begin: begin}
	}
	if m.trace != nil {
		m.trace.owe(s.owed, m)
	}
	for _, batch := range m.taken {
		for _, msg := range batch.Messages {
			switch {
			case msg.Gap != nil:
			case !batch.Live:
				s.owed.history++
			default:
				s.owed.stamps = append(s.owed.stamps, stampOf(msg, now))
			}
		}
	}
	m.forget()
}

// end is called after a pass has flushed.
func (m *meter) end() {
	m.known.batch = nil
	for i := range m.by {
		b := &m.by[i]
		p := &b.pending
		if p.bytes == 0 {
			continue // nothing is counted without a write
		}
		p.publishToWrite.Flush()
		p.queue.Flush()
		p.write.Flush()
		p.perWrite.Flush()
		b.live.Add(p.live)
		b.history.Add(p.history)
		b.bytes.Add(p.bytes)
		b.clamped.Add(p.clamped)
		p.live, p.history, p.bytes, p.clamped = 0, 0, 0, 0
	}
}

func (b *streamMeter) count(bytes int, took int64) {
	b.pending.bytes += uint64(bytes)
	b.pending.write.Observe(took)
}

// delivery is the messages that one write has brought to their client.
type delivery struct {
	to            *streamMeter
	now, wall     int64 // when it ended, of broker.Now and in Unix nanoseconds
	live, history int
}

func (d *delivery) add(k *known) {
	if !k.batch.Live {
		d.history += k.messages
		return
	}
	d.live += k.messages
	p := &d.to.pending
	p.clamped += uint64(k.published.observe(&p.publishToWrite, d.wall))
	k.arrived.observe(&p.queue, d.now)
}

func (d *delivery) addOwed(o *owed) {
	d.history += o.history
	d.live += len(o.stamps)
	for _, at := range o.stamps {
		if at.published != 0 {
			d.aged(at.published)
		}
		if at.arrived != 0 {
			d.to.pending.queue.Observe(d.now - at.arrived)
		}
	}
}

// aged notes the age of a message. Clocks differ: what was published in the future is 0 old.
func (d *delivery) aged(published int64) {
	age := d.wall - published
	if age < 0 {
		age = 0
		d.to.pending.clamped++
	}
	d.to.pending.publishToWrite.Observe(age)
}

func (d *delivery) end() {
	if d.live+d.history == 0 {
		return
	}
	p := &d.to.pending
	p.perWrite.Observe(int64(d.live + d.history))
	p.live += uint64(d.live)
	p.history += uint64(d.history)
}

// measureWrites tells what the writers have measured, as one.
func (s *Server) measureWrites(r *otel.Readings) {
	if !s.config.Measured() {
		return
	}
	r.Histogram(otel.PublishTime, []*otel.Histogram{s.publishTime[overHTTP]}, carrierNames[overHTTP])
	r.Histogram(otel.PublishTime, []*otel.Histogram{s.publishTime[overWS]}, carrierNames[overWS])
	for i := range streams {
		var publishToWrite, queue, write, perWrite []*otel.Histogram
		var live, history, bytes, clamped, writes uint64
		for _, w := range s.writers {
			b := &w.meter.by[i]
			publishToWrite, queue = append(publishToWrite, b.publishToWrite), append(queue, b.queue)
			write, perWrite = append(write, b.write), append(perWrite, b.perWrite)
			live, history, clamped = live+b.live.Load(), history+b.history.Load(), clamped+b.clamped.Load()
			writes, bytes = writes+b.write.Count(), bytes+b.bytes.Load()
		}
		name := carrierNames[i]
		r.Histogram(otel.PublishToWrite, publishToWrite, name)
		r.Histogram(otel.QueueTime, queue, name)
		r.Histogram(otel.WriteTime, write, name)
		r.Histogram(otel.DeliveriesPerWrite, perWrite, name)
		r.Value(otel.Deliveries, float64(live), name, "live")
		r.Value(otel.Deliveries, float64(history), name, "history")
		r.Value(otel.Writes, float64(writes), name)
		r.Value(otel.WrittenBytes, float64(bytes), name)
		r.Value(otel.ClampedTimes, float64(clamped), name)
	}
}
