package transport

import (
	"sluice/broker"
	"sluice/otel"
)

// writeTracer tells the tracer what one writer writes of traced messages, and of messages that turn out to be slow. What is not
// traced costs a comparison per batch and write. It is owned by its writer.
type writeTracer struct {
	writer *writer
	tracer *otel.Tracer
	slow   int64 // age at the write from which a message is an outlier; of a message that nothing held back
}

// newWriteTracer returns nil if nothing is traced.
func newWriteTracer(w *writer) *writeTracer {
	t := w.server.config.Tracer
	if t == nil {
		return nil
	}
	slow := int64(t.Slow())
	if slow <= 0 {
		slow = 1 << 62
	}
	return &writeTracer{writer: w, tracer: t, slow: slow}
}

// batchTrace is what is traced of a batch.
type batchTrace struct {
	messages   []tracedMessage
	deliveries []*otel.Delivery // all of them, if there are several: they are linked
}

type tracedMessage struct {
	delivery *otel.Delivery
	index    int // in the batch, gaps not counted
}

// owedTraces is what is traced of a write that is not done yet, and its oldest message, which may become an outlier.
type owedTraces struct {
	messages []owedTrace
	oldest   arrival
	due      int64
}

type owedTrace struct {
	tracedMessage
	messages int // in the write
	released int64
	batch    []*otel.Delivery
}

// arrival is an otel.Arrival to be: its texts are made when they are needed.
type arrival struct {
	channel, trace string
	position       broker.Position
	stamp          stamp
	released       int64
}

func (a *arrival) full() otel.Arrival {
	x := otel.Arrival{Channel: a.channel, Trace: a.trace, Published: a.stamp.published, Arrived: a.stamp.arrived}
	if !a.position.IsZero() {
		x.Position = a.position.String()
	}
	return x
}

// know looks at the messages of k's batch, which the meter has just looked at.
func (t *writeTracer) know(k *known) {
	k.due = 1 << 62
	if !k.batch.Live {
		return
	}
	i := 0
	for _, m := range k.batch.Messages {
		if m.Gap != nil {
			continue
		}
		if d := m.Delivery(); d != nil {
			if k.trace == nil {
				k.trace = new(batchTrace)
			}
			k.trace.messages = append(k.trace.messages, tracedMessage{d, i})
		} else {
			k.due = min(k.due, due(m, k.batch.Released))
		}
		i++
	}
	if k.trace != nil && len(k.trace.messages) > 1 {
		for _, x := range k.trace.messages {
			k.trace.deliveries = append(k.trace.deliveries, x.delivery)
		}
	}
}

// due is the publish time of m and what a policy held it back, which nobody has to account for.
func due(m *broker.Message, released int64) int64 {
	if m.Time.IsZero() {
		return 1 << 62
	}
	at := m.Time.UnixNano()
	now := broker.Now()
	if waited, ok := m.Waited(now); ok && released > now-waited {
		at += released - (now - waited)
	}
	return at
}

// wants reports whether a write of k to s, at a publish time of wall, is to be traced though the message was not sampled.
func (t *writeTracer) wants(s *session, k *known, wall int64) bool {
	if wall-k.due > t.slow {
		return true
	}
	if len(t.writer.pins) == 0 || !k.batch.Live {
		return false
	}
	return t.pinned(s)
}

func (t *writeTracer) pinned(s *session) bool {
	_, ok := t.writer.pins[s]
	return ok
}

// write is what all messages of a write have in common.
func (t *writeTracer) write(s *session, begin, end int64, bytes, messages int) otel.Write {
	return otel.Write{
		Session: s.id, Over: carrierNames[s.over], Writer: t.writer.index, Begin: begin, End: end, Bytes: bytes, Messages: messages,
		Pinned: len(t.writer.pins) > 0 && t.pinned(s), Ages: t.writer.meter.by[s.over].publishToWrite,
	}
}

