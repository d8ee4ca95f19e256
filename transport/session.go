package transport

import (
	"crypto/rand"
	"encoding/base64"
	"sync/atomic"

	"sluice/broker"
	"sluice/middleware"
)

// session is one client connection, whatever its transport. Its writer owns it: everything that
// others want of it (the poller, a handler, a command) they post to the writer.
type session struct {
	// Set before the session is started.
	server *Server
	writer *writer
	format format
	link   link
	ws     *wsInput // nil for SSE
	head   string   // what precedes the first frame: the response head; then ""
	ledger *ledger  // what operators are told of it; nil without Config.Admin

	holder atomic.Pointer[holder] // its grant; commands ask it
	seen   atomic.Int64           // when the client last sent something, in the server's milliseconds

	// Who is counted for it; subject is a middleware.Key, 0 if the grant has none. Set when it is admitted, and by a first refresh.
	address middleware.Key
	subject atomic.Uint64

	id   [12]byte
	gaps bool    // plain WebSocket: gaps are told as frames
	over carrier // its transport
	said uint16  // bytes that the client of a stream has sent behind its request; of the reading side

	// Owned by the writer. The order of the fields keeps a session at 288 bytes.
	code     uint16 // of the WebSocket's close frame; 0: there was none
	state    sessionState
	inRun    bool        // in the writer's list of sessions to flush
	busy     bool        // the link can't take more now
	ending   bool        // close when everything is written
	visible  bool        // SSE: heartbeats are events
	paced    bool        // a channel of it has been under a policy
	untold   bool        // it stands further than the client can know
	why      closeReason // of ending
	reserved int32       // subscriptions that were made room for and are not there yet
	slot     int32       // where it stands in the writer's sessions
	pass     uint32      // the writer's pass that last wrote to it
	feeds    []*feed
	dirty    *feed  // feeds with something to take
	out      []byte // frames that are not messages: replies, heartbeats, pongs, the close
	rest     []byte // what the link did not take of the last write
	wait     int64  // when the client must be joined, or closed for good, by; server's milliseconds
	wroteAt  int64  // when bytes last went out
	owed     *owed  // what the meter has to count when it is written; nil: nothing
	owedAt   int64  // when rest was taken from the log; 0: there is none
	leaveAt  int64  // when it is told to go: once the node drains, and an SSE stream when it is old; 0: never
	expires  int64  // when the next thing that it may do ends; 0: never
}

type sessionState uint8

const (
	opening sessionState = iota // waits for its first channels to be joined
	open
	closing // the close frame is out, or on its way
	closed
)

// maxSaid bounds what the client of a stream may send, who has nothing more to say: reading on and on what nobody wants costs time.
const maxSaid = 16 << 10

// maxOut bounds the frames that wait for a client that does not read.
const maxOut = 64 << 10

func newSessionID() (id [12]byte) {
	_, _ = rand.Read(id[:]) // never fails (crypto/rand)
	return id
}

func (s *session) name() string { return base64.RawURLEncoding.EncodeToString(s.id[:]) }

// wrote is called by the link, from any goroutine, when it can take more or has failed. at is when a write that was under way
// ended, of broker.Now; 0 if none was.
func (s *session) wrote(err error, at int64) {
	s.writer.post(func() {
		if err != nil {
			s.writer.drop(s, closedByPeer)
			return
		}
		if m := s.writer.meter; m != nil && at != 0 {
			m.finished(s, at)
		}
		s.busy = false
		s.seen.Store(s.server.now()) // it has taken something, so it lives
		s.writer.schedule(s)
	})
}

// gone is called, from any goroutine, when the peer has hung up.
func (s *session) gone() { s.writer.post(func() { s.writer.drop(s, closedByPeer) }) }

// received is called with what the client sent, from one goroutine at a time.
func (s *session) received(b []byte) {
	s.seen.Store(s.server.now())
	if s.ws != nil {
		s.ws.feed(s, b)
		return
	}
	if s.said > maxSaid {
		return // it is on its way out
	}
	if s.said += uint16(min(len(b), maxSaid+1)); s.said > maxSaid {
		s.writer.post(func() { s.writer.drop(s, closedByUs) })
	}
}

