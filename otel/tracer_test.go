package otel

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// The spans of a message that two sessions get, from the request to the write.
func TestSpans(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil, func(c *TracerConfig) { c.Template = func(string) string { return "ticker.*" } })
		ctx, request := r.Request(t.Context(), "POST", "/publish/{channel}", "/publish/ticker.a", "http", "")
		at := r.clock.Publish()
		publish := r.Publish(ctx, "ticker.a", "", false, at)
		a := r.arrival(2)
		a.Trace, a.Published = publish.Context().String(), at.UnixNano()
		time.Sleep(5 * time.Millisecond)
		a.Arrived = Now()
		d := r.Deliver(a)
		publish.Published(r.clock, a.Position, false, nil)
		request.Answered(r.clock, 200, "")
		time.Sleep(time.Millisecond)
		d.Marked(0, Now())
		w := r.write(1)
		d.Wrote(w)
		time.Sleep(3 * time.Millisecond)
		w = r.write(2)
		w.Over = "sse"
		d.Wrote(w)
		synctest.Wait()
		r.want(`
			POST /publish/{channel} [server] status_code=200
			  publish ticker.* [producer] id=1795426843459-1-9f3c
			    deliver ticker.* [consumer] id=1795426843459-1-9f3c subscribers=2 written=2 pending=0
			      fan-out
			      push sse picked=hash
			        queue
			        write bytes=100
			      push ws picked=hash
			        queue
			        write bytes=100
			      transit
		`, "http.response.status_code", "messaging.message.id", "sluice.fanout.subscribers", "sluice.fanout.written", "sluice.fanout.pending",
			"sluice.picked", "sluice.write.bytes")
		deliver := r.span("deliver ticker.*")
		if !deliver.StartTime().Equal(at) {
			t.Errorf("the delivery begins %v after the publish time", deliver.StartTime().Sub(at))
		}
		for name, want := range map[string]time.Duration{
			"deliver ticker.*": 10 * time.Millisecond, "transit": 5 * time.Millisecond, "fan-out": time.Millisecond,
			"push ws": time.Millisecond, "push sse": 4 * time.Millisecond,
		} {
			if s := r.span(name); s.EndTime().Sub(s.StartTime()) != want {
				t.Errorf("%s takes %v, want %v", name, s.EndTime().Sub(s.StartTime()), want)
			}
		}
		got := attributesOf(deliver)
		for key, want := range map[string]string{
			"messaging.system": "sluice", "messaging.destination.name": "ticker.a", "messaging.destination.template": "ticker.*",
			"messaging.operation.type": "process", "sluice.kind": "durable", "sluice.sampled": "head",
			"sluice.write.max_ms": "10", "sluice.write.p99_ms": "10", "sluice.transit_ms": "5",
		} {
			if got[key].String() != want {
				t.Errorf("%s is %s, want %s", key, got[key].String(), want)
			}
		}
	})
}

// What a tracer holds ends with Run, written or not.
func TestRunEnds(t *testing.T) {
	r := newRig(t, nil, nil)
	d := r.Deliver(r.arrival(2))
	d.Wrote(r.write(1))
	r.stop()
	if got := attributesOf(r.span("deliver"))["sluice.fanout.pending"].AsInt64(); got != 1 {
		t.Errorf("%d pending, want 1", got)
	}
}

// What a message is traced by where nobody, or somebody else, has decided.
func TestDeliverDecides(t *testing.T) {
	sampled := "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	not := sampled[:54] + "0"
	half := sdktrace.TraceIDRatioBased(0.5)
	for _, tt := range []struct {
		name    string
		sampler sdktrace.Sampler
		trace   string
		want    bool
	}{
		{"a parent's yes", sdktrace.ParentBased(sdktrace.NeverSample()), sampled, true},
		{"a parent's no", sdktrace.ParentBased(sdktrace.AlwaysSample()), not, false},
		{"no parent, yes", sdktrace.ParentBased(sdktrace.AlwaysSample()), "", true},
		{"no parent, no", sdktrace.ParentBased(sdktrace.NeverSample()), "", false},
		{"what is no traceparent is none", sdktrace.ParentBased(sdktrace.NeverSample()), "x" + sampled[1:], false},
		{"whoever says no to all", sdktrace.NeverSample(), sampled, false},
		{"whoever says yes to all", sdktrace.AlwaysSample(), not, true},
		{"by the trace alone", half, sampled, half.ShouldSample(sdktrace.SamplingParameters{ParentContext: context.Background(),
			TraceID: trace.TraceID{8: 0x84, 9: 0x48}}).Decision == sdktrace.RecordAndSample},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, tt.sampler, nil)
			a := r.arrival(1)
			a.Trace = tt.trace
			d := r.Deliver(a)
			if got := d != nil; got != tt.want {
				t.Errorf("traced: %v, want %v", got, tt.want)
			}
			d.Wrote(r.write(1))
		})
	}
}

