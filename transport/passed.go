package transport

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math"
	"strings"
	"time"
	"unicode/utf8"

	"sluice/broker"
)

// A node that does not have the session asks all others: "ID SHOWN\nCOMMAND", where SHOWN is what the sender has shown, as JSON. The one
// that has it does what it would do if it had been asked itself, and answers with the reply, or with the problem.

const (
	maxAsked   = 1024                   // commands of other nodes that are done at once; more are dropped
	claimAfter = 300 * time.Millisecond // then a node says that it has the session, if it has not answered yet
)

// appendQuestion appends p as a question.
func (p *posted) appendQuestion(dst []byte) ([]byte, error) {
	text, err := json.Marshal(&p.shown)
	if err != nil {
		return nil, err
	}
	dst = base64.RawURLEncoding.AppendEncode(dst, p.id[:])
	return append(append(append(append(dst, ' '), text...), '\n'), p.body...), nil
}

// parseQuestion reads a question, which anybody may have written who can write to the backend. names are the headers that may go along.
func parseQuestion(text []byte, names []string) (*posted, bool) {
	id, rest, ok1 := bytes.Cut(text, []byte(" "))
	shows, body, ok2 := bytes.Cut(rest, []byte("\n"))
	p := &posted{body: body}
	var ok3 bool
	if p.id, ok3 = parseSessionID(string(id)); !ok1 || !ok2 || !ok3 || len(text) > broker.MaxQuestion || !utf8.Valid(rest) || checkJSON(shows, 1) != "" {
		return nil, false
	}
	if decodeOnly(shows, &p.shown) != "" {
		return nil, false
	}
	var bad *Problem
	if p.command, bad = decodeCommand(body); bad != nil || !p.shown.check(names) {
		return nil, false
	}
	return p, true
}

// passOn has p done by the node that has its session.
func (s *Server) passOn(ctx context.Context, p *posted) outcome {
	text, err := p.appendQuestion(nil)
	if err != nil {
		return outcome{problem: problemOf(err)}
	}
	answer, err := s.broker.Ask(ctx, text)
	switch {
	case errors.Is(err, broker.ErrNoAnswer):
		return outcome{problem: problem(NotFound, unknownSession)}
	case errors.Is(err, broker.ErrTooLarge):
		return outcome{problem: problem(TooLarge, "the stream is on another node, and this is too large to be passed on; reconnect")}
	case err != nil:
		return outcome{problem: problem(Unavailable, "the stream may be on another node, which can't be asked now")}
	}
	x, ok := parseOutcome(answer)
	if !ok {
		return outcome{problem: problem(Unavailable, "the node that has the stream has answered what can't be read")}
	}
	return x
}

// Asked does what another node passes on, if the session is here. It returns at once, false if the question can't be read.
func (s *Server) Asked(q broker.Question) bool {
	p, ok := parseQuestion(q.Text, s.passed())
	if !ok {
		return false
	}
	if s.ctx.Err() != nil || len(p.body) > s.config.MaxCommand {
		return true
	}
	for _, w := range s.writers {
		w.post(func() {
			ss := w.streams[p.id]
			if ss == nil || s.ctx.Err() != nil {
				return
			}
			if s.asked.Add(1) > maxAsked {
				s.asked.Add(-1)
				s.limits.refused[limitNodeQuestions].Add(1)
				return
			}
			in := w.inbox(ss)
			s.running.Go(func() {
				defer s.asked.Add(-1)
				s.answerNode(ss, in, p, q.Answer)
			})
		})
	}
	return true
}

// answerNode has a command done that was posted to another node. Who may not command the session is not answered, as if it were not
// here, unless that took so long that the other node has been told to wait.
func (s *Server) answerNode(ss *session, in *inbox, p *posted, send func(context.Context, []byte) error) {
	ctx, cancel := context.WithTimeout(s.ctx, s.commandTime())
	defer cancel()
	told := make(chan struct{})
	claim := time.AfterFunc(claimAfter, func() {
		defer close(told)
		_ = send(ctx, nil)
	})
	x := outcome{problem: problem(NotFound, unknownSession)}
	switch grant, refused := s.identify(ctx, p); {
	case refused != nil:
		x.problem = refused
	case ss.takes(grant, &p.command):
		x, _ = ss.post(ctx, in, p, grant)
	}
	if claim.Stop() {
		if x.problem != nil && x.problem.Code == NotFound {
			return
		}
	} else {
		<-told
	}
	if err := send(ctx, x.append(nil)); err != nil {
		s.log.Debug("the answer to a command did not reach the node that passed it on", "err", err)
	}
}

// append appends x as an answer: r and the reply, or p and the problem.
func (x *outcome) append(dst []byte) []byte {
	if x.problem == nil && len(x.object) < broker.MaxAnswer {
		return append(append(dst, 'r'), x.object...)
	}
	p := x.problem
	if p == nil {
		p = problem(TooLarge, "it was done, and the answer is too large to be passed on")
	}
	dst = appendString(append(dst, `p{"code":`...), string(p.Code))
	dst = appendString(append(dst, `,"detail":`...), strings.ToValidUTF8(p.Detail, "\uFFFD"))
	if p.Channel != "" {
		dst = appendString(append(dst, `,"channel":`...), p.Channel)
	}
	text, _ := json.Marshal(p.Retry.Milliseconds()) // a number
	return append(append(append(dst, `,"retry":`...), text...), '}')
}

// parseOutcome reads an answer, which anybody may have written who can read and write to the backend.
func parseOutcome(text []byte) (x outcome, ok bool) {
	if len(text) < 2 || len(text) > broker.MaxAnswer || text[1] != '{' || checkJSON(text[1:], 1) != "" {
		return x, false
	}
	switch kind, text := text[0], text[1:]; kind {
	case 'r':
		if !json.Valid(text) || !utf8.Valid(text) {
			return x, false
		}
		return outcome{object: bytes.Clone(text)}, true
	case 'p':
		var in struct {
			Code    Code   `json:"code"`
			Detail  string `json:"detail"`
			Channel string `json:"channel"`
			Retry   int64  `json:"retry"`
		}
		if decodeOnly(text, &in) != "" || codes[in.Code].status == 0 || len(in.Detail) > maxDetail || in.Retry < 0 || in.Retry > math.MaxInt32 ||
			in.Channel != "" && broker.CheckChannel(in.Channel) != nil {
			return x, false
		}
		x.problem = problem(in.Code, in.Detail).of(in.Channel)
		x.problem.Retry = time.Duration(in.Retry) * time.Millisecond
		return x, true
	}
	return x, false
}

const maxDetail = 4 << 10