// send queues a frame that is not a message. It is for the writer's goroutine.
func (s *session) send(frame []byte) {
	if s.state == closed || s.ending {
		return
	}
	if len(s.out)+len(frame) > maxOut {
		s.writer.drop(s, closedSlow)
		return
	}
	s.out = append(s.out, frame...)
	s.writer.schedule(s)
}

// owes reports whether something waits to be written.
func (s *session) owes() bool {
	return s.busy || s.dirty != nil || len(s.rest) > 0 || len(s.out) > 0
}

// maxWrite is where a write that is put together ends.
const maxWrite = 16 << 10

// compose returns the bytes to write next: all that is ready, or nil. If it is exactly one shared
// batch, its bytes are returned as they are; else they are put together in scratch.
func (s *session) compose(scratch []byte) (b []byte, isShared bool) {
	if len(s.rest) > 0 {
		b, s.rest = s.rest, nil
		return b, true
	}
	if s.state == opening && !s.begin() {
		return nil, false
	}
	b = append(scratch[:0], s.out...)
	s.out = nil
	most := maxWrite
	if s.over == overPoll {
		most = s.format.(*poll).limit
	}
	for s.dirty != nil && len(b) < most {
		f := s.dirty
		s.unmark(f)
		if !f.begin() {
			continue
		}
		if len(s.out) > 0 { // the answer to a subscribe goes before its first message
			b = append(b, s.out...)
			s.out = nil
		}
		batch := f.Take()
		if f.group.pace != nil && !s.goOn(f, batch) {
			b = append(b, s.out...)
			s.out = nil
			break
		}
		if batch == nil {
			continue
		}
		if s.over == overPoll {
			p := s.format.(*poll)
			if batch = p.part(f, batch, most-len(b)); p.cut != nil {
				most = 0 // nothing may come behind
			}
		}
		if m := s.writer.meter; m != nil {
			m.taken = append(m.taken, batch)
		}
		if len(s.writer.connects) > 0 && !batch.Live {
			s.writer.replayed(s, batch)
		}
		if s.ledger != nil {
			s.ledger.take(batch)
		}
		if s.untold && s.ws == nil && !batch.Last.IsZero() { // it has an id
			s.untold = false
		}
		s.mark(f)
		wire := s.format.shared(s, f, batch)
		if wire != nil && len(b) == 0 {
			return wire, true
		}
		if wire != nil {
			b = append(b, wire...)
		} else {
			b = s.format.single(b, s, f, batch)
		}
	}
	if s.over == overPoll {
		return s.format.(*poll).answer(s, b), true
	}
	return b, false
}

// begin opens the session once all channels that it came with are joined. Those of a subscribe
// command that was quicker are not among them; they get their own answer.
func (s *session) begin() bool {
	commands := false
	for _, f := range s.feeds {
		if f.reply != nil {
			commands = true
		} else if !f.Started() {
			return false
		}
	}
	s.state = open
	if !commands { // theirs has the same end
		s.wait = 0
	}
	welcome := s.format.welcome(s)
	if s.head != "" {
		welcome = append([]byte(s.head), welcome...)
		s.head = ""
	}
	s.out = append(welcome, s.out...)
	return true
}

// places lists where the session stands in all its channels, with f at the given position.
func (s *session) places(f *feed, at broker.Position) []broker.Place {
	ps := s.writer.places[:0]
	for _, x := range s.feeds {
		if x.reply != nil && !x.Resumed() {
			continue // its subscribe has not been answered, and it did not say where it stood
		}
		p := broker.Place{Channel: x.Channel(), Position: x.Position()}
		if x == f {
			p.Position = at
		}
		ps = append(ps, p)
	}
	s.writer.places = ps
	return ps
}

// token is the resume token of the session as it is now.
func (s *session) token() []byte { return broker.AppendToken(nil, s.places(nil, broker.Position{})...) }

// appendToken appends the token as a member of a JSON object, unless there is none; the client knows it then.
func (s *session) appendToken(dst []byte) []byte {
	s.untold = false
	if t := s.token(); len(t) > 0 {
		dst = append(append(append(dst, `,"token":"`...), t...), '"')
	}
	return dst
}
