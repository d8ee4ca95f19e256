// Package backendtest is the contract of broker.Backend as a table that can be run. A backend keeps
// its promises if it passes; each row says why the promise matters.
package backendtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sluice/broker"
)

// patience is how long the table waits for something that should come at once.
const patience = 10 * time.Second

// contract is one promise of a backend.
type contract struct {
	name string
	why  string // printed when it is broken
	run  func(*env)
}

// Run runs every row of the table against a backend of its own. open returns a backend on which Run
// has not been called, and cleans up by t.Cleanup. Backends may share a store: channel names are
// random, and no row looks at another's. peer does the same for another node on the store that open
// returned a backend of last; nil if a store has one node only.
func Run(t *testing.T, open, peer func(t *testing.T) broker.Backend) {
	for _, table := range [][]contract{publishing, reading, history, idempotency, delivery, lifecycle, revocation, asking} {
		for _, c := range table {
			t.Run(c.name, func(t *testing.T) {
				there := goroutines()
				e := start(t, open(t), open, peer)
				e.there = there
				defer func() {
					if t.Failed() {
						t.Logf("why this matters: %s", c.why)
					}
				}()
				defer e.stop()
				c.run(e)
			})
		}
	}
}

// env is a running backend with its sink, and what the rows say again and again. Its methods that
// can't go on end the test.
type env struct {
	*testing.T
	backend broker.Backend
	sink    *recorder
	prefix  string          // of all channel names
	there   map[string]bool // goroutines that were there before the backend
	open    func(*testing.T) broker.Backend
	peer    func(*testing.T) broker.Backend // nil: there is one node only
	ctx     context.Context                 // for all calls; ends long after the row should
	cancel  context.CancelFunc
	ran     chan error // gets what Run returned
	stopped bool
	count   atomic.Int64
}

func start(t *testing.T, b broker.Backend, open, peer func(*testing.T) broker.Backend) *env {
	e := &env{T: t, backend: b, sink: newRecorder(), prefix: rand.Text()[:10], ran: make(chan error, 1), open: open, peer: peer}
	var done context.CancelFunc
	e.ctx, done = context.WithTimeout(t.Context(), 3*patience)
	t.Cleanup(done)
	var run context.Context
	run, e.cancel = context.WithCancel(context.Background())
	go func() { e.ran <- b.Run(run, e.sink) }()
	return e
}

// stop ends Run and reports what the sink found to complain about.
func (e *env) stop() {
	e.Helper()
	if e.stopped {
		return
	}
	e.stopped = true
	e.cancel()
	select {
	case err := <-e.ran:
		if err != nil {
			e.Errorf("Run returned %v after its context ended, want nil", err)
		}
	case <-time.After(patience):
		e.Error("Run did not return after its context ended")
	}
	e.sink.finish()
	for _, p := range e.sink.takeProblems() {
		e.Error(p)
	}
}

// channel returns a channel name that nobody has used.
func (e *env) channel() string { return fmt.Sprintf("t:%s/%d", e.prefix, e.count.Add(1)) }

// publish publishes data and returns its position.
func (e *env) publish(channel, data string, o broker.PublishOptions) broker.Position {
	e.Helper()
	return e.publishMessage(&broker.Message{Channel: channel, Data: []byte(data)}, o).Position
}

func (e *env) publishMessage(m *broker.Message, o broker.PublishOptions) broker.Receipt {
	e.Helper()
	r, err := e.backend.Publish(e.ctx, m, o)
	if err != nil {
		e.Fatalf("publish to %s: %v", m.Channel, err)
	}
	if r.Position.IsZero() != o.Live {
		e.Fatalf("publish with Live %v answered the position %q", o.Live, r.Position)
	}
	return r
}

// publishN publishes n messages, "0" to "n-1", and returns their positions.
func (e *env) publishN(channel string, n int, o broker.PublishOptions) []broker.Position {
	e.Helper()
	ps := make([]broker.Position, n)
	for i := range ps {
		ps[i] = e.publish(channel, fmt.Sprint(i), o)
	}
	return ps
}

// read reads one range.
func (e *env) read(r broker.Range) broker.Page {
	e.Helper()
	pages, err := e.backend.Read(e.ctx, []broker.Range{r})
	if err != nil {
		e.Fatalf("read %+v: %v", r, err)
	}
	if len(pages) != 1 {
		e.Fatalf("read of one range answered %d pages", len(pages))
	}
	return pages[0]
}

func (e *env) head(channel string) broker.Position {
	e.Helper()
	p := e.read(broker.Range{Channel: channel})
	if p.Head.IsZero() || len(p.Messages) > 0 {
		e.Fatalf("read of the head answered head %q and %d messages, want a position and none", p.Head, len(p.Messages))
	}
	return p.Head
}

// all reads a whole history.
func (e *env) all(channel string) broker.Page {
	e.Helper()
	return e.read(broker.Range{Channel: channel, Newest: true, Limit: 100_000})
}

// join joins the channels and waits until the backend says so.
func (e *env) join(channels ...string) {
	e.Helper()
	before := e.sink.wantChannels(channels)
	e.backend.Join(channels...)
	e.await("Joined after Join", func() bool {
		for i, c := range channels {
			if e.sink.joined[c] == before[i] {
				return false
			}
		}
		return true
	})
}

// await waits until done, which is called with the sink locked each time something has come.
func (e *env) await(what string, done func() bool) {
	e.Helper()
	if !e.sink.wait(time.Now().Add(patience), done) {
		e.Fatalf("did not come within %v: %s", patience, what)
	}
}

// delivered waits for n messages of the channel and returns those that came.
func (e *env) delivered(channel string, n int) []*broker.Message {
	e.Helper()
	e.await(fmt.Sprintf("%d messages of %s", n, channel), func() bool { return len(e.sink.messages[channel]) >= n })
	return e.sink.of(channel)
}

// checkData compares the payloads of ms.
func (e *env) checkData(ms []*broker.Message, want ...string) {
	e.Helper()
	if got := data(ms); strings.Join(got, "\x00") != strings.Join(want, "\x00") || len(got) != len(want) {
		e.Errorf("got %.300q, want %.300q", got, want)
	}
}

// checkChain wants each durable message to name the one before it, the first one previous.
func (e *env) checkChain(ms []*broker.Message, previous broker.Position) {
	e.Helper()
	for i, m := range ms {
		if !m.Durable() {
			continue
		}
		if m.Previous != previous {
			e.Fatalf("message %d (%s): Previous is %s, want %s", i, m.Position, m.Previous, previous)
		}
		if !previous.Before(m.Position) {
			e.Fatalf("message %d: %s does not come after %s", i, m.Position, previous)
		}
		previous = m.Position
	}
}

// checkPositions compares the positions of ms.
func (e *env) checkPositions(ms []*broker.Message, want []broker.Position) {
	e.Helper()
	if len(ms) != len(want) {
		e.Fatalf("got %d messages %.200q, want %d", len(ms), data(ms), len(want))
	}
	for i, m := range ms {
		if m.Position != want[i] {
			e.Fatalf("message %d has the position %s, want %s", i, m.Position, want[i])
		}
	}
}

func data(ms []*broker.Message) []string {
	ds := make([]string, len(ms))
	for i, m := range ms {
		ds[i] = string(m.Data)
	}
	return ds
}

// unavailable reports whether err is what a backend may answer once a context has ended.
func unavailable(err error) bool {
	return errors.Is(err, broker.ErrUnavailable) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}
