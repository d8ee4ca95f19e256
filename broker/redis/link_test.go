package redis

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"sluice/broker"
	"sluice/broker/redistest"
)

func addArgs(stream string, values ...any) *goredis.XAddArgs {
	return &goredis.XAddArgs{Stream: stream, Values: values}
}

func TestLostAndJoinedAgain(t *testing.T) {
	s := redistest.Start(t)
	b, r := run(t, s, func(c *Config) { c.VerifyInterval = 20 * time.Millisecond })
	join(t, b, r, "a", "b")
	for i := 1; i <= 5; i++ {
		s.Client().ClientKillByFilter(t.Context(), "TYPE", "pubsub")
		for _, c := range []string{"a", "b"} {
			until(t, "joined again", func() bool { return r.count(r.joined, c) == i+1 })
			if n := r.count(r.lost, c); n != i {
				t.Errorf("%s was lost %d times, want %d", c, n, i)
			}
		}
		s.Client().Publish(t.Context(), "a", fmt.Sprint(i))
	}
	until(t, "all that was published while joined", func() bool { return r.payloads("a") == "1 2 3 4 5" })
	until(t, "verified", func() bool { r.mu.Lock(); defer r.mu.Unlock(); return r.verified > 2 })
	if n := b.Stats().Reconnects.Load(); n != 5 {
		t.Errorf("%d reconnects, want 5", n)
	}
}

func TestJoinAndLeave(t *testing.T) {
	s := redistest.Start(t)
	b, r := run(t, s, func(c *Config) { c.LeaveDelay = 30 * time.Millisecond })
	subscribed := func(channel string) bool {
		n := s.Client().PubSubNumSub(t.Context(), channel, "sluice:{"+channel+"}:a").Val()
		return n[channel] == 1 && n["sluice:{"+channel+"}:a"] == 1
	}
	join(t, b, r, "a", "b")
	if !subscribed("a") || !subscribed("b") {
		t.Error("joined, but Redis knows nothing of it")
	}
	b.Leave("a", "never joined")
	until(t, "unsubscribed", func() bool { return !subscribed("a") })
	until(t, "forgotten", func() bool { _, n := b.links[0].seats.look("a"); return n == 1 })
	b.Join("a")
	until(t, "joined again", func() bool { return r.count(r.joined, "a") == 2 })
	b.Join("a")
	until(t, "told again", func() bool { return r.count(r.joined, "a") == 3 })
	if !subscribed("a") || r.count(r.lost, "a") != 0 {
		t.Error("a is not subscribed, or was reported as lost though nothing happened to it")
	}
}

// TestFlapping: a channel that is left and joined again all the time stays subscribed.
func TestFlapping(t *testing.T) {
	s := redistest.Start(t)
	b, r := run(t, s, nil)
	join(t, b, r, "a")
	for range 1000 {
		b.Leave("a")
		b.Join("a")
	}
	publish(t, b, "a", "x", broker.PublishOptions{})
	until(t, "delivered", func() bool { return r.payloads("a") == "x" })
	stats := s.Client().Info(t.Context(), "commandstats").Val()
	if n := calls(stats, "unsubscribe"); n != 0 {
		t.Errorf("%d UNSUBSCRIBEs reached Redis, want none", n)
	}
	t.Logf("%d SUBSCRIBEs for 1001 joins", calls(stats, "subscribe"))
	for range 100 { // ends left, whatever was under way
		b.Join("a")
		b.Leave("a")
	}
	until(t, "gone", func() bool { _, n := b.links[0].seats.look("a"); return n == 0 })
	if n := s.Client().PubSubNumSub(t.Context(), "a").Val()["a"]; n != 0 {
		t.Errorf("%d subscribers are left", n)
	}
}

// calls finds how often a command was called in INFO commandstats.
func calls(stats, command string) (n int) {
	marker := "cmdstat_" + command + ":calls="
	for i := 0; i+len(marker) < len(stats); i++ {
		if stats[i:i+len(marker)] == marker {
			_, _ = fmt.Sscanf(stats[i+len(marker):], "%d", &n)
		}
	}
	return n
}

func TestManyChannels(t *testing.T) {
	s := redistest.Start(t)
	b, r := run(t, s, func(c *Config) { c.ChannelsPerConn = 8000 })
	const n = 20_000
	names := make([]string, n)
	for i := range names {
		names[i] = "room:" + numbered(i)
	}
	allJoined := func(times int) func() bool {
		return func() bool {
			r.mu.Lock()
			defer r.mu.Unlock()
			for _, c := range names {
				if r.joined[c] < times {
					return false
				}
			}
			return true
		}
	}
	began := time.Now()
	b.Join(names...)
	if d := time.Since(began); d > time.Second {
		t.Errorf("Join took %v", d)
	}
	until(t, "all joined", allJoined(1))
	t.Logf("%d channels joined in %v", n, time.Since(began))
	if c := b.Stats().Connections.Load(); c != 3 {
		t.Errorf("%d connections, want 3 for 8000 channels each", c)
	}
	began = time.Now()
	if killed := s.Client().ClientKillByFilter(t.Context(), "TYPE", "pubsub").Val(); killed != 3 {
		t.Errorf("%d connections killed, want 3", killed)
	}
	until(t, "all joined again", allJoined(2))
	t.Logf("all joined again after %v", time.Since(began))
	for _, c := range []string{names[0], names[n/2], names[n-1]} {
		publish(t, b, c, "x", broker.PublishOptions{})
		until(t, "delivered", func() bool { return r.payloads(c) == "x" })
	}
	began = time.Now()
	ranges := make([]broker.Range, n)
	for i := range ranges {
		ranges[i].Channel = names[i]
	}
	for _, what := range []string{"new", "known"} {
		if _, err := b.Read(t.Context(), ranges); err != nil {
			t.Fatal(err)
		}
		t.Logf("%d %s heads read in %v", n, what, time.Since(began))
		began = time.Now()
	}
}

