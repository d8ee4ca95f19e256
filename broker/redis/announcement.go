package redis

import (
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"sluice/broker"
)

// An announcement is one message on a channel's announcement channel:
//
//	1 PREVIOUS POSITION TIME #EVENT #KEY #TRACE EVENTKEYTRACEPAYLOAD
//
// 1 is the version, TIME Unix microseconds, #… lengths in bytes. Of a live message PREVIOUS and
// POSITION are "-". lua/core.lua writes it, and appendLive.

// maxText is how many bytes event, key and traceparent may have each.
const maxText = 200

// maxHead is more than an announcement can have in front of the payload.
const maxHead = 1024

// maxTime keeps publish times, in microseconds, within what Unix nanoseconds can tell: until 2262.
const maxTime = math.MaxInt64 / 1000

// parseAnnouncement reads what anybody may have written. It reports false unless all of it is right.
func parseAnnouncement(channel, s string) (*broker.Message, bool) {
	m := &broker.Message{Channel: channel}
	s, ok := strings.CutPrefix(s, "1 ")
	if !ok {
		return nil, false
	}
	previous, s, ok1 := strings.Cut(s, " ")
	position, s, ok2 := strings.Cut(s, " ")
	if !ok1 || !ok2 || !setPositions(m, previous, position) {
		return nil, false
	}
	var numbers [4]int64
	for i := range numbers {
		var word string
		if word, s, ok = strings.Cut(s, " "); !ok {
			return nil, false
		}
		if numbers[i], ok = parseNumber(word); !ok {
			return nil, false
		}
	}
	m.Time = publishTime(numbers[0])
	for i, field := range []*string{&m.Event, &m.Key, &m.Trace} {
		n := numbers[i+1]
		if n > maxText || n > int64(len(s)) {
			return nil, false
		}
		*field, s = strings.Clone(s[:n]), s[n:] // the payload's memory must not hang on an event name
	}
	if !deliverable(m) {
		return nil, false
	}
	m.Data = []byte(s)
	return m, true
}

// setPositions reports whether the two make a link of a chain, or are both absent.
func setPositions(m *broker.Message, previous, position string) bool {
	if previous == "-" && position == "-" {
		return true
	}
	var err1, err2 error
	m.Previous, err1 = broker.ParsePosition(previous)
	m.Position, err2 = broker.ParsePosition(position)
	return err1 == nil && err2 == nil && m.Previous.Before(m.Position)
}

// parseNumber reads decimal digits up to maxTime.
func parseNumber(s string) (int64, bool) {
	if s == "" || len(s) > 16 {
		return 0, false
	}
	n := int64(0)
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = n*10 + int64(s[i]-'0')
	}
	return n, n <= maxTime
}

func publishTime(micros int64) time.Time {
	if micros == 0 {
		return time.Time{}
	}
	return time.UnixMicro(micros)
}

func publishMicros(t time.Time) int64 {
	if t.IsZero() || t.UnixMicro() < 0 || t.UnixMicro() > maxTime {
		return 0
	}
	return t.UnixMicro()
}

// deliverable reports whether the small fields can go out as they are on every transport.
func deliverable(m *broker.Message) bool {
	return cleanText(m.Event) && cleanText(m.Key) && cleanText(m.Trace) && !broker.Reserved(m.Event)
}

// cleanText is the rule that lua/public.lua checks as well: short UTF-8 without control characters or line breaks.
func cleanText(s string) bool {
	if len(s) > maxText || !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if r < 0x20 || r >= 0x7f && r < 0xa0 || r == 0x2028 || r == 0x2029 {
			return false
		}
	}
	return true
}

// appendLive writes the announcement of a live message.
func appendLive(b []byte, m *broker.Message, trace string) []byte {
	b = append(b, "1 - - "...)
	for _, n := range []int64{publishMicros(m.Time), int64(len(m.Event)), int64(len(m.Key)), int64(len(trace))} {
		b = append(strconv.AppendInt(b, n, 10), ' ')
	}
	b = append(b, m.Event...)
	b = append(b, m.Key...)
	b = append(b, trace...)
	return append(b, m.Data...)
}
