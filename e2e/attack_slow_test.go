package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// slowAttack is a connection that does little, and by when the node has ended it.
type slowAttack struct {
	name, why string
	begin     string        // what is sent at once
	drip      string        // what is sent again and again after it; "": nothing
	every     time.Duration // how often
	within    time.Duration // it must have ended; limits are those of the arena, 1 s for a head and 1 s more for a body
}

// slowAttacks need no credentials.
func slowAttacks() []slowAttack {
	jsonSocket := handshake("", speaksJSON)
	return []slowAttack{
		{"silence", "a connection that says nothing", "", "", 0, 6 * time.Second},
		{"half a line", "slowloris", "GET /sse?chan", "", 0, 6 * time.Second},
		{"a head that never ends", "each header comes in time", "GET /sse?channel=a HTTP/1.1\r\nHost: x\r\n", "X-A: b\r\n", 100 * time.Millisecond, 6 * time.Second},
		{"a head, byte by byte", "", "GET /", "a", 50 * time.Millisecond, 6 * time.Second},
		{"empty lines", "net/http skips some before a request", "", "\r\n", 50 * time.Millisecond, 6 * time.Second},
		{"a body that does not come", "", publishHead + "Content-Length: 100\r\n\r\n", "", 0, 8 * time.Second},
		{"a body, byte by byte", "", publishHead + "Content-Length: 1000\r\n\r\n", "x", 50 * time.Millisecond, 8 * time.Second},
		{"chunks of one byte", "", publishHead + "Transfer-Encoding: chunked\r\n\r\n", "1\r\nx\r\n", 50 * time.Millisecond, 8 * time.Second},
		{"a body of JSON, byte by byte", "", jsonHead + "Content-Length: 1000\r\n\r\n", " ", 50 * time.Millisecond, 8 * time.Second},
		{"a session's command that does not come", "", "POST /sessions/x HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n", "", 0, 8 * time.Second},
		{"half a handshake", "", "GET /ws?channel=a HTTP/1.1\r\nHost: x\r\nUpgrade: webs", "", 0, 6 * time.Second},
		{"a WebSocket that never answers", "a laptop that was closed", handshake("quiet", ""), "", 0, 10 * time.Second},
		{"a WebSocket that names no channel", "it costs a session", jsonSocket, "", 0, 10 * time.Second},
		{"half a frame", "what has come of it is kept", handshake("quiet", "") + frameOf(fin|opText, 1000, "half"), "", 0, 10 * time.Second},
		{"a frame, byte by byte", "each byte is a sign of life", handshake("quiet", "") + frameOf(fin|opText, 60_000, ""), "x", 100 * time.Millisecond, 10 * time.Second},
		{"half a message and pings", "so are pings", handshake("quiet", "") + frame(opText, "half"), frame(fin|opPing, ""), 200 * time.Millisecond, 10 * time.Second},
		{"a close, and no end", "", handshake("quiet", "") + frame(fin|opClose, "\x03\xe8"), "", 0, 10 * time.Second},
	}
}

// slowOnes are how many of each kind there are at once.
const slowOnes = 20

// TestAttackSlow: connections that do little are ended in time, however many there are.
func TestAttackSlow(t *testing.T) {
	t.Parallel()
	a := newArena(t)
	var all sync.WaitGroup
	for _, tt := range slowAttacks() {
		for range slowOnes {
			all.Go(func() {
				c, err := net.Dial("tcp", a.addr)
				if err != nil {
					t.Errorf("%s: %v", tt.name, err)
					return
				}
				defer c.Close()
				if took, err := tt.run(c); err != nil {
					t.Errorf("%s: %v after %v: %s", tt.name, err, took, tt.why)
				}
			})
		}
	}
	ended := make(chan struct{})
	go func() { all.Wait(); close(ended) }()
	for waiting := true; waiting; {
		a.unharmed(t)
		select {
		case <-ended:
			waiting = false
		case <-time.After(100 * time.Millisecond):
		}
	}
	a.alone(t)
}

