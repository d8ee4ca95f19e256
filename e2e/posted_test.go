package e2e

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// order posts a command for a session by a token, and returns what it is answered.
func order(t *testing.T, c *http.Client, n *node, session, token, command string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, n.url()+"/sessions/"+session, strings.NewReader(command))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

// TestCommandsThroughAnotherNode: a client of a stream posts to any node behind the balancer, as long as the one that has the stream lives.
func TestCommandsThroughAnotherNode(t *testing.T) {
	t.Parallel()
	r, i := startRedis(t), newIssuer(t)
	settings := settingsFile(t, "channels:\n  - match: \"news*\"\n    publish: clients\n")
	a, b := i.startGuarded("A", "--redis", r.URL(), "--config", settings), i.startGuarded("B", "--redis", r.URL(), "--config", settings)
	for _, n := range []*node{a, b} {
		waitReady(t, n)
	}
	more := claims{"publish": []string{"news*"}}
	alice, again, bob := i.token("alice", time.Hour, more), i.token("alice", 2*time.Hour, more), i.token("bob", time.Hour, more)
	g := welcome(t, a, "sse", alice, "")
	c := httpClient(t, 20*time.Second)
	for _, tt := range []struct {
		name, token, command string
		status               int
		has                  string
	}{
		{"ping", alice, `{"type":"ping","ref":1}`, 200, `"ref":1,"time":`},
		{"subscribe", alice, `{"type":"subscribe","ref":2,"channel":"news/more"}`, 200, `"channel":"news/more","position":`},
		{"publish", alice, `{"type":"publish","ref":3,"channel":"news/more","data":"heard"}`, 200, `"position":`},
		{"refresh", "", fmt.Sprintf(`{"type":"refresh","ref":4,"token":%q}`, again), 200, `"ref":4,"expires":`},
		{"subscribe without a right", alice, `{"type":"subscribe","channel":"other"}`, 403, "forbidden"},
		{"another's", bob, `{"type":"ping"}`, 404, "not_found"},
		{"no token", "x", `{"type":"ping"}`, 401, "unauthorized"},
	} {
		if tt.token == "" {
			tt.token = bob // a refresh is authorised by the token that it brings
		}
		if status, body := order(t, c, b, g.session, tt.token, tt.command); status != tt.status || !strings.Contains(body, tt.has) {
			t.Errorf("%s: %d %s, want %d with %s", tt.name, status, body, tt.status, tt.has)
		}
	}
	if e, err := g.next(); err != nil || e.data != "heard" {
		t.Errorf("got %+v %v, want what was published", e, err)
	}
	if status, body := adminPost(t, b, "/admin/revocations", `{"subject":"bob"}`); status != http.StatusCreated {
		t.Fatalf("%d %s", status, body)
	}
	if status, body := order(t, c, b, g.session, bob, `{"type":"ping"}`); status != 401 || !strings.Contains(body, "token_revoked") {
		t.Errorf("by a revoked token: %d %s, want 401", status, body)
	}
	a.kill()
	began := time.Now()
	if status, body := order(t, c, b, g.session, alice, `{"type":"ping"}`); status != 404 || !strings.Contains(body, "not_found") {
		t.Errorf("after the node was killed: %d %s, want 404", status, body)
	}
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("that took %v", took)
	}
}

// TestCookieThroughAnotherNode: a page's cookie counts on every node where it would count on that of the stream, and nowhere else.
func TestCookieThroughAnotherNode(t *testing.T) {
	t.Parallel()
	r, i := startRedis(t), newIssuer(t)
	flags := []string{"--redis", r.URL(), "--jwt-cookie", "__Host-token", "--origins", "https://app.example"}
	a, b := i.startGuarded("A", flags...), i.startGuarded("B", flags...)
	for _, n := range []*node{a, b} {
		waitReady(t, n)
	}
	alice := i.token("alice", time.Hour, nil)
	g := welcome(t, a, "sse", alice, "")
	c := httpClient(t, 20*time.Second)
	for _, tt := range []struct {
		name, header, value string
		status              int
	}{
		{"a listed page", "Origin", "https://app.example", 200},
		{"its own page", "Sec-Fetch-Site", "same-origin", 200},
		{"another page", "Origin", "https://evil.example", 403},
		{"nobody knows which", "X-Nothing", "", 403},
		{"another site", "Sec-Fetch-Site", "cross-site", 403},
	} {
		for _, n := range []*node{a, b} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, n.url()+"/sessions/"+g.session, strings.NewReader(`{"type":"ping"}`))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Cookie", "__Host-token="+alice+"; other=x")
			req.Header.Set(tt.header, tt.value)
			res, err := c.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(res.Body)
			res.Body.Close()
			if res.StatusCode != tt.status {
				t.Errorf("%s on node %s: %d %s, want %d", tt.name, n.name, res.StatusCode, body, tt.status)
			}
		}
	}
}
