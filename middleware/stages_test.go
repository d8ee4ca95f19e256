package middleware

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"sluice/broker"
)

// epoch is when the tests begin. Stages know no clock but the one they are given.
var epoch = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

func at(ms int) time.Time { return epoch.Add(time.Duration(ms) * time.Millisecond) }

func keyed(texts ...string) []*broker.Message {
	var ms []*broker.Message
	for _, t := range texts {
		key, data, _ := strings.Cut(t, "=")
		ms = append(ms, &broker.Message{Channel: "c", Key: key, Data: []byte(data)})
	}
	return ms
}

func show(ms []*broker.Message) string {
	var all []string
	for _, m := range ms {
		all = append(all, m.Key+"="+string(m.Data))
	}
	return strings.Join(all, " ")
}

func TestStages(t *testing.T) {
	symbol, err := pointerKey("/s")
	if err != nil {
		t.Fatal(err)
	}
	onlyA, err := NewFilter(`key == "a"`)
	if err != nil {
		t.Fatal(err)
	}
	second := Throttle{time.Second}
	batch := Batch{50 * time.Millisecond, 3}
	for _, c := range []struct {
		name        string
		stage       broker.Stage
		now         int // ms
		since, last int // ms; -1: zero
		in          []*broker.Message
		want        string // what goes out
		again       int    // ms; 0: nothing is held
		messages    int
		why         string
	}{
		{"filter", onlyA, 0, 0, -1, keyed("a=1", "b=2", "a=3"), "a=1 a=3", 0, 0, ""},
		{"filter drops all", onlyA, 0, 0, -1, keyed("b=1", "c=2"), "", 0, 0, "a decision about each message: nothing is held"},
		{"conflate by key", Conflate{publisherKey}, 0, 0, -1, keyed("a=1", "b=2", "a=3", "c=4"), "b=2 a=3 c=4", 0, 0, "the newest of each key, in the channel's order"},
		{"conflate without keys", Conflate{publisherKey}, 0, 0, -1, keyed("=1", "a=2", "=3", "a=4"), "=1 =3 a=4", 0, 0, "what has no key is superseded by nothing"},
		{"conflate to the latest", Conflate{everyKey}, 0, 0, -1, keyed("a=1", "b=2", "=3"), "=3", 0, 0, ""},
		{"conflate by pointer", Conflate{symbol}, 0, 0, -1, keyed(`={"s":"x"}`, `={"s":7}`, `={"s":"x","n":1}`, `={"s":"true"}`, `={"s":7.0}`, `={"s":true}`),
			`={"s":"x","n":1} ={"s":7.0} ={"s":true}`, 0, 0, "a text, a number by its value, true or false"},
		{"conflate by pointer without one", Conflate{symbol}, 0, 0, -1, keyed(`x={"s":null}`, `x={"s":"x"}`, `x={"s":{}}`, `x={}`, `x=nonsense`, `x=`, `x="s"`),
			`x={"s":null} x={"s":"x"} x={"s":{}} x={} x=nonsense x= x="s"`, 0, 0, "the publisher's key is of another kind: it supersedes nothing here"},
		{"throttle, first", second, 0, 0, -1, keyed("a=1"), "a=1", 0, 0, "the first goes out at once"},
		{"throttle, too early by 1 ms", second, 1299, 800, 300, keyed("a=1"), "", 1300, 0, ""},
		{"throttle, to the millisecond", second, 1300, 800, 300, keyed("a=1", "b=2"), "a=1 b=2", 0, 0, "all that has come goes out"},
		{"throttle, after quiet", second, 9000, 9000, 300, keyed("a=1"), "a=1", 0, 0, ""},
		{"batch waits", batch, 0, 0, -1, keyed("a=1"), "", 50, 3, ""},
		{"batch, too early by 1 ms", batch, 149, 100, 0, keyed("a=1", "b=2"), "", 150, 3, ""},
		{"batch, window over", batch, 150, 100, 0, keyed("a=1", "b=2"), "a=1 b=2", 0, 0, ""},
		{"batch, full", batch, 101, 100, 0, keyed("a=1", "b=2", "c=3"), "a=1 b=2 c=3", 0, 0, "a full one does not wait"},
		{"batch without a number", Batch{Window: 50 * time.Millisecond}, 149, 100, 0, keyed("a=1", "b=2", "c=3", "d=4"), "", 150, 0, ""},
		{"throttle, late", second, 1000, -1, -1, keyed("a=1"), "a=1", 0, 0, "nothing is held back from who is late already"},
		{"batch, late", batch, 1000, -1, -1, keyed("a=1"), "a=1", 0, 0, "nothing is held back from who is late already"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := broker.Pending{Messages: c.in}
			if c.since >= 0 {
				p.Since = at(c.since)
			}
			if c.last >= 0 {
				p.Last = at(c.last)
			}
			before := show(c.in)
			for range 2 { // it depends on nothing but its arguments
				ready, again := c.stage.Take(at(c.now), p)
				if show(ready) != c.want {
					t.Errorf("let through %q, want %q: %s", show(ready), c.want, c.why)
				}
				if want := (broker.Again{Messages: c.messages}); c.again > 0 {
					want.At = at(c.again)
					if again != want {
						t.Errorf("asks again at %v, want %v: %s", again, want, c.why)
					}
				} else if !again.IsZero() {
					t.Errorf("asks again at %v and holds nothing: %s", again, c.why)
				}
			}
			if show(c.in) != before {
				t.Error("it wrote to what it was given")
			}
		})
	}
}

