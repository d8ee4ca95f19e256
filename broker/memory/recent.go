package memory

import (
	"time"

	"sluice/broker"
)

// recent is the idempotency keys of a channel that were seen within the window.
type recent struct {
	known map[string]broker.Position
	order []seen // oldest first: the window is the same for all, so they also expire in this order
}

type seen struct {
	id      string
	expires time.Duration
}

// idCost is what one ID takes of Config.MaxBytes, besides its length.
const idCost = 128

func (r *recent) find(id string) (p broker.Position, ok bool) {
	if r == nil {
		return p, false
	}
	p, ok = r.known[id]
	return p, ok
}

func (r *recent) add(id string, p broker.Position, expires time.Duration) {
	r.known[id] = p
	r.order = append(r.order, seen{id, expires})
}

// expire forgets what is past the window and returns how many bytes that frees.
func (r *recent) expire(now time.Duration) (freed int64) {
	n := 0
	for ; n < len(r.order) && r.order[n].expires <= now; n++ {
		delete(r.known, r.order[n].id)
		freed += idCost + int64(len(r.order[n].id))
	}
	clear(r.order[:n])
	r.order = r.order[n:]
	return freed
}
