package wsframe

import "unicode/utf8"

// textState is where a text stands that is checked piece by piece: at the end of a character, or
// within one. utf8.Valid can't be asked about a piece that ends within a character, and to wait for
// the rest would mean to notice late what can't become valid any more.
type textState uint8

// The states within a character: what bytes may follow. Some first bytes narrow the second one, so
// that overlong forms, surrogates and numbers over U+10FFFF are never valid.
const (
	textBoundary textState = iota // at the end of a character
	textTail1                     // one more byte
	textTail2
	textTail3
	textAfterE0 // not overlong
	textAfterED // not a surrogate
	textAfterF0 // not overlong
	textAfterF4 // not over U+10FFFF
	textInvalid
)

// textNext says for each state within a character which bytes may come and what state is next.
var textNext = [textInvalid]struct {
	low, high byte
	next      textState
}{
	textTail1:   {0x80, 0xbf, textBoundary},
	textTail2:   {0x80, 0xbf, textTail1},
	textTail3:   {0x80, 0xbf, textTail2},
	textAfterE0: {0xa0, 0xbf, textTail1},
	textAfterED: {0x80, 0x9f, textTail1},
	textAfterF0: {0x90, 0xbf, textTail2},
	textAfterF4: {0x80, 0x8f, textTail2},
}

// complete reports whether the text may end here.
func (s *textState) complete() bool { return *s == textBoundary }

// advance takes the next bytes of the text and reports whether it can still be valid.
func (s *textState) advance(p []byte) bool {
	for *s != textBoundary && len(p) > 0 {
		if *s = s.step(p[0]); *s == textInvalid {
			return false
		}
		p = p[1:]
	}
	// All but a character that p cuts off goes to utf8.Valid, which is fast.
	whole := len(p) - cutOff(p)
	if !utf8.Valid(p[:whole]) {
		return false
	}
	for _, c := range p[whole:] {
		if *s = s.step(c); *s == textInvalid {
			return false
		}
	}
	return true
}

// step returns the state after one byte.
func (s textState) step(c byte) textState {
	if s != textBoundary {
		if n := textNext[s]; n.low <= c && c <= n.high {
			return n.next
		}
		return textInvalid
	}
	switch {
	case c < utf8.RuneSelf:
		return textBoundary
	case c < 0xc2: // continuation bytes, and overlong forms of ASCII
		return textInvalid
	case c < 0xe0:
		return textTail1
	case c == 0xe0:
		return textAfterE0
	case c == 0xed:
		return textAfterED
	case c < 0xf0:
		return textTail2
	case c == 0xf0:
		return textAfterF0
	case c < 0xf4:
		return textTail3
	case c == 0xf4:
		return textAfterF4
	}
	return textInvalid
}

// cutOff returns how many bytes at the end of p begin a character without ending it: 0 to 3.
func cutOff(p []byte) int {
	for n := 1; n < utf8.UTFMax && n <= len(p); n++ {
		if c := p[len(p)-n]; utf8.RuneStart(c) {
			if !utf8.FullRune(p[len(p)-n:]) {
				return n
			}
			break
		}
	}
	return 0
}
