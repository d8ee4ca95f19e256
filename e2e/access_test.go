package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

// guest is a client with a token.
type guest struct {
	stream
	over, session string
	ended         chan event // why it was sent away: its error or denied, or the end
}

// welcome opens a stream by token and waits for its welcome.
func welcome(t *testing.T, n *node, over, token, query string) *guest {
	t.Helper()
	g := &guest{over: over, ended: make(chan event, 1)}
	path := fmt.Sprintf("?channel=news&access_token=%s%s", token, query)
	var err error
	if over == "ws" {
		g.stream, err = openWS(t.Context(), "ws://"+n.addr+"/ws"+path, true)
	} else {
		g.stream, err = openSSE(t.Context(), &http.Client{Transport: httpClient(t, 0).Transport}, n.url()+"/sse"+path, "", false)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.close)
	e, err := g.next()
	if err != nil || e.kind != "welcome" {
		t.Fatalf("got %+v %v, want a welcome", e, err)
	}
	g.session = e.body.Session
	return g
}

// linger reads until the stream ends, for who waits on ended.
func (g *guest) linger() {
	var why event
	for {
		e, err := g.next()
		if err != nil {
			g.ended <- why
			return
		}
		if e.kind == "error" || e.kind == "denied" {
			why = e
		}
	}
}

