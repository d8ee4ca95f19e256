package transport

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"sluice/broker"
	"sluice/middleware"
)

// laggard opens a client that has read its welcome and reads no more until the test does, with little room in
// its kernel.
func (n *node) laggard(transport, query string) *client {
	n.t.Helper()
	dial := func() net.Conn {
		conn, err := net.Dial("tcp", n.addr)
		if err != nil {
			n.t.Fatal(err)
		}
		n.t.Cleanup(func() { _ = conn.Close() })
		if err := conn.(*net.TCPConn).SetReadBuffer(32 << 10); err != nil {
			n.t.Fatal(err)
		}
		return conn
	}
	c := &client{t: n.t}
	if transport == "ws" {
		d := websocket.Dialer{Subprotocols: []string{subprotocolJSON}, ReadBufferSize: 4 << 10,
			NetDial: func(string, string) (net.Conn, error) { return dial(), nil }}
		conn, _, err := d.Dial("ws://"+n.addr+"/ws?"+query, nil)
		if err != nil {
			n.t.Fatal(err)
		}
		c.ws = &socket{n.t, conn}
		c.welcome = c.ws.want("welcome")
		c.token = c.welcome.Token
		return c
	}
	conn := dial()
	if _, err := fmt.Fprintf(conn, "GET /sse?format=json&%s HTTP/1.1\r\nHost: x\r\n\r\n", query); err != nil {
		n.t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReaderSize(conn, 4<<10), nil)
	if err != nil {
		n.t.Fatal(err)
	}
	c.open(&stream{t: n.t, resp: resp, r: bufio.NewReaderSize(resp.Body, 4<<10)})
	return c
}

// slowly are policies that differ in what becomes of slow readers.
func slowly(t *testing.T, then broker.Then) func(*Config) {
	p := rules(t, map[string]middleware.Delivery{"a": {Slow: middleware.Slow{Ring: 100, Then: then}}})
	return func(c *Config) { c.Policies = p }
}

// keys is how many keys the laggards' messages have.
const keys = 10

// flood publishes the messages from up to to, of 4 KiB each, and has the healthy client read each of them. The writers of others have given their
// clients what these take, too: who is behind then does not read, and was not just forgotten by a busy machine.
func (n *node) flood(healthy *client, from, to int) {
	n.t.Helper()
	for ; from < to; from += 50 {
		for i := from; i < min(from+50, to); i++ {
			n.put(&broker.Message{Channel: "a", Key: strconv.Itoa(i % keys), Data: []byte(body(i))}, false)
		}
		for i := from; i < min(from+50, to); i++ {
			if f := healthy.next(); number(f) != i {
				n.t.Fatalf("the healthy neighbour of a laggard gets %s %.20q, want number %d", f.Type, f.Data, i)
			}
		}
		n.settled() // in this pass, or before it
		n.settled()
	}
}

// number is what body made a payload of; -1 if f is no such message.
func number(f frame) int {
	n, err := strconv.Atoi(f.Data[:min(6, len(f.Data))])
	if f.Type != "message" || err != nil {
		return -1
	}
	return n
}

// A slow reader gets the newest of each key, then everything again; whatever it does not get is counted to it.
func TestLaggardIsConflated(t *testing.T) {
	for _, transport := range transports {
		t.Run(transport, func(t *testing.T) {
			n := newNode(t, slowly(t, broker.ThenConflate))
			healthy, slow := n.listen("sse", "channel=a"), n.laggard(transport, "channel=a")
			const messages = 1500 // the ring has some 120 of them
			n.flood(healthy, 0, messages)
			got, before, last := 0, -1, map[string]int{}
			for before < messages-1 {
				f := slow.next()
				v := number(f)
				if v <= before {
					t.Fatalf("got %s %d after %d", f.Type, v, before)
				}
				got, before, last[f.Key] = got+1, v, v
			}
			for k := range keys {
				if v := last[strconv.Itoa(k)]; v != messages-keys+k {
					t.Errorf("the last of key %d is %d, want %d", k, v, messages-keys+k)
				}
			}
			if slow.skipped < messages/2 || got+slow.skipped != messages {
				t.Errorf("%d messages and %d skipped ones, %d were published", got, slow.skipped, messages)
			}
			skipped := slow.skipped
			n.flood(healthy, messages, messages+30)
			for i := messages; i < messages+30; i++ {
				if v := number(slow.next()); v != i {
					t.Fatalf("after it has caught up it gets %d, want %d", v, i)
				}
			}
			if slow.skipped != skipped {
				t.Errorf("%d more were skipped", slow.skipped-skipped)
			}
		})
	}
}

