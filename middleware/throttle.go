package middleware

import (
	"time"

	"sluice/broker"
)

// Throttle is the stage that lets at most one delivery through in each interval: the first after quiet
// at once, then all that has come, one interval after the last. So the last state always arrives, and never
// later than one interval.
type Throttle struct {
	Interval time.Duration
}

// Name implements broker.Stage.
func (Throttle) Name() string { return "throttle" }

// Take implements broker.Stage. It drops nothing.
func (t Throttle) Take(now time.Time, p broker.Pending) ([]*broker.Message, broker.Again) {
	if at := p.Last.Add(t.Interval); !p.Last.IsZero() && now.Before(at) {
		return nil, broker.Again{At: at}
	}
	return p.Messages, broker.Again{}
}
