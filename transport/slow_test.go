package transport

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// stalled opens a stream whose client reads its head and then nothing, with little room in its kernel.
func (n *node) stalled(query string) (*net.TCPConn, *stream) {
	n.t.Helper()
	c, err := net.Dial("tcp", n.addr)
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { _ = c.Close() })
	tcp := c.(*net.TCPConn)
	if err := tcp.SetReadBuffer(64 << 10); err != nil {
		n.t.Fatal(err)
	}
	if _, err := fmt.Fprintf(c, "GET /sse?%s HTTP/1.1\r\nHost: x\r\n\r\n", query); err != nil {
		n.t.Fatal(err)
	}
	r := bufio.NewReaderSize(c, 64<<10)
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		n.t.Fatal(err)
	}
	s := &stream{t: n.t, resp: resp, r: bufio.NewReaderSize(resp.Body, 4<<10)}
	s.want("welcome", "*")
	return tcp, s
}

// body is a payload of 4 KiB that begins with its number.
func body(i int) string { return fmt.Sprintf("%06d%s", i, strings.Repeat("x", 4090)) }

func (s *stream) wantNumbers(from, to int) {
	s.t.Helper()
	for i := from; i < to; i++ {
		e, err := s.within(10 * time.Second)
		if err != nil || e.name != "" || !strings.HasPrefix(e.data, fmt.Sprintf("%06d", i)) {
			s.t.Fatalf("got %s %.40q, %v; want number %d", e.name, e.data, err, i)
		}
	}
}

// A reader that stalls costs its neighbours nothing, and gets everything once it reads again: first
// from what was on its way, then from the history, then from the ring.
func TestStalledReaderCatchesUp(t *testing.T) {
	n := newNode(t, nil)
	_, slow := n.stalled("channel=a")
	healthy := n.sse("channel=a")
	healthy.want("welcome", "*")
	const messages = 950 // the history has 1,000; the ring's MiB a quarter of that
	done := make(chan struct{})
	go func() {
		defer close(done)
		healthy.wantNumbers(0, messages)
	}()
	for i := range messages {
		n.publish("a", body(i))
	}
	<-done
	slow.wantNumbers(0, messages)
	n.publish("a", body(messages))
	slow.wantNumbers(messages, messages+1)
}

func TestStalledReaderIsToldWhatItMissed(t *testing.T) {
	n := newNode(t, nil)
	_, slow := n.stalled("channel=a")
	const messages = 1600
	for i := range messages {
		n.publish("a", body(i))
	}
	next, gaps := 0, 0
	for next < messages {
		e, err := slow.within(10 * time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if e.name == "gap" {
			gaps++
			if !strings.Contains(e.data, `"truncated"`) {
				t.Errorf("gap %s", e.data)
			}
			continue
		}
		var got int
		if _, err := fmt.Sscanf(e.data, "%06d", &got); err != nil {
			t.Fatal(err)
		}
		if got != next && gaps != 1 {
			t.Fatalf("number %d after %d, with %d gaps told", got, next-1, gaps)
		}
		next = got + 1
	}
	if gaps != 1 {
		t.Errorf("%d gaps told, want 1", gaps)
	}
}

func TestStalledReaderOfLiveMessages(t *testing.T) {
	n := newNode(t, nil)
	_, slow := n.stalled("channel=a")
	for i := range 1600 {
		n.publish("a", body(i), "live=1")
	}
	n.publish("a", "last", "live=1")
	told := false
	for {
		e, err := slow.within(10 * time.Second)
		if err != nil {
			t.Fatal(err)
		}
		told = told || e.name == "gap" && strings.Contains(e.data, `"lapped"`)
		if e.data == "last" {
			break
		}
	}
	if !told {
		t.Error("live messages were lost and no gap was told")
	}
}

func TestWriteTimeout(t *testing.T) {
	n := newNode(t, func(c *Config) { c.WriteTimeout = 200 * time.Millisecond; c.Heartbeat = 400 * time.Millisecond })
	n.stalled("channel=a")
	for i := range 400 {
		n.publish("a", body(i))
	}
	n.wantSlow(1)
}

// A client that reads a little now and then never trips the write timeout.
func TestMaxLag(t *testing.T) {
	n := newNode(t, func(c *Config) {
		c.WriteTimeout, c.MaxLag, c.Heartbeat = 5*time.Second, 500*time.Millisecond, 400*time.Millisecond
	})
	c, _ := n.stalled("channel=a")
	for i := range 400 {
		n.publish("a", body(i))
	}
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		b := make([]byte, 16)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				if _, err := c.Read(b); err != nil {
					return
				}
			case <-stop:
				return
			}
		}
	}()
	n.wantSlow(1)
}

func (n *node) wantSlow(want int64) {
	n.t.Helper()
	deadline := time.NewTimer(5 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for n.ends(closedSlow) != want {
		select {
		case <-tick.C:
		case <-deadline.C:
			n.t.Fatalf("%d sessions were closed as slow within 5 s, want %d", n.ends(closedSlow), want)
		}
	}
	if got := n.sessions.Load(); got != 0 {
		n.t.Errorf("%d sessions are left", got)
	}
}

// Taking bytes is a sign of life. A client that crawls gets its ping behind tens of KiB that it has not read
// yet; it must not be cut for not having answered.
func TestCrawlerIsAlive(t *testing.T) {
	n := newNode(t, func(c *Config) { c.Heartbeat = 100 * time.Millisecond })
	c := n.laggard("ws", "channel=a")
	c.ws.SetPingHandler(func(string) error { return nil })
	const messages = 400
	for i := range messages {
		n.publish("a", body(i))
	}
	pace := time.NewTicker(25 * time.Millisecond)
	defer pace.Stop()
	for i := range 60 { // for six times as long as it may be silent
		if v := number(c.next()); v != i {
			t.Fatalf("got %d, want %d", v, i)
		}
		<-pace.C
	}
	for i := 60; i < messages; i++ {
		if v := number(c.next()); v != i {
			t.Fatalf("got %d, want %d", v, i)
		}
	}
	c.ws.wantClose(int(closeSilent)) // having read it all, it has to answer
}
