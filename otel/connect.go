package otel

import (
	"context"
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
)

// Connect is a request to listen, from its head until the session has what it came for: the connection goes on, its span does
// not. It is for one goroutine at a time. All methods may be called on nil.
type Connect struct {
	tracer  *Tracer
	over    string // ws, sse or poll
	attrs   []attribute.KeyValue
	parent  Context // of a caller who is trusted
	caller  Context // of one who is not, to link to
	self    Context
	wall    int64
	begin   int64
	replays []*Replay
	once    sync.Once
}

// Replay is what a session had missed of one channel. Its messages have spans elsewhere, or none; their deliver spans do not
// know of it, since it says how long a client was away.
type Replay struct {
	Channel  string
	Messages int
	Begin    int64 // of Now
	End      int64
	links    []Context
}

// Connect begins the span of a request to listen, nil if it is not sampled. caller is the traceparent that came along, begin a time of Now.
func (t *Tracer) Connect(over, method, route, scheme, caller string, begin int64) *Connect {
	c := &Connect{tracer: t, over: over, begin: begin, wall: t.clock.wall(), attrs: requestAttributes(method, route, route, scheme)}
	from, told := ParseContext(caller)
	switch {
	case told && t.config.Trust == TrustParent:
		c.parent = from
	case told && t.config.Trust == TrustLink:
		c.caller = from
	}
	c.self = Context{Trace: c.parent.Trace, Span: newSpanID(), Sampled: true}
	if c.parent.IsZero() {
		c.self.Trace = newTraceID()
	}
	if !t.sample(c.parent, c.self.Trace) {
		return nil
	}
	return c
}

// In returns a context in which logs name the span.
func (c *Connect) In(ctx context.Context) context.Context {
	if c == nil {
		return ctx
	}
	return c.self.in(ctx, false)
}

// Session notes the session's name.
func (c *Connect) Session(name string) {
	if c != nil {
		c.attrs = append(c.attrs, attribute.String("sluice.session", name))
	}
}

// Replay returns what is noted of a channel of which the client had missed something.
func (c *Connect) Replay(channel string) *Replay {
	for _, r := range c.replays {
		if r.Channel == channel {
			return r
		}
	}
	r := &Replay{Channel: channel, Begin: Now()}
	c.replays = append(c.replays, r)
	return r
}

// Add notes that one message is written again, which came with this traceparent.
func (r *Replay) Add(traceparent string) {
	r.Messages++
	if len(r.links) < maxLinks {
		if c, ok := ParseContext(traceparent); ok && c.Sampled {
			r.links = append(r.links, c)
		}
	}
}

// End ends the span; only the first call counts. problem is the code of a refusal, or why the session ended before it had begun; "" if neither.
func (c *Connect) End(status int, problem string) {
	if c == nil {
		return
	}
	end := Now()
	c.once.Do(func() { c.tracer.later(func() { c.emit(status, problem, end) }) })
}

func (c *Connect) emit(status int, problem string, end int64) {
	t := c.tracer
	o := []trace.SpanStartOption{
		trace.WithSpanKind(trace.SpanKindServer), trace.WithTimestamp(at(c.wall, c.begin)), trace.WithAttributes(c.attrs...),
	}
	if !c.caller.IsZero() {
		o = append(o, trace.WithLinks(link(c.caller, "caller", true)))
	}
	_, s := t.sdk.Start(preset(c.parent.in(context.Background(), true), c.self), spanConnect+c.over, o...)
	answered(s, status, problem)
	finish(s, at(c.wall, end))
	for _, r := range c.replays {
		template, suffix := t.template(r.Channel)
		attrs := append(t.messaging(spanReplay, "process", r.Channel, template, ""), attribute.Int("messaging.batch.message_count", r.Messages))
		var links []trace.Link
		for _, x := range r.links {
			links = append(links, link(x, "replayed", true))
		}
		stop := r.End
		if stop == 0 {
			stop = end
		}
		t.child(c.self, [8]byte{}, spanReplay+suffix, at(c.wall, r.Begin), at(c.wall, stop), trace.WithAttributes(attrs...), trace.WithLinks(links...))
	}
}
