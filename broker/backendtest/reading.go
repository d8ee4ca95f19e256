package backendtest

import (
	"fmt"
	"sync"
	"time"

	"sluice/broker"
)

var reading = []contract{
	{
		name: "genesis",
		why:  "a channel's head is known before its first message, and stays, so that \"nothing was missed\" differs from \"all of it is gone\"",
		run: func(e *env) {
			c := e.channel()
			genesis := e.head(c)
			for range 3 {
				if again := e.head(c); again != genesis {
					e.Fatalf("the genesis was %s and is now %s", genesis, again)
				}
			}
			p := e.publish(c, "a", broker.PublishOptions{})
			e.checkChain(e.all(c).Messages, genesis)
			if h := e.head(c); h != p {
				e.Errorf("head %s, want %s", h, p)
			}
			if other := e.head(e.channel()); other.IsZero() {
				e.Error("the second channel has no genesis")
			}
		},
	},
	{
		name: "concurrent first reads",
		why:  "two nodes that touch a new channel at once must agree on its genesis, or one sees a fork later",
		run: func(e *env) {
			for range 10 {
				c := e.channel()
				heads := make([]broker.Position, 8)
				var wg sync.WaitGroup
				for i := range heads {
					wg.Go(func() {
						if pages, err := e.backend.Read(e.ctx, []broker.Range{{Channel: c}}); err == nil && len(pages) == 1 {
							heads[i] = pages[0].Head
						}
					})
				}
				wg.Wait()
				for _, h := range heads {
					if h.IsZero() || h != heads[0] {
						e.Fatalf("concurrent first reads answered %s and %q", heads[0], h)
					}
				}
			}
		},
	},
	{
		name: "ranges",
		why:  "resumes read after a position, back-fills before one; off by one is a message lost or doubled",
		run:  ranges,
	},
	{
		name: "paging",
		why:  "a history is read in pages: the last position of one page begins the next, until a page is not full",
		run: func(e *env) {
			c := e.channel()
			ps := e.publishN(c, 23, broker.PublishOptions{})
			after, seen := ps[0], 1
			for pages := 0; ; pages++ {
				got := e.read(broker.Range{Channel: c, After: after, Limit: 5})
				if pages > 10 || len(got.Messages) == 0 || got.Messages[0].Position != after {
					e.Fatalf("page %d after %s begins with %q; the entry itself comes first while it is there", pages, after, data(got.Messages))
				}
				e.checkPositions(got.Messages, ps[seen-1:min(seen+4, len(ps))])
				seen += len(got.Messages) - 1
				after = got.Messages[len(got.Messages)-1].Position
				if len(got.Messages) < 5 {
					break
				}
			}
			if seen != len(ps) {
				e.Errorf("%d messages in all pages, want %d", seen, len(ps))
			}
		},
	},
	{
		name: "many ranges",
		why:  "a node reads for hundreds of channels at once and assigns the answers by their order",
		run: func(e *env) {
			var rs []broker.Range
			var want []broker.Position
			for i := range 120 {
				c := e.channel()
				p := e.publish(c, fmt.Sprint(i), broker.PublishOptions{})
				rs = append(rs, broker.Range{Channel: c, Newest: true, Limit: 5}, broker.Range{Channel: c})
				want = append(want, p)
			}
			pages, err := e.backend.Read(e.ctx, rs)
			if err != nil || len(pages) != len(rs) {
				e.Fatalf("got %d pages and %v, want %d", len(pages), err, len(rs))
			}
			for i, p := range pages {
				if p.Head != want[i/2] {
					e.Fatalf("page %d has the head %s, want %s", i, p.Head, want[i/2])
				}
				if i%2 == 0 {
					e.checkData(p.Messages, fmt.Sprint(i/2))
				}
			}
			if pages, err := e.backend.Read(e.ctx, nil); err != nil || len(pages) != 0 {
				e.Errorf("read of nothing answered %d pages and %v", len(pages), err)
			}
		},
	},
	{
		name: "head is of one instant",
		why:  "a head that is newer than the messages read with it looks like truncated history: a false gap",
		run:  headAtomic,
	},
}

