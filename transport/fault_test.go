package transport

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// faultyWays are the three kinds of links: a socket of the poller's by WebSocket and by SSE, and a stream of HTTP/2.
var faultyWays = []string{"ws", "sse", "h2"}

// faulty is a node that may be broken.
func faulty(t *testing.T, change func(*Config)) *node {
	t.Helper()
	return newNode(t, func(c *Config) {
		c.Faults = true
		if change != nil {
			change(c)
		}
	})
}

// over opens a client to channel c.
func (n *node) over(way string) *client {
	n.t.Helper()
	if way != "h2" {
		return n.listen(way, "channel=c")
	}
	tr := &http.Transport{Protocols: new(http.Protocols)}
	tr.Protocols.SetUnencryptedHTTP2(true)
	n.t.Cleanup(tr.CloseIdleConnections)
	c := &client{t: n.t}
	c.open(openStream(n.t, tr, n.url("/sse?channel=c&format=json")))
	return c
}

// breakIt asks for a fault, which is to be had.
func (n *node) breakIt(format string, args ...any) {
	n.t.Helper()
	if status, body := n.post("/dev/break", "application/json", fmt.Sprintf(format, args...)); status != 204 {
		n.t.Fatalf("break: %d %s, want 204", status, body)
	}
}

// wantData reads messages and checks their payloads.
func (c *client) wantData(want ...string) {
	c.t.Helper()
	if got := c.data(len(want)); !slices.Equal(got, want) {
		c.t.Fatalf("got %q, want %q", got, want)
	}
}

// A node that is not for development has nothing to break, whatever else it serves.
func TestFaultsAreForDevelopment(t *testing.T) {
	for _, tt := range []struct {
		name   string
		faults bool
		status int
		demo   string
	}{
		{"a node with the demo page alone", false, 404, `{"break":false,"heartbeat":10}`},
		{"a node for development", true, 404, `{"break":true,"heartbeat":10}`}, // for want of the session
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := newNode(t, func(c *Config) { c.Demo, c.Faults = true, tt.faults })
			id := n.listen("ws", "channel=c").welcome.Session
			if _, _, body := get(t, n.url("/demo.json")); strings.TrimSpace(body) != tt.demo {
				t.Errorf("/demo.json is %s, want %s", body, tt.demo)
			}
			status, body := n.post("/dev/break", "application/json", fmt.Sprintf(`{"session":%q,"do":"kill"}`, id))
			if want := map[bool]int{true: 204, false: 404}[tt.faults]; status != want {
				t.Errorf("break: %d %s, want %d", status, body, want)
			}
		})
	}
}

func TestFaultRequests(t *testing.T) {
	n := faulty(t, nil)
	id := n.listen("sse", "channel=c").welcome.Session
	for _, tt := range []struct {
		name, body string
		code       Code
	}{
		{"no JSON", `kill`, BadRequest},
		{"nothing", ``, BadRequest},
		{"a list", `[]`, BadRequest},
		{"an unknown member", `{"session":"` + id + `","do":"kill","now":true}`, BadRequest},
		{"a member twice", `{"session":"` + id + `","do":"kill","do":"heal"}`, BadRequest},
		{"two faults", `{"session":"` + id + `","do":"heal"}{}`, BadRequest},
		{"no target", `{"do":"kill"}`, BadRequest},
		{"two targets", `{"session":"` + id + `","transport":"ws","do":"heal"}`, BadRequest},
		{"a session that is none", `{"session":"x","do":"kill"}`, NotFound},
		{"an unknown session", `{"session":"AAAAAAAAAAAAAAAA","do":"kill"}`, NotFound},
		{"an unknown fault", `{"session":"` + id + `","do":"explode"}`, BadRequest},
		{"what is for transports", `{"session":"` + id + `","do":"refuse","ms":1}`, BadRequest},
		{"a delay of nothing", `{"session":"` + id + `","do":"delay"}`, BadRequest},
		{"a delay into the past", `{"session":"` + id + `","do":"delay","ms":-1}`, BadRequest},
		{"a delay without end", `{"session":"` + id + `","do":"delay","ms":300001}`, BadRequest},
		{"an unknown transport", `{"transport":"http","do":"refuse","ms":1}`, BadRequest},
		{"what is for sessions", `{"transport":"ws","do":"kill","ms":1}`, BadRequest},
		{"refused for how long", `{"transport":"ws","do":"refuse"}`, BadRequest},
		{"much", `{"session":"` + strings.Repeat("A", maxFaultRequest) + `"}`, TooLarge},
	} {
		status, body := n.post("/dev/break", "application/json", tt.body)
		var p Problem
		if err := json.Unmarshal(body, &p); err != nil || p.Code != tt.code || status != codes[tt.code].status {
			t.Errorf("%s: %d %s, want %s", tt.name, status, body, tt.code)
		}
	}
	if status, body := n.post("/dev/break", "text/plain", `{"session":"`+id+`","do":"kill"}`); status != 415 {
		t.Errorf("text/plain, which any page may send: %d %s, want 415", status, body)
	}
	req, _ := http.NewRequest("POST", n.url("/dev/break"), strings.NewReader(`{"session":"`+id+`","do":"kill"}`))
	req.Header.Set("Origin", "https://stranger.example")
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != 403 {
		t.Errorf("a page of another origin: %d, want 403", res.StatusCode)
	}
}

