package transport

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"sluice/broker/memory"
	"sluice/middleware/auth"
)

// named lets in whoever names a user, and those who name nobody unless they say that they are a thief.
type named struct {
	everyone
	user string
}

func (named) Authorize(r *http.Request, _ auth.Purpose) (Grant, error) {
	user := r.Header.Get("User")
	if user == "thief" {
		return nil, errors.New("not you")
	}
	return named{user: user}, nil
}

func (n named) Who() *auth.Identity { return &auth.Identity{Subject: n.user} }

// never is a rate at which no token comes while a test runs: one in 100 s.
const never = 0.01

// behindProxy configures a node whose clients come through the loopback as a proxy.
func behindProxy(c *Config) {
	c.Access = named{}
	c.Origins = []string{"https://app.example"}
	c.TrustedProxies = []string{"127.0.0.0/8"}
}

// request is one that a test sends; header is name, value, ….
func (n *node) request(method, path, body string, header ...string) (*http.Response, string) {
	n.t.Helper()
	req, err := http.NewRequest(method, n.url(path), strings.NewReader(body))
	if err != nil {
		n.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		n.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		n.t.Fatal(err)
	}
	return res, string(b)
}

// about reports whether Retry-After is want seconds, or what is left of them on a slow machine; 0 is none.
func about(h http.Header, want int) bool {
	got, _ := strconv.Atoi(h.Get("Retry-After"))
	return got == want || want > 0 && got < want && got > want-5
}

// TestPublishRate sends publishes one after the other and looks at the status and Retry-After of each.
func TestPublishRate(t *testing.T) {
	type step struct {
		from   string // X-Forwarded-For
		user   string
		n      int // messages; 0: POST /publish/a
		status int
		retry  int // s
	}
	for _, row := range []struct {
		name    string
		burst   int
		trusted bool
		steps   []step
		why     string
	}{
		{"one address", 2, false, []step{{"", "", 0, 200, 0}, {"", "", 1, 200, 0}, {"", "", 0, 429, 100}}, "both endpoints count"},
		{"forged", 2, false, []step{{"203.0.113.1", "", 0, 200, 0}, {"203.0.113.2", "", 0, 200, 0}, {"203.0.113.3", "", 0, 429, 100}}, "everyone can write X-Forwarded-For"},
		{"proxied", 1, true, []step{{"203.0.113.1", "", 0, 200, 0}, {"203.0.113.2", "", 0, 200, 0}, {"203.0.113.1", "", 0, 429, 100}}, "each client has its own"},
		{"forged through the proxy", 1, true, []step{{"1.1.1.1, 203.0.113.1", "", 0, 200, 0}, {"2.2.2.2, 203.0.113.1", "", 0, 429, 100}}, "what the proxy added counts"},
		{"one IPv6 network", 1, true, []step{{"2001:db8::1", "", 0, 200, 0}, {"2001:db8::2", "", 0, 429, 100}, {"2001:db8:0:1::1", "", 0, 200, 0}}, "a customer has a /64"},
		{"arrays", 10, true, []step{{"203.0.113.1", "", 7, 200, 0}, {"203.0.113.1", "", 5, 429, 200}, {"203.0.113.1", "", 3, 200, 0}, {"203.0.113.1", "", 1, 429, 100}}, "each message costs one, a refusal nothing"},
		{"array on credit", 2, true, []step{{"203.0.113.1", "", 5, 200, 0}, {"203.0.113.1", "", 1, 429, 400}}, "else it could never be published"},
		{"array larger than what is left", 5, true, []step{{"203.0.113.1", "", 1, 200, 0}, {"203.0.113.1", "", 9, 429, 100}}, "on credit only from a full bucket"},
		{"empty array", 1, true, []step{{"203.0.113.1", "", -1, 200, 0}, {"203.0.113.1", "", 0, 429, 100}}, "a request costs one at least"},
		{"subjects", 2, true, []step{{"203.0.113.1", "ann", 2, 200, 0}, {"203.0.113.1", "bob", 2, 200, 0}, {"203.0.113.1", "ann", 0, 429, 100}, {"203.0.113.2", "bob", 0, 429, 100}, {"203.0.113.1", "", 2, 200, 0}},
			"one office is many clients, one user is one wherever he is, and neither takes from the address"},
		{"credentials that are refused", 2, true, []step{{"203.0.113.1", "thief", 0, 403, 0}, {"203.0.113.1", "thief", 1, 403, 0}, {"203.0.113.1", "thief", 0, 429, 100}, {"203.0.113.2", "ann", 0, 200, 0}}, "guessing is limited before it is looked at"},
	} {
		t.Run(row.name, func(t *testing.T) {
			n := newNode(t, func(c *Config) {
				behindProxy(c)
				if !row.trusted {
					c.TrustedProxies = nil
				}
				c.PublishRate, c.PublishBurst = never, row.burst
			})
			for i, s := range row.steps {
				path, kind, body := "/publish/a", "text/plain", "x"
				if s.n != 0 {
					path, kind, body = "/publish", "application/json", "["+strings.TrimSuffix(strings.Repeat(`{"channel":"a","data":"x"},`, max(s.n, 0)), ",")+"]"
				}
				header := []string{"Content-Type", kind, "Origin", "https://app.example", "User", s.user}
				if s.from != "" {
					header = append(header, "X-Forwarded-For", s.from)
				}
				res, answer := n.request("POST", path, body, header...)
				if res.StatusCode != s.status || !about(res.Header, s.retry) {
					t.Fatalf("step %d: got %d, Retry-After %q, %s; want %d, %d: %s", i, res.StatusCode, res.Header.Get("Retry-After"), answer, s.status, s.retry, row.why)
				}
				if s.status == 429 && (!strings.Contains(answer, `"code":"rate_limited"`) || res.Header.Get("Content-Type") != "application/problem+json") {
					t.Errorf("step %d: %s is no problem", i, answer)
				}
				if h := res.Header; h.Get("Access-Control-Allow-Origin") != "https://app.example" || !strings.Contains(h.Get("Access-Control-Expose-Headers"), "Retry-After") || h.Get("X-Request-Id") == "" {
					t.Errorf("step %d: a page can't read the answer, or it has no id: %v", i, h)
				}
			}
		})
	}
}

