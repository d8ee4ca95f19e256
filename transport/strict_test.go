package transport

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
)

func nested(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }

func TestCheckJSON(t *testing.T) {
	const deep, twice = "it is nested more than 64 deep", "a member is there twice"
	for _, row := range []struct{ name, in, want, why string }{
		{"command", `{"type":"subscribe","ref":1,"channels":["a","b"]}`, "", ""},
		{"deepest", `{"data":` + nested(63) + `}`, "", "64 deep in all"},
		{"deeper", `{"data":` + nested(64) + `}`, deep, "65 deep in all"},
		{"wide", `{"data":[` + strings.Repeat("[],", 1000) + `[]]}`, "", "what has ended does not count"},
		{"brackets in a string", `{"data":"` + strings.Repeat("[{", 100) + `"}`, "", "they are text"},
		{"brackets after an escaped quote", `{"data":"\"` + strings.Repeat("[", 100) + `"}`, "", "the string goes on"},
		{"brackets after an escaped backslash", `{"data":"\\",` + `"x":` + nested(64) + `}`, deep, "the string has ended"},
		{"twice", `{"type":"ping","type":"publish"}`, twice, "which one counts?"},
		{"twice by case", `{"type":"ping","Type":"publish"}`, twice, "encoding/json takes both"},
		{"twice with space", "{\"type\" \n:1,\t\"type\"\r:2}", twice, ""},
		{"twice by escape", `{"type":"ping","\u0074ype":"publish"}`, "a member's name has an escape in it", "it would be the same name"},
		{"twice deeper", `{"data":{"a":1,"a":2}}`, "", "payloads are the publisher's business"},
		{"the same as a value", `{"a":"b","b":"a"}`, "", "a value is no name"},
		{"many", `{` + manyKeys(25) + `}`, "it has too many members", "ours have fewer"},
		{"no JSON", `{"a`, "", "that is for encoding/json to say"},
		{"a quote at the end", `{"a":"\`, "", "nothing is read beyond the end"},
		{"nothing", ``, "", ""},
	} {
		if got := checkJSON([]byte(row.in), 1); got != row.want {
			t.Errorf("%s: got %q, want %q: %s", row.name, got, row.want, row.why)
		}
	}
}

func manyKeys(n int) string {
	var all []string
	for i := range n {
		all = append(all, `"k`+string('a'+rune(i))+`":1`)
	}
	return strings.Join(all, ",")
}

// On whatever is JSON, checkJSON says what a real parser finds.
func FuzzCheckJSON(f *testing.F) {
	for _, s := range []string{`{"a":1,"A":2}`, `{"a":{"b":[1,"x\"}"]},"c":2}`, `[` + nested(64) + `]`, `{"a\"":1,"a\\":2}`, `{"ſ":1,"s":2}`, `{"a":"a","b":{"a":1}}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got := checkJSON(b, 1)
		if !json.Valid(b) {
			return
		}
		if want := parseJSON(t, b); (got != "") != want {
			t.Errorf("%q: got %q, want a refusal: %t", b, got, want)
		}
	})
}

// parseJSON reports whether b is to be refused, by encoding/json's own tokens.
func parseJSON(t *testing.T, b []byte) bool {
	d := json.NewDecoder(bytes.NewReader(b))
	var names []string
	object, depth, isName := false, 0, false // object: the outermost value is one
	for {
		before := d.InputOffset()
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return false
		}
		if err != nil {
			t.Skip() // nested beyond what it takes, or a number that it does not
		}
		switch token {
		case json.Delim('{'), json.Delim('['):
			if depth++; depth > maxDepth {
				return true
			}
			object = object || depth == 1 && token == json.Delim('{')
			isName = depth == 1 && object
			continue
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
		if depth != 1 || !object {
			continue
		}
		if isName = !isName; isName {
			continue // it was a value, or the end of one
		}
		name := token.(string)
		if bytes.IndexByte(b[before:d.InputOffset()], '\\') >= 0 || slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, name) }) {
			return true
		}
		if names = append(names, name); len(names) > maxKeys {
			return true
		}
	}
}

// What is nested too deeply or ambiguous is refused on every way in.
func TestStrictJSON(t *testing.T) {
	n := newNode(t, nil)
	ws := n.ws("", subprotocolJSON)
	ws.want("welcome")
	for _, row := range []struct{ name, body string }{
		{"deep", `{"channel":"a","data":` + nested(64) + `}`},
		{"very deep", `{"channel":"a","data":` + nested(9000) + `}`},
		{"twice", `{"channel":"a","data":1,"channel":"b"}`},
		{"twice by case", `{"channel":"a","data":1,"CHANNEL":"b"}`},
	} {
		for _, array := range []bool{false, true} {
			body := row.body
			if array {
				body = "[" + body + "]"
			}
			status, answer := n.post("/publish", "application/json", body)
			if status != 400 && status != 207 || !strings.Contains(string(answer), `"code":"bad_request"`) {
				t.Errorf("%s, array %t: got %d %s", row.name, array, status, answer)
			}
		}
		ws.send(`{"type":"publish","ref":7,` + row.body[1:])
		if f := ws.want("error"); f.Code != string(BadRequest) || f.Ref != 7.0 {
			t.Errorf("%s: got %+v", row.name, f)
		}
	}
	if status, answer := n.post("/publish", "application/json", `{"channel":"a","data":`+nested(63)+`}`); status != 200 {
		t.Errorf("64 deep: got %d %s", status, answer)
	}
}

func BenchmarkCheckJSON(b *testing.B) {
	for name, in := range map[string]string{
		"command":  `{"type":"subscribe","ref":12345,"channels":["news","chat:7"]}`,
		"string1M": `{"channel":"a","data":"` + strings.Repeat("x", 1<<20) + `"}`,
		"nested1M": `{"channel":"a","data":[` + strings.Repeat(`{"a":1},`, 1<<17) + `1]}`,
	} {
		b.Run(name, func(b *testing.B) {
			text := []byte(in)
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				if bad := checkJSON(text, 1); bad != "" {
					b.Fatal(bad)
				}
			}
		})
	}
}