// arrival is one message in a simulation.
type arrival struct {
	ms     int
	key    string
	wanted bool // by the filter, if there is one
}

// outgoing is what went out at one time, cut into batches.
type outgoing struct {
	ms      int
	batches [][]*broker.Message
}

// simulate runs stages in a row over arrivals the way a broker.Lane does.
func simulate(stages []broker.Stage, most int, arrivals []arrival) (sent []*broker.Message, out []outgoing) {
	var pending []*broker.Message
	var since, last time.Time
	var again broker.Again
	ask := func(ms int) {
		if len(pending) == 0 || at(ms).Before(again.At) && (again.Messages == 0 || len(pending) < again.Messages) {
			return
		}
		if since.IsZero() {
			since = at(ms)
		}
		p := broker.Pending{Messages: pending, Since: since, Last: last}
		again = broker.Again{}
		for _, s := range stages {
			var hold broker.Again
			if p.Messages, hold = s.Take(at(ms), p); !hold.IsZero() {
				again = hold
				return
			}
			if len(p.Messages) == 0 {
				break
			}
		}
		pending, since = nil, time.Time{}
		if len(p.Messages) == 0 {
			return
		}
		last = at(ms)
		o := outgoing{ms: ms}
		for ms := p.Messages; len(ms) > 0; {
			n := len(ms)
			if most > 0 {
				n = min(n, most)
			}
			o.batches, ms = append(o.batches, ms[:n]), ms[n:]
		}
		out = append(out, o)
	}
	end := arrivals[len(arrivals)-1].ms + 100_000
	for ms, next := 0, 0; ms <= end; ms++ {
		for ; next < len(arrivals) && arrivals[next].ms == ms; next++ {
			a := arrivals[next]
			m := &broker.Message{Channel: "c", Key: a.key, Data: fmt.Appendf(nil, `{"n":%d,"wanted":%v,"k":null}`, len(sent), a.wanted)}
			if a.key != "" {
				m.Data = bytes.Replace(m.Data, []byte("null"), fmt.Appendf(nil, "%q", a.key), 1)
			}
			sent, pending = append(sent, m), append(pending, m)
			ask(ms)
		}
		ask(ms)
		if next == len(arrivals) && len(pending) == 0 {
			break
		}
	}
	return sent, out
}

// FuzzStages checks what every composition of stages promises, in any order in which the filter stands before conflate.
func FuzzStages(f *testing.F) {
	for seed := range uint64(100) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		x := rand.New(rand.NewPCG(seed, 3))
		d := Delivery{Conflate: Conflation(x.IntN(3))}
		if x.IntN(2) == 0 {
			d.Pointer = "/k"
		}
		if x.IntN(3) == 0 {
			d.Filter = `data.wanted`
		}
		if x.IntN(2) == 0 {
			d.Interval = time.Duration(1+x.IntN(200)) * time.Millisecond
		}
		if x.IntN(2) == 0 {
			d.Window, d.Messages = time.Duration(1+x.IntN(100))*time.Millisecond, x.IntN(2)*(1+x.IntN(10))
		}
		p, err := d.policy("*", filters(d.Filter, ""), nil)
		if err != nil {
			t.Fatal(err)
		}
		x.Shuffle(len(p.Stages), func(i, j int) { p.Stages[i], p.Stages[j] = p.Stages[j], p.Stages[i] })
		filterFirst(p.Stages)
		arrivals := []arrival{{0, "1", true}}
		for range 1 + x.IntN(300) {
			a := arrival{arrivals[len(arrivals)-1].ms + x.IntN(1+x.IntN(30)), strconv.Itoa(x.IntN(5)), x.IntN(3) > 0}
			if x.IntN(5) == 0 {
				a.key = ""
			}
			arrivals = append(arrivals, a)
		}
		sent, out := simulate(p.Stages, p.Max, arrivals)
		checkDeliveries(t, sent, out, arrivals, d)
		if t.Failed() {
			t.Logf("stages %+v", p.Stages)
		}
	})
}

