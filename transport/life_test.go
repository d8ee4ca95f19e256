package transport

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/broker"
)

// TestMaxStreamLife: an old stream is told to reconnect, and who does misses nothing that is stored. What is live and missing was published
// between two streams.
func TestMaxStreamLife(t *testing.T) {
	n := newNode(t, func(c *Config) { c.MaxStreamLife, c.Heartbeat = 300*time.Millisecond, 200*time.Millisecond })
	ws := n.ws("channel=a", subprotocolJSON)
	ws.want("welcome")
	const count = 300
	begun := time.Now()
	s := n.sse("channel=a")
	s.want("welcome", "*")
	var all sync.WaitGroup
	all.Go(func() {
		for i := range count {
			n.put(&broker.Message{Channel: "a", Data: fmt.Append(nil, i)}, false)
			n.put(&broker.Message{Channel: "a", Data: fmt.Appendf(nil, "live %d", i)}, true)
			time.Sleep(5 * time.Millisecond)
		}
	})
	all.Go(func() { // WebSockets show signs of life, and stay
		for i := range 2 * count {
			want := strconv.Itoa(i / 2)
			if i%2 == 1 {
				want = "live " + want
			}
			if m := ws.want(""); m.Type != "message" || m.Data != want {
				t.Errorf("on the WebSocket got %+v, want message %s", m, want)
				return
			}
		}
	})
	streams, next, live := 1, 0, -1
	for next < count {
		e, err := s.within(5 * time.Second)
		if err != nil {
			t.Fatalf("message %d on stream %d: %v", next, streams, err)
		}
		switch rest, isLive := strings.CutPrefix(e.data, "live "); {
		case e.name == "reconnect":
			if ms, err := strconv.Atoi(e.retry); err != nil || ms < 50 || ms >= 250 || e.data != fmt.Sprintf(`{"delay":%s}`, e.retry) {
				t.Errorf("reconnect %+v, want a short delay", e)
			}
			if _, err := s.within(5 * time.Second); err != io.EOF {
				t.Errorf("after reconnect: %v, want the end", err)
			}
			if age := time.Since(begun); age < 290*time.Millisecond {
				t.Errorf("a stream ended after %v, want 300ms at least", age)
			}
			streams, begun = streams+1, time.Now()
			s = n.sse("channel=a", "Last-Event-ID", s.last)
			s.want("welcome", "*")
		case isLive:
			i, err := strconv.Atoi(rest)
			if err != nil || i <= live {
				t.Fatalf("got live message %s after %d", rest, live)
			}
			live = i
		default:
			if e.data != strconv.Itoa(next) {
				t.Fatalf("got %+v, want message %d", e, next)
			}
			next++
		}
	}
	all.Wait()
	if streams < 3 {
		t.Errorf("%d streams in %v, want several", streams, time.Since(begun))
	}
}

// TestStreamLifeHeld: what a policy holds back when a stream ends comes on the next one, in its time.
func TestStreamLifeHeld(t *testing.T) {
	n := newNode(t, func(c *Config) { c.MaxStreamLife, c.Heartbeat = 300*time.Millisecond, 200*time.Millisecond })
	other := n.listen("ws", "channel=a&rate=1/h")
	c := n.listen("sse", "channel=a&rate=1/h")
	n.putNumbers("a", 0, 1)
	c.want("0")
	other.want("0")
	n.putNumbers("a", 1, 4)
	if f := c.next(); f.Type != "reconnect" {
		t.Fatalf("got %+v, want to be sent away", f)
	}
	n.listen("sse", "channel=a&resume="+c.token).want("1", "2", "3")
	_ = other.ws.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
	for {
		_, b, err := other.ws.ReadMessage()
		if err != nil {
			break
		}
		if strings.Contains(string(b), `"message"`) {
			t.Errorf("another client under the same rate got %s before its time", b)
		}
	}
}
