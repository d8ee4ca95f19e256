package transport

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"sluice/broker"
	"sluice/transport/wsframe"
)

var pingFrame = wsframe.AppendFrame(nil, wsframe.OpPing, nil)

// wsPlain is WebSocket without a subprotocol: each frame is a payload, as publishers gave it.
type wsPlain struct{}

func (wsPlain) slot() int { return slotWS }

func (wsPlain) shared(s *session, _ *feed, b *broker.Batch) []byte {
	if s.gaps {
		return nil
	}
	return b.Wire(slotWS, func(ms []*broker.Message) []byte {
		var dst []byte
		for _, m := range ms {
			dst = appendPlain(dst, m)
		}
		return dst
	})
}

func (wsPlain) single(dst []byte, s *session, _ *feed, b *broker.Batch) []byte {
	for _, m := range b.Messages {
		if m.Gap != nil && s.gaps {
			dst = appendText(dst, appendEnvelope(nil, m))
		} else {
			dst = appendPlain(dst, m)
		}
	}
	return dst
}

func appendPlain(dst []byte, m *broker.Message) []byte {
	if m.Gap != nil {
		return dst
	}
	op := byte(wsframe.OpText)
	if !m.Text() {
		op = wsframe.OpBinary // not UTF-8 in a text frame makes browsers drop the connection
	}
	return wsframe.AppendFrame(dst, op, m.Data)
}

func appendText(dst, text []byte) []byte { return wsframe.AppendFrame(dst, wsframe.OpText, text) }

func (wsPlain) welcome(*session) []byte { return nil }

// heartbeat is a ping unless one has just been asked for.
func (wsPlain) heartbeat(dst []byte, _ *session) []byte {
	if len(dst) > 0 {
		return dst
	}
	return append(dst, pingFrame...)
}

func (wsPlain) unavailable(dst []byte, _ time.Duration) []byte { return dst }
func (wsPlain) reconnect(dst []byte, _ time.Duration) []byte   { return dst }
func (wsPlain) slow(dst []byte, _ time.Duration) []byte        { return dst }

func (wsPlain) denied(dst []byte, _ *Problem) []byte { return dst }

func (wsPlain) unsubscribed(dst []byte, _ string, _ *Problem) []byte { return dst }

func (wsPlain) gap(dst []byte, m *broker.Message) []byte {
	return appendText(dst, appendEnvelope(nil, m))
}

// refuse can't be told to a plain client; the close code has to do.
func (wsPlain) refuse(dst []byte, _ json.RawMessage, _ *Problem) []byte { return dst }

func (wsPlain) close(dst []byte, code uint16, reason string) []byte {
	return wsframe.AppendClose(dst, code, reason)
}

// wsJSON is the subprotocol sluice.v1.json: envelopes, and answers to commands.
type wsJSON struct{ wsPlain }

const subprotocolJSON = "sluice.v1.json"

// subprotocolPlain is what there is without a subprotocol, by name: browsers want one selected where they offer some, and a token is one of those.
const subprotocolPlain = "sluice.v1.plain"

func (wsJSON) slot() int { return slotWSJSON }

func (wsJSON) shared(_ *session, _ *feed, b *broker.Batch) []byte {
	return b.Wire(slotWSJSON, func(ms []*broker.Message) []byte {
		if b.Array {
			return appendArrays(b)
		}
		var dst []byte
		first := teller(b)
		for i, m := range ms {
			if i == first {
				dst = appendText(dst, appendSkipped(bytes.Clone(envelopeOf(m)), b.Skipped))
			} else {
				dst = append(dst, frameOf(m)...)
			}
		}
		return dst
	})
}

// frameOf is the frame of m alone; all sessions share it.
func frameOf(m *broker.Message) []byte {
	return m.Wire(slotWSJSON, func(m *broker.Message) []byte {
		return appendText(nil, appendTraceparent(appendEnvelope(make([]byte, 0, len(m.Data)+128), m), m.Context()))
	})
}

