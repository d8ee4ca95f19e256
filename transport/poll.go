package transport

import (
	"bytes"
	"encoding/json"
	"io"
	"math"
	"math/rand/v2"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"sluice/middleware"
	"sluice/middleware/auth"
)

// pollRequest is the body of POST /poll (docs/protocol.md).
type pollRequest struct {
	Channel  string   `json:"channel"`
	Channels []string `json:"channels"`
	Resume   string   `json:"resume"` // a token
	Wait     *float64 `json:"wait"`   // seconds
	Rate     string   `json:"rate"`
	Batch    string   `json:"batch"`
	Conflate string   `json:"conflate"`
	Filter   string   `json:"filter"`
	Signed   []string `json:"signed"`
}

// servePoll answers POST /poll: a session that ends with its first write, for networks that let no stream through. Its link is that of HTTP/2
// streams, into an answer that has a length.
func (s *Server) servePoll(c echo.Context) error {
	r := c.Request()
	l, in, err := s.parsePoll(c)
	if err != nil {
		return err
	}
	hold := s.config.PollWait
	if in.Wait != nil {
		hold = min(hold, time.Duration(*in.Wait*float64(time.Second)))
	}
	p := &poll{first: in.Resume == "", pause: l.terms.interval(), idle: s.pauseOf(hold, in.Resume == "")}
	ss := s.newSession(l.grant, overPoll)
	ss.format = p
	for _, m := range s.gaps(l) {
		ss.out = append(appendEnvelope(ss.out, m), ',')
	}
	if refused := s.admit(r, ss, len(l.channels)); refused != nil {
		if refused.Retry == 0 {
			refused.Retry = s.retry()
		}
		return refused
	}
	defer s.unlaunched(ss)
	l.connect = connectOf(c)
	if ss.ledger = s.newLedger(r); ss.ledger != nil && l.gap != "" {
		ss.ledger.gaps = uint64(len(l.channels))
	}
	if h := l.terms.header(l.channels); h != "" {
		c.Response().Header().Set(deliverHeader, h)
	}
	w := s.holdPoll(c, ss, l, hold)
	defer w.finish()
	switch {
	case p.problem != nil:
		return p.problem
	case !p.done && r.Context().Err() == nil: // the node gave it up
		return problem(Draining, "poll another node, or this one a little later")
	}
	s.counts.connects[overPoll].add(resultOK)
	return nil
}

// holdPoll has a writer serve ss until it has ended. An answer is written then, or never will be.
func (s *Server) holdPoll(c echo.Context, ss *session, l *listenRequest, hold time.Duration) *pollWriter {
	p := ss.format.(*poll)
	rc := http.NewResponseController(c.Response())
	_ = rc.SetReadDeadline(time.Time{}) // that of the request; the connection is watched for its end meanwhile
	ended := make(chan struct{})
	w := &pollWriter{session: ss, to: c.Response(), rc: rc}
	link := &streamLink{session: ss, dst: w, timeout: w.timeout, end: func() { close(ended) }}
	ss.link = link
	ss.writer.post(func() { ss.writer.start(ss, l) })
	hold -= rand.N(hold/10 + 1) // those that came together must not go together
	alarm := time.NewTimer(hold)
	defer alarm.Stop()
	for over := false; ; {
		select {
		case <-ended:
		case <-c.Request().Context().Done(): // the client has hung up, or did not take what was written
			if link.writing.Load() {
				_ = rc.SetWriteDeadline(time.Now())
				link.active.Wait()
			}
			ss.gone()
			<-ended
		case <-alarm.C:
			late := over
			ss.writer.post(func() {
				p.over, p.late = true, late
				ss.writer.schedule(ss)
			})
			if !over {
				over = true
				alarm.Reset(s.config.JoinTimeout)
			}
			continue
		}
		break
	}
	// The ResponseWriter must outlive the last write. One that is stuck is cut short.
	if link.writing.Load() {
		_ = rc.SetWriteDeadline(time.Now())
	}
	link.active.Wait()
	return w
}

// pollWriter makes one Write an answer. Its end waits for finish: a client that has it polls again at once, and must not find its own session
// in the way.
type pollWriter struct {
	session *session
	to      http.ResponseWriter
	rc      *http.ResponseController
	until   time.Time // the deadline of the write under way
	tail    []byte    // at most pollChunk; nil: there is no answer, or not all before it was taken
}

// pollChunk is what a client has to take within Config.WriteTimeout.
const pollChunk = 16 << 10

