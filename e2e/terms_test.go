package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// wish is what a client asks for, in the words of docs/protocol.md.
type wish struct{ rate, batch, conflate, filter string }

// fields returns the query parameters, or the fields of a command.
func (w wish) fields() map[string]string {
	out := map[string]string{}
	for name, value := range map[string]string{"rate": w.rate, "batch": w.batch, "conflate": w.conflate, "filter": w.filter} {
		if value != "" {
			out[name] = value
		}
	}
	return out
}

func (w wish) String() string {
	var parts []string
	for name, value := range w.fields() {
		parts = append(parts, name+"="+value)
	}
	slices.Sort(parts)
	return "{" + strings.Join(parts, " ") + "}"
}

// rule is the policy of a channel in the settings file.
type rule struct {
	wish
	slow string // what becomes of those who can't keep up: "RING THEN"; "": nothing is said
}

// settings is the settings file of a node: rules by channel. The file outlives restarts of the node.
type settings struct {
	path    string
	version int // of the rules; see rig.change
	writes  int // see rig.hurry
}

// newSettings writes a file with the given rules.
func newSettings(t *testing.T, rules map[string]rule) *settings {
	t.Helper()
	s := &settings{path: filepath.Join(t.TempDir(), "sluice.yaml")}
	s.write(t, rulesText(rules))
	return s
}

// write replaces the file in one step, as editors and config maps do.
func (s *settings) write(t *testing.T, text string) {
	t.Helper()
	if err := os.WriteFile(s.path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(s.path+".new", s.path); err != nil {
		t.Fatal(err)
	}
}

// rulesText is the file for the given rules.
func rulesText(rules map[string]rule) string {
	if len(rules) == 0 {
		return "# no rules\n"
	}
	var b strings.Builder
	b.WriteString("channels:\n")
	for channel, r := range rules {
		fmt.Fprintf(&b, "  - match: %q\n", channel)
		var deliver []string
		for name, value := range r.fields() {
			if name == "batch" {
				window, messages, _ := strings.Cut(value, ",")
				value = "{window: " + window
				if messages != "" {
					value += ", messages: " + messages
				}
				deliver = append(deliver, "batch: "+value+"}")
				continue
			}
			deliver = append(deliver, fmt.Sprintf("%s: '%s'", name, value))
			if value == "key" {
				deliver = append(deliver, "key: /symbol")
			}
		}
		if len(deliver) > 0 {
			fmt.Fprintf(&b, "    deliver: {%s}\n", strings.Join(deliver, ", "))
		}
		if ring, then, ok := strings.Cut(r.slow, " "); ok {
			fmt.Fprintf(&b, "    slow: {ring: %s, then: %s}\n", ring, then)
		}
	}
	return b.String()
}

// filters are the expressions that the tests use, and what they mean.
var filters = map[string]func(*quote) bool{
	`event != "noise"`:                       func(q *quote) bool { return q.Event != "noise" },
	`data.side == "buy"`:                     func(q *quote) bool { return q.Side == "buy" },
	`event == "trade" && data.side == "buy"`: func(q *quote) bool { return q.Event == "trade" && q.Side == "buy" },
}

// terms are what is in force for a client on a channel, as far as that says which messages it gets.
// The zero value is all of them.
type terms struct {
	filters  []string
	conflate string // "", key or latest
	lenient  bool   // policies change: what they drop may come, and what they let through must
}

// termsOf returns what the wish of a client and the policy of a channel make together.
func termsOf(ws ...wish) (t terms) {
	for _, w := range ws {
		if w.filter != "" {
			if filters[w.filter] == nil {
				panic("no meaning of the filter " + w.filter)
			}
			t.filters = append(t.filters, w.filter)
		}
		if w.conflate == "latest" || w.conflate == "key" && t.conflate == "" {
			t.conflate = w.conflate
		}
	}
	return t
}

// wants reports whether a message passes the filters.
func (t *terms) wants(q *quote) bool {
	for _, f := range t.filters {
		if !filters[f](q) {
			return false
		}
	}
	return true
}

// owed reports for each of the messages whether it must have come: it passes the filters, and none
// that supersedes it has come.
func (t *terms) owed(es []entry, index map[string]int, got []received) []bool {
	came := make([]bool, len(es))
	for _, r := range got {
		if r.gap == nil {
			came[index[r.data]] = true
		}
	}
	owed, newer, newest := make([]bool, len(es)), map[string]bool{}, false
	for i, e := range slices.Backward(es) {
		q := &e.quote
		wanted := t.wants(q)
		switch t.conflate {
		case "":
			owed[i] = wanted
		case "key":
			owed[i] = wanted && (q.Symbol == "" || !newer[q.Symbol])
		case "latest":
			owed[i] = wanted && !newest
		}
		if !wanted && !t.lenient {
			continue
		}
		newer[q.Symbol] = newer[q.Symbol] || came[i]
		newest = newest || came[i]
	}
	return owed
}
