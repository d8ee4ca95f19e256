package middleware

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/broker"
)

func TestParseWish(t *testing.T) {
	for _, c := range []struct{ rate, batch, conflate, filter, want string }{
		{"5/s", "", "", "", `{"rate":"5/s"}`},
		{"0.5/s", "", "", "", `{"rate":"30/m"}`},
		{"3/s", "", "", "", `{"rate":"3/s"}`},
		{"30/m", "", "", "", `{"rate":"30/m"}`},
		{"1/h", "", "", "", `{"rate":"1/h"}`},
		{"1000/s", "", "", "", `{"rate":"1000/s"}`},
		{"", "100ms", "", "", `{"batch":"100ms"}`},
		{"", "0.1s,50", "", "", `{"batch":"100ms,50"}`},
		{"", "", "key", "", `{"conflate":"key"}`},
		{"", "", "latest", "", `{"conflate":"latest"}`},
		{"", "", "none", "", `{}`},
		{"2/s", "1s,10000", "key", `event == "ü"`, `{"filter":"event == \"ü\"","conflate":"key","rate":"2/s","batch":"1s,10000"}`},
		{"5", "", "", "", `rate "5" can't be used; write 5/s, 30/m or 100/h`},
		{"5/d", "", "", "", "can't be used"},
		{"-5/s", "", "", "", "out of range"},
		{"0/s", "", "", "", "out of range"},
		{"1e-9/h", "", "", "", "out of range"},
		{"NaN/s", "", "", "", "can't be used"},
		{"Inf/s", "", "", "", "can't be used"},
		{"0x10/s", "", "", "", "can't be used"},
		{"1001/s", "", "", "", "use 1000/s to 1/h"},
		{"", "100", "", "", `batch "100" can't be used`},
		{"", "0s", "", "", "use 1ms to 10s"},
		{"", "11s", "", "", "out of range"},
		{"", "1s,0", "", "", "1 to 10000 messages"},
		{"", "1s,", "", "", "1 to 10000 messages"},
		{"", "", "keys", "", `conflate "keys" can't be used; write key, latest or none`},
		{"", "", "", "foo", "unknown name"},
	} {
		d, err := ParseWish(c.rate, c.batch, c.conflate, c.filter)
		got := fmt.Sprint(err)
		if err == nil {
			e := Effective{Delivery: d}
			got = string(e.AppendJSON(nil))
		}
		if err == nil && got != c.want || err != nil && !strings.Contains(got, c.want) {
			t.Errorf("%+v: got %s", c, got)
		}
	}
}

func TestQueryWishes(t *testing.T) {
	for _, c := range []struct{ query, want string }{
		{"", "{} {}"},
		{"rate=5/s", `{"rate":"5/s"} {"rate":"5/s"}`},
		{"rate=5/s&rate[b]=1/s&conflate[b]=key", `{"rate":"5/s"} {"conflate":"key","rate":"1/s"}`},
		{"rate[a]=5/s&batch=20ms", `{"rate":"5/s","batch":"20ms"} {"batch":"20ms"}`},
		{"conflate=key&conflate[a]=none", `{} {"conflate":"key"}`},
		{"rate=5/s&rate=6/s", `"rate" is there twice`},
		{"rate[c]=5/s", "for a channel that is not asked for; add channel=c"},
		{"rate[a=5/s", "lacks its ]"},
		{"rate[a]=x", "can't be used"},
		{"filter[b]=nonsense", "unknown name"},
	} {
		q, err := url.ParseQuery(c.query)
		if err != nil {
			t.Fatal(err)
		}
		all, err := QueryWishes(q, []string{"a", "b"})
		got := fmt.Sprint(err)
		if err == nil {
			var texts []string
			for _, d := range all {
				e := Effective{Delivery: d}
				texts = append(texts, string(e.AppendJSON(nil)))
			}
			got = strings.Join(texts, " ")
		}
		if err == nil && got != c.want || err != nil && !strings.Contains(got, c.want) {
			t.Errorf("%s: got %s, want %s", c.query, got, c.want)
		}
	}
}