// Nodes that don't talk to each other put a durable message without a context into one trace, or none of them does.
func TestSharedTrace(t *testing.T) {
	sampler := sdktrace.ParentBased(sdktrace.TraceIDRatioBased(0.1))
	one, other := newRig(t, sampler, nil), newRig(t, sampler, nil)
	const messages = 3000
	both := 0
	for n := range messages {
		a := one.arrival(1)
		a.Position = fmt.Sprintf("1795426843459-%d-9f3c", n)
		d, e := one.Deliver(a), other.Deliver(a)
		if (d == nil) != (e == nil) || d != nil && (d.self.Trace != e.self.Trace || d.self.Span == e.self.Span) {
			t.Fatalf("%s: %v and %v", a.Position, d.Context(), e.Context())
		}
		if d != nil {
			both++
			d.Left()
			e.Left()
		}
	}
	if both < messages/20 || both > messages/6 {
		t.Errorf("%d of %d are sampled, want a tenth", both, messages)
	}
}

// A node may begin a trace of its own, with a link to the publish.
func TestLinked(t *testing.T) {
	r := newRig(t, nil, func(c *TracerConfig) { c.Linked = true })
	publish := r.Publish(t.Context(), "a", "", false, time.Now())
	publish.Published(r.clock, "", false, nil)
	a := r.arrival(1)
	a.Trace = publish.Context().String()
	r.Deliver(a).Left()
	r.stop()
	s := r.span("deliver")
	if s.Parent().IsValid() || s.SpanContext().TraceID() == trace.TraceID(publish.self.Trace) || len(s.Links()) != 1 ||
		s.Links()[0].SpanContext.SpanID() != trace.SpanID(publish.self.Span) {
		t.Errorf("parent %v, links %v", s.Parent(), s.Links())
	}
}

// A few slow messages a second are traced though nobody sampled them, in the trace that they would have had.
func TestOutliers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sdktrace.NeverSample(), nil)
		made := 0
		for range 3 {
			for range 100 {
				if r.AllowOutlier(false) {
					a := r.arrival(1)
					a.Trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
					r.Outlier(a, r.write(1))
					made++
				}
			}
			time.Sleep(time.Second)
		}
		synctest.Wait()
		if made != 3*outlierRate {
			t.Errorf("%d in three seconds, want %d", made, 3*outlierRate)
		}
		names := map[string]int{}
		for _, s := range r.spans.Ended() {
			names[s.Name()]++
			if s.SpanContext().TraceID().String() != "0af7651916cd43dd8448eb211c80319c" || s.Name() == "deliver" && s.Parent().IsValid() {
				t.Fatalf("%s is in %v, below %v", s.Name(), s.SpanContext().TraceID(), s.Parent())
			}
			if s.Name() == "deliver" && attributesOf(s)["sluice.sampled"].AsString() != "slow" {
				t.Error("it does not say why it is there")
			}
		}
		want := map[string]int{"deliver": made, "transit": made, "fan-out": made, "push ws": made, "queue": made, "write": made}
		if !maps.Equal(names, want) {
			t.Errorf("got %v, want %v", names, want)
		}
	})
}

