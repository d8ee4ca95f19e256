package otel

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
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

// Whoever owes a message nothing any more ends its delivery; who still does at the deadline is counted as pending.
func TestDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil, nil)
		d := r.Deliver(r.arrival(5))
		d.Wrote(r.write(1))
		d.Conflated("conflate", 1, Context{})
		d.Dropped("filter", 1)
		d.Left()
		time.Sleep(DefaultTracerConfig().Wait - time.Millisecond)
		synctest.Wait()
		if n := len(r.spans.Ended()); n != 0 {
			t.Errorf("%d spans before the deadline", n)
		}
		time.Sleep(time.Millisecond)
		synctest.Wait()
		s := r.span("deliver")
		if took := s.EndTime().Sub(s.StartTime()); took != DefaultTracerConfig().Wait+time.Millisecond {
			t.Errorf("it took %v from the publish to the deadline", took)
		}
		got := attributesOf(s)
		for _, name := range []string{"written", "conflated", "dropped", "left", "pending"} {
			if got["sluice.fanout."+name].AsInt64() != 1 {
				t.Errorf("%d %s, want one of each", got["sluice.fanout."+name].AsInt64(), name)
			}
		}
		time.Sleep(time.Second)
		d.Wrote(r.write(2)) // late
		d.Failed("sse", "slow")
		synctest.Wait()
		r.want(`
			deliver [consumer]
			  conflate reason=conflate
			  drop reason=filter
			  drop sse reason=slow ERROR
			  fan-out
			  push ws picked=hash
			    queue
			    write
			  push ws picked=hash
			    queue
			    write
			  transit
		`, "sluice.reason", "sluice.picked")
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

// The same few sessions are not picked for each message, about as many as asked for are, and the slowest and the pinned always.
func TestSocketsPicked(t *testing.T) {
	const subscribers, messages = 1000, 200
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil, func(c *TracerConfig) { c.Detail = messages })
		for range messages {
			d := r.Deliver(r.arrival(subscribers))
			for n := range subscribers {
				w := r.write(n)
				w.Pinned = n == 7
				if n == 500 {
					w.End += int64(time.Second)
				}
				d.Wrote(w)
			}
		}
		synctest.Wait()
		by, sessions := map[string]int{}, map[string]bool{}
		for _, s := range r.spans.Ended() {
			if s.Name() == "push ws" {
				a := attributesOf(s)
				by[a["sluice.picked"].AsString()]++
				sessions[a["sluice.session"].AsString()] = true
			}
		}
		if n := by[pickedHash]; n < messages*4 || n > messages*8 {
			t.Errorf("%d sessions picked by hash of %d messages, want about 6 each", n, messages)
		}
		if by[pickedPinned] != messages || by[pickedSlowest] < messages*9/10 || by[pickedSlowest] > messages {
			t.Errorf("picked %v of %d messages", by, messages)
		}
		if len(sessions) < subscribers/2 {
			t.Errorf("only %d of %d sessions were ever picked", len(sessions), subscribers)
		}
		s := r.spans.Ended()
		if n := float64(len(s)) / messages; n > 3+3*(6*1.5+2) {
			t.Errorf("%.1f spans a message", n)
		}
	})
}

// Above so many messages a second there are no sockets, but for one that is slow.
func TestDetailIsLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil, func(c *TracerConfig) { c.Detail = 1 })
		for _, late := range []time.Duration{0, 0, 2 * time.Second} {
			d := r.Deliver(r.arrival(1))
			w := r.write(1)
			w.End += int64(late)
			d.Wrote(w)
		}
		synctest.Wait()
		r.want(`
			deliver [consumer]
			  fan-out
			  push ws picked=hash
			    queue
			    write
			  transit
			deliver [consumer] detail=limited
			  fan-out
			  push ws picked=slowest
			    queue
			    write
			  transit
			deliver [consumer] detail=limited
			  fan-out
			  transit
		`, "sluice.detail", "sluice.picked")
	})
}

