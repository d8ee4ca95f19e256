package transport

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"

	"sluice/broker"
)

// sse is text/event-stream (WHATWG HTML §9.2.5) with bare payloads, or with envelopes as data.
type sse struct {
	envelope bool
	context  bool // what is traced has its traceparent: a field of the event that EventSource ignores, or of the envelope
}

func (e sse) slot() int {
	if e.envelope {
		return slotSSEJSON
	}
	return slotSSE
}

// shared: on a stream with one channel the id depends on nothing but the message.
func (e sse) shared(s *session, f *feed, b *broker.Batch) []byte {
	if len(s.feeds) != 1 || e.context && slices.ContainsFunc(b.Messages, traced) {
		return nil
	}
	return b.Wire(e.slot(), func(ms []*broker.Message) []byte {
		var dst []byte
		first := e.teller(b)
		for i, m := range ms {
			dst = e.appendBody(dst, b, i, first)
			if at := standing(b, i); !at.IsZero() {
				dst = appendID(dst, broker.Place{Channel: m.Channel, Position: at})
			}
			dst = append(dst, '\n')
		}
		return dst
	})
}

// single: with several channels the id names the places in all of them.
func (e sse) single(dst []byte, s *session, f *feed, b *broker.Batch) []byte {
	first := e.teller(b)
	for i := range b.Messages {
		dst = e.appendBody(dst, b, i, first)
		if at := standing(b, i); !at.IsZero() {
			dst = appendID(dst, s.places(f, at)...)
		}
		dst = append(dst, '\n')
	}
	return dst
}

func appendID(dst []byte, places ...broker.Place) []byte {
	dst = append(dst, "id: "...)
	dst = broker.AppendToken(dst, places...)
	return append(dst, '\n')
}

// teller is the index of the message that tells what was skipped: envelopes only can.
func (e sse) teller(b *broker.Batch) int {
	if !e.envelope {
		return -1
	}
	return teller(b)
}

func (e sse) appendBody(dst []byte, b *broker.Batch, i, teller int) []byte {
	dst = append(dst, e.body(b.Messages[i])...)
	if i == teller {
		dst = append(appendSkipped(dst[:len(dst)-1], b.Skipped), '\n')
	}
	if !e.context {
		return dst
	}
	c := b.Messages[i].Context()
	switch {
	case c.IsZero():
	case e.envelope:
		dst = append(appendTraceparent(dst[:len(dst)-1], c), '\n')
	default:
		dst = append(c.Append(append(dst, "traceparent: "...)), '\n')
	}
	return dst
}

// traced reports whether m names a span that a client may go on from.
func traced(m *broker.Message) bool { return !m.Context().IsZero() }

// body is the event of m without its id and its final blank line; all sessions share it.
func (e sse) body(m *broker.Message) []byte {
	return m.Wire(e.slot(), func(m *broker.Message) []byte {
		dst := make([]byte, 0, len(m.Data)+len(m.Event)+64)
		if m.Gap != nil {
			dst = append(dst, "event: gap\ndata: {"...)
			return append(appendGap(dst, m), "}\n"...)
		}
		if m.Event != "" && !broker.Reserved(m.Event) && !strings.ContainsAny(m.Event, "\r\n\x00") {
			dst = append(dst, "event: "...)
			dst = append(append(dst, m.Event...), '\n')
		}
		switch {
		case e.envelope:
			dst = append(dst, "data: "...)
			return append(appendEnvelope(dst, m), '\n')
		case !m.Text(), bytes.IndexByte(m.Data, 0) >= 0: // Firefox drops NUL from data
			dst = append(dst, "data: data:application/octet-stream;base64,"...)
			return append(base64.StdEncoding.AppendEncode(dst, m.Data), '\n')
		}
		return appendData(dst, m.Data)
	})
}

