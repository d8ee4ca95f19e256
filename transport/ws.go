package transport

import (
	"net/http"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
	"github.com/labstack/echo/v4"
	"golang.org/x/time/rate"

	"sluice/broker"
	"sluice/middleware"
	"sluice/transport/wsframe"
)

// upgrader does the handshake; frames are read and written by our own code, which needs no goroutine
// and no buffer per connection. Compression is not offered: clients send little, and a compressed
// frame can't be bounded before it is inflated.
var upgrader = websocket.Upgrader{
	HandshakeTimeout: 5 * time.Second,
	ReadBufferSize:   256,
	WriteBufferSize:  256,
	Subprotocols:     []string{subprotocolJSON, subprotocolPlain}, // never a token, which is among those that are offered
	CheckOrigin:      func(*http.Request) bool { return true },    // the origin middleware has
}

// serveWS answers GET /ws.
func (s *Server) serveWS(c echo.Context) error {
	r := c.Request()
	if f := checkHandshake(r); f != nil {
		f.setHeader(c.Response().Header())
		switch f.status {
		case http.StatusUpgradeRequired:
			return problem(UpgradeRequired, f.detail)
		case http.StatusMethodNotAllowed:
			return problem(MethodNotAllowed, f.detail)
		}
		return problem(BadRequest, f.detail)
	}
	l, err := s.parseListen(r, "channel", "resume", "lastEventId", "gaps", "trace")
	if err != nil {
		return err
	}
	ss := s.newSession(l.grant, overWS)
	ss.format = wsPlain{}
	switch g := l.query.Get("gaps"); g {
	case "":
	case "frame":
		ss.gaps = true
	default:
		return problem(BadRequest, "gaps can only be frame")
	}
	if p := s.admit(r, ss, len(l.channels)); p != nil {
		return p
	}
	defer s.unlaunched(ss)
	head := http.Header{middleware.HeaderRequestID: {middleware.RequestID(c)}}
	if h := l.terms.header(l.channels); h != "" {
		head[deliverHeader] = []string{h}
	}
	conn, err := upgrader.Upgrade(c.Response(), r, head)
	if err != nil { // it has answered, or the connection is gone
		c.Response().Committed = true
		connectOf(c).End(http.StatusBadRequest, string(BadRequest))
		return nil
	}
	c.Response().Committed, c.Response().Status = true, http.StatusSwitchingProtocols
	ss.ws = &wsInput{commands: conn.Subprotocol() == subprotocolJSON}
	if ss.ws.commands {
		ss.format = wsJSON{}
	} else if len(l.channels) == 0 {
		l.rejected = problem(BadRequest, "name at least one channel (/ws?channel=NAME) or ask for the subprotocol "+subprotocolJSON)
	}
	if l.badToken != nil {
		l.rejected = problemOf(l.badToken)
	}
	l.connect = connectOf(c)
	s.counts.connects[overWS].add(resultOK)
	ss.ledger = s.newLedger(r)
	if l.rejected == nil && (ss.ws.commands || ss.gaps) {
		s.tell(ss, l)
	}
	_ = conn.NetConn().SetDeadline(time.Time{})
	s.launch(ss, conn.NetConn(), emptyReader(), l)
	return nil
}

// wsInput is the reading side of a WebSocket session. Its methods are called from one goroutine at a
// time, the one that reads the socket.
type wsInput struct {
	decoder   wsframe.Decoder
	commands  bool          // the client speaks sluice.v1.json
	closeSeen atomic.Bool   // the client has sent its close frame
	halfAt    atomic.Int64  // since when a message has been half there, in the server's milliseconds; 0: none is
	limiter   *rate.Limiter // made with the first frame
	pinned    pinned        // what a message holds that is half there
	queue     commandQueue
}

// wsHandler is a session as the frame decoder sees it.
type wsHandler struct{ *session }