// A clock that is wrong changes when spans are, not how long they take; a message from the future is marked.
func TestSkew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, tt := range []struct {
			name          string
			skew, offset  time.Duration
			clamped       bool
			took, transit time.Duration
		}{
			{"right", 0, 0, false, 9 * time.Millisecond, 8 * time.Millisecond},
			{"ahead, known", 50 * time.Millisecond, -50 * time.Millisecond, false, 9 * time.Millisecond, 8 * time.Millisecond},
			{"behind, known", -50 * time.Millisecond, 50 * time.Millisecond, false, 9 * time.Millisecond, 8 * time.Millisecond},
			{"ahead, unknown", 50 * time.Millisecond, 0, false, 59 * time.Millisecond, 58 * time.Millisecond},
			{"behind, unknown", -50 * time.Millisecond, 0, true, time.Millisecond, 0},
		} {
			r := newRig(t, nil, nil)
			r.clock.Skew = tt.skew
			if tt.offset != 0 {
				r.clock.Estimate(tt.offset, 100*time.Microsecond)
			}
			published := time.Now()
			time.Sleep(8 * time.Millisecond)
			d := r.Deliver(Arrival{Channel: "a", Published: published.UnixNano(), Arrived: Now(), Subscribers: 1})
			d.Wrote(r.write(1))
			synctest.Wait()
			s := r.span("deliver")
			a := attributesOf(s)
			if took := s.EndTime().Sub(s.StartTime()); took != tt.took || a["sluice.clock.clamped"].AsBool() != tt.clamped {
				t.Errorf("%s: it takes %v, clamped: %v", tt.name, took, a["sluice.clock.clamped"].AsBool())
			}
			if got := a["sluice.transit_ms"].AsFloat64(); got != ms(int64(tt.transit)) {
				t.Errorf("%s: transit %v ms, want %v", tt.name, got, tt.transit)
			}
			if offset, there := a["sluice.clock.offset_us"]; there != (tt.offset != 0) || there && offset.AsInt64() != tt.offset.Microseconds() {
				t.Errorf("%s: offset %v µs", tt.name, offset.AsInt64())
			}
			r.stop()
		}
	})
}

// More than can be in flight are not traced, and counted.
func TestInFlightIsBounded(t *testing.T) {
	r := newRig(t, nil, nil)
	all := make([]*Delivery, 0, maxInFlight)
	for range maxInFlight + 10 {
		if d := r.Deliver(r.arrival(1)); d != nil {
			all = append(all, d)
		}
	}
	if len(all) != maxInFlight || r.refused.Load() != 10 {
		t.Errorf("%d in flight, %d refused", len(all), r.refused.Load())
	}
}

func BenchmarkDeliver(b *testing.B) {
	for name, a := range map[string]Arrival{
		"unsampled parent":  {Channel: "a", Trace: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"},
		"durable, no trace": {Channel: "a", Position: "1795426843459-0-9f3c"},
		"live, no trace":    {Channel: "a"},
	} {
		b.Run(name, func(b *testing.B) {
			t := newTracer(sdktrace.NewTracerProvider(), sdktrace.ParentBased(sdktrace.NeverSample()), nil, DefaultTracerConfig())
			b.ReportAllocs()
			for b.Loop() {
				t.Deliver(a)
			}
		})
	}
}

// Jaeger warns of spans without a length: each has one, however little there was to do.
func TestSpansLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // where time stands still
		r := newRig(t, nil, nil)
		a := r.arrival(2)
		a.Published += int64(2 * time.Millisecond) // in this node's future
		d := r.Deliver(a)
		d.Dropped("filter", 1)
		w := r.write(0)
		w.End = w.Begin
		d.Wrote(w)
		r.Ack(w.Session, w.Over, d.Context().String(), w.End)
		r.Outlier(r.arrival(1), w)
		c := r.Connect("ws", "GET", "/ws", "http", "", Now())
		c.Replay("ticker.a").Add("")
		c.End(101, "")
		_, request := r.Request(t.Context(), "POST", "/publish", "/publish", "http", "")
		r.Publish(t.Context(), "ticker.a", "", false, r.Clock().Now()).Published(r.Clock(), "", false, nil)
		request.Answered(r.Clock(), 200, "")
		synctest.Wait()
		r.stop()
		names := map[string]bool{}
		for _, s := range r.spans.Ended() {
			names[s.Name()] = true
			if !s.EndTime().After(s.StartTime()) {
				t.Errorf("%s lasts %v", s.Name(), s.EndTime().Sub(s.StartTime()))
			}
		}
		if want := 12; len(names) != want {
			t.Errorf("there are spans of %d names, want %d: %v", len(names), want, slices.Sorted(maps.Keys(names)))
		}
	})
}
