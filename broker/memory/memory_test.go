package memory_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sluice/broker"
	"sluice/broker/backendtest"
	"sluice/broker/memory"
)

func TestContract(t *testing.T) {
	backendtest.Run(t, func(*testing.T) broker.Backend { return memory.New(memory.DefaultConfig()) }, nil)
}

// sink calls functions, of which any may be nil.
type sink struct {
	deliver func(*broker.Message)
	joined  func([]string)
}

func (s sink) Deliver(m *broker.Message) {
	if s.deliver != nil {
		s.deliver(m)
	}
}

func (s sink) Joined(channels []string) {
	if s.joined != nil {
		s.joined(channels)
	}
}

func (s sink) Lost([]string) { panic("a memory backend loses nothing") }
func (s sink) Verify()       { panic("a memory backend needs no verification") }

func (s sink) Revoked([]broker.Revocation) {}
func (s sink) Asked(broker.Question) bool  { panic("there is no other node") }

// run runs b until the test ends.
func run(t *testing.T, b *memory.Backend, s broker.Sink) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- b.Run(ctx, s) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ran; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

func publish(t *testing.T, b *memory.Backend, channel, data string, o broker.PublishOptions) broker.Receipt {
	t.Helper()
	r, err := b.Publish(t.Context(), &broker.Message{Channel: channel, Data: []byte(data)}, o)
	if err != nil {
		t.Fatalf("publish %q to %s: %v", data, channel, err)
	}
	return r
}

func read(t *testing.T, b *memory.Backend, r broker.Range) broker.Page {
	t.Helper()
	pages, err := b.Read(t.Context(), []broker.Range{r})
	if err != nil {
		t.Fatalf("read %+v: %v", r, err)
	}
	return pages[0]
}

func count(t *testing.T, b *memory.Backend, channel string) int {
	t.Helper()
	return len(read(t, b, broker.Range{Channel: channel, Newest: true, Limit: 10_000}).Messages)
}

func TestWithoutRun(t *testing.T) {
	b := memory.New(memory.Config{})
	p := publish(t, b, "a", "1", broker.PublishOptions{})
	if got := read(t, b, broker.Range{Channel: "a", Newest: true, Limit: 1}); len(got.Messages) != 1 || got.Head != p.Position {
		t.Errorf("got %+v, want one message at %s", got, p.Position)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := b.Probe(ctx); !errors.Is(err, broker.ErrUnavailable) {
		t.Errorf("Probe without Run: got %v, want ErrUnavailable", err)
	}
}

func TestJoinBeforeRun(t *testing.T) {
	b := memory.New(memory.Config{})
	b.Join("a")
	joined := make(chan []string, 1)
	run(t, b, sink{joined: func(c []string) { joined <- c }})
	if got := <-joined; len(got) != 1 || got[0] != "a" {
		t.Errorf("joined %q, want a", got)
	}
}

func TestRunTwice(t *testing.T) {
	b := memory.New(memory.Config{})
	run(t, b, sink{})
	if err := b.Probe(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := b.Run(t.Context(), sink{}); err == nil {
		t.Error("the second Run returned nil, want an error")
	}
}

// A sink may publish from Joined and join from Deliver. Neither may deadlock, and what is published
// while a channel is being joined comes after Joined.
func TestSinkCallsBack(t *testing.T) {
	b := memory.New(memory.Config{})
	var inJoined atomic.Bool
	got := make(chan string, 10)
	var s sink
	s.joined = func(channels []string) {
		inJoined.Store(true)
		defer inJoined.Store(false)
		for _, c := range channels {
			for _, live := range []bool{true, false} {
				if _, err := b.Publish(context.Background(), &broker.Message{Channel: c, Data: []byte(c)}, broker.PublishOptions{Live: live}); err != nil {
					t.Errorf("publish from Joined: %v", err)
				}
			}
		}
	}
	s.deliver = func(m *broker.Message) {
		if inJoined.Load() {
			t.Error("Deliver while Joined was running for the channel")
		}
		if m.Channel == "a" && !m.Durable() {
			b.Join("b")
		}
		got <- m.Channel
	}
	run(t, b, s)
	b.Join("a")
	for i, want := range []string{"a", "a", "b", "b"} {
		if c := <-got; c != want {
			t.Errorf("delivery %d is of %s, want %s", i, c, want)
		}
	}
}

func TestMaxBytes(t *testing.T) {
	const each = 1000
	b := memory.New(memory.Config{MaxBytes: 10 * (each + 256)})
	data := string(make([]byte, each))
	for i := range 10 {
		publish(t, b, fmt.Sprint("c", i%2), data, broker.PublishOptions{})
	}
	m := &broker.Message{Channel: "c0", Data: []byte(data)}
	if _, err := b.Publish(t.Context(), m, broker.PublishOptions{}); !errors.Is(err, broker.ErrUnavailable) {
		t.Fatalf("the eleventh message: got %v, want ErrUnavailable", err)
	}
	if n := count(t, b, "c0"); n != 5 {
		t.Errorf("a refused publish left %d messages, want 5", n)
	}
	if _, err := b.Publish(t.Context(), m, broker.PublishOptions{Live: true}); err != nil {
		t.Errorf("a live message takes no room, but got %v", err)
	}
	// In place of an older one there is room.
	publish(t, b, "c0", data, broker.PublishOptions{Messages: 5})
	publish(t, b, "c0", data, broker.PublishOptions{Messages: 2})
	publish(t, b, "c1", data, broker.PublishOptions{})
	if _, err := b.Publish(t.Context(), m, broker.PublishOptions{ID: "id", Messages: 2}); err != nil {
		t.Errorf("an ID within the limit: %v", err)
	}
}

func TestAgeFreesBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := memory.New(memory.Config{MaxBytes: 2000})
		run(t, b, sink{})
		data := string(make([]byte, 1500))
		publish(t, b, "a", data, broker.PublishOptions{Age: time.Minute})
		m := &broker.Message{Channel: "b", Data: []byte(data)}
		time.Sleep(59 * time.Second)
		if n := count(t, b, "a"); n != 1 {
			t.Fatalf("%d messages after 59s, want 1", n)
		}
		if _, err := b.Publish(t.Context(), m, broker.PublishOptions{}); !errors.Is(err, broker.ErrUnavailable) {
			t.Fatalf("got %v, want ErrUnavailable", err)
		}
		// Nobody touches a again: the sweep has to find it.
		time.Sleep(time.Second + 64*250*time.Millisecond)
		if _, err := b.Publish(t.Context(), m, broker.PublishOptions{}); err != nil {
			t.Errorf("after the age and a sweep: %v", err)
		}
	})
}