// An array that is refused is refused as a whole.
func TestPublishRateAllOrNothing(t *testing.T) {
	n := newNode(t, func(c *Config) { c.PublishRate, c.PublishBurst = never, 2 })
	s := n.sse("channel=a")
	s.want("welcome", "*")
	n.publish("a", "1")
	if status, body := n.post("/publish", "application/json", `[{"channel":"a","data":"2"},{"channel":"a","data":"3"}]`); status != 429 {
		t.Fatalf("got %d %s", status, body)
	}
	n.publish("a", "4")
	s.want("", "1")
	s.want("", "4")
}

// Nobody is limited unless it is configured.
func TestNoRates(t *testing.T) {
	n := newNode(t, nil)
	if l := n.limits; l.connects != nil || l.publishes != nil || l.commands != nil {
		t.Errorf("limits by default: %+v", l)
	}
}

func TestConnectRate(t *testing.T) {
	n := newNode(t, func(c *Config) {
		behindProxy(c)
		c.ConnectRate, c.ConnectBurst = never, 2
		c.Retry = time.Second
	})
	stream := func(header ...string) *stream {
		return openStream(t, http.DefaultTransport, n.url("/sse?channel=a"), append(header, "Origin", "https://app.example")...)
	}
	dial := func(header http.Header) *http.Response {
		c, res, err := websocket.DefaultDialer.Dial("ws://"+n.addr+"/ws?channel=a", header)
		if err == nil {
			_ = c.Close()
		}
		return res
	}
	stream("X-Forwarded-For", "203.0.113.1").want("welcome", "*")
	if res := dial(http.Header{"X-Forwarded-For": {"203.0.113.1"}}); res.StatusCode != 101 || res.Header.Get("X-Request-Id") == "" {
		t.Fatalf("the second of two connections: %v", res)
	}
	t.Run("SSE", func(t *testing.T) {
		s := stream("X-Forwarded-For", "203.0.113.1")
		e := s.want("unavailable", "*")
		if s.resp.StatusCode != 200 || s.resp.Header.Get("Content-Type") != "text/event-stream" || s.resp.Header.Get("Access-Control-Allow-Origin") == "" {
			t.Errorf("EventSource would give up: %d %v", s.resp.StatusCode, s.resp.Header)
		}
		if retry, _ := strconv.Atoi(e.retry); retry < 95_000 || retry > 102_000 || !strings.Contains(e.data, `"code":"rate_limited"`) {
			t.Errorf("got retry %s and %s, want 100 s and a second or two", e.retry, e.data)
		}
		if _, err := s.within(5 * time.Second); !errors.Is(err, io.EOF) {
			t.Errorf("the stream goes on: %v", err)
		}
	})
	t.Run("WebSocket", func(t *testing.T) {
		res := dial(http.Header{"X-Forwarded-For": {"203.0.113.1"}, "Origin": {"https://app.example"}})
		if res.StatusCode != 429 || !about(res.Header, 100) || res.Header.Get("Access-Control-Allow-Origin") == "" {
			t.Errorf("got %d %v", res.StatusCode, res.Header)
		}
	})
	t.Run("another address", func(t *testing.T) { stream("X-Forwarded-For", "203.0.113.2").want("welcome", "*") })
	t.Run("subjects", func(t *testing.T) {
		for _, user := range []string{"ann", "bob", "cyd"} { // more than the burst, behind one address
			stream("X-Forwarded-For", "203.0.113.3", "User", user).want("welcome", "*")
		}
		stream("X-Forwarded-For", "203.0.113.4", "User", "ann").want("welcome", "*")
		stream("X-Forwarded-For", "203.0.113.5", "User", "ann").want("unavailable", "*")
		if res := dial(http.Header{"X-Forwarded-For": {"203.0.113.5"}, "User": {"ann"}}); res.StatusCode != 429 {
			t.Errorf("got %d", res.StatusCode)
		}
	})
	t.Run("who is refused is no session", func(t *testing.T) {
		if k := n.sessions.Load(); k > 7 {
			t.Errorf("%d sessions", k)
		}
	})
}

