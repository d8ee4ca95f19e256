package redis

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/broker"
	"sluice/broker/redistest"
)

// load is a broker over the backend with publishers and followers on a few channels: what is
// acknowledged must arrive at each follower once and in order, whatever happens to Redis meanwhile.
type load struct {
	t       *testing.T
	backend *Backend
	broker  *broker.Broker
	stop    context.CancelFunc
	acked   atomic.Int64
	refused atomic.Int64 // publishes that failed and were tried again with the same ID
	runs    sync.WaitGroup
	pubs    sync.WaitGroup
	sent    []*[]string // per channel
	got     []*follower
}

const (
	loadChannels  = 4
	loadListeners = 2
)

func startLoad(t *testing.T, s *redistest.Server, adjust func(*Config)) *load {
	t.Helper()
	l := &load{t: t, backend: open(t, s, adjust)}
	l.broker = broker.New(l.backend, broker.Options{RingMessages: 4096})
	ctx, cancel := context.WithCancel(context.Background())
	l.runs.Go(func() { _ = l.broker.Run(ctx) })
	publishing, stop := context.WithCancel(context.Background())
	l.stop = stop
	t.Cleanup(func() { stop(); l.pubs.Wait(); cancel(); l.runs.Wait() })
	for c := range loadChannels {
		for range loadListeners {
			f := newFollower(l.broker, "c"+fmt.Sprint(c))
			l.got = append(l.got, f)
			until(t, "follower started", f.sub.Started)
		}
		sent := new([]string)
		l.sent = append(l.sent, sent)
		l.pubs.Go(func() { l.publish(publishing, c, sent) })
	}
	return l
}

// publish sends numbers to a channel, one after the other, each until it is acknowledged.
func (l *load) publish(ctx context.Context, c int, sent *[]string) {
	for i := 0; ctx.Err() == nil; i++ {
		m := &broker.Message{Channel: "c" + fmt.Sprint(c), Data: []byte(numbered(i))}
		for {
			call, cancel := context.WithTimeout(context.Background(), time.Second)
			_, err := l.broker.Publish(call, m, broker.PublishOptions{ID: numbered(i), Messages: 100_000})
			cancel()
			if err == nil {
				break
			}
			l.refused.Add(1)
			if !sleep(context.Background(), 10*time.Millisecond) {
				return
			}
		}
		*sent = append(*sent, numbered(i))
		l.acked.Add(1)
	}
}

// more waits until n further messages have been acknowledged.
func (l *load) more(n int64) {
	l.t.Helper()
	target := l.acked.Load() + n
	until(l.t, fmt.Sprintf("%d more acknowledged", n), func() bool { return l.acked.Load() >= target })
}

// finish ends publishing and compares what was acknowledged with what every follower got.
func (l *load) finish() {
	l.t.Helper()
	l.stop()
	l.pubs.Wait()
	for i, f := range l.got {
		sent := *l.sent[i/loadListeners]
		if len(sent) == 0 {
			l.t.Fatalf("channel %d: nothing was acknowledged", i/loadListeners)
		}
		until(l.t, "the last message arrived", func() bool { f.take(); return len(f.data) > 0 && f.data[len(f.data)-1] == sent[len(sent)-1] })
		if strings.Join(f.data, " ") != strings.Join(sent, " ") {
			l.t.Errorf("follower %d: got %d messages %v…, want the %d acknowledged in order", i, len(f.data), head(f.data, sent), len(sent))
		}
		if len(f.gaps) > 0 {
			l.t.Errorf("follower %d: was told of gaps: %v", i, f.gaps)
		}
	}
	l.t.Logf("acknowledged %d, tried again %d, by the backend itself %d", l.acked.Load(), l.refused.Load(), l.backend.Stats().Retries.Load())
}

// head returns the first difference.
func head(got, want []string) string {
	for i := range got {
		if i >= len(want) || got[i] != want[i] {
			return fmt.Sprintf("at %d: %s", i, strings.Join(got[max(0, i-2):min(len(got), i+3)], " "))
		}
	}
	return "at the end"
}

