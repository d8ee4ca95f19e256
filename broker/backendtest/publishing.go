package backendtest

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"time"

	"sluice/broker"
)

var publishing = []contract{
	{
		name: "order",
		why:  "a channel has one order: that of the positions, of the publishes one after the other, and of the deliveries",
		run: func(e *env) {
			c := e.channel()
			e.join(c)
			genesis := e.head(c)
			const n = 300
			ps := e.publishN(c, n, broker.PublishOptions{})
			got := e.delivered(c, n)
			e.checkPositions(got, ps)
			e.checkChain(got, genesis)
			e.checkPositions(e.all(c).Messages, ps)
		},
	},
	{
		name: "nobody listens",
		why:  "publishers come before listeners; what they publish must be in the history all the same",
		run: func(e *env) {
			c := e.channel()
			ps := e.publishN(c, 3, broker.PublishOptions{})
			got := e.all(c)
			e.checkPositions(got.Messages, ps)
			e.checkChain(got.Messages[1:], ps[0])
			if first := got.Messages[0].Previous; first.IsZero() || !first.Before(ps[0]) {
				e.Errorf("the first message names %q before it, want a genesis before %s", first, ps[0])
			}
			if got.Head != ps[2] {
				e.Errorf("head %s, want %s", got.Head, ps[2])
			}
		},
	},
	{
		name: "payloads",
		why:  "a payload is any bytes and comes out as it went in, delivered and read",
		run:  payloads,
	},
	{
		name: "fields",
		why:  "event, key, trace and time are the publisher's and are needed at every node, for live messages too",
		run:  fields,
	},
	{
		name: "input untouched",
		why:  "the caller may publish the same message again, and positions that it has no say in must not leak in",
		run: func(e *env) {
			c := e.channel()
			forged := broker.Position{MS: 1 << 47, Seq: 7, Tag: 7}
			m := &broker.Message{Channel: c, Position: forged, Previous: forged, Data: []byte("a")}
			r := e.publishMessage(m, broker.PublishOptions{})
			if m.Position != forged || m.Previous != forged {
				e.Errorf("Publish wrote to its message: %s after %s", m.Position, m.Previous)
			}
			if got := e.all(c).Messages; len(got) != 1 || got[0].Position != r.Position || r.Position == forged || got[0].Previous == forged {
				e.Errorf("the forged position %s got into the history or the receipt %s", forged, r.Position)
			}
		},
	},
	{
		name: "concurrent publishers",
		why:  "whoever publishes at the same time shares one chain: complete, each message once, and every receipt true",
		run:  concurrentPublishers,
	},
	{
		name: "ended context",
		why:  "a publisher that gave up gets an answer at once, and may publish again with the same ID without publishing twice",
		run: func(e *env) {
			c := e.channel()
			ctx, cancel := context.WithCancel(e.ctx)
			cancel()
			begun := time.Now()
			m := &broker.Message{Channel: c, Data: []byte("a")}
			o := broker.PublishOptions{ID: "once"}
			if _, err := e.backend.Publish(ctx, m, o); !unavailable(err) {
				e.Errorf("Publish with a cancelled context returned %v, want ErrUnavailable or the context's error", err)
			}
			if _, err := e.backend.Read(ctx, []broker.Range{{Channel: c}}); !unavailable(err) {
				e.Errorf("Read with a cancelled context returned %v, want ErrUnavailable or the context's error", err)
			}
			if err := e.backend.Probe(ctx); err == nil {
				e.Error("Probe with a cancelled context returned nil")
			}
			if d := time.Since(begun); d > time.Second {
				e.Errorf("the three answers took %v", d)
			}
			e.publishMessage(m, o)
			e.checkData(e.all(c).Messages, "a")
		},
	},
}