// A refusal for want of room makes the next sweep a full one, so that a retry a second later succeeds.
func TestRefusalSweepsAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := memory.New(memory.Config{MaxBytes: 20_000})
		run(t, b, sink{})
		data := string(make([]byte, 1500))
		for i := range 10 {
			publish(t, b, fmt.Sprint("c", i), data, broker.PublishOptions{Age: time.Second})
		}
		time.Sleep(time.Second)
		m := &broker.Message{Channel: "big", Data: make([]byte, 19_000)}
		_, err := b.Publish(t.Context(), m, broker.PublishOptions{})
		time.Sleep(time.Second)
		if _, again := b.Publish(t.Context(), m, broker.PublishOptions{}); err == nil || again != nil {
			t.Errorf("got %v and then %v, want an error and then none", err, again)
		}
	})
}

func TestIdempotencyWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := memory.New(memory.Config{IdempotencyWindow: time.Minute})
		o := broker.PublishOptions{ID: "1", Age: time.Second}
		first := publish(t, b, "a", "x", o)
		time.Sleep(time.Minute - time.Nanosecond)
		if r := publish(t, b, "a", "x", o); !r.Duplicate || r.Position != first.Position {
			t.Errorf("just within the window: got %+v, want a duplicate of %s", r, first.Position)
		}
		time.Sleep(time.Nanosecond)
		if r := publish(t, b, "a", "x", o); r.Duplicate {
			t.Errorf("at its end: got %+v, want a new message; a duplicate does not prolong the window", r)
		}
	})
}

func TestLiveDuplicate(t *testing.T) {
	b := memory.New(memory.Config{})
	o := broker.PublishOptions{ID: "1", Live: true}
	if r := publish(t, b, "a", "x", o); r.Duplicate {
		t.Errorf("the first: got %+v", r)
	}
	if r := publish(t, b, "a", "x", o); !r.Duplicate || !r.Position.IsZero() {
		t.Errorf("the second: got %+v, want a duplicate without position", r)
	}
}

// A channel that nobody uses is forgotten after a day, and tokens from before it show a gap.
func TestForget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := memory.New(memory.Config{MaxChannels: 3})
		run(t, b, sink{})
		b.Join("joined")
		synctest.Wait()
		heads := map[string]broker.Position{}
		for _, c := range []string{"joined", "left"} {
			heads[c] = publish(t, b, c, "x", broker.PublishOptions{}).Position
		}
		b.Join("left")
		b.Leave("left")
		time.Sleep(23 * time.Hour)
		if h := read(t, b, broker.Range{Channel: "joined"}).Head; h != heads["joined"] {
			t.Errorf("joined, 23h: head %s, want %s", h, heads["joined"])
		}
		time.Sleep(2 * time.Hour)
		if h := read(t, b, broker.Range{Channel: "joined"}).Head; h != heads["joined"] {
			t.Errorf("joined, 25h: head %s, want %s", h, heads["joined"])
		}
		if h := read(t, b, broker.Range{Channel: "left"}).Head; !heads["left"].Before(h) {
			t.Errorf("left, 25h: head %s, want a genesis after %s", h, heads["left"])
		}
	})
}

// At the limit new channels are refused, joins wait, and what is unused makes room after a minute.
func TestMaxChannels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := memory.New(memory.Config{MaxChannels: 2})
		var mu sync.Mutex
		var joined []string
		run(t, b, sink{joined: func(channels []string) {
			mu.Lock()
			defer mu.Unlock()
			joined = append(joined, channels...)
		}})
		checkJoined := func(when string, want ...string) {
			t.Helper()
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if !slices.Equal(joined, want) {
				t.Errorf("%s: joined %q, want %q", when, joined, want)
			}
		}
		b.Join("a")
		synctest.Wait()
		head := read(t, b, broker.Range{Channel: "stranger"}).Head
		if _, err := b.Read(t.Context(), []broker.Range{{Channel: "c"}}); !errors.Is(err, broker.ErrUnavailable) {
			t.Errorf("read of a third channel: got %v, want ErrUnavailable", err)
		}
		if _, err := b.Publish(t.Context(), &broker.Message{Channel: "c"}, broker.PublishOptions{}); !errors.Is(err, broker.ErrUnavailable) {
			t.Errorf("publish to a third channel: got %v, want ErrUnavailable", err)
		}
		b.Join("c", "d")
		b.Leave("d")
		time.Sleep(30 * time.Second)
		checkJoined("no room yet", "a")
		time.Sleep(2 * time.Minute)
		checkJoined("the stranger's channel was not used for a minute", "a", "c")
		b.Leave("c")
		time.Sleep(2 * time.Minute)
		if h := read(t, b, broker.Range{Channel: "stranger"}).Head; !head.Before(h) {
			t.Errorf("the forgotten channel came back with the genesis %s, want one after %s", h, head)
		}
	})
}
