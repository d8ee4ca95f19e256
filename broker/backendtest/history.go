package backendtest

import (
	"time"

	"sluice/broker"
)

var history = []contract{
	{
		name: "messages",
		why:  "Messages is exact: a resume within it succeeds, and what is beyond it does not pile up",
		run: func(e *env) {
			c := e.channel()
			ps := e.publishN(c, 25, broker.PublishOptions{Messages: 10})
			got := e.all(c)
			e.checkPositions(got.Messages, ps[15:])
			e.checkChain(got.Messages, ps[14])
			fewer := e.publish(c, "fewer", broker.PublishOptions{Messages: 3})
			e.checkPositions(e.all(c).Messages, []broker.Position{ps[23], ps[24], fewer})
			one := e.publish(c, "one", broker.PublishOptions{Messages: 1})
			e.checkPositions(e.all(c).Messages, []broker.Position{one})
			more := e.publish(c, "more", broker.PublishOptions{Messages: 5})
			e.checkPositions(e.all(c).Messages, []broker.Position{one, more})
		},
	},
	{
		name: "default messages",
		why:  "who says nothing gets DefaultHistoryMessages, not everything and not nothing",
		run: func(e *env) {
			c := e.channel()
			ps := e.publishN(c, broker.DefaultHistoryMessages+5, broker.PublishOptions{})
			e.checkPositions(e.all(c).Messages, ps[5:])
		},
	},
	{
		name: "age",
		why: "a history ends when its Age has passed since the newest message; the head stays, " +
			"so that who has seen the newest has missed nothing, and everyone else is told of a gap",
		run: func(e *env) {
			c := e.channel()
			const age = 300 * time.Millisecond
			begun := time.Now()
			ps := e.publishN(c, 3, broker.PublishOptions{Age: age})
			got := e.all(c)
			if time.Since(begun) < age {
				e.checkPositions(got.Messages, ps)
			}
			tick := time.NewTicker(10 * time.Millisecond)
			defer tick.Stop()
			for end := time.Now().Add(patience); len(e.all(c).Messages) > 0; <-tick.C {
				if time.Now().After(end) {
					e.Fatalf("the history of age %v is still there after %v", age, patience)
				}
			}
			if d := time.Since(begun); d < age {
				e.Errorf("the history was gone after %v, want at least %v", d, age)
			}
			if h := e.head(c); h != ps[2] {
				e.Errorf("the head became %s, want %s", h, ps[2])
			}
			if p := e.read(broker.Range{Channel: c, After: ps[2], Limit: 10}); len(p.Messages) > 0 || p.Head != ps[2] {
				e.Errorf("after the last message there is %q with head %s, want nothing and %s", data(p.Messages), p.Head, ps[2])
			}
			next := e.publish(c, "next", broker.PublishOptions{})
			got = e.all(c)
			e.checkPositions(got.Messages, []broker.Position{next})
			e.checkChain(got.Messages, ps[2])
		},
	},
}
