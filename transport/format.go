package transport

import (
	"encoding/base64"
	"encoding/json"
	"strconv"
	"time"

	"sluice/broker"
	"sluice/otel"
)

// format is a wire format: how messages and what the server has to say look to one kind of client.
// All methods are called by the session's writer. Those with a dst append to it.
type format interface {
	slot() int // where messages and batches remember it

	// shared returns the encoding of the batch if it is the same for all sessions of this format
	// that listen to the channel, else nil: then single makes this session's own.
	shared(s *session, f *feed, b *broker.Batch) []byte
	single(dst []byte, s *session, f *feed, b *broker.Batch) []byte

	welcome(s *session) []byte
	heartbeat(dst []byte, s *session) []byte
	unavailable(dst []byte, delay time.Duration) []byte
	refuse(dst []byte, ref json.RawMessage, p *Problem) []byte
	reconnect(dst []byte, delay time.Duration) []byte
	slow(dst []byte, delay time.Duration) []byte // the client reads more slowly than its policy takes
	denied(dst []byte, p *Problem) []byte        // the session ends: it may not be here any more
	unsubscribed(dst []byte, channel string, p *Problem) []byte
	gap(dst []byte, m *broker.Message) []byte // that is none of a channel's log
	close(dst []byte, code uint16, reason string) []byte
}

// Slots, one per format. Messages and batches remember the encodings of those below broker.MaxFormats.
const (
	slotSSE = iota
	slotSSEJSON
	slotWS
	slotWSJSON
	slotPoll // remembers nothing: it takes the envelopes of slotWSJSON
	formats
)

// envelopeHead is how the envelope of a message begins; the channel follows.
const envelopeHead = `{"type":"message","channel":`

// appendEnvelope appends the JSON envelope of m, or of the gap that it is (docs/protocol.md).
func appendEnvelope(dst []byte, m *broker.Message) []byte {
	if m.Gap != nil {
		return append(appendGap(append(dst, `{"type":"gap",`...), m), '}')
	}
	dst = append(dst, envelopeHead...)
	dst = appendString(dst, m.Channel)
	if m.Durable() {
		dst = append(dst, `,"position":"`...)
		dst = append(m.Position.Append(dst), '"')
	}
	if m.Event != "" {
		dst = appendString(append(dst, `,"event":`...), m.Event)
	}
	if m.Key != "" {
		dst = appendString(append(dst, `,"key":`...), m.Key)
	}
	if !m.Time.IsZero() {
		dst = strconv.AppendInt(append(dst, `,"time":`...), m.Time.UnixMilli(), 10)
	}
	if m.Text() {
		dst = appendString(append(dst, `,"data":`...), m.Data)
	} else {
		dst = append(dst, `,"data64":"`...)
		dst = append(base64.StdEncoding.AppendEncode(dst, m.Data), '"')
	}
	return append(dst, '}')
}

// appendGap appends the members of a gap, without braces.
func appendGap(dst []byte, m *broker.Message) []byte {
	dst = appendString(append(dst, `"channel":`...), m.Channel)
	if !m.Gap.From.IsZero() {
		dst = append(m.Gap.From.Append(append(dst, `,"from":"`...)), '"')
	}
	if !m.Gap.To.IsZero() {
		dst = append(m.Gap.To.Append(append(dst, `,"to":"`...)), '"')
	}
	return appendString(append(dst, `,"reason":`...), string(m.Gap.Reason))
}

// appendString appends s as a JSON string (RFC 8259 §7). s is valid UTF-8.
func appendString[T string | []byte](dst []byte, s T) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	from := 0
	for i := range len(s) {
		c := s[i]
		if c >= 0x20 && c != '"' && c != '\\' {
			continue
		}
		dst = append(dst, s[from:i]...)
		from = i + 1
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
	}
	dst = append(dst, s[from:]...)
	return append(dst, '"')
}

// appendWelcome appends the members of a welcome, without braces. retry is how long to wait before coming back if the connection breaks.
func appendWelcome(dst []byte, s *session, retry time.Duration) []byte {
	dst = appendString(append(dst, `"session":`...), s.name())
	dst = append(dst, `,"heartbeat":`...)
	dst = strconv.AppendFloat(dst, s.server.config.Heartbeat.Seconds(), 'f', -1, 64)
	dst = strconv.AppendInt(append(dst, `,"retry":`...), retry.Milliseconds(), 10)
	dst = append(dst, `,"channels":[`...)
	first := true
	for _, f := range s.feeds {
		if f.reply != nil {
			continue // a command has asked for it meanwhile, and gets an answer of its own
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = appendString(dst, f.Channel())
	}
	dst = append(dst, ']')
	if e := s.grant().Who().Expires; !e.IsZero() {
		dst = strconv.AppendInt(append(dst, `,"expires":`...), e.Unix(), 10)
	}
	return appendDeliver(dst, s)
}

// appendUnsubscribed appends the members of a notice that a subscription has ended, without braces.
func appendUnsubscribed(dst []byte, channel string, p *Problem) []byte {
	dst = appendString(append(dst, `"channel":`...), channel)
	dst = appendString(append(dst, `,"code":`...), string(p.Code))
	return appendString(append(dst, `,"detail":`...), p.Detail)
}

// standing is where a client stands that has had the messages of b up to the i-th; zero if that one does not
// move it. The last one moves it over what was dropped behind it, too.
func standing(b *broker.Batch, i int) broker.Position {
	at := b.Messages[i].After()
	if i < len(b.Messages)-1 || b.Last.IsZero() {
		return at
	}
	for j := i; j >= 0; j-- {
		if p := b.Messages[j].After(); !p.IsZero() {
			if p == b.Last {
				return at
			}
			break
		}
	}
	return b.Last
}

// teller is the index of the message of b that tells how many were skipped: the first that is none but
// a gap, if there is one.
func teller(b *broker.Batch) int {
	if b.Skipped == 0 {
		return -1
	}
	for i, m := range b.Messages {
		if m.Gap == nil {
			return i
		}
	}
	return 0
}

// appendTraceparent appends the name of a span, if it is one, to a JSON object that has members.
func appendTraceparent(dst []byte, c otel.Context) []byte {
	if c.IsZero() {
		return dst
	}
	dst = append(dst[:len(dst)-1], `,"traceparent":"`...)
	return append(c.Append(dst), '"', '}')
}

// appendSkipped appends the number of skipped messages to a JSON object that has members.
func appendSkipped(dst []byte, n int) []byte {
	dst = append(dst[:len(dst)-1], `,"skipped":`...)
	return append(strconv.AppendInt(dst, int64(n), 10), '}')
}