// envelopeOf is what is in the frame of m; it must not be written to.
func envelopeOf(m *broker.Message) []byte {
	f := frameOf(m)
	switch f[1] { // RFC 6455 §5.2: the length, or how many bytes it takes
	case 126:
		return f[4:]
	case 127:
		return f[10:]
	}
	return f[2:]
}

// appendArrays puts the messages of b into one frame; where a gap is between them, before and after that.
func appendArrays(b *broker.Batch) []byte {
	var dst, text []byte
	first, open := teller(b), false
	shut := func() {
		if open {
			dst = appendText(dst, append(text, "]}"...))
			open = false
		}
	}
	for i, m := range b.Messages {
		switch {
		case m.Gap == nil:
		case i == first:
			dst = appendText(dst, appendSkipped(bytes.Clone(envelopeOf(m)), b.Skipped))
			continue
		default:
			shut()
			dst = append(dst, frameOf(m)...)
			continue
		}
		if !open {
			open = true
			text = appendString(append(text[:0], `{"type":"batch","channel":`...), m.Channel)
			if i == first {
				text = strconv.AppendInt(append(text, `,"skipped":`...), int64(b.Skipped), 10)
			}
			text = append(text, `,"messages":[`...)
		} else {
			text = append(text, ',')
		}
		head := len(envelopeHead) + len(m.Channel) + len(`""`) // channel names need no escapes
		text = append(append(text, '{'), envelopeOf(m)[head+len(`,`):]...)
	}
	shut()
	return dst
}

func (wsJSON) single(dst []byte, _ *session, _ *feed, _ *broker.Batch) []byte { return dst }

func (wsJSON) welcome(s *session) []byte {
	b := appendWelcome([]byte(`{"type":"welcome",`), s, s.server.retry())
	return appendText(nil, append(s.appendToken(b), '}'))
}

func (wsJSON) slow(dst []byte, _ time.Duration) []byte {
	return wsJSON{}.refuse(dst, nil, problem(SlowConsumer, "the client reads more slowly than the channel's policy takes; connect again, with the token"))
}

func (wsJSON) heartbeat(dst []byte, s *session) []byte {
	b := strconv.AppendInt([]byte(`{"type":"heartbeat","time":`), time.Now().UnixMilli(), 10)
	if s.untold {
		b = s.appendToken(b)
	}
	return appendText(dst, append(b, '}'))
}

func (wsJSON) unavailable(dst []byte, delay time.Duration) []byte {
	p := problem(Unavailable, "the channels could not be joined in time; connect again later")
	p.Retry = delay
	return wsJSON{}.refuse(dst, nil, p)
}

func (wsJSON) reconnect(dst []byte, delay time.Duration) []byte {
	b := strconv.AppendInt([]byte(`{"type":"reconnect","delay":`), delay.Milliseconds(), 10)
	return appendText(dst, append(b, '}'))
}

func (wsJSON) denied(dst []byte, p *Problem) []byte { return wsJSON{}.refuse(dst, nil, p) }

func (wsJSON) unsubscribed(dst []byte, channel string, p *Problem) []byte {
	return appendText(dst, append(appendUnsubscribed([]byte(`{"type":"unsubscribed",`), channel, p), '}'))
}

func (wsJSON) refuse(dst []byte, ref json.RawMessage, p *Problem) []byte {
	b := appendRef([]byte(`{"type":"error"`), ref)
	b = appendString(append(b, `,"code":`...), string(p.Code))
	b = appendString(append(b, `,"detail":`...), strings.ToValidUTF8(p.Detail, "\uFFFD"))
	if p.Channel != "" {
		b = appendString(append(b, `,"channel":`...), p.Channel)
	}
	if p.Retry > 0 {
		b = strconv.AppendInt(append(b, `,"retry":`...), p.Retry.Milliseconds()+1, 10)
	}
	return appendText(dst, append(b, '}'))
}

// appendRef appends the client's reference as it came: a JSON string or number.
func appendRef(dst []byte, ref json.RawMessage) []byte {
	if ref == nil {
		return dst
	}
	return append(append(dst, `,"ref":`...), ref...)
}
