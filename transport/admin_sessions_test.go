package transport

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/broker"
	"sluice/middleware"
	"sluice/otel/oteltest"
)

// administered is a node with its admin API.
type administered struct {
	*node
	admin string
}

func newAdministered(t *testing.T, change func(*Config)) *administered {
	t.Helper()
	n := newNode(t, func(c *Config) {
		c.Admin, c.Heartbeat = true, time.Minute
		if change != nil {
			change(c)
		}
	})
	admin := httptest.NewServer(n.Admin())
	t.Cleanup(admin.Close)
	return &administered{n, admin.URL}
}

// tell asks the admin API and reads the answer into v.
func (n *administered) tell(path string, v any) {
	n.t.Helper()
	status, body, _ := ask(n.t, "GET", n.admin, path, "")
	if err := json.Unmarshal([]byte(body), v); err != nil || status != 200 {
		n.t.Fatalf("%s: %d %s: %v", path, status, body, err)
	}
}

// sessionList is the answer of GET /admin/sessions.
type sessionList struct {
	Sessions  []sessionRow
	Total     int
	Truncated bool
}

func (n *administered) list(query string) (l sessionList) {
	n.t.Helper()
	n.tell("/admin/sessions?"+query, &l)
	return l
}

// ids of the sessions, in order.
func (l sessionList) ids() (ids []string) {
	for _, s := range l.Sessions {
		ids = append(ids, s.ID)
	}
	return ids
}

// until asks until what is told is as it should be.
func (n *administered) until(what string, query string, is func(sessionList) bool) (l sessionList) {
	n.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if l = n.list(query); is(l) {
			return l
		}
		if time.Now().After(deadline) {
			n.t.Fatalf("after 10 s not %s: %+v", what, l)
		}
	}
}

func TestAdminSessions(t *testing.T) {
	n := newAdministered(t, func(c *Config) {
		c.TrustedProxies = []string{"127.0.0.1"}
		c.Policies = rules(t, map[string]middleware.Delivery{"b": {Interval: time.Minute}})
	})
	if l := n.list(""); l.Sessions == nil || l.Total != 0 || l.Truncated {
		t.Errorf("without sessions: %+v", l)
	}
	s := n.sse("channel=a&channel=b", "X-Forwarded-For", "203.0.113.7")
	s.want("welcome", "*")
	c := n.listen("ws", "channel=a")
	n.publish("a", "hello")
	s.want("", "hello")
	c.want("hello")
	n.publish("b", "first", "live=1") // goes at once
	s.want("", "first")
	for range 2 {
		n.publish("b", "held", "live=1")
	}

	l := n.until("both", "sort=since", func(l sessionList) bool { return l.Total == 2 && l.Sessions[1].Messages == 2 })
	ws, sse := l.Sessions[0], l.Sessions[1]
	if ws.ID != c.welcome.Session || ws.Transport != "ws" || ws.Format != subprotocolJSON || ws.State != "open" || ws.Remote.String() != "127.0.0.1" ||
		ws.Messages != 1 || ws.Subscriptions != 1 || ws.Channels[0].Channel != "a" || ws.Channels[0].Deliver != nil {
		t.Errorf("got %+v", ws)
	}
	if sse.Transport != "sse" || sse.Format != "plain" || sse.Remote.String() != "203.0.113.7" || sse.Bytes == 0 || sse.Subscriptions != 2 ||
		sse.Lag != 0 || sse.Owed != 0 || sse.Busy || sse.Trace != "" || time.Since(sse.Since) > time.Minute {
		t.Errorf("got %+v", sse)
	}
	if i := slices.IndexFunc(sse.Channels, func(c cursorRow) bool { return c.Channel == "b" }); i < 0 || string(sse.Channels[i].Deliver) != `{"rate":"1/m"}` {
		t.Errorf("its channels: %+v", sse.Channels)
	}
	for query, want := range map[string][]string{
		"channel=b": {sse.ID}, "channel=c": nil, "transport=ws": {ws.ID}, "channel=a&transport=sse": {sse.ID},
		"sort=messages": {sse.ID, ws.ID}, "sort=since&limit=1": {ws.ID},
	} {
		l := n.list(query)
		if got := l.ids(); !slices.Equal(got, want) || l.Truncated != strings.Contains(query, "limit") {
			t.Errorf("%s: got %v, truncated %v, want %v", query, got, l.Truncated, want)
		}
	}
	var one sessionRow
	n.tell("/admin/sessions/"+sse.ID, &one)
	if one.ID != sse.ID || one.Subscriptions != 2 || len(one.Channels) != 2 || one.Messages != 2 {
		t.Errorf("got %+v", one)
	}
}