// run returns how long it took until the node ended the connection; an error if it was too long.
func (s *slowAttack) run(c net.Conn) (time.Duration, error) {
	began := time.Now()
	if _, err := io.WriteString(c, s.begin); err != nil {
		return 0, err
	}
	ctx, stop := context.WithCancel(context.Background())
	var drips sync.WaitGroup
	defer drips.Wait()
	defer stop()
	drips.Go(func() {
		for s.drip != "" {
			select {
			case <-ctx.Done():
				return
			case <-time.After(s.every):
			}
			if _, err := io.WriteString(c, s.drip); err != nil {
				return // the reader finds out
			}
		}
	})
	_ = c.SetReadDeadline(began.Add(s.within))
	_, err := io.Copy(io.Discard, c)
	if err != nil && ended(err) == io.EOF {
		err = nil
	}
	return time.Since(began), err
}

// TestAttackReaders: clients that read nothing, or a byte now and then, cost a bounded amount of memory, are sent away, and keep no message from the others.
func TestAttackReaders(t *testing.T) {
	t.Parallel()
	a := newArena(t)
	const each = 25
	for _, request := range []string{
		"GET /sse?channel=flood HTTP/1.1\r\nHost: x\r\n\r\n", "GET /sse?channel=flood&format=json HTTP/1.1\r\nHost: x\r\n\r\n",
		handshake("flood", ""), handshake("flood", speaksJSON),
	} {
		for i := range each {
			c := a.dial(t)
			_ = c.Conn.(*net.TCPConn).SetReadBuffer(4 << 10)
			c.send(request)
			if x, err := c.answer(); err != nil || x.status >= 400 {
				t.Fatalf("got %+v, %v", x, err)
			}
			if i%2 == 0 {
				continue // it reads nothing
			}
			done := make(chan struct{})
			go func() {
				defer close(done)
				for b := make([]byte, 1); ; {
					if _, err := c.Conn.Read(b); err != nil {
						return
					}
					time.Sleep(20 * time.Millisecond)
				}
			}()
			t.Cleanup(func() { c.Close(); <-done })
		}
	}
	if n := a.sessions(t); n != 4*each+len(a.witnesses) {
		t.Fatalf("%d sessions, want %d", n, 4*each+len(a.witnesses))
	}
	before, worst, most := a.memory(), time.Duration(0), int64(0)
	payload := strings.Repeat("x", 16<<10)
	began, published := time.Now(), 0
	for time.Since(began) < 6*time.Second {
		for range 50 {
			if _, err := publish(t.Context(), a.http, a.url(), "flood", "", payload); err != nil {
				t.Fatal(err)
			}
			published++
		}
		proved := time.Now()
		a.unharmed(t)
		worst, most = max(worst, time.Since(proved)), max(most, a.memory())
	}
	t.Logf("%d messages of 16 KiB for %d who do not read: others waited %v at most, memory went from %d to %d KiB",
		published, 4*each, worst, before>>10, most>>10)
	if grown := most - before; before > 0 && len(buildFlags) == 0 && grown > 64<<20 { // with the race detector it means little
		t.Errorf("memory grew by %d MiB", grown>>20)
	}
	if worst > 2*time.Second {
		t.Errorf("others waited %v for a message", worst)
	}
	a.alone(t)
}

// TestAttackComeAndGo: connections that come, subscribe and are gone at once leave nothing behind.
func TestAttackComeAndGo(t *testing.T) {
	t.Parallel()
	a := newArena(t, "--linger", "1ms")
	for i := range 300 {
		channel := fmt.Sprint("passing", i)
		c := a.dial(t)
		switch i % 4 {
		case 0:
			c.send("GET /sse?channel=" + channel + " HTTP/1.1\r\nHost: x\r\n\r\n")
		case 1:
			c.send(handshake(channel, ""))
		case 2:
			c.send(handshake("", speaksJSON) + text(`{"type":"subscribe","channel":"`+channel+`"}`))
		default:
			c.send(handshake(channel, speaksJSON) + text(`{"type":"unsubscribe","channel":"`+channel+`"}`))
		}
		if i%3 == 0 {
			_ = c.Conn.(*net.TCPConn).SetLinger(0) // a reset
		}
		c.Close()
	}
	a.unharmed(t)
	a.alone(t)
	until(t, 10*time.Second, "no channel is left but that of the witnesses", func() bool {
		_, body := get(t, a.admin()+"/admin/channels")
		return strings.Count(body, `"channel":`) <= 1
	})
}
