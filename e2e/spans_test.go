package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// A delivery to a WebSocket and a stream of one node, below its publish.
const delivered = `
			deliver orders.* [consumer]
				fan-out
				push sse
					queue
					write
				push ws
					queue
					write
				transit`

// TestJaegerPublish: a publish by HTTP is one trace, as far as the sockets of both transports on both nodes. Jaeger finds
// nothing odd about it, and moves nothing even if it is told to correct clocks.
func TestJaegerPublish(t *testing.T) {
	t.Parallel()
	j, correcting := startJaeger(t, 0), startJaeger(t, time.Second)
	r := newTraced(t, j, 2, map[string]rule{"orders.*": {}}, []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + tee(t, j, correcting)})
	all := r.hearEverywhere("orders.eu")
	sentAt := time.Now()
	first := r.put(0, "orders.eu", "", "first")
	told := map[string]event{}
	for _, l := range all {
		told[l.session] = l.want("first")
	}
	second := r.put(0, "orders.eu", "", "second")
	after := make([]time.Time, 2) // when all clients of a node had the next message: a write is over before the next one begins
	acks := map[string]event{}
	for _, l := range all {
		acks[l.session] = l.want("second")
		after[l.node] = time.Now()
	}

	tr := r.traceOf(first, 20)
	tr.wantsShape(`
	POST /publish/{channel} [server]
		publish orders.* [producer]` + delivered + delivered)
	tr.wantsNoWarnings()
	publish := tr.only("publish orders.*")
	if tr.begin().Before(sentAt.Truncate(time.Microsecond)) {
		t.Errorf("it begins %v before it was sent", sentAt.Sub(tr.begin()))
	}
	tr.only("POST /publish/{channel}").wants("server", map[string]string{"http.response.status_code": "200", "url.path": "/publish/orders.eu"})
	publish.wants("producer", map[string]string{"messaging.system": "redis", "messaging.destination.name": "orders.eu",
		"messaging.destination.template": "orders.*", "messaging.message.id": first, "messaging.operation.name": "publish"})
	nodes := map[string]bool{}
	for _, d := range publish.children() {
		d.wants("consumer", map[string]string{"sluice.kind": "durable", "sluice.sampled": "head", "sluice.fanout.subscribers": "2",
			"sluice.fanout.written": "2", "sluice.fanout.pending": "0", "messaging.message.id": first, "messaging.operation.name": "deliver"})
		d.wantsTimes()
		if d.Start != publish.Start {
			t.Errorf("the delivery begins %d µs after the publish:\n%v", d.Start-publish.Start, tr)
		}
		nodes[d.resource("service.instance.id")] = true
		if d.service() != service || d.resource("host.name") == "" || d.resource("host.name") != publish.resource("host.name") ||
			d.resource("host.id") != publish.resource("host.id") || d.resource("service.version") == "" {
			t.Errorf("a node calls itself %s %+v", d.service(), tr.Processes[d.ProcessID].Tags)
		}
		r.wantsClients(d, all, told, sentAt, after)
	}
	if len(nodes) != 2 || nodes[""] {
		t.Errorf("the deliveries are of the nodes %v", nodes)
	}
	correcting.wantsSame(tr)
	r.acknowledges(all, acks, second)
}

// hearEverywhere has a WebSocket and a stream listen on each node. The streams ask for traceparents, in either format.
func (r *traced) hearEverywhere(channel string) (all []*listener) {
	r.Helper()
	for i, format := range []string{"plain", "json"} {
		all = append(all, r.hear("ws", i, channel, ""), r.hear("sse", i, channel, "&traceparent=1&format="+format))
	}
	return all
}