// follower takes what one subscription is owed.
type follower struct {
	sub  broker.Subscription
	data []string
	gaps []broker.Gap
}

func newFollower(b *broker.Broker, channel string) *follower {
	f := &follower{}
	b.Open(channel).Subscribe(&f.sub, broker.Position{})
	return f
}

func (f *follower) take() {
	for b := f.sub.Take(); b != nil; b = f.sub.Take() {
		for _, m := range b.Messages {
			switch {
			case m.Gap != nil && m.Gap.Reason != broker.Interrupted: // live ones may always be lost
				f.gaps = append(f.gaps, *m.Gap)
			case m.Gap == nil:
				f.data = append(f.data, string(m.Data))
			}
		}
	}
}

func TestPubSubConnectionsKilled(t *testing.T) {
	s := redistest.Start(t)
	l := startLoad(t, s, nil)
	for range 10 {
		l.more(100)
		before := l.backend.Stats().Reconnects.Load()
		until(t, "killed", func() bool { return s.Client().ClientKillByFilter(t.Context(), "TYPE", "pubsub").Val() > 0 })
		until(t, "reconnected", func() bool {
			return l.backend.Stats().Reconnects.Load() > before && l.backend.Connected()
		})
	}
	l.more(100)
	l.finish()
}

func TestPaused(t *testing.T) {
	s := redistest.Start(t)
	l := startLoad(t, s, nil)
	l.more(200)
	s.Pause()
	began := time.Now()
	goroutines := runtime.NumGoroutine()
	for time.Since(began) < 3200*time.Millisecond {
		if n := runtime.NumGoroutine(); n > goroutines+50 {
			t.Fatalf("%d goroutines, %d before the pause", n, goroutines)
		}
		if !sleep(t.Context(), 50*time.Millisecond) {
			return
		}
	}
	if l.refused.Load() == 0 {
		t.Error("no publisher was refused while Redis did not answer")
	}
	s.Resume()
	l.more(200)
	l.finish()
}

func TestKilledAndRestarted(t *testing.T) {
	s := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
	l := startLoad(t, s, nil)
	for range 3 {
		l.more(200)
		s.Restart()
	}
	l.more(200)
	l.finish()
}

// TestRestartedEmpty: what Redis itself has lost is told as a gap, and everything goes on.
func TestRestartedEmpty(t *testing.T) {
	s := redistest.Start(t)
	l := startLoad(t, s, nil)
	l.more(100)
	l.stop()
	l.pubs.Wait()
	s.Restart()
	until(t, "back", func() bool { return l.backend.Connected() })
	for i := range l.got {
		m := &broker.Message{Channel: "c" + fmt.Sprint(i/loadListeners), Data: []byte("after")}
		if _, err := l.broker.Publish(t.Context(), m, broker.PublishOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for i, f := range l.got {
		until(t, "the message after", func() bool { f.take(); return len(f.data) > 0 && f.data[len(f.data)-1] == "after" })
		if len(f.gaps) != 1 || f.gaps[0].Reason != broker.Truncated {
			t.Errorf("follower %d: told %v, want one truncated gap", i, f.gaps)
		}
	}
	loaded(t, s)
}

func TestPublishFailsInTime(t *testing.T) {
	s := redistest.Start(t)
	b := open(t, s, func(c *Config) { c.PublishQueue = 8 }) // most callers find it full
	publish(t, b, "c", "x", broker.PublishOptions{})
	check := func(what string) {
		t.Helper()
		var wg sync.WaitGroup
		for i := range 300 {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
				defer cancel()
				began := time.Now()
				m := &broker.Message{Channel: "c" + fmt.Sprint(i%10), Data: []byte("y")}
				_, err := b.Publish(ctx, m, broker.PublishOptions{Live: i%2 == 0})
				if !isUnavailable(err) || time.Since(began) > 2*time.Second {
					t.Errorf("%s: got %v after %v, want ErrUnavailable at the end of the context", what, err, time.Since(began))
				}
			})
		}
		wg.Wait()
	}
	s.Pause()
	check("paused")
	s.Resume()
	until(t, "works again", func() bool {
		_, err := b.Publish(t.Context(), &broker.Message{Channel: "c", Data: []byte("z")}, broker.PublishOptions{})
		return err == nil
	})
	s.Kill()
	check("killed")
	_ = b.Close()
	if _, err := b.Publish(t.Context(), &broker.Message{Channel: "c"}, broker.PublishOptions{}); !isUnavailable(err) {
		t.Errorf("closed: got %v, want ErrUnavailable", err)
	}
}