// A reader that never stops but reads far too slowly is conflated again and again.
func TestCrawlingLaggardIsConflated(t *testing.T) {
	n := newNode(t, slowly(t, broker.ThenConflate))
	healthy, slow := n.listen("ws", "channel=a"), n.laggard("sse", "channel=a")
	const messages = 3000
	got, before := 0, -1
	for i := 0; i < messages; i += 50 {
		n.flood(healthy, i, i+50)
		v := number(slow.next()) // one in fifty
		if v <= before {
			t.Fatalf("got %d after %d", v, before)
		}
		got, before = got+1, v
	}
	if before < messages/3 {
		t.Errorf("after %d messages the crawling reader is at number %d", messages, before)
	}
	for before < messages-1 {
		v := number(slow.next())
		if v <= before {
			t.Fatalf("got %d after %d", v, before)
		}
		got, before = got+1, v
	}
	if got+slow.skipped != messages {
		t.Errorf("%d messages and %d skipped ones, %d were published", got, slow.skipped, messages)
	}
}

func TestLaggardIsToldAGap(t *testing.T) {
	for _, transport := range transports {
		t.Run(transport, func(t *testing.T) {
			n := newNode(t, slowly(t, broker.ThenGap))
			healthy, slow := n.listen("ws", "channel=a"), n.laggard(transport, "channel=a")
			const messages = 900
			n.flood(healthy, 0, messages)
			gaps, next, missing := 0, 0, 0
			var at string
			for next < messages {
				f := slow.next()
				if f.Type == "gap" {
					if f.Reason != string(broker.Lapped) || f.From != at || f.To == "" {
						t.Errorf("gap %+v, want one that begins at %s", f, at)
					}
					gaps++
					continue
				}
				v := number(f)
				if v != next && gaps == 0 {
					t.Fatalf("got %d after %d without a gap", v, next-1)
				}
				missing += v - next
				next, at = v+1, f.Position
			}
			if gaps != 1 || missing < messages/3 {
				t.Errorf("%d gaps, %d messages missing; want one gap", gaps, missing)
			}
			n.flood(healthy, messages, messages+20)
			for i := messages; i < messages+20; i++ {
				if v := number(slow.next()); v != i {
					t.Fatalf("after the gap got %d, want %d", v, i)
				}
			}
		})
	}
}

func TestLaggardReadsHistory(t *testing.T) {
	for _, transport := range transports {
		t.Run(transport, func(t *testing.T) {
			n := newNode(t, slowly(t, broker.ThenHistory))
			healthy, slow := n.listen("sse", "channel=a"), n.laggard(transport, "channel=a")
			const messages = 900 // the history has 1,000
			n.flood(healthy, 0, messages)
			for i := range messages {
				if f := slow.next(); number(f) != i {
					t.Fatalf("got %s %.20q, want number %d", f.Type, f.Data, i)
				}
			}
			n.flood(healthy, messages, messages+1)
			if v := number(slow.next()); v != messages || slow.skipped != 0 {
				t.Errorf("got %d, want %d; %d skipped", v, messages, slow.skipped)
			}
		})
	}
}

