package otel

import (
	"context"
	"encoding/base64"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// All spans of a node. docs/observability.md says what each means.
//
//	POST /publish/{channel}  server    a request to publish
//	└─ publish …             producer  handing a message to the backend, until it is acknowledged
//	   └─ deliver …          consumer  one node: from the publish time to the last write, or to the deadline
//	      ├─ transit         internal  from the publish time to the arrival at the node
//	      ├─ fan-out         internal  until all sessions that listen were marked
//	      ├─ push ws|sse     internal  one session: until it was written to
//	      │  ├─ queue        internal  until a writer took it: other sessions' turns, policies, slow reading
//	      │  ├─ write        internal  putting the write together, and the system call
//	      │  └─ client-ack   internal  until the client's acknowledgement came
//	      ├─ conflate        internal  until a newer message took its place, for so many subscribers
//	      └─ drop            internal  until it was decided that so many subscribers do not get it
//	connect ws|sse           server    a request to listen, until the session has what it came for
//	└─ replay …              internal  one channel: what was missed, written again
//
// The names end with the pattern of the channel's rule, where there is one: never with the channel, of which there may be millions.
const (
	spanPublish   = "publish"
	spanDeliver   = "deliver"
	spanTransit   = "transit"
	spanFanOut    = "fan-out"
	spanPush      = "push "
	spanQueue     = "queue"
	spanWrite     = "write"
	spanClientAck = "client-ack"
	spanConflate  = "conflate"
	spanDrop      = "drop"
	spanConnect   = "connect "
	spanReplay    = "replay"
)

// at makes a time of a time of Now.
func at(wall, now int64) time.Time { return time.Unix(0, wall+now) }

func ms(nanoseconds int64) float64 { return float64(nanoseconds) / 1e6 }

// finish ends a span. It lasts a nanosecond at least: Jaeger warns of those without a length.
func finish(s trace.Span, at time.Time) {
	if begun, ok := s.(sdktrace.ReadOnlySpan); ok && !at.After(begun.StartTime()) {
		at = begun.StartTime().Add(1)
	}
	s.End(trace.WithTimestamp(at))
}

// child makes a span below parent that is over.
func (t *Tracer) child(parent Context, id [8]byte, name string, begin, end time.Time, o ...trace.SpanStartOption) trace.Span {
	ctx := parent.in(context.Background(), false)
	if id != [8]byte{} {
		ctx = preset(ctx, Context{Trace: parent.Trace, Span: id})
	}
	_, s := t.sdk.Start(ctx, name, append(o, trace.WithTimestamp(begin))...)
	finish(s, end)
	return s
}

// link is a link to another span, and what that is to this one.
func link(to Context, what string, remote bool) trace.Link {
	return trace.Link{SpanContext: to.upstream(remote), Attributes: []attribute.KeyValue{attribute.String("sluice.link", what)}}
}

// messaging are the attributes that all spans of one message's way have (OpenTelemetry's messaging conventions).
func (t *Tracer) messaging(operation, kind, channel, template, position string) []attribute.KeyValue {
	a := []attribute.KeyValue{
		attribute.String("messaging.system", t.config.System),
		attribute.String("messaging.operation.name", operation),
		attribute.String("messaging.operation.type", kind),
		attribute.String("messaging.destination.name", channel),
	}
	if template != "" {
		a = append(a, attribute.String("messaging.destination.template", template))
	}
	if position != "" {
		a = append(a, attribute.String("messaging.message.id", position))
	}
	return a
}

// emit makes the spans of d, which is over. Children come after their parent, so that it is exported first.
func (d *Delivery) emit() {
	d.deliver()
	if d.arrival.Published != 0 {
		d.tracer.child(d.self, [8]byte{}, spanTransit, at(d.wall, d.start), at(d.wall, d.arrival.Arrived))
	}
	fanned := d.arrival.Arrived
	for _, m := range d.marks {
		if m != 0 {
			fanned = max(fanned, m)
		}
	}
	d.tracer.child(d.self, [8]byte{}, spanFanOut, at(d.wall, d.arrival.Arrived), at(d.wall, fanned))
	for i := range d.sockets {
		d.push(&d.sockets[i])
	}
	if slow := int64(d.tracer.config.Slow); d.slowest != nil && (d.detailed || slow > 0 && d.longest > slow) {
		d.push(d.slowest)
	}
	for i := range d.decisions {
		d.decided(&d.decisions[i])
	}
	d.ages, d.slowest, d.decisions = nil, nil, nil // messages stay in their logs for long
}

func (d *Delivery) deliver() {
	t, a := d.tracer, &d.arrival
	template, suffix := t.template(a.Channel)
	attrs := append(t.messaging(spanDeliver, "process", a.Channel, template, a.Position),
		attribute.String("sluice.kind", a.kind()),
		attribute.String("sluice.sampled", d.sampled),
		attribute.Int("sluice.fanout.subscribers", a.Subscribers),
		attribute.Int("sluice.fanout.written", d.written),
		attribute.Int("sluice.fanout.conflated", d.conflated),
		attribute.Int("sluice.fanout.dropped", d.dropped),
		attribute.Int("sluice.fanout.left", d.left),
		attribute.Int("sluice.fanout.pending", max(0, d.open)),
	)
	if d.written > 0 {
		attrs = append(attrs,
			attribute.Float64("sluice.write.p50_ms", ms(d.quantile(0.5))),
			attribute.Float64("sluice.write.p99_ms", ms(d.quantile(0.99))),
			attribute.Float64("sluice.write.max_ms", ms(d.longest)))
	}
	if a.Published != 0 {
		attrs = append(attrs, attribute.Float64("sluice.transit_ms", ms(a.Arrived-d.start)))
	}
	if d.clamped {
		attrs = append(attrs, attribute.Bool("sluice.clock.clamped", true))
	}
	if offset, bound, known := t.clock.Offset(); known {
		attrs = append(attrs,
			attribute.Int64("sluice.clock.offset_us", offset.Microseconds()),
			attribute.Int64("sluice.clock.error_us", bound.Microseconds()))
	}
	if !d.detailed {
		attrs = append(attrs, attribute.String("sluice.detail", "limited"))
	}
	o := []trace.SpanStartOption{
		trace.WithSpanKind(trace.SpanKindConsumer), trace.WithTimestamp(at(d.wall, d.start)), trace.WithAttributes(attrs...),
	}
	ctx := context.Background()
	switch {
	case d.parent.IsZero():
	case t.config.Linked:
		o = append(o, trace.WithLinks(link(d.parent, "publish", true)))
	default:
		ctx = d.parent.in(ctx, true)
	}
	_, s := t.sdk.Start(preset(ctx, d.self), spanDeliver+suffix, o...)
	if d.open > 0 {
		s.AddEvent("deadline", trace.WithTimestamp(at(d.wall, d.last)), trace.WithAttributes(attribute.Int("sluice.fanout.pending", d.open)))
	}
	finish(s, at(d.wall, d.last))
}

// kind is where a message came from.
func (a *Arrival) kind() string {
	switch {
	case a.Position != "":
		return "durable"
	case a.Published != 0:
		return "live"
	}
	return "raw" // plain PUBLISH
}

// push makes the spans of one socket.
func (d *Delivery) push(s *socket) {
	t := d.tracer
	queued := d.marks[s.Writer%markSlots]
	if queued == 0 || queued > s.Begin {
		queued = min(d.arrival.Arrived, s.Begin)
	}
	attrs := []attribute.KeyValue{
		attribute.String("sluice.transport", s.Over),
		attribute.String("sluice.session", base64.RawURLEncoding.EncodeToString(s.Session[:])),
		attribute.String("sluice.outcome", "written"),
		attribute.String("sluice.picked", s.by),
	}
	if s.Messages > 1 {
		attrs = append(attrs, attribute.Int("messaging.batch.message_count", s.Messages), attribute.Int("sluice.batch.index", s.Index))
	}
	var links []trace.Link
	for _, other := range s.Batch {
		if other != d && len(links) < maxLinks {
			links = append(links, link(other.self, "same-write", false))
		}
	}
	parent := d.self
	t.child(parent, s.span, spanPush+s.Over, at(d.wall, queued), at(d.wall, s.End), trace.WithAttributes(attrs...), trace.WithLinks(links...))
	self := Context{Trace: parent.Trace, Span: s.span, Sampled: true}
	var held []attribute.KeyValue
	if s.Released > queued {
		held = append(held, attribute.Float64("sluice.held_ms", ms(min(s.Released, s.Begin)-queued)))
	}
	t.child(self, [8]byte{}, spanQueue, at(d.wall, queued), at(d.wall, s.Begin), trace.WithAttributes(held...))
	t.child(self, [8]byte{}, spanWrite, at(d.wall, s.Begin), at(d.wall, s.End), trace.WithAttributes(attribute.Int("sluice.write.bytes", s.Bytes)))
	if s.Ages != nil {
		s.Ages.Exemplify(s.End-d.start, Exemplar{TraceID: self.Trace, SpanID: self.Span, Time: at(d.wall, s.End)})
	}
}

// decided makes the span of a conflation or a drop.
func (d *Delivery) decided(x *decision) {
	name := x.name
	if x.over != "" {
		name += " " + x.over
	}
	o := []trace.SpanStartOption{trace.WithAttributes(
		attribute.String("sluice.reason", x.reason), attribute.Int("sluice.subscribers", x.n))}
	if !x.by.IsZero() {
		o = append(o, trace.WithLinks(link(x.by, "superseded-by", false)))
	}
	ctx := d.self.in(context.Background(), false)
	_, s := d.tracer.sdk.Start(ctx, name, append(o, trace.WithTimestamp(at(d.wall, d.arrival.Arrived)))...)
	if x.failed {
		s.SetStatus(codes.Error, fmt.Sprintf("the session ended: %s", x.reason))
	}
	finish(s, at(d.wall, x.at))
}
