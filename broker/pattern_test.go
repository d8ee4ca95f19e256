package broker

import (
	"strings"
	"testing"
	"time"
)

func TestPattern(t *testing.T) {
	tests := []struct {
		pattern string
		yes, no []string
	}{
		{"news", []string{"news"}, []string{"", "new", "newss", "xnews"}},
		{"*", []string{"a", "news:1", ""}, nil},
		{"**", []string{"a", "news:1", ""}, nil},
		{"news:*", []string{"news:", "news:1", "news:1:2"}, []string{"news", "xnews:1"}},
		{"*.prices", []string{".prices", "a.prices", "a.prices.prices"}, []string{"prices", "a.prices.x"}},
		{"a*b", []string{"ab", "axb", "abb", "abab"}, []string{"a", "b", "aba", "ba"}},
		{"a*a", []string{"aa", "aba", "aaa"}, []string{"a", "ab"}},
		{"a*b*c", []string{"abc", "a1b2c", "abbcc", "abcbc"}, []string{"acb", "ac", "abcd"}},
		{"*a*", []string{"a", "xax"}, []string{"", "x"}},
		{"*ab*ab", []string{"abab", "xabyab"}, []string{"ab", "aab"}},
	}
	for _, tt := range tests {
		p, err := ParsePattern(tt.pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range tt.yes {
			if !p.Match(name) {
				t.Errorf("%s does not match %q", p, name)
			}
		}
		for _, name := range tt.no {
			if p.Match(name) {
				t.Errorf("%s matches %q", p, name)
			}
		}
	}
	for _, text := range []string{"", "a b", "a?", "[a]", "ü", "a\n", strings.Repeat("a", 201)} {
		if _, err := ParsePattern(text); err == nil {
			t.Errorf("ParsePattern(%q) is accepted", text)
		}
	}
}

// TestPatternTime: with a matcher that tries again this takes longer than the universe has.
func TestPatternTime(t *testing.T) {
	p, err := ParsePattern(strings.Repeat("a*", 100) + "b")
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if name := strings.Repeat("a", 200); p.Match(name) {
		t.Errorf("%s matches %s", p, name)
	}
	if d := time.Since(start); d > time.Second {
		t.Errorf("took %v", d)
	}
}

// matches is Match by its definition: slow, and plainly right.
func matches(pattern, name string) bool {
	ends := make([]bool, len(name)+1) // ends[i]: what was read of the pattern fits name[:i]
	ends[0] = true
	for i := range len(pattern) {
		next := make([]bool, len(name)+1)
		for j := range ends {
			switch {
			case !ends[j]:
			case pattern[i] == '*':
				for k := j; k <= len(name); k++ {
					next[k] = true
				}
			case j < len(name) && name[j] == pattern[i]:
				next[j+1] = true
			}
		}
		ends = next
	}
	return ends[len(name)]
}

func FuzzPattern(f *testing.F) {
	f.Add("a*b*c", "aXbYc")
	f.Add("*ab*ab", "abxab")
	f.Add("**", "")
	f.Fuzz(func(t *testing.T, pattern, name string) {
		p, err := ParsePattern(pattern)
		if err != nil {
			return
		}
		if got, want := p.Match(name), matches(pattern, name); got != want {
			t.Errorf("%q on %q: got %v, want %v", pattern, name, got, want)
		}
	})
}
