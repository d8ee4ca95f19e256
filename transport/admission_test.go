package transport

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"sluice/broker"
	"sluice/broker/memory"

	"sluice/middleware/auth"
)

// bounded is a grant that brings limits of its own: the header User is name/connections/rate.
type bounded struct {
	named
	connections int
	rate        float64
}

func (bounded) Authorize(r *http.Request, _ auth.Purpose) (Grant, error) {
	b := bounded{named: named{user: r.Header.Get("User")}}
	switch b.user {
	case "thief":
		return nil, errors.New("not you")
	case "one":
		b.connections = 1
	case "five":
		b.connections = 5
	case "slow":
		b.rate = never
	}
	return b, nil
}

func (b bounded) Who() *auth.Identity {
	return &auth.Identity{Subject: b.user, Connections: b.connections, Rate: b.rate}
}

// dial opens a WebSocket, or returns the answer that there is none.
func (n *node) dial(query string, header http.Header) (*websocket.Conn, *http.Response) {
	n.t.Helper()
	d := websocket.Dialer{Subprotocols: []string{subprotocolJSON}, HandshakeTimeout: 5 * time.Second}
	c, res, err := d.Dial("ws://"+n.addr+"/ws?"+query, header)
	if err != nil && res == nil {
		n.t.Fatal(err)
	}
	if c != nil {
		n.t.Cleanup(func() { _ = c.Close() })
	}
	return c, res
}

// emptied waits until nothing is counted any more.
func (n *node) emptied(t *testing.T) {
	t.Helper()
	counts := func() [5]int64 {
		return [5]int64{n.sessions.Load(), int64(n.limits.addresses.size()), int64(n.limits.subjects.size()), n.limits.subscriptions.Load(), n.sockets.open.Load()}
	}
	for deadline := time.Now().Add(10 * time.Second); counts() != [5]int64{}; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("sessions, addresses, subjects, subscriptions, sockets: %v are still counted", counts())
		}
	}
	if k := n.sockets.of.size(); k != 0 {
		t.Errorf("sockets of %d addresses are still counted", k)
	}
}

// Connections at once are counted by address and by subject, whatever the transport.
func TestConnectionsAtOnce(t *testing.T) {
	type step struct {
		from, user string
		ok         bool
	}
	for _, row := range []struct {
		name                string
		perAddress, perUser int
		steps               []step
		why                 string
	}{
		{"address", 2, 0, []step{{"203.0.113.1", "", true}, {"203.0.113.1", "", true}, {"203.0.113.1", "", false}, {"203.0.113.2", "", true}}, "each address has its own"},
		{"IPv6", 1, 0, []step{{"2001:db8::1", "", true}, {"2001:db8::2", "", false}, {"2001:db8:0:1::1", "", true}}, "a customer has a /64"},
		{"address and subjects", 2, 0, []step{{"203.0.113.1", "ann", true}, {"203.0.113.1", "bob", true}, {"203.0.113.1", "cyd", false}}, "an address counts whoever they belong to"},
		{"subject", 0, 2, []step{{"203.0.113.1", "ann", true}, {"203.0.113.2", "ann", true}, {"203.0.113.3", "ann", false}, {"203.0.113.3", "bob", true}, {"203.0.113.3", "", true}}, "a user is one wherever he is"},
		{"the grant's own", 0, 0, []step{{"203.0.113.1", "one", true}, {"203.0.113.2", "one", false}, {"203.0.113.2", "ann", true}}, "credentials may allow fewer"},
		{"the stricter", 0, 2, []step{{"203.0.113.1", "five", true}, {"203.0.113.2", "five", true}, {"203.0.113.2", "five", false}}, "credentials can't allow more"},
		{"off", 0, 0, []step{{"203.0.113.1", "ann", true}, {"203.0.113.1", "ann", true}, {"203.0.113.1", "ann", true}}, "0 is no limit"},
	} {
		for _, over := range transports {
			t.Run(row.name+" "+over, func(t *testing.T) {
				n := newNode(t, func(c *Config) {
					behindProxy(c)
					c.Access = bounded{}
					c.AddressConnections, c.SubjectConnections = row.perAddress, row.perUser
				})
				for i, s := range row.steps {
					header := http.Header{"X-Forwarded-For": {s.from}, "User": {s.user}}
					if over == "ws" {
						c, res := n.dial("channel=a", header)
						if (c != nil) != s.ok || c == nil && (res.StatusCode != 429 || !about(res.Header, 5)) {
							t.Fatalf("step %d: got %v, want %t: %s", i, res, s.ok, row.why)
						}
						if body, _ := io.ReadAll(res.Body); c == nil && !strings.Contains(string(body), `"code":"too_many_connections"`) {
							t.Errorf("step %d: %s", i, body)
						}
						continue
					}
					st := n.sse("channel=a", "X-Forwarded-For", s.from, "User", s.user)
					if s.ok {
						st.want("welcome", "*")
					} else if e := st.want("unavailable", "*"); !strings.Contains(e.data, `"code":"too_many_connections"`) || st.resp.StatusCode != 200 || e.retry == "" {
						t.Errorf("step %d: EventSource would not come back: %d %+v", i, st.resp.StatusCode, e)
					}
				}
			})
		}
	}
}

