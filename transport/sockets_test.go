package transport

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"sluice/broker/memory"
)

// silent opens a connection that says nothing.
func (n *node) silent(t *testing.T) net.Conn {
	t.Helper()
	return n.silentFrom(t, "127.0.0.1")
}

// silentFrom is silent from an address of the loopback network.
func (n *node) silentFrom(t *testing.T, address string) net.Conn {
	t.Helper()
	c, err := dialFrom(address, n.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func dialFrom(address, to string) (net.Conn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
	return d.Dial("tcp", to)
}

// hungUp reports whether the node closes c within d, whatever it says before.
func hungUp(c net.Conn, d time.Duration) bool {
	_ = c.SetReadDeadline(time.Now().Add(d))
	_, err := io.Copy(io.Discard, c)
	return !errors.Is(err, os.ErrDeadlineExceeded)
}

// open waits until so many sockets are counted.
func (n *node) open(t *testing.T, want int64) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); n.sockets.open.Load() != want; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d sockets are counted, want %d", n.sockets.open.Load(), want)
		}
	}
}

// Sockets are bounded before anything is read from them: the newest one is closed, and those that are there stay.
func TestSocketsAtOnce(t *testing.T) {
	patient := func(c *Config) { c.HeaderTimeout = time.Minute }
	for _, row := range []struct {
		name   string
		from   string
		change func(*Config)
		room   int
		kind   limitKind
		why    string
	}{
		{"of an address", "127.0.0.2", func(c *Config) { c.AddressConnections = 2 }, 2*2 + addressSockets, limitAddressSockets, "half of them may be idle, and some are to come"},
		{"of this machine", "127.0.0.1", func(c *Config) { c.AddressConnections, c.MaxSockets = 2, 40 }, 40, limitNodeSockets, "proxies and tools here carry others"},
		{"of a proxy", "127.0.0.2", func(c *Config) { c.AddressConnections, c.TrustedProxies, c.MaxSockets = 2, []string{"127.0.0.0/8"}, 40 }, 40, limitNodeSockets, "a trusted proxy is not one client"},
		{"of the node", "127.0.0.2", func(c *Config) { c.MaxSockets = 3 }, 3, limitNodeSockets, "whoever they belong to"},
		{"no number", "127.0.0.2", func(c *Config) { c.MaxSessions = 2; c.AddressConnections = 0 }, 2 + spareSockets, limitNodeSockets, "sessions, and some more"},
	} {
		t.Run(row.name, func(t *testing.T) {
			n := newNode(t, func(c *Config) { patient(c); row.change(c) })
			var there []net.Conn
			for range row.room {
				there = append(there, n.silentFrom(t, row.from))
			}
			n.open(t, int64(row.room))
			for range 3 {
				c, err := dialFrom(row.from, n.addr)
				if err == nil && !hungUp(c, 5*time.Second) {
					t.Fatalf("one more than %d is not closed: %s", row.room, row.why)
				}
				if err == nil { // else it was closed before it was told to be open
					_ = c.Close()
				}
			}
			if got := n.limits.refused[row.kind].Load(); got != 3 {
				t.Errorf("%d refusals are counted as %s, want 3", got, limitNames[row.kind])
			}
			if hungUp(there[0], 50*time.Millisecond) {
				t.Error("an older one was closed")
			}
			_ = there[0].Close()
			n.open(t, int64(row.room-1))
			if got := hungUp(n.silentFrom(t, row.from), 50*time.Millisecond); got {
				t.Error("a place that has become free is not given away")
			}
		})
	}
}

// A socket counts as long as it is there, whatever it has become, and not longer.
func TestSocketsAreCountedToTheirEnd(t *testing.T) {
	n := newNode(t, nil)
	h1 := &http.Transport{DisableKeepAlives: true}
	ws, s := n.ws("channel=a"), openStream(t, h1, n.url("/sse?channel=a"))
	s.want("welcome", "*")
	n.open(t, 2)
	c := n.silent(t)
	n.open(t, 3)
	_ = c.Close()
	s.close()
	n.open(t, 1)
	_ = ws.WriteControl(websocket.CloseMessage, nil, time.Now().Add(time.Second))
	_ = ws.Close()
	n.emptied(t)
}

// certified is a TLS configuration that tests can be asked to trust.
func certified(t *testing.T) *tls.Config {
	ts := httptest.NewTLSServer(http.NotFoundHandler())
	defer ts.Close()
	return &tls.Config{Certificates: ts.TLS.Certificates}
}

// Who connects and says nothing, or not enough, is gone after HeaderTimeout; so is who does not end a handshake.
func TestSlowHeads(t *testing.T) {
	const limit = 300 * time.Millisecond
	quick := func(c *Config) { c.HeaderTimeout = limit }
	plain := newNode(t, quick)
	secure := newNodeWith(t, memory.New(memory.DefaultConfig()), nil, quick, func(*Server) *tls.Config { return certified(t) })
	for _, row := range []struct {
		name, first, trickle string
		n                    *node
		max                  time.Duration
		why                  string
	}{
		{"silent", "", "", plain, limit, "sockets are not free"},
		{"half a head", "GET /sse?channel=a HTTP/1.1\r\nHost: a\r\n", "", plain, limit, "it will never end"},
		{"slow head", "GET /sse?channel=a HTTP/1.1\r\nHost: a\r\n", "A: b\r\n", plain, limit, "each line is a sign of life, and the head does not end"},
		{"silent before TLS", "", "", secure, limit, "the handshake is a part of the head"},
		{"half a handshake", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "\x00", secure, limit, "each byte is a sign of life"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			c := row.n.silent(t)
			if _, err := io.WriteString(c, row.first); err != nil {
				t.Fatal(err)
			}
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				tick := time.NewTicker(limit / 5)
				defer tick.Stop()
				for range tick.C {
					if _, err := io.WriteString(c, row.trickle); err != nil || row.trickle == "" {
						return
					}
				}
			}()
			began := time.Now()
			if !hungUp(c, row.max+3*time.Second) {
				t.Errorf("it is still there after %v: %s", time.Since(began), row.why)
			}
			_ = c.Close()
			<-ended
		})
	}
}

// A connection that waits for its next request is given up after a while, over HTTP/1.1 and HTTP/2.
func TestIdleConnections(t *testing.T) {
	n := newNode(t, func(c *Config) { c.IdleTimeout = 200 * time.Millisecond })
	for _, row := range []struct{ name, first string }{
		{"HTTP/1.1", "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"},
		{"HTTP/2", preface + h2Settings},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := n.silent(t)
			if _, err := io.WriteString(c, row.first); err != nil {
				t.Fatal(err)
			}
			if !hungUp(c, 5*time.Second) {
				t.Error("it is still there after 5 s")
			}
		})
	}
	n.emptied(t)
}
