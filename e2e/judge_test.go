package e2e

import (
	"fmt"
	"strings"
	"testing"
)

// TestJudge: the judge of all other tests finds what it is there to find.
func TestJudge(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		got  string // what the client got of a b c d, G for a gap, I for an interruption
		want string // lost silent duplicated misordered foreign
	}{
		{"all", "abcd", "0 0 0 0 0"},
		{"nothing", "", "4 4 0 0 0"},
		{"one is missing", "abd", "1 1 0 0 0"},
		{"the first is missing", "bcd", "1 1 0 0 0"},
		{"the last is missing", "abc", "1 1 0 0 0"},
		{"a gap in its place", "aGd", "2 0 0 0 0"},
		{"a gap at the end", "abG", "2 0 0 0 0"},
		{"a gap in another place", "aGbd", "1 1 0 0 0"},
		{"an interruption excuses nothing durable", "aId", "2 2 0 0 0"},
		{"twice in a row", "abbcd", "0 0 1 0 0"},
		{"twice, later", "abcda", "0 0 1 0 0"},
		{"swapped", "acbd", "1 1 0 1 0"},
		{"unknown", "abxcd", "0 0 0 0 1"},
	} {
		l := newLedger()
		for i, data := range []string{"c", "a", "d", "b"} { // acknowledged in any order
			l.ack("ch", data, fmt.Sprintf("%d-0-0000", 100+strings.Index("abcd", data)), i == 0)
		}
		l.ack("other", "o", "100-0-0000", false)
		var got []received
		for _, c := range tt.got {
			switch c {
			case 'G':
				got = append(got, received{gap: &body{Channel: "ch", Reason: "truncated"}})
			case 'I':
				got = append(got, received{gap: &body{Channel: "ch", Reason: "interrupted"}})
			default:
				got = append(got, received{data: string(c)})
			}
			got = append(got, received{gap: &body{Channel: "other", Reason: "truncated"}})
		}
		v := l.judge(got, []string{"ch"})
		if got := fmt.Sprint(v.lost, v.silent, v.duplicated, v.misordered, v.foreign); got != tt.want {
			t.Errorf("%s (%s): got %s, want %s", tt.name, tt.got, got, tt.want)
		}
	}
}