func (w *wsInput) feed(s *session, b []byte) {
	err := w.decoder.Feed(b, wsframe.Limits{MaxMessage: s.server.config.MaxCommand}, wsHandler{s})
	if m := s.server.memory; m != nil && err == nil && !w.pinned.move(m, w.decoder.Held()) {
		s.server.limits.refused[limitNodeMemory].Add(1)
		w.decoder.Stop()
		err = &wsframe.Error{Code: closeTryAgain, Reason: string(AtCapacity)}
	}
	switch {
	case !w.decoder.Pending():
		w.halfAt.Store(0)
	case w.halfAt.Load() == 0:
		w.halfAt.Store(s.server.now())
	}
	if err == nil {
		return
	}
	code, reason := closeBad, "internal"
	if e, ok := err.(*wsframe.Error); ok {
		code, reason = e.Code, e.Reason
	}
	s.writer.post(func() { s.writer.end(s, code, reason) })
}

// half is for how long a message has been half there, in milliseconds: it pins memory, and pings in
// between would keep the session alive.
func (w *wsInput) half(now int64) int64 {
	if at := w.halfAt.Load(); at != 0 {
		return now - at
	}
	return 0
}

// Message implements wsframe.Handler.
func (h wsHandler) Message(data []byte, text bool) error {
	if ok, err := h.allow(data); !ok || !h.ws.commands {
		return err // plain connections have nothing to say
	}
	if !text {
		return &wsframe.Error{Code: closeUnsupported, Reason: "commands are JSON text"}
	}
	h.command(data)
	return nil
}

// command has one command done. It must not block: the socket's reader calls it.
func (h wsHandler) command(data []byte) {
	at := broker.Now()
	c, p := decodeCommand(data)
	c.at = at
	if tooFast := h.server.limits.command(h.client(), h.grant(), len(data)); tooFast != nil {
		p = tooFast // those that can't be read count, too
	}
	if p == nil {
		p = h.enqueue(&h.ws.queue, c, len(data))
	}
	if p != nil {
		h.refuse(c.asker(), p)
	}
}

// Ping implements wsframe.Handler.
func (h wsHandler) Ping(data []byte) error {
	ok, err := h.allow(nil)
	if ok {
		pong := wsframe.AppendFrame(nil, wsframe.OpPong, data)
		h.writer.post(func() { h.send(pong) })
	}
	return err
}

// Pong implements wsframe.Handler. That something came is all that matters, and has been noted; a
// flood of them counts like any other.
func (h wsHandler) Pong([]byte) error {
	_, err := h.allow(nil)
	return err
}

// Close implements wsframe.Handler.
func (h wsHandler) Close(code uint16, _ []byte) error {
	if code == wsframe.CloseNoStatus {
		code = websocket.CloseNormalClosure
	}
	h.ws.closeSeen.Store(true)
	h.writer.post(func() {
		if h.state == closing {
			h.writer.drop(h.session, h.why)
			return
		}
		if h.ending || h.state == closed {
			return
		}
		h.writer.end(h.session, code, "")
		h.why = closedByPeer
	})
	return nil
}

// maxTooSoon is how long a command that came too soon may be, in bytes, to be read for its reference.
const maxTooSoon = 4 << 10

// allow counts one frame against the command rate, and reports whether it is within. A client that goes on far beyond it is
// closed by the error, after which nothing that it sends is looked at.
func (h wsHandler) allow(data []byte) (bool, error) {
	c := &h.server.config
	if h.ws.limiter == nil {
		h.ws.limiter = rate.NewLimiter(rate.Limit(c.CommandRate), c.CommandBurst)
	}
	if h.ws.limiter.Allow() {
		return true, nil
	}
	h.server.limits.refused[limitSessionCommand].Add(1)
	h.ws.queue.refused++
	if int(h.ws.queue.refused) > 10*c.CommandBurst {
		return false, &wsframe.Error{Code: closeTooFast, Reason: string(RateLimited)}
	}
	if h.ws.commands {
		var a asker
		if len(data) <= maxTooSoon {
			c, _ := decodeCommand(data)
			a = c.asker()
		}
		h.refuse(a, tooFast(h.ws.limiter))
	}
	return false, nil
}