// A token that can't be used is a gap in each channel, for the session and in the metrics.
func TestAdminBadToken(t *testing.T) {
	n := newAdministered(t, func(c *Config) { c.Metrics = true })
	s := n.sse("channel=a&channel=b&resume=nonsense")
	s.want("welcome", "*")
	s.want("gap", "*")
	s.want("gap", "*")
	if l := n.list(""); len(l.Sessions) != 1 || l.Sessions[0].Gaps != 2 {
		t.Errorf("got %+v", l)
	}
	n.wantMetrics(readings{`sluice_gaps_total{"bad_token"`: 2})
}

// The trace of what a session was last given can be looked up.
func TestAdminTrace(t *testing.T) {
	traced := newTracedNode(t, "always_on", nil, func(c *Config) { c.Admin = true })
	admin := httptest.NewServer(traced.Admin())
	defer admin.Close()
	n := &administered{traced.node, admin.URL}
	for _, transport := range transports {
		c := n.listen(transport, "channel="+transport)
		if s := n.list("transport=" + transport).Sessions[0]; s.Trace != "" {
			t.Errorf("before it was given anything: trace %q", s.Trace)
		}
		n.publish(transport, "hello")
		c.want("hello")
		id := n.until("traced", "transport="+transport, func(l sessionList) bool { return l.Sessions[0].Trace != "" }).Sessions[0].Trace
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
			if slices.ContainsFunc(traced.collector.Spans(), func(s oteltest.Span) bool { return hex.EncodeToString(s.TraceId) == id }) {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: no span of the trace %s was sent", transport, id)
			}
		}
	}
}

// A client that has stopped reading is the slowest, and what it is owed is told; in whatever way it is written to.
func TestAdminStalled(t *testing.T) {
	for _, transport := range transports {
		t.Run(transport, func(t *testing.T) {
			n := newAdministered(t, func(c *Config) { c.SendBuffer = 8 << 10 })
			slow := n.laggard(transport, "channel=a")
			healthy := n.listen("sse", "channel=a")
			n.flood(healthy, 0, 100)
			at := n.until("one that lags", "limit=1", func(l sessionList) bool { return l.Total == 2 && l.Sessions[0].Lag > 50 && l.Sessions[0].OwedMS > 20 })
			s := at.Sessions[0]
			if s.ID != slow.welcome.Session || !s.Busy || s.Owed < 1 || s.Owed > 64<<10 || s.Lag > 100 || s.Channels[0].Lag != s.Lag || !at.Truncated {
				t.Errorf("got %+v", s)
			}
			if s.Lag+s.Messages != 100 {
				t.Errorf("it lags by %d and was given %d of 100", s.Lag, s.Messages)
			}
			if l := n.list("sort=owed"); l.Sessions[0].ID != s.ID || l.Sessions[1].Lag != 0 || l.Sessions[1].Owed != 0 {
				t.Errorf("by what is owed: %+v", l.Sessions)
			}
			n.flood(healthy, 100, 400) // it is behind the ring
			for i := range 400 {
				if v := number(slow.next()); v != i {
					t.Fatalf("got %d, want %d", v, i)
				}
			}
			n.until("caught up", "limit=1", func(l sessionList) bool {
				s := l.Sessions[0]
				return s.Lag == 0 && s.Owed == 0 && !s.Busy && s.Messages == 400
			})
		})
	}
}

