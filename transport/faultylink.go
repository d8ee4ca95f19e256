package transport

import (
	"bytes"
	"time"

	"sluice/broker"
)

// faultyLink is a link whose writes are held back, as by a network that is slow or has gone: nothing is lost before the connection is.
// The session is busy meanwhile, so that it is owed no more than one write here, and is given up like any that does not read. Only
// nodes with Config.Faults have such links.
//
// All of it is the writer's.
type faultyLink struct {
	link
	session *session
	delay   time.Duration // of each write
	until   time.Time     // nothing gets through before
	held    []byte
	at      time.Time // when that is to go
	timer   *time.Timer
}

// stuck is how long it takes to look again whether a socket has room.
const stuck = 10 * time.Millisecond

// breakable returns the link that a session is to have over l.
func (s *Server) breakable(ss *session, l link) link {
	if s.faults == nil {
		return l
	}
	return &faultyLink{link: l, session: ss}
}

func (l *faultyLink) write(b []byte, shared bool) (int, bool, error) {
	if len(l.held) > 0 { // the socket has found room meanwhile
		return 0, true, nil
	}
	now := time.Now()
	if l.delay == 0 && !l.until.After(now) { // it is whole again
		return l.link.write(b, shared)
	}
	l.held = b
	if !shared {
		l.held = bytes.Clone(b)
	}
	l.plan(now)
	return len(b), true, nil
}

// change has another fault from now on, for what is held, too.
func (l *faultyLink) change(delay time.Duration, until time.Time) {
	l.delay, l.until = delay, until
	if len(l.held) > 0 {
		l.plan(time.Now())
	}
}

// plan has go called when what is held may go.
func (l *faultyLink) plan(now time.Time) {
	l.at = now.Add(l.delay)
	if l.until.After(l.at) {
		l.at = l.until
	}
	l.wake(l.at.Sub(now))
}

func (l *faultyLink) wake(d time.Duration) {
	if l.timer != nil {
		l.timer.Stop()
	}
	l.timer = time.AfterFunc(d, func() { l.session.writer.post(l.pass) })
}

// pass writes what is held, when its time has come.
func (l *faultyLink) pass() {
	s := l.session
	if s.state == closed || len(l.held) == 0 || time.Now().Before(l.at) { // the timer was set again
		return
	}
	n, busy, err := l.link.write(l.held, true)
	switch {
	case err != nil:
		l.held = nil
		s.wrote(err, 0)
	case n < len(l.held):
		l.held = l.held[n:]
		l.wake(stuck)
	default:
		l.held = nil
		if !busy { // else it will say so
			s.wrote(nil, broker.Now())
		}
	}
}

func (l *faultyLink) pinned() int { return len(l.held) + l.link.pinned() }

func (l *faultyLink) close() {
	if l.timer != nil {
		l.timer.Stop()
	}
	l.link.close()
}
