package main

import (
	"bytes"
)

// tally counts what the connections received since it was last reset.
type tally struct {
	received    int64 // first deliveries of counted messages, to those who read
	duplicated  int64
	reordered   int64
	warmed      int64 // subscriptions that got a warm-up message; never reset
	framesSeen  int64 // WebSocket data frames or SSE data lines
	mostInFrame int   // messages
	bytes       int64
	closed      int64 // connections closed by the server
	latency     hist
	connects    hist
}

// reset starts a stage.
func (t *tally) reset() { *t = tally{warmed: t.warmed} }

// message handles one WebSocket message or SSE line. A server may put several of ours in one.
func (l *loop) message(c *conn, p []byte) {
	if c.state == joining && bytes.Contains(p, []byte("welcome")) {
		l.join(c)
	}
	if l.tokens && c.ws {
		c.captureToken(p)
	}
	inFrame := 0
	m, p, ok := nextMark(p)
	for ; ok; m, p, ok = nextMark(p) {
		inFrame++
		w := c.window(m.channel)
		if m.seq == 0 {
			if !w.warm {
				w.warm = true
				l.warmed++
			}
			continue
		}
		duplicate, late := w.see(m.seq)
		if duplicate {
			l.duplicated++
			continue
		}
		if late {
			l.reordered++
		}
		if c.state != stalling {
			l.received++
		}
		c.got++
		if c.pulse.newest != nil {
			c.pulse.add(m.seq, l.readAt)
		}
		if !c.apart {
			l.latency.add(l.readAt - m.at)
		}
	}
	l.mostInFrame = max(l.mostInFrame, inFrame)
}

// captureToken keeps the token of a welcome or of a reply to a ping.
func (c *conn) captureToken(frame []byte) {
	_, after, ok := bytes.Cut(frame, []byte(`"token":"`))
	if !ok {
		return
	}
	if token, _, ok := bytes.Cut(after, []byte(`"`)); ok {
		c.token = string(token)
	}
}
