package otel

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"math/rand/v2"

	"go.opentelemetry.io/otel/trace"
)

// ids makes the ids of spans. Those of spans that others have to know before they are made (a message's
// deliver, a push that may be acknowledged) were drawn earlier, and come with the context of the span's start.
type ids struct{}

// presetKey is where a context has them, as a Context.
type presetKey struct{}

// preset has the span that is started in ctx be named c. It is for that one span: its children are started in a
// context of their own (Context.in), not in the one that the start returns.
func preset(ctx context.Context, c Context) context.Context {
	return context.WithValue(ctx, presetKey{}, c)
}

// NewIDs implements sdktrace.IDGenerator, for spans without a parent.
func (ids) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	if c, ok := ctx.Value(presetKey{}).(Context); ok && !c.IsZero() {
		return c.Trace, c.Span
	}
	return newTraceID(), newSpanID()
}

// NewSpanID implements sdktrace.IDGenerator, for spans with one.
func (ids) NewSpanID(ctx context.Context, t trace.TraceID) trace.SpanID {
	if c, ok := ctx.Value(presetKey{}).(Context); ok && c.Trace == [16]byte(t) {
		return c.Span
	}
	return newSpanID()
}

func newTraceID() (id [16]byte) {
	binary.BigEndian.PutUint64(id[:8], rand.Uint64())
	binary.BigEndian.PutUint64(id[8:], rand.Uint64()|1) // never zero; the last bit decides on no sample
	return id
}

func newSpanID() (id [8]byte) {
	binary.BigEndian.PutUint64(id[:], rand.Uint64()|1)
	return id
}

// sharedTraceID is the trace of a durable message that came without one: all nodes find the same, and decide
// alike whether it is sampled.
func sharedTraceID(channel, position string) (id [16]byte) {
	b := make([]byte, 0, 256)
	b = append(append(append(b, channel...), 0), position...)
	sum := sha256.Sum256(b)
	copy(id[:], sum[:])
	if id == ([16]byte{}) {
		id[15] = 1
	}
	return id
}