// slowSink stalls the reader of the connection until it is let go.
type slowSink struct {
	*recorder
	hold atomic.Pointer[chan struct{}]
}

func (s *slowSink) Deliver(m *broker.Message) {
	if c := s.hold.Load(); c != nil {
		<-*c
	}
	s.recorder.Deliver(m)
}

// TestOutputBufferLimit: a node so slow that Redis cuts its connection hears of it.
func TestOutputBufferLimit(t *testing.T) {
	s := redistest.Start(t, "--client-output-buffer-limit", "pubsub 256kb 128kb 1")
	b := open(t, s, nil)
	sink := &slowSink{recorder: newRecorder(t)}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = b.Run(ctx, sink) })
	defer wg.Wait()
	defer cancel()
	join(t, b, sink.recorder, "c")
	genesis := read(t, b, broker.Range{Channel: "c"}).Head

	let := make(chan struct{})
	sink.hold.Store(&let)
	data := strings.Repeat("x", 16<<10)
	subscribers := func() int64 { return s.Client().PubSubNumSub(t.Context(), "c").Val()["c"] }
	n := 0
	for ; n < 5000 && subscribers() > 0; n++ {
		publish(t, b, "c", data, broker.PublishOptions{Messages: 10_000})
	}
	if subscribers() > 0 {
		t.Fatal("Redis did not cut the connection")
	}
	sink.hold.Store(nil)
	close(let)
	until(t, "joined again", func() bool { return sink.count(sink.lost, "c") == 1 && sink.count(sink.joined, "c") == 2 })
	page := read(t, b, broker.Range{Channel: "c", After: genesis, Limit: 10_000})
	if len(page.Messages) != n {
		t.Errorf("%d messages in the history, want %d", len(page.Messages), n)
	}
	checkChain(t, genesis, page.Messages, page.Head)
}

// TestGarbage: strangers publish nonsense on announcement channels and add entries to streams.
func TestGarbage(t *testing.T) {
	s := redistest.Start(t)
	b, r := run(t, s, nil)
	join(t, b, r, "c")
	publish(t, b, "c", "first", broker.PublishOptions{})
	garbage := []string{"", "x", "1", "1 ", "1 - -", "1 - - 0 0 0 5 x", "2 - - 0 0 0 0 x", "1 - - 0 3 0 0 gap", strings.Repeat("1 ", 1000), "\x00\xff", "1 a-b-c d-e-f 0 0 0 0 x"}
	for _, g := range garbage {
		s.Client().Publish(t.Context(), "sluice:{c}:a", g)
	}
	s.Client().XAdd(t.Context(), addArgs("sluice:{c}:s", "temperature", "21"))
	publish(t, b, "c", "good", broker.PublishOptions{})
	until(t, "the good one", func() bool { return len(r.of("c")) > 1 })
	if got := r.payloads("c"); got != "first good" {
		t.Errorf("delivered %q", got)
	}
	if got := text(read(t, b, broker.Range{Channel: "c", Newest: true, Limit: 9})); got != "first good" {
		t.Errorf("history %q", got)
	}
	if n := b.Stats().DroppedMalformed.Load(); n != int64(len(garbage))+1 {
		t.Errorf("%d dropped, want %d", n, len(garbage)+1)
	}
}
