package wsframe

import (
	"slices"
	"testing"
	"unicode/utf8"
)

// canBecomeValid reports whether p is the beginning of some valid UTF-8, by trying what may be missing
// at its end. It is slow, and knows of UTF-8 only what utf8.Valid knows.
func canBecomeValid(p []byte) bool {
	if utf8.Valid(p) {
		return true
	}
	for _, second := range []byte{0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf} {
		for _, tail := range []string{"", "\x80", "\x80\x80"} {
			if utf8.Valid(append(append(slices.Clone(p), second), tail...)) {
				return true
			}
		}
	}
	return false
}

// TestTextFailsFast: at each byte of each character that can be begun, the state says whether the text
// can still become valid, no later and no sooner. The first two bytes are all that exist, the third
// and fourth those at the edges of the rules.
func TestTextFailsFast(t *testing.T) {
	edges := []byte{0, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc1, 0xc2, 0xdf, 0xe0, 0xe1, 0xec, 0xed,
		0xee, 0xef, 0xf0, 0xf1, 0xf3, 0xf4, 0xf5, 0xf7, 0xf8, 0xfc, 0xfe, 0xff}
	checked := 0
	var try func(prefix []byte, s textState)
	try = func(prefix []byte, s textState) {
		for c := range 256 {
			if len(prefix) > 1 && !slices.Contains(edges, byte(c)) {
				continue
			}
			p := append(slices.Clone(prefix), byte(c))
			next := s
			ok := next.advance(p[len(p)-1:])
			checked++
			if want := canBecomeValid(p); ok != want {
				t.Fatalf("% x: can become valid is %v, want %v", p, ok, want)
			}
			if ok && next.complete() != utf8.Valid(p) {
				t.Fatalf("% x: complete is %v, want %v", p, next.complete(), utf8.Valid(p))
			}
			if ok && !next.complete() {
				try(p, next)
			}
		}
	}
	try(nil, textBoundary)
	if checked < 20_000 {
		t.Errorf("only %d sequences were checked", checked)
	}
}

// TestTextCuts: a text is as valid in two pieces as in one, wherever it is cut.
func TestTextCuts(t *testing.T) {
	for _, text := range []string{"", "plain", "κόσμε", "a€b🙂c", "\U0010ffff", "🙂🙂🙂", "\xed\xa0\x80", "ab\xf4\x90\x80\x80", "\xc0\xaf", "x\x80", "🙂\xf0\x9f\x99"} {
		for cut := range len(text) + 1 {
			var s textState
			ok := s.advance([]byte(text[:cut])) && s.advance([]byte(text[cut:])) && s.complete()
			if want := utf8.ValidString(text); ok != want {
				t.Errorf("%q cut at %d: got %v, want %v", text, cut, ok, want)
			}
		}
	}
}