func TestClientCommandRate(t *testing.T) {
	n := newNode(t, func(c *Config) {
		c.ClientCommandRate, c.ClientCommandBurst = never, 3
		c.PublishRate, c.PublishBurst = never, 2
	})
	one, two := n.ws("channel=a", subprotocolJSON), n.ws("", subprotocolJSON)
	one.want("welcome")
	two.want("welcome")
	one.send(`{"type":"publish","ref":1,"channel":"b","data":"x"}`)
	one.want("reply")
	n.publish("b", "y") // over HTTP, from the same bucket
	two.send(`{"type":"publish","ref":2,"channel":"b","data":"x"}`)
	if f := two.want("error"); f.Ref != 2.0 || f.Code != string(RateLimited) || f.Retry < 95_000 || f.Retry > 100_001 {
		t.Errorf("the third message of this client: %+v", f)
	}
	two.send(`{"type":"ping","ref":3}`)
	two.want("reply")
	one.send(`{"type":"ping","ref":4}`)
	if f := one.want("error"); f.Ref != 4.0 || f.Code != string(RateLimited) || f.Retry < 95_000 || f.Retry > 100_001 {
		t.Errorf("the fourth command of this client: %+v", f)
	}
	ponged := false
	one.SetPongHandler(func(string) error { ponged = true; return nil })
	if err := one.WriteControl(websocket.PingMessage, nil, time.Now().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	one.send(`{"type":"ping","ref":5}`)
	if one.want("error"); !ponged {
		t.Error("pings are no commands; this one was not answered")
	}
}

// A connection that is too fast by itself is told when the next command is due, too.
func TestCommandRateRetry(t *testing.T) {
	n := newNode(t, func(c *Config) { c.CommandRate, c.CommandBurst = 1, 1 })
	c := n.ws("", subprotocolJSON)
	c.want("welcome")
	c.send(`{"type":"ping"}`)
	c.send(`{"type":"ping"}`)
	var f frame
	for range 2 { // in either order
		if x := c.want(""); x.Type == "error" {
			f = x
		}
	}
	if f.Code != string(RateLimited) || f.Retry < 1 || f.Retry > 1001 {
		t.Errorf("got %+v", f)
	}
}

func TestRetryAfter(t *testing.T) {
	for wait, want := range map[time.Duration]int64{0: 1, 1: 1, time.Second: 1, time.Second + 1: 2, 1500 * time.Millisecond: 2, time.Minute: 60} {
		if got := wholeSeconds(wait); got != want {
			t.Errorf("%v: got %d s, want %d", wait, got, want)
		}
	}
}

// buffer is a log that several goroutines write.
type buffer struct {
	mu    sync.Mutex
	b     bytes.Buffer
	wrote chan struct{} // closed by the next line; nil: nobody waits
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.wrote != nil {
		close(b.wrote)
		b.wrote = nil
	}
	return b.b.Write(p)
}

// await waits until there are n lines with the message: that of a connection may come after its first frame.
func (b *buffer) await(t *testing.T, msg string, n int) []map[string]any {
	t.Helper()
	for {
		b.mu.Lock()
		if b.wrote == nil {
			b.wrote = make(chan struct{})
		}
		wrote := b.wrote
		b.mu.Unlock()
		lines := b.lines(t, msg)
		if len(lines) >= n {
			return lines
		}
		select {
		case <-wrote:
		case <-time.After(5 * time.Second):
			t.Fatalf("%d lines %q within 5 s, want %d", len(lines), msg, n)
		}
	}
}

// lines returns the lines with the message, as JSON.
func (b *buffer) lines(t *testing.T, msg string) (lines []map[string]any) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for raw := range strings.Lines(b.b.String()) {
		var line map[string]any
		if err := json.Unmarshal([]byte(raw), &line); err != nil {
			t.Fatalf("%v in the log: %q", err, raw)
		}
		if line["msg"] == msg {
			lines = append(lines, line)
		}
	}
	return lines
}

