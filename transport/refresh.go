package transport

import (
	"context"
	"strconv"

	"sluice/middleware"
	"sluice/middleware/auth"
)

// A refresh puts another grant in the place of a session's: by the command of that name. Nothing
// that the new one allows, too, is interrupted.

// renewed is what a refresh has come to: the new grant, and what it makes of the subscriptions.
type renewed struct {
	grant    Grant
	channels []string
	admitted []auth.Admission // one per channel; nil: all with the grant
	problems []*Problem       // one per channel: why it ends; nil: none does
	subject  middleware.Key   // has been counted in, since the session had none; 0: there is nothing to count
}

// renew asks what grant lets the session go on with. It must not be called by a writer.
func (s *session) renew(ctx context.Context, grant Grant) (_ *renewed, p *Problem) {
	who, was := grant.Who(), s.grant().Who()
	switch {
	case who.Anonymous:
		return nil, problem(Unauthorized, "a refresh needs a token")
	case !was.Anonymous && who.Subject != was.Subject && s.ws == nil: // who posts it is not told that there is such a session
		return nil, problem(NotFound, unknownSession)
	case !was.Anonymous && who.Subject != was.Subject:
		return nil, problem(Forbidden, "the token is another subject's than the connection; connect anew with it")
	}
	r := &renewed{grant: grant}
	if was.Subject == "" && who.Subject != "" {
		l := s.server.limits
		k := l.clients.SubjectKey(who.Subject)
		if !l.subjects.enter(k, l.connectionsOf(grant)) {
			return nil, l.crowded(limitSubjectConnections, "user")
		}
		defer func() {
			if p != nil {
				l.subjects.leave(k)
			}
		}()
		r.subject = k
	}
	listed := make(chan struct{})
	s.writer.post(func() {
		defer close(listed)
		for _, f := range s.feeds {
			if !f.signed { // those with a token of their own last as long as that
				r.channels = append(r.channels, f.Channel())
			}
		}
	})
	select {
	case <-listed:
	case <-ctx.Done():
		return nil, problem(Unavailable, "this node is busy; try again")
	}
	var err error
	if r.admitted, err = grant.Subscribe(ctx, r.channels, nil); err == nil {
		return r, nil
	}
	r.admitted, r.problems = make([]auth.Admission, len(r.channels)), make([]*Problem, len(r.channels))
	for i, c := range r.channels { // which of them it is
		one, err := grant.Subscribe(ctx, []string{c}, nil)
		switch {
		case err != nil:
			if r.problems[i] = denied(err); r.problems[i].Code == Unavailable {
				return nil, r.problems[i] // nothing has changed: the client may try again
			}
		case one != nil:
			r.admitted[i] = one[0]
		}
	}
	return r, nil
}

// renew puts r in force. It is for the session's writer.
func (w *writer) renew(s *session, r *renewed) {
	who := r.grant.Who()
	if r.subject != 0 && (s.state == closed || s.ending || s.subject.Load() != 0) { // it has ended meanwhile, or another refresh was quicker
		w.server.limits.subjects.leave(r.subject)
		r.subject = 0
	}
	if s.state == closed || s.ending {
		return
	}
	if r.subject != 0 {
		s.subject.Store(uint64(r.subject)) // and leaves with the session
	}
	if w.server.broker.Revoked(who.TokenID, who.Subject, who.Issued) { // since it was asked
		w.deny(s, problem(TokenRevoked, "the token was taken back"))
		return
	}
	s.holder.Store(&holder{r.grant})
	s.expires = 0
	w.bound(s, w.server.at(who.Expires))
	for _, f := range s.feeds {
		if f.signed {
			w.bound(s, f.until)
		}
	}
	for i, c := range r.channels {
		f := s.feed(c)
		switch {
		case f == nil:
		case r.problems != nil && r.problems[i] != nil:
			w.unsubscribe(s, f, r.problems[i])
		default:
			w.admit(f, r.admitted, i)
		}
	}
}

// refresh is the command. Those after it wait until it is in force. Who posts it may show the token in the request instead.
func (s *session) refresh(c command) {
	ctx, cancel := context.WithTimeout(s.server.ctx, s.server.config.JoinTimeout)
	defer cancel()
	grant := c.grant
	if grant == nil {
		var err error
		if grant, err = s.server.config.Access.Renew(ctx, s.grant(), c.Token); err != nil {
			s.refuse(c.asker(), denied(err))
			return
		}
	}
	r, p := s.renew(ctx, grant)
	if p != nil {
		s.refuse(c.asker(), p)
		return
	}
	inForce := make(chan struct{})
	s.writer.post(func() {
		defer close(inForce)
		ended := s.state == closed || s.ending
		object := append(appendExpires(c.asker().begin(), grant), '}')
		if c.post == nil { // before the notices of what has ended by it
			s.give(c.asker(), outcome{object: object})
		}
		s.writer.renew(s, r)
		switch {
		case ended:
			s.give(c.asker(), outcome{problem: problem(NotFound, unknownSession)})
		case c.post != nil:
			s.give(c.asker(), outcome{object: object})
		}
	})
	select {
	case <-inForce:
	case <-ctx.Done(): // the writers have ended
	}
}

// appendExpires appends when a grant ends, in Unix seconds, to a JSON object that has members.
func appendExpires(dst []byte, g Grant) []byte {
	if e := g.Who().Expires; !e.IsZero() {
		dst = strconv.AppendInt(append(dst, `,"expires":`...), e.Unix(), 10)
	}
	return dst
}
