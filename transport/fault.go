package transport

import (
	"context"
	"mime"
	"net/http"
	"slices"
	"time"

	"github.com/labstack/echo/v4"
)

// faults are what a node for development does wrong when it is asked to (Config.Faults), so that one sees what clients make of it.
type faults struct {
	blockade blockade
}

func newFaults() *faults { return &faults{blockade: blockade{lists: map[barred]barrier{}}} }

// maxFault bounds a fault that ends by itself.
const maxFault = 5 * time.Minute

// maxFaultRequest bounds the body of a request for one, in bytes.
const maxFaultRequest = 1 << 10

// faultRequest is the body of POST /dev/break. It names a session, or a transport.
type faultRequest struct {
	Session   string `json:"session"`   // of WebSocket or SSE, of this node
	Transport string `json:"transport"` // of the client's address
	Do        string `json:"do"`
	MS        int64  `json:"ms"` // milliseconds
}

// serveDemo answers GET /demo.json: what the demo page can do with this node.
func (s *Server) serveDemo(c echo.Context) error {
	c.Response().Header().Set("Cache-Control", "no-store")
	return c.JSON(http.StatusOK, struct {
		Break     bool    `json:"break"`     // there is POST /dev/break
		Heartbeat float64 `json:"heartbeat"` // seconds
	}{s.faults != nil, s.config.Heartbeat.Seconds()})
}

// serveBreak answers POST /dev/break.
func (s *Server) serveBreak(c echo.Context) error {
	f, err := readFault(c)
	if err != nil {
		return err
	}
	if f.Transport != "" {
		if err := s.bar(c.Request(), f); err != nil {
			return err
		}
		return c.NoContent(http.StatusNoContent)
	}
	id, ok := parseSessionID(f.Session)
	if ok {
		do, p := f.fault()
		if p != nil {
			return p
		}
		ok = s.onSession(c.Request().Context(), id, do)
	}
	if !ok {
		return problem(NotFound, "this node has no such session")
	}
	return c.NoContent(http.StatusNoContent)
}

// readFault reads a request. Its Content-Type makes browsers ask first on behalf of other pages (CORS).
func readFault(c echo.Context) (*faultRequest, error) {
	r := c.Request()
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != "application/json" {
		return nil, problem(UnsupportedMedia, "Content-Type must be application/json")
	}
	r.Body = http.MaxBytesReader(c.Response(), r.Body, maxFaultRequest)
	body, err := readBody(r)
	if err != nil {
		return nil, bodyUnread(err)
	}
	f := new(faultRequest)
	if err := decodeBody(body, f, "a fault"); err != nil {
		return nil, err
	}
	switch {
	case (f.Session == "") == (f.Transport == ""):
		return nil, problem(BadRequest, "name a session or a transport")
	case f.MS < 0, f.MS > maxFault.Milliseconds():
		return nil, problem(BadRequest, "ms is up to 300000")
	}
	return f, nil
}

func (f *faultRequest) time() time.Duration { return time.Duration(f.MS) * time.Millisecond }

// bar keeps the client of r off a transport.
func (s *Server) bar(r *http.Request, f *faultRequest) error {
	over := slices.Index(carrierNames[:streams], f.Transport)
	if over < 0 {
		return problem(BadRequest, "transport is sse, ws or poll")
	}
	x := barrier{until: time.Now().Add(f.time())}
	switch f.Do {
	case "heal":
		x.until = time.Time{}
	case "refuse":
	case "swallow":
		x.silent = true
	default:
		return problem(BadRequest, "do is refuse, swallow or heal for a transport")
	}
	if f.Do != "heal" && f.MS == 0 {
		return problem(BadRequest, "say for how long, in ms")
	}
	s.faults.blockade.set(barred{s.limits.address(r), carrier(over)}, x)
	return nil
}

// fault returns what is to be done to a session, on its writer's goroutine.
func (f *faultRequest) fault() (func(*session), *Problem) {
	faulty := func(change func(*faultyLink)) func(*session) {
		return func(s *session) { change(s.link.(*faultyLink)) } // all but polls have one
	}
	switch f.Do {
	case "kill":
		return func(s *session) { s.writer.drop(s, closedByUs) }, nil
	case "swallow":
		d := f.time()
		if d == 0 {
			d = 1000 * time.Hour // whoever waits so long has been given up
		}
		return faulty(func(l *faultyLink) { l.change(l.delay, time.Now().Add(d)) }), nil
	case "delay":
		if f.MS == 0 {
			return nil, problem(BadRequest, "say by how much, in ms")
		}
		return faulty(func(l *faultyLink) { l.change(f.time(), time.Time{}) }), nil
	case "heal":
		return faulty(func(l *faultyLink) { l.change(0, time.Time{}) }), nil
	}
	return nil, problem(BadRequest, "do is kill, swallow, delay or heal for a session")
}

// onSession has do called for the session with an id, and reports whether there is one. Polls are none: they end at once.
func (s *Server) onSession(ctx context.Context, id [12]byte, do func(*session)) bool {
	done := make(chan bool, len(s.writers))
	for _, w := range s.writers {
		w.post(func() {
			i := slices.IndexFunc(w.sessions, func(x *session) bool { return x.id == id && x.over != overPoll })
			if i >= 0 {
				do(w.sessions[i])
			}
			done <- i >= 0
		})
	}
	for range s.writers {
		select {
		case found := <-done:
			if found {
				return true
			}
		case <-ctx.Done():
			return false
		case <-s.ctx.Done():
			return false
		}
	}
	return false
}