// FuzzWish: what is understood is shown in a way that is understood as the same.
func FuzzWish(f *testing.F) {
	f.Add("5/s", "100ms,50", "key", `data.x > 1`)
	f.Add("0.333/m", "1.5s", "latest", ``)
	f.Add("1000/s", "1ms,1", "none", `event == "\u00fc\"\n"`)
	f.Add("1e3/s", "10s,10000", "", "text contains '\x00'")
	f.Add("1/h", "0.001s", "", "data.x == `\\`")
	f.Add("-1/s", " 5ms , 7", "keys", "(")
	f.Add("NaN/s", "1h", "", "true //")
	f.Fuzz(func(t *testing.T, rate, batch, conflate, filter string) {
		d, err := ParseWish(rate, batch, conflate, filter)
		if err != nil {
			return
		}
		texts := map[string]string{}
		for _, x := range d.terms() {
			texts[x.name] = x.text
		}
		again, err := ParseWish(texts["rate"], texts["batch"], texts["conflate"], texts["filter"])
		if err != nil {
			t.Fatalf("%+v is shown as %v, which is refused: %v", d, texts, err)
		}
		if diff := (again.Interval - d.Interval).Abs(); diff > d.Interval/10_000 {
			t.Errorf("the interval %v is shown as %s, which is %v", d.Interval, texts["rate"], again.Interval)
		}
		again.Interval = d.Interval
		if again != d {
			t.Errorf("%+v is shown as %v, which is %+v", d, texts, again)
		}
	})
}

// FuzzQueryWishes: a query is refused, or has one wish for each channel, which is what a command would say.
func FuzzQueryWishes(f *testing.F) {
	for _, q := range []string{"rate=5/s&rate[b]=1/s", "filter[a]=data.x%3E1&conflate=key", "rate[[a]]=1/s", "rate[]=1/s", "batch[a]=&batch=1s", "rate%5Ba%5D=1/s", "rate]a[=1/s", "RATE=1/s", "rate[a]=1/s&rate[a]=1/s"} {
		f.Add(q)
	}
	f.Fuzz(func(t *testing.T, query string) {
		q, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		all, err := QueryWishes(q, []string{"a", "b"})
		if err != nil {
			if len(all) > 0 || strings.Contains(err.Error(), "\n") || len(err.Error()) > 300 {
				t.Errorf("%q: %v and %v", query, all, err)
			}
			return
		}
		for i, c := range []string{"a", "b"} {
			var texts [4]string
			for j, p := range WishParams {
				if texts[j] = q.Get(p); q.Has(p + "[" + c + "]") {
					texts[j] = q.Get(p + "[" + c + "]")
				}
			}
			if d, err := ParseWish(texts[0], texts[1], texts[2], texts[3]); err != nil || d != all[i] {
				t.Errorf("%q: %s has %+v, want %+v (%v)", query, c, all[i], d, err)
			}
		}
	})
}

func prefix(p string) func(string) bool {
	return func(c string) bool { return strings.HasPrefix(c, p) }
}

