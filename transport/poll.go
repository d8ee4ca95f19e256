package transport

import (
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/labstack/echo/v4"

	"sluice/middleware"
)

// pollRequest is the body of POST /poll (docs/protocol.md).
type pollRequest struct {
	Channel  string   `json:"channel"`
	Channels []string `json:"channels"`
	Wait     *float64 `json:"wait"`  // seconds
	Limit    *int64   `json:"limit"` // bytes of messages
	Rate     string   `json:"rate"`
	Batch    string   `json:"batch"`
	Conflate string   `json:"conflate"`
	Filter   string   `json:"filter"`
	wanted
}

// first reports whether the client has nothing yet that it could go on from.
func (w *wanted) first() bool {
	return w.Resume == "" && !slices.ContainsFunc(w.Subscriptions, func(e entry) bool { return e.Since != "" })
}

// limit is where the answer ends, in bytes.
func (in *pollRequest) limit() int {
	if in.Limit == nil {
		return maxPoll
	}
	return int(min(max(*in.Limit, minPoll), maxPoll))
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
	first := in.first()
	p := &poll{first: first, limit: in.limit(), pause: l.terms.interval(), idle: s.pauseOf(hold, first)}
	ss := s.newSession(l.grant, overPoll)
	ss.format = p
	if refused := s.admit(r, ss, len(l.channels)); refused != nil {
		if refused.Retry == 0 {
			refused.Retry = s.retry()
		}
		return refused
	}
	defer s.unlaunched(ss)
	l.connect = connectOf(c)
	ss.ledger = s.newLedger(r)
	s.tell(ss, l)
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
	l, body, err := s.readListen(c)
	if err != nil {
		return nil, nil, err
	}
	in, err := decodePoll(body)
	if err != nil {
		return nil, nil, err
	}
	if in.Subscriptions == nil {
		if l.channels, err = (&command{Channel: in.Channel, Channels: in.Channels}).names(s.config.MaxChannels); err != nil {
			return nil, nil, err
		}
	}
	if l.grant.Who().NoHistory {
		return nil, nil, problem(Forbidden, "this token gives no history, and what comes between two polls is history; use /sse or /ws")
	}
	if in.Subscriptions != nil {
		return l, in, s.chooseFor(c.Request(), l, &in.wanted)
	}
	if err := s.subscribe(c.Request(), l, in.Signed); err != nil {
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

// decodePoll reads the body of a poll.
func decodePoll(body []byte) (*pollRequest, error) {
	var in pollRequest
	if err := decodeBody(body, &in, "a poll"); err != nil {
		return nil, err
	}
	if in.Wait != nil && !(*in.Wait >= 0 && *in.Wait <= math.MaxInt32) {
		return nil, problem(BadRequest, "wait is a number of seconds, 0 or more")
	}
	if in.Limit != nil && *in.Limit < 1 {
		return nil, problem(BadRequest, "limit is a number of bytes, 1 or more")
	}
	if in.Subscriptions != nil && (in.Channel != "" || in.Channels != nil || in.Rate != "" || in.Batch != "" || in.Conflate != "" || in.Filter != "") {
		return nil, problem(BadRequest, "with subscriptions channels and what is wished of them stand in those")
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
