package broker_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sluice/broker"
	"sluice/broker/memory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// shaky is the memory backend with a link that loses, repeats and breaks, as Redis' Pub/Sub does.
// Several brokers may share one: they are the nodes.
type shaky struct {
	broker.Backend
	mu    sync.Mutex
	nodes []*shakyNode
	fault float64 // chance of a fault at each announcement
}

// shakyNode is one node's end of the link.
type shakyNode struct {
	*shaky
	sink   broker.Sink
	random *rand.Rand
	down   map[string]int // announcements still to lose, per channel
	joined map[string]bool
}

func newShaky(fault float64) *shaky {
	return &shaky{Backend: memory.New(memory.DefaultConfig()), fault: fault}
}

func (s *shaky) node(seed uint64) *shakyNode {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := &shakyNode{shaky: s, random: rand.New(rand.NewPCG(seed, 1)), down: map[string]int{}, joined: map[string]bool{}}
	s.nodes = append(s.nodes, n)
	return n
}

// Run of the first node runs the memory backend for all; the others wait.
func (n *shakyNode) Run(ctx context.Context, sink broker.Sink) error {
	n.mu.Lock()
	n.sink = sink
	first := n.nodes[0] == n
	n.mu.Unlock()
	if first {
		return n.Backend.Run(ctx, n.shaky)
	}
	<-ctx.Done()
	return nil
}

func (n *shakyNode) Join(channels ...string) {
	n.mu.Lock()
	for _, c := range channels {
		n.joined[c] = true
	}
	n.mu.Unlock()
	n.Backend.Join(channels...)
	n.sink.Joined(channels) // the memory backend may have joined it for another node long ago
}

func (n *shakyNode) Leave(channels ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range channels {
		delete(n.joined, c)
	}
}

func (s *shaky) Joined([]string) {}
func (s *shaky) Lost([]string)   {}
func (s *shaky) Verify()         {}

func (s *shaky) Revoked([]broker.Revocation) {}
func (s *shaky) Asked(broker.Question) bool  { return true }

func (s *shaky) Deliver(m *broker.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.nodes {
		if n.joined[m.Channel] {
			n.announce(m)
		}
	}
}

func (n *shakyNode) announce(m *broker.Message) {
	c := []string{m.Channel}
	if left := n.down[m.Channel]; left > 0 {
		if n.down[m.Channel]--; left == 1 {
			n.sink.Joined(c)
		}
		return
	}
	switch f := n.random.Float64() / n.fault; {
	case f < 0.4: // lost in silence
		return
	case f < 0.7:
		n.sink.Deliver(m) // and again
	case f < 1:
		n.sink.Lost(c)
		n.down[m.Channel] = 1 + n.random.IntN(20)
		return
	}
	n.sink.Deliver(m)
}

// heal brings all links up that are down; else nothing would after the last message.
func (s *shaky) heal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.nodes {
		for c, left := range n.down {
			if left > 0 {
				n.down[c] = 0
				n.sink.Joined([]string{c})
			}
		}
	}
}

// reader is a client: it takes what it is owed, slowly at times, leaves and comes back on another node.
type reader struct {
	name    string
	random  *rand.Rand
	nodes   []*broker.Broker
	away    time.Duration
	log     *broker.Log
	sub     broker.Subscription
	at      broker.Position
	got     []string
	gaps    []broker.Gap
	notices chan struct{}
}

func (r *reader) Notify() {
	select {
	case r.notices <- struct{}{}:
	default:
	}
}

func (r *reader) come(channel string) {
	r.log = r.nodes[r.random.IntN(len(r.nodes))].Open(channel)
	r.log.Listen(r)
	r.log.Subscribe(&r.sub, r.at)
}

func (r *reader) leave() {
	r.log.Unlisten(r)
	r.log.Close()
}

// take reads until the message last, or until ctx ends.
func (r *reader) take(ctx context.Context, channel, last string) error {
	for {
		b := r.sub.Take()
		if !r.sub.Position().IsZero() {
			r.at = r.sub.Position()
		}
		if b == nil {
			select {
			case <-r.notices:
			case <-ctx.Done():
				return fmt.Errorf("%s: stuck after %d messages at %v", r.name, len(r.got), r.at)
			}
			continue
		}
		for _, m := range b.Messages {
			if m.Gap != nil {
				r.gaps = append(r.gaps, *m.Gap)
				continue
			}
			if m.Durable() {
				r.got = append(r.got, string(m.Data))
			}
			if string(m.Data) == last {
				return nil
			}
		}
		if r.random.IntN(8) == 0 {
			r.leave()
			if r.away > 0 {
				time.Sleep(rand.N(r.away)) // it is away, it waits for nothing
			}
			r.come(channel)
		}
		if r.random.IntN(8) == 0 {
			time.Sleep(time.Duration(r.random.IntN(3)) * time.Millisecond) // a slow reader, not a wait for something
		}
	}
}

