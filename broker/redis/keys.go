package redis

import (
	"strings"

	"sluice/broker"
)

// keys names what Redis knows of a channel. All keys of a channel have its name in braces, so that
// they are in one Cluster slot; since no channel name has braces, nothing here can be confused with
// a plain channel.
type keys struct {
	prefix  string // of keys and announcement channels
	channel string // of the channels that plain PUBLISH uses
}

func (k keys) base(channel string) string { return k.prefix + ":{" + channel + "}:" }

func (k keys) stream(channel string) string   { return k.base(channel) + "s" }
func (k keys) meta(channel string) string     { return k.base(channel) + "m" }
func (k keys) seen(channel, id string) string { return k.base(channel) + "i:" + id }
func (k keys) announce(channel string) string { return k.base(channel) + "a" }
func (k keys) raw(channel string) string      { return k.channel + channel }
func (k keys) control(node string) string     { return k.base(node) + "n" }

// What is revoked belongs to no channel; see lua/revoke.lua.
func (k keys) revokedEnds() string { return k.base("!") + "u" }
func (k keys) revokedMade() string { return k.base("!") + "w" }
func (k keys) revoked() string     { return k.base("!") + "r" }

// asked is the Redis channel of what nodes ask each other.
func (k keys) asked() string { return k.base("!") + "q" }

// announced returns the channel that the announcement channel name belongs to.
func (k keys) announced(name string) (channel string, ok bool) {
	rest, ok := strings.CutPrefix(name, k.prefix)
	if !ok {
		return "", false
	}
	rest, ok = strings.CutPrefix(rest, ":{")
	if !ok {
		return "", false
	}
	return strings.CutSuffix(rest, "}:a")
}

// pairs returns the names to subscribe to for the channels. The raw one is first and Redis confirms
// in order, so the confirmation of the announcement channel is that of both.
func (k keys) pairs(channels []string) []string {
	names := make([]string, 0, 2*len(channels))
	for _, c := range channels {
		names = append(names, k.raw(c), k.announce(c))
	}
	return names
}

// before returns the greatest stream ID before p's.
func before(p broker.Position) broker.Position {
	if p.Seq > 0 {
		return broker.Position{MS: p.MS, Seq: p.Seq - 1}
	}
	return broker.Position{MS: p.MS - 1, Seq: ^uint64(0)}
}
