package transport

import (
	"time"

	"sluice/middleware"
)

// toll is what something costs at one limiter.
type toll struct {
	kind limitKind
	from *middleware.Limiter // nil: no limit
	key  middleware.Key
	n    int
	own  float64 // the rate of a grant, where from has none of its own
}

// leastByteBurst is the least that a bucket of bytes holds: of what is larger each of these is a step.
const leastByteBurst = 64 << 10

// allOf is the key of a limiter that counts everybody as one.
const allOf middleware.Key = 0

func (t *toll) take(now time.Time) time.Duration {
	if t.kind == limitGranted {
		return t.from.TakeAt(t.key, t.own, t.n, now)
	}
	return t.from.Take(t.key, t.n, now)
}

// pay takes all of the tolls, or none and says which is in the way, and for how long.
func pay(now time.Time, tolls []toll) (limitKind, time.Duration) {
	for i := range tolls {
		if wait := tolls[i].take(now); wait > 0 {
			for _, t := range tolls[:i] {
				if t.kind != limitGranted || t.own > 0 {
					t.from.Return(t.key, t.n)
				}
			}
			return tolls[i].kind, wait
		}
	}
	return 0, 0
}
