package middleware

import (
	"bytes"
	"strings"
	"testing"

	"sluice/broker"
)

func TestFilter(t *testing.T) {
	quote := &broker.Message{Channel: "prices.X", Event: "trade", Key: "X", Data: []byte(
		`{"price":101.5,"side":"buy","open":true,"none":null,"x y":1,"a.b":2,"venue":{"name":"XETR","codes":["A","B"]},"big":1e300,"empty":""}`)}
	for _, c := range []struct {
		filter string
		want   bool
		why    string
	}{
		{`event == "trade"`, true, ""},
		{`event != "trade"`, false, ""},
		{`key == "X" && channel startsWith "prices."`, true, ""},
		{`data.price > 100`, true, ""},
		{`data.price > 100 and data.price <= 101.5`, true, ""},
		{`data.price < -1`, false, "negative numbers"},
		{`data["price"] >= 101.5`, true, "brackets"},
		{`data["x y"] == 1`, true, "any name in brackets"},
		{`data["a.b"] == 2`, true, "a dot in a name is no path"},
		{`data.a.b == 2`, false, "and a path is no name"},
		{`data.venue.name == "XETR"`, true, ""},
		{`data.venue.codes[1] == "B"`, true, ""},
		{`data.venue.codes[2] == nil`, true, "out of range is nothing"},
		{`data.venue == nil`, false, "an object is not nothing"},
		{`data.venue == data.venue`, false, "objects equal nothing"},
		{`data.open`, true, "true alone"},
		{`not data.open`, false, ""},
		{`data.price`, false, "a number is not true"},
		{`!data.missing`, true, "what is not there is not true"},
		{`data.none == nil && data.missing == nil`, true, "null and missing are nothing"},
		{`data.missing != "x"`, true, "nothing is different from everything"},
		{`data.missing > 1 or data.price > 1`, true, "a comparison with nothing is false, and no more than that"},
		{`data.missing < 1`, false, ""},
		{`data.side > 1`, false, "texts and numbers are in no order"},
		{`data.side >= "buy"`, true, "texts are"},
		{`data.side in ["buy", "sell"]`, true, ""},
		{`data.price in [1, 101.5]`, true, ""},
		{`event not in ["quote", "book"]`, true, ""},
		{`data.side contains "u" and data.side endsWith "y"`, true, ""},
		{`data.price contains "1"`, false, "numbers contain nothing"},
		{`text contains "XETR"`, true, "the payload as it is"},
		{`data.big > 1000000`, true, ""},
		{`data.empty == ""`, true, ""},
		{`data.empty == nil`, false, ""},
		{`100 < data.price < 200`, true, "a comparison may be chained"},
		{`data?.venue?.name == "XETR"`, true, "as they write it in JavaScript"},
		{`data.venue["codes"][0] startsWith "A"`, true, ""},
		{`data.price == data["price"] && data.price in [-1, +101.5]`, true, "signs"},
		{`event == "quote" && data.price > 1 || key != nil`, true, "and binds closer than or"},
		{`not (data.side == "sell") and not (data.missing == "sell")`, true, ""},
		{`text`, false, "a text is not true"},
		{`(event == "quote" || event == "trade") && !(data.price < 100)`, true, "brackets"},
	} {
		f, err := NewFilter(c.filter)
		if err != nil {
			t.Errorf("%s: %v", c.filter, err)
			continue
		}
		if got := f.Match(quote); got != c.want {
			t.Errorf("%s is %v, want %v: %s", c.filter, got, c.want, c.why)
		}
	}
	for _, c := range []struct {
		filter, data string
		want         bool
		why          string
	}{
		{`data.a == 1`, `{"a":1`, false, "what is not JSON has no fields"},
		{`data.a == nil`, "\xff\x00", true, ""},
		{`data.a != 1`, `nonsense`, true, "so this is true of it"},
		{`data.a < 1 || data.a >= 1`, `{"a":"1"}`, false, "a text is in no order with a number"},
		{`data.a == 9007199254740993`, `{"a":9007199254740992}`, true, "numbers are those of JavaScript"},
		{`text contains "a"`, "\xff\x00a", true, "the payload may be anything"},
		{`text == ""`, ``, true, "or nothing"},
		{`data["\u00fc"] == "\u00fc"`, `{"\u00fc":"\u00fc"}`, true, "escapes in both"},
		{`data.a[0] == 1`, `{"a":{"0":1}}`, true, "a number in brackets is a name where there is no array"},
		{`data["!"] == nil and data["a\\"] == nil and data["{a,a}"] == nil`, `{"a":1}`, true, ""},
		{`data == 5`, `5`, true, "a payload that is a number"},
		{`data == "x"`, `"x"`, true, "or a text"},
		{`event == "message"`, ``, true, "the event of a message that has none"},
		{`key == nil`, ``, true, ""},
		{`data.a == 2`, `{"a":1,"a":2}`, false, "of a member that is there twice the first counts"},
		{`data["#"] == nil`, `[1,2]`, true, "gjson's own syntax is not reachable"},
		{`data["*"] == nil`, `{"a":1}`, true, ""},
		{`data["@this"] == nil`, `{"a":1}`, true, ""},
		{`data["a|b"] == nil`, `{"a":{"b":1}}`, true, ""},
	} {
		f, err := NewFilter(c.filter)
		if err != nil {
			t.Errorf("%s: %v", c.filter, err)
			continue
		}
		if got := f.Match(&broker.Message{Data: []byte(c.data)}); got != c.want {
			t.Errorf("%s of %q is %v, want %v: %s", c.filter, c.data, got, c.want, c.why)
		}
	}
}

