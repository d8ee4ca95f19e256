package auth

import (
	"crypto/sha256"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// Bounds of what is kept. A stranger can make each of his questions a new one.
const (
	maxKept      = 10_000
	maxKeptBytes = 32 << 20
	keepRefusals = time.Second // blunts a storm of the same question; whoever was let in after all does not notice
	keptOverhead = 512         // bytes of an answer besides its text, about
)

// questionKey is the SHA-256 of a question.
type questionKey [sha256.Size]byte

// memory has the answers of a webhook, those that were used last, and the questions that are being asked. Its owner has a lock.
type memory struct {
	cache, stale time.Duration
	flights      map[questionKey]*flight
	answers      *simplelru.LRU[questionKey, kept]
	bytes        int
}

// kept is an answer and until when it is used.
type kept struct {
	*answer
	fresh time.Time
	old   time.Time // when the webhook is away
}

// flight is a question that is being asked. answer and stale are written before done is closed, and read after.
type flight struct {
	done   chan struct{}
	answer *answer // nil: there is none
	stale  bool
}

func newMemory(cache, stale time.Duration) *memory {
	m := &memory{cache: cache, stale: stale, flights: map[questionKey]*flight{}}
	answers, err := simplelru.NewLRU(maxKept, func(_ questionKey, k kept) { m.bytes -= k.size + keptOverhead })
	if err != nil {
		panic(err) // only for a size of 0
	}
	m.answers = answers
	return m
}

// fresh returns an answer that is as good as a new one, or nil.
func (m *memory) fresh(k questionKey, now time.Time) *answer {
	if x, known := m.answers.Get(k); known && now.Before(x.fresh) {
		return x.answer
	}
	return nil
}

// old returns the answer to use while the webhook is away, or nil. Refusals are not among them: they would not be, either, if they were newer.
func (m *memory) old(k questionKey, now time.Time) *answer {
	if x, known := m.answers.Get(k); known && now.Before(x.old) {
		return x.answer
	}
	return nil
}

// keep keeps an answer, as long as it holds. A refusal replaces what was allowed.
func (m *memory) keep(k questionKey, a *answer) {
	m.answers.Remove(k)
	x := kept{answer: a, fresh: sooner(a.asked.Add(m.cache), a.expires), old: sooner(a.asked.Add(m.stale), a.expires)}
	if a.refusal != nil {
		x.fresh, x.old = a.asked.Add(keepRefusals), time.Time{}
	}
	if now := time.Now(); !now.Before(x.fresh) && !now.Before(x.old) {
		return
	}
	m.answers.Add(k, x)
	for m.bytes += a.size + keptOverhead; m.bytes > maxKeptBytes; {
		m.answers.RemoveOldest()
	}
}
