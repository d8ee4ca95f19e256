package otel

import (
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
)

// Ack notes that a client says at a time of Now that it has a message, by the traceparent that it was given with it. It returns false for
// what this node has not told anybody, or not lately.
//
// The span begins at the end of the write where the session has spans of its own, else at the publish; it is of this node's clock
// alone. A message has a few of them at most.
func (t *Tracer) Ack(session [12]byte, over, traceparent string, now int64) bool {
	c, ok := ParseContext(traceparent)
	if !ok {
		return false
	}
	d := t.find(c)
	if d == nil {
		return false
	}
	parent, begin, from := d.self, d.start, "publish"
	d.mu.Lock()
	for i := range d.sockets {
		if s := &d.sockets[i]; s.Session == session {
			parent.Span, begin, from = s.span, s.End, "write"
		}
	}
	d.acks++
	many := d.acks > maxDecisions
	d.mu.Unlock()
	if many {
		return true
	}
	t.later(func() {
		t.child(parent, [8]byte{}, spanClientAck, at(d.wall, begin), at(d.wall, now), trace.WithAttributes(
			attribute.String("sluice.transport", over), attribute.String("sluice.ack.from", from)))
	})
	return true
}