func TestFilterRefuses(t *testing.T) {
	for _, c := range []struct{ filter, want string }{
		{``, "empty"},
		{`event ==`, "character 8: it ends where something must follow"},
		{`event = "x"`, "character 7: there is no =; write =="},
		{`evnt == "x"`, `character 1: unknown name "evnt"; write "evnt" for a text, data.evnt for a field; there are event, key, channel, text and data`},
		{`event == "ü" && price > 5`, `character 17: unknown name "price"; write "price" for a text, data.price for a field`},
		{`data.x == null`, "character 11: there is no null; write nil"},
		{`key == "a" & key == "b"`, "there is no &; write &&"},
		{`key == "a" AND key == "b"`, "unexpected AND; write and"},
		{`event == 'x`, "a text lacks its closing quote"},
		{`data.x == 1e999`, "this number can't be used"},
		{`data..x`, "there is no .."},
		{`true; true`, "not part of this language"},
		{`true;`, "leave out the comment or semicolon at its end"},
		{`true // as it is`, "leave out the comment or semicolon at its end"},
		{"true //\n || true", ""},
		{`text contains "//" && text contains ";"`, ""},
		{"  \n", "the filter is empty"},
		{`data.` + strings.Repeat("ü", 100) + `()`, "not part of this language"},
		{`len(data) > 1`, "not part of this language"},
		{`all(data, # > 1)`, "not part of this language"},
		{`data.a + 1 > 2`, "there is no +"},
		{`data.a ** 2 > 2`, "there is no **"},
		{`"a" * 1000`, "there is no *"},
		{`event matches "(a+)+"`, "there is no matches"},
		{`1..1000000`, "there is no .."},
		{`let x = 1; x == 1`, "not part of this language"},
		{`event ? true : false`, "not part of this language"},
		{`{"a": 1}`, "not part of this language"},
		{`event.x == 1`, "only data has fields"},
		{`data[event] == 1`, "write a field's name"},
		{`data[-1] == 1`, "write a field's name"},
		{`data.f() == 1`, "not part of this language"},
		{`event in data`, "write a list after in"},
		{`event in [data.x]`, "a list has only"},
		{`-event == 1`, "no arithmetic"},
		{`data[""] == 1`, "can't be empty"},
		{`data.a==1||data.b==1||data.c==1||data.d==1||data.e==1||data.f==1||data.g==1||data.h==1||data.i==1`, "more than 8 different fields"},
		{strings.Repeat(`event=="x"||`, 30) + `true`, "more than 64 parts"},
		{strings.Repeat("(", 250) + "true" + strings.Repeat(")", 250), ""},
		{strings.Repeat("!", 400) + "true", "more than 64 parts"},
		{strings.Repeat("x", 513), "at most 512 bytes"},
	} {
		err := CheckFilter(c.filter)
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%.40s: %v", c.filter, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%.60s: got %v, want %q in it", c.filter, err, c.want)
		case err != nil && (strings.Contains(err.Error(), "\n") || len(err.Error()) > 250):
			t.Errorf("%.40s: the error is not one short line: %v", c.filter, err)
		}
	}
}

// FuzzFilter: whatever strangers write, it is refused or evaluated, soon and without a panic.
func FuzzFilter(f *testing.F) {
	for _, s := range []string{`event == "a" && data.x > 1`, `data["a"][0] in [1, "b", nil, -2]`, `not (text contains "x")`, `a?.b ?? c`, `data.#.x | f(1)`,
		"true //\n || true", "true /* ) */", `true) || (true`, `"//" != text;`, `1 < data.x <= 2 and -1 not in [+1]`, `data?.a?.["x"] != nil`, `text contains text`} {
		f.Add(s, []byte(`{"x":2,"a":["b"]}`))
	}
	f.Fuzz(func(t *testing.T, source string, data []byte) {
		if CheckFilter(source) != nil {
			return
		}
		filter, err := NewFilter(source)
		if err != nil {
			t.Fatalf("checked and refused: %v", err)
		}
		m := &broker.Message{Channel: "c", Event: "a", Data: data}
		before := bytes.Clone(data)
		first := filter.Match(m)
		if again := filter.Match(m); again != first {
			t.Errorf("%v, then %v", first, again)
		}
		if !bytes.Equal(data, before) {
			t.Error("it wrote to the payload")
		}
		for _, rule := range []string{`event == "a"`, `event != "a"`} { // the operator's, whatever the source is
			d := Delivery{Filter: rule}.Stricter(Delivery{Filter: source})
			if _, err := parse(d.Filter); err != nil {
				t.Errorf("%s can't be read: %v", d.Filter, err)
			}
			both, err := newFilter(filters(rule, source))
			if err != nil {
				t.Fatal(err)
			}
			if want := first && rule == `event == "a"`; both.Match(m) != want {
				t.Errorf("with %s it is %v, want %v", rule, !want, want)
			}
		}
	})
}
