package otel

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/time/rate"
)

// Trust is what a caller's traceparent decides. Callers are clients of the HTTP endpoints and of WebSocket commands; who can
// write to Redis is always trusted.
type Trust string

// Values of Trust.
const (
	TrustLink   Trust = "link"   // nothing: spans begin a trace of their own, and have a link to the caller's
	TrustParent Trust = "parent" // the trace, and whether it is sampled
	TrustIgnore Trust = "ignore" // nothing at all
)

// TracerConfig says how messages are traced. DefaultTracerConfig has the defaults.
type TracerConfig struct {
	Trust Trust // of callers' traceparents; default TrustLink

	// Linked makes a node's deliver span the root of a trace of its own, with a link to the publish; else it is a child of it.
	Linked bool

	Sockets int           // of a message's fan-out, about so many sockets have spans, at most twice as many; the slowest and pinned ones besides; default 6
	Detail  float64       // messages a second of which sockets have spans, at most; default 50
	Slow    time.Duration // publish to write, less what policies hold back: above it an unsampled message is traced, too; default 1 s, 0: none is
	Wait    time.Duration // after it a deliver span ends, though clients have not taken the message; default 5 s

	System   string                      // messaging.system: "redis"; default "sluice"
	Template func(channel string) string // the name that spans have for a channel, such as its rule's pattern; nil or "": none
}

// DefaultTracerConfig returns the defaults.
func DefaultTracerConfig() TracerConfig {
	return TracerConfig{System: "sluice", Trust: TrustLink, Sockets: 6, Detail: 50, Slow: time.Second, Wait: 5 * time.Second}
}

// Bounds of what a tracer holds and makes.
const (
	maxInFlight  = 4096 // deliveries that are not over
	maxRecent    = 1024 // of those that are, for acknowledgements that come late
	outlierRate  = 5    // slow messages a second that were not sampled
	pinnedRate   = 50   // messages a second of pinned sessions that were not sampled
	maxLate      = 4096 // of those whose spans are made later
	maxLinks     = 16   // on one span; 16 cost 3 µs and 8 KiB
	maxPinned    = 64   // sockets of one message that have spans, pinned ones too
	maxDecisions = 32   // conflations and drops of one message that have spans
)

// Tracer decides which messages are traced and makes their spans, once they are over: on the way of a message there are
// only a few stores. A nil Tracer traces nothing; callers ask Deliver and others only if they have one.
//
// All methods may be called concurrently.
type Tracer struct {
	config      TracerConfig
	clock       *Clock
	sdk         trace.Tracer
	head        sdktrace.Sampler
	followsHead bool // a parent's decision is taken, not made again
	detail      *rate.Limiter
	outliers    *rate.Limiter
	pinned      *rate.Limiter

	inFlight atomic.Int64
	refused  atomic.Int64 // messages that were sampled while too many were in flight

	mu       sync.Mutex
	waiting  []*Delivery // in the order of their deadlines
	finished []*Delivery
	late     []func()              // spans of what came after that
	recent   []*Delivery           // a ring, by next
	next     int                   // in recent
	known    map[[8]byte]*Delivery // waiting and recent ones, by their own span
	wake     chan struct{}
}

// Tracer returns a tracer whose spans are exported, nil if traces are off. It may be called once.
func (t *Telemetry) Tracer(clock *Clock, c TracerConfig) *Tracer {
	p := t.tracerProvider(sdktrace.WithIDGenerator(ids{}))
	if p == nil {
		return nil
	}
	return newTracer(p, t.headSampler(), clock, c)
}

// newTracer returns a tracer that gives its spans to p, of which sampler decides at the head of a trace. Run has to run.
func newTracer(p *sdktrace.TracerProvider, sampler sdktrace.Sampler, clock *Clock, c TracerConfig) *Tracer {
	if clock == nil {
		clock = new(Clock)
	}
	return &Tracer{
		config:      c,
		clock:       clock,
		sdk:         p.Tracer(scopeName),
		head:        sampler,
		followsHead: strings.HasPrefix(sampler.Description(), "ParentBased"),
		detail:      rate.NewLimiter(rate.Limit(c.Detail), max(1, int(c.Detail))),
		outliers:    rate.NewLimiter(outlierRate, outlierRate),
		pinned:      rate.NewLimiter(pinnedRate, pinnedRate),
		recent:      make([]*Delivery, maxRecent),
		known:       map[[8]byte]*Delivery{},
		wake:        make(chan struct{}, 1),
	}
}

// Slow returns the age at its write above which a message is an outlier; 0: none is.
func (t *Tracer) Slow() time.Duration {
	if t == nil {
		return 0
	}
	return t.config.Slow
}

// Clock returns the node's clock.
func (t *Tracer) Clock() *Clock { return t.clock }

// sample decides about a trace. parent is zero at its root.
func (t *Tracer) sample(parent Context, id [16]byte) bool {
	if t.followsHead && !parent.IsZero() {
		return parent.Sampled
	}
	p := sdktrace.SamplingParameters{ParentContext: context.Background(), TraceID: id}
	return t.head.ShouldSample(p).Decision == sdktrace.RecordAndSample
}

// template is the name that spans have for a channel, after a space; "" if it has none.
func (t *Tracer) template(channel string) (template, suffix string) {
	if t.config.Template != nil {
		template = t.config.Template(channel)
	}
	if template == "" {
		return "", ""
	}
	return template, " " + template
}