// What a blocking write has not brought out yet is owed, too.
func TestAdminStalledHTTP2(t *testing.T) {
	n := newAdministered(t, nil)
	h2 := &http.Transport{Protocols: new(http.Protocols)}
	h2.Protocols.SetUnencryptedHTTP2(true)
	defer h2.CloseIdleConnections()
	openStream(t, h2, n.url("/sse?channel=a")).want("welcome", "*")
	healthy := n.listen("ws", "channel=a")
	for i := range 700 { // the client's window is 4 MiB
		n.put(&broker.Message{Channel: "a", Data: []byte(body(i) + body(i))}, false)
		healthy.next()
	}
	s := n.until("blocked", "limit=1", func(l sessionList) bool { return l.Sessions[0].Busy && l.Sessions[0].OwedMS > 20 }).Sessions[0]
	if s.Transport != "sse" || s.Owed < 8<<10 || s.Lag == 0 || s.Bytes < 4<<20 {
		t.Errorf("got %+v", s)
	}
	if status, _, _ := ask(t, "DELETE", n.admin, "/admin/sessions/"+s.ID, ""); status != 204 {
		t.Fatalf("got %d", status)
	}
	n.until("gone", "", func(l sessionList) bool { return slices.Equal(l.ids(), []string{healthy.welcome.Session}) })
}

// What was dropped is booked to the client that did not get it, as it was told.
func TestAdminDropped(t *testing.T) {
	type booked struct{ Messages, Conflated, Filtered, Lapped, Gaps uint64 }
	for _, tt := range []struct {
		name  string
		rule  middleware.Delivery
		query string
		want  func(got, skipped int, b booked) bool
	}{
		{"everything", middleware.Delivery{}, "", func(got, skipped int, b booked) bool {
			return b == booked{Messages: 300} && got == 300
		}},
		{"conflated", middleware.Delivery{Conflate: middleware.ConflateKey, Interval: 20 * time.Millisecond}, "", func(got, skipped int, b booked) bool {
			return b == booked{Messages: uint64(got), Conflated: uint64(skipped)} && got+skipped == 300 && skipped > 0
		}},
		{"filtered", middleware.Delivery{}, "&filter=" + url.QueryEscape(`key == "9"`), func(got, skipped int, b booked) bool {
			return b == booked{Messages: uint64(got), Filtered: uint64(skipped)} && got == 30 && skipped == 270
		}},
		{"filtered and conflated", middleware.Delivery{Conflate: middleware.ConflateKey, Interval: 20 * time.Millisecond}, "&filter=" + url.QueryEscape(`key > "4"`),
			func(got, skipped int, b booked) bool {
				return b == booked{Messages: uint64(got), Filtered: 150, Conflated: uint64(skipped - 150)} && got+skipped == 300 && skipped > 150
			}},
	} {
		for _, transport := range transports {
			t.Run(tt.name+"/"+transport, func(t *testing.T) {
				n := newAdministered(t, func(c *Config) { c.Policies = rules(t, map[string]middleware.Delivery{"a": tt.rule}) })
				c := n.listen(transport, "channel=a"+tt.query)
				for i := range 300 {
					n.put(&broker.Message{Channel: "a", Key: fmt.Sprint(i % 10), Data: fmt.Append(nil, i)}, i%2 == 0)
				}
				got := len(c.until("299"))
				s := n.list("").Sessions[0]
				if b := (booked{s.Messages, s.Conflated, s.Filtered, s.Lapped, s.Gaps}); !tt.want(got, c.skipped, b) {
					t.Errorf("booked %+v; the client got %d messages and was told of %d skipped ones", b, got, c.skipped)
				}
				if s.Dropped != uint64(c.skipped) {
					t.Errorf("dropped %d, the client was told %d", s.Dropped, c.skipped)
				}
			})
		}
	}
}