// appendData splits data at CR LF, CR and LF, each of which would end the field: a bare CR in a
// payload must not become a field of its own. The client joins the lines with LF.
func appendData(dst, data []byte) []byte {
	for {
		dst = append(dst, "data: "...)
		i := bytes.IndexAny(data, "\r\n")
		if i < 0 {
			return append(append(dst, data...), '\n')
		}
		dst = append(append(dst, data[:i]...), '\n')
		if data[i] == '\r' && i+1 < len(data) && data[i+1] == '\n' {
			i++
		}
		data = data[i+1:]
	}
}

func (sse) welcome(s *session) []byte {
	dst := []byte("event: welcome\n")
	if t := s.token(); len(t) > 0 {
		dst = append(append(append(dst, "id: "...), t...), '\n')
	}
	retry := s.server.retry()
	dst = append(appendRetry(dst, retry), "data: {"...)
	return append(appendWelcome(dst, s, retry), "}\n\n"...)
}

func appendRetry(dst []byte, d time.Duration) []byte {
	dst = strconv.AppendInt(append(dst, "retry: "...), d.Milliseconds(), 10)
	return append(dst, '\n')
}

// heartbeat is a comment of one line: a blank line would make some clients emit an empty message. Only an
// event can bring a token.
func (sse) heartbeat(dst []byte, s *session) []byte {
	if !s.visible && !s.untold {
		return append(dst, ":\n"...)
	}
	dst = append(dst, "event: heartbeat\n"...)
	if t := s.token(); s.untold && len(t) > 0 {
		dst = append(append(append(dst, "id: "...), t...), '\n')
	}
	s.untold = false
	dst = append(dst, "data: {\"time\":"...)
	dst = strconv.AppendInt(dst, time.Now().UnixMilli(), 10)
	return append(dst, "}\n\n"...)
}

func (sse) unavailable(dst []byte, delay time.Duration) []byte {
	return appendUnavailable(dst, problem(Unavailable, "the channels could not be joined in time; the stream ends and may be opened again"), delay)
}

// appendUnavailable appends the event that turns a client away for so long. Who reads the stream without EventSource finds the time in its data.
func appendUnavailable(dst []byte, p *Problem, delay time.Duration) []byte {
	dst = appendRetry(append(dst, "event: unavailable\n"...), delay)
	dst = appendString(append(dst, `data: {"code":`...), string(p.Code))
	dst = appendString(append(dst, `,"detail":`...), p.Detail)
	dst = strconv.AppendInt(append(dst, `,"retry":`...), delay.Milliseconds(), 10)
	return append(dst, "}\n\n"...)
}

func (sse) reconnect(dst []byte, delay time.Duration) []byte {
	return append(appendReconnect(dst, delay), "}\n\n"...)
}

func (sse) slow(dst []byte, delay time.Duration) []byte {
	dst = appendString(append(appendReconnect(dst, delay), `,"code":`...), string(SlowConsumer))
	return append(dst, "}\n\n"...)
}

func (sse) denied(dst []byte, p *Problem) []byte {
	dst = appendString(append(dst, "event: denied\ndata: {\"code\":"...), string(p.Code))
	dst = appendString(append(dst, `,"detail":`...), p.Detail)
	return append(dst, "}\n\n"...)
}

func (sse) unsubscribed(dst []byte, channel string, p *Problem) []byte {
	return append(appendUnsubscribed(append(dst, "event: unsubscribed\ndata: {"...), channel, p), "}\n\n"...)
}

func (e sse) gap(dst []byte, m *broker.Message) []byte {
	return append(append(dst, e.body(m)...), '\n')
}

func appendReconnect(dst []byte, delay time.Duration) []byte {
	dst = appendRetry(append(dst, "event: reconnect\n"...), delay)
	return strconv.AppendInt(append(dst, "data: {\"delay\":"...), delay.Milliseconds(), 10)
}

// refuse has nothing to answer: SSE clients send no commands on the stream.
func (sse) refuse(dst []byte, _ json.RawMessage, _ *Problem) []byte { return dst }

// close needs no bytes: the stream ends.
func (sse) close(dst []byte, _ uint16, _ string) []byte { return dst }
