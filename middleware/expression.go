package middleware

import (
	"bytes"
	"strings"
	"sync"
	"unsafe"

	"github.com/tidwall/gjson"

	"sluice/broker"
)

// An expression decides which messages a subscriber wants (docs/stages.md). Expressions come from
// strangers, so they are small, and there is nothing in the language that could loop, call, build or
// fail: evaluating one looks at each of its nodes once at most and, for each field of the payload that it
// names and gets to, once at the payload.
//
// What does not fit is no error. A field that is not there is nothing, and so are all fields of a payload that is
// not JSON. A comparison by order, contains, startsWith and endsWith are false unless both sides are numbers, or texts;
// nothing equals nothing, and differs from everything else, so data.x != 1 is true without an x; what is neither true nor
// false counts as false. Numbers are those of JavaScript: from 2⁵³ on neighbours are equal.
type expression struct {
	test   func(*subject) value
	fields int // of the payload

	subjects sync.Pool
}

// subject is the message that an expression is about, and what is known of its payload so far.
type subject struct {
	message *broker.Message
	json    answer
	known   [maxFields]bool
	fields  [maxFields]value
}

type answer uint8

const (
	unknown answer = iota
	yes
	no
)

// value is what a part of an expression is worth.
type value struct {
	kind kind
	text string // may share the memory of the payload
	num  float64
}

type kind uint8

const (
	nothing kind = iota // also JSON null
	truth               // num is 1 or 0
	number
	text
	structure // a JSON object or array: it equals nothing, not even itself
)

func boolean(b bool) value {
	if b {
		return value{kind: truth, num: 1}
	}
	return value{kind: truth}
}

func (v value) isTrue() bool { return v.kind == truth && v.num == 1 }

func (v value) equals(w value) bool {
	return v.kind == w.kind && v.kind != structure && v.num == w.num && v.text == w.text
}

// match reports whether the expression is true for m. It may be called concurrently.
func (e *expression) match(m *broker.Message) bool {
	s, _ := e.subjects.Get().(*subject)
	if s == nil {
		s = new(subject)
	}
	s.message = m
	is := e.test(s).isTrue()
	s.message, s.json = nil, unknown
	clear(s.known[:e.fields])
	clear(s.fields[:e.fields]) // they would keep the payload
	e.subjects.Put(s)
	return is
}

// payload returns the payload as a text that shares its memory: nobody writes to a message's Data, and no
// value outlives match. A copy for each mention would let a short expression cost many times the payload.
func (s *subject) payload() string {
	return unsafe.String(unsafe.SliceData(s.message.Data), len(s.message.Data))
}

// field returns the field at a gjson path, "" for the payload itself, which is looked up once.
func (s *subject) field(i int, path string) value {
	if !s.known[i] {
		s.known[i] = true
		if s.json == unknown {
			if s.json = no; isJSON(s.message.Data) {
				s.json = yes
			}
		}
		if s.json == yes {
			s.fields[i] = lookUp(s.payload(), path)
		}
	}
	return s.fields[i]
}

func lookUp(json, path string) value {
	var r gjson.Result
	if path == "" {
		r = gjson.Parse(json)
	} else {
		r = gjson.Get(json, path)
	}
	switch r.Type {
	case gjson.True, gjson.False:
		return boolean(r.Type == gjson.True)
	case gjson.Number:
		return value{kind: number, num: r.Num}
	case gjson.String:
		return value{kind: text, text: r.Str}
	case gjson.JSON:
		return value{kind: structure}
	}
	return value{}
}

// gjsonPath makes a gjson path of the names of a field and of those that it is in. Nothing in them has the meaning that
// gjson's own syntax (modifiers, queries, wildcards) gives it.
func gjsonPath(names []string) string {
	escaped := make([]string, len(names))
	for i, n := range names {
		escaped[i] = gjson.Escape(n)
	}
	return strings.Join(escaped, ".")
}

// maxNesting is how deep JSON may be nested to be read. gjson.Valid calls itself for each level: a payload of
// nothing but brackets would take gigabytes of stack, and the process with it.
const maxNesting = 1000

// isJSON reports whether data is JSON that is not nested too deep to be read. gjson reads nonsense without complaint, so
// nothing is looked up in what has not been checked.
func isJSON(data []byte) bool { return !tooDeep(data) && gjson.ValidBytes(data) }

func tooDeep(data []byte) bool {
	if len(data) <= maxNesting || bytes.Count(data, []byte{'['})+bytes.Count(data, []byte{'{'}) <= maxNesting {
		return false // nearly always: counting is some 20 times as fast as looking
	}
	depth, quoted := 0, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '[' || c == '{':
			if depth++; depth > maxNesting {
				return true
			}
		case c == ']' || c == '}':
			depth--
		}
	}
	return false
}