func payloads(e *env) {
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	want := [][]byte{
		{}, {0}, every, []byte("\r\n\r\r\n\n"), []byte("\xff\xfe\xc3\x28"), []byte("\ufeffgrüße 🚿 \u2028"),
		[]byte("1 0-0 0-0 0 "), []byte("$5\r\nhello\r\n"), bytes.Repeat(every, 4096),
	}
	c := e.channel()
	e.join(c)
	for i, w := range want {
		for _, live := range []bool{false, true} {
			r := e.publishMessage(&broker.Message{Channel: c, Data: bytes.Clone(w)}, broker.PublishOptions{Live: live})
			if r.Duplicate {
				e.Errorf("payload %d is called a duplicate; it had no ID", i)
			}
		}
	}
	got := e.delivered(c, 2*len(want))
	stored := e.all(c).Messages
	if len(stored) != len(want) {
		e.Fatalf("%d messages stored, want %d", len(stored), len(want))
	}
	for i, w := range want {
		for how, m := range map[string]*broker.Message{"durable": got[2*i], "live": got[2*i+1], "stored": stored[i]} {
			if !bytes.Equal(m.Data, w) {
				e.Errorf("payload %d, %s: got %d bytes %.40q, want %d bytes %.40q", i, how, len(m.Data), m.Data, len(w), w)
			}
			if m.Channel != c {
				e.Errorf("payload %d, %s: is of channel %q, want %q", i, how, m.Channel, c)
			}
		}
	}
}

func fields(e *env) {
	c := e.channel()
	e.join(c)
	at := time.UnixMilli(1795426843459)
	full := broker.Message{Event: "größer: 1 ", Key: "p=1 x 2 🚿", Trace: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
	want := []*broker.Message{
		{Event: full.Event, Key: full.Key, Trace: full.Trace},
		{Event: "e"}, {Key: "k"}, {Trace: full.Trace}, {},
	}
	for _, m := range want {
		m.Channel, m.Time, m.Data = c, at, []byte("x")
		e.publishMessage(m, broker.PublishOptions{})
		e.publishMessage(m, broker.PublishOptions{Live: true})
	}
	got := e.delivered(c, 2*len(want))
	stored := e.all(c).Messages
	if len(stored) != len(want) {
		e.Fatalf("%d messages stored, want %d", len(stored), len(want))
	}
	for i, w := range want {
		for how, m := range map[string]*broker.Message{"durable": got[2*i], "live": got[2*i+1], "stored": stored[i]} {
			if m.Event != w.Event || m.Key != w.Key || m.Trace != w.Trace {
				e.Errorf("message %d, %s: got event %q, key %q, trace %q, want %q, %q, %q", i, how, m.Event, m.Key, m.Trace, w.Event, w.Key, w.Trace)
			}
			if m.Time.UnixMilli() != at.UnixMilli() {
				e.Errorf("message %d, %s: published at %v, want %v", i, how, m.Time, at)
			}
		}
	}
}

func concurrentPublishers(e *env) {
	c := e.channel()
	e.join(c)
	genesis := e.head(c)
	const publishers, each = 8, 50
	var (
		wg       sync.WaitGroup
		mu       sync.Mutex
		receipts = map[broker.Position]string{}
	)
	for p := range publishers {
		wg.Go(func() {
			for i := range each {
				d := fmt.Sprintf("%d:%d", p, i)
				r, err := e.backend.Publish(e.ctx, &broker.Message{Channel: c, Data: []byte(d)}, broker.PublishOptions{})
				if err != nil {
					e.Errorf("publish %s: %v", d, err)
					return
				}
				mu.Lock()
				if other, taken := receipts[r.Position]; taken {
					e.Errorf("%s and %s got the same position %s", d, other, r.Position)
				}
				receipts[r.Position] = d
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	got := e.delivered(c, publishers*each)
	e.checkChain(got, genesis)
	stored := e.all(c)
	e.checkChain(stored.Messages, genesis)
	e.checkData(stored.Messages, data(got)...)
	if last := got[len(got)-1].Position; stored.Head != last {
		e.Errorf("head %s, want %s", stored.Head, last)
	}
	next := map[byte]int{}
	for _, m := range got {
		if receipts[m.Position] != string(m.Data) {
			e.Errorf("at %s is %q; the receipt for it was given to %q", m.Position, m.Data, receipts[m.Position])
		}
		if want := fmt.Sprintf("%c:%d", m.Data[0], next[m.Data[0]]); string(m.Data) != want {
			e.Fatalf("got %s, want %s: each publisher's own order must hold", m.Data, want)
		}
		next[m.Data[0]]++
	}
}