// A connection that is cut ends without a word.
func TestFaultKill(t *testing.T) {
	n := faulty(t, nil)
	for _, way := range faultyWays {
		t.Run(way, func(t *testing.T) {
			c := n.over(way)
			n.breakIt(`{"session":%q,"do":"kill"}`, c.welcome.Session)
			c.wantEnd("message")
		})
	}
}

// What is held back comes when that is over, in order, and nothing is lost.
func TestFaultSwallow(t *testing.T) {
	n := faulty(t, nil)
	for _, way := range faultyWays {
		t.Run(way, func(t *testing.T) {
			c := n.over(way)
			begin := time.Now()
			n.breakIt(`{"session":%q,"do":"swallow","ms":300}`, c.welcome.Session)
			for i := range 5 {
				n.publish("c", fmt.Sprint("for a time ", i))
			}
			c.wantData("for a time 0", "for a time 1", "for a time 2", "for a time 3", "for a time 4")
			if d := time.Since(begin); d < 300*time.Millisecond {
				t.Errorf("it came after %v, want 300ms", d)
			}

			n.breakIt(`{"session":%q,"do":"swallow"}`, c.welcome.Session)
			n.publish("c", "for good")
			first := make(chan frame, 1)
			go func() { first <- c.read() }()
			select {
			case f := <-first:
				t.Fatalf("got %+v, want nothing", f)
			case <-time.After(100 * time.Millisecond):
			}
			n.publish("c", "more")
			n.breakIt(`{"session":%q,"do":"heal"}`, c.welcome.Session)
			if f := <-first; f.Data != "for good" {
				t.Errorf("got %+v, want what was held", f)
			}
			n.publish("c", "healed")
			c.wantData("more", "healed")
		})
	}
}

// What does not fit into the socket when it is let through comes all the same.
func TestFaultSwallowsMuch(t *testing.T) {
	n := faulty(t, func(c *Config) { c.SendBuffer, c.UnsentLimit = 4<<10, 4<<10 })
	for _, way := range faultyWays {
		t.Run(way, func(t *testing.T) {
			c := n.over(way)
			n.breakIt(`{"session":%q,"do":"delay","ms":20}`, c.welcome.Session)
			var want []string
			for i := range 40 {
				want = append(want, fmt.Sprint(i, strings.Repeat("x", 100<<10)))
				n.publish("c", want[i])
			}
			c.wantData(want...)
		})
	}
}

func TestFaultDelay(t *testing.T) {
	n := faulty(t, nil)
	for _, way := range faultyWays {
		t.Run(way, func(t *testing.T) {
			c := n.over(way)
			n.breakIt(`{"session":%q,"do":"delay","ms":200}`, c.welcome.Session)
			for i := range 3 {
				begin := time.Now()
				n.publish("c", fmt.Sprint(i))
				c.wantData(fmt.Sprint(i))
				if d := time.Since(begin); d < 200*time.Millisecond {
					t.Errorf("message %d came after %v, want 200ms", i, d)
				}
			}
		})
	}
}