// Each request and each connection is one line, connections as soon as they have begun.
func TestAccessLogOfTransports(t *testing.T) {
	var log buffer
	n := log.logging(t, func(c *Config) {
		behindProxy(c)
		c.AccessLog = true
		c.ConnectRate, c.ConnectBurst = never, 3
	})
	h2 := &http.Transport{Protocols: new(http.Protocols)}
	h2.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(h2.CloseIdleConnections)
	want := []struct {
		path   string
		status float64
	}{{"/publish/a", 200}, {"/sse", 200}, {"/ws", 101}, {"/sse", 200}, {"/ws", 429}, {"/nowhere", 404}, {"/publish/a", 400}}
	n.publish("a", "x", "id=hunter2")
	s := n.sse("channel=a&resume=hunter2")
	s.want("welcome", "*")
	log.await(t, "request", 2)
	c := n.ws("channel=a&_token=hunter2", subprotocolJSON)
	c.want("welcome")
	log.await(t, "request", 3)
	s2 := openStream(t, h2, n.url("/sse?channel=a&_token=hunter2"))
	s2.want("welcome", "*")
	if _, res, err := websocket.DefaultDialer.Dial("ws://"+n.addr+"/ws?channel=a", nil); err == nil || res.StatusCode != 429 {
		t.Fatalf("got %v", res)
	}
	n.request("GET", "/nowhere?hunter2", "")
	n.request("POST", "/publish/a?live=hunter2", "x", "X-Request-Id", "r-1", "X-Forwarded-For", "203.0.113.1")
	lines := log.await(t, "request", len(want))
	if len(lines) != len(want) {
		t.Fatalf("%d lines: %v", len(lines), lines)
	}
	for i, l := range lines {
		if l["path"] != want[i].path || l["status"] != want[i].status || l["request_id"] == "" {
			t.Errorf("line %d: %v, want %v", i, l, want[i])
		}
	}
	if l := lines[len(lines)-1]; l["request_id"] != "r-1" || l["client"] != "203.0.113.1" || l["method"] != "POST" {
		t.Errorf("got %v", l)
	}
	s.close()
	s2.close()
	_ = c.Close()
	n.stop()
	if err := <-n.served; err != nil {
		t.Error(err)
	}
	n.served <- nil
	if lines := log.lines(t, "request"); len(lines) != len(want) {
		t.Errorf("connections are logged again when they end: %v", lines)
	}
	if strings.Contains(log.b.String(), "hunter2") {
		t.Errorf("a query string is in the log: %s", log.b.String())
	}
}