// Arrival is a message that has come to a node where somebody listens.
type Arrival struct {
	Channel     string
	Position    string // "": it is not durable
	Trace       string // the traceparent that it came with
	Published   int64  // Unix nanoseconds as publish times are told; 0: unknown
	Arrived     int64  // of Now
	Subscribers int
}

// Deliver returns what is to be told of the delivery of a message, nil if it is not traced.
func (t *Tracer) Deliver(a Arrival) *Delivery {
	parent, ok := ParseContext(a.Trace)
	self := Context{Trace: parent.Trace, Sampled: true}
	switch {
	case ok && t.followsHead && !parent.Sampled:
		return nil
	case ok:
	case a.Position != "":
		self.Trace = sharedTraceID(a.Channel, a.Position)
	default:
		self.Trace = newTraceID()
	}
	if !t.sample(parent, self.Trace) {
		return nil
	}
	if t.inFlight.Add(1) > maxInFlight {
		t.inFlight.Add(-1)
		t.refused.Add(1)
		return nil
	}
	self.Span = newSpanID()
	d := &Delivery{tracer: t, arrival: a, parent: parent, self: self, open: a.Subscribers, sampled: sampledHead, detailed: t.detail.Allow()}
	if t.config.Linked && ok {
		d.self.Trace = newTraceID()
	}
	d.begin(t.clock)
	t.mu.Lock()
	t.waiting = append(t.waiting, d)
	t.known[d.self.Span] = d
	first := len(t.waiting) == 1
	t.mu.Unlock()
	if first {
		t.poke()
	}
	return d
}

// AllowOutlier reports whether another message may be traced that was not sampled: there are few a second.
func (t *Tracer) AllowOutlier(pinned bool) bool {
	if pinned {
		return t.pinned.Allow()
	}
	return t.outliers.Allow()
}

// Outlier has a message traced that was not sampled, because its write to a client came late, or because a session wants to
// see all of its messages; w.Pinned says which. There is one deliver span for each such client, in the trace that the message
// would have had. It is for who has asked AllowOutlier.
func (t *Tracer) Outlier(a Arrival, w *Write) {
	by := pickedSlow
	if w.Pinned {
		by = pickedPinned
	}
	c, ok := ParseContext(a.Trace)
	if !ok {
		c.Trace = newTraceID()
	}
	a.Subscribers = 1
	d := &Delivery{tracer: t, arrival: a, self: Context{Trace: c.Trace, Span: newSpanID(), Sampled: true}, sampled: by, detailed: true, done: true}
	d.begin(t.clock)
	d.written, d.last, d.longest = 1, w.End, w.End-d.start
	d.sockets = []socket{d.keep(w, by)}
	t.later(func() {
		d.emit()
		t.remember(d)
	})
}

// over hands a delivery of which all has been told to Run.
func (t *Tracer) over(d *Delivery) {
	t.mu.Lock()
	t.finished = append(t.finished, d)
	t.mu.Unlock()
	t.poke()
}

func (t *Tracer) poke() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// Run makes spans until ctx ends, and then those of what is in flight.
func (t *Tracer) Run(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-t.wake:
		case <-timer.C:
		case <-ctx.Done():
			t.turn(Now() + int64(t.config.Wait) + 1)
			return
		}
		if wait := t.turn(Now()); wait > 0 {
			timer.Reset(wait)
		} else {
			timer.Stop()
		}
	}
}

// turn makes the spans of deliveries that are over, and of those whose time is up. It returns how long the next one has, 0 if
// there is none.
func (t *Tracer) turn(now int64) (wait time.Duration) {
	t.mu.Lock()
	finished, lates := t.finished, t.late
	t.finished, t.late = nil, nil
	n := 0
	for n < len(t.waiting) {
		d := t.waiting[n]
		if due := d.arrival.Arrived + int64(t.config.Wait); now < due && !d.isOver() {
			wait = time.Duration(due - now)
			break
		}
		n++
	}
	late := t.waiting[:n:n]
	t.waiting = t.waiting[n:]
	if len(t.waiting) == 0 {
		t.waiting = nil
	}
	t.mu.Unlock()
	for _, d := range late {
		if d.expire() {
			finished = append(finished, d)
		}
	}
	for _, d := range finished {
		d.emit()
		t.remember(d)
		t.inFlight.Add(-1)
	}
	for _, f := range lates { // after the spans that theirs are children of
		f()
	}
	return wait
}

// remember keeps d for a while, for acknowledgements.
func (t *Tracer) remember(d *Delivery) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if old := t.recent[t.next]; old != nil {
		delete(t.known, old.self.Span)
		old.forget()
	}
	t.recent[t.next], t.known[d.self.Span] = d, d
	t.next = (t.next + 1) % len(t.recent)
}

// find returns the delivery that a client was told of by this context, nil if that is too long ago.
func (t *Tracer) find(c Context) *Delivery {
	t.mu.Lock()
	defer t.mu.Unlock()
	if d := t.known[c.Span]; d != nil && d.self.Trace == c.Trace {
		return d
	}
	return nil
}

// later has f called by Run: it makes spans, which is too much where messages are written.
func (t *Tracer) later(f func()) {
	t.mu.Lock()
	if len(t.late) < maxLate {
		t.late = append(t.late, f)
	} else {
		t.refused.Add(1)
	}
	t.mu.Unlock()
	t.poke()
}

// Measure tells the tracer's numbers. It may be called on nil.
func (t *Tracer) Measure(r *Readings) {
	var refused int64
	if t != nil {
		refused = t.refused.Load()
	}
	r.Value(TraceRefused, float64(refused))
}
