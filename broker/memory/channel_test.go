package memory

import (
	"math/rand/v2"
	"testing"
	"time"

	"sluice/broker"
)

// Positions rise whatever the clock does. Only here is the clock replaced: no test can set back the
// one of the machine.
func TestClockGoesBack(t *testing.T) {
	b := New(Config{Remember: time.Second})
	wall := time.UnixMilli(1_000_000)
	b.now = func() time.Time { return wall }
	b.start = wall
	head := func(name string) broker.Position {
		pages, err := b.Read(t.Context(), []broker.Range{{Channel: name}})
		if err != nil {
			t.Fatal(err)
		}
		return pages[0].Head
	}
	last := head("a")
	for i, step := range []time.Duration{0, 0, time.Millisecond, -time.Minute, 0, 59 * time.Second, time.Hour, -2 * time.Hour} {
		wall = wall.Add(step)
		r, err := b.Publish(t.Context(), &broker.Message{Channel: "a"}, broker.PublishOptions{Messages: 1, Age: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		if !last.Before(r.Position) {
			t.Fatalf("publish %d: %s is not after %s", i, r.Position, last)
		}
		last = r.Position
	}
	// Forgotten, and made again by a clock that is still behind.
	wall = wall.Add(time.Hour)
	r := runner{backend: b}
	b.full.Store(true)
	r.sweep()
	if n := b.channels.Load(); n != 0 {
		t.Fatalf("%d channels after the sweep, want 0", n)
	}
	if n := b.bytes.Load(); n != 0 {
		t.Errorf("%d bytes are still counted, want 0", n)
	}
	wall = wall.Add(-30 * time.Minute)
	if h := head("a"); !last.Before(h) {
		t.Errorf("the new genesis %s is not after the old head %s", h, last)
	}
}

// The ring must agree with a plain slice under any order of calls.
func TestHistory(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	var h history
	var want []*broker.Message
	for i := range 20_000 {
		if rnd.IntN(3) > 0 {
			m := &broker.Message{Position: broker.Position{MS: uint64(2*i + 2)}}
			h.push(m)
			want = append(want, m)
		} else {
			n := min(rnd.IntN(4), len(want))
			if rnd.IntN(200) == 0 {
				n = len(want)
			}
			h.drop(n)
			want = want[n:]
		}
		if h.n != len(want) || h.size(h.n) != int64(256*len(want)) {
			t.Fatalf("step %d: %d messages of %d bytes, want %d", i, h.n, h.size(h.n), len(want))
		}
		if len(want) == 0 {
			continue
		}
		k := rnd.IntN(len(want))
		if h.at(k) != want[k] || h.find(want[k].Position) != k || h.find(broker.Position{MS: want[k].Position.MS + 1}) != k+1 {
			t.Fatalf("step %d: message %d of %d is not where it should be", i, k, len(want))
		}
		if got := h.slice(k, len(want)); len(got) != len(want)-k || got[0] != want[k] || got[len(got)-1] != want[len(want)-1] {
			t.Fatalf("step %d: slice from %d differs", i, k)
		}
	}
}