// TestBrokerOverShakyLink is the promise of the package: whatever the link does, and wherever they
// come back, subscribers get every durable message once and in order.
func TestBrokerOverShakyLink(t *testing.T) {
	for _, tt := range []struct {
		name     string
		fault    float64
		ring     int
		bytes    int
		live     bool
		away     time.Duration // the longest that a reader is away
		messages int
	}{
		{"steady", 0, 1024, 0, true, 0, 2000},
		{"steady, little memory", 0, 1024, 8 << 10, false, 20 * time.Millisecond, 3000},
		{"shaky", 0.05, 1024, 0, false, 0, 2000},
		{"shaky, tiny ring", 0.05, 8, 0, false, 0, 2000},
		{"shaky, with live messages", 0.05, 64, 0, true, 0, 2000},
		{"shaky, with live messages, away for long", 0.05, 64, 0, true, 10 * time.Millisecond, 2000},
	} {
		t.Run(tt.name, func(t *testing.T) {
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			link := newShaky(tt.fault)
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			var nodes []*broker.Broker
			var running sync.WaitGroup
			for i := range 3 {
				n := link.node(seed + uint64(i))
				b := broker.New(n, broker.Options{RingMessages: tt.ring, RingBytes: tt.bytes, Linger: time.Millisecond})
				nodes = append(nodes, b)
				running.Go(func() {
					if err := b.Run(ctx); err != nil {
						t.Errorf("Run = %v", err)
					}
				})
				running.Go(func() { verify(ctx, n) })
			}
			defer running.Wait()
			defer cancel()
			waitForRun(ctx, t, link)

			var readers []*reader
			for i := range 12 {
				r := &reader{name: fmt.Sprintf("reader %d", i), random: rand.New(rand.NewPCG(seed, uint64(i))), nodes: nodes, away: tt.away, notices: make(chan struct{}, 1)}
				r.come("c")
				for !r.sub.Started() {
					select {
					case <-r.notices:
					case <-ctx.Done():
						t.Fatal("a subscription did not start")
					}
				}
				r.at = r.sub.Position()
				readers = append(readers, r)
			}
			var wg sync.WaitGroup
			last := fmt.Sprint(tt.messages - 1)
			for _, r := range readers {
				wg.Go(func() {
					if err := r.take(ctx, "c", last); err != nil {
						t.Error(err)
					}
					r.leave()
				})
			}
			for i := range tt.messages {
				m := &broker.Message{Channel: "c", Data: []byte(fmt.Sprint(i))}
				if _, err := nodes[i%3].Publish(ctx, m, broker.PublishOptions{Messages: tt.messages}); err != nil {
					t.Fatal(err)
				}
				if tt.live && i%10 == 0 {
					m := &broker.Message{Channel: "c", Data: []byte("live")}
					if _, err := nodes[i%3].Publish(ctx, m, broker.PublishOptions{Live: true}); err != nil {
						t.Fatal(err)
					}
				}
				if i%50 == 0 {
					time.Sleep(time.Millisecond) // pace: else the readers see it all at once
				}
			}
			link.heal()
			wg.Wait()
			for _, r := range readers {
				r.check(t, tt.messages)
			}
		})
	}
}

func (r *reader) check(t *testing.T, n int) {
	t.Helper()
	for i := range min(n, len(r.got)) {
		if r.got[i] != fmt.Sprint(i) {
			t.Fatalf("%s: message %d is %s; gaps told: %v", r.name, i, r.got[i], r.gaps)
		}
	}
	if len(r.got) != n {
		t.Errorf("%s: got %d messages, want %d; gaps told: %v", r.name, len(r.got), n, r.gaps)
	}
	for _, g := range r.gaps {
		if g.Reason != broker.Interrupted && g.Reason != broker.Lapped {
			t.Errorf("%s: told of a gap %+v, though nothing durable was lost", r.name, g)
		}
	}
}

func verify(ctx context.Context, n *shakyNode) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			n.mu.Lock()
			s := n.sink
			n.mu.Unlock()
			if s != nil {
				s.Verify()
			}
		case <-ctx.Done():
			return
		}
	}
}

// waitForRun returns when all nodes are connected.
func waitForRun(ctx context.Context, t *testing.T, s *shaky) {
	t.Helper()
	for ctx.Err() == nil {
		s.mu.Lock()
		up := 0
		for _, n := range s.nodes {
			if n.sink != nil {
				up++
			}
		}
		s.mu.Unlock()
		if up == len(s.nodes) {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatal("the nodes did not start")
}
