package transport

import (
	"bufio"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"sluice/transport/wsframe"
)

// A head that is too large is refused as soon as it is.
func TestLargeHead(t *testing.T) {
	n := newNode(t, func(c *Config) { c.MaxHeader = 4 << 10 })
	for _, row := range []struct{ name, head string }{
		{"one field", "A: " + strings.Repeat("x", 64<<10) + "\r\n"},
		{"many fields", strings.Repeat("A: b\r\n", 16<<10)},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := n.silent(t)
			go func() { _, _ = io.WriteString(c, "GET /sse?channel=a HTTP/1.1\r\nHost: a\r\n"+row.head) }() // nobody reads all of it
			_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
			res, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil || res.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
				t.Fatalf("got %v, %v, want 431", res, err)
			}
		})
	}
}

// A body that does not come is not waited for, and takes no memory.
func TestSlowBody(t *testing.T) {
	n := newNode(t, func(c *Config) {
		c.HeaderTimeout, c.BodyTimeout, c.MaxMessage = 100*time.Millisecond, 400*time.Millisecond, 64<<20
	})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	began := time.Now()
	var all []net.Conn
	for range 8 { // each announces 60 MiB
		c := n.silent(t)
		if _, err := io.WriteString(c, "POST /publish/a HTTP/1.1\r\nHost: a\r\nContent-Length: 62914560\r\n\r\nx"); err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	for _, c := range all {
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || res.StatusCode != 400 || !res.Close {
			t.Fatalf("got %v, %v, want 400 and the end", res, err)
		}
	}
	if took := time.Since(began); took < 300*time.Millisecond {
		t.Errorf("they were given %v", took)
	}
	if runtime.ReadMemStats(&after); after.TotalAlloc-before.TotalAlloc > 32<<20 {
		t.Errorf("%d MiB for 480 MiB that were only announced", (after.TotalAlloc-before.TotalAlloc)>>20)
	}
}

// What a WebSocket client must not send ends its connection with a code, and nobody else's.
func TestWSFloods(t *testing.T) {
	n := newNode(t, func(c *Config) { c.MaxCommand, c.CommandBurst, c.CommandRate = 1000, 20, 1 })
	good := n.ws("channel=a", subprotocolJSON)
	good.want("welcome")
	masked := func(first byte, length int) []byte { // a frame's head; its mask is zero
		switch {
		case length < 126:
			return append([]byte{first, 0x80 | byte(length)}, 0, 0, 0, 0)
		default:
			return append(binary.BigEndian.AppendUint64([]byte{first, 0x80 | 127}, uint64(length)), 0, 0, 0, 0)
		}
	}
	repeat := func(n int, frames ...[]byte) (all []byte) {
		for range n {
			for _, f := range frames {
				all = append(all, f...)
			}
		}
		return all
	}
	for _, row := range []struct {
		name  string
		bytes []byte
		code  int
		why   string
	}{
		{"a head of 1 GiB", masked(0x80|wsframe.OpText, 1<<30), websocket.CloseMessageTooBig, "before any of it has come"},
		{"fragments of nothing", append(masked(wsframe.OpText, 0), repeat(wsframe.DefaultMaxFragments, masked(wsframe.OpContinuation, 0))...), websocket.CloseMessageTooBig, "the message would never end"},
		{"fragments of a byte", append(append(masked(wsframe.OpBinary, 1), 'x'), repeat(1000, append(masked(wsframe.OpContinuation, 1), 'x'))...), websocket.CloseMessageTooBig, "together they are too many bytes"},
		{"pings", repeat(400, masked(0x80|wsframe.OpPing, 0)), int(closeTooFast), "each wants an answer"},
		{"pongs", repeat(400, masked(0x80|wsframe.OpPong, 0)), int(closeTooFast), "nobody asked for them"},
		{"empty messages", repeat(400, masked(0x80|wsframe.OpText, 0)), int(closeTooFast), "they are commands, too"},
		{"pings within a message", append(masked(wsframe.OpText, 0), repeat(400, masked(0x80|wsframe.OpPing, 0), masked(wsframe.OpContinuation, 0))...), int(closeTooFast), "they count wherever they stand"},
	} {
		t.Run(row.name, func(t *testing.T) {
			bad := n.ws("channel=a", subprotocolJSON)
			if _, err := bad.NetConn().Write(row.bytes); err != nil {
				t.Fatal(err)
			}
			_ = bad.SetReadDeadline(time.Now().Add(5 * time.Second))
			var err error
			for err == nil {
				_, _, err = bad.ReadMessage()
			}
			if !websocket.IsCloseError(err, row.code) {
				t.Errorf("got %v, want %d: %s", err, row.code, row.why)
			}
			n.publish("a", row.name)
			if f := good.want("message"); f.Data != row.name {
				t.Errorf("the neighbour got %+v", f)
			}
		})
	}
}

const (
	preface    = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	h2Settings = "\x00\x00\x00\x04\x00\x00\x00\x00\x00"
)

// h2Frame is a frame of HTTP/2 (RFC 9113 §4.1).
func h2Frame(kind, flags byte, stream uint32, payload string) string {
	b := []byte{byte(len(payload) >> 16), byte(len(payload) >> 8), byte(len(payload)), kind, flags}
	return string(binary.BigEndian.AppendUint32(b, stream)) + payload
}

// h2Stream asks for a stream of messages: :method GET, :scheme http, :path and :authority in HPACK without compression.
const h2Stream = "\x82\x86\x44\x0e/sse?channel=a\x41\x01a"

const (
	h2Headers, h2Reset, h2SettingsKind, h2Ping, h2Continuation = 1, 3, 4, 6, 9
	endStream, endHeaders                                      = 1, 4
)

// What is sent to a stream of messages, whose body nobody reads, is not kept: it could be a window for each connection.
func TestHTTP2BodyOfAStream(t *testing.T) {
	n := newNode(t, nil)
	const data, window, many = 0, 900 << 10, 32
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	frames := strings.Repeat(h2Frame(data, 0, 1, strings.Repeat("x", 16<<10)), window/(16<<10))
	for range many {
		c := n.silent(t)
		for _, some := range []string{preface + h2Settings + h2Frame(h2Headers, endHeaders, 1, h2Stream), frames, h2Frame(h2Ping, 0, 0, "12345678")} {
			if _, err := io.WriteString(c, some); err != nil {
				t.Fatal(err)
			}
		}
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		for in := bufio.NewReader(c); ; { // until the ping is answered: what came before it has been taken
			var head [9]byte
			if _, err := io.ReadFull(in, head[:]); err != nil {
				t.Fatal(err)
			}
			if _, err := in.Discard(int(head[0])<<16 | int(head[1])<<8 | int(head[2])); err != nil {
				t.Fatal(err)
			}
			if head[3] == h2Ping && head[4] == 1 {
				break
			}
		}
	}
	if k := n.sessions.Load(); k != many {
		t.Fatalf("%d sessions, want %d", k, many)
	}
	runtime.GC()
	if runtime.ReadMemStats(&after); int(after.HeapAlloc)-int(before.HeapAlloc) > many*window/2 {
		t.Errorf("%d KiB are kept of what nobody reads", (after.HeapAlloc-before.HeapAlloc)>>10)
	}
}

// Floods of HTTP/2 frames end their connection, or are taken in the node's own time; others are served meanwhile.
func TestHTTP2Floods(t *testing.T) {
	n := newNode(t, func(c *Config) { c.MaxSessions = 400 })
	good := n.sse("channel=good")
	good.want("welcome", "*")
	for _, row := range []struct {
		name  string
		frame func(i uint32) string
		n     uint32
	}{
		{"rapid reset", func(i uint32) string {
			return h2Frame(h2Headers, endStream|endHeaders, 2*i+1, h2Stream) + h2Frame(h2Reset, 0, 2*i+1, "\x00\x00\x00\x08")
		}, 20_000},
		{"streams", func(i uint32) string { return h2Frame(h2Headers, endStream|endHeaders, 2*i+1, h2Stream) }, 2000},
		{"settings", func(uint32) string { return h2Settings }, 50_000},
		{"pings", func(uint32) string { return h2Frame(h2Ping, 0, 0, "12345678") }, 50_000},
		{"continuations", func(i uint32) string {
			if i == 0 {
				return h2Frame(h2Headers, endStream, 1, h2Stream)
			}
			return h2Frame(h2Continuation, 0, 1, "\x40\x01a\x7f\x00"+strings.Repeat("b", 127))
		}, 20_000},
		{"resets of nothing", func(i uint32) string { return h2Frame(h2Reset, 0, 2*i+1, "\x00\x00\x00\x08") }, 1000},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := n.silent(t)
			if _, err := io.WriteString(c, preface+h2Settings); err != nil {
				t.Fatal(err)
			}
			flooded := make(chan struct{})
			go func() { // and never reads
				defer close(flooded)
				_ = c.SetWriteDeadline(time.Now().Add(2 * time.Second))
				var some strings.Builder
				for i := range row.n {
					if some.WriteString(row.frame(i)); some.Len() > 16<<10 || i == row.n-1 {
						if _, err := io.WriteString(c, some.String()); err != nil {
							return
						}
						some.Reset()
					}
				}
			}()
			for i := range 5 {
				began := time.Now()
				n.publish("good", row.name)
				good.want("", row.name)
				if took := time.Since(began); took > 2*time.Second {
					t.Errorf("message %d to another client took %v", i, took)
				}
				if k := n.sessions.Load(); k > 1+250 {
					t.Errorf("%d sessions: one connection may have 250 streams", k)
				}
			}
			<-flooded
			if k := n.sessions.Load(); k > 1+250 {
				t.Errorf("%d sessions: one connection may have 250 streams", k)
			}
			_ = c.Close()
			for deadline := time.Now().Add(10 * time.Second); n.sessions.Load() > 1; time.Sleep(5 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("%d sessions are left of the flood", n.sessions.Load()-1)
				}
			}
		})
	}
	good.close()
	http.DefaultClient.CloseIdleConnections()
	n.emptied(t)
}
