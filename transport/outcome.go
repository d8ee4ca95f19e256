package transport

import "encoding/json"

// outcome is what a command has come to.
type outcome struct {
	object  []byte   // the reply, as JSON
	problem *Problem // or why it was refused
}

// asker is whom the answer to a command goes to: the client's connection, where it came by that, or who has posted it.
type asker struct {
	ref  json.RawMessage
	post chan<- outcome // with room for one; nil: the connection
}

func (c *command) asker() asker { return asker{c.Ref, c.post} }

// begin is how the object of a reply begins.
func (a asker) begin() []byte { return appendRef([]byte(`{"type":"reply"`), a.ref) }

// take hands over the answer, the first of each command, and returns the frame that s owes for it; empty: none.
func (a asker) take(s *session, x outcome) (frame []byte) {
	switch {
	case a.post != nil:
		select {
		case a.post <- x:
		default:
		}
		return nil
	case x.problem != nil:
		return s.format.refuse(nil, a.ref, x.problem)
	}
	return appendText(nil, x.object)
}

// give answers a. It is for the session's writer, while it is not composing.
func (s *session) give(a asker, x outcome) {
	if frame := a.take(s, x); len(frame) > 0 {
		s.send(frame)
	}
}

// reply answers a. Any goroutine may call it.
func (s *session) reply(a asker, object []byte) {
	s.writer.post(func() { s.give(a, outcome{object: object}) })
}

// refuse tells a why a command was not done. Any goroutine may call it.
func (s *session) refuse(a asker, p *Problem) {
	s.writer.post(func() { s.give(a, outcome{problem: p}) })
}

// still has do called by the writer, unless the session has ended: then a is told, if it is not its client's connection.
func (s *session) still(a asker, do func()) {
	s.writer.post(func() {
		if s.state == closed || s.ending {
			s.give(a, outcome{problem: problem(NotFound, unknownSession)})
			return
		}
		do()
	})
}
