package transport

import (
	"context"
	"io"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"sync/atomic"
	"time"
)

// memoryGuard keeps the process below Config.MemoryLimit: it says when there is no room for new work, and makes some. The garbage
// collector alone can't: what is refused nowhere lives.
//
// The node is full when it takes 85 % of its budget, or needs 70 % of it: what lives after a collection, and what is no heap. The
// rest is for what is under way by then. It is taken for full until both are well below. In between the collector has some room to work in; see
// GoMemory. All methods may be called concurrently, and on nil, which is never full.
type memoryGuard struct {
	budget int64 // bytes
	made   time.Time
	full   atomic.Bool
	at     atomic.Int64 // when it was last looked at, in ms since made
	spent  atomic.Int64 // bytes that were let in since
	held   atomic.Int64 // bytes of bodies and unfinished WebSocket messages

	mu      sync.Mutex // guards what follows
	samples []metrics.Sample
}

const (
	ownMemory     = 32 << 20 // the program itself, which the runtime does not count: code, and what the kernel maps
	memoryPeriod  = 100 * time.Millisecond
	small         = 4 << 10
	newConnection = 16 << 10 // about what a request costs, while it is one
)

// GoMemory returns what a process whose memory is to stay below limit sets its collector's limit to
// (runtime/debug.SetMemoryLimit), in bytes.
func GoMemory(limit int) int64 { return budgetOf(limit) * 4 / 5 }

// LeastMemory returns the smallest Config.MemoryLimit that messages of so many bytes can be published with.
func LeastMemory(maxMessage int) int { return 2*ownMemory + 16*2*maxMessage }

func budgetOf(limit int) int64 { return int64(limit) - ownMemory }

// newMemory returns nil for a limit of 0.
func newMemory(limit int) *memoryGuard {
	if limit == 0 {
		return nil
	}
	m := &memoryGuard{budget: budgetOf(limit), made: time.Now()}
	for _, name := range []string{"/memory/classes/total:bytes", "/memory/classes/heap/released:bytes", "/memory/classes/heap/objects:bytes",
		"/memory/classes/heap/unused:bytes", "/memory/classes/heap/free:bytes", "/gc/heap/live:bytes"} {
		m.samples = append(m.samples, metrics.Sample{Name: name})
	}
	m.look()
	return m
}

// isFull reports whether there is no room for new work; cost is about what that will take.
func (m *memoryGuard) isFull(cost int64) bool {
	if m == nil {
		return false
	}
	if m.spent.Add(cost) > m.budget/64 || time.Since(m.made).Milliseconds()-m.at.Load() >= memoryPeriod.Milliseconds() {
		m.look()
	}
	return m.full.Load()
}

// look finds out how full it is, unless someone else is about to.
func (m *memoryGuard) look() {
	if !m.mu.TryLock() {
		return
	}
	defer m.mu.Unlock()
	m.at.Store(time.Since(m.made).Milliseconds())
	m.spent.Store(0)
	metrics.Read(m.samples)
	total, released, objects, unused, free, live := m.value(0), m.value(1), m.value(2), m.value(3), m.value(4), m.value(5)
	takes := total - released
	m.judge(takes, live+takes-objects-unused-free)
}

func (m *memoryGuard) value(i int) int64 { return int64(m.samples[i].Value.Uint64()) }

// judge decides by what the process takes, and by what it needs.
func (m *memoryGuard) judge(takes, needs int64) {
	switch {
	case takes > m.budget/20*17, needs > m.budget/10*7:
		m.full.Store(true)
	case takes < m.budget/100*82 && needs < m.budget/100*62:
		m.full.Store(false)
	}
}

// run looks again and again until ctx ends, since what comes from the backend asks nobody. While it is full it has room made by
// trim, and by a collection, for which it spends a twentieth of its time at most.
func (m *memoryGuard) run(ctx context.Context, trim func()) {
	tick := time.NewTicker(memoryPeriod)
	defer tick.Stop()
	var again time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		m.look()
		if !m.full.Load() {
			continue
		}
		trim()
		if now := time.Now(); now.After(again) {
			debug.FreeOSMemory()
			took := time.Since(now)
			again = now.Add(max(time.Second/2, 20*took))
			m.look()
		}
	}
}

// hold counts n bytes in that a client has sent and that are under way, part of so many. It refuses them while the node is full, or
// if all that is under way is more than a sixteenth of the budget: it is copied a few times before it is done. Small things have half as much
// besides, so that large ones are not in their way.
func (m *memoryGuard) hold(n, of int) bool {
	if m == nil {
		return true
	}
	if m.isFull(2 * int64(n)) {
		return false
	}
	most := m.budget / 16
	if of <= small {
		most += most / 2
	}
	if m.held.Add(int64(n)) > most {
		m.held.Add(-int64(n))
		return false
	}
	return true
}

// free counts out what hold has counted in.
func (m *memoryGuard) free(n int) {
	if m != nil {
		m.held.Add(-int64(n))
	}
}

// heldBody is the body of a request, whose bytes are held as they come.
type heldBody struct {
	io.ReadCloser
	limits *limits
	memory *memoryGuard
	held   int
}

func (b *heldBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n > 0 {
		if !b.memory.hold(n, b.held+n) {
			return 0, b.limits.full(limitNodeMemory, "bytes of memory")
		}
		b.held += n
	}
	return n, err
}

// pinned is what a session's unfinished message holds. Its reader moves it and its writer ends it, at any time.
type pinned struct{ n atomic.Int32 }

const pinnedEnded = -1

// move holds what was not held yet of n bytes, or gives back what is not needed any more. It returns false if there is no room.
func (p *pinned) move(m *memoryGuard, n int) bool {
	for {
		was := p.n.Load()
		if was == pinnedEnded || int(was) == n {
			return true
		}
		if more := n - int(was); more > 0 && !m.hold(more, n) {
			return false
		}
		if p.n.CompareAndSwap(was, int32(n)) {
			if less := int(was) - n; less > 0 {
				m.free(less)
			}
			return true
		}
		if more := n - int(was); more > 0 {
			m.free(more)
		}
	}
}

// end returns what is to be given back; nothing is held afterwards.
func (p *pinned) end() int { return max(0, int(p.n.Swap(pinnedEnded))) }
