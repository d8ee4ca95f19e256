package e2e

import (
	"fmt"
	"strings"
	"testing"
)

// outdent takes n tabs from the begin of each line.
func outdent(text string, n int) string {
	return strings.ReplaceAll(text, "\n"+strings.Repeat("\t", n), "\n")
}

// TestJaegerWaysIn: what the trace of a message looks like, by how it was published.
func TestJaegerWaysIn(t *testing.T) {
	t.Parallel()
	j := startJaeger(t, 0)
	r := newTraced(t, j, 2, map[string]rule{"orders.*": {}}, nil)
	all := r.hearEverywhere("orders.eu")
	r.waysRaw(all)
	r.waysFunction(all)
	r.waysFunctionTraced(all)
	r.waysFunctionUnsampled(all)
	r.waysLive(all)
}

// told has all listeners read a message, and returns the traces and spans that they were told, by node; "" where none was.
func (r *traced) told(all []*listener, data string) (traces, spans [2]string) {
	r.Helper()
	for i, l := range all {
		tp := l.want(data).body.Traceparent
		traceID, spanID := "", ""
		if tp != "" {
			traceID, spanID = contextOf(r.T, tp)
		}
		if i%2 == 0 {
			traces[l.node], spans[l.node] = traceID, spanID
		} else if traceID != traces[l.node] || spanID != spans[l.node] {
			r.Errorf("the clients of node %s are told %s and %s", r.nodes[l.node].name, spans[l.node], spanID)
		}
	}
	return traces, spans
}

// waysRaw: nobody says when it was published and by whom, and the nodes do not know of each other.
func (r *traced) waysRaw(all []*listener) {
	r.redis.do("PUBLISH", "orders.eu", "raw")
	traces, spans := r.told(all, "raw")
	if traces[0] == traces[1] {
		r.Errorf("both nodes have it in the trace %s", traces[0])
	}
	for i := range traces {
		tr := r.jaeger.await(traces[i], hasSpans(8))
		tr.wantsShape(strings.TrimSuffix(outdent(delivered, 2), "\n\t\ttransit"))
		tr.wantsNoWarnings()
		d := tr.only("deliver orders.*")
		d.wants("consumer", map[string]string{"sluice.kind": "raw", "messaging.destination.name": "orders.eu", "messaging.message.id": "",
			"sluice.transit_ms": "", "sluice.fanout.written": "2"})
		if d.ID != spans[i] || d.parentID() != "" || d.begin() != d.child("fan-out").begin() {
			r.Errorf("clients are told %s:\n%v", spans[i], tr)
		}
	}
}

// waysFunction: without a word between them the nodes have it in one trace.
func (r *traced) waysFunction(all []*listener) {
	position := r.fcall("orders.eu", "fcall")
	traces, spans := r.told(all, "fcall")
	if traces[0] != traces[1] || spans[0] == spans[1] {
		r.Errorf("clients of the two nodes are told the traces %v, spans %v", traces, spans)
	}
	tr := r.jaeger.await(traces[0], hasSpans(18))
	tr.wantsShape(outdent(delivered+delivered, 2))
	tr.wantsNoWarnings()
	for _, d := range tr.roots() {
		d.wants("consumer", map[string]string{"sluice.kind": "durable", "messaging.message.id": position})
		d.wantsTimes()
		if d.Start != tr.Spans[0].Start || d.parentID() != "" { // both know the publish time
			r.Errorf("the deliveries do not begin with the publish:\n%v", tr)
		}
	}
	if tr.roots()[0].resource("service.instance.id") == tr.roots()[1].resource("service.instance.id") {
		r.Errorf("both are of one node:\n%v", tr)
	}
}

// A publisher's own span, which Jaeger does not know.
const foreignTrace, foreignSpan = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"

// waysFunctionTraced: who can write to Redis is trusted.
func (r *traced) waysFunctionTraced(all []*listener) {
	position := r.fcall("orders.eu", "traced", "traceparent", "00-"+foreignTrace+"-"+foreignSpan+"-01")
	traces, spans := r.told(all, "traced")
	if traces != [2]string{foreignTrace, foreignTrace} || spans[0] == foreignSpan || spans[0] == spans[1] {
		r.Errorf("clients are told the traces %v, spans %v", traces, spans)
	}
	tr := r.jaeger.await(foreignTrace, hasSpans(18))
	tr.wantsShape(outdent(delivered+delivered, 2))
	for _, d := range tr.named("deliver orders.*") {
		d.wants("consumer", map[string]string{"sluice.kind": "durable", "messaging.message.id": position})
		if d.parentID() != foreignSpan {
			r.Errorf("the parent is %q", d.parentID())
		}
	}
}

func (r *traced) waysFunctionUnsampled(all []*listener) {
	unsampled := strings.Repeat("ab", 16)
	r.fcall("orders.eu", "unsampled", "traceparent", "00-"+unsampled+"-"+foreignSpan+"-00")
	if traces, _ := r.told(all, "unsampled"); traces != [2]string{} {
		r.Errorf("clients are told %v", traces)
	}
	r.fcall("orders.eu", "after it")
	traces, _ := r.told(all, "after it")
	r.jaeger.await(traces[0], hasSpans(18)) // spans go out in their order
	if tr := r.jaeger.trace(unsampled); tr != nil {
		r.Errorf("there is\n%v", tr)
	}
}

// waysLive: what is not stored has no position.
func (r *traced) waysLive(all []*listener) {
	if p := r.put(1, "orders.eu", "live=1", "live"); p != "" {
		r.Errorf("it has the position %s", p)
	}
	traces, _ := r.told(all, "live")
	tr := r.jaeger.await(traces[0], hasSpans(20))
	tr.wantsShape(fmt.Sprintf(`
	POST /publish/{channel} [server]
		publish orders.* [producer] live=true%s%s`, delivered, delivered), "sluice.live")
	tr.wantsNoWarnings()
	for _, d := range tr.named("deliver orders.*") {
		d.wants("consumer", map[string]string{"sluice.kind": "live", "messaging.message.id": ""})
		d.wantsTimes()
	}
}
