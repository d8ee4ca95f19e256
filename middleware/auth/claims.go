package auth

import (
	"strings"
	"time"

	"sluice/broker"
)

// Claims are what a token says, checked and typed. They are immutable.
type Claims struct {
	Subject string    // sub; "" if it has none
	ID      string    // jti; "" if it has none
	Issued  time.Time // iat; zero if it has none
	Expires time.Time // exp; never zero

	// Access of a token for connections.
	Subscribe   Patterns
	Publish     Patterns
	Rate        float64 // messages published and commands a second; 0: what the node's settings say
	Connections int     // at once, of the subject; 0: what the node's settings say
	NoHistory   bool    // history: false. Only what is published from now on
	Trace       bool    // may ask for traces of all its messages

	// Channel is what a token for one subscription is for; "" on all others. Such a token gives nothing else.
	Channel string
}

// Patterns are channel patterns as tokens, keys and webhooks have them: broker.Pattern, with {sub} for the subject.
// The zero value matches nothing.
type Patterns []string

// Limits of patterns, which come from issuers, and of what they cost: matching is linear in their bytes.
const (
	MaxPatterns = 100 // in one list
	MaxPattern  = 256 // bytes of one
)

// subjectMark stands for the subject in a pattern.
const subjectMark = "{sub}"

// CheckPatterns returns an error, the end of a sentence, for a list that is too long or has something in it that is no pattern.
func CheckPatterns(list []string) error {
	_, err := compile(list, "x")
	return err
}

// compile makes patterns of a list, for one subject. With a subject of "" those with {sub} are left out: they are nobody's.
func compile(list Patterns, subject string) ([]broker.Pattern, error) {
	if len(list) > MaxPatterns {
		return nil, refuse(Unauthorized, "it has more patterns than a list may have")
	}
	out := make([]broker.Pattern, 0, len(list))
	for _, text := range list {
		if len(text) > MaxPattern {
			return nil, refuse(Unauthorized, "a pattern in it is too long")
		}
		if strings.Contains(text, subjectMark) {
			if !standsAlone(text) {
				return nil, refuse(Unauthorized, "in a pattern in it {sub} is not between separators: put the beginning, the end, or one of : / . on each side of it")
			}
			if subject == "" {
				continue
			}
			text = strings.ReplaceAll(text, subjectMark, EscapeSubject(subject))
		}
		p, err := broker.ParsePattern(text)
		if err != nil {
			return nil, refuse(Unauthorized, "a pattern in it is not one: channel names, with * for any run of characters and {sub} for the subject")
		}
		out = append(out, p)
	}
	return out, nil
}

// separators are what {sub} has to stand between, and what no escaped subject has.
const separators = ":/."

// standsAlone reports whether each {sub} in a pattern stands between separators. user-{sub}-* of a would have the channels of a-b.
func standsAlone(pattern string) bool {
	parts := strings.Split(pattern, subjectMark)
	for i, p := range parts {
		if i > 0 && p != "" && !strings.Contains(separators, p[:1]) || i < len(parts)-1 && p != "" && !strings.Contains(separators, p[len(p)-1:]) {
			return false
		}
		if p == "" && i > 0 && i < len(parts)-1 { // one follows the other
			return false
		}
	}
	return true
}

// EscapeSubject writes a subject as {sub} stands for it: bytes other than A-Z a-z 0-9 _ - @ as ~ and two hexadecimal digits. So
// no subject has a star or a separator in it, and two subjects never share a personal channel.
func EscapeSubject(subject string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(subject) {
		c := subject[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '_', c == '-', c == '@':
			b.WriteByte(c)
		default:
			b.WriteByte('~')
			b.WriteByte(hex[c>>4])
			b.WriteByte(hex[c&15])
		}
	}
	return b.String()
}
