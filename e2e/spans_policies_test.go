package e2e

import (
	"fmt"
	"strings"
	"testing"
)

// TestJaegerPolicies: what policies drop and gather says so in its traces, and leads to what came instead or along.
func TestJaegerPolicies(t *testing.T) {
	t.Parallel()
	j := startJaeger(t, 0)
	r := newTraced(t, j, 2, map[string]rule{
		"quotes.*": {wish: wish{conflate: "key", rate: "30/m"}},
		"calm.*":   {wish: wish{filter: `event != "noise"`}},
		"ticks.*":  {wish: wish{batch: "4s,3"}}, // goes out when there are three
	}, nil)
	r.conflated()
	r.filtered()
	r.batched()
}

// hearBoth has a WebSocket and a stream listen on node i.
func (r *traced) hearBoth(i int, channel string) []*listener {
	r.Helper()
	return []*listener{r.hear("ws", i, channel, ""), r.hear("sse", i, channel, "")}
}

// conflated: a message that a newer one superseded has a link to it.
func (r *traced) conflated() {
	r.Helper()
	all := append(r.hearBoth(0, "quotes.eu"), r.hearBoth(1, "quotes.eu")...)
	quote := func(n int) string { return fmt.Sprintf(`{"symbol":"a","n":%d}`, n) }
	var positions []string
	want := func(n int) {
		for _, l := range all {
			l.want(quote(n))
		}
	}
	for n := range 3 { // the first goes out at once, the last after the interval
		positions = append(positions, r.put(n%2, "quotes.eu", "", quote(n)))
		if n != 1 {
			want(n)
		}
	}
	const arrived = `
			deliver quotes.* [consumer] written=0 conflated=2 dropped=0
				conflate reason=conflate subscribers=2 →1
				fan-out
				transit`
	old, newer := r.traceOf(positions[1], 10), r.traceOf(positions[2], 20)
	old.wantsShape(`
	POST /publish/{channel} [server]
		publish quotes.* [producer]`+arrived+arrived,
		"sluice.reason", "sluice.subscribers", "sluice.fanout.written", "sluice.fanout.conflated", "sluice.fanout.dropped")
	newer.wantsShape(strings.ReplaceAll(`
	POST /publish/{channel} [server]
		publish orders.* [producer]`+delivered+delivered, "orders", "quotes"))
	for _, d := range old.named("deliver quotes.*") {
		conflate := d.child("conflate")
		l := conflate.links()[0]
		by := newer.span(l.SpanID)
		if l.TraceID != newer.ID || by == nil || by.Name != d.Name || by.resource("service.instance.id") != d.resource("service.instance.id") {
			r.Errorf("it was superseded by %v of %s, want the delivery of the same node:\n%v", by, l.TraceID, newer)
		}
		if conflate.tag("error") != "" || conflate.end().Before(newer.begin()) {
			r.Errorf("a conflation is no error, and not before there is a newer message:\n%v", old)
		}
	}
	for _, queue := range newer.named("queue") {
		if queue.tag("sluice.held_ms") == "" {
			r.Errorf("a queue does not say for how long the policy held the message:\n%v", newer)
		}
	}
	old.wantsNoWarnings()
	newer.wantsNoWarnings()
}

// filtered: what nobody wants is dropped, and that is no error.
func (r *traced) filtered() {
	r.Helper()
	all := append(r.hearBoth(0, "calm.eu"), r.hearBoth(1, "calm.eu")...)
	noise := r.put(0, "calm.eu", "event=noise", "noise")
	r.put(0, "calm.eu", "event=news", "news")
	for _, l := range all {
		l.want("news")
	}
	const dropped = `
			deliver calm.* [consumer] written=0 dropped=2
				drop reason=filter subscribers=2
				fan-out
				transit`
	tr := r.traceOf(noise, 10)
	tr.wantsShape(`
	POST /publish/{channel} [server]
		publish calm.* [producer]`+dropped+dropped,
		"error", "sluice.reason", "sluice.subscribers", "sluice.fanout.written", "sluice.fanout.dropped")
	tr.wantsNoWarnings()
}