func TestPolicies(t *testing.T) {
	var p Policies
	err := p.Set([]Rule{
		{"prices.vip.*", prefix("prices.vip."), Delivery{}},
		{"prices.*", prefix("prices."), Delivery{Filter: `event != "debug"`, Conflate: ConflateKey, Pointer: "/s", Interval: 100 * time.Millisecond,
			Window: 50 * time.Millisecond, Messages: 200, Slow: Slow{256, broker.ThenConflate}}},
		{"slow.*", prefix("slow."), Delivery{Slow: Slow{256, broker.ThenGap}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		channel string
		wish    Delivery
		want    string
		stages  string
		why     string
	}{
		{"news", Delivery{}, `{}`, "", "no rule, no wish: as it comes"},
		{"news", Delivery{Interval: time.Second}, `{"rate":"1/s"}`, "throttle", "a wish needs no rule"},
		{"prices.vip.x", Delivery{}, `{}`, "", "the first rule that matches counts, an empty one too"},
		{"prices.x", Delivery{}, `{"filter":"event != \"debug\"","conflate":"key","rate":"10/s","batch":"50ms,200","slow":"conflate"}`, "filter conflate throttle batch", ""},
		{"prices.x", Delivery{Interval: time.Second, Conflate: ConflateLatest, Filter: `key == "a"`, Messages: 10, Window: time.Millisecond},
			`{"filter":"(event != \"debug\") && (key == \"a\")","conflate":"latest","rate":"1/s","batch":"50ms,10","slow":"conflate"}`, "filter conflate throttle batch", "the stricter of both"},
		{"prices.x", Delivery{Interval: time.Millisecond}, `{"filter":"event != \"debug\"","conflate":"key","rate":"10/s","batch":"50ms,200","slow":"conflate"}`, "filter conflate throttle batch", "a laxer wish changes nothing"},
		{"slow.x", Delivery{}, `{"slow":"gap"}`, "", ""},
		{"slow.x", Delivery{Slow: Slow{1, broker.ThenDisconnect}, Pointer: "/x"}, `{"slow":"gap"}`, "", "what subscribers have no say in"},
	} {
		for range 2 { // made and remembered
			e, err := p.For(c.channel, c.wish)
			if err != nil {
				t.Fatal(err)
			}
			if got := string(e.AppendJSON(nil)); got != c.want {
				t.Errorf("%s: %s, want %s: %s", c.channel, got, c.want, c.why)
			}
			var names []string
			if e.Policy != nil {
				for _, s := range e.Policy.Stages {
					names = append(names, s.Name())
				}
			}
			if got := strings.Join(names, " "); got != c.stages {
				t.Errorf("%s: stages %q, want %q", c.channel, got, c.stages)
			}
			if e.IsZero() != (c.want == "{}") {
				t.Errorf("%s: IsZero is %v", c.channel, e.IsZero())
			}
		}
	}
	e, err := p.For("prices.x", Delivery{})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(e.AppendHeader(nil, "prices.x")), `"prices.x";filter;conflate="key";rate="10/s";batch="50ms,200";slow="conflate"`; got != want {
		t.Errorf("header %s, want %s", got, want)
	}
	if e.Policy.Key == nil || e.Policy.Key.Wants == nil || !e.Policy.Array || e.Policy.Max != 200 || e.Policy.Slow.Key == nil || len(e.Policy.Slow.Stages) != 2 {
		t.Errorf("policy %+v", e.Policy)
	}
	if k, ok := e.Policy.Key.Of(&broker.Message{Key: "publisher", Data: []byte(`{"s":"symbol"}`)}); k != "symbol" || !ok {
		t.Errorf("key %q %v, want the one in the payload", k, ok)
	}
	same, err := p.For("prices.y", Delivery{})
	if err != nil || same.Policy != e.Policy {
		t.Error("channels of one rule have the same policy")
	}
	e.Policy.Drops.Add("conflate", 3)
	if err := p.Set([]Rule{{"prices.*", prefix("prices."), Delivery{Conflate: ConflateKey}}}); err != nil {
		t.Fatal(err)
	}
	other, err := p.For("prices.x", Delivery{})
	if err != nil || other.Policy.ID == e.Policy.ID || other.Policy.Drops != e.Policy.Drops {
		t.Error("another policy, and the same counters")
	}
	for _, bad := range []Rule{{Pattern: "x"}, {"x", prefix(""), Delivery{Filter: "("}}, {"x", prefix(""), Delivery{Conflate: ConflateKey, Pointer: "a"}}} {
		if err := p.Set([]Rule{bad}); err == nil || !strings.HasPrefix(err.Error(), "rule x: ") {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	if again, _ := p.For("prices.x", Delivery{}); again.Policy != other.Policy {
		t.Error("a bad rule changed what was in force")
	}
	total := int64(0)
	p.Drops(func(pattern, reason string, n int64) bool {
		if pattern == "prices.*" && reason == "conflate" {
			total = n
		}
		return true
	})
	if total != 3 {
		t.Errorf("%d counted, want 3", total)
	}
}

// TestPoliciesBounded: wishes come from strangers, so what is remembered of them has an end.
func TestPoliciesBounded(t *testing.T) {
	var p Policies
	for i := range 3 * maxMade {
		if _, err := p.For("c", Delivery{Interval: time.Duration(i+1) * time.Millisecond}); err != nil {
			t.Fatal(err)
		}
	}
	if n := p.set.Load().made.Len(); n != maxMade {
		t.Errorf("%d remembered, want %d", n, maxMade)
	}
}

// TestTwoFilters: the operator's filter holds, whatever the subscriber writes, and neither makes the other too long.
func TestTwoFilters(t *testing.T) {
	long := strings.Repeat(`event=="x" || `, 14) + `event != "secret"`
	for _, c := range []struct {
		name, rule, wish string
		refused          string // "": it is not
		secret, plain    bool   // what passes
		why              string
	}{
		{"both", `event != "secret"`, `key == "a"`, "", false, true, ""},
		{"one twice", `event != "secret"`, `event != "secret"`, "", false, true, ""},
		{"or", `event != "secret"`, `true || true`, "", false, true, "each stands for itself"},
		{"closing bracket", `event != "secret"`, `true) || (true`, "unexpected", false, false, "not even when it was not checked before"},
		{"comment", `event != "secret"`, `true //`, "leave out the comment", false, false, ""},
		{"line that ends a comment", `event != "secret"`, "true //\n || true", "", false, true, ""},
		{"both long", long, strings.ReplaceAll(long, `event=="x"`, `key=="x"`), "", false, true, "limits are for each"},
		{"too many fields together", `data.a == nil && data.b == nil && data.c == nil && data.d == nil && data.e == nil && event != "secret"`,
			`data.f == nil && data.g == nil && data.h == nil && data.i == nil && data.j == nil`, "", false, true, "limits are for each"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var p Policies
			if err := p.Set([]Rule{{"*", prefix(""), Delivery{Filter: c.rule, Conflate: ConflateKey, Slow: Slow{10, broker.ThenConflate}}}}); err != nil {
				t.Fatal(err)
			}
			e, err := p.For("c", Delivery{Filter: c.wish})
			if c.refused != "" {
				if err == nil || !strings.Contains(err.Error(), c.refused) {
					t.Errorf("got %v, want %q in it: %s", err, c.refused, c.why)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			secret, plain := &broker.Message{Event: "secret", Key: "a"}, &broker.Message{Event: "trade", Key: "a"}
			for _, row := range [][]broker.Stage{e.Policy.Stages, e.Policy.Slow.Stages} {
				ready, _ := row[0].Take(epoch, broker.Pending{Messages: []*broker.Message{secret, plain}})
				if got := slices.Contains(ready, secret); got != c.secret {
					t.Errorf("secret passes: %v: %s", got, c.why)
				}
				if got := slices.Contains(ready, plain); got != c.plain {
					t.Errorf("what both want passes: %v: %s", got, c.why)
				}
			}
			for _, k := range []*broker.Key{e.Policy.Key, e.Policy.Slow.Key} {
				if k.Wants(secret) || !k.Wants(plain) {
					t.Errorf("the key wants something else than the filter: %s", c.why)
				}
			}
			if _, err := parse(e.Delivery.Filter); err != nil {
				t.Errorf("what is shown, %s, can't be read: %v", e.Delivery.Filter, err)
			}
		})
	}
	var p Policies
	if err := p.Set([]Rule{{"*", prefix(""), Delivery{Filter: `event != "secret" // nobody`}}}); err == nil || !strings.Contains(err.Error(), "leave out the comment") {
		t.Errorf("a comment that would hide what follows: %v", err)
	}
}

// TestSamePolicy: those who are under the same terms share one evaluation, which goes by the ID.
func TestSamePolicy(t *testing.T) {
	var p Policies
	if err := p.Set([]Rule{
		{"a.*", prefix("a."), Delivery{Filter: `key == "x"`, Conflate: ConflateKey, Interval: time.Second, Slow: Slow{100, broker.ThenGap}}},
		{"b.*", prefix("b."), Delivery{Filter: `key == "x"`, Conflate: ConflateKey, Interval: time.Second, Slow: Slow{100, broker.ThenGap}}},
	}); err != nil {
		t.Fatal(err)
	}
	id := func(channel string, w Delivery) string {
		e, err := p.For(channel, w)
		if err != nil {
			t.Fatal(err)
		}
		return e.Policy.ID
	}
	plain := id("a.1", Delivery{})
	for _, w := range []Delivery{{Interval: time.Millisecond}, {Conflate: ConflateKey}, {Filter: `key == "x"`}, {Interval: time.Second}, {Pointer: "/p"}, {Slow: Slow{1, broker.ThenGap}}} {
		if id("a.2", w) != plain {
			t.Errorf("%+v changes nothing, but has a policy of its own", w)
		}
	}
	for _, w := range []Delivery{{Interval: 2 * time.Second}, {Conflate: ConflateLatest}, {Filter: `key == "y"`}, {Window: time.Second}, {Window: time.Second, Messages: 5}} {
		if id("a.2", w) == plain {
			t.Errorf("%+v has the policy of the rule", w)
		}
	}
	if id("b.1", Delivery{}) == plain {
		t.Error("rules count what they drop apart, so they can't share")
	}
	if id("a.1", Delivery{Filter: `event == "k"`}) == id("a.1", Delivery{Filter: `event == "k "`}) {
		t.Error("two filters, one policy")
	}
}

// TestSlowConflation: those who are slow are conflated by key, or to the latest where the policy is as strict as that.
func TestSlowConflation(t *testing.T) {
	a, b := &broker.Message{Key: "a", Event: "x"}, &broker.Message{Key: "b", Event: "x"}
	for _, c := range []struct {
		delivery Delivery
		want     string // stages
		same     bool   // a and b supersede each other
	}{
		{Delivery{}, "conflate", false},
		{Delivery{Conflate: ConflateKey, Interval: time.Second, Window: time.Second}, "conflate", false},
		{Delivery{Conflate: ConflateLatest}, "conflate", true},
		{Delivery{Filter: `event == "x"`}, "filter conflate", false},
	} {
		d := c.delivery
		d.Slow = Slow{10, broker.ThenConflate}
		p, err := d.policy("*", filters(d.Filter, ""), nil)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, s := range p.Slow.Stages {
			names = append(names, s.Name())
		}
		if got := strings.Join(names, " "); got != c.want {
			t.Errorf("%+v: stages %q, want %q", d, got, c.want)
		}
		k, _ := p.Slow.Key.Of(a)
		l, _ := p.Slow.Key.Of(b)
		if (k == l) != c.same {
			t.Errorf("%+v: keys %q and %q", d, k, l)
		}
		if d.Slow.Then = broker.ThenGap; d.Conflate == ConflateNone {
			if p, err := d.policy("*", filters(d.Filter, ""), nil); err != nil || p.Slow.Key != nil || p.Slow.Stages != nil || p.Key != nil {
				t.Errorf("%+v: conflated though it need not be", p.Slow)
			}
		}
	}
}

// TestPoliciesConcurrently is for the race detector.
func TestPoliciesConcurrently(t *testing.T) {
	var p Policies
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 200 {
				if g == 0 {
					if err := p.Set([]Rule{{"a.*", prefix("a."), Delivery{Interval: time.Duration(1+i) * time.Millisecond}}}); err != nil {
						t.Error(err)
					}
				}
				e, err := p.For("a.1", Delivery{Filter: `key == "` + strconv.Itoa(i%7) + `"`})
				if err != nil || e.Policy == nil {
					t.Error(err)
				}
				e.Policy.Drops.Add("filter", 1)
				if e, err := p.For("a.1", Delivery{}); err != nil || e.Policy == nil && e.Pattern != "" {
					t.Error(err)
				}
				p.Drops(func(string, string, int64) bool { return true })
			}
		})
	}
	wg.Wait()
	total := int64(0)
	p.Drops(func(_, _ string, n int64) bool { total += n; return true })
	if total != 800 {
		t.Errorf("%d counted, want 800", total)
	}
}

func BenchmarkPoliciesFor(b *testing.B) {
	var p Policies
	if err := p.Set([]Rule{{"prices.*", prefix("prices."), Delivery{Conflate: ConflateKey}}}); err != nil {
		b.Fatal(err)
	}
	for _, c := range []struct {
		name string
		wish func(i int) Delivery
	}{
		{"no-wish", func(int) Delivery { return Delivery{} }},
		{"known-wish", func(int) Delivery { return Delivery{Interval: time.Second, Filter: `data.price > 5`} }},
		{"new-wish", func(i int) Delivery { return Delivery{Interval: time.Duration(1 + i), Filter: `data.price > 5`} }},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for i := range b.N {
				if _, err := p.For("prices.x", c.wish(i)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