func TestAdminLapped(t *testing.T) {
	n := newAdministered(t, slowly(t, broker.ThenGap))
	healthy, slow := n.listen("ws", "channel=a"), n.laggard("sse", "channel=a")
	const messages = 900
	n.flood(healthy, 0, messages)
	got, gaps := 0, 0
	for last := -1; last < messages-1; {
		f := slow.next()
		if f.Type == "gap" {
			gaps++
			continue
		}
		got, last = got+1, number(f)
	}
	s := n.list("sort=dropped&limit=1").Sessions[0]
	if s.ID != slow.welcome.Session || s.Messages != uint64(got) || s.Lapped != uint64(messages-got) || s.Gaps != uint64(gaps) || gaps == 0 || s.Dropped != s.Lapped {
		t.Errorf("booked %+v; the client got %d messages and %d gaps", s, got, gaps)
	}
}

// A client that is disconnected is told to come back, and resumes where it was.
func TestAdminDisconnect(t *testing.T) {
	for _, transport := range transports {
		t.Run(transport, func(t *testing.T) {
			n := newAdministered(t, nil)
			other := n.listen("sse", "channel=a")
			c := n.listen(transport, "channel=a")
			n.publish("a", "1")
			c.want("1")
			other.want("1")
			if c.ws != nil {
				c.token = c.welcome.Token
			}
			if status, body, _ := ask(t, "DELETE", n.admin, "/admin/sessions/"+c.welcome.Session, ""); status != 204 || body != "" {
				t.Fatalf("got %d %s", status, body)
			}
			if f := c.next(); f.Type != "reconnect" || f.Delay < 2000 {
				t.Errorf("got %+v, want when to come back", f)
			}
			if c.ws != nil {
				if e := c.ws.wantClose(1012); e.Text != "disconnected by the operator" {
					t.Errorf("close reason %q", e.Text)
				}
			} else if _, err := c.sse.next(); !errors.Is(err, io.EOF) {
				t.Errorf("the stream goes on: %v", err)
			}
			n.until("gone", "", func(l sessionList) bool { return slices.Equal(l.ids(), []string{other.welcome.Session}) })
			if status, body, _ := ask(t, "DELETE", n.admin, "/admin/sessions/"+c.welcome.Session, ""); status != 404 || !strings.Contains(body, `"not_found"`) {
				t.Errorf("a second time: %d %s", status, body)
			}
			n.publish("a", "2")
			again := n.listen(transport, "channel=a&resume="+c.token)
			if c.ws != nil {
				again.want("1", "2") // the welcome's token was before the first
			} else {
				again.want("2")
			}
			other.want("2")
			if got := n.counts.closes[0][closedByUs].Load() + n.counts.closes[1][closedByUs].Load(); got != 1 {
				t.Errorf("%d connections were closed by the server, want 1", got)
			}
		})
	}
}

// A client that takes nothing is cut off soon, whatever it is owed.
func TestAdminDisconnectStalled(t *testing.T) {
	n := newAdministered(t, func(c *Config) { c.SendBuffer = 8 << 10 })
	healthy, slow := n.listen("ws", "channel=a"), n.laggard("sse", "channel=a")
	n.flood(healthy, 0, 100)
	n.until("one that lags", "limit=1", func(l sessionList) bool { return l.Sessions[0].Busy })
	if status, _, _ := ask(t, "DELETE", n.admin, "/admin/sessions/"+slow.welcome.Session, ""); status != 204 {
		t.Fatalf("got %d", status)
	}
	if s := n.list("transport=sse"); len(s.Sessions) == 1 && s.Sessions[0].State != "closing" {
		t.Errorf("got %+v", s)
	}
	n.until("gone", "", func(l sessionList) bool { return slices.Equal(l.ids(), []string{healthy.welcome.Session}) })
}