// filterFirst has the filter and conflate change places if they stand the wrong way round: a message that nobody wants
// would supersede one that somebody wants, and then be dropped itself.
func filterFirst(stages []broker.Stage) {
	f := slices.IndexFunc(stages, func(s broker.Stage) bool { return s.Name() == "filter" })
	c := slices.IndexFunc(stages, func(s broker.Stage) bool { return s.Name() == "conflate" })
	if f >= 0 && c >= 0 && c < f {
		stages[f], stages[c] = stages[c], stages[f]
	}
}

// TestFilterBeforeConflate: it is the one order that matters, so the wiring has to have it.
func TestFilterBeforeConflate(t *testing.T) {
	d := Delivery{Filter: `data.wanted`, Conflate: ConflateKey, Interval: time.Second}
	p, err := d.policy("*", filters(d.Filter, ""), nil)
	if err != nil {
		t.Fatal(err)
	}
	arrivals := []arrival{{0, "a", true}, {1, "a", true}, {2, "a", false}}
	if _, out := simulate(p.Stages, 0, arrivals); len(out) != 2 {
		t.Errorf("%d deliveries, want 2: the newest that is wanted is owed", len(out))
	}
	slices.Reverse(p.Stages[:2])
	if _, out := simulate(p.Stages, 0, arrivals); len(out) != 1 {
		t.Errorf("%d deliveries the wrong way round: is this test about something?", len(out))
	}
}

// keyUnder returns what m is conflated by.
func keyUnder(d Delivery, m *broker.Message) (string, bool) {
	switch d.Conflate {
	case ConflateKey:
		return m.Key, m.Key != ""
	case ConflateLatest:
		return "", true
	}
	return "", false
}

// checkDeliveries checks that what went out is what d promises of what came.
func checkDeliveries(t *testing.T, sent []*broker.Message, out []outgoing, arrivals []arrival, d Delivery) {
	t.Helper()
	index := map[*broker.Message]int{}
	for i, m := range sent {
		index[m] = i
	}
	before, had := -1, map[int]int{} // index of a message to when it was delivered
	for i, o := range out {
		if i > 0 && at(o.ms).Sub(at(out[i-1].ms)) < d.Interval {
			t.Errorf("deliveries at %d and %d ms: faster than one in %v", out[i-1].ms, o.ms, d.Interval)
		}
		if d.Messages > 0 && d.Interval == 0 && len(o.batches) > 1 {
			t.Errorf("%d batches at %d ms: one that was full has waited", len(o.batches), o.ms)
		}
		seen := map[string]bool{}
		for _, b := range o.batches {
			if d.Messages > 0 && len(b) > d.Messages {
				t.Errorf("a batch of %d, at most %d", len(b), d.Messages)
			}
			for _, m := range b {
				if index[m] <= before {
					t.Fatalf("message %d came after %d", index[m], before)
				}
				if k, ok := keyUnder(d, m); ok {
					if seen[k] {
						t.Errorf("two messages of key %q in one delivery", k)
					}
					seen[k] = true
				}
				before, had[index[m]] = index[m], o.ms
			}
		}
	}
	// Whatever was wanted is there, or something newer of its key, in time.
	bound := max(d.Interval, d.Window)
	newer := map[string]int{} // by key: when a newer one went out
	for i := len(sent) - 1; i >= 0; i-- {
		when, ok := had[i]
		if d.Filter != "" && !arrivals[i].wanted {
			if ok {
				t.Errorf("message %d passed the filter", i)
			}
			continue
		}
		k, conflated := keyUnder(d, sent[i])
		if n, superseded := newer[k]; !ok && conflated && superseded {
			when, ok = n, true
		}
		if !ok {
			t.Fatalf("message %d of key %q never came", i, sent[i].Key)
		}
		if late := at(when).Sub(at(arrivals[i].ms)); late > bound {
			t.Errorf("message %d was late by %v, at most %v", i, late, bound)
		}
		newer[k] = when
	}
}

func BenchmarkStages(b *testing.B) {
	var ms []*broker.Message
	for i := range 1000 {
		ms = append(ms, &broker.Message{Key: fmt.Sprint(i % 50), Data: fmt.Appendf(nil, `{"symbol":"S%d","price":%d,"bid":1.5,"ask":1.7,"venue":"XETR"}`, i%50, i)})
	}
	filter, err := NewFilter(`data.price > 500 && data.venue == "XETR"`)
	if err != nil {
		b.Fatal(err)
	}
	symbol, err := pointerKey("/symbol")
	if err != nil {
		b.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		stage broker.Stage
	}{
		{"filter", filter}, {"conflate/key", Conflate{publisherKey}}, {"conflate/pointer", Conflate{symbol}}, {"throttle", Throttle{time.Second}}, {"batch", Batch{Window: time.Second}},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for range b.N {
				c.stage.Take(epoch, broker.Pending{Messages: ms})
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(ms)), "ns/message")
		})
	}
}
