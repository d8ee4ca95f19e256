package broker

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Limits of a message's small fields, in bytes.
const (
	MaxEvent = 200
	MaxKey   = 200
	MaxID    = 200
)

// Reserved reports whether an event name is one that no publisher may use: Sluice's own, and those
// that EventSource fires itself (a message named "error" would look like a lost connection).
func Reserved(event string) bool {
	switch event {
	case "welcome", "gap", "reconnect", "unavailable", "heartbeat", "denied", "unsubscribed", "open", "error":
		return true
	}
	return false
}

// check refuses what could not be delivered faithfully on every transport.
func (b *Broker) check(m *Message, o *PublishOptions) error {
	if err := CheckChannel(m.Channel); err != nil {
		return err
	}
	if len(m.Data) > b.options.MaxMessage {
		return fmt.Errorf("%w: payload of %d bytes, at most %d", ErrTooLarge, len(m.Data), b.options.MaxMessage)
	}
	if Reserved(m.Event) {
		return fmt.Errorf("%w: the event name %q is reserved; choose another", ErrMessage, m.Event)
	}
	for _, f := range []struct {
		name, value string
		most        int
	}{{"event", m.Event, MaxEvent}, {"key", m.Key, MaxKey}, {"id", o.ID, MaxID}} {
		if len(f.value) > f.most {
			return fmt.Errorf("%w: %s of %d bytes, at most %d", ErrTooLarge, f.name, len(f.value), f.most)
		}
		if !utf8.ValidString(f.value) || strings.IndexFunc(f.value, control) >= 0 {
			return fmt.Errorf("%w: %s has a control character or is not UTF-8", ErrMessage, f.name)
		}
	}
	return nil
}

// control matches C0, DEL, C1 and the two Unicode line breaks.
func control(r rune) bool { return r < 0x20 || r >= 0x7f && r < 0xa0 || r == 0x2028 || r == 0x2029 }