// Write implements io.Writer. A client that takes some of it now and then has Config.MaxLag for all.
func (w *pollWriter) Write(b []byte) (n int, err error) {
	h := w.to.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(b)))
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	w.to.WriteHeader(http.StatusOK)
	c := &w.session.server.config
	end := time.Now().Add(c.MaxLag)
	for len(b)-n > pollChunk {
		if n > 0 {
			deadline := time.Now().Add(c.WriteTimeout)
			if end.Before(deadline) {
				deadline = end
			}
			_ = w.timeout(deadline)
			w.session.writer.post(func() { w.session.wroteAt = w.session.server.now() })
		}
		m, err := w.to.Write(b[n : n+pollChunk])
		if n += m; err != nil {
			w.failed()
			return n, err
		}
	}
	w.tail = b[n:]
	return len(b), nil
}

func (w *pollWriter) timeout(t time.Time) error {
	w.until = t
	return w.rc.SetWriteDeadline(t)
}

// failed has the session end for what went wrong with the answer, and not because there was one.
func (w *pollWriter) failed() {
	s, why := w.session, closedByPeer
	if !time.Now().Before(w.until) {
		why = closedSlow
	}
	s.writer.post(func() {
		s.why = why
		s.writer.drop(s, why)
	})
}

// finish writes the end of the answer, if there is one. It is for the handler, when the session has ended.
func (w *pollWriter) finish() {
	if w.tail != nil {
		_ = w.rc.SetWriteDeadline(time.Now().Add(w.session.server.config.WriteTimeout))
		if _, err := w.to.Write(w.tail); err == nil {
			_ = w.rc.Flush()
		}
	}
	_ = w.rc.SetWriteDeadline(time.Time{}) // of the connection's next request
}

// parsePoll reads a poll and asks whether the caller may listen. An error is a *Problem or one that problemOf knows.
func (s *Server) parsePoll(c echo.Context) (*listenRequest, *pollRequest, error) {
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
			return nil, nil, problem(BadRequest, "a poll says what it wants in its body, not in the query")
		}
	}
	l := &listenRequest{query: q}
	if l.grant, err = s.config.Access.Authorize(r, auth.Listen); err != nil {
		return nil, nil, denied(err)
	}
	body, err := s.readPoll(c)
	if err != nil {
		return nil, nil, err
	}
	if p := s.limits.sent(r, l.grant, len(body)); p != nil {
		return nil, nil, p
	}
	in, err := decodePoll(body)
	if err != nil {
		return nil, nil, err
	}
	if l.channels, err = (&command{Channel: in.Channel, Channels: in.Channels}).names(s.config.MaxChannels); err != nil {
		return nil, nil, err
	}
	if l.grant.Who().NoHistory {
		return nil, nil, problem(Forbidden, "this token gives no history, and what comes between two polls is history; use /sse or /ws")
	}
	if err := s.subscribe(r, l, in.Signed); err != nil {
		return nil, nil, err
	}
	var wishes []middleware.Delivery
	if in.Rate != "" || in.Batch != "" || in.Conflate != "" || in.Filter != "" {
		wish, err := middleware.ParseWish(in.Rate, in.Batch, in.Conflate, in.Filter)
		if err != nil {
			return nil, nil, problem(BadDelivery, err.Error())
		}
		for range l.channels {
			wishes = append(wishes, wish)
		}
	}
	if l.terms, err = s.findTerms(l.channels, wishes); err != nil {
		return nil, nil, err
	}
	l.resume(in.Resume)
	return l, in, nil
}

// readPoll reads the body of a poll within its limits.
func (s *Server) readPoll(c echo.Context) ([]byte, error) {
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

// decodePoll reads the body of a poll.
func decodePoll(body []byte) (*pollRequest, error) {
	var in pollRequest
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(&in); err != nil {
		return nil, problem(BadRequest, "not a poll: "+plain(err))
	}
	if _, extra := d.Token(); extra != io.EOF {
		return nil, problem(BadRequest, "not a poll: something follows it")
	}
	if bad := checkJSON(body, 1); bad != "" {
		return nil, problem(BadRequest, "not a poll: "+bad)
	}
	if in.Wait != nil && !(*in.Wait >= 0 && *in.Wait <= math.MaxInt32) {
		return nil, problem(BadRequest, "wait is a number of seconds, 0 or more")
	}
	return &in, nil
}

// interval is the shortest time between two deliveries, where a rate is in force for all channels; else 0.
func (t *terms) interval() time.Duration {
	least := time.Duration(math.MaxInt64)
	for i := range t.list {
		least = min(least, t.list[i].effective.Delivery.Interval)
	}
	if len(t.list) == 0 {
		return 0
	}
	return least
}
