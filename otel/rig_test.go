package otel

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"sluice/otel/oteltest"
)

// rig is a tracer whose spans are kept.
type rig struct {
	*Tracer
	t     *testing.T
	spans *tracetest.SpanRecorder
	stop  func()
	came  int
}

// newRig must be called where the time is that of the test. All is sampled unless sampler is something else.
func newRig(t *testing.T, sampler sdktrace.Sampler, change func(*TracerConfig)) *rig {
	t.Helper()
	if sampler == nil {
		sampler = sdktrace.ParentBased(sdktrace.AlwaysSample())
	}
	c := DefaultTracerConfig()
	if change != nil {
		change(&c)
	}
	r := &rig{t: t, spans: tracetest.NewSpanRecorder()}
	p := sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.AlwaysSample()), sdktrace.WithIDGenerator(ids{}), sdktrace.WithSpanProcessor(r.spans))
	r.Tracer = newTracer(p, sampler, new(Clock), c)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { r.Run(ctx) })
	r.stop = sync.OnceFunc(func() { cancel(); running.Wait() })
	t.Cleanup(r.stop)
	return r
}

// arrival is a message that was published a millisecond before it came, to so many subscribers.
func (r *rig) arrival(subscribers int) Arrival {
	now := Now()
	r.came++
	return Arrival{
		Channel: "ticker.a", Position: fmt.Sprintf("1795426843459-%d-9f3c", r.came), Published: now + r.clock.Wall() - int64(time.Millisecond), Arrived: now, Subscribers: subscribers,
	}
}

// write is a write that takes a millisecond, to the n-th session.
func (r *rig) write(n int) *Write {
	w := &Write{Over: "ws", Begin: Now(), End: Now() + int64(time.Millisecond), Bytes: 100, Messages: 1}
	w.Session[7] = byte(n)
	w.Session[6] = byte(n >> 8)
	return w
}

// tree renders the spans that have ended: name, kind, the attributes that are asked for, links.
func (r *rig) tree(show ...string) string {
	var nodes []oteltest.Node
	for _, s := range r.spans.Ended() {
		line := s.Name()
		if k := s.SpanKind(); k != trace.SpanKindInternal {
			line += " [" + k.String() + "]"
		}
		for _, a := range s.Attributes() {
			if slices.Contains(show, string(a.Key)) {
				line += fmt.Sprintf(" %s=%s", a.Key[strings.LastIndex(string(a.Key), ".")+1:], a.Value.String())
			}
		}
		for _, l := range s.Links() {
			line += " →" + l.Attributes[0].Value.String()
		}
		if s.Status().Code == codes.Error {
			line += " ERROR"
		}
		nodes = append(nodes, oteltest.Node{ID: s.SpanContext().SpanID().String(), Parent: s.Parent().SpanID().String(), Text: line})
	}
	return oteltest.Tree(nodes)
}

func (r *rig) want(tree string, show ...string) {
	r.t.Helper()
	tree = strings.TrimLeft(strings.ReplaceAll(tree, "\t", ""), "\n")
	if got := r.tree(show...); got != tree {
		r.t.Errorf("got the spans\n%swant\n%s", got, tree)
	}
}

// span returns the only span of that name.
func (r *rig) span(name string) sdktrace.ReadOnlySpan {
	r.t.Helper()
	var found sdktrace.ReadOnlySpan
	for _, s := range r.spans.Ended() {
		if s.Name() == name {
			if found != nil {
				r.t.Fatalf("there are several spans %q", name)
			}
			found = s
		}
	}
	if found == nil {
		r.t.Fatalf("there is no span %q in\n%s", name, r.tree())
	}
	return found
}

func attributesOf(s sdktrace.ReadOnlySpan) map[string]attribute.Value {
	m := map[string]attribute.Value{}
	for _, a := range s.Attributes() {
		m[string(a.Key)] = a.Value
	}
	return m
}
