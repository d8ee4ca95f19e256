package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

func testLoop(ws bool) (*loop, *conn) {
	l := &loop{target: &Target{}, buf: make([]byte, 64<<10)}
	c := &conn{fd: 1, state: live, ws: ws, channels: []uint32{0}, windows: make([]window, 1)}
	return l, c
}

func payload(seq int) string {
	b := newPayload(128)
	mark{at: 1, seq: uint32(seq)}.put(b[markAt:])
	return string(b)
}

// feedPieces feeds a byte stream in random pieces, as reads would.
func feedPieces(l *loop, c *conn, s string, rnd *rand.Rand) {
	for len(s) > 0 {
		n := min(1+rnd.IntN(40), len(s))
		kept := copy(l.buf, c.partial)
		c.partial = c.partial[:0]
		m := copy(l.buf[kept:], s[:n])
		l.feed(c, l.buf[:kept+m], kept)
		s = s[n:]
	}
}

func TestEventStreamInPieces(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 1))
	for round := range 50 {
		l, c := testLoop(false)
		l.tokens, c.state = true, heading
		var body, wire strings.Builder
		for i := 1; i <= 20; i++ {
			fmt.Fprintf(&body, "id: tok%d\r\ndata: %s\n\n:\n\n", i, payload(i))
		}
		wire.WriteString("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
		for b := body.String(); len(b) > 0; {
			n := min(1+rnd.IntN(90), len(b))
			fmt.Fprintf(&wire, "%x\r\n%s\r\n", n, b[:n])
			b = b[n:]
		}
		feedPieces(l, c, wire.String(), rnd)
		if l.received != 20 || l.duplicated+l.reordered != 0 || c.token != "tok20" {
			t.Fatalf("round %d: received %d, duplicated %d, reordered %d, token %q; want 20, 0, 0, tok20",
				round, l.received, l.duplicated, l.reordered, c.token)
		}
	}
}

func TestFramesInPieces(t *testing.T) {
	l, c := testLoop(true)
	var wire bytes.Buffer
	frame := func(s string) {
		if len(s) < 126 {
			wire.Write([]byte{0x81, byte(len(s))})
		} else {
			wire.Write([]byte{0x81, 126, byte(len(s) >> 8), byte(len(s))})
		}
		wire.WriteString(s)
	}
	frame(payload(1))
	frame(payload(2) + "\n" + payload(3) + strings.Repeat(" ", 200)) // two in one frame
	frame(payload(5))
	frame(payload(4)) // late
	frame(payload(5)) // again
	frame("")
	feedPieces(l, c, wire.String(), rand.New(rand.NewPCG(2, 2)))
	if l.received != 5 || l.duplicated != 1 || l.reordered != 1 || l.framesSeen != 6 {
		t.Fatalf("received %d, duplicated %d, reordered %d, frames %d; want 5, 1, 1, 6", l.received, l.duplicated, l.reordered, l.framesSeen)
	}
}

func TestWelcomeWithToken(t *testing.T) {
	l, c := testLoop(true)
	l.target.welcome, l.tokens, c.state = true, true, heading
	welcome := `{"type":"welcome","session":"s","token":"AQGh4c"}`
	feedPieces(l, c, "HTTP/1.1 101 Switching Protocols\r\n\r\n"+"\x81"+string(rune(len(welcome)))+welcome, rand.New(rand.NewPCG(3, 3)))
	if c.state != live || l.ready != 1 || c.token != "AQGh4c" {
		t.Errorf("state %d, ready %d, token %q; want live, 1, AQGh4c", c.state, l.ready, c.token)
	}
}

func TestWindow(t *testing.T) {
	var w window
	for _, s := range []struct {
		seq             uint32
		duplicate, late bool
	}{{1, false, false}, {3, false, false}, {2, false, true}, {2, true, false}, {3, true, false}, {500, false, false}, {500, true, false}, {4, false, true}} {
		if duplicate, late := w.see(s.seq); duplicate != s.duplicate || late != s.late {
			t.Errorf("message %d: duplicate %v, late %v; want %v, %v", s.seq, duplicate, late, s.duplicate, s.late)
		}
	}
}

func TestMark(t *testing.T) {
	want := mark{at: 1<<40 + 7, seq: 0xabcdef, channel: 9999}
	b := newPayload(200)
	want.put(b[markAt:])
	got, rest, ok := nextMark(append([]byte("~ ~x"), b...))
	if !ok || got != want || len(rest) != 200-markAt-markLen {
		t.Errorf("got %+v, %d bytes left, %v; want %+v", got, len(rest), ok, want)
	}
	if _, _, ok := nextMark(b[:markAt+markLen-1]); ok {
		t.Error("found a mark that is cut off")
	}
}

func TestHist(t *testing.T) {
	h := &hist{}
	for i := int64(1); i <= 100000; i++ {
		h.add(i * 1000)
	}
	for _, p := range []float64{.5, .9, .99, .999} {
		want := p * 1e8
		if got := float64(h.quantile(p)); got < want*.98 || got > want*1.02 {
			t.Errorf("quantile %v: %v, want about %v", p, got, want)
		}
	}
}

func TestReplies(t *testing.T) {
	for _, c := range []struct {
		name    string
		reply   func([]byte) (int, string)
		in      string
		n       int
		problem bool
	}{
		{"redis", redisReply, ":12\r\n:3\r\n", 5, false},
		{"redis, incomplete", redisReply, ":12\r", 0, false},
		{"redis, error", redisReply, "-ERR no\r\n", 9, true},
		{"http", httpReply, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}HTTP", 40, false},
		{"http, incomplete", httpReply, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}", 0, false},
		{"http, no body", httpReply, "HTTP/1.1 204 No Content\r\n\r\n", 27, false},
		{"http, chunked", httpReply, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nHTTP", 59, false},
		{"http, some of an array", httpReply, "HTTP/1.1 207 Multi-Status\r\nContent-Length: 0\r\n\r\n", 48, true},
		{"http, error", httpReply, "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", 55, true},
	} {
		if n, problem := c.reply([]byte(c.in)); n != c.n || (problem != "") != c.problem {
			t.Errorf("%s: %d bytes, problem %q; want %d, %v", c.name, n, problem, c.n, c.problem)
		}
	}
}
