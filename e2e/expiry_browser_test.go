package e2e

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// plainStream opens a native EventSource on the page's own origin and notes all that it says.
const plainStream = `(query) => {
	window.told = { messages: [], denied: [], welcomes: 0, errors: 0 };
	window.source = new EventSource("/sse?channel=news" + query);
	source.addEventListener("message", (e) => told.messages.push(e.data));
	source.addEventListener("denied", (e) => told.denied.push(JSON.parse(e.data).code));
	source.addEventListener("error", () => told.errors++);
	return new Promise((resolve) => source.addEventListener("welcome", (e) => {
		told.session = JSON.parse(e.data).session;
		told.expires ??= JSON.parse(e.data).expires;
		told.welcomes++;
		resolve(null);
	}));
}`

// TestBrowserTokenEnds: what a native EventSource, with no code of its own for it, does when its token ends. Shown another one in time, by a
// request beside it, the stream goes on. If not, the browser comes back once, is refused, and has stopped for good: there is no storm of retries.
func TestBrowserTokenEnds(t *testing.T) {
	t.Parallel()
	const life = 6 * time.Second
	for _, tt := range []struct {
		name    string
		cookie  bool   // the token is in a cookie, not in the URL
		refresh string // the page's function that shows the new token; "": it does not
		streams []int  // status of the requests for streams
	}{
		{"in the URL, left to end", false, "", []int{200, 401}},
		{"in a cookie, left to end", true, "", []int{200, 401}},
		{"in the URL, refreshed by command", false, `(token) => fetch("/sessions/" + told.session, { method: "POST", body: JSON.stringify({ type: "refresh", token }) }).then((r) => r.status)`, []int{200}},
		{"in a cookie, refreshed by the new cookie", true, `(token) => {
			document.cookie = "edge=" + token + "; path=/";
			return fetch("/sessions/" + told.session, { method: "POST", body: JSON.stringify({ type: "refresh" }) }).then((r) => r.status);
		}`, []int{200}},
		{"in a cookie, renewed and not told", true, `(token) => { document.cookie = "edge=" + token + "; path=/"; return 200; }`, []int{200, 200}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b, i := startBrowser(t), newIssuer(t)
			n := i.startGuarded("A", "--jwt-leeway", "0s", "--jwt-cookie", "edge", "--retry", "100ms", "--access-log")
			b.open(n.url() + "/healthz")
			token := i.token("alice", life, nil) // not before: a browser takes its time to start
			query := "&access_token=" + token
			if tt.cookie {
				query = ""
				b.run(`(token) => { document.cookie = "edge=" + token + "; path=/"; }`, token, nil)
			}
			b.run(plainStream, query, nil)
			if tt.refresh != "" {
				var status int
				b.run(tt.refresh, i.token("alice", time.Hour, nil), &status)
				if status != 200 {
					t.Fatalf("refresh: %d", status)
				}
			}
			stays := tt.streams[len(tt.streams)-1] == 200
			b.wait(`(stays) => Date.now() > told.expires * 1000 + (stays ? 1000 : 0) && (stays || source.readyState === EventSource.CLOSED)`, stays)
			time.Sleep(2 * time.Second) // some twenty retries, if there were any
			var state int
			b.run(`() => source.readyState`, nil, &state)
			if want := map[bool]int{true: 1, false: 2}[stays]; state != want {
				t.Errorf("readyState %d, want %d", state, want)
			}
			if got := n.streams(); !slices.Equal(got, tt.streams) {
				t.Errorf("requests for streams were answered with %v, want %v", got, tt.streams)
			}
			var told struct {
				Denied []string
			}
			b.run(`() => told`, nil, &told)
			if ended := len(tt.streams) > 1; ended && (len(told.Denied) != 1 || told.Denied[0] != "token_expired") || !ended && len(told.Denied) > 0 {
				t.Errorf("the page was told %q", told.Denied)
			}
			if !stays {
				return
			}
			publisher := i.token("backend", time.Minute, claims{"publish": []string{"news"}})
			b.run(`(token) => fetch("/publish/news", { method: "POST", body: "after", headers: { authorization: "Bearer " + token } }).then((r) => r.status)`, publisher, &state)
			b.wait(`() => told.messages.includes("after")`, nil)
			if len(tt.streams) > 1 {
				return
			}
			// A refresh is of the stream, not of the URL: when it has to come back, the browser shows what it has.
			var session string
			b.run(`() => told.session`, nil, &session)
			n.sendAway(session)
			if tt.cookie {
				b.wait(`() => told.welcomes === 2`, nil)
			} else {
				b.wait(`() => source.readyState === EventSource.CLOSED`, nil)
			}
			if want := map[bool]int{true: 200, false: 401}[tt.cookie]; !slices.Equal(n.streams(), []int{200, want}) {
				t.Errorf("sent away, it came back with %v, want %d", n.streams(), want)
			}
		})
	}
}

// sendAway has the node end a session, as its operator may.
func (n *node) sendAway(session string) {
	n.t.Helper()
	req, err := http.NewRequestWithContext(n.t.Context(), http.MethodDelete, n.admin()+"/admin/sessions/"+session, nil)
	if err != nil {
		n.t.Fatal(err)
	}
	res, err := httpClient(n.t, 10*time.Second).Do(req)
	if err != nil {
		n.t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusNoContent {
		n.t.Fatalf("send a session away: %s", res.Status)
	}
}

// streams returns how the requests for streams were answered, by the access log, which has a stream once its
// handshake is done.
func (n *node) streams() (status []int) {
	for _, line := range n.lines("request") {
		var l struct {
			Path   string
			Status int
		}
		if json.Unmarshal([]byte(line), &l) == nil && strings.HasPrefix(l.Path, "/sse") {
			status = append(status, l.Status)
		}
	}
	return status
}
