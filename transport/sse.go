package transport

import (
	"bufio"
	"net"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"
)

// sseHeader is what every stream answers with; docs/protocol.md says which proxy each line is for.
var sseHeader = [][2]string{
	{"Content-Type", "text/event-stream"},
	{"Cache-Control", "no-store, no-transform"},
	{"X-Accel-Buffering", "no"},
	{"X-Content-Type-Options", "nosniff"},
	{"Referrer-Policy", "no-referrer"},
}

// serveSSE answers GET /sse.
func (s *Server) serveSSE(c echo.Context) error {
	r := c.Request()
	l, err := s.parseListen(r, "channel", "resume", "lastEventId", "format", "heartbeat", "trace", "traceparent")
	if p, ok := err.(*Problem); ok && p.Code == Unavailable {
		return s.refuseSSE(c, p) // it can't be told now whether the client may listen
	}
	if err != nil {
		return err
	}
	var how sse
	switch f := l.query.Get("format"); f {
	case "", "plain":
	case "json":
		how.envelope = true
	default:
		return problem(BadRequest, "format is plain or json")
	}
	if len(l.channels) == 0 && !how.envelope { // of a bare payload nobody could tell where it is from
		return problem(BadRequest, "name at least one channel (/sse?channel=NAME), or ask for format=json and subscribe by commands")
	}
	switch t := l.query.Get("traceparent"); t {
	case "":
	case "1":
		how.context = true
	default:
		return problem(BadRequest, "traceparent can only be 1")
	}
	switch h := l.query.Get("heartbeat"); h {
	case "", "event":
	default:
		return problem(BadRequest, "heartbeat can only be event")
	}
	return s.openSSE(c, l, how)
}

// servePostedSSE answers POST /sse: the same stream, for clients that read it without EventSource, and get envelopes.
func (s *Server) servePostedSSE(c echo.Context) error {
	l, body, err := s.readListen(c)
	var in wanted
	if err == nil {
		err = decodeBody(body, &in, "a request for a stream")
	}
	if err == nil {
		err = s.chooseFor(c.Request(), l, &in)
	}
	if p, ok := err.(*Problem); ok && (p.Status == http.StatusServiceUnavailable || p.Status == http.StatusTooManyRequests) {
		return s.refuseSSE(c, p)
	}
	if err != nil {
		return err
	}
	return s.openSSE(c, l, sse{envelope: true, context: true})
}

// openSSE answers r, which may listen, with the stream that it asks for.
func (s *Server) openSSE(c echo.Context, l *listenRequest, how sse) error {
	r := c.Request()
	ss := s.newSession(l.grant, overSSE)
	ss.format, ss.visible = how, l.query.Get("heartbeat") == "event"
	if p := s.admit(r, ss, len(l.channels)); p != nil {
		return s.refuseSSE(c, p)
	}
	defer s.unlaunched(ss)
	l.connect = connectOf(c)
	s.counts.connects[overSSE].add(resultOK)
	ss.ledger = s.newLedger(r)
	s.tell(ss, l)
	if h := l.terms.header(l.channels); h != "" {
		c.Response().Header().Set(deliverHeader, h)
	}
	if r.ProtoMajor >= 2 {
		return s.streamSSE(c, ss, l)
	}
	return s.hijackSSE(c, ss, l)
}

// refuseSSE turns a stream away for now. EventSource gives up for good on any status but 200, so
// this is a whole stream with nothing but the time to come back.
func (s *Server) refuseSSE(c echo.Context, p *Problem) error {
	s.counts.connects[overSSE].add(p.Code)
	connectOf(c).End(http.StatusOK, string(p.Code))
	h := c.Response().Header()
	for _, kv := range sseHeader {
		h.Set(kv[0], kv[1])
	}
	h.Set("Connection", "close")
	c.Response().WriteHeader(http.StatusOK)
	_, _ = c.Response().Write(appendUnavailable(nil, p, p.Retry+s.retry()))
	return nil
}

// hijackSSE takes the connection over from net/http: its goroutine and its buffers, 20 KiB, go. The
// body ends with the connection (RFC 9112 §6.3), so HTTP/1.0 clients are served alike.
func (s *Server) hijackSSE(c echo.Context, ss *session, l *listenRequest) error {
	head := append(make([]byte, 0, 512), "HTTP/1.1 200 OK\r\n"...)
	for _, kv := range sseHeader {
		head = appendHeader(head, kv[0], kv[1])
	}
	for name, values := range c.Response().Header() { // what the middleware set: CORS, request id
		if name == "Connection" {
			continue // it is closed at the end in any case
		}
		for _, v := range values {
			head = appendHeader(head, name, v)
		}
	}
	head = appendHeader(head, "Date", time.Now().UTC().Format(http.TimeFormat))
	ss.head = string(append(head, "Connection: close\r\n\r\n"...))
	conn, buf, err := http.NewResponseController(c.Response()).Hijack()
	if err != nil {
		return err
	}
	c.Response().Committed = true
	_ = conn.SetDeadline(time.Time{})
	s.launch(ss, conn, buf.Reader, l)
	return nil
}

func appendHeader(b []byte, name, value string) []byte {
	b = append(append(b, name...), ": "...)
	return append(append(b, value...), "\r\n"...)
}

// launch gives a hijacked connection to a writer. Plain TCP leaves the net package altogether;
// anything else is read by a goroutine of its own.
func (s *Server) launch(ss *session, conn net.Conn, buffered *bufio.Reader, l *listenRequest) {
	early, _ := buffered.Peek(buffered.Buffered())
	if fl, ok := s.poller.detach(conn, ss); ok {
		ss.link = s.breakable(ss, fl)
		ss.writer.post(func() { ss.writer.start(ss, l) })
		if len(early) > 0 {
			ss.received(early)
		}
		if err := fl.start(); err != nil {
			s.log.Error("a connection can't be watched", "err", err)
			ss.gone()
		}
		return
	}
	ss.link = s.breakable(ss, &streamLink{session: ss, dst: conn, timeout: conn.SetWriteDeadline, end: func() { _ = conn.Close() }})
	ss.writer.post(func() { ss.writer.start(ss, l) })
	s.running.Go(func() {
		if len(early) > 0 {
			ss.received(early)
		}
		buf := make([]byte, 512)
		for {
			n, err := conn.Read(buf)
			if n > 0 {
				ss.received(buf[:n])
			}
			if err != nil {
				ss.gone()
				return
			}
		}
	})
}

// streamSSE serves HTTP/2, where the handler has to stay as long as its stream lives.
func (s *Server) streamSSE(c echo.Context, ss *session, l *listenRequest) error {
	w := c.Response()
	for _, kv := range sseHeader {
		w.Header().Set(kv[0], kv[1])
	}
	rc := http.NewResponseController(w)
	_ = rc.SetReadDeadline(time.Time{})
	_ = rc.SetWriteDeadline(time.Time{})
	_ = c.Request().Body.Close() // nobody reads it: what came would be kept as long as the stream lives
	ended := make(chan struct{})
	link := &streamLink{session: ss, dst: w, flush: rc.Flush, timeout: rc.SetWriteDeadline, end: func() { close(ended) }}
	ss.link = s.breakable(ss, link)
	ss.writer.post(func() { ss.writer.start(ss, l) })
	select {
	case <-ended:
	case <-c.Request().Context().Done():
		ss.gone()
		<-ended
	}
	// The ResponseWriter must outlive the last write. One that is stuck is cut short; otherwise the
	// stream ends in good order.
	if link.writing.Load() {
		_ = rc.SetWriteDeadline(time.Now())
	}
	link.active.Wait()
	return nil
}