// proxy passes TCP on to a server that can be exchanged, and can swallow everything.
type proxy struct {
	net.Listener
	target atomic.Pointer[string]
	dead   atomic.Pointer[chan struct{}] // connections made before it was set wait for it

	mu    sync.Mutex
	conns []net.Conn
	wg    sync.WaitGroup
}

func startProxy(t *testing.T, target string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{Listener: l}
	p.target.Store(&target)
	p.wg.Go(p.serve)
	t.Cleanup(func() {
		_ = l.Close()
		p.mu.Lock()
		for _, c := range p.conns {
			_ = c.Close()
		}
		p.mu.Unlock()
		p.wg.Wait()
	})
	return p
}

func (p *proxy) serve() {
	for {
		in, err := p.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", *p.target.Load())
		if err != nil {
			_ = in.Close()
			continue
		}
		p.mu.Lock()
		p.conns = append(p.conns, in, out)
		p.mu.Unlock()
		born := p.dead.Load()
		p.wg.Go(func() { p.pass(out, in, born) })
		p.wg.Go(func() { p.pass(in, out, born) })
	}
}

// pass copies until it fails. Once the proxy is dead the connections of before stay open and silent.
func (p *proxy) pass(to, from net.Conn, born *chan struct{}) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if p.dead.Load() == born && n > 0 {
			_, err = to.Write(buf[:n])
		}
		if err != nil {
			_ = to.Close()
			_ = from.Close()
			return
		}
	}
}

// TestBlackHole: the connection stays up and nothing comes through any more, not even a pong.
func TestBlackHole(t *testing.T) {
	s := redistest.Start(t)
	p := startProxy(t, s.Addr())
	b, r := run(t, s, func(c *Config) {
		c.URL = "redis://" + p.Addr().String()
		c.PingInterval, c.LinkTimeout, c.CommandTimeout = 50*time.Millisecond, 300*time.Millisecond, 300*time.Millisecond
	})
	join(t, b, r, "c")
	dead := make(chan struct{})
	p.dead.Store(&dead)
	began := time.Now()
	until(t, "joined again", func() bool { return r.count(r.joined, "c") == 2 })
	if d := time.Since(began); d > 5*time.Second {
		t.Errorf("it took %v with a timeout of 300ms", d)
	}
	if r.count(r.lost, "c") != 1 {
		t.Errorf("lost %d times, want 1", r.count(r.lost, "c"))
	}
}

// TestDemotedMaster: the Pub/Sub connection is healthy, with a server that nobody publishes to any more.
func TestDemotedMaster(t *testing.T) {
	old, now := redistest.Start(t), redistest.Start(t)
	p := startProxy(t, old.Addr())
	b, r := run(t, old, func(c *Config) {
		c.URL = "redis://" + p.Addr().String()
		c.LoopbackInterval = 200 * time.Millisecond
	})
	join(t, b, r, "c")
	addr := now.Addr()
	p.target.Store(&addr)
	old.Client().ClientKillByFilter(t.Context(), "TYPE", "normal", "SKIPME", "yes")
	until(t, "moved", func() bool { return now.Client().PubSubNumSub(t.Context(), "c").Val()["c"] == 1 })
	until(t, "joined again", func() bool { return r.count(r.joined, "c") == 2 })
	publish(t, b, "c", "x", broker.PublishOptions{})
	until(t, "delivered", func() bool { return r.payloads("c") == "x" })
}

// TestQuietLinkStays: the same check must not end a healthy connection, nor one whose command path is away.
func TestQuietLinkStays(t *testing.T) {
	s := redistest.Start(t)
	b, r := run(t, s, func(c *Config) { c.LoopbackInterval = 20 * time.Millisecond })
	join(t, b, r, "c")
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	for sleep(ctx, 50*time.Millisecond) {
		if r.count(r.lost, "c") != 0 {
			t.Fatal("a healthy connection was given up")
		}
	}
}

// TestRunEndsWhilePaused: a node can stop though Redis does not answer.
func TestRunEndsWhilePaused(t *testing.T) {
	s := redistest.Start(t)
	b := open(t, s, func(c *Config) { c.VerifyInterval, c.LoopbackInterval = 20*time.Millisecond, 20*time.Millisecond })
	r := newRecorder(t)
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- b.Run(ctx, r) }()
	join(t, b, r, "c")
	s.Pause()
	for i := range 1000 {
		b.Join(numbered(i))
	}
	sleep(t.Context(), 100*time.Millisecond) // everything is waiting for an answer by now, or soon
	cancel()
	select {
	case err := <-ran:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(2 * DefaultConfig().CommandTimeout):
		t.Error("Run did not return")
		<-ran
	}
}
