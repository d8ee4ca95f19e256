package transport

import (
	"encoding/json"
	"math/rand/v2"
	"strconv"
	"time"

	"sluice/broker"
)

// poll is the answer of one POST /poll: once, the envelopes of sluice.v1.json in an array, and the token to go on from. Frames are envelopes with
// a comma behind until answer makes the whole of them. It is the writer's until the session has ended, then the handler's.
type poll struct {
	first bool          // the client has no token yet: it is answered as soon as all channels are joined
	over  bool          // it has been held long enough: what there is by now is the answer, if need be nothing
	late  bool          // whatever is on its way from the history
	joins bool          // all channels are joined
	done  bool          // the answer is made
	limit int           // bytes after which it ends
	pause time.Duration // the least between two answers with messages, since a rate is in force; 0: none
	idle  time.Duration // what a client is told to wait that got nothing

	notices int // bytes of what has been told of channels that the client does not get: who asks again gets it again

	cut *feed           // whose last batch is there in part, since pages of the history may be large; nil: none
	at  broker.Position // where that part ends

	problem *Problem // what is answered instead; nil: nothing has come in between
	leave   bool     // the client is sent away
}

// A poll's answer ends after so many bytes of messages, of which the client may say how many; a last message, or a batch that can't be
// cut, may go beyond it.
const (
	minPoll = 1 << 10
	maxPoll = 256 << 10
)

func (*poll) slot() int { return slotPoll }

// shared returns nothing: what is the same for all is the envelopes.
func (*poll) shared(*session, *feed, *broker.Batch) []byte { return nil }

func (*poll) single(dst []byte, _ *session, _ *feed, b *broker.Batch) []byte {
	first := teller(b)
	for i, m := range b.Messages {
		dst = append(dst, envelopeOf(m)...)
		if i == first {
			dst = appendSkipped(dst, b.Skipped)
		}
		dst = append(dst, ',')
	}
	return dst
}

// part returns so much of b, which f has taken, as there is room for in the answer. From where that ends the next poll goes on, so
// nothing may be behind it that has no position.
func (p *poll) part(f *feed, b *broker.Batch, room int) *broker.Batch {
	if b.Skipped > 0 {
		return b // which is told once
	}
	last := len(b.Messages) - 1
	least := last
	for least > 0 && !b.Messages[least].After().IsZero() {
		least--
	}
	gaps := 0
	for i, m := range b.Messages[:last] {
		room -= len(envelopeOf(m)) + len(",") // as it goes out: what is quoted may double
		if m.Gap != nil {
			gaps++
		}
		at := m.After()
		if room > 0 || i < least || at.IsZero() {
			continue
		}
		p.cut, p.at = f, at
		if b.Live {
			left(b.Messages[i+1:])
		}
		return &broker.Batch{Messages: b.Messages[:i+1], Gaps: gaps, Last: at, Live: b.Live, Released: b.Released}
	}
	return b
}

// left notes that a session does not get now what others do.
func left(ms []*broker.Message) {
	for _, m := range ms {
		if d := m.Delivery(); d != nil {
			d.Left()
		}
	}
}

// welcome has no bytes: that there is an answer says it.
func (p *poll) welcome(*session) []byte {
	p.joins = true
	return nil
}

// heartbeat has no bytes: nothing is written before the answer.
func (*poll) heartbeat(dst []byte, _ *session) []byte { return dst }

func (p *poll) unavailable(dst []byte, _ time.Duration) []byte {
	p.problem = problem(Unavailable, "the channels could not be joined in time; poll again")
	return dst
}

func (*poll) refuse(dst []byte, _ json.RawMessage, _ *Problem) []byte { return dst }

func (p *poll) reconnect(dst []byte, delay time.Duration) []byte {
	p.leave, p.idle = true, delay
	return dst
}

func (p *poll) slow(dst []byte, delay time.Duration) []byte { return p.reconnect(dst, delay) }

func (p *poll) denied(dst []byte, why *Problem) []byte {
	p.problem = why
	return dst
}

func (p *poll) unsubscribed(dst []byte, channel string, why *Problem) []byte {
	before := len(dst)
	dst = append(appendUnsubscribed(append(dst, `{"type":"unsubscribed",`...), channel, why), '}', ',')
	p.notices += len(dst) - before
	return dst
}

func (*poll) gap(dst []byte, m *broker.Message) []byte { return append(appendEnvelope(dst, m), ',') }

func (*poll) close(dst []byte, _ uint16, _ string) []byte { return dst }

// answer returns the whole answer of s if it is time for it, with what was got for it, and ends s; else nil.
func (p *poll) answer(s *session, got []byte) []byte {
	switch {
	case p.done || p.problem != nil:
		return nil
	case !p.joins: // it is sent away before it has its place
		p.problem = problem(Draining, "poll another node, or this one a little later")
		p.problem.Retry = p.idle
		return nil
	case len(got) == 0 && !p.due(s):
		return nil
	}
	p.done = true
	s.advance()
	more := s.dirty != nil
	for s.dirty != nil {
		s.unmark(s.dirty)
	}
	if !s.ending {
		s.ending, s.why = true, closedByUs
	}
	token := broker.AppendToken(nil, s.places(p.cut, p.at)...)
	b := append(make([]byte, 0, len(got)+len(token)+64), `{"messages":[`...)
	if len(got) > 0 {
		b = append(b, got[:len(got)-1]...)
	}
	b = append(b, ']')
	if len(token) > 0 {
		b = append(append(append(b, `,"token":"`...), token...), '"')
	}
	if more && !p.leave {
		b = append(b, `,"more":true`...)
	}
	b = strconv.AppendInt(append(b, `,"retry":`...), p.retry(len(got) > p.notices).Milliseconds(), 10)
	return append(b, '}', '\n')
}

// due reports whether the client is to be answered though there is nothing for it.
func (p *poll) due(s *session) bool {
	if !p.over || p.late {
		return p.first || p.late || s.ending
	}
	for _, f := range s.feeds {
		if f.Replaying() {
			return s.ending // there is something
		}
	}
	return true
}

// retry is when the client is to poll again. Who got something comes at once, unless a rate is in force; who is sent away, or got nothing, not with all the
// others who did.
func (p *poll) retry(got bool) time.Duration {
	if got && !p.leave {
		return p.pause
	}
	return max(p.pause, p.idle)
}

// Polls that bring nothing are this to twice this apart, however short a client asks them to be held.
const pollPause = 250 * time.Millisecond

// pauseOf returns how long to wait after a poll that brought nothing and was to be held for so long.
func (s *Server) pauseOf(held time.Duration, first bool) time.Duration {
	if first || held >= time.Second {
		return pollPause + rand.N(pollPause)
	}
	return s.retry()
}
