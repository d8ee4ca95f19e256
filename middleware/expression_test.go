package middleware

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"
	"time"

	"sluice/broker"
)

// TestNesting: payloads come from strangers, too, and a parser that calls itself for each bracket dies of them.
func TestNesting(t *testing.T) {
	nested := func(n int) string { return strings.Repeat(`{"a":[`, n/2) + strings.Repeat(`]}`, n/2) }
	long := strings.Repeat("x", maxNesting)
	for _, c := range []struct {
		name, json string
		want       bool
		why        string
	}{
		{"deepest", nested(maxNesting), true, ""},
		{"one deeper", "[" + nested(maxNesting) + "]", false, ""},
		{"flat", `[` + strings.Repeat(`[],{},`, maxNesting) + `1]`, true, "how many there are does not matter, only how deep they are"},
		{"texts", `["` + strings.Repeat(`[{\"\\`, maxNesting) + `"]`, true, "what stands in quotes is no structure"},
		{"closed text", `["\\"` + strings.Repeat(`,[`, maxNesting) + `"` + long, false, "a quote after an escaped backslash closes"},
		{"brackets", strings.Repeat(`[`, 16<<20), false, "no stack would do for that"},
		{"not JSON", long + long, false, ""},
	} {
		if got := isJSON([]byte(c.json)); got != c.want {
			t.Errorf("%s: %v, want %v: %s", c.name, got, c.want, c.why)
		}
	}
	f, err := NewFilter(`data.x == nil`)
	if err != nil {
		t.Fatal(err)
	}
	by, err := pointerKey("/x")
	if err != nil {
		t.Fatal(err)
	}
	m := &broker.Message{Key: "k", Data: []byte(strings.Repeat(`{"x":`, 1<<20))}
	if _, ok := by(m); ok || !f.Match(m) {
		t.Error("what is nested too deep has a field")
	}
}

// TestMatchAllocates: a filter is asked about each message, so it must not leave anything behind for each.
func TestMatchAllocates(t *testing.T) {
	m := &broker.Message{Channel: "c", Event: "trade", Data: []byte(`{"symbol":"AAPL","price":101.5,"venue":{"name":"XETR"},"pad":"` + strings.Repeat("x", 4096) + `"}`)}
	for _, filter := range []string{
		`event == "trade"`,
		`data.price > 100 && data.venue.name == "XETR" && data.symbol in ["AAPL", "MSFT"]`,
		`text contains "nothing" || text contains "of" || text contains "that"`,
	} {
		f, err := NewFilter(filter)
		if err != nil {
			t.Fatal(err)
		}
		if n := testing.AllocsPerRun(100, func() { f.Match(m) }); n > 0 {
			t.Errorf("%s: %v allocations for each message", filter, n)
		}
	}
}

// FuzzField: what is found of a payload is what encoding/json finds, whatever the names look like. Names come from
// subscribers and payloads from publishers; gjson's own syntax must not be reachable by either.
func FuzzField(f *testing.F) {
	for _, data := range []string{
		`{"a":{"b":[1,"x",null,{"c":true}]},"a.b":2,"#":3,"*":4,"@this":5,"a|b":6,"":7,"\\":8,"\"":9,"\u00fc":10,"0":11,"!x":12,"a\\.b":13,"?":14}`,
		`[1,[2,{"0":"zero"}],"x"]`, `"text"`, `1e400`, `{"a":"\ud83d\ude00\n"}`, ` {"a" : -0.5e3 } `, `{"a":1}{"a":2}`, "{\"a\":1}\n{\"a\":2}", `{"~":1,"-":2,":1":3,"1":4,"[0]":5,"{a}":6}`,
	} {
		for _, path := range []string{"a", "a\x1fb", "a\x1fb\x1f1", "a\x1fb\x1f3\x1fc", "a.b", "#", "*", "?", "@this", "@reverse", "a|b", "a|@this", `\`, `"`, "ü", "0", "1\x1f1\x1f0", "!x", `a\.b`, "..0", "..", "~", "-", ":1", "[0]", "{a}", "#(a==1)", "a*", "\x00", "a\x1f#"} {
			f.Add([]byte(data), path)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte, path string) {
		names := strings.Split(path, "\x1f")
		for _, n := range names {
			if n == "" || len(n) > 1 && n[0] == '0' && strings.Trim(n, "0123456789") == "" {
				return // the first can't be written; 01 is an index to gjson, which does no harm
			}
		}
		var v any
		if !isJSON(data) || json.Unmarshal(data, &v) != nil {
			return // out of range, too deep
		}
		if again, err := json.Marshal(v); err != nil || members(string(again)) != members(string(data)) || strings.ContainsRune(string(again), '�') {
			return // a member that is there twice, or what is not UTF-8: those are matters of taste
		}
		for _, n := range names {
			switch in := v.(type) {
			case map[string]any:
				v = in[n]
			case []any:
				i, err := strconv.Atoi(n)
				if v = nil; err == nil && strings.Trim(n, "0123456789") == "" && i < len(in) {
					v = in[i]
				}
			default:
				v = nil
			}
		}
		want := value{}
		switch v := v.(type) {
		case bool:
			want = boolean(v)
		case float64:
			want = value{kind: number, num: v}
		case string:
			want = value{kind: text, text: v}
		case map[string]any, []any:
			want = value{kind: structure}
		}
		if got := lookUp(string(data), gjsonPath(names)); got != want {
			t.Errorf("%q of %s is %+v, want %+v", names, data, got, want)
		}
	})
}

// members counts the members of all objects in a valid JSON text.
func members(text string) (n int) {
	d := json.NewDecoder(strings.NewReader(text))
	var count func() bool
	count = func() bool {
		tok, err := d.Token()
		if err != nil {
			return false
		}
		delim, ok := tok.(json.Delim)
		for ok && d.More() {
			if delim == '{' {
				n++
				if _, err := d.Token(); err != nil {
					return false
				}
			}
			if !count() {
				return false
			}
		}
		if ok {
			_, err = d.Token()
		}
		return err == nil
	}
	count()
	return n
}

func BenchmarkFilter(b *testing.B) {
	quote := []byte(`{"symbol":"S1","price":700,"bid":1.5,"ask":1.7,"venue":"XETR","ts":1795426843459}`)
	big := []byte(`{"pad":"` + strings.Repeat("x", 64<<10) + `","price":700}`)
	for _, c := range []struct {
		name, filter string
		data         []byte
	}{
		{"event", `event == "trade"`, quote},
		{"other-event", `event == "quote" && data.price > 500`, quote},
		{"field", `data.price > 500`, quote},
		{"two-fields", `data.price > 500 && data.venue == "XETR"`, quote},
		{"text", `text contains "XETR"`, quote},
		{"64KiB/field", `data.price > 500`, big},
		{"64KiB/text", `text contains "XETR"`, big},
	} {
		f, err := NewFilter(c.filter)
		if err != nil {
			b.Fatal(err)
		}
		m := &broker.Message{Channel: "prices.S1", Event: "trade", Key: "S1", Time: time.Time{}, Data: c.data}
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for range b.N {
				f.Match(m)
			}
		})
	}
}

func BenchmarkNewFilter(b *testing.B) {
	b.ReportAllocs()
	for range b.N {
		if _, err := NewFilter(`event == "trade" && data.price > 100`); err != nil {
			b.Fatal(err)
		}
	}
}
