package main

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
)

// printable returns s with its control characters, tabs excepted, as Go writes them in strings. What comes from
// elsewhere stays one line then, and nobody can send escape sequences to the terminal of whoever reads it.
func printable(s string) string {
	return escapeControl(s, func(r rune) string {
		if r == '\t' {
			return "\t"
		}
		quoted := strconv.QuoteRune(r)
		return quoted[1 : len(quoted)-1]
	})
}

// jsonEscape does the same for JSON, which has no control characters below space but between
// tokens, and may have the others in strings.
func jsonEscape(r rune) string {
	if r < ' ' {
		return " "
	}
	return fmt.Sprintf(`\u%04x`, r)
}

func escapeControl(s string, escape func(rune) string) string {
	if strings.IndexFunc(s, unicode.IsControl) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if unicode.IsControl(r) {
			b.WriteString(escape(r))
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}
