package redis

import (
	"strconv"

	"sluice/broker"
)

// parseEntry reads one entry of a channel's stream, {ID, {field, value, …}}, as lua/core.lua writes
// it. Fields that it does not know are those of a later version. It reports false for what is not ours.
func parseEntry(channel string, entry any) (*broker.Message, bool) {
	pair, ok := entry.([]any)
	if !ok || len(pair) != 2 {
		return nil, false
	}
	id, ok1 := pair[0].(string)
	fields, ok2 := pair[1].([]any)
	if !ok1 || !ok2 || len(fields)%2 != 0 {
		return nil, false
	}
	m := &broker.Message{Channel: channel}
	var previous, tag string
	var micros int64
	for i := 0; i < len(fields); i += 2 {
		name, ok1 := fields[i].(string)
		value, ok2 := fields[i+1].(string)
		if !ok1 || !ok2 {
			return nil, false
		}
		switch name {
		case "p":
			previous = value
		case "x":
			tag = value
		case "t":
			if micros, ok = parseNumber(value); !ok {
				return nil, false
			}
		case "d":
			m.Data = []byte(value)
		case "e":
			m.Event = value
		case "k":
			m.Key = value
		case "c":
			m.Trace = value
		}
	}
	if m.Data == nil || previous == "-" || !setPositions(m, previous, id+"-"+tag) || !deliverable(m) {
		return nil, false
	}
	m.Time = publishTime(micros)
	return m, true
}

// emptied reports whether an entry has no fields, as Redis never stores one: it was too large to be sent.
func emptied(entry any) bool {
	pair, _ := entry.([]any)
	if len(pair) != 2 {
		return false
	}
	fields, ok := pair[1].([]any)
	return ok && len(fields) == 0
}

// tagText is four hex digits.
func tagText(tag uint16) string {
	return strconv.FormatUint(1<<16|uint64(tag), 16)[1:]
}