// batched: several messages go out in one write, and each has that in its own trace, with links to the others.
func (r *traced) batched() {
	r.Helper()
	all := append(r.hearBoth(0, "ticks.eu"), r.hearBoth(1, "ticks.eu")...)
	var positions []string
	for n := range 3 {
		positions = append(positions, r.put(0, "ticks.eu", "", fmt.Sprint(n)))
	}
	for _, l := range all {
		for n := range 3 {
			l.want(fmt.Sprint(n))
		}
	}
	var traces []*trace
	for _, p := range positions {
		traces = append(traces, r.traceOf(p, 20))
	}
	with := delivered
	for _, over := range []string{"sse", "ws"} {
		with = strings.Replace(with, "push "+over, "push "+over+" message_count=3 index=%[1]d →2", 1)
	}
	for i, tr := range traces {
		tr.wantsShape(fmt.Sprintf(strings.ReplaceAll(`
	POST /publish/{channel} [server]
		publish orders.* [producer]`+with+with, "orders", "ticks"), i), "messaging.batch.message_count", "sluice.batch.index")
		tr.wantsNoWarnings()
		for _, d := range tr.named("deliver ticks.*") {
			for _, over := range []string{"sse", "ws"} {
				d.child("push "+over).wantsLinks(traces, i)
			}
		}
	}
}

// wantsLinks fails the test if a push is not linked to the deliveries of the other messages in its write, by its own node.
func (s *span) wantsLinks(traces []*trace, own int) {
	linked := map[string]bool{}
	for _, l := range s.links() {
		linked[l.TraceID+l.SpanID] = true
	}
	for i, tr := range traces {
		for _, d := range tr.named("deliver ticks.*") {
			want := i != own && d.resource("service.instance.id") == s.resource("service.instance.id")
			if linked[tr.ID+d.ID] != want {
				s.trace.t.Errorf("%s of message %d is linked to a delivery of message %d: %t, want %t", s.Name, own, i, !want, want)
			}
		}
	}
}

// TestJaegerDrops: a session that ends with something owed to it has an error in the traces of what it did not get, whether it
// was sent away because it read nothing, or hung up. Its neighbours' pushes are beside it.
func TestJaegerDrops(t *testing.T) {
	t.Parallel()
	j := startJaeger(t, 0)
	r := newTraced(t, j, 1, map[string]rule{"feed.*": {}}, nil, "--write-timeout", "1s", "--heartbeat", "4s") // the kernel would give up after 9 s
	r.add("patient")
	last := map[string]string{}
	for _, over := range []string{"ws", "sse"} {
		channel := "feed.slow." + over
		neighbour := r.hear("ws", 0, channel, "")
		r.stalls(over, 0, channel)
		last[over] = r.stuff(channel, neighbour)
	}
	for over, position := range last {
		r.wantsDrop(position, over, "slow") // it has not even been taken
	}
	for _, over := range []string{"ws", "sse"} {
		channel := "feed.gone." + over
		neighbour := r.hear("ws", 1, channel, "")
		stuck, _ := r.stalls(over, 1, channel)
		r.stuff(channel, neighbour)
		stuck.close()
		dropped := j.awaitSearch(search{service: service, operation: "drop " + over, tags: map[string]string{"sluice.reason": "peer"}}, 1)[0]
		if d := dropped.only("deliver feed.*"); d.tag("messaging.destination.name") != channel {
			t.Errorf("it is of another channel:\n%v", dropped)
		}
		r.wantsDrop(dropped.only("publish feed.*").tag("messaging.message.id"), over, "peer")
	}
}

// stuff publishes more than fits into the connection of a client that reads nothing. It returns the position of the last message.
func (r *traced) stuff(channel string, neighbour *listener) (last string) {
	r.Helper()
	for i := range stalling {
		last = r.put(0, channel, "", stallingData(i))
		neighbour.want(stallingData(i))
	}
	return last
}

// wantsDrop waits for the trace of a message that a session did not get.
func (r *traced) wantsDrop(position, over, reason string) {
	r.Helper()
	tr := r.traceOf(position, 9)
	tr.wantsShape(fmt.Sprintf(`
	POST /publish/{channel} [server]
		publish feed.* [producer]
			deliver feed.* [consumer] written=1 dropped=1
				drop %s error=true reason=%s subscribers=1
				fan-out
				push ws
					queue
					write
				transit`, over, reason), "error", "sluice.reason", "sluice.subscribers", "sluice.fanout.written", "sluice.fanout.dropped")
	drop := tr.only("drop " + over)
	drop.wants("internal", map[string]string{"otel.status_code": "ERROR", "otel.status_description": "the session ended: " + reason})
	tr.wantsNoWarnings()
}
