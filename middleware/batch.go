package middleware

import (
	"time"

	"sluice/broker"
)

// Batch is the stage that has messages wait for others: until the first of them has waited for the
// window, or there are so many of them. It says when a delivery goes out; into how many batches
// it is then cut is broker.Policy.Max.
type Batch struct {
	Window   time.Duration
	Messages int // 0: their number does not matter
}

// Name implements broker.Stage.
func (Batch) Name() string { return "batch" }

// Take implements broker.Stage. It drops nothing.
func (b Batch) Take(now time.Time, p broker.Pending) ([]*broker.Message, broker.Again) {
	full := b.Messages > 0 && len(p.Messages) >= b.Messages
	if at := p.Since.Add(b.Window); !full && !p.Since.IsZero() && now.Before(at) {
		return nil, broker.Again{At: at, Messages: b.Messages}
	}
	return p.Messages, broker.Again{}
}
