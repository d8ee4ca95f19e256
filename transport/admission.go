package transport

import (
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"sluice/middleware"
)

// crowdedRetry is when those may come back who have as many connections as they may: one of them may be dead, and nobody
// has noticed yet.
const crowdedRetry = 5 * time.Second

// gate refuses a request to connect that a full node would not take anyway, before anybody asks who it is from: that may
// cost more than the answer, here and elsewhere.
func (s *Server) gate(refuse func(c echo.Context, p *Problem) error) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			if p := s.room(); p != nil {
				return refuse(c, p)
			}
			return next(c)
		}
	}
}

// room says why one more connection is not taken; nil: it is.
func (s *Server) room() *Problem {
	switch {
	case s.draining.Load(): // admit says so, once it is known that they may come at all
		return nil
	case s.sessions.Load() >= int64(s.config.MaxSessions):
		return s.limits.full(limitNodeSessions, "connections")
	case s.memory.isFull(newConnection):
		return s.limits.full(limitNodeMemory, "bytes of memory")
	}
	return s.limits.spend([]toll{{kind: limitNodeConnect, from: s.limits.nodeConnects, key: allOf, n: 1}})
}

// spare refuses a request to publish while the node has no memory for it, and counts what its body takes.
func (s *Server) spare(next echo.HandlerFunc) echo.HandlerFunc {
	if s.memory == nil {
		return next
	}
	return func(c echo.Context) error {
		if s.memory.isFull(newConnection) {
			return s.limits.full(limitNodeMemory, "bytes of memory")
		}
		r := c.Request()
		body := &heldBody{ReadCloser: r.Body, limits: s.limits, memory: s.memory}
		defer func() { s.memory.free(body.held) }()
		r.Body = body
		return next(c)
	}
}

// admit counts ss in, which r asks for, with so many channels, or says why not. Each admitted one is released once.
func (s *Server) admit(r *http.Request, ss *session, channels int) *Problem {
	if s.draining.Load() {
		return problem(Draining, "connect to another node, or here a little later")
	}
	l, who := s.limits, subject(ss.grant())
	most := l.connectionsOf(ss.grant()) // all that the grant is asked is asked before anything is counted: it may panic
	kind := limitConnect
	if ss.over == overPoll {
		kind = limitPoll
	}
	if p := l.settle(kind, r, ss.grant(), 1); p != nil {
		return p
	}
	if s.sessions.Add(1) > int64(s.config.MaxSessions) {
		s.sessions.Add(-1)
		return l.full(limitNodeSessions, "connections")
	}
	ss.address = l.address(r)
	if l.counted(ss.address) && !l.addresses.enter(ss.address, l.perAddress) {
		s.sessions.Add(-1)
		l.hint(r)
		return l.crowded(limitAddressConnections, "address")
	}
	if who != "" {
		k := l.clients.SubjectKey(who)
		if !l.subjects.enter(k, most) {
			s.release(ss)
			return l.crowded(limitSubjectConnections, "user")
		}
		ss.subject.Store(uint64(k))
	}
	if !s.reserve(ss, channels) {
		s.release(ss)
		return l.full(limitNodeSubscriptions, "subscriptions")
	}
	return nil
}

// crowded is the problem of those who have as many connections as they may.
func (l *limits) crowded(kind limitKind, who string) *Problem {
	l.refused[kind].Add(1)
	p := problem(TooManyConnections, "as many connections as one "+who+" may have at once; close one, or come back later")
	p.Retry = crowdedRetry
	return p
}

// reserve makes room for n more subscriptions of ss, if there is any. What is not joined goes back with release.
func (s *Server) reserve(ss *session, n int) bool {
	if s.limits.subscriptions.Add(int64(n)) > int64(s.config.MaxSubscriptions) {
		s.limits.subscriptions.Add(-int64(n))
		return false
	}
	ss.reserved += int32(n)
	return true
}

// release gives back what admit has counted.
func (s *Server) release(ss *session) {
	s.sessions.Add(-1)
	l := s.limits
	if l.counted(ss.address) {
		l.addresses.leave(ss.address)
	}
	if k := middleware.Key(ss.subject.Load()); k != 0 {
		l.subjects.leave(k)
	}
	l.subscriptions.Add(-int64(ss.reserved))
	if ss.ws != nil {
		s.memory.free(ss.ws.pinned.end())
	}
}

// unlaunched releases a session that was admitted and whose handler ends before a writer has it, however that came about.
func (s *Server) unlaunched(ss *session) {
	if ss.link == nil {
		s.release(ss)
	}
}

// ended is called by the writer for each session that it has dropped.
func (s *Server) ended(ss *session, why closeReason) {
	s.counts.ended(ss, why)
	s.release(ss)
}

// client is who counts for what the session does.
func (s *session) client() middleware.Key {
	if k := middleware.Key(s.subject.Load()); k != 0 {
		return k
	}
	return s.address
}

// spareFor makes room for n more subscriptions of a session that has begun, or says why there is none.
func (s *Server) spareFor(ss *session, n int) *Problem {
	switch {
	case s.memory.isFull(int64(n) << 10):
		return s.limits.full(limitNodeMemory, "bytes of memory")
	case !s.reserve(ss, n):
		return s.limits.full(limitNodeSubscriptions, "subscriptions")
	}
	return nil
}
