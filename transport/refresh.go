package transport

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"strconv"

	"github.com/labstack/echo/v4"

	"sluice/middleware"
	"sluice/middleware/auth"
)

// A refresh puts another grant in the place of a session's: the command on WebSocket, POST /sessions/{id} for SSE. Nothing
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

// refresh is the command on a WebSocket.
func (h wsHandler) refresh(c command) {
	ctx, cancel := context.WithTimeout(h.server.ctx, h.server.config.JoinTimeout)
	defer cancel()
	grant, err := h.server.config.Access.Renew(ctx, h.grant(), c.Token)
	if err != nil {
		h.reply(c.Ref, denied(err))
		return
	}
	r, p := h.renew(ctx, grant)
	if p != nil {
		h.reply(c.Ref, p)
		return
	}
	h.writer.post(func() {
		h.send(appendText(nil, append(appendExpires(appendRef([]byte(`{"type":"reply"`), c.Ref), grant), '}')))
		h.writer.renew(h.session, r)
	})
}

// appendExpires appends when a grant ends, in Unix seconds, to a JSON object that has members.
func appendExpires(dst []byte, g Grant) []byte {
	if e := g.Who().Expires; !e.IsZero() {
		dst = strconv.AppendInt(append(dst, `,"expires":`...), e.Unix(), 10)
	}
	return dst
}

// maxRefresh bounds the body of POST /sessions/{id}.
const maxRefresh = 64 << 10

// serveSession answers POST /sessions/{id}, for clients of SSE: {"type":"refresh","token":TOKEN}, or without token, where the request itself
// shows one. Who knows a session's id and has a token of its subject is its client.
func (s *Server) serveSession(c echo.Context) error {
	r := c.Request()
	id, err := base64.RawURLEncoding.DecodeString(c.Param("id"))
	if err != nil || len(id) != len(session{}.id) {
		return problem(NotFound, unknownSession)
	}
	if p := s.limits.take(limitCommand, s.limits.clients.AddrKey(s.limits.clients.Addr(r))); p != nil {
		return p
	}
	body, err := io.ReadAll(http.MaxBytesReader(c.Response(), r.Body, maxRefresh))
	if err != nil {
		if p := problemOf(err); p.Code == TooLarge {
			return p
		}
		return problem(BadRequest, "the body could not be read to its end")
	}
	var in struct {
		Type  string `json:"type"`
		Token string `json:"token"`
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return problem(BadRequest, "not JSON: "+plain(err))
	}
	if in.Type != "refresh" {
		return problem(BadRequest, `type can only be "refresh"`)
	}
	ctx, cancel := context.WithTimeout(r.Context(), s.config.JoinTimeout)
	defer cancel()
	return s.refreshSession(ctx, c, [12]byte(id), in.Token)
}

const unknownSession = "this node has no stream with this session: it has ended, or is on another node"

func (s *Server) refreshSession(ctx context.Context, c echo.Context, id [12]byte, token string) error {
	var grant Grant
	var err error
	if token == "" { // before it is told which sessions there are
		if grant, err = s.config.Access.Authorize(c.Request(), auth.Listen); err != nil {
			return denied(err)
		}
	}
	ss := s.streamOf(ctx, id)
	if ss == nil {
		return problem(NotFound, unknownSession)
	}
	if token != "" {
		if grant, err = s.config.Access.Renew(ctx, ss.grant(), token); err != nil {
			return denied(err)
		}
	}
	renewed, p := ss.renew(ctx, grant)
	if p != nil {
		return p
	}
	ss.writer.post(func() { ss.writer.renew(ss, renewed) })
	c.Response().Header().Set("Cache-Control", "no-store")
	return c.JSONBlob(http.StatusOK, append(appendExpires([]byte(`{"type":"reply"`), grant), "}\n"...))
}

// streamOf returns the SSE session with an id, nil if this node has none.
func (s *Server) streamOf(ctx context.Context, id [12]byte) *session {
	found := make(chan *session, len(s.writers))
	for _, w := range s.writers {
		w.post(func() { found <- w.streams[id] })
	}
	for range s.writers {
		select {
		case ss := <-found:
			if ss != nil {
				return ss
			}
		case <-ctx.Done():
			return nil
		case <-s.ctx.Done():
			return nil
		}
	}
	return nil
}
