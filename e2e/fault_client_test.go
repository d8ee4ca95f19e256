package e2e

import (
	"fmt"
	"syscall"
	"testing"
	"time"
)

// TestCutMidFrame cuts connections wherever the bytes happen to be. Clients resume from the node's
// memory, or from Redis where that holds next to nothing.
func TestCutMidFrame(t *testing.T) {
	for _, tt := range []struct {
		name  string
		mean  int64         // bytes until a cut
		stall time.Duration // before it
		away  time.Duration // at most, until the client is back
		flags []string
	}{
		{"back at once", 6000, 0, 20 * time.Millisecond, nil},
		{"back later, next to nothing in memory", 12000, 0, 200 * time.Millisecond, []string{"--ring-messages", "16", "--linger", "1ms"}},
		{"stalled before", 20000, 100 * time.Millisecond, 20 * time.Millisecond, []string{"--send-buffer", "4096"}},
		{"stalled before, next to nothing in memory", 20000, 100 * time.Millisecond, 20 * time.Millisecond,
			[]string{"--send-buffer", "4096", "--ring-bytes", "8KiB"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, nil, 2, tt.flags...)
			cut := newCutter(r, tt.mean, tt.stall)
			for i, k := range resumable {
				r.listen(k, "A cut off", cut.at(0)).away = tt.away
				r.listen(k, "either, cut off", cut.alternate(i)).away = tt.away
			}
			r.connect()
			r.publish(pace)
			r.published(3000)
			r.finishWhole(3000)
			if n := cut.cuts.Load(); n < 30 {
				t.Errorf("only %d connections were cut", n)
			}
		})
	}
}

// TestEverythingAtOnce breaks whatever there is, at random.
func TestEverythingAtOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t, []string{"appendonly", "yes", "appendfsync", "always"}, 2, "--drain-time", "200ms", "--ring-messages", "64", "--linger", "100ms")
	cut := newCutter(r, 20000, 50*time.Millisecond)
	for i := range 2 {
		for _, k := range append(resumable, viaAll) {
			r.listen(k, fmt.Sprintf("either, %d", i), cut.alternate(i)).hop = 40
		}
	}
	r.connect()
	r.publish(pace)
	faults := []func(){
		func() { r.redis.do("CLIENT", "KILL", "TYPE", "pubsub") },
		func() { r.redis.do("CLIENT", "KILL", "TYPE", "normal") },
		func() { r.redis.Kill(); r.redis.Restart() },
		func() {
			r.redis.Pause()
			defer r.redis.Resume()
			r.pause(300 * time.Millisecond)
		},
		func() { n := r.nodes[r.rng.IntN(2)]; n.kill(); n.restart() },
		func() {
			n := r.nodes[r.rng.IntN(2)]
			n.signal(syscall.SIGTERM)
			n.wait(15 * time.Second)
			n.restart()
		},
	}
	next := 0
	r.during(1500, 10, 400*time.Millisecond, func() {
		if next%len(faults) == 0 {
			r.rng.Shuffle(len(faults), func(i, j int) { faults[i], faults[j] = faults[j], faults[i] })
		}
		faults[next%len(faults)]()
		next++
	})
	r.published(300)
	r.finishWhole(1800)
}

// TestTransportChanges: one token, every transport, every node.
func TestTransportChanges(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, 2)
	for i, n := range r.nodes {
		r.listen(viaAll, n.name, r.at(i)).hop = 3 + 5*i
	}
	for i := range 2 {
		c := r.listen(viaAll, fmt.Sprintf("either %d", i), func(attempt int) string { return r.nodes[(attempt/2+i)%2].url() })
		c.hop = 5 + 8*i
	}
	r.connect()
	r.publish(2 * pace)
	r.published(2500)
	r.finishWhole(2500)
	for _, c := range r.clients {
		if c.connected < 20 {
			t.Errorf("%s has had only %d connections", c.name, c.connected)
		}
	}
}
