package e2e

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// TestNodeKilled kills each node in turn without a word; its clients go on at the other.
func TestNodeKilled(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, 2)
	for i, n := range r.nodes {
		for _, k := range resumers {
			r.listen(k, n.name+" first", func(attempt int) string { return r.nodes[(i+attempt)%2].url() })
		}
	}
	r.connect()
	r.publish(pace)
	for i := range 4 {
		r.published(500)
		r.nodes[i%2].kill()
		r.published(100)
		r.nodes[i%2].restart()
	}
	r.published(500)
	r.finishWhole(2500)
}

// TestNodeStops is a rolling restart by SIGTERM under load.
func TestNodeStops(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, 2, "--drain-time", "1s", "--retry", "300ms")
	for i, n := range r.nodes {
		for _, k := range resumers {
			r.listen(k, n.name+" first", func(attempt int) string { return r.nodes[(i+attempt)%2].url() })
		}
	}
	r.connect()
	r.publish(pace)
	for i, n := range r.nodes {
		r.published(700)
		n.signal(syscall.SIGTERM)
		if code := n.wait(10 * time.Second); code != 0 {
			t.Errorf("node %s ended with %d, want 0", n.name, code)
		}
		if i == 0 {
			n.restart()
		}
	}
	r.nodes[1].restart()
	r.published(700)
	r.finishWhole(2000)
	for _, c := range r.clients {
		if len(c.reconnects) < 1 && c.kind != viaPoll { // which is told by an answer like any other
			t.Errorf("%s was never told to come back: %v", c.name, c.closeErrs)
		}
		for _, e := range c.reconnects {
			checkReconnect(t, c, e)
		}
		for _, err := range c.closeErrs {
			var ce *websocket.CloseError
			refused := strings.Contains(err.Error(), "refused") || // it came back before the other node was up
				c.kind == viaPoll && (strings.Contains(err.Error(), "draining") || strings.Contains(err.Error(), "reset")) // or to this one, as polls do
			if !refused && !errors.Is(err, io.EOF) && !(errors.As(err, &ce) && ce.Code == websocket.CloseServiceRestart) {
				t.Errorf("%s: a connection ended with %v", c.name, err)
			}
		}
	}
}

// checkReconnect: the delay is in [retry, 2·retry), and native EventSource is told the same.
func checkReconnect(t *testing.T, c *client, e event) {
	t.Helper()
	if e.body.Delay < 300 || e.body.Delay >= 600 {
		t.Errorf("%s: a reconnect delay of %d ms, want 300 to 599", c.name, e.body.Delay)
	}
	if c.kind != viaWS && e.retry != e.body.Delay {
		t.Errorf("%s: retry %d, delay %d", c.name, e.retry, e.body.Delay)
	}
}

// TestNodeStopsOwingNothing stops a node right after the last of many messages was acknowledged:
// its clients, those that can't resume among them, have all of them before they are sent away.
func TestNodeStopsOwingNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, 1, "--drain-time", "200ms")
	r.listenEverywhere(everyKind...)
	r.connect()
	n := r.nodes[0]
	want := map[string]int{}
	for i := range 300 {
		ch := r.channels[i%len(r.channels)]
		if _, err := publish(r.ctx, r.http, n.url(), ch, "", fmt.Sprintf("%s|%d", ch, i)); err != nil {
			t.Fatal(err)
		}
		want[ch]++
	}
	n.signal(syscall.SIGTERM)
	if code := n.wait(10 * time.Second); code != 0 {
		t.Errorf("ended with %d, want 0", code)
	}
	for _, c := range r.clients {
		until(t, 5*time.Second, c.name+" is sent away", func() bool {
			c.mu.Lock()
			defer c.mu.Unlock()
			return len(c.closeErrs) > 0
		})
	}
	r.hangUp()
	r.listening.Wait()
	for _, c := range r.clients {
		got := map[string]int{}
		for _, m := range c.got {
			ch, number, _ := strings.Cut(m.data, "|")
			if i := len(r.channels)*got[ch] + slices.Index(r.channels, ch); fmt.Sprint(i) != number {
				t.Errorf("%s: %q where number %d should be", c.name, m.data, i)
				break
			}
			got[ch]++
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s got %v of %v messages", c.name, got, want)
		}
		var ce *websocket.CloseError
		switch err := c.closeErrs[0]; c.kind {
		case viaSSE, viaSSEJSON:
			if !errors.Is(err, io.EOF) {
				t.Errorf("%s: the stream ended with %v, want EOF", c.name, err)
			}
		default:
			if !errors.As(err, &ce) || ce.Code != websocket.CloseServiceRestart {
				t.Errorf("%s: closed with %v, want 1012", c.name, err)
			}
		}
	}
}

// TestNodeStoppedTwice: who asks twice does not want to wait for the clients to leave.
func TestNodeStoppedTwice(t *testing.T) {
	t.Parallel()
	n := startNode(t, "A", "--drain-time", "10m")
	st, err := openSSE(t.Context(), httpClient(t, 0), n.url()+"/sse?channel=a", "", false)
	if err != nil {
		t.Fatal(err)
	}
	defer st.close()
	if e, err := st.next(); err != nil || e.kind != "welcome" {
		t.Fatalf("got %v, %v, want the welcome", e, err)
	}
	n.signal(syscall.SIGTERM)
	until(t, 10*time.Second, "the node drains", func() bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		return strings.Contains(n.log.String(), `"msg":"draining"`)
	})
	n.signal(syscall.SIGTERM)
	if code := n.wait(2 * time.Second); code == 0 {
		t.Error("it ended with 0 though clients were still there")
	}
}

// TestReady: a node that can't deliver says so, and says when it can again.
func TestReady(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, 1)
	ready := func() int {
		res, err := r.http.Get(r.nodes[0].url() + "/readyz")
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, _ := io.ReadAll(res.Body)
		if want := fmt.Sprintf(`"ready":%t`, res.StatusCode == 200); !strings.Contains(string(b), want) {
			t.Errorf("%s with the body %s, want %s in it", res.Status, b, want)
		}
		return res.StatusCode
	}
	until(t, 5*time.Second, "/readyz is 200 at first", func() bool { return ready() == 200 })
	for range 2 {
		r.redis.Pause()
		if code := ready(); code != 503 {
			t.Errorf("/readyz is %d while Redis stands still, want 503", code)
		}
		res, err := r.http.Get(r.nodes[0].url() + "/healthz")
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != 200 {
			t.Errorf("/healthz: %s; the process is well", res.Status)
		}
		r.redis.Resume()
		until(t, 10*time.Second, "/readyz is 200 again", func() bool { return ready() == 200 })
	}
}
