package backendtest

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"sluice/broker"
)

var delivery = []contract{
	{
		name: "live",
		why:  "a live message is delivered in its place between durable ones, is not stored, and leaves their chain alone",
		run: func(e *env) {
			c := e.channel()
			e.join(c)
			genesis := e.head(c)
			var want, stored []string
			for i := range 60 {
				o := broker.PublishOptions{Live: i%3 != 1}
				want = append(want, fmt.Sprint(i))
				if !o.Live {
					stored = append(stored, fmt.Sprint(i))
				}
				e.publish(c, fmt.Sprint(i), o)
			}
			got := e.delivered(c, len(want))
			e.checkData(got, want...)
			e.checkChain(got, genesis)
			for i, m := range got {
				if live := i%3 != 1; m.Durable() == live || live && !m.Previous.IsZero() {
					e.Errorf("message %d has the position %q after %q; live is %v", i, m.Position, m.Previous, live)
				}
			}
			e.checkData(e.all(c).Messages, stored...)
		},
	},
	{
		name: "nothing missed after Joined",
		why:  "who reads the head after Joined must get everything behind it, though publishers never stop",
		run:  joinUnderLoad,
	},
	{
		name: "published during Joined",
		why:  "the promise begins with the call of Joined, not some time after it",
		run:  publishInJoined,
	},
	{
		name: "joined again",
		why:  "each Join is answered, also that of a joined channel: the broker waits for it",
		run: func(e *env) {
			c := e.channel()
			for range 3 {
				e.join(c)
			}
			e.publish(c, "a", broker.PublishOptions{})
			e.checkData(e.delivered(c, 1), "a")
		},
	},
	{
		name: "left",
		why:  "a page that reloads leaves and joins; the other channels must not notice",
		run: func(e *env) {
			a, b := e.channel(), e.channel()
			e.backend.Leave(e.channel())
			e.join(a, b)
			e.backend.Leave(a)
			e.backend.Leave(a)
			e.publish(b, "b", broker.PublishOptions{})
			e.checkData(e.delivered(b, 1), "b")
			e.join(a)
			p := e.publish(a, "a", broker.PublishOptions{})
			e.await("the message after joining again", func() bool {
				ms := e.sink.messages[a]
				return len(ms) > 0 && ms[len(ms)-1].Position == p
			})
		},
	},
	{
		name: "join, leave, join at once",
		why:  "the last word counts: a channel whose last call was Join is delivered",
		run: func(e *env) {
			c := e.channel()
			e.sink.wantChannels([]string{c})
			e.backend.Join(c)
			e.backend.Leave(c)
			e.backend.Join(c)
			// Which Join the first Joined answers can't be known, so what is published right after
			// it may be missed; but not for long.
			for end := time.Now().Add(patience); ; {
				e.publish(c, "a", broker.PublishOptions{Live: true})
				if e.sink.wait(time.Now().Add(20*time.Millisecond), func() bool { return len(e.sink.messages[c]) > 0 }) {
					return
				}
				if time.Now().After(end) {
					e.Fatal("nothing was delivered")
				}
			}
		},
	},
	{
		name: "never joined",
		why:  "a node is not to be burdened with, nor told of, channels that nobody on it listens to",
		run: func(e *env) {
			mine, strange := e.channel(), e.channel()
			e.join(mine)
			for i := range 50 {
				e.publish(strange, "strange", broker.PublishOptions{Live: i%2 == 0})
				e.publish(mine, fmt.Sprint(i), broker.PublishOptions{})
			}
			e.delivered(mine, 50) // the recorder complains about the others
		},
	},
	{
		name: "many channels",
		why:  "a node listens to thousands of channels, joined in one call and one by one",
		run: func(e *env) {
			names := make([]string, 1000)
			for i := range names {
				names[i] = e.channel()
			}
			e.join(names[:900]...)
			before := e.sink.wantChannels(names[900:])
			for _, c := range names[900:] {
				e.backend.Join(c)
			}
			e.await("Joined for 100 channels", func() bool {
				return !slices.ContainsFunc(names[900:], func(c string) bool { return e.sink.joined[c] == before[0] })
			})
			var wg sync.WaitGroup
			for lane := range 4 {
				wg.Go(func() {
					for i := lane; i < len(names); i += 4 {
						if _, err := e.backend.Publish(e.ctx, &broker.Message{Channel: names[i], Data: []byte(names[i])}, broker.PublishOptions{}); err != nil {
							e.Errorf("publish: %v", err)
							return
						}
					}
				})
			}
			wg.Wait()
			for _, c := range names {
				e.checkData(e.delivered(c, 1), c)
			}
			e.backend.Leave(names...)
		},
	},
}