// A place is free as soon as its session has ended.
func TestConnectionsComeBack(t *testing.T) {
	n := newNode(t, func(c *Config) { c.Access, c.AddressConnections, c.SubjectConnections = bounded{}, 1, 1 })
	for range 5 {
		var c *websocket.Conn
		for deadline := time.Now().Add(5 * time.Second); c == nil; {
			if time.Now().After(deadline) {
				t.Fatal("the place is not free within 5 s")
			}
			c, _ = n.dial("channel=a", http.Header{"User": {"ann"}})
		}
		if c, res := n.dial("channel=a", http.Header{"User": {"ann"}}); c != nil || res.StatusCode != 429 {
			t.Fatalf("a second one is taken: %v", res)
		}
		_ = c.Close()
	}
}

// stubborn is a ResponseWriter that can't be hijacked, or panics when it is.
type stubborn struct {
	http.ResponseWriter
	panics bool
}

func (s stubborn) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	if s.panics {
		panic("hijacked")
	}
	return nil, nil, errors.New("not this one")
}

// Whatever becomes of requests to connect, in whatever order: in the end nothing is counted.
func TestCountsReturnToZero(t *testing.T) {
	n := newNode(t, func(c *Config) {
		behindProxy(c)
		c.Access, c.AddressConnections, c.SubjectConnections, c.MaxSessions, c.MaxSubscriptions = bounded{}, 3, 2, 12, 40
		c.DrainTime = 0
	})
	h2 := &http.Transport{Protocols: new(http.Protocols)}
	h2.Protocols.SetUnencryptedHTTP2(true)
	defer h2.CloseIdleConnections()
	users := []string{"", "ann", "bob", "one", "thief", "slow"}
	queries := []string{"channel=a", "channel=a&channel=b", "channel=secret", "channel=a+b", "gaps=odd&channel=a", "", "channel=a&resume=nonsense"}
	var wg sync.WaitGroup
	for lane := range 8 {
		rng := rand.New(rand.NewPCG(1, uint64(lane)))
		wg.Go(func() {
			for range 60 {
				from, user, query := "203.0.113."+string('1'+rune(rng.IntN(3))), users[rng.IntN(len(users))], queries[rng.IntN(len(queries))]
				stay := time.Duration(rng.IntN(3)) * time.Millisecond
				r := httptest.NewRequest("GET", "/", nil)
				r.Header = http.Header{"X-Forwarded-For": {from}, "User": {user}}
				r.RemoteAddr = "127.0.0.1:1"
				switch rng.IntN(6) {
				case 0: // a WebSocket, which subscribes to more
					d := websocket.Dialer{Subprotocols: []string{subprotocolJSON}}
					if c, _, err := d.Dial("ws://"+n.addr+"/ws?"+query, r.Header); err == nil {
						_ = c.WriteMessage(websocket.TextMessage, []byte(`{"type":"subscribe","channels":["x","y","z","x"]}`))
						_ = c.WriteMessage(websocket.TextMessage, []byte(`{"type":"unsubscribe","channel":"y"}`))
						time.Sleep(stay)
						_ = c.Close()
					}
				case 1: // a plain WebSocket without a channel, which ends at once
					if c, _, err := websocket.DefaultDialer.Dial("ws://"+n.addr+"/ws", r.Header); err == nil {
						_ = c.Close()
					}
				case 2, 3: // a stream over HTTP/1.1 or HTTP/2
					rt := http.RoundTripper(http.DefaultTransport)
					if rng.IntN(2) == 0 {
						rt = h2
					}
					req, _ := http.NewRequest("GET", n.url("/sse?"+query), nil)
					req.Header = r.Header
					if res, err := rt.RoundTrip(req); err == nil {
						time.Sleep(stay)
						_ = res.Body.Close()
					}
				default: // a connection that can't be taken over
					r.URL.Path, r.URL.RawQuery = "/sse", query
					if rng.IntN(2) == 0 {
						r.URL.Path = "/ws"
						for name, v := range map[string]string{"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="} {
							r.Header.Set(name, v)
						}
					}
					n.handler.ServeHTTP(stubborn{httptest.NewRecorder(), rng.IntN(2) == 0}, r)
				}
			}
		})
	}
	wg.Wait()
	h2.CloseIdleConnections()
	http.DefaultClient.CloseIdleConnections()
	n.emptied(t)
}

