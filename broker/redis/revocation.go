package redis

import (
	"strconv"
	"strings"
	"time"

	"sluice/broker"
)

// What is revoked has the name "KIND VALUE" in Redis; see lua/revoke.lua.

// revokedName is the name of what r revokes.
func revokedName(r broker.Revocation) string {
	return strconv.Itoa(int(r.Kind)) + " " + r.Value
}

// parseRevocation reads one that anybody may have written. It reports false unless all of it is right.
func parseRevocation(name, at, until string) (broker.Revocation, bool) {
	made, ok1 := parseNumber(at)
	end, ok2 := parseNumber(until)
	kind, value, ok3 := strings.Cut(name, " ")
	if !ok1 || !ok2 || !ok3 || len(kind) != 1 || kind < "1" || kind > "9" {
		return broker.Revocation{}, false
	}
	r := broker.Revocation{
		Kind: broker.RevocationKind(kind[0] - '0'), Value: value, At: time.UnixMilli(made), Until: time.UnixMilli(end),
	}
	return r, r.Check() == nil
}

// revokedNews is an announcement, "1 PREVIOUS STATE KIND VALUE": something was revoked, and by that the list went from
// one state to another.
type revokedNews struct{ from, to, name string }

// parseRevoked reads an announcement, which anybody may have written.
func parseRevoked(payload string) (n revokedNews, ok bool) {
	rest, ok1 := strings.CutPrefix(payload, "1 ")
	from, rest, ok2 := strings.Cut(rest, " ")
	to, name, ok3 := strings.Cut(rest, " ")
	if !ok1 || !ok2 || !ok3 || from != "-" && !isState(from) || !isState(to) {
		return n, false
	}
	_, ok = parseRevocation(name, "1", "2")
	return revokedNews{from, to, name}, ok
}

// isState reports whether s could be what rand.Text returns.
func isState(s string) bool {
	for i := range len(s) {
		if (s[i] < 'A' || s[i] > 'Z') && (s[i] < '2' || s[i] > '7') {
			return false
		}
	}
	return len(s) > 0 && len(s) <= 40
}

// inMillis returns r as Redis will tell it: whole milliseconds, and not shorter than it was.
func inMillis(r broker.Revocation) broker.Revocation {
	r.At = time.UnixMilli(r.At.UnixMilli())
	r.Until = time.UnixMilli(r.Until.Add(time.Millisecond - 1).UnixMilli())
	return r
}
