package transport

import (
	"context"
	"encoding/base64"
	"net/http"
	"time"
	"unicode/utf8"

	"github.com/labstack/echo/v4"
	"golang.org/x/time/rate"

	"sluice/broker"
	"sluice/middleware/auth"
)

// What WebSocket clients send as commands, those of SSE post to /sessions/{id}, on any node, and are answered there. Who asks for a
// session that does not exist, or is another subject's, gets the same answer, after about the same time.

const unknownSession = "there is no stream with this session: it has ended, or is another's"

// inbox is what a stream has for the commands that its client posts, from the first of them on.
type inbox struct {
	limiter *rate.Limiter
	queue   commandQueue
}

// inbox returns that of s.
func (w *writer) inbox(s *session) *inbox {
	in := w.inboxes[s]
	if in == nil {
		c := &w.server.config
		in = &inbox{limiter: rate.NewLimiter(rate.Limit(c.CommandRate), c.CommandBurst)}
		w.inboxes[s] = in
	}
	return in
}

// posted is one command, and what its sender shows.
type posted struct {
	id      [12]byte
	body    []byte
	shown   shown
	command command // that the body is
}

// commandTime is when an answer is given up. Each command ends before that by itself.
func (s *Server) commandTime() time.Duration {
	return s.config.JoinTimeout + s.config.PublishWait + s.config.sweepTime()
}

// serveSession answers POST /sessions/{id}.
func (s *Server) serveSession(c echo.Context) error {
	r := c.Request()
	id, ok := parseSessionID(c.Param("id"))
	if !ok {
		return problem(NotFound, unknownSession)
	}
	address := s.limits.address(r)
	if p := s.limits.take(limitCommand, address); p != nil {
		return p
	}
	body, err := s.readCommand(c)
	if err != nil {
		return err
	}
	defer s.memory.free(held(r))
	if !utf8.Valid(body) { // as in a WebSocket's text frame
		return problem(BadRequest, "not a command: it is not UTF-8")
	}
	p := &posted{id: id, body: body, shown: s.shownBy(r)}
	var refused *Problem
	if p.command, refused = decodeCommand(body); refused != nil {
		return refused
	}
	ctx, cancel := context.WithTimeout(r.Context(), s.commandTime())
	defer cancel()
	grant, refused := s.identify(ctx, p) // before it is told which sessions there are
	if refused != nil {
		return refused
	}
	found := false
	var x outcome
	if ss, in := s.streamOf(ctx, id); ss != nil && ss.takes(grant, &p.command) {
		s.limits.commands.Return(address, 1) // it is the session's client who pays
		x, found = ss.post(ctx, in, p, grant)
	}
	if !found {
		x = s.passOn(ctx, p)
	}
	if x.problem != nil && x.problem.Code == NotFound && p.command.Type == "refresh" && p.command.Token != "" {
		// Whether the token is any good is told whatever the session.
		if _, err := s.config.Access.Authorize(p.shown.bearing(ctx, p.command.Token), auth.Listen); err != nil {
			return denied(err)
		}
	}
	if x.problem != nil {
		return x.problem
	}
	c.Response().Header().Set("Cache-Control", "no-store")
	return c.JSONBlob(http.StatusOK, append(x.object, '\n'))
}

func parseSessionID(text string) (id [12]byte, ok bool) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(b) != len(id) || len(text) != base64.RawURLEncoding.EncodedLen(len(id)) {
		return id, false
	}
	return [12]byte(b), true
}

// readCommand reads the body of a command. A small one is taken even by a node that is full of memory: so can a token be refreshed. What is
// held for another is the caller's to free.
func (s *Server) readCommand(c echo.Context) ([]byte, error) {
	r, limit := c.Request(), int64(s.config.MaxCommand)
	if r.Header.Get("Content-Encoding") != "" {
		return nil, problem(UnsupportedMedia, "send the body without Content-Encoding")
	}
	if s.memory != nil && (r.ContentLength < 0 || r.ContentLength > small) {
		r.Body = &heldBody{ReadCloser: r.Body, limits: s.limits, memory: s.memory}
	}
	in := *r
	in.Body = http.MaxBytesReader(c.Response(), r.Body, limit)
	body, err := readBody(&in)
	if err == nil {
		return body, nil
	}
	s.memory.free(held(r))
	return nil, bodyUnread(err)
}

// held is how much of the memory the body of r holds.
func held(r *http.Request) int {
	if b, ok := r.Body.(*heldBody); ok {
		return b.held
	}
	return 0
}

// identify asks who has posted p. A refresh that brings a token needs nothing else: then it is nobody, nil.
func (s *Server) identify(ctx context.Context, p *posted) (Grant, *Problem) {
	refresh := p.command.Type == "refresh"
	if refresh && p.command.Token != "" {
		return nil, nil
	}
	grant, err := s.config.Access.Authorize(p.shown.request(ctx), auth.Listen)
	if err != nil {
		return nil, denied(err)
	}
	if refresh && grant.Who().Anonymous {
		return nil, problem(Unauthorized, "a refresh needs a token")
	}
	return grant, nil
}

// takes reports whether the session takes a command from the holder of g: it has to be of the same subject, or without one by the same
// token. For a refresh that is asked when it is done, since somebody may be made of nobody by it.
func (s *session) takes(g Grant, c *command) bool {
	if c.Type == "refresh" {
		return true
	}
	who, was := g.Who(), s.grant().Who()
	return who.Anonymous == was.Anonymous && who.Subject == was.Subject && (who.Subject != "" || who.TokenID == was.TokenID)
}

// post has p done, whose sender may, and waits for its answer. It is not found if the session has ended meanwhile, or is another's.
func (s *session) post(ctx context.Context, in *inbox, p *posted, g Grant) (x outcome, found bool) {
	l, c := s.server.limits, p.command
	if c.Type == "refresh" {
		c.grant = g
	}
	if !in.limiter.Allow() {
		l.refused[limitSessionCommand].Add(1)
		x.problem = tooFast(in.limiter)
		return x, true
	}
	if x.problem = l.command(s.client(), s.grant(), len(p.body)); x.problem != nil {
		return x, true
	}
	done := make(chan outcome, 1)
	c.at, c.post = broker.Now(), done
	if x.problem = s.enqueue(&in.queue, c, len(p.body)); x.problem != nil {
		return x, true
	}
	select {
	case x = <-done:
	case <-s.server.ctx.Done():
		x.problem = problem(Draining, "this node is shutting down")
	case <-ctx.Done():
		x.problem = problem(Unavailable, "it was not answered in time, and may have been done")
	}
	return x, x.problem == nil || x.problem.Code != NotFound
}

// streamOf returns the SSE session with an id, nil if this node has none, and its inbox.
func (s *Server) streamOf(ctx context.Context, id [12]byte) (*session, *inbox) {
	type stream struct {
		session *session
		inbox   *inbox
	}
	found := make(chan stream, len(s.writers))
	for _, w := range s.writers {
		w.post(func() {
			var x stream
			if x.session = w.streams[id]; x.session != nil {
				x.inbox = w.inbox(x.session)
			}
			found <- x
		})
	}
	for range s.writers {
		select {
		case x := <-found:
			if x.session != nil {
				return x.session, x.inbox
			}
		case <-ctx.Done():
			return nil, nil
		case <-s.ctx.Done():
			return nil, nil
		}
	}
	return nil, nil
}
