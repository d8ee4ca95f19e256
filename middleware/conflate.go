package middleware

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tidwall/gjson"

	"sluice/broker"
)

// Conflation is what supersedes what.
type Conflation uint8

// The conflations, from lax to strict.
const (
	ConflateNone   Conflation = iota // nothing: all messages go out
	ConflateKey                      // the newest message of each key
	ConflateLatest                   // the newest message of all
)

var conflations = [...]string{"none", "key", "latest"}

// String returns the conflation as it is written in settings and queries.
func (c Conflation) String() string { return conflations[c] }

// ParseConflation reads "none", "key" or "latest".
func ParseConflation(text string) (Conflation, error) {
	for i, name := range conflations {
		if text == name {
			return Conflation(i), nil
		}
	}
	return 0, fmt.Errorf("conflate %q can't be used; write key, latest or none", shorten(text))
}

// Conflate is the stage that lets through only the newest message of each key. Those that are left keep
// their order in the channel, so what a client sees is a part of what was published, in its order, and
// positions stay exact. A message without a key is superseded by nothing.
type Conflate struct {
	Key func(*broker.Message) (key string, ok bool)
}

// conflate returns the stage for a key; nil is none.
func conflate(k *broker.Key) Conflate {
	if k == nil {
		return Conflate{}
	}
	return Conflate{k.Of}
}

// Name implements broker.Stage.
func (Conflate) Name() string { return broker.DropConflated }

// Take implements broker.Stage. It holds nothing back.
func (c Conflate) Take(_ time.Time, p broker.Pending) ([]*broker.Message, broker.Again) {
	ms := p.Messages
	if len(ms) == 1 {
		return ms, broker.Again{}
	}
	seen := make(map[string]struct{}, min(len(ms), 64))
	ready := make([]*broker.Message, len(ms))
	first := len(ms)
	for i := len(ms) - 1; i >= 0; i-- {
		if k, ok := c.Key(ms[i]); ok {
			if _, superseded := seen[k]; superseded {
				continue
			}
			seen[k] = struct{}{}
		}
		first--
		ready[first] = ms[i]
	}
	return ready[first:], broker.Again{}
}

// everyKey is the key of conflation to the newest of all.
func everyKey(*broker.Message) (string, bool) { return "", true }

// publisherKey is the key that a message was published with.
func publisherKey(m *broker.Message) (string, bool) { return m.Key, m.Key != "" }

// pointerKey returns the key at a JSON pointer (RFC 6901) in the payload: a text, a number, true or false, so that
// "7", 7 and 7.0 are one key. A message in which there is none has no key, not the publisher's either: that is of another
// kind, and one that happened to read the same would supersede what it has nothing to do with.
func pointerKey(pointer string) (func(*broker.Message) (string, bool), error) {
	if err := CheckPointer(pointer); err != nil {
		return nil, err
	}
	names := strings.Split(pointer, "/")[1:]
	for i, n := range names {
		names[i] = strings.ReplaceAll(strings.ReplaceAll(n, "~1", "/"), "~0", "~")
	}
	path := gjsonPath(names)
	return func(m *broker.Message) (string, bool) {
		if !isJSON(m.Data) {
			return "", false
		}
		switch r := gjson.GetBytes(m.Data, path); r.Type { // a copy: keys outlive messages
		case gjson.String, gjson.Number, gjson.True, gjson.False:
			return r.String(), true
		}
		return "", false
	}, nil
}

// CheckPointer returns an error if text is not a JSON pointer to a member (RFC 6901 §3).
func CheckPointer(text string) error {
	if !strings.HasPrefix(text, "/") || len(text) > maxExpression || strings.HasSuffix(text, "/") || strings.Contains(text, "//") {
		return fmt.Errorf("key %q is not a JSON pointer; write /symbol, or /a/b for a member of a member", shorten(text))
	}
	for i := range len(text) {
		if text[i] == '~' && (i+1 == len(text) || text[i+1] != '0' && text[i+1] != '1') {
			return errors.New("in a JSON pointer ~ is written ~0")
		}
	}
	return nil
}