func TestAdminListRefusals(t *testing.T) {
	n := newAdministered(t, nil)
	for _, tt := range []struct {
		method, path string
		status       int
		want         string
	}{
		{"GET", "/admin/sessions?limit=0", 400, "bad_request: limit is a number from 1 to 1000"},
		{"GET", "/admin/sessions?limit=1001", 400, "bad_request: limit is a number from 1 to 1000"},
		{"GET", "/admin/sessions?limit=many", 400, "bad_request: limit is a number from 1 to 1000"},
		{"GET", "/admin/sessions?sort=name", 400, `bad_request: can't sort by "name"; there are lag, owed, bytes`},
		{"GET", "/admin/sessions?sort=lag&sort=lag", 400, "bad_request: sort is there twice"},
		{"GET", "/admin/sessions?channels=a", 400, `bad_request: unknown parameter "channels"; there are sort, limit, channel, transport`},
		{"GET", "/admin/sessions?channel=", 400, "bad_channel: "},
		{"GET", "/admin/sessions?transport=http", 400, "bad_request: transport is sse, ws or poll"},
		{"POST", "/admin/sessions", 405, "method_not_allowed: "},
		{"DELETE", "/admin/sessions", 405, "method_not_allowed: "},
		{"GET", "/admin/sessions/x", 404, "not_found: this node has no session with this id"},
		{"GET", "/admin/sessions/AAAAAAAAAAAAAAAA", 404, "not_found: this node has no session with this id"},
		{"DELETE", "/admin/sessions/AAAAAAAAAAAAAAAA", 404, "not_found: this node has no session with this id"},
		{"DELETE", "/admin/sessions/AAAAAAAAAAAAAAAA?force=1", 400, `bad_request: unknown parameter "force"; there are none here`},
		{"GET", "/admin/channels?sort=lag", 400, `bad_request: can't sort by "lag"; there are subscribers, received`},
		{"GET", "/admin/channels?channel=a", 400, `bad_request: unknown parameter "channel"; there are sort, limit, prefix`},
		{"GET", "/admin/stats?x=1", 400, "bad_request: "},
		{"GET", "/admin/drops?x=1", 400, "bad_request: "},
	} {
		status, body, head := ask(t, tt.method, n.admin, tt.path, "")
		var p Problem
		if err := json.Unmarshal([]byte(body), &p); err != nil || status != tt.status || !strings.HasPrefix(p.Error(), tt.want) || head.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s %s: got %d %s, want %d %s", tt.method, tt.path, status, p.Error(), tt.status, tt.want)
		}
	}
	if _, _, head := ask(t, "OPTIONS", n.admin, "/admin/sessions/AAAAAAAAAAAAAAAA", ""); head.Get("Access-Control-Allow-Methods") != "" {
		t.Error("pages of others may disconnect clients")
	}
	if status, _, _ := get(t, n.url("/admin/sessions")); status != 404 {
		t.Errorf("where clients connect: %d, want 404", status)
	}
}

// A survey that nobody waits for any more is given up, and does not stand in the way of the next.
func TestSurveyIsGivenUp(t *testing.T) {
	n := newAdministered(t, nil)
	n.listen("sse", "channel=a")
	ctx, cancel := context.WithCancel(t.Context())
	err := n.survey(ctx, func(int, *writer) func() bool {
		return func() bool { cancel(); return true }
	})
	if p := problemOf(err); p.Code != Unavailable {
		t.Errorf("got %v", err)
	}
	if l := n.list(""); l.Total != 1 {
		t.Errorf("after it: %+v", l)
	}
	n.stop()
	if err := <-n.served; err != nil {
		t.Error(err)
	}
	n.served <- nil
	if status, body, _ := ask(t, http.MethodGet, n.admin, "/admin/sessions", ""); status != 503 || !strings.Contains(body, `"draining"`) {
		t.Errorf("when the node has stopped: %d %s", status, body)
	}
}