// wrote is called for a batch, one of those of a write that is done.
func (t *writeTracer) wrote(s *session, batches []*broker.Batch, k *known, begin, end int64, bytes int) {
	before, all := 0, 0
	for _, b := range batches {
		if b == k.batch {
			before = all
		}
		for _, m := range b.Messages {
			if m.Gap == nil {
				all++
			}
		}
	}
	w := t.write(s, begin, end, bytes, all)
	w.Released = k.batch.Released
	if k.trace != nil {
		w.Batch = k.trace.deliveries
		for _, x := range k.trace.messages {
			w.Index = before + x.index
			x.delivery.Wrote(&w)
		}
		t.last(s, k.trace.messages[len(k.trace.messages)-1].delivery)
	}
	wall := end + t.writer.meter.wall
	if !w.Pinned && wall-k.due <= t.slow {
		return
	}
	w.Batch, w.Index = nil, before
	for _, m := range k.batch.Messages {
		if m.Gap == nil && m.Delivery() == nil && (w.Pinned || wall-due(m, w.Released) > t.slow) && t.tracer.AllowOutlier(w.Pinned) {
			a := arrivalOf(m, end)
			t.tracer.Outlier(a.full(), &w)
		}
		if m.Gap == nil {
			w.Index++
		}
	}
}

func arrivalOf(m *broker.Message, now int64) arrival {
	a := arrival{channel: m.Channel, trace: m.Trace, position: m.Position, stamp: stampOf(m, now)}
	if a.stamp.arrived == 0 {
		a.stamp.arrived = now
	}
	return a
}

// owe notes in o what is traced of what was taken.
func (t *writeTracer) owe(o *owed, m *meter) {
	if len(m.taken) == 0 {
		return
	}
	if o.traces == nil {
		o.traces = &owedTraces{due: 1 << 62}
	}
	all := 0
	first := len(o.traces.messages)
	for _, b := range m.taken {
		k := m.know(b)
		if k.trace != nil {
			for _, x := range k.trace.messages {
				x.index += all
				o.traces.messages = append(o.traces.messages, owedTrace{tracedMessage: x, released: b.Released, batch: k.trace.deliveries})
			}
		}
		if k.due < o.traces.due {
			o.traces.due = k.due
			for _, msg := range b.Messages {
				if msg.Gap == nil && msg.Delivery() == nil && due(msg, b.Released) <= k.due {
					o.traces.oldest = arrivalOf(msg, m.lap)
					o.traces.oldest.released = b.Released
					break
				}
			}
		}
		all += k.messages
	}
	for i := first; i < len(o.traces.messages); i++ {
		o.traces.messages[i].messages = all
	}
}

// wroteOwed is called when what s was owed is written; bytes are those of the last write, wall is its end as publish times are told. It may
// be called on nil.
func (t *writeTracer) wroteOwed(s *session, bytes int, end, wall int64) {
	if t == nil || s.owed.traces == nil {
		return
	}
	o := s.owed.traces
	w := t.write(s, s.owed.begin, end, bytes, 0)
	for _, x := range o.messages {
		w.Messages, w.Index, w.Released, w.Batch = x.messages, x.index, x.released, x.batch
		x.delivery.Wrote(&w)
		t.last(s, x.delivery)
	}
	if o.oldest.channel != "" && (w.Pinned || wall-o.due > t.slow) && t.tracer.AllowOutlier(w.Pinned) {
		w.Messages, w.Index, w.Released, w.Batch = 1, 0, o.oldest.released, nil
		t.tracer.Outlier(o.oldest.full(), &w)
	}
}

// failed is called when the write that was put together could not be made at all.
func (m *meter) failed(s *session, why closeReason) {
	if m.trace == nil {
		return
	}
	for _, b := range m.taken {
		if k := m.know(b); k.trace != nil {
			for _, x := range k.trace.messages {
				x.delivery.Failed(carrierNames[s.over], closeNames[why])
			}
		}
	}
}

// failedOwed is called when s has ended and will not get what it is owed.
func (m *meter) failedOwed(s *session, why closeReason) {
	if s.owed == nil || s.owed.traces == nil {
		return
	}
	for _, x := range s.owed.traces.messages {
		x.delivery.Failed(carrierNames[s.over], closeNames[why])
	}
}

// last notes the last traced message of a session, for the operator who asks about that.
func (t *writeTracer) last(s *session, d *otel.Delivery) {
	if s.ledger != nil {
		s.ledger.trace = d.Context().Trace
	}
}

// marked notes in traced messages of these channels that the writer has marked all its sessions.
func (w *writer) marked(fans []*fan) {
	if len(fans) == 0 {
		return
	}
	now := broker.Now()
	for _, f := range fans {
		f.log.Marked(w.index, now)
	}
}
