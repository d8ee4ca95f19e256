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
		v := l.judge(got, []string{"ch"}, nil)
		if got := fmt.Sprint(v.lost, v.silent, v.duplicated, v.misordered, v.foreign); got != tt.want {
			t.Errorf("%s (%s): got %s, want %s", tt.name, tt.got, got, tt.want)
		}
	}
}

// TestJudgeUnderTerms: the same where messages may be filtered and conflated. The channel has
// a1 a2 b1 a3 b2 -1 -2: the letter is the key, the last two have none; a2 and -1 are noise.
func TestJudgeUnderTerms(t *testing.T) {
	t.Parallel()
	all := []string{"a1", "a2", "b1", "a3", "b2", "-1", "-2"}
	quoteOf := func(by string) string {
		q := quote{By: by, Symbol: strings.TrimPrefix(by[:1], "-"), Event: "trade"}
		if by == "a2" || by == "-1" {
			q.Event = "noise"
		}
		return q.outgoing("ch").data
	}
	byKey, latest := terms{conflate: "key"}, terms{conflate: "latest"}
	quiet := terms{filters: []string{`event != "noise"`}}
	quietByKey := terms{filters: quiet.filters, conflate: "key"}
	lenient := terms{filters: quiet.filters, lenient: true}
	for _, tt := range []struct {
		name  string
		under terms
		got   string
		want  string // lost silent duplicated misordered unwanted superseded
	}{
		{"all, none asked for less", terms{}, "a1 a2 b1 a3 b2 -1 -2", "0 0 0 0 0 0"},
		{"all, though it may be less", byKey, "a1 a2 b1 a3 b2 -1 -2", "0 0 0 0 0 0"},
		{"the newest of each key", byKey, "a3 b2 -1 -2", "0 0 0 0 0 3"},
		{"one that was superseded later", byKey, "a2 a3 b2 -1 -2", "0 0 0 0 0 2"},
		{"the newest of a key is missing", byKey, "a1 a2 b2 -1 -2", "1 1 0 0 0 1"},
		{"a key is missing", byKey, "a3 -1 -2", "2 2 0 0 0 2"},
		{"a gap for it", byKey, "G b2 -1 -2", "3 0 0 0 0 1"},
		{"one without a key is missing", byKey, "a3 b2 -2", "1 1 0 0 0 3"},
		{"not in order", byKey, "b1 a2 a3 b2 -1 -2", "0 0 0 1 0 2"},
		{"newer before older", byKey, "b2 a3 -1 -2", "1 1 0 1 0 3"},
		{"twice", byKey, "a3 a3 b2 -1 -2", "0 0 1 0 0 3"},
		{"twice, across others", byKey, "a3 b2 a3 -1 -2", "0 0 1 0 0 3"},
		{"the newest", latest, "-2", "0 0 0 0 0 6"},
		{"some and the newest", latest, "b1 -2", "0 0 0 0 0 5"},
		{"not the newest", latest, "-1", "1 1 0 0 0 5"},
		{"filtered", quiet, "a1 b1 a3 b2 -2", "0 0 0 0 0 0"},
		{"filtered, one is missing", quiet, "a1 b1 b2 -2", "1 1 0 0 0 0"},
		{"not filtered", quiet, "a1 a2 b1 a3 b2 -2", "0 0 0 0 1 0"},
		{"not filtered, which may be", lenient, "a1 a2 b1 a3 b2 -2", "0 0 0 0 0 0"},
		{"one is missing that no filter drops", lenient, "a1 a2 a3 b2 -2", "1 1 0 0 0 0"},
		{"filtered and conflated", quietByKey, "b1 a3 b2 -2", "0 0 0 0 0 1"},
		{"what is filtered supersedes nothing", quietByKey, "a2 b2 -2", "2 2 0 0 1 1"},
	} {
		l := newLedger()
		for i, by := range all {
			l.ack("ch", quoteOf(by), fmt.Sprintf("%d-0-0000", 100+i), false)
		}
		var got []received
		for by := range strings.FieldsSeq(tt.got) {
			if by == "G" {
				got = append(got, received{gap: &body{Channel: "ch", Reason: "truncated"}})
				continue
			}
			got = append(got, received{data: quoteOf(by)})
		}
		v := l.judge(got, []string{"ch"}, map[string]terms{"ch": tt.under})
		if got := fmt.Sprint(v.lost, v.silent, v.duplicated, v.misordered, v.unwanted, v.superseded); got != tt.want {
			t.Errorf("%s (%s): got %s, want %s", tt.name, tt.got, got, tt.want)
		}
	}
}