// adminPost posts to the admin API of n.
func adminPost(t *testing.T, n *node, path, body string) (int, string) {
	t.Helper()
	res, err := httpClient(t, 10*time.Second).Post(n.admin()+path, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(answer)
}

// TestRevocationReachesAllNodes: what is revoked on one node ends on both within a second, stays revoked when a node starts again, and leaves all
// others alone.
func TestRevocationReachesAllNodes(t *testing.T) {
	t.Parallel()
	r, i := startRedis(t), newIssuer(t)
	flags := []string{"--redis", r.URL()}
	nodes := []*node{i.startGuarded("A", flags...), i.startGuarded("B", flags...)}
	for _, n := range nodes {
		waitReady(t, n)
	}
	type row struct {
		what  string
		body  func(g *guest, token string) string
		token string
		all   []*guest
	}
	rows := []*row{
		{what: "token", body: func(*guest, string) string { return `{"token":"by-token"}` }, token: i.token("alice", time.Hour, claims{"jti": "by-token"})},
		{what: "subject", body: func(*guest, string) string { return `{"subject":"carol"}` }, token: i.token("carol", time.Hour, nil)},
	}
	bob := i.token("bob", time.Hour, nil)
	var others []*guest
	for _, n := range nodes {
		for _, over := range []string{"sse", "ws"} {
			for _, x := range rows {
				x.all = append(x.all, welcome(t, n, over, x.token, ""))
			}
			g := welcome(t, n, over, bob, "")
			go g.linger()
			others = append(others, g)
		}
	}
	for _, x := range rows {
		for _, g := range x.all {
			go g.linger()
		}
		began := time.Now()
		if status, body := adminPost(t, nodes[0], "/admin/revocations", x.body(nil, "")); status != http.StatusCreated {
			t.Fatalf("revoke by %s: %d %s", x.what, status, body)
		}
		for _, g := range x.all {
			if e := <-g.ended; e.body.Code != "token_revoked" {
				t.Errorf("%s over %s: gone with %+v, want token_revoked", x.what, g.over, e)
			}
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("%s: the last was gone after %v, want a second at most", x.what, took)
		} else {
			t.Logf("%s: all %d gone after %v", x.what, len(x.all), took)
		}
	}
	nodes[1].kill()
	nodes[1].restart()
	waitReady(t, nodes[1])
	for _, n := range nodes {
		for _, x := range rows {
			status, body := get(t, n.url()+"/sse?channel=news&access_token="+x.token)
			if status != http.StatusUnauthorized || !strings.Contains(body, "token_revoked") {
				t.Errorf("%s on node %s again: %d %s, want 401", x.what, n.name, status, body)
			}
		}
	}
	session := welcome(t, nodes[0], "sse", bob, "")
	go session.linger()
	if status, body := adminPost(t, nodes[1], "/admin/revocations", `{"session":"`+session.session+`"}`); status != http.StatusCreated {
		t.Fatalf("revoke a session: %d %s", status, body)
	}
	select {
	case e := <-session.ended:
		if e.body.Code != "token_revoked" {
			t.Errorf("session: gone with %+v", e)
		}
	case <-time.After(time.Second):
		t.Error("a session that was revoked on the other node is still there after a second")
	}
	for _, g := range others[:2] { // those of the node that was not killed
		select {
		case e := <-g.ended:
			t.Errorf("%s of another subject is gone: %+v", g.over, e)
		default:
		}
	}
}

// TestRefreshLosesNothing: tokens of a second and a half are refreshed in time, on both transports, while a thousand messages a second flow; all
// arrive, once.
func TestRefreshLosesNothing(t *testing.T) {
	t.Parallel()
	r, i := startRedis(t), newIssuer(t)
	key, entry := apiKey("backend", "news*")
	n := i.startGuarded("A", "--redis", r.URL(), "--config", settingsFile(t, "api-keys:\n"+entry))
	waitReady(t, n)
	const seconds, perSecond = 6, 1000
	var guests []*guest
	for _, over := range []string{"sse", "ws"} {
		guests = append(guests, welcome(t, n, over, i.token("alice", 2*time.Second, nil), ""))
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	failed := make(chan error, 3)
	go func() {
		failed <- publishNumbers(ctx, httpClient(t, 10*time.Second), n, key, seconds*perSecond, perSecond)
	}()
	for _, g := range guests {
		go func() { failed <- g.count(seconds * perSecond) }()
	}
	refreshes, tick := 0, time.NewTicker(700*time.Millisecond)
	defer tick.Stop()
	for left := 3; left > 0; {
		select {
		case err := <-failed:
			if err != nil {
				t.Fatal(err)
			}
			left--
		case <-tick.C:
			for _, g := range guests {
				if err := g.refresh(httpClient(t, 10*time.Second), n, i.token("alice", 2*time.Second, nil)); err != nil {
					t.Fatal(err)
				}
				refreshes++
			}
		}
	}
	t.Logf("%d refreshes while %d messages came to each", refreshes, seconds*perSecond)
}

// publishNumbers publishes 0 to n-1 to news, so many a second, in arrays.
func publishNumbers(ctx context.Context, c *http.Client, n *node, key string, total, perSecond int) error {
	const share = 20
	tick := time.NewTicker(time.Second * share / time.Duration(perSecond))
	defer tick.Stop()
	for from := 0; from < total; from += share {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		var list []map[string]any
		for k := range share {
			list = append(list, map[string]any{"channel": "news", "data": strconv.Itoa(from + k)})
		}
		body, err := json.Marshal(list)
		if err != nil {
			return err
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, n.url()+"/publish", strings.NewReader(string(body)))
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Authorization", "Bearer "+key)
		res, err := c.Do(req)
		if err != nil {
			return err
		}
		answer, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if res.StatusCode != http.StatusOK {
			return fmt.Errorf("publish: %s %s", res.Status, answer)
		}
	}
	return nil
}

// count reads the messages 0 to n-1, and nothing else but what answers refreshes.
func (g *guest) count(n int) error {
	for want := 0; want < n; {
		e, err := g.next()
		switch {
		case err != nil:
			return fmt.Errorf("%s: after %d messages: %w", g.over, want, err)
		case e.kind == "reply" || e.kind == "heartbeat":
		case e.kind != "message" || e.data != strconv.Itoa(want):
			return fmt.Errorf("%s: got %+v, want message %d", g.over, e, want)
		default:
			want++
		}
	}
	return nil
}

// refresh shows another token on the live connection.
func (g *guest) refresh(c *http.Client, n *node, token string) error {
	if s, ok := g.stream.(*wsStream); ok {
		return s.send(map[string]any{"type": "refresh", "token": token}) // a refusal is an event that count does not take
	}
	res, err := c.Post(n.url()+"/sessions/"+g.session, "application/json", strings.NewReader(`{"type":"refresh","token":"`+token+`"}`))
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if body, err := io.ReadAll(res.Body); res.StatusCode != http.StatusOK || err != nil {
		return fmt.Errorf("refresh: %s %s %w", res.Status, body, err)
	}
	return nil
}

// waitReady waits until n delivers.
func waitReady(t *testing.T, n *node) {
	t.Helper()
	until(t, startTime, "node "+n.name+" is ready", func() bool {
		status, _ := get(t, n.url()+"/readyz")
		return status == http.StatusOK
	})
}

// get asks for url and returns the answer.
func get(t *testing.T, url string) (int, string) {
	t.Helper()
	res, err := httpClient(t, 10*time.Second).Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 1<<16))
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}
