package middleware

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestLimiter(t *testing.T) {
	const s, ms = time.Second, time.Millisecond
	type take struct {
		at   time.Duration
		n    int
		wait time.Duration
	}
	for _, row := range []struct {
		name  string
		rate  float64
		burst int
		takes []take
		why   string
	}{
		{"burst", 10, 3, []take{{0, 1, 0}, {0, 1, 0}, {0, 1, 0}, {0, 1, 100 * ms}}, "a bucket is full at first"},
		{"refill", 10, 1, []take{{0, 1, 0}, {60 * ms, 1, 40 * ms}, {100 * ms, 1, 0}, {100 * ms, 1, 100 * ms}}, "one token in 100 ms"},
		{"refusals are free", 10, 1, []take{{0, 1, 0}, {0, 1, 100 * ms}, {0, 1, 100 * ms}, {50 * ms, 1, 50 * ms}}, "asking costs nothing"},
		{"no more than burst", 10, 2, []take{{0, 2, 0}, {100 * s, 2, 0}, {100 * s, 1, 100 * ms}}, "what is over runs off"},
		{"several", 10, 5, []take{{0, 3, 0}, {0, 3, 100 * ms}, {0, 2, 0}, {0, 4, 400 * ms}}, "all or nothing"},
		{"fraction", 0.5, 1, []take{{0, 1, 0}, {0, 1, 2 * s}, {2 * s, 1, 0}}, "one in two seconds"},
		{"on credit", 10, 5, []take{{0, 20, 0}, {0, 1, 1600 * ms}, {1600 * ms, 1, 0}, {1600 * ms, 20, 500 * ms}, {2100 * ms, 20, 0}}, "more than a bucket holds needs a full one, and is paid for"},
		{"nothing", 10, 1, []take{{0, 1, 0}, {0, 0, 0}, {0, 1, 100 * ms}}, "nothing costs nothing"},
		{"off", 0, 1, []take{{0, 1000, 0}, {0, 1000, 0}}, "0 is no limit"},
		{"slowest", 1e-9, 1, []take{{0, 1, 0}, {0, 1, 1000 * s}, {1000 * s, 1, 0}}, "the least is one in 1000 s"},
		{"no burst", 10, -5, []take{{0, 1, 0}, {0, 1, 100 * ms}}, "the least is one"},
		{"extremes", minRate, 1 << 40, []take{{0, 1 << 29, 0}, {0, 1 << 29, 0}, {0, 1, 1000 * s}, {1000 * s, 1, 0}}, "a burst of 2³⁰ is the most"},
		{"bytes", 1 << 20, 4 << 20, []take{{0, 3 << 20, 0}, {0, 2 << 20, s}, {s, 2 << 20, 0}, {s, 1 << 20, s}}, "tokens may be bytes"},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l, began := NewLimiter(row.rate, row.burst), time.Now()
				for i, x := range row.takes {
					time.Sleep(time.Until(began.Add(x.at)))
					if got := l.Take(1, x.n, time.Now()); got.Round(time.Microsecond) != x.wait {
						t.Fatalf("take %d, %d at %v: got %v, want %v: %s", i, x.n, x.at, got, x.wait, row.why)
					}
				}
			})
		})
	}
}

// Whoever waits as long as told is not refused again, and whoever waits less is.
func TestLimiterWaitIsHonest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(1, 2))
		for range 2000 {
			rate, burst := rng.Float64()*100+0.01, rng.IntN(20)+1
			l := NewLimiter(rate, burst)
			for range 20 {
				n := rng.IntN(30) + 1
				wait := l.Take(7, n, time.Now())
				if wait == 0 {
					continue
				}
				time.Sleep(wait - time.Microsecond)
				if l.Take(7, n, time.Now()) == 0 && wait > time.Microsecond {
					t.Fatalf("rate %v, burst %d: %d were there before the %v were over", rate, burst, n, wait)
				}
				time.Sleep(2 * time.Microsecond)
				if again := l.Take(7, n, time.Now()); again != 0 {
					t.Fatalf("rate %v, burst %d: after the %v for %d it is another %v", rate, burst, wait, n, again)
				}
			}
		}
	})
}

