package transport

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"strconv"

	"github.com/labstack/echo/v4"

	"sluice/broker"
	"sluice/middleware/auth"
	"sluice/otel"
)

// A client may say that it has a traced message: by the traceparent that it came with. It becomes a span, and nothing else.

// ack is the command.
func (s *session) ack(c command) {
	if _, ok := otel.ParseContext(c.Traceparent); !ok {
		s.refuse(c.asker(), problem(BadRequest, "traceparent is that of a message"))
		return
	}
	traced := false
	if t := s.server.config.Tracer; t != nil {
		traced = t.Ack(s.id, carrierNames[s.over], c.Traceparent, c.at)
	}
	s.reply(c.asker(), append(strconv.AppendBool(append(c.asker().begin(), `,"traced":`...), traced), '}'))
}

// maxAck bounds the body of POST /ack.
const maxAck = 1 << 10

// serveAck answers POST /ack, for clients of SSE: {"session":ID,"traceparent":…}, whatever the content type, since beacons choose their
// own. 204 if it has become a span.
func (s *Server) serveAck(c echo.Context) error {
	now := broker.Now()
	r := c.Request()
	grant, err := s.config.Access.Authorize(r, auth.Listen)
	if err != nil {
		return denied(err)
	}
	if p := s.limits.take(limitCommand, s.limits.key(r, grant)); p != nil {
		return p
	}
	body, err := io.ReadAll(http.MaxBytesReader(c.Response(), r.Body, maxAck))
	if err != nil {
		return bodyUnread(err)
	}
	var in struct {
		Session     string `json:"session"`
		Traceparent string `json:"traceparent"`
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return problem(BadRequest, "not JSON: "+plain(err))
	}
	id, err := base64.RawURLEncoding.DecodeString(in.Session)
	if err != nil || len(id) != len(session{}.id) {
		return problem(BadRequest, "session is that of the welcome")
	}
	if _, ok := otel.ParseContext(in.Traceparent); !ok {
		return problem(BadRequest, "traceparent is that of a message")
	}
	t := s.config.Tracer
	if t == nil || !t.Ack([12]byte(id), carrierNames[overSSE], in.Traceparent, now) {
		return problem(NotFound, "this node has not sent that message, or too long ago")
	}
	c.Response().Header().Set("Cache-Control", "no-store")
	return c.NoContent(http.StatusNoContent)
}