func ranges(e *env) {
	c := e.channel()
	genesis := e.head(c)
	ps := e.publishN(c, 10, broker.PublishOptions{})
	other := func(p broker.Position) broker.Position { p.Tag ^= 0xffff; return p }
	early := broker.Position{MS: 1, Tag: 1}
	late := broker.Position{MS: 1<<48 - 1, Seq: 1, Tag: 1}
	for _, row := range []struct {
		why      string
		r        broker.Range
		from, to int // of ps
	}{
		{"the head only", broker.Range{}, 0, 0},
		{"the head only, whatever else is said", broker.Range{After: ps[3]}, 0, 0},
		{"the head only, from the end", broker.Range{Newest: true}, 0, 0},
		{"After is answered too", broker.Range{After: ps[3], Limit: 3}, 3, 6},
		{"After is compared by stream ID", broker.Range{After: other(ps[3]), Limit: 3}, 3, 6},
		{"After may be the last", broker.Range{After: ps[9], Limit: 3}, 9, 10},
		{"After may be the genesis, which is no entry", broker.Range{After: genesis, Limit: 3}, 0, 3},
		{"After may be before all", broker.Range{After: early, Limit: 100}, 0, 10},
		{"After may be after all", broker.Range{After: late, Limit: 100}, 0, 0},
		{"one", broker.Range{After: ps[0], Limit: 1}, 0, 1},
		{"the newest", broker.Range{Newest: true, Limit: 4}, 6, 10},
		{"more than there are", broker.Range{Newest: true, Limit: 40}, 0, 10},
		{"Before is not answered", broker.Range{Newest: true, Before: ps[6], Limit: 4}, 2, 6},
		{"Before is compared by stream ID", broker.Range{Newest: true, Before: other(ps[6]), Limit: 4}, 2, 6},
		{"Before may be near the first", broker.Range{Newest: true, Before: ps[2], Limit: 4}, 0, 2},
		{"Before may be the first", broker.Range{Newest: true, Before: ps[0], Limit: 4}, 0, 0},
		{"Before may be the genesis", broker.Range{Newest: true, Before: genesis, Limit: 4}, 0, 0},
		{"Before may be after all", broker.Range{Newest: true, Before: late, Limit: 4}, 6, 10},
	} {
		row.r.Channel = c
		got := e.read(row.r)
		if fmt.Sprint(positions(got.Messages)) != fmt.Sprint(ps[row.from:row.to]) {
			e.Errorf("%s: %+v answered %q, want messages %d to %d", row.why, row.r, data(got.Messages), row.from, row.to-1)
		}
		if got.Head != ps[9] {
			e.Errorf("%s: head %s, want %s", row.why, got.Head, ps[9])
		}
		if len(got.Messages) > 0 && row.from == 0 {
			e.checkChain(got.Messages, genesis)
		} else if len(got.Messages) > 0 {
			e.checkChain(got.Messages, ps[row.from-1])
		}
	}
}

func headAtomic(e *env) {
	c := e.channel()
	first := e.publish(c, "first", broker.PublishOptions{})
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := e.backend.Publish(e.ctx, &broker.Message{Channel: c, Data: []byte("x")}, broker.PublishOptions{Messages: 20}); err != nil {
					e.Errorf("publish: %v", err)
					return
				}
			}
		})
	}
	defer wg.Wait()
	defer close(stop)
	after, moved := first, 0
	for end := time.Now().Add(300 * time.Millisecond); time.Now().Before(end); {
		p := e.read(broker.Range{Channel: c, After: after, Limit: 1000})
		if len(p.Messages) == 0 {
			e.Fatalf("nothing after %s, and the head is %s", after, p.Head)
		}
		if last := p.Messages[len(p.Messages)-1].Position; last != p.Head {
			e.Fatalf("the newest message is %s, and the head %s", last, p.Head)
		}
		if p.Head != after {
			moved++
		}
		after = p.Head
	}
	if moved == 0 {
		e.Error("the head never moved")
	}
}

func positions(ms []*broker.Message) []broker.Position {
	ps := make([]broker.Position, len(ms))
	for i, m := range ms {
		ps[i] = m.Position
	}
	return ps
}