// All subscriptions together are bounded, those of handshakes and those of commands.
func TestMaxSubscriptions(t *testing.T) {
	n := newNode(t, func(c *Config) { c.MaxSubscriptions = 3 })
	ws := n.ws("channel=a", subprotocolJSON)
	ws.want("welcome")
	subscribe := func(want string, channels string) {
		t.Helper()
		ws.send(`{"type":"subscribe","ref":1,"channels":[` + channels + `]}`)
		if f := ws.want(""); f.Type != want || want == "error" && f.Code != string(AtCapacity) {
			t.Fatalf("%s: got %+v, want %s", channels, f, want)
		}
	}
	subscribe("error", `"b","c","d"`)
	subscribe("reply", `"b","c","a"`)
	subscribe("error", `"d"`)
	if e := n.sse("channel=a").want("unavailable", "*"); !strings.Contains(e.data, `"code":"at_capacity"`) {
		t.Errorf("got %+v", e)
	}
	if c, res := n.dial("channel=a", nil); c != nil || res.StatusCode != 503 {
		t.Errorf("got %v", res)
	}
	if c, _ := n.dial("", nil); c == nil {
		t.Error("a connection without channels is refused")
	}
	ws.send(`{"type":"unsubscribe","ref":2,"channels":["a","b"]}`)
	ws.want("reply")
	n.sse("channel=x&channel=y").want("welcome", "*")
}

// The node's own rates hold for all clients together, and say that another node may have room.
func TestNodeRates(t *testing.T) {
	t.Run("connects", func(t *testing.T) {
		n := newNode(t, func(c *Config) { behindProxy(c); c.NodeConnectRate = never })
		n.sse("channel=a", "X-Forwarded-For", "203.0.113.1").want("welcome", "*")
		e := n.sse("channel=a", "X-Forwarded-For", "203.0.113.2").want("unavailable", "*")
		if !strings.Contains(e.data, `"code":"at_capacity"`) || len(e.retry) < 5 {
			t.Errorf("got %+v, want at_capacity and some 100 s", e)
		}
		if c, res := n.dial("channel=a", http.Header{"X-Forwarded-For": {"203.0.113.3"}}); c != nil || res.StatusCode != 503 || !about(res.Header, 100) {
			t.Errorf("got %v", res)
		}
	})
	t.Run("publishes", func(t *testing.T) {
		n := newNode(t, func(c *Config) {
			behindProxy(c)
			c.NodePublishRate, c.PublishRate, c.PublishBurst = 0.9, 1000, 10
		})
		ws := n.ws("", subprotocolJSON)
		ws.want("welcome")
		if res, body := n.request("POST", "/publish/a", "x", "X-Forwarded-For", "203.0.113.1"); res.StatusCode != 200 {
			t.Fatalf("the first: %d %s", res.StatusCode, body)
		}
		res, body := n.request("POST", "/publish/a", "x", "X-Forwarded-For", "203.0.113.2")
		if res.StatusCode != 503 || !strings.Contains(body, `"code":"at_capacity"`) || !about(res.Header, 2) {
			t.Errorf("got %d %s %v", res.StatusCode, body, res.Header)
		}
		ws.send(`{"type":"publish","ref":1,"channel":"a","data":"x"}`)
		if f := ws.want("error"); f.Code != string(AtCapacity) || f.Retry < 1 {
			t.Errorf("got %+v", f)
		}
	})
}