func TestQuantiles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil, func(c *TracerConfig) { c.Sockets = 0 })
		d := r.Deliver(r.arrival(100))
		for n := range 100 {
			w := r.write(n)
			w.End = d.start + int64(n+1)*int64(time.Millisecond)
			d.Wrote(w)
		}
		synctest.Wait()
		a := attributesOf(r.span("deliver"))
		p50, p99, most := a["sluice.write.p50_ms"].AsFloat64(), a["sluice.write.p99_ms"].AsFloat64(), a["sluice.write.max_ms"].AsFloat64()
		if p50 < 50 || p50 > 50*17./16 || p99 < 99 || p99 > 100 || most != 100 {
			t.Errorf("p50 %v, p99 %v, max %v of 1 to 100 ms", p50, p99, most)
		}
	})
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

func TestTrust(t *testing.T) {
	caller := "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	for _, tt := range []struct {
		trust Trust
		head  sdktrace.Sampler
		want  string
		same  bool
	}{
		{TrustLink, sdktrace.AlwaysSample(), "POST /publish [server] →caller\n  publish [producer]\n", false},
		{TrustLink, sdktrace.NeverSample(), "", false}, // a stranger's flag forces nothing
		{TrustIgnore, sdktrace.AlwaysSample(), "POST /publish [server]\n  publish [producer]\n", false},
		{TrustIgnore, sdktrace.NeverSample(), "", false},
		{TrustParent, sdktrace.NeverSample(), "POST /publish [server]\n  publish [producer]\n", true},
	} {
		r := newRig(t, sdktrace.ParentBased(tt.head), func(c *TracerConfig) { c.Trust = tt.trust })
		ctx, request := r.Request(t.Context(), "POST", "/publish", "/publish", "http", caller)
		publish := r.Publish(ctx, "a", "", false, time.Now())
		publish.Published(r.clock, "", false, nil)
		request.Answered(r.clock, 200, "")
		r.want(tt.want)
		if same := strings.Contains(publish.Context().String(), caller[3:35]); same != tt.same {
			t.Errorf("%s: the trace is %v", tt.trust, publish.Context())
		}
		if publish.Context().Sampled != (tt.want != "") || publish.Context().IsZero() {
			t.Errorf("%s: the message goes on with %v", tt.trust, publish.Context())
		}
	}
}

// A message may come with a traceparent of its own, next to that of the request that brings many of them.
func TestTrustOfAMessage(t *testing.T) {
	own := "00-11111111111111111111111111111111-2222222222222222-01"
	r := newRig(t, nil, func(c *TracerConfig) { c.Trust = TrustParent })
	ctx, request := r.Request(t.Context(), "POST", "/publish", "/publish", "http", "")
	publish := r.Publish(ctx, "a", own, false, time.Now())
	publish.Published(r.clock, "", false, nil)
	request.Answered(r.clock, 503, "unavailable")
	r.want("POST /publish [server] ERROR\npublish [producer] →request\n")
	if s := r.span("publish"); s.Parent().SpanID().String() != own[36:52] || s.SpanContext().TraceID().String() != own[3:35] {
		t.Errorf("its parent is %v", s.Parent())
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

// A message in one write with others is linked to them, and each has spans in its own trace.
func TestBatchLinks(t *testing.T) {
	r := newRig(t, nil, nil)
	var all []*Delivery
	for range 40 {
		all = append(all, r.Deliver(r.arrival(1)))
	}
	w := r.write(1)
	w.Messages, w.Batch = 40, all
	for i, d := range all {
		w.Index = i
		d.Wrote(w)
	}
	r.stop()
	pushes := 0
	for _, s := range r.spans.Ended() {
		if s.Name() != "push ws" {
			continue
		}
		pushes++
		if a := attributesOf(s); len(s.Links()) != maxLinks || a["messaging.batch.message_count"].AsInt64() != 40 {
			t.Errorf("%d links, %v", len(s.Links()), a)
		}
		for _, l := range s.Links() {
			if l.SpanContext.TraceID() == s.SpanContext().TraceID() {
				t.Error("it is linked to itself")
			}
		}
	}
	if pushes != 40 {
		t.Errorf("%d pushes, want 40", pushes)
	}
}

func TestAck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil, func(c *TracerConfig) { c.Sockets = 1; c.Slow = 0 })
		d := r.Deliver(r.arrival(1))
		w := r.write(1)
		d.Wrote(w)
		synctest.Wait()
		time.Sleep(20 * time.Millisecond)
		told := d.Context().String()
		if !r.Ack(w.Session, "ws", told, Now()) || !r.Ack([12]byte{1}, "ws", told, Now()) {
			t.Error("not found")
		}
		for _, bad := range []string{"", "x", told[:3] + "00000000000000000000000000000001" + told[35:], told[:36] + "0000000000000001-01"} {
			if r.Ack(w.Session, "ws", bad, Now()) {
				t.Errorf("%q was acknowledged", bad)
			}
		}
		synctest.Wait()
		r.want(`
			deliver [consumer]
			  client-ack from=publish
			  fan-out
			  push ws
			    client-ack from=write
			    queue
			    write
			  transit
		`, "sluice.ack.from")
		for _, s := range r.spans.Ended() {
			if s.Name() != "client-ack" {
				continue
			}
			want := 21 * time.Millisecond // from the publish
			if attributesOf(s)["sluice.ack.from"].AsString() == "write" {
				want = 19 * time.Millisecond
			}
			if took := s.EndTime().Sub(s.StartTime()); took != want {
				t.Errorf("client-ack takes %v, want %v", took, want)
			}
		}
		for range 1000 {
			r.Ack(w.Session, "ws", told, Now())
		}
		synctest.Wait()
		if n := len(r.spans.Ended()); n > 6+maxDecisions {
			t.Errorf("a client has made %d spans", n)
		}
	})
}

func TestConnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil, nil)
		sampled := "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
		c := r.Connect("sse", "/sse", "http", sampled, Now())
		c.Session("abc")
		for range 3 {
			c.Replay("news").Add(sampled)
		}
		c.Replay("news").Add(sampled[:54] + "0")
		time.Sleep(4 * time.Millisecond)
		c.End(200, "")
		c.End(200, "again")
		r.Connect("ws", "/ws", "http", "", Now()).End(403, "forbidden")
		synctest.Wait()
		r.want(`
			connect sse [server] session=abc status_code=200 →caller
			  replay message_count=4 →replayed →replayed →replayed
			connect ws [server] status_code=403 type=forbidden
		`, "http.response.status_code", "error.type", "sluice.session", "messaging.batch.message_count")
		if s := r.span("connect sse"); s.EndTime().Sub(s.StartTime()) != 4*time.Millisecond {
			t.Errorf("it took %v", s.EndTime().Sub(s.StartTime()))
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

// A message that is not sampled allocates nothing, nor does a write of a traced one that is not picked.
func TestTracingAllocatesNothing(t *testing.T) {
	r := newRig(t, sdktrace.ParentBased(sdktrace.NeverSample()), nil)
	a := r.arrival(1000)
	a.Trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
	if n := testing.AllocsPerRun(100, func() {
		if r.Deliver(a) != nil {
			t.Fatal("it is traced")
		}
	}); n != 0 {
		t.Errorf("%v allocations for a message that is not sampled", n)
	}
	a.Trace, a.Subscribers = a.Trace[:54]+"1", 1<<30
	d, w := r.Deliver(a), r.write(1)
	w.Session[0] = 0xff
	if n := testing.AllocsPerRun(1000, func() { w.Session[3]++; d.Wrote(w) }); n > 0.1 {
		t.Errorf("%v allocations a write", n)
	}
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

func BenchmarkWrote(b *testing.B) {
	t := newTracer(sdktrace.NewTracerProvider(), sdktrace.AlwaysSample(), nil, DefaultTracerConfig())
	b.Run("not traced", func(b *testing.B) {
		var d *Delivery
		w := new(Write)
		for b.Loop() {
			d.Wrote(w)
		}
	})
	b.Run("traced", func(b *testing.B) {
		d := t.Deliver(Arrival{Channel: "a", Arrived: Now(), Subscribers: 1 << 40})
		w := &Write{Over: "ws"}
		for b.Loop() {
			w.End++
			w.Session[2]++
			d.Wrote(w)
		}
	})
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
