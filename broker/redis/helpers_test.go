package redis

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9/logging"
	"go.uber.org/goleak"

	"sluice/broker"
	"sluice/broker/redistest"
)

func TestMain(m *testing.M) {
	logging.Disable() // go-redis would print each refused connection
	// A go-redis pool that failed to dial looks for the server in a goroutine of its own, which notices
	// only at its next look, up to a second later, that the pool was closed.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial"))
}

// recorder is a sink that keeps everything and reports calls that must not be concurrent.
type recorder struct {
	t *testing.T

	mu       sync.Mutex
	busy     map[string]bool // channels of which a call is under way
	messages map[string][]*broker.Message
	joined   map[string]int
	lost     map[string]int
	verified int
	revoked  map[string]broker.Revocation // as told last, by name
	lists    int                          // calls of Revoked
	asked    []broker.Question
}

func newRecorder(t *testing.T) *recorder {
	return &recorder{
		t: t, busy: map[string]bool{}, messages: map[string][]*broker.Message{},
		joined: map[string]int{}, lost: map[string]int{}, revoked: map[string]broker.Revocation{},
	}
}

func (r *recorder) enter(channels ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range channels {
		if r.busy[c] {
			r.t.Errorf("two calls at once concern channel %s", c)
		}
		r.busy[c] = true
	}
}

func (r *recorder) leave(channels []string, do func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range channels {
		delete(r.busy, c)
	}
	do()
}

func (r *recorder) Deliver(m *broker.Message) {
	r.enter(m.Channel)
	r.leave([]string{m.Channel}, func() { r.messages[m.Channel] = append(r.messages[m.Channel], m) })
}

func (r *recorder) Joined(channels []string) {
	r.enter(channels...)
	r.leave(channels, func() {
		for _, c := range channels {
			r.joined[c]++
		}
	})
}

func (r *recorder) Lost(channels []string) {
	r.enter(channels...)
	r.leave(channels, func() {
		for _, c := range channels {
			r.lost[c]++
		}
	})
}

func (r *recorder) Revoked(list []broker.Revocation) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lists++
	for _, x := range list {
		r.revoked[revokedName(x)] = x
	}
}

func (r *recorder) Asked(q broker.Question) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked = append(r.asked, q)
	return string(q.Text) != "unreadable"
}

// knows reports whether a value of that kind was told as revoked.
func (r *recorder) knows(kind broker.RevocationKind, value string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, found := r.revoked[revokedName(broker.Revocation{Kind: kind, Value: value})]
	return found
}

func (r *recorder) Verify() { r.leave(nil, func() { r.verified++ }) }

func (r *recorder) of(channel string) []*broker.Message {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.messages[channel][:len(r.messages[channel]):len(r.messages[channel])]
}

func (r *recorder) count(what map[string]int, channel string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return what[channel]
}

// payloads returns what was delivered of a channel, separated by spaces.
func (r *recorder) payloads(channel string) string {
	var words []string
	for _, m := range r.of(channel) {
		words = append(words, string(m.Data))
	}
	return strings.Join(words, " ")
}

// until waits for a condition, and fails the test with what if that takes too long.
func until(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("still not: %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// open returns a backend for the server that is closed with the test. It does not run.
func open(t *testing.T, s *redistest.Server, adjust func(*Config)) *Backend {
	t.Helper()
	c := Config{URL: s.URL()}
	if adjust != nil {
		adjust(&c)
	}
	b, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

// run is open and Run.
func run(t *testing.T, s *redistest.Server, adjust func(*Config)) (*Backend, *recorder) {
	t.Helper()
	b := open(t, s, adjust)
	r := newRecorder(t)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := b.Run(ctx, r); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	return b, r
}

// join joins the channels and waits until they are.
func join(t *testing.T, b *Backend, r *recorder, channels ...string) {
	t.Helper()
	b.Join(channels...)
	for _, c := range channels {
		until(t, "joined "+c, func() bool { return r.count(r.joined, c) > 0 })
	}
}

func publish(t *testing.T, b *Backend, channel, data string, o broker.PublishOptions) broker.Receipt {
	t.Helper()
	r, err := b.Publish(t.Context(), &broker.Message{Channel: channel, Data: []byte(data)}, o)
	if err != nil {
		t.Fatalf("publish %s to %s: %v", data, channel, err)
	}
	return r
}

func read(t *testing.T, b *Backend, r broker.Range) broker.Page {
	t.Helper()
	pages, err := b.Read(t.Context(), []broker.Range{r})
	if err != nil {
		t.Fatalf("read %+v: %v", r, err)
	}
	return pages[0]
}

// text renders a page as its payloads.
func text(p broker.Page) string {
	var words []string
	for _, m := range p.Messages {
		words = append(words, string(m.Data))
	}
	return strings.Join(words, " ")
}

// checkChain reports a break in what follows genesis.
func checkChain(t *testing.T, genesis broker.Position, ms []*broker.Message, head broker.Position) {
	t.Helper()
	last := genesis
	for i, m := range ms {
		if m.Previous != last || !m.Previous.Before(m.Position) {
			t.Errorf("message %d: %v after %v, want a link to %v", i, m.Position, m.Previous, last)
		}
		last = m.Position
	}
	if head != last {
		t.Errorf("head %v, want the last message %v", head, last)
	}
}

func isUnavailable(err error) bool { return errors.Is(err, broker.ErrUnavailable) }

func numbered(n int) string { return fmt.Sprintf("%05d", n) }