// A grant's own rate counts messages and commands together, over all connections of its subject.
func TestGrantedRate(t *testing.T) {
	n := newNode(t, func(c *Config) { behindProxy(c); c.Access = bounded{} })
	c, _ := n.dial("", http.Header{"User": {"slow"}})
	ws := &socket{t, c}
	ws.want("welcome")
	ws.send(`{"type":"publish","ref":1,"channel":"a","data":"x"}`)
	ws.want("reply") // one token, though it is a command and a message
	ws.send(`{"type":"ping","ref":2}`)
	if f := ws.want("error"); f.Code != string(RateLimited) || f.Retry < 95_000 {
		t.Errorf("got %+v", f)
	}
	if res, body := n.request("POST", "/publish/a", "x", "User", "slow", "X-Forwarded-For", "203.0.113.9"); res.StatusCode != 429 || !about(res.Header, 100) {
		t.Errorf("got %d %s", res.StatusCode, body)
	}
	if res, body := n.request("POST", "/publish/a", "x", "User", "ann"); res.StatusCode != 200 {
		t.Errorf("another one: %d %s", res.StatusCode, body)
	}
	if got := n.limits.refused[limitGranted].Load(); got != 2 {
		t.Errorf("%d refusals are counted, want 2", got)
	}
}

// Bytes count per client, over HTTP before they are read, and over WebSocket.
func TestByteRate(t *testing.T) {
	n := newNode(t, func(c *Config) { behindProxy(c); c.ClientByteRate, c.ClientByteBurst = 1, 64<<10 })
	large := strings.Repeat("x", 48<<10)
	post := func(from, body string) (*http.Response, string) {
		return n.request("POST", "/publish/a", body, "X-Forwarded-For", from)
	}
	if res, body := post("203.0.113.1", large); res.StatusCode != 200 {
		t.Fatalf("got %d %s", res.StatusCode, body)
	}
	if res, body := post("203.0.113.1", large); res.StatusCode != 429 || !strings.Contains(body, "rate_limited") {
		t.Errorf("got %d %s", res.StatusCode, body)
	}
	if res, body := post("203.0.113.1", "small"); res.StatusCode != 200 {
		t.Errorf("a refusal has cost something: %d %s", res.StatusCode, body)
	}
	if res, body := post("203.0.113.2", large); res.StatusCode != 200 {
		t.Errorf("another client: %d %s", res.StatusCode, body)
	}
	c, _ := n.dial("", http.Header{"X-Forwarded-For": {"203.0.113.2"}})
	ws := &socket{t, c}
	ws.want("welcome")
	ws.send(`{"type":"publish","ref":1,"channel":"a","data":"` + large + `"}`)
	if f := ws.want("error"); f.Ref != 1.0 || f.Code != string(RateLimited) || f.Retry < 1000 {
		t.Errorf("got %+v", f)
	}
	req, err := http.NewRequest("POST", n.url("/publish/a"), io.MultiReader(strings.NewReader(large))) // its length is not announced
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Forwarded-For", "203.0.113.1")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != 429 {
		t.Errorf("in chunks: %s", res.Status)
	}
}

// Who is refused by a full node has cost the backend nothing, and nobody was asked who he is.
func TestFullNodeCostsNothing(t *testing.T) {
	backend := memory.New(memory.DefaultConfig())
	b := broker.New(backend, broker.Options{})
	c := DefaultConfig()
	c.Access = broken{} // panics when it is asked
	s, err := New(b, c, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.poller.file.Close()
	s.memory = &memoryGuard{budget: 1 << 40, made: time.Now()}
	s.memory.full.Store(true)
	s.memory.mu.Lock() // nobody looks again
	s.handler = s.routes()
	for _, r := range []*http.Request{
		httptest.NewRequest("GET", "/sse?channel=a", nil),
		httptest.NewRequest("GET", "/ws?channel=a", nil),
		httptest.NewRequest("POST", "/publish/a", strings.NewReader("x")),
		httptest.NewRequest("POST", "/publish", strings.NewReader("x")),
	} {
		w := httptest.NewRecorder()
		s.handler.ServeHTTP(w, r)
		if body := w.Body.String(); !strings.Contains(body, `"code":"at_capacity"`) {
			t.Errorf("%s: %d %s", r.URL, w.Code, body)
		}
	}
	if got := s.limits.refused[limitNodeMemory].Load(); got != 4 {
		t.Errorf("%d refusals are counted, want 4", got)
	}
	if reads, logs := b.Stats().Reads.Load(), b.Channels(); reads != 0 || logs != 0 {
		t.Errorf("%d reads, %d logs", reads, logs)
	}
	w := httptest.NewRecorder()
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // the backend does not run
	s.handler.ServeHTTP(w, httptest.NewRequest("GET", "/readyz", nil).WithContext(ctx))
	var told ready
	if err := json.Unmarshal(w.Body.Bytes(), &told); err != nil || w.Code != 503 || told.Ready || !strings.Contains(told.Why, "memory-limit") {
		t.Errorf("readyz: %d %s", w.Code, w.Body)
	}
}

// size returns how many are known.
func (c *crowd) size() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.of)
}
