package transport

import (
	"net/http"

	"github.com/labstack/echo/v4"

	"sluice/broker"
	"sluice/otel"
)

// The spans of requests: of publishes and polls from their head to the answer, of streams and WebSockets until the session has what it came for.

// tracing begins the server span of a request to publish, in which all that is logged and published is.
func (s *Server) tracing(next echo.HandlerFunc) echo.HandlerFunc {
	t := s.config.Tracer
	if t == nil {
		return next
	}
	return func(c echo.Context) error {
		r := c.Request()
		ctx, span := t.Request(r.Context(), r.Method, route(c.Path()), r.URL.Path, c.Scheme(), r.Header.Get("Traceparent"))
		c.SetRequest(r.WithContext(ctx))
		err := next(c)
		if err != nil {
			p := problemOf(err)
			span.Answered(t.Clock(), p.Status, string(p.Code))
			return err
		}
		span.Answered(t.Clock(), c.Response().Status, "")
		return nil
	}
}

// route is a path as the manual has it.
func route(path string) string {
	if path == "/publish/*" {
		return "/publish/{channel}"
	}
	return path
}

// connecting begins the span of a request to listen; one that is refused ends it. Who takes the request on finds it by connectOf.
func (s *Server) connecting(over carrier) echo.MiddlewareFunc {
	t := s.config.Tracer
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		if t == nil {
			return next
		}
		return func(c echo.Context) error {
			r := c.Request()
			connect := t.Connect(carrierNames[over], r.Method, c.Path(), c.Scheme(), r.Header.Get("Traceparent"), broker.Now())
			if connect == nil {
				return next(c)
			}
			c.SetRequest(r.WithContext(connect.In(r.Context())))
			c.Set(connectKey, connect)
			err := next(c)
			if err != nil {
				p := problemOf(err)
				connect.End(p.Status, string(p.Code))
			}
			return err
		}
	}
}

const connectKey = "sluice.connect"

// connectOf returns the span of a request to listen, nil if it is not traced.
func connectOf(c echo.Context) *otel.Connect {
	connect, _ := c.Get(connectKey).(*otel.Connect)
	return connect
}

// pin reports whether a session is to be traced whatever its messages were sampled, which not everyone may ask for.
func (s *Server) pin(asked string, g Grant) (bool, error) {
	switch {
	case asked == "":
		return false, nil
	case asked != "1":
		return false, problem(BadRequest, "trace can only be 1")
	case s.config.Tracer == nil:
		return false, problem(BadRequest, "this node traces nothing; connect without trace=1, or see docs/observability.md")
	}
	if err := g.Trace(); err != nil {
		return false, denied(err)
	}
	return true, nil
}

// watch takes on what is to be traced of a session that begins.
func (w *writer) watch(s *session, l *listenRequest) {
	if w.server.config.Tracer == nil {
		return
	}
	if l.connect != nil {
		l.connect.Session(s.name())
		w.connects[s] = l.connect
	}
	if l.pinned {
		w.pins[s] = struct{}{}
	}
}

// unwatch gives that up, of a session that has ended.
func (w *writer) unwatch(s *session, why closeReason) {
	if w.connects == nil {
		return
	}
	if c := w.connects[s]; c != nil {
		c.End(s.status(), closeNames[why])
		delete(w.connects, s)
	}
	delete(w.pins, s)
}

// replayed notes messages that s has taken and that had been published before it came.
func (w *writer) replayed(s *session, b *broker.Batch) {
	c := w.connects[s]
	if c == nil {
		return
	}
	for _, m := range b.Messages {
		if m.Gap == nil {
			c.Replay(m.Channel).Add(m.Trace)
		}
	}
}

// connected ends the span of the request of s once that has been written what it came for.
func (w *writer) connected(s *session) {
	c := w.connects[s]
	if c == nil || s.state != open || s.owes() {
		return
	}
	for _, f := range s.feeds {
		if f.Replaying() {
			return
		}
	}
	c.End(s.status(), "")
	delete(w.connects, s)
}

// status is what the request of s was answered with.
func (s *session) status() int {
	if s.over == overWS {
		return http.StatusSwitchingProtocols
	}
	return http.StatusOK
}
