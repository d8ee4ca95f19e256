package transport

import (
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/transport/wsframe"
)

// guard is a memoryGuard that nobody looks at.
func guard(budget int64) *memoryGuard {
	m := &memoryGuard{budget: budget, made: time.Now()}
	m.mu.Lock()
	return m
}

// A node is full above its marks and stays so until it is well below them.
func TestMemoryMarks(t *testing.T) {
	m := guard(1000)
	for i, step := range []struct {
		takes, needs int64
		full         bool
		why          string
	}{
		{100, 100, false, "it has just begun"},
		{850, 500, false, "much of it may be garbage"},
		{851, 500, true, "that is too much, whatever it is"},
		{830, 500, true, "it has not become better by much"},
		{800, 610, false, "where the collector is to hold it"},
		{800, 701, true, "seven tenths live"},
		{800, 660, true, "it has not become better by much"},
		{800, 610, false, "there is room again"},
	} {
		m.judge(step.takes, step.needs)
		if got := m.full.Load(); got != step.full {
			t.Errorf("step %d, %d taken, %d needed: full is %t: %s", i, step.takes, step.needs, got, step.why)
		}
	}
	if limit := 192 << 20; GoMemory(limit) >= budgetOf(limit)*82/100 {
		t.Error("the collector holds more than what is taken for full once it was")
	}
}

// What is large can't be in the way of what is small.
func TestSmallBodies(t *testing.T) {
	m := guard(16 << 20)
	for m.hold(64<<10, 64<<10) {
	}
	if m.hold(1, 1<<20) || !m.hold(1, 1) || !m.hold(small, small) {
		t.Errorf("with %d bytes held of %d: a large body goes on, or a small one does not", m.held.Load(), m.budget/16)
	}
	for m.hold(small, small) {
	}
	if held := m.held.Load(); held > m.budget/8 {
		t.Errorf("%d bytes are held of %d", held, m.budget)
	}
}

// What the runtime says of the process makes sense.
func TestMemoryLook(t *testing.T) {
	large, small := newMemory(64<<30), newMemory(ownMemory+1<<20)
	if large.isFull(0) || !small.isFull(0) {
		t.Errorf("of 64 GiB it is full: %t; of 1 MiB: %t", large.full.Load(), small.full.Load())
	}
	var none *memoryGuard
	if none = newMemory(0); none.isFull(1<<60) || !none.hold(1<<60, 1<<60) {
		t.Error("without a limit something is refused")
	}
	none.free(1)
}

// Whatever sessions hold, and however they end: nothing stays.
func TestHeldBytes(t *testing.T) {
	m := guard(16 * 1000)
	var wg sync.WaitGroup
	for lane := range 8 {
		rng := rand.New(rand.NewPCG(2, uint64(lane)))
		wg.Go(func() {
			for range 500 {
				var p pinned
				ended := make(chan struct{})
				go func() { // the writer, at any time
					defer close(ended)
					m.free(p.end())
				}()
				for range rng.IntN(8) {
					p.move(m, rng.IntN(400))
					if held := m.held.Load(); held < 0 || held > 1000+8*400 {
						t.Errorf("%d bytes are held", held)
					}
				}
				<-ended
				if p.move(m, 100); p.end() != 0 {
					t.Error("a session holds something after its end")
				}
			}
		})
	}
	wg.Wait()
	if got := m.held.Load(); got != 0 {
		t.Errorf("%d bytes are held by nobody", got)
	}
}

// Messages that are half there count together, and the one that is too many is closed and may come back.
func TestUnfinishedMessages(t *testing.T) {
	n := newNode(t, func(c *Config) { c.MemoryLimit = 2 << 30 }) // a sixteenth of what is left is 126 MiB
	full := n.memory.budget/16 - 90<<10
	n.memory.held.Store(full)
	frame := append([]byte{wsframe.OpText, 0x80 | 126, 0x80, 0x00, 0, 0, 0, 0}, strings.Repeat("x", 32<<10)...)
	one, two := n.ws("", subprotocolJSON), n.ws("", subprotocolJSON)
	for i, c := range []*socket{one, two} {
		c.want("welcome")
		if _, err := c.NetConn().Write(frame); err != nil { // and the rest of the message does not come
			t.Fatal(err)
		}
		n.await("what is there of the message", func() bool { return n.memory.held.Load()-full >= int64(i+1)*32<<10 })
	}
	if _, err := two.NetConn().Write(append([]byte{0}, frame[1:]...)); err != nil {
		t.Fatal(err)
	}
	two.wantClose(int(closeTryAgain))
	_ = two.Close()
	_ = one.Close()
	n.await("nothing to be held by nobody", func() bool { return n.memory.held.Load() == full })
	if got := n.limits.refused[limitNodeMemory].Load(); got != 1 {
		t.Errorf("%d refusals are counted, want 1", got)
	}
}

// A client that does not read what a node without memory holds for it has to go; who reads stays.
func TestShed(t *testing.T) {
	n := newNode(t, func(c *Config) {
		c.SendBuffer, c.UnsentLimit, c.WriteTimeout, c.MaxLag = 16<<10, 16<<10, time.Hour, time.Hour
	})
	good := n.listen("ws", "channel=a")
	deaf, err := net.Dial("tcp", n.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer deaf.Close()
	_ = deaf.(*net.TCPConn).SetReadBuffer(4 << 10)
	if _, err := io.WriteString(deaf, "GET /sse?channel=a HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(5 * time.Second); n.sessions.Load() < 2; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it does not listen within 5 s")
		}
	}
	large := strings.Repeat("x", 1<<20)
	for deadline := time.Now().Add(20 * time.Second); n.sessions.Load() > 1; {
		if time.Now().After(deadline) {
			t.Fatal("it is still there after 20 s")
		}
		n.publish("a", large, "live=1")
		if f := good.next(); f.Type != "message" {
			t.Fatalf("the neighbour got %+v", f.Type)
		}
		time.Sleep(100 * time.Millisecond)
		n.shed(new(http.Server))
	}
	n.publish("a", "small")
	good.want("small")
}
