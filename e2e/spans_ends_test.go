package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestJaegerReplay: who comes back, to another node, has a span that says what it was given again, with links to the traces of that;
// these do not know of it.
func TestJaegerReplay(t *testing.T) {
	t.Parallel()
	j := startJaeger(t, 0)
	r := newTraced(t, j, 2, map[string]rule{"orders.*": {}}, nil)
	for over, status := range map[string]int{"ws": http.StatusSwitchingProtocols, "sse": http.StatusOK} {
		channel := "orders." + over
		witness, away := r.hear("ws", 0, channel, ""), r.hear(over, 0, channel, "")
		r.put(0, channel, "", "seen")
		witness.want("seen")
		away.want("seen")
		token := away.standing()
		away.close()
		var missed []*trace
		for i := range 3 {
			position := r.put(0, channel, "", fmt.Sprint(i))
			witness.want(fmt.Sprint(i))
			missed = append(missed, r.traceOf(position, 8))
		}
		back := r.hear(over, 1, channel, "&resume="+token)
		for i := range missed {
			back.want(fmt.Sprint(i))
		}
		found := j.awaitSearch(search{service: service, operation: "replay orders.*", tags: map[string]string{"messaging.destination.name": channel}}, 1)
		tr := j.await(found[0].ID, hasNames("connect "+over, "replay orders.*"))
		tr.wantsShape(fmt.Sprintf(`
		connect %s [server] status_code=%d
			replay orders.* message_count=3 →3`, over, status), "http.response.status_code", "messaging.batch.message_count")
		tr.wantsNoWarnings()
		connect, replay := tr.only("connect "+over), tr.only("replay orders.*")
		connect.wants("server", map[string]string{"sluice.session": back.session, "url.path": "/" + over})
		if replay.begin().Before(connect.begin()) || replay.end().After(connect.end().Add(2*time.Microsecond)) {
			t.Errorf("the replay is not within the request:\n%v", tr)
		}
		r.wantsReplayed(replay, missed)
	}
}

// wantsReplayed fails the test if a replay is not linked to the publishes of the messages, or if their deliveries have changed by it.
func (r *traced) wantsReplayed(replay *span, missed []*trace) {
	r.Helper()
	var want []reference
	for _, tr := range missed {
		want = append(want, reference{followsFrom, tr.ID, tr.only("publish orders.*").ID})
		before, now := tr.only("deliver orders.*"), r.jaeger.trace(tr.ID).only("deliver orders.*")
		if now.ID != before.ID || now.Duration != before.Duration || now.tag("sluice.fanout.written") != before.tag("sluice.fanout.written") {
			r.Errorf("the delivery was in\n%v\nand is by now in\n%v", tr, now.trace)
		}
		if now.end().After(replay.begin()) {
			r.Errorf("it was delivered until %v, and replayed from %v on:\n%v", now.end(), replay.begin(), now.trace)
		}
	}
	if got := replay.links(); !slices.Equal(got, want) {
		r.Errorf("the links are %v, want %v", got, want)
	}
}

// TestJaegerFromTheLog: a line of the log leads to the trace of what it is about.
func TestJaegerFromTheLog(t *testing.T) {
	t.Parallel()
	j := startJaeger(t, 0)
	r := newTraced(t, j, 1, map[string]rule{"orders.*": {}}, nil, "--publish-wait", "300ms")
	r.put(0, "orders.eu", "", "works")
	r.redis.Kill()
	if status, answer := r.request(0, "/publish/orders.eu", "does not"); status != http.StatusServiceUnavailable {
		t.Errorf("without Redis a publish is answered %d %s", status, answer)
	}
	var line struct {
		Level   string
		TraceID string `json:"trace_id"`
		SpanID  string `json:"span_id"`
	}
	var lines []string
	until(t, traceTime, "the log tells of it", func() bool { // it comes through a pipe
		lines = r.nodes[0].lines("publish failed")
		return len(lines) > 0
	})
	if len(lines) != 1 {
		t.Fatalf("the log has the lines %q, want one", lines)
	}
	if err := json.Unmarshal([]byte(lines[0]), &line); err != nil {
		t.Fatal(err)
	}
	tr := j.await(line.TraceID, hasSpans(2))
	tr.wantsShape(`
	POST /publish/{channel} [server] error=true status_code=503 type=unavailable
		publish orders.* [producer] error=true`, "error", "http.response.status_code", "error.type")
	tr.wantsNoWarnings()
	if post := tr.only("POST /publish/{channel}"); post.ID != line.SpanID || post.took() < 300*time.Millisecond {
		t.Errorf("the log names the span %s:\n%v", line.SpanID, tr)
	}
}

// lines returns the lines of the log with this message.
func (n *node) lines(msg string) (found []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for line := range strings.Lines(n.log.String()) {
		var l struct{ Msg string }
		if json.Unmarshal([]byte(line), &l) == nil && l.Msg == msg {
			found = append(found, line)
		}
	}
	return found
}

// TestJaegerLastMessage: nodes that are told to stop right after a publish still export all of its trace, though they export only
// once a minute.
func TestJaegerLastMessage(t *testing.T) {
	t.Parallel()
	j := startJaeger(t, 0)
	r := newTraced(t, j, 2, map[string]rule{"orders.*": {}}, []string{"OTEL_BSP_SCHEDULE_DELAY=60000"})
	all := append(r.hearBoth(0, "orders.eu"), r.hearBoth(1, "orders.eu")...)
	last := r.put(0, "orders.eu", "", "last")
	for _, n := range r.nodes {
		n.signal(syscall.SIGTERM)
	}
	for _, l := range all {
		l.want("last")
		for { // so that it is seen to leave
			if _, err := l.next(); err != nil {
				break
			}
		}
	}
	for _, n := range r.nodes {
		if code := n.wait(15 * time.Second); code != 0 {
			t.Errorf("node %s exits with %d", n.name, code)
		}
	}
	tr := r.traceOf(last, 20)
	tr.wantsShape(`
	POST /publish/{channel} [server]
		publish orders.* [producer]` + delivered + delivered)
	tr.wantsNoWarnings()
	if took := tr.only("publish orders.*").took(); took > time.Minute/2 {
		t.Errorf("it took %v", took)
	}
}