// wantsTimes fails the test if the spans of a delivery do not fit: each half may be cut off by a microsecond.
func (s *span) wantsTimes() {
	tr := s.trace
	tr.t.Helper()
	meet := func(what string, a, b time.Time) {
		tr.t.Helper()
		if d := a.Sub(b).Abs(); d > 2*time.Microsecond {
			tr.t.Errorf("%s are %v apart:\n%v", what, d, tr)
		}
	}
	transit, fan := s.child("transit"), s.child("fan-out")
	meet("the begin of the delivery and of its transit", s.begin(), transit.begin())
	meet("the end of the transit and the begin of the fan-out", transit.end(), fan.begin())
	last := s.begin()
	for _, push := range s.children() {
		if !strings.HasPrefix(push.Name, "push ") {
			continue
		}
		queue, write := push.child("queue"), push.child("write")
		meet("the begin of a push and of its queue", push.begin(), queue.begin())
		meet("the end of a queue and the begin of its write", queue.end(), write.begin())
		meet("the end of a write and of its push", write.end(), push.end())
		if push.begin().Before(fan.begin()) {
			tr.t.Errorf("a push begins before the message has arrived:\n%v", tr)
		}
		if push.end().After(last) {
			last = push.end()
		}
	}
	meet("the end of the slowest push and of the delivery", last, s.end())
}

// wantsClients fails the test if the delivery of a node is not what its clients have seen of it, by their own clock.
func (r *traced) wantsClients(d *span, all []*listener, told map[string]event, sentAt time.Time, after []time.Time) {
	r.Helper()
	clients := 0
	for _, l := range all {
		traceID, spanID := contextOf(r.T, told[l.session].body.Traceparent)
		if spanID != d.ID {
			continue
		}
		clients++
		if observed := after[l.node].Sub(sentAt); traceID != d.TraceID || d.took() > observed {
			r.Errorf("it took %v, and the %s had the next message %v after this one was sent:\n%v", d.took(), l.over, observed, d.trace)
		}
		push := d.child("push " + l.over)
		push.wants("internal", map[string]string{"sluice.session": l.session, "sluice.transport": l.over, "sluice.outcome": "written"})
	}
	if clients != 2 {
		r.Errorf("%d clients were told of this delivery, want the two of the node: %v", clients, d)
	}
}

// wantsSame fails the test if the spans of tr are elsewhere here, which has them from the same nodes.
func (j *jaeger) wantsSame(tr *trace) {
	j.t.Helper()
	same := j.await(tr.ID, hasSpans(len(tr.Spans)))
	same.wantsNoWarnings()
	for _, s := range tr.Spans {
		if x := same.span(s.ID); x == nil || x.Start != s.Start || x.Duration != s.Duration {
			j.t.Errorf("%s is moved: it is %v", s.Name, x)
		}
	}
}

// acknowledges has all clients say that they have a message, and fails the test if that is not below their pushes.
func (r *traced) acknowledges(all []*listener, told map[string]event, position string) {
	r.Helper()
	for _, l := range all {
		tp := told[l.session].body.Traceparent
		if ws, ok := l.stream.(*wsStream); ok {
			if err := ws.send(map[string]any{"type": "ack", "ref": 7, "traceparent": tp}); err != nil {
				r.Fatal(err)
			}
			if e := l.event("reply"); !e.body.Traced {
				r.Errorf("the acknowledgement is answered %+v", e.body)
			}
			continue
		}
		status, answer := r.request(l.node, "/ack", fmt.Sprintf(`{"session":%q,"traceparent":%q}`, l.session, tp), "Content-Type", "text/plain")
		if status != http.StatusNoContent {
			r.Errorf("the acknowledgement is answered %d %s", status, answer)
		}
	}
	acked := time.Now()
	with := strings.ReplaceAll(delivered, "\t\t\t\t\tqueue", "\t\t\t\t\tclient-ack from=write\n\t\t\t\t\tqueue")
	tr := r.traceOf(position, 24)
	tr.wantsShape(`
	POST /publish/{channel} [server]
		publish orders.* [producer]`+with+with, "sluice.ack.from")
	for _, ack := range tr.named("client-ack") {
		push := ack.parent()
		ack.wants("internal", map[string]string{"sluice.transport": push.tag("sluice.transport")})
		if d := ack.begin().Sub(push.end()).Abs(); d > 2*time.Microsecond || ack.end().After(acked) {
			r.Errorf("it begins %v after the write, and ends %v before all had answered:\n%v", d, acked.Sub(ack.end()), tr)
		}
	}
}
