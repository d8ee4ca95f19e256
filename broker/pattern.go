package broker

import (
	"errors"
	"fmt"
	"strings"
)

// Pattern matches channel names: an exact name, or one in which each * stands for any run of
// characters, none included. Matching takes time linear in the name: channel names come from strangers.
type Pattern struct {
	text  string
	parts []string // what stands between the stars
}

// ParsePattern reads a pattern: the characters of channel names, and stars.
func ParsePattern(text string) (Pattern, error) {
	if text == "" {
		return Pattern{}, errors.New(`it is empty; write a channel name, with * for any run of characters`)
	}
	parts := strings.Split(text, "*")
	for _, p := range parts {
		if err := CheckChannel(p); p != "" && err != nil {
			return Pattern{}, fmt.Errorf("%w; write a channel name, with * for any run of characters", err)
		}
	}
	return Pattern{text: text, parts: parts}, nil
}

// String returns the pattern as it was written.
func (p Pattern) String() string { return p.text }

// Match reports whether the whole of name fits the pattern.
//
// The first part has to stand at the start and the last at the end; each part between goes to the
// leftmost place where it fits, which leaves most room for those after it, so nothing is tried twice.
func (p Pattern) Match(name string) bool {
	last := len(p.parts) - 1
	if last < 1 {
		return name == p.text
	}
	rest, ok := strings.CutPrefix(name, p.parts[0])
	if !ok {
		return false
	}
	for _, part := range p.parts[1:last] {
		_, after, found := strings.Cut(rest, part)
		if !found {
			return false
		}
		rest = after
	}
	return strings.HasSuffix(rest, p.parts[last])
}
