package otel

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// Span is a span that is under way: a request, or a publish. One that is not sampled has a context, which goes on with the
// message, and nothing else. All methods may be called on nil.
type Span struct {
	sdk  trace.Span // nil: it is not sampled
	self Context
}

// Context returns what names s; zero for nil.
func (s *Span) Context() Context {
	if s == nil {
		return Context{}
	}
	return s.self
}

// start begins a span in the trace that inside (a span of this node), or else caller (a traceparent), decides.
func (t *Tracer) start(ctx context.Context, caller, name string, o ...trace.SpanStartOption) (context.Context, *Span) {
	inside := ContextOf(ctx)
	from, told := ParseContext(caller)
	parent, remote := inside, false
	if told && t.config.Trust == TrustParent {
		parent, remote = from, true
	}
	self := Context{Trace: parent.Trace, Span: newSpanID()}
	if parent.IsZero() {
		self.Trace = newTraceID()
	}
	if parent == inside && !inside.IsZero() {
		self.Sampled = inside.Sampled // decided already
	} else {
		self.Sampled = t.sample(parent, self.Trace)
	}
	s := &Span{self: self}
	if self.Sampled {
		switch {
		case told && t.config.Trust == TrustLink:
			o = append(o, trace.WithLinks(link(from, "caller", true)))
		case remote && !inside.IsZero():
			o = append(o, trace.WithLinks(link(inside, "request", false)))
		}
		_, s.sdk = t.sdk.Start(preset(parent.in(context.Background(), remote), self), name, o...)
	}
	return self.in(ctx, false), s
}

// Request begins the server span of a request to a route such as POST /publish/{channel}; path is what stands in its
// place, scheme http or https, caller the traceparent that came along.
func (t *Tracer) Request(ctx context.Context, method, route, path, scheme, caller string) (context.Context, *Span) {
	return t.start(ctx, caller, method+" "+route, trace.WithSpanKind(trace.SpanKindServer), trace.WithTimestamp(t.clock.Now()),
		trace.WithAttributes(requestAttributes(method, route, path, scheme)...))
}

func requestAttributes(method, route, path, scheme string) []attribute.KeyValue {
	return []attribute.KeyValue{
		attribute.String("http.request.method", method),
		attribute.String("http.route", route),
		attribute.String("url.path", path),
		attribute.String("url.scheme", scheme),
	}
}

// Answered ends a server span: with the status, and the code of the problem if it was one.
func (s *Span) Answered(c *Clock, status int, problem string) {
	if s == nil || s.sdk == nil {
		return
	}
	answered(s.sdk, status, problem)
	finish(s.sdk, c.Now())
}

func answered(s trace.Span, status int, problem string) {
	s.SetAttributes(attribute.Int("http.response.status_code", status))
	if problem != "" {
		s.SetAttributes(attribute.String("error.type", problem))
	}
	if status >= 500 { // what the caller did wrong is no error of a server (HTTP conventions)
		s.SetStatus(codes.Error, problem)
	}
}

// Publish begins the span of a publish at the message's publish time, at of the node's clock. Its context goes with the message.
func (t *Tracer) Publish(ctx context.Context, channel, caller string, live bool, at time.Time) *Span {
	template, suffix := t.template(channel)
	_, s := t.start(ctx, caller, spanPublish+suffix, trace.WithSpanKind(trace.SpanKindProducer), trace.WithTimestamp(at))
	if s.sdk != nil {
		s.sdk.SetAttributes(t.messaging(spanPublish, "send", channel, template, "")...)
		s.sdk.SetAttributes(attribute.Bool("sluice.live", live))
	}
	return s
}

// Published ends a publish span: with the position, "" if it has none, or with what went wrong.
func (s *Span) Published(c *Clock, position string, duplicate bool, err error) {
	if s == nil || s.sdk == nil {
		return
	}
	if position != "" {
		s.sdk.SetAttributes(attribute.String("messaging.message.id", position))
	}
	if duplicate {
		s.sdk.SetAttributes(attribute.Bool("sluice.duplicate", true))
	}
	if err != nil {
		s.sdk.SetStatus(codes.Error, "not acknowledged")
	}
	finish(s.sdk, c.Now())
}
