package broker

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Position is a message's place in its channel's history: a Redis stream ID (milliseconds and
// sequence, XADD) plus a tag of 16 random bits.
//
// Order is (MS, Seq). Identity is all three: after a split brain two masters can have given the
// same stream ID to two messages, and only the tag tells them apart. The zero Position means "none".
type Position struct {
	MS  uint64 // Unix milliseconds by Redis' clock; at most 48 bits
	Seq uint64 // counter within the millisecond
	Tag uint16
}

// ErrPosition says that a text is not a position.
var ErrPosition = errors.New("not a position, want MS-SEQ-TAG such as 1795426843459-0-9f3c")

// IsZero reports whether p is no position at all.
func (p Position) IsZero() bool { return p == Position{} }

// Before reports whether p comes before q. Two positions with the same stream ID and different
// tags are neither before nor after each other.
func (p Position) Before(q Position) bool {
	return p.MS < q.MS || p.MS == q.MS && p.Seq < q.Seq
}

// SameID reports whether p and q share the stream ID, whatever their tags.
func (p Position) SameID(q Position) bool { return p.MS == q.MS && p.Seq == q.Seq }

// StreamID returns the Redis stream ID, "MS-SEQ".
func (p Position) StreamID() string {
	b := strconv.AppendUint(make([]byte, 0, 24), p.MS, 10)
	b = append(b, '-')
	return string(strconv.AppendUint(b, p.Seq, 10))
}

// String returns "MS-SEQ-TAG", the tag as four hex digits; "" for the zero Position.
func (p Position) String() string {
	if p.IsZero() {
		return ""
	}
	return string(p.Append(make([]byte, 0, 24)))
}

// Append appends the text of p, as String returns it, to b.
func (p Position) Append(b []byte) []byte {
	const hex = "0123456789abcdef"
	if p.IsZero() {
		return b
	}
	b = strconv.AppendUint(b, p.MS, 10)
	b = append(b, '-')
	b = strconv.AppendUint(b, p.Seq, 10)
	return append(b, '-', hex[p.Tag>>12], hex[p.Tag>>8&15], hex[p.Tag>>4&15], hex[p.Tag&15])
}

// maxMS keeps the milliseconds within the six bytes that a resume token has for them.
const maxMS = 1<<48 - 1

// ParsePosition reads what String writes. It returns an error that wraps ErrPosition for anything else.
func ParsePosition(s string) (Position, error) {
	ms, rest, ok := strings.Cut(s, "-")
	seq, tag, ok2 := strings.Cut(rest, "-")
	if !ok || !ok2 || len(tag) != 4 || len(s) > 48 {
		return Position{}, fmt.Errorf("position %.20q: %w", s, ErrPosition)
	}
	m, err1 := parseDigits(ms)
	q, err2 := parseDigits(seq)
	t, err3 := strconv.ParseUint(tag, 16, 16)
	if err1 != nil || err2 != nil || err3 != nil || m > maxMS || m == 0 {
		return Position{}, fmt.Errorf("position %.20q: %w", s, ErrPosition)
	}
	return Position{MS: m, Seq: q, Tag: uint16(t)}, nil
}

// parseDigits is ParseUint without the signs and underscores that it forgives.
func parseDigits(s string) (uint64, error) {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, ErrPosition
		}
	}
	return strconv.ParseUint(s, 10, 64)
}
