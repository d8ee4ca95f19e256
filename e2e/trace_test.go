package e2e

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// trace is a trace as Jaeger's API tells it.
type trace struct {
	ID        string             `json:"traceID"`
	Spans     []*span            `json:"spans"` // by start
	Processes map[string]sending `json:"processes"`
	Warnings  []string           `json:"warnings"`

	t *testing.T
}

// sending is who sent spans: the resource of its SDK.
type sending struct {
	Service string `json:"serviceName"`
	Tags    []tag  `json:"tags"`
}

// span is one of its spans. Links are references, and so is the parent.
type span struct {
	TraceID    string      `json:"traceID"`
	ID         string      `json:"spanID"`
	Name       string      `json:"operationName"`
	References []reference `json:"references"`
	Start      int64       `json:"startTime"` // microseconds since 1970; see begin
	Duration   int64       `json:"duration"`  // microseconds; see took
	Tags       []tag       `json:"tags"`      // attributes, span.kind, otel.status_code
	Logs       []logged    `json:"logs"`      // events
	ProcessID  string      `json:"processID"`
	Warnings   []string    `json:"warnings"` // of Jaeger, such as on clocks

	trace *trace
}

type reference struct {
	Type    string `json:"refType"` // childOf or followsFrom
	TraceID string `json:"traceID"`
	SpanID  string `json:"spanID"`
}

const (
	childOf     = "CHILD_OF"     // its parent
	followsFrom = "FOLLOWS_FROM" // a link
)

type tag struct {
	Key   string `json:"key"`
	Value value  `json:"value"`
}

type logged struct {
	Timestamp int64 `json:"timestamp"`
	Fields    []tag `json:"fields"`
}

// value is a tag's value as text: a number as it was sent, without quotes for a string.
type value string

func (v *value) UnmarshalJSON(b []byte) error {
	if bytes.HasPrefix(b, []byte(`"`)) {
		return json.Unmarshal(b, (*string)(v))
	}
	*v = value(b)
	return nil
}

// prepare makes the methods work on what was read.
func (tr *trace) prepare(t *testing.T) *trace {
	tr.t = t
	for _, s := range tr.Spans {
		s.trace = tr
	}
	slices.SortStableFunc(tr.Spans, func(a, b *span) int {
		return cmp.Or(cmp.Compare(a.Start, b.Start), cmp.Compare(a.Name, b.Name))
	})
	return tr
}

// begin returns the start of the first span.
func (tr *trace) begin() time.Time { return tr.Spans[0].begin() }

// named returns the spans of this name, by start.
func (tr *trace) named(name string) []*span { return named(tr.Spans, name) }

// only returns the one span of this name; the test ends here if there is none or another one.
func (tr *trace) only(name string) *span {
	tr.t.Helper()
	return tr.one(tr.Spans, name)
}

func (tr *trace) one(of []*span, name string) *span {
	tr.t.Helper()
	found := named(of, name)
	if len(found) != 1 {
		tr.t.Fatalf("%d spans are called %q, want one:\n%v", len(found), name, tr)
	}
	return found[0]
}

func named(spans []*span, name string) (found []*span) {
	for _, s := range spans {
		if s.Name == name {
			found = append(found, s)
		}
	}
	return found
}

// roots returns the spans whose parent is not here: of a whole trace, one that has none.
func (tr *trace) roots() (roots []*span) {
	for _, s := range tr.Spans {
		if s.parent() == nil {
			roots = append(roots, s)
		}
	}
	return roots
}

// span returns a span by its id, nil if it is not here.
func (tr *trace) span(id string) *span {
	for _, s := range tr.Spans {
		if s.ID == id {
			return s
		}
	}
	return nil
}

// parent returns the span that it is a child of, nil if there is none or if it is not here.
func (s *span) parent() *span {
	if p := s.parentID(); p != "" {
		return s.trace.span(p)
	}
	return nil
}

// parentID returns the id of the span that it is a child of, wherever that is; "" if there is none.
func (s *span) parentID() string {
	for _, r := range s.References {
		if r.Type == childOf && r.TraceID == s.TraceID {
			return r.SpanID
		}
	}
	return ""
}

// children returns the spans that are its children, by start.
func (s *span) children() (all []*span) {
	for _, c := range s.trace.Spans {
		if c.parentID() == s.ID {
			all = append(all, c)
		}
	}
	return all
}

// child returns its one child of this name; the test ends here if there is none or another one.
func (s *span) child(name string) *span {
	s.trace.t.Helper()
	return s.trace.one(s.children(), name)
}

// links returns its references to spans that are not its parent, of this trace or another.
func (s *span) links() (all []reference) {
	for _, r := range s.References {
		if r.Type == followsFrom {
			all = append(all, r)
		}
	}
	return all
}

// begin and end are by the clock of who sent it, to the microsecond, unless Jaeger has moved it.
func (s *span) begin() time.Time    { return time.UnixMicro(s.Start) }
func (s *span) end() time.Time      { return s.begin().Add(s.took()) }
func (s *span) took() time.Duration { return time.Duration(s.Duration) * time.Microsecond }

// service returns the name of the service that sent it.
func (s *span) service() string { return s.trace.Processes[s.ProcessID].Service }

// kind returns server, client, producer, consumer or internal.
func (s *span) kind() string { return s.tag("span.kind") }

