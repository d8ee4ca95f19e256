package middleware_test

import (
	"fmt"
	"time"

	"sluice/broker"
	"sluice/middleware"
)

// Sample is the stage of docs/stages.md: it lets through one message in so many.
type Sample struct{ Every uint64 }

// Name implements broker.Stage.
func (Sample) Name() string { return "sample" }

// Take implements broker.Stage. It holds nothing back. Which messages it takes depends on their
// positions alone, so every node and every resume takes the same.
func (s Sample) Take(_ time.Time, p broker.Pending) ([]*broker.Message, broker.Again) {
	var ready []*broker.Message
	for _, m := range p.Messages {
		if m.Position.Seq%s.Every == 0 {
			ready = append(ready, m)
		}
	}
	return ready, broker.Again{}
}

func Example() {
	stages := []broker.Stage{Sample{Every: 2}, middleware.Throttle{Interval: time.Second}}
	pending := broker.Pending{}
	for i := range uint64(5) {
		pending.Messages = append(pending.Messages, &broker.Message{Position: broker.Position{Seq: i}})
	}
	for _, s := range stages {
		var again broker.Again
		pending.Messages, again = s.Take(time.Now(), pending)
		fmt.Println(s.Name(), len(pending.Messages), again.IsZero())
	}
	// Output:
	// sample 3 true
	// throttle 3 true
}
