package backendtest

import (
	"fmt"
	"sync"

	"sluice/broker"
)

var idempotency = []contract{
	{
		name: "duplicate",
		why:  "a publisher that got no answer publishes again with the same ID; subscribers must see it once",
		run: func(e *env) {
			c := e.channel()
			e.join(c)
			genesis := e.head(c)
			o := broker.PublishOptions{ID: "order 42: ü"}
			first := e.publishMessage(&broker.Message{Channel: c, Data: []byte("a")}, o)
			between := e.publish(c, "b", broker.PublishOptions{ID: "other"})
			for _, d := range []string{"a", "not a"} {
				again := e.publishMessage(&broker.Message{Channel: c, Data: []byte(d)}, o)
				if !again.Duplicate || again.Position != first.Position {
					e.Errorf("the second publish of %q got %+v, want a duplicate of %s", d, again, first.Position)
				}
			}
			if first.Duplicate {
				e.Error("the first publish is called a duplicate")
			}
			last := e.publish(c, "c", broker.PublishOptions{})
			got := e.delivered(c, 3)
			e.checkPositions(got, []broker.Position{first.Position, between, last})
			e.checkChain(got, genesis)
			e.checkData(e.all(c).Messages, "a", "b", "c")
		},
	},
	{
		name: "one ID, two channels",
		why:  "IDs are per channel: one order may be told on several",
		run: func(e *env) {
			o := broker.PublishOptions{ID: "1"}
			for range 2 {
				if r := e.publishMessage(&broker.Message{Channel: e.channel(), Data: []byte("a")}, o); r.Duplicate {
					e.Error("another channel's ID made it a duplicate")
				}
			}
		},
	},
	{
		name: "no ID",
		why:  "without an ID the same payload twice is two messages",
		run: func(e *env) {
			c := e.channel()
			e.publish(c, "a", broker.PublishOptions{})
			e.publish(c, "a", broker.PublishOptions{})
			e.checkData(e.all(c).Messages, "a", "a")
		},
	},
	{
		name: "duplicate beyond the history",
		why:  "an ID is remembered for its window even if the message has left the history",
		run: func(e *env) {
			c := e.channel()
			o := broker.PublishOptions{ID: "1", Messages: 1}
			first := e.publish(c, "a", o)
			e.publish(c, "b", broker.PublishOptions{Messages: 1})
			if r := e.publishMessage(&broker.Message{Channel: c, Data: []byte("a")}, o); !r.Duplicate || r.Position != first {
				e.Errorf("got %+v, want a duplicate of %s", r, first)
			}
			e.checkData(e.all(c).Messages, "b")
		},
	},
	{
		name: "concurrent duplicates",
		why:  "a retry may overtake the first try; exactly one of them is published, and all get its position",
		run: func(e *env) {
			c := e.channel()
			for round := range 20 {
				o := broker.PublishOptions{ID: fmt.Sprint(round)}
				receipts := make([]broker.Receipt, 8)
				var wg sync.WaitGroup
				for i := range receipts {
					wg.Go(func() {
						var err error
						if receipts[i], err = e.backend.Publish(e.ctx, &broker.Message{Channel: c, Data: []byte("a")}, o); err != nil {
							e.Errorf("publish: %v", err)
						}
					})
				}
				wg.Wait()
				firsts := 0
				for _, r := range receipts {
					if !r.Duplicate {
						firsts++
					}
					if r.Position != receipts[0].Position || r.Position.IsZero() {
						e.Fatalf("positions %q and %q for one ID", r.Position, receipts[0].Position)
					}
				}
				if firsts != 1 {
					e.Fatalf("%d publishes were told that they were the first, want 1", firsts)
				}
			}
			if n := len(e.all(c).Messages); n != 20 {
				e.Errorf("%d messages stored, want 20", n)
			}
		},
	},
}