// logging is newNode with a log.
func (b *buffer) logging(t *testing.T, change func(*Config)) *node {
	t.Helper()
	return newLoggingNode(t, memory.New(memory.DefaultConfig()), slog.New(slog.NewJSONHandler(b, nil)), change)
}

// A node that counts a proxy as a client says so, once, and a client can't make it say more.
func TestProxyHint(t *testing.T) {
	var log buffer
	const hint = "a client was over its rate and may be a proxy, whose clients count as one: see the setting trusted-proxies"
	for _, trusted := range [][]string{nil, {"127.0.0.1"}} {
		n := log.logging(t, func(c *Config) { c.TrustedProxies, c.PublishRate, c.PublishBurst = trusted, never, 1 })
		for range 4 {
			n.request("POST", "/publish/a", "x", "X-Forwarded-For", "203.0.113.1")
		}
		if lines := log.lines(t, hint); len(lines) != 1 || lines[0]["address"] != "127.0.0.1" {
			t.Errorf("trusted %v: logged %v", trusted, lines)
		}
	}
}

// A failure of ours names the request, for its sender and in the log.
func TestInternalNamesTheRequest(t *testing.T) {
	var log buffer
	n := log.logging(t, func(c *Config) { c.Access = broken{} })
	res, body := n.request("POST", "/publish/a", "x", "X-Request-Id", "r-1")
	if res.StatusCode != 500 || res.Header.Get("X-Request-Id") != "r-1" || !strings.Contains(body, "r-1") || strings.Contains(body, "secret") {
		t.Errorf("got %d %v %s", res.StatusCode, res.Header, body)
	}
	if lines := log.lines(t, "panic in a handler"); len(lines) != 1 || lines[0]["request_id"] != "r-1" || lines[0]["panic"] != "a secret" {
		t.Errorf("logged %v", lines)
	}
	res, _ = n.request("GET", "/healthz", "")
	if res.StatusCode != 200 || len(res.Header.Get("X-Request-Id")) != 16 {
		t.Errorf("after that: %d %v", res.StatusCode, res.Header)
	}
}

type broken struct{ everyone }

func (broken) Authorize(*http.Request, auth.Purpose) (Grant, error) { panic("a secret") }

func TestLimitsConfig(t *testing.T) {
	for _, row := range []struct {
		name   string
		change func(*Config)
	}{
		{"negative rate", func(c *Config) { c.PublishRate = -1 }},
		{"no burst", func(c *Config) { c.ConnectRate, c.ConnectBurst = 1, 0 }},
		{"negative number of connections", func(c *Config) { c.SubjectConnections = -1 }},
		{"no subscriptions", func(c *Config) { c.MaxSubscriptions = 0 }},
		{"a burst of bytes that takes many steps", func(c *Config) { c.ClientByteRate, c.ClientByteBurst = 1, 1000 }},
		{"memory for no message", func(c *Config) { c.MemoryLimit = LeastMemory(c.MaxMessage) - 1 }},
		{"a name as proxy", func(c *Config) { c.TrustedProxies = []string{"proxy.example"} }},
		{"everyone as proxy", func(c *Config) { c.TrustedProxies = []string{"::/0"} }},
	} {
		c := DefaultConfig()
		c.Access = everyone{}
		row.change(&c)
		if _, err := New(nil, c, nil); err == nil {
			t.Errorf("%s: taken", row.name)
		}
	}
}