func joinUnderLoad(e *env) {
	c := e.channel()
	stop := make(chan struct{})
	published := make(chan []*broker.Message, 1)
	e.publish(c, "first", broker.PublishOptions{})
	go func() {
		var all []*broker.Message
		defer func() { published <- all }()
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			m := &broker.Message{Channel: c, Data: fmt.Append(nil, i)}
			r, err := e.backend.Publish(e.ctx, m, broker.PublishOptions{Messages: 100})
			if err != nil {
				e.Errorf("publish: %v", err)
				return
			}
			all = append(all, &broker.Message{Position: r.Position, Data: m.Data})
		}
	}()
	type cut struct {
		head broker.Position
		from int // of what was delivered when the head was read
	}
	var cuts []cut
	for range 5 {
		e.join(c)
		head := e.head(c)
		// What is behind this head must come while we are joined, so wait for some of it.
		e.await("messages behind the head", func() bool {
			ms := e.sink.messages[c]
			return len(ms) > 3 && head.Before(ms[len(ms)-3].Position)
		})
		cuts = append(cuts, cut{head, len(e.sink.of(c))})
		e.backend.Leave(c)
	}
	e.join(c)
	last := e.head(c)
	close(stop)
	all := <-published
	if len(all) == 0 {
		e.Fatal("nothing was published")
	}
	newest := all[len(all)-1].Position
	e.await("the newest message", func() bool {
		return !last.Before(newest) || slices.ContainsFunc(e.sink.messages[c], func(m *broker.Message) bool { return m.Position == newest })
	})
	got := map[broker.Position]bool{}
	delivered := e.sink.of(c)
	for _, m := range delivered {
		got[m.Position] = true
	}
	for i, cut := range cuts {
		end := delivered[cut.from-1].Position
		for _, m := range all {
			if cut.head.Before(m.Position) && !end.Before(m.Position) && !got[m.Position] {
				e.Errorf("join %d: %s (%s) was missed; the head after Joined was %s", i, m.Position, m.Data, cut.head)
			}
		}
	}
	for _, m := range all {
		if last.Before(m.Position) && !got[m.Position] {
			e.Errorf("last join: %s (%s) was missed; the head after Joined was %s", m.Position, m.Data, last)
		}
	}
}

func publishInJoined(e *env) {
	var published atomic.Int64
	e.sink.mu.Lock()
	e.sink.inJoined = func(channels []string) {
		done := make(chan struct{})
		go func() {
			defer close(done)
			for _, c := range channels {
				for _, live := range []bool{true, false} {
					m := &broker.Message{Channel: c, Data: []byte("during")}
					if _, err := e.backend.Publish(e.ctx, m, broker.PublishOptions{Live: live}); err != nil {
						e.Errorf("publish: %v", err)
					}
					published.Add(1)
				}
			}
		}()
		select {
		case <-done:
		case <-time.After(time.Second): // a backend may make publishers wait for Joined
		}
	}
	e.sink.mu.Unlock()
	c, d := e.channel(), e.channel()
	e.join(c, d)
	e.join(c)
	e.await("everything that was published during Joined", func() bool {
		return published.Load() >= 6 && int64(len(e.sink.messages[c])+len(e.sink.messages[d])) == published.Load()
	})
}
