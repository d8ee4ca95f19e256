package transport

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"sluice/transport/wsframe"
)

// crammed opens a connection with next to no room for what comes back.
func (n *node) crammed(t *testing.T) *net.TCPConn {
	t.Helper()
	c := n.silent(t).(*net.TCPConn)
	if err := c.SetReadBuffer(4 << 10); err != nil {
		t.Fatal(err)
	}
	return c
}

// pour writes what until nobody takes it any more, and returns how often it was taken.
func pour(c net.Conn, what string, times int) int {
	for i := range times {
		_ = c.SetWriteDeadline(time.Now().Add(time.Second))
		if _, err := io.WriteString(c, what); err != nil {
			return i
		}
	}
	return times
}

// Whoever asks and never reads the answers is given up: requests end, and so does their socket.
func TestAnswersThatNobodyReads(t *testing.T) {
	const limit = 300 * time.Millisecond
	n := newNode(t, func(c *Config) {
		c.HeaderTimeout, c.BodyTimeout, c.WriteTimeout, c.Heartbeat = limit, limit, limit, 200*time.Millisecond
	})
	t.Run("HTTP/1.1", func(t *testing.T) {
		c := n.silent(t)
		asked := pour(c, strings.Repeat("GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n", 100), 10_000)
		if asked == 10_000 {
			t.Fatal("all of a million requests were taken")
		}
		n.open(t, 0)
	})
	t.Run("HTTP/2", func(t *testing.T) {
		c := n.crammed(t)
		wide := h2Frame(h2SettingsKind, 0, 0, "\x00\x04\x7f\xff\xff\xff") + h2Frame(8, 0, 0, "\x7f\x00\x00\x00") // windows of 2 GiB: TCP alone is in the way
		if _, err := io.WriteString(c, preface+wide+h2Frame(h2Headers, endStream|endHeaders, 1, h2Stream)); err != nil {
			t.Fatal(err)
		}
		n.has(t, 1)
		for i := 0; n.sessions.Load() > 0 && i < 4000; i++ {
			n.publish("a", body(i), "live=1")
		}
		n.has(t, 0)
		http.DefaultClient.CloseIdleConnections()
		n.open(t, 0)
	})
}

// has waits until there are so many sessions.
func (n *node) has(t *testing.T, want int64) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); n.sessions.Load() != want; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d sessions, want %d", n.sessions.Load(), want)
		}
	}
}

// A stream that has nothing to write for longer than a write may take goes on: the deadline of a write ends with it.
func TestQuietStreamOutlivesWriteTimeout(t *testing.T) {
	n := newNode(t, func(c *Config) { c.WriteTimeout, c.Heartbeat = 200*time.Millisecond, 10*time.Second })
	h2 := &http.Transport{Protocols: new(http.Protocols)}
	h2.Protocols.SetUnencryptedHTTP2(true)
	defer h2.CloseIdleConnections()
	s := openStream(t, h2, n.url("/sse?channel=a"))
	s.want("welcome", "*")
	time.Sleep(600 * time.Millisecond) // HTTP/2 has no fake clock
	n.publish("a", "still here")
	s.want("", "still here")
	s.close()
}

// A client of a stream has nothing more to say: one that talks on and on is closed before it costs more than that.
func TestTalkativeStream(t *testing.T) {
	n := newNode(t, nil)
	c := n.silent(t)
	if _, err := io.WriteString(c, "GET /sse?channel=a HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	n.has(t, 1)
	if _, err := io.WriteString(c, strings.Repeat("x", 1000)); err != nil { // such as a request that a proxy sends behind it
		t.Fatal(err)
	}
	if hungUp(c, 50*time.Millisecond) {
		t.Error("one that says a little more is closed")
	}
	if pour(c, strings.Repeat("x", 64<<10), 1000) == 1000 {
		t.Error("64 MiB were taken")
	}
	n.has(t, 0)
	n.open(t, 0)
}

// What comes after the end for sending too much is not even looked at.
func TestFloodAfterTheEnd(t *testing.T) {
	n := newNode(t, func(c *Config) { c.CommandBurst, c.CommandRate = 20, 1 })
	c := n.ws("channel=a", subprotocolJSON)
	c.SetCloseHandler(func(int, string) error { return nil }) // it does not answer either
	ping := append([]byte{0x80 | wsframe.OpPing, 0x80}, 0, 0, 0, 0)
	if _, err := c.NetConn().Write([]byte(strings.Repeat(string(ping), 400))); err != nil {
		t.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	var err error
	for err == nil {
		_, _, err = c.ReadMessage()
	}
	if !websocket.IsCloseError(err, int(closeTooFast)) {
		t.Fatalf("got %v, want %d", err, closeTooFast)
	}
	was := n.limits.refused[limitSessionCommand].Load()
	pour(c.NetConn(), strings.Repeat(string(ping), 1000), 10)
	n.has(t, 0)
	if got := n.limits.refused[limitSessionCommand].Load(); got != was {
		t.Errorf("%d more frames were refused one by one after the end", got-was)
	}
}

// Who was not heard because the node was held up is not silent.
func TestSilenceOfTheNode(t *testing.T) {
	const beat = 100 * time.Millisecond
	for _, row := range []struct {
		name   string
		holdUp func(n *node)
		why    string
	}{
		{"writers", func(n *node) {
			for _, w := range n.writers {
				w.post(func() { time.Sleep(6 * beat) })
			}
			time.Sleep(6 * beat)
		}, "nobody was asked meanwhile, as after a machine was suspended"},
		{"poller", func(n *node) {
			n.poller.mu.Lock()
			time.Sleep(6 * beat)
			n.poller.mu.Unlock()
		}, "what clients have said waits to be read, as while others flood"},
	} {
		t.Run(row.name, func(t *testing.T) {
			n := newNode(t, func(c *Config) { c.Heartbeat = beat })
			c := n.ws("channel=a", subprotocolJSON)
			c.want("welcome")
			ended := make(chan error, 1)
			go func() { // it answers pings
				for {
					if _, _, err := c.ReadMessage(); err != nil {
						ended <- err
						return
					}
				}
			}()
			row.holdUp(n)
			select {
			case err := <-ended:
				t.Errorf("%v: %s", err, row.why)
			case <-time.After(4 * beat):
				_ = c.Close()
				<-ended
			}
		})
	}
}