// tag returns an attribute as text, "" if there is none.
func (s *span) tag(key string) string { return valueOf(s.Tags, key) }

// resource returns an attribute of who sent it, "" if there is none.
func (s *span) resource(key string) string { return valueOf(s.trace.Processes[s.ProcessID].Tags, key) }

func valueOf(tags []tag, key string) string {
	for _, t := range tags {
		if t.Key == key {
			return string(t.Value)
		}
	}
	return ""
}

// wants fails the test if the kind or one of these attributes is another one; "" is one that is not there.
func (s *span) wants(kind string, tags map[string]string) {
	s.trace.t.Helper()
	if s.kind() != kind {
		s.trace.t.Errorf("%s is of the kind %q, want %q", s.Name, s.kind(), kind)
	}
	for key, want := range tags {
		if got := s.tag(key); got != want {
			s.trace.t.Errorf("%s has %s=%q, want %q", s.Name, key, got, want)
		}
	}
}

// wantsTree fails the test if the names of the spans do not make this tree: a name a line, children below their parent
// and one tab further in, in the order of their starts.
func (tr *trace) wantsTree(want string) {
	tr.t.Helper()
	var got strings.Builder
	tr.walk(func(s *span, depth int) { got.WriteString(strings.Repeat("\t", depth) + s.Name + "\n") })
	if want = strings.Trim(want, "\n") + "\n"; got.String() != want {
		tr.t.Errorf("got the tree\n%s\nwant\n%s\n%v", got.String(), want, tr)
	}
}

// shape is the tree with siblings in the order of their texts, since those of several sessions or nodes have no other: a span a line,
// with its kind where that is not internal, these attributes where it has them, by the last part of their names, and what it is linked to.
func (tr *trace) shape(show ...string) string {
	var text func(s *span, indent string) string
	text = func(s *span, indent string) string {
		line := indent + s.Name
		if k := s.kind(); k != "internal" {
			line += " [" + k + "]"
		}
		for _, key := range show {
			if v := s.tag(key); v != "" {
				line += " " + key[strings.LastIndexByte(key, '.')+1:] + "=" + v
			}
		}
		if n := len(s.links()); n > 0 {
			line += fmt.Sprintf(" →%d", n)
		}
		var below []string
		for _, c := range s.children() {
			below = append(below, text(c, indent+"\t"))
		}
		slices.Sort(below)
		return line + "\n" + strings.Join(below, "")
	}
	var roots []string
	for _, s := range tr.roots() {
		roots = append(roots, text(s, ""))
	}
	slices.Sort(roots)
	return strings.Join(roots, "")
}

// wantsShape fails the test if the shape is another one. What is in front of the first line of want is in front of all.
func (tr *trace) wantsShape(want string, show ...string) {
	tr.t.Helper()
	want = strings.TrimLeft(want, "\n")
	margin := want[:len(want)-len(strings.TrimLeft(want, "\t"))]
	var lines []string
	for line := range strings.Lines(strings.TrimRight(want, "\n\t") + "\n") {
		lines = append(lines, strings.TrimPrefix(line, margin))
	}
	if got := tr.shape(show...); got != strings.Join(lines, "") {
		tr.t.Errorf("got the spans\n%s\nwant\n%s\n%v", got, strings.Join(lines, ""), tr)
	}
}

// wantsNoWarnings fails the test if Jaeger has found something odd.
func (tr *trace) wantsNoWarnings() {
	tr.t.Helper()
	for _, w := range tr.Warnings {
		tr.t.Errorf("jaeger warns: %s", w)
	}
	for _, s := range tr.Spans {
		for _, w := range s.Warnings {
			tr.t.Errorf("jaeger warns of %s: %s", s.Name, w)
		}
	}
}

// walk visits all spans, parents before children.
func (tr *trace) walk(visit func(s *span, depth int)) {
	var below func(s *span, depth int)
	below = func(s *span, depth int) {
		visit(s, depth)
		for _, c := range s.children() {
			below(c, depth+1)
		}
	}
	for _, s := range tr.roots() {
		below(s, 0)
	}
}

// String is the trace as a tree, with times since its begin and everything that is known of each span.
func (tr *trace) String() string {
	if tr == nil {
		return "no trace"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "trace %s, %d spans, from %s\n", tr.ID, len(tr.Spans), tr.begin().Format(time.TimeOnly+".000000"))
	tr.walk(func(s *span, depth int) {
		indent := strings.Repeat("    ", depth+1)
		fmt.Fprintf(&b, "%s%s (%s, %s) %v + %v %s\n", indent, s.Name, s.kind(), s.service(), s.begin().Sub(tr.begin()), s.took(), s.ID)
		for _, t := range s.Tags {
			if t.Key != "span.kind" {
				fmt.Fprintf(&b, "%s  %s=%s\n", indent, t.Key, t.Value)
			}
		}
		for _, l := range s.Logs {
			fmt.Fprintf(&b, "%s  event at %v: %v\n", indent, time.UnixMicro(l.Timestamp).Sub(tr.begin()), l.Fields)
		}
		for _, r := range s.links() {
			fmt.Fprintf(&b, "%s  link to %s of %s\n", indent, r.SpanID, r.TraceID)
		}
		for _, w := range s.Warnings {
			fmt.Fprintf(&b, "%s  WARNING %s\n", indent, w)
		}
	})
	return b.String()
}
