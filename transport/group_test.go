package transport

import (
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"sluice/broker"
)

// Who has just resumed is given what it missed, from the history and from the ring, whatever its policy
// holds back from those who were there.
func TestResumeIsNotHeldBack(t *testing.T) {
	n := newNode(t, nil)
	for i, transport := range transports {
		ch := "resume." + strconv.Itoa(i)
		start := n.listen("ws", "channel="+ch)
		const messages = 600 // the ring has some 120
		for i := range messages {
			n.put(&broker.Message{Channel: ch, Data: []byte(body(i))}, false)
		}
		held := n.listen(transport, "channel="+ch+"&rate=1/h&batch=10s") // the lane is there already
		c := n.listen(transport, "channel="+ch+"&rate=1/h&batch=10s&resume="+start.token)
		for i := range messages {
			if v := number(c.next()); v != i {
				t.Fatalf("%s: got %d, want %d", transport, v, i)
			}
		}
		if c.skipped != 0 {
			t.Errorf("%s: %d skipped", transport, c.skipped)
		}
		held.close()
		c.close()
	}
}

// settled waits until all writers have done what was posted to them.
func (n *node) settled() {
	for _, w := range n.writers {
		done := make(chan struct{})
		w.post(func() { close(done) })
		<-done
	}
}

// deserted waits until nobody listens to a channel any more.
func (n *node) deserted(channel string) {
	n.t.Helper()
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		fans := 0
		n.inspect(func(w *writer) {
			if w.fans[channel] != nil {
				fans++
			}
		})
		if fans == 0 {
			return
		}
		if time.Now().After(deadline) {
			n.t.Fatalf("%d writers still serve %s after 5 s", fans, channel)
		}
	}
}

// inspect calls f on each writer's goroutine.
func (n *node) inspect(f func(w *writer)) {
	for _, w := range n.writers {
		done := make(chan struct{})
		w.post(func() { f(w); close(done) })
		<-done
	}
}

// What is held back costs no wake-up per message, and when its clients have left nothing is left of it.
func TestHeldMessagesAreCheap(t *testing.T) {
	n := newNode(t, func(c *Config) { c.Heartbeat = time.Minute })
	var clients []*client
	for i := range 20 {
		clients = append(clients, n.listen(transports[i%2], fmt.Sprintf("channel=a&batch=10s&rate=1/%s&conflate=latest", []string{"h", "m"}[i/10])))
	}
	passes := func() (sum uint32) {
		n.inspect(func(w *writer) { sum += w.number })
		return sum
	}
	before, begin := passes(), time.Now()
	const messages = 20_000
	for range messages {
		n.put(&broker.Message{Channel: "a", Data: []byte("x")}, true)
	}
	got, most := passes()-before, uint32(len(n.writers))*uint32(time.Since(begin)/time.Millisecond+20)
	if got > most {
		t.Errorf("%d passes for %d messages in %v, at most %d", got, messages, time.Since(begin), most)
	}
	for _, c := range clients {
		c.close()
	}
	for deadline := time.Now().Add(5 * time.Second); n.sessions.Load() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("sessions are left")
		}
	}
	n.inspect(func(w *writer) {
		if len(w.fans) > 0 || len(w.due) > 0 || !w.alarmAt.IsZero() && len(w.due) == 0 && w.alarm.Stop() {
			t.Errorf("left over: %d channels, %d groups that are due", len(w.fans), len(w.due))
		}
	})
}

// Many lanes of one channel, on several writers, each of which has to learn of the runs that another made.
func TestWritersShareLanes(t *testing.T) {
	n := newNode(t, func(c *Config) { c.Writers = 4 })
	var clients []*client
	for i := range 24 {
		clients = append(clients, n.listen(transports[i%2], fmt.Sprintf("channel=a&batch=%dms", 5+i%3)))
	}
	for round := range 30 {
		n.putNumbers("a", 10*round, 10*round+10)
		for _, c := range clients {
			for i := range 10 {
				if f := c.next(); f.Data != strconv.Itoa(10*round+i) {
					t.Fatalf("got %+v, want %d", f, 10*round+i)
				}
			}
		}
	}
	var groups []int
	n.inspect(func(w *writer) { groups = append(groups, len(w.fans["a"].paced.groups)) })
	if !slices.Equal(groups, []int{3, 3, 3, 3}) {
		t.Errorf("groups per writer: %v, want those with one wish in one", groups)
	}
}