// A node that gets nothing through gives the connection up, as ever.
func TestFaultEnds(t *testing.T) {
	n := faulty(t, func(c *Config) { c.Heartbeat, c.WriteTimeout = time.Second, 300*time.Millisecond })
	for _, way := range faultyWays {
		t.Run(way, func(t *testing.T) {
			c := n.over(way)
			n.breakIt(`{"session":%q,"do":"swallow"}`, c.welcome.Session)
			n.publish("c", "lost")
			c.wantEnd("lost")
		})
	}
}

// wantEnd reads to the end of the connection, which has to come without a close frame, and without a message.
func (c *client) wantEnd(message string) {
	c.t.Helper()
	if c.ws == nil {
		for {
			e, err := c.sse.within(10 * time.Second)
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil || strings.Contains(e.data, message) {
				c.t.Fatalf("got %+v, %v, want the end", e, err)
			}
		}
	}
	for {
		_ = c.ws.SetReadDeadline(time.Now().Add(10 * time.Second))
		_, b, err := c.ws.ReadMessage()
		if websocket.IsCloseError(err, websocket.CloseAbnormalClosure) {
			return
		}
		if err != nil || strings.Contains(string(b), message) {
			c.t.Fatalf("got %q, %v, want no close frame (1006)", b, err)
		}
	}
}

// TestBlockade: a client is kept off one transport, and has the others.
func TestBlockade(t *testing.T) {
	n := faulty(t, nil)
	listens := map[string]func(within time.Duration) error{
		"ws": func(within time.Duration) error {
			d := websocket.Dialer{HandshakeTimeout: within}
			c, _, err := d.Dial("ws://"+n.addr+"/ws?channel=c", nil)
			if err == nil {
				_ = c.Close()
			}
			return err
		},
		"sse": func(within time.Duration) error { return listened(n, within, "GET", "/sse?channel=c", "") },
		"poll": func(within time.Duration) error {
			return listened(n, within, "POST", "/poll", `{"subscriptions":[{"channel":"c"}],"wait":0}`)
		},
	}
	const patience, long = 200 * time.Millisecond, 10 * time.Second
	for over := range listens {
		for _, how := range []string{"refuse", "swallow"} {
			t.Run(over+" "+how, func(t *testing.T) {
				n.breakIt(`{"transport":%q,"do":%q,"ms":60000}`, over, how)
				var err error
				if how == "refuse" {
					err = listens[over](long)
				} else {
					err = listens[over](patience)
				}
				var late net.Error
				if err == nil || (how == "swallow") != (errors.As(err, &late) && late.Timeout()) {
					t.Errorf("%s: %v", over, err)
				}
				for other, listen := range listens {
					if other != over {
						if err := listen(long); err != nil {
							t.Errorf("%s, which is free: %v", other, err)
						}
					}
				}
				n.breakIt(`{"transport":%q,"do":"heal"}`, over)
				if err := listens[over](long); err != nil {
					t.Errorf("%s, which is free again: %v", over, err)
				}
			})
		}
	}
	if k := len(n.faults.blockade.lists); k != 0 {
		t.Errorf("%d barriers are left", k)
	}

	// A connection that is held does not keep the node.
	n.breakIt(`{"transport":"ws","do":"swallow","ms":300000}`)
	c, err := net.Dial("tcp", n.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "GET /ws?channel=c HTTP/1.1\r\nHost: %s\r\n\r\n", n.addr)
	n.stop()
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	if b, err := io.ReadAll(c); err != nil || len(b) > 0 {
		t.Errorf("got %q, %v, want the end of the node", b, err)
	}
}

// listened returns an error unless a request has the status 200 in time.
func listened(n *node, within time.Duration, method, path, body string) error {
	r, err := http.NewRequest(method, n.url(path), strings.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	client := http.Client{Timeout: within, Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Do(r)
	if err != nil {
		return err
	}
	_ = res.Body.Close()
	if res.StatusCode != 200 {
		return errors.New(res.Status)
	}
	return nil
}
