package otel

import (
	"testing"
	"testing/synctest"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// Whoever owes a message nothing any more ends its delivery; who still does at the deadline is counted as pending.
func TestDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil, nil)
		d := r.Deliver(r.arrival(5))
		d.Wrote(r.write(1))
		d.Conflated("conflate", 1, Context{})
		d.Dropped("filter", 1)
		d.Left()
		time.Sleep(DefaultTracerConfig().Wait - time.Millisecond)
		synctest.Wait()
		if n := len(r.spans.Ended()); n != 0 {
			t.Errorf("%d spans before the deadline", n)
		}
		time.Sleep(time.Millisecond)
		synctest.Wait()
		s := r.span("deliver")
		if took := s.EndTime().Sub(s.StartTime()); took != DefaultTracerConfig().Wait+time.Millisecond {
			t.Errorf("it took %v from the publish to the deadline", took)
		}
		got := attributesOf(s)
		for _, name := range []string{"written", "conflated", "dropped", "left", "pending"} {
			if got["sluice.fanout."+name].AsInt64() != 1 {
				t.Errorf("%d %s, want one of each", got["sluice.fanout."+name].AsInt64(), name)
			}
		}
		time.Sleep(time.Second)
		d.Wrote(r.write(2)) // late
		d.Failed("sse", "slow")
		synctest.Wait()
		r.want(`
			deliver [consumer]
			  conflate reason=conflate
			  drop reason=filter
			  drop sse reason=slow ERROR
			  fan-out
			  push ws picked=hash
			    queue
			    write
			  push ws picked=hash
			    queue
			    write
			  transit
		`, "sluice.reason", "sluice.picked")
	})
}

// The same few sessions are not picked for each message, about as many as asked for are, and the slowest and the pinned always.
func TestSocketsPicked(t *testing.T) {
	const subscribers, messages = 1000, 200
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil, func(c *TracerConfig) { c.Detail = messages })
		for range messages {
			d := r.Deliver(r.arrival(subscribers))
			for n := range subscribers {
				w := r.write(n)
				w.Pinned = n == 7
				if n == 500 {
					w.End += int64(time.Second)
				}
				d.Wrote(w)
			}
		}
		synctest.Wait()
		by, sessions := map[string]int{}, map[string]bool{}
		for _, s := range r.spans.Ended() {
			if s.Name() == "push ws" {
				a := attributesOf(s)
				by[a["sluice.picked"].AsString()]++
				sessions[a["sluice.session"].AsString()] = true
			}
		}
		if n := by[pickedHash]; n < messages*4 || n > messages*8 {
			t.Errorf("%d sessions picked by hash of %d messages, want about 6 each", n, messages)
		}
		if by[pickedPinned] != messages || by[pickedSlowest] < messages*9/10 || by[pickedSlowest] > messages {
			t.Errorf("picked %v of %d messages", by, messages)
		}
		if len(sessions) < subscribers/2 {
			t.Errorf("only %d of %d sessions were ever picked", len(sessions), subscribers)
		}
		s := r.spans.Ended()
		if n := float64(len(s)) / messages; n > 3+3*(6*1.5+2) {
			t.Errorf("%.1f spans a message", n)
		}
	})
}

// Above so many messages a second there are no sockets, but for one that is slow.
func TestDetailIsLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil, func(c *TracerConfig) { c.Detail = 1 })
		for _, late := range []time.Duration{0, 0, 2 * time.Second} {
			d := r.Deliver(r.arrival(1))
			w := r.write(1)
			w.End += int64(late)
			d.Wrote(w)
		}
		synctest.Wait()
		r.want(`
			deliver [consumer]
			  fan-out
			  push ws picked=hash
			    queue
			    write
			  transit
			deliver [consumer] detail=limited
			  fan-out
			  push ws picked=slowest
			    queue
			    write
			  transit
			deliver [consumer] detail=limited
			  fan-out
			  transit
		`, "sluice.detail", "sluice.picked")
	})
}

func TestQuantiles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil, func(c *TracerConfig) { c.Sockets = 0 })
		d := r.Deliver(r.arrival(100))
		for n := range 100 {
			w := r.write(n)
			w.End = d.start + int64(n+1)*int64(time.Millisecond)
			d.Wrote(w)
		}
		synctest.Wait()
		a := attributesOf(r.span("deliver"))
		p50, p99, most := a["sluice.write.p50_ms"].AsFloat64(), a["sluice.write.p99_ms"].AsFloat64(), a["sluice.write.max_ms"].AsFloat64()
		if p50 < 50 || p50 > 50*17./16 || p99 < 99 || p99 > 100 || most != 100 {
			t.Errorf("p50 %v, p99 %v, max %v of 1 to 100 ms", p50, p99, most)
		}
	})
}

// A message in one write with others is linked to them, and each has spans in its own trace.
func TestBatchLinks(t *testing.T) {
	r := newRig(t, nil, nil)
	var all []*Delivery
	for range 40 {
		all = append(all, r.Deliver(r.arrival(1)))
	}
	w := r.write(1)
	w.Messages, w.Batch = 40, all
	for i, d := range all {
		w.Index = i
		d.Wrote(w)
	}
	r.stop()
	pushes := 0
	for _, s := range r.spans.Ended() {
		if s.Name() != "push ws" {
			continue
		}
		pushes++
		if a := attributesOf(s); len(s.Links()) != maxLinks || a["messaging.batch.message_count"].AsInt64() != 40 {
			t.Errorf("%d links, %v", len(s.Links()), a)
		}
		for _, l := range s.Links() {
			if l.SpanContext.TraceID() == s.SpanContext().TraceID() {
				t.Error("it is linked to itself")
			}
		}
	}
	if pushes != 40 {
		t.Errorf("%d pushes, want 40", pushes)
	}
}

// A message that is not sampled allocates nothing, nor does a write of a traced one that is not picked.
func TestTracingAllocatesNothing(t *testing.T) {
	r := newRig(t, sdktrace.ParentBased(sdktrace.NeverSample()), nil)
	a := r.arrival(1000)
	a.Trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
	if n := testing.AllocsPerRun(100, func() {
		if r.Deliver(a) != nil {
			t.Fatal("it is traced")
		}
	}); n != 0 {
		t.Errorf("%v allocations for a message that is not sampled", n)
	}
	a.Trace, a.Subscribers = a.Trace[:54]+"1", 1<<30
	d, w := r.Deliver(a), r.write(1)
	w.Session[0] = 0xff
	if n := testing.AllocsPerRun(1000, func() { w.Session[3]++; d.Wrote(w) }); n > 0.1 {
		t.Errorf("%v allocations a write", n)
	}
}

func BenchmarkWrote(b *testing.B) {
	t := newTracer(sdktrace.NewTracerProvider(), sdktrace.AlwaysSample(), nil, DefaultTracerConfig())
	b.Run("not traced", func(b *testing.B) {
		var d *Delivery
		w := new(Write)
		for b.Loop() {
			d.Wrote(w)
		}
	})
	b.Run("traced", func(b *testing.B) {
		d := t.Deliver(Arrival{Channel: "a", Arrived: Now(), Subscribers: 1 << 40})
		w := &Write{Over: "ws"}
		for b.Loop() {
			w.End++
			w.Session[2]++
			d.Wrote(w)
		}
	})
}