func TestLimiterReturn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, now := NewLimiter(1, 2), time.Now()
		l.Take(1, 2, now)
		l.Return(1, 1)
		if l.Take(1, 1, now) != 0 || l.Take(1, 1, now) == 0 {
			t.Error("one token came back, and only one")
		}
		l.Return(1, 100)
		if l.Take(1, 2, now) != 0 || l.Take(1, 1, now) == 0 {
			t.Error("a bucket holds its burst, whatever comes back")
		}
		l.Return(2, 1)
		if l.Take(2, 2, now) != 0 || l.Take(2, 1, now) == 0 {
			t.Error("what an unknown client gives back is not kept")
		}
		var off *Limiter
		off.Return(1, 1)
	})
}

// Clients do not share anything, and however many there are, memory has an end.
func TestLimiterManyClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, now := NewLimiter(1, 5), time.Now()
		for k := range 4 * maxClients {
			if wait := l.Take(spread(k), 5, now); wait != 0 {
				t.Fatalf("client %d waits %v for its first tokens", k, wait)
			}
		}
		if n := l.clients.Len(); n != maxClients {
			t.Errorf("%d clients are known, want %d", n, maxClients)
		}
		for k := 4*maxClients - 1000; k < 4*maxClients; k++ {
			if l.Take(spread(k), 1, now) == 0 {
				t.Fatalf("client %d was over its limit and has been forgotten", k)
			}
		}
	})
}

// spread makes keys as a hash would (splitmix64).
func spread(i int) Key {
	x := uint64(i+1) * 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return Key(x ^ x>>31)
}

func TestLimiterConcurrently(t *testing.T) {
	l := NewLimiter(minRate, 1000)
	var taken atomic.Int64
	var wg sync.WaitGroup
	now := time.Now()
	for range 8 {
		wg.Go(func() {
			for range 1000 {
				if l.Take(3, 1, now) == 0 {
					taken.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if taken.Load() != 1000 {
		t.Errorf("%d tokens were taken out of 1000", taken.Load())
	}
}

func BenchmarkLimiter(b *testing.B) {
	for _, clients := range []int{1, 10_000, 1_000_000} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			l := NewLimiter(10, 100)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					l.Take(spread(rand.IntN(clients)), 1, time.Now())
				}
			})
		})
	}
}

// TakeAt follows the rate that a client brings.
func TestLimiterOfRates(t *testing.T) {
	const s, ms = time.Second, time.Millisecond
	for _, row := range []struct {
		name  string
		takes takesAt
		why   string
	}{
		{"a second's worth", takesAt{{0, 5, 5, 0}, {0, 5, 1, 200 * ms}, {200 * ms, 5, 1, 0}}, "the burst is what comes in a second"},
		{"no rate", takesAt{{0, 0, 1000, 0}, {0, -1, 1000, 0}}, "who brings none is not limited"},
		{"fraction", takesAt{{0, 0.5, 1, 0}, {0, 0.5, 1, 2 * s}}, "one token at least fits"},
		{"a lower one", takesAt{{0, 10, 1, 0}, {0, 2, 2, 0}, {0, 2, 1, 500 * ms}}, "what is over the new burst is gone"},
		{"a higher one", takesAt{{0, 1, 1, 0}, {0, 10, 1, 100 * ms}, {100 * ms, 10, 1, 0}}, "it fills faster from now on, and is not filled up"},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l, began := NewRates(), time.Now()
				for i, x := range row.takes {
					time.Sleep(time.Until(began.Add(x.at)))
					if got := l.TakeAt(1, x.rate, x.n, time.Now()); got.Round(time.Microsecond) != x.wait {
						t.Fatalf("take %d: got %v, want %v: %s", i, got, x.wait, row.why)
					}
				}
			})
		})
	}
	var none *Limiter
	if got := none.TakeAt(1, 1, 100, time.Now()); got != 0 {
		t.Errorf("nil: got %v", got)
	}
}

type takesAt = []struct {
	at   time.Duration
	rate float64
	n    int
	wait time.Duration
}