// What is ended for its slowness is told so as soon as it reads, and misses nothing when it comes back.
func TestLaggardIsDisconnected(t *testing.T) {
	for _, transport := range transports {
		t.Run(transport, func(t *testing.T) {
			n := newNode(t, slowly(t, broker.ThenDisconnect))
			healthy, slow := n.listen("sse", "channel=a"), n.laggard(transport, "channel=a")
			const messages = 600
			n.flood(healthy, 0, messages)
			next, since := 0, ""
			var end frame
			for {
				if end = slow.next(); end.Type != "message" {
					break
				}
				if v := number(end); v != next {
					t.Fatalf("got %d, want %d", v, next)
				}
				next, since = next+1, end.Position
			}
			if next == 0 || next > messages-100 {
				t.Errorf("it had got %d of %d messages when it was ended", next, messages)
			}
			query := "channel=a&resume=" + slow.token
			if transport == "ws" {
				if end.Type != "error" || end.Code != string(SlowConsumer) || end.Detail == "" {
					t.Errorf("got %+v, want the error slow_consumer", end)
				}
				if e := slow.ws.wantClose(int(closePolicy)); e.Text != string(SlowConsumer) {
					t.Errorf("close reason %q", e.Text)
				}
				query = ""
			} else {
				if end.Type != "reconnect" || end.Code != string(SlowConsumer) || end.Delay < 2000 || end.Delay >= 4000 {
					t.Errorf("got %+v, want the event reconnect with slow_consumer", end)
				}
				if _, err := slow.sse.within(5 * time.Second); err == nil {
					t.Error("something follows the reconnect")
				}
			}
			n.wantEnds(closedSlow, 1)
			again := n.listen(transport, query)
			if transport == "ws" {
				again.ws.send(`{"type":"subscribe","channel":"a","since":"` + since + `"}`)
				again.ws.want("reply")
			}
			for ; next < messages; next++ {
				if v := number(again.next()); v != next {
					t.Fatalf("after resuming got %d, want %d", v, next)
				}
			}
			n.flood(healthy, messages, messages+1)
		})
	}
	t.Run("plain", func(t *testing.T) {
		n := newNode(t, slowly(t, broker.ThenDisconnect))
		healthy := n.listen("sse", "channel=a")
		plain := n.laggardPlain("channel=a")
		n.flood(healthy, 0, 600)
		if e := plain.wantClose(int(closePolicy)); e.Text != string(SlowConsumer) {
			t.Errorf("close reason %q", e.Text)
		}
	})
	t.Run("for good", func(t *testing.T) {
		n := newNode(t, func(c *Config) {
			slowly(t, broker.ThenDisconnect)(c)
			c.WriteTimeout, c.Heartbeat = 300*time.Millisecond, 200*time.Millisecond
		})
		healthy := n.listen("sse", "channel=a")
		n.laggard("sse", "channel=a")
		n.flood(healthy, 0, 600)
		n.wantEnds(closedSlow, 1) // though it reads nothing at all
	})
}

// laggardPlain is a plain WebSocket that is joined and reads no more.
func (n *node) laggardPlain(query string) *socket {
	n.t.Helper()
	d := websocket.Dialer{ReadBufferSize: 4 << 10, NetDial: func(network, addr string) (net.Conn, error) {
		conn, err := net.Dial(network, addr)
		if err == nil {
			err = conn.(*net.TCPConn).SetReadBuffer(32 << 10)
		}
		return conn, err
	}}
	before := n.feeds()
	c, _, err := d.Dial("ws://"+n.addr+"/ws?"+query, nil)
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { _ = c.Close() })
	for deadline := time.Now().Add(5 * time.Second); n.feeds() == before; {
		if time.Now().After(deadline) {
			n.t.Fatal("a plain WebSocket was not joined within 5 s")
		}
	}
	return &socket{n.t, c}
}

// feeds counts the feeds of all sessions.
func (n *node) feeds() (sum int) {
	n.inspect(func(w *writer) {
		for _, s := range w.sessions {
			sum += len(s.feeds)
		}
	})
	return sum
}

// ends is how many sessions have ended for a reason.
func (n *node) ends(why closeReason) (sum int64) {
	for i := range n.counts.closes {
		sum += n.counts.closes[i][why].Load()
	}
	return sum
}

// wantEnds waits until so many sessions have ended for a reason.
func (n *node) wantEnds(why closeReason, want int64) {
	n.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); n.ends(why) != want; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			n.t.Fatalf("%d sessions have ended for reason %d, want %d", n.ends(why), why, want)
		}
	}
}

// A laggard under a filter, a rate and arrays at once: the parts work together.
func TestLaggardUnderAWholePolicy(t *testing.T) {
	p := rules(t, map[string]middleware.Delivery{"a": {Conflate: middleware.ConflateKey, Interval: 5 * time.Millisecond, Window: 2 * time.Millisecond, Messages: 20,
		Slow: middleware.Slow{Ring: 100, Then: broker.ThenConflate}}})
	n := newNode(t, func(c *Config) { c.Policies = p })
	slow := n.laggard("ws", "channel=a")
	const messages = 2000
	for i := range messages {
		n.put(&broker.Message{Channel: "a", Key: strconv.Itoa(i % keys), Data: []byte(body(i))}, false)
	}
	got, before, last := 0, -1, map[string]int{}
	for before < messages-1 {
		f := slow.next()
		v := number(f)
		if v <= before {
			raw, _ := json.Marshal(f)
			t.Fatalf("got %.100s after %d", raw, before)
		}
		got, before, last[f.Key] = got+1, v, v
	}
	for k := range keys {
		if v := last[strconv.Itoa(k)]; v != messages-keys+k {
			t.Errorf("the last of key %d is %d, want %d", k, v, messages-keys+k)
		}
	}
	if got+slow.skipped != messages || slow.arrays == 0 || !strings.Contains(string(slow.welcome.Deliver), "conflate") {
		t.Errorf("%d messages in %d arrays and %d skipped ones, %d were published", got, slow.arrays, slow.skipped, messages)
	}
}
