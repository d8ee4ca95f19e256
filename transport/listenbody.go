package transport

import (
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/labstack/echo/v4"

	"sluice/middleware/auth"
)

// What clients ask for in a body, JSON: POST /poll and POST /sse. It is in no URL, so it may be long, and neither logs nor caches see it.

// readListen asks whether the sender of a request may listen at all, and reads its body within its limits. An error is a *Problem or
// one that problemOf knows.
func (s *Server) readListen(c echo.Context) (*listenRequest, []byte, error) {
	r := c.Request()
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != "application/json" {
		return nil, nil, problem(UnsupportedMedia, "Content-Type must be application/json")
	}
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, nil, problem(BadRequest, "the query string is not URL-encoded")
	}
	for name := range q {
		if !allowed(name, credentialParams) && !strings.HasPrefix(name, "_") {
			return nil, nil, problem(BadRequest, "a POST says what it wants in its body, not in the query")
		}
	}
	l := &listenRequest{query: q}
	if l.grant, err = s.config.Access.Authorize(r, auth.Listen); err != nil {
		return nil, nil, denied(err)
	}
	body, err := s.readPosted(c)
	if err != nil {
		return nil, nil, err
	}
	if p := s.limits.sent(r, l.grant, len(body)); p != nil {
		return nil, nil, p
	}
	return l, body, nil
}

// readPosted reads the body of a request to listen to its end.
func (s *Server) readPosted(c echo.Context) ([]byte, error) {
	r := c.Request()
	if r.Header.Get("Content-Encoding") != "" {
		return nil, problem(UnsupportedMedia, "send the body without Content-Encoding")
	}
	most := s.config.MaxCommand
	if r.ContentLength > int64(most) {
		return nil, problem(TooLarge, "the body has more than "+strconv.Itoa(most)+" bytes")
	}
	held := &heldBody{ReadCloser: r.Body, limits: s.limits, memory: s.memory}
	defer func() { s.memory.free(held.held) }()
	r.Body = http.MaxBytesReader(c.Response(), held, int64(most))
	body, err := readBody(r)
	if err != nil {
		return nil, bodyUnread(err)
	}
	return body, nil
}

// decodeBody reads the body of a request, which is what.
func decodeBody(body []byte, in any, what string) error {
	if !utf8.Valid(body) { // as in a WebSocket's text frame
		return problem(BadRequest, "not "+what+": it is not UTF-8")
	}
	bad := decodeOnly(body, in)
	if bad == "" {
		bad = checkJSON(body, 1)
	}
	if bad != "" {
		return problem(BadRequest, "not "+what+": "+bad)
	}
	return nil
}

// chooseFor is choose for what r asks for; what comes of it is put in l.
func (s *Server) chooseFor(r *http.Request, l *listenRequest, in *wanted) error {
	signed, err := s.config.Access.Signed(r)
	if err != nil {
		return denied(err)
	}
	in.Signed = append(signed, in.Signed...)
	chosen, err := s.choose(r.Context(), l.grant, in)
	if err != nil {
		return err
	}
	l.choice = *chosen
	return nil
}
