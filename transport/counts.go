package transport

import (
	"net/http"
	"strconv"
	"sync/atomic"

	"github.com/gorilla/websocket"
	"github.com/labstack/echo/v4"

	"sluice/broker"
	"sluice/otel"
)

// carrier is what carries messages from or to a client; it is the label transport of metrics.
type carrier uint8

const (
	overSSE carrier = iota
	overWS
	overPoll
	overHTTP // publishes only
	carriers

	streams = overHTTP // how many carriers deliver
)

var carrierNames = [carriers]string{"sse", "ws", "poll", "http"}

// formatNames are the labels of the wire formats, by slot.
var formatNames = [formats]struct {
	over carrier
	name string
}{slotSSE: {overSSE, "plain"}, slotSSEJSON: {overSSE, "json"}, slotWS: {overWS, "plain"}, slotWSJSON: {overWS, subprotocolJSON}, slotPoll: {overPoll, "json"}}

// limitKind is what came too often.
type limitKind uint8

const (
	limitConnect limitKind = iota
	limitPublish
	limitCommand        // of a client
	limitPoll           // counts as a command
	limitSessionCommand // of a connection
	limitSessionQueue   // commands that wait
	limitGranted        // what a grant says
	limitBytes          // that a client sends
	limitAddressConnections
	limitSubjectConnections
	limitAddressSockets

	limitNodeSessions // here begins what is limited for all clients together, see limitNode
	limitNodeConnect
	limitNodeSubscriptions
	limitNodePublish
	limitNodeBytes
	limitNodeMemory
	limitNodeSockets
	limitNodeQuestions // commands that other nodes pass on, at once
	limitKinds

	limitNode = limitNodeSessions
)

var limitNames = [limitKinds]string{
	limitConnect: "connect", limitPublish: "publish", limitCommand: "command", limitPoll: "poll",
	limitSessionCommand: "session_command", limitSessionQueue: "session_queue",
	limitGranted: "granted", limitBytes: "bytes",
	limitAddressConnections: "address_connections", limitSubjectConnections: "subject_connections", limitAddressSockets: "address_sockets",
	limitNodeSessions: "node_sessions", limitNodeConnect: "node_connect", limitNodeSubscriptions: "node_subscriptions",
	limitNodePublish: "node_publish", limitNodeBytes: "node_bytes", limitNodeMemory: "node_memory", limitNodeSockets: "node_sockets",
	limitNodeQuestions: "node_questions",
}

// counts are what a server counts, but for what is measured per write. They are counted whether anybody asks or not: none of it is per message
// delivered.
type counts struct {
	sessions      [formats]atomic.Int64 // open now, by format
	subscriptions [streams]atomic.Int64 // there now
	connects      [streams]results
	publishes     [carriers]results
	closes        [streams][closeReasons]atomic.Int64
	codes         [len(closeCodes) + 1]atomic.Int64 // the last is other
	badTokens     atomic.Int64                      // gaps for resume tokens that could not be read
}

// results counts by result: resultOK or the code of a refusal. It is not written to once it is made.
type results map[Code]*atomic.Int64

// resultOK is the result of what was not refused.
const resultOK Code = "ok"

func newResults() results {
	r := results{resultOK: new(atomic.Int64)}
	for c := range codes {
		r[c] = new(atomic.Int64)
	}
	return r
}

func (r results) add(c Code) {
	if n := r[c]; n != nil {
		n.Add(1)
	}
}

func (c *counts) init() {
	for i := range c.connects {
		c.connects[i] = newResults()
	}
	for i := range c.publishes {
		c.publishes[i] = newResults()
	}
}

// closeCodes are the close codes that are counted by themselves; clients may send any number.
var closeCodes = [...]uint16{1000, 1001, closeProtocol, closeUnsupported, closeAbnormal, 1007, closePolicy, 1009, 1010, 1011,
	closeRestart, closeTryAgain, closeBad, closeDenied, closeSilent, closeTooFast}

// ended counts a session that has ended.
func (c *counts) ended(s *session, why closeReason) {
	c.sessions[s.format.slot()].Add(-1)
	c.closes[s.over][why].Add(1)
	if s.over != overWS {
		return
	}
	code := s.code
	if code == 0 {
		code = closeAbnormal
	}
	for i, x := range closeCodes {
		if x == code {
			c.codes[i].Add(1)
			return
		}
	}
	c.codes[len(closeCodes)].Add(1)
}

// counting counts the requests that are refused. The others are counted where they succeed, since streams last.
func counting(r results) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			err := next(c)
			if err != nil && c.Request().Method != http.MethodOptions {
				r.add(problemOf(err).Code)
			}
			return err
		}
	}
}

// Measure tells the server's numbers. It asks the backend whether it delivers, which may take a second.
func (s *Server) Measure(r *otel.Readings) {
	s.measureSessions(r)
	s.measureLag(r)
	for i := range carriers {
		for code, n := range s.counts.publishes[i] {
			if i != overSSE && i != overPoll && answered(code) { // over these nobody publishes
				r.Value(otel.Publishes, float64(n.Load()), carrierNames[i], string(code))
			}
		}
	}
	r.Value(otel.Sockets, float64(s.sockets.open.Load()))
	r.Value(otel.SocketsLimit, float64(s.config.maxSockets()))
	r.Value(otel.SubscriptionsLimit, float64(s.config.MaxSubscriptions))
	for i := range limitKinds {
		r.Value(otel.RateLimited, float64(s.limits.refused[i].Load()), limitNames[i])
	}
	s.policies.Drops(func(pattern, reason string, n int64) bool {
		r.Value(otel.Drops, float64(n), pattern, reason)
		return true
	})
	r.Value(otel.Gaps, float64(s.counts.badTokens.Load()), string(broker.BadToken))
	s.measureWrites(r)

	took, err := s.probe(s.ctx)
	ready := 1.0
	if err != nil || s.draining.Load() || s.memory.isFull(0) {
		ready = 0
	}
	r.Value(otel.Ready, ready)
	r.Value(otel.ProbeTime, took.Seconds())
}

// answered reports whether a code is one that requests are answered with: some are only for streams.
func answered(c Code) bool { return c == resultOK || codes[c].status != 0 }

func (s *Server) measureSessions(r *otel.Readings) {
	c := &s.counts
	for i := range c.sessions {
		r.Value(otel.Sessions, float64(c.sessions[i].Load()), carrierNames[formatNames[i].over], formatNames[i].name)
	}
	r.Value(otel.SessionsLimit, float64(s.config.MaxSessions))
	for i := range streams {
		r.Value(otel.Subscriptions, float64(c.subscriptions[i].Load()), carrierNames[i])
		for code, n := range c.connects[i] {
			if answered(code) {
				r.Value(otel.Connects, float64(n.Load()), carrierNames[i], string(code))
			}
		}
		for why := range closeReasons {
			r.Value(otel.Closes, float64(c.closes[i][why].Load()), carrierNames[i], closeNames[why])
		}
	}
	for i := range c.codes {
		name := "other"
		if i < len(closeCodes) {
			name = strconv.Itoa(int(closeCodes[i]))
		}
		r.Value(otel.WebSocketCloses, float64(c.codes[i].Load()), name)
	}
}

const (
	closeProtocol uint16 = websocket.CloseProtocolError
	closeAbnormal uint16 = websocket.CloseAbnormalClosure // never on the wire: there was no close frame
)
