package transport

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"sluice/broker"
	"sluice/otel"
)

// writer serves a share of the node's sessions from one goroutine: it takes what they are owed from
// their cursors and makes one write of it. All state of its sessions is its own, so there are no
// locks on the way from a log to a socket. A node has a few, one a core.
type writer struct {
	server *Server
	index  int // which one it is
	wake   chan struct{}
	meter  *meter // nil: nobody wants to know

	mu    sync.Mutex
	dirty []*fan   // channels with something new
	posts []func() // what others want done here

	// Owned by run.
	fans     map[string]*fan
	streams  map[[12]byte]*session // those of SSE by their id, for what their clients post
	inboxes  map[*session]*inbox   // of those whose clients have posted something
	sessions []*session
	run      []*session   // to be flushed in this pass
	cursor   int          // where the sweep is in sessions
	step     *time.Ticker // of the sweep
	clock    int64        // server's milliseconds when the pass or the sweep began
	swept    int64        // when the last step of the sweep was
	resumed  int64        // when the node went on that had been held up; what clients did not do before was not their fault
	number   uint32       // of the pass
	wrote    int          // writes in this pass
	again    int          // of them, to sessions that had one in the pass before
	draining bool
	scratch  []byte
	places   []broker.Place
	due      dueGroups                  // groups whose lanes are to be asked at a time
	alarm    *time.Timer                // of the first of them
	alarmAt  time.Time                  // when it goes off; zero: it is not set
	connects map[*session]*otel.Connect // whose requests are traced and not over; nil: nothing is traced
	pins     map[*session]struct{}      // that want to see all their messages traced
	held     bool                       // this pass has found nothing but what is held back
}

func newWriter(s *Server) *writer {
	w := &writer{server: s, index: len(s.writers), wake: make(chan struct{}, 1), fans: map[string]*fan{}, streams: map[[12]byte]*session{}, inboxes: map[*session]*inbox{}}
	if s.config.Measured() || s.config.Tracer != nil {
		w.meter = newMeter(w)
	}
	if s.config.Tracer != nil {
		w.connects, w.pins = map[*session]*otel.Connect{}, map[*session]struct{}{}
	}
	return w
}

// notify queues a channel. It is called with the channel's log locked.
func (w *writer) notify(f *fan) {
	w.mu.Lock()
	w.dirty = append(w.dirty, f)
	w.mu.Unlock()
	w.poke()
}

// post has f called on the writer's goroutine, soon and in order.
func (w *writer) post(f func()) {
	w.mu.Lock()
	w.posts = append(w.posts, f)
	w.mu.Unlock()
	w.poke()
}

func (w *writer) poke() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// sweeps is how many steps a sweep over all sessions takes.
const sweeps = 16

// sweepTime is how long a sweep takes: a little less than half a heartbeat, so that a session whose
// silence would outlast the heartbeat at the next visit is found at this one.
func (c *Config) sweepTime() time.Duration { return c.Heartbeat * 12 / 25 }

// loop works until ctx ends. After quiet the first message goes out at once. When a pass has written
// mostly to the sessions of the pass before it, the next one waits until Coalesce after its end, so
// that what arrives meanwhile shares its writes; where all go to different sessions, waiting would
// merge nothing. The same after a pass that found only what policies hold back.
func (w *writer) loop(ctx context.Context) {
	w.step = time.NewTicker(w.server.config.sweepTime() / sweeps)
	defer w.step.Stop()
	w.alarm = time.NewTimer(time.Hour)
	w.alarm.Stop()
	defer w.alarm.Stop()
	var last time.Time
	for {
		select {
		case <-w.wake:
			if w.held || w.again*2 > w.wrote {
				if d := w.server.config.Coalesce - time.Since(last); d > 0 {
					time.Sleep(d)
				}
			}
			w.pass()
			last = time.Now()
		case <-w.alarm.C:
			w.alarmAt = time.Time{}
			w.pass()
			last = time.Now()
		case <-w.step.C:
			w.sweep()
		case <-ctx.Done():
			w.pass()
			for len(w.sessions) > 0 {
				w.drop(w.sessions[0], closedByUs)
			}
			return
		}
	}
}

// pass does what was posted and flushes every session that has something to take.
func (w *writer) pass() {
	w.clock = w.server.now()
	w.number++
	w.wrote, w.again, w.held = 0, 0, false
	w.mu.Lock()
	posts, dirty := w.posts, w.dirty
	w.posts, w.dirty = nil, nil
	w.mu.Unlock()
	for _, f := range posts {
		f()
	}
	for _, fan := range dirty {
		fan.dirty.Store(false)
		for _, f := range fan.plain.feeds {
			f.session.mark(f)
			w.schedule(f.session)
		}
		if fan.paced != nil {
			w.askAll(fan.paced)
		}
	}
	if w.server.config.Tracer != nil {
		w.marked(dirty)
	}
	w.askDue()
	w.held = w.held && len(w.run) == 0
	if w.meter != nil {
		w.meter.begin()
	}
	for i := 0; i < len(w.run); i++ { // flushing can schedule more
		s := w.run[i]
		s.inRun = false
		w.flush(s)
		w.run[i] = nil
	}
	if w.meter != nil {
		w.meter.end()
	}
	w.run = w.run[:0]
	if cap(w.run) > 4096 && len(w.sessions) < cap(w.run)/4 {
		w.run = nil
	}
	w.setAlarm()
}

// schedule has s flushed in this pass, or in the next one if none is under way.
func (w *writer) schedule(s *session) {
	if s.inRun || s.busy || s.state == closed {
		return
	}
	s.inRun = true
	w.run = append(w.run, s)
}

// flush writes what s is owed until there is no more or the link is busy.
func (w *writer) flush(s *session) {
	if w.meter != nil {
		w.meter.forget()
	}
	for !s.busy && s.state != closed {
		b, isShared := s.compose(w.scratch)
		if len(b) == 0 {
			break
		}
		if !isShared && cap(b) <= 16*maxWrite { // a large message must not stay
			w.scratch = b[:0]
		}
		n, busy, err := s.link.write(b, isShared)
		if err != nil {
			if w.meter != nil {
				w.meter.failed(s, closedByPeer)
			}
			w.drop(s, closedByPeer)
			return
		}
		if w.meter != nil {
			w.meter.wrote(s, n, n == len(b), busy && n == len(b))
		}
		if s.ledger != nil {
			s.ledger.bytes += uint64(n)
		}
		if n > 0 {
			s.wroteAt = w.clock
			w.wrote++
			if s.pass == w.number-1 {
				w.again++
			}
			s.pass = w.number
		}
		switch {
		case n == len(b):
			s.owedAt = 0
		case s.owedAt == 0:
			s.owedAt = w.clock
		}
		if n < len(b) {
			s.rest = b[n:]
			if !isShared {
				s.rest = append([]byte(nil), s.rest...)
			}
		}
		s.busy = busy
	}
	if len(w.connects) > 0 {
		w.connected(s)
	}
	if s.ending && s.state != closed && !s.owes() {
		w.settle(s)
	}
}

// settle ends a session whose last byte has been written.
func (w *writer) settle(s *session) {
	if s.ws == nil || s.ws.closeSeen.Load() {
		w.drop(s, s.why)
		return
	}
	if s.state != closing {
		s.state = closing // the peer answers with a close frame or hangs up; the sweep bounds the wait
		s.wait = w.server.now() + closeWait
		s.link.finish()
	}
}

// closeWait is how long a peer has to answer a close frame, in milliseconds.
const closeWait = 3000

// start takes on a session and joins its channels.
func (w *writer) start(s *session, l *listenRequest) {
	now := w.server.now()
	s.slot = int32(len(w.sessions))
	w.sessions = append(w.sessions, s)
	w.server.counts.sessions[s.format.slot()].Add(1)
	if s.over == overSSE {
		w.streams[s.id] = s
	}
	s.seen.Store(now)
	w.watch(s, l)
	s.wroteAt, s.wait = now, now+w.server.config.JoinTimeout.Milliseconds()
	if l.rejected != nil {
		s.out = s.format.refuse(s.out, nil, l.rejected)
		w.end(s, closeBad, l.rejected.Error())
		return
	}
	if who := l.grant.Who(); w.server.broker.Revoked(who.TokenID, who.Subject, who.Issued) { // since it was asked
		w.deny(s, problem(TokenRevoked, "the token was taken back"))
		return
	}
	w.server.renew(&l.terms, l.channels)
	for i, c := range l.channels {
		w.admit(w.join(s, c, l.since[i], l.terms.at(i)), l.admitted, i)
	}
	w.bound(s, w.server.at(l.grant.Who().Expires))
	w.patience(s, l.grant.Who())
	w.age(s, now)
	if w.draining {
		w.leaveLater(s, 0)
	}
	w.schedule(s)
}

// drop ends s at once.
func (w *writer) drop(s *session, why closeReason) {
	if s.state == closed {
		return
	}
	if s.ending && why == closedByPeer { // which hangs up because it was told to go
		why = s.why
	}
	s.state = closed
	delete(w.streams, s.id)
	delete(w.inboxes, s)
	failure := ""
	if why == closedSlow || why == closedSilent {
		failure = closeNames[why]
	}
	for _, f := range s.feeds {
		if f.reply != nil {
			f.reply.fail(s, problem(NotFound, unknownSession))
		}
		w.unfan(f, failure)
	}
	if w.meter != nil {
		w.meter.failedOwed(s, why)
	}
	w.unwatch(s, why)
	s.feeds, s.dirty, s.out, s.rest, s.head, s.owed = nil, nil, nil, nil, "", nil
	if s.over != overPoll {
		s.link.close()
	}
	last := len(w.sessions) - 1
	w.sessions[s.slot] = w.sessions[last]
	w.sessions[s.slot].slot = s.slot
	w.sessions[last] = nil
	w.sessions = w.sessions[:last]
	w.server.ended(s, why)
	if s.over == overPoll { // whose client is back before long, and must not find itself there
		s.link.close()
	}
}

// end sends the client away: with a close frame on WebSocket, by the end of the stream on SSE,
// after all that has been queued before it.
func (w *writer) end(s *session, code uint16, reason string) {
	if s.ending || s.state == closed {
		return
	}
	if s.head != "" { // it never began: the client still gets a whole answer
		s.out = append([]byte(s.head), s.out...)
		s.head = ""
	}
	s.out = s.format.close(s.out, code, reason)
	s.ending, s.why, s.code = true, closedByUs, code
	s.state = open
	for s.dirty != nil {
		s.unmark(s.dirty)
	}
	w.schedule(s)
}

// endSlow sends a client away that reads more slowly than its policy takes. It may not get to read
// that before much else, or at all; it is then given up like any other.
func (w *writer) endSlow(s *session) {
	s.out = s.format.slow(s.out, w.server.retry())
	w.end(s, closePolicy, string(SlowConsumer))
	s.why = closedSlow
}

// sweep looks after a sixteenth of the sessions: heartbeats, deadlines, and the drain.
func (w *writer) sweep() {
	w.clock = w.server.now()
	if w.clock-w.swept > w.server.config.Heartbeat.Milliseconds()/2 { // of some fifteen steps that there should have been
		w.resumed = w.clock
	}
	w.swept = w.clock
	if w.meter != nil {
		w.meter.begin()
	}
	n := (len(w.sessions) + sweeps - 1) / sweeps
	if w.draining {
		n = len(w.sessions)
	}
	for ; n > 0 && len(w.sessions) > 0; n-- {
		if w.cursor >= len(w.sessions) {
			w.cursor = 0
		}
		s := w.sessions[w.cursor]
		w.cursor++
		w.tend(s, w.clock)
	}
	w.pass()
}

func (w *writer) tend(s *session, now int64) {
	c := &w.server.config
	beat := c.Heartbeat.Milliseconds()
	if s.expires != 0 && !w.draining {
		w.remindExpiry(s, now)
	}
	switch {
	case s.state == closing:
		if now > s.wait {
			w.drop(s, s.why)
		}
	case s.busy && now-max(s.wroteAt, s.owedAt, w.resumed) > c.WriteTimeout.Milliseconds(), // it takes nothing
		s.owedAt != 0 && now-s.owedAt > c.MaxLag.Milliseconds(): // it takes next to nothing
		w.drop(s, closedSlow)
	case s.ending:
	case s.leaveAt != 0 && now >= s.leaveAt:
		w.sendAway(s)
	case s.wait != 0 && now > s.wait:
		w.giveUp(s)
	case s.ws != nil && !s.busy && now-max(s.seen.Load(), w.resumed) > beat*5/2 && !s.link.unread(): // while it is busy it can't have seen the ping
		w.end(s, closeSilent, "no sign of life")
		s.why = closedSilent
	case s.ws != nil && s.ws.half(now) > c.BodyTimeout.Milliseconds():
		w.end(s, closeSilent, "a message was begun and not finished")
	case s.state == open && !s.busy:
		w.beat(s, now, beat)
	}
}

// giveUp is for channels that could not be joined in time: the backend is away.
func (w *writer) giveUp(s *session) {
	s.wait = 0
	if s.state == opening {
		s.out = s.format.unavailable(s.out, w.server.retry())
		w.end(s, closeTryAgain, string(Unavailable))
		return
	}
	for i := len(s.feeds) - 1; i >= 0; i-- {
		if f := s.feeds[i]; f.reply != nil {
			f.reply.fail(s, problem(Unavailable, "the channel could not be joined in time; subscribe again later"))
			w.leave(f)
		}
	}
}

// beat breaks the silence before it lasts a heartbeat, and asks a quiet WebSocket client for a sign of life.
func (w *writer) beat(s *session, now, beat int64) {
	next := now + w.server.config.sweepTime().Milliseconds() // when it is looked at again
	quiet := next-s.wroteAt > beat
	if s.ws != nil && next-s.seen.Load() > beat {
		s.out = append(s.out, pingFrame...)
	}
	late := s.untold // since the last visit there was nothing that would have told it
	s.advance()
	if quiet || late {
		s.out = s.format.heartbeat(s.out, s)
	}
	if len(s.out) > 0 {
		w.schedule(s)
	}
}

// shedAfter is how long, in milliseconds, a session may hold more than a write's worth while there is no memory.
const shedAfter = 1000

// shed drops the sessions that hold much which their clients do not take: messages live as long as one of them is not written.
// They resume where they were, when there is memory again.
func (w *writer) shed() {
	now := w.server.now()
	for i := len(w.sessions) - 1; i >= 0; i-- { // drop moves the last one here
		s := w.sessions[i]
		if s.busy && len(s.rest)+s.link.pinned() > maxWrite && now-max(s.wroteAt, s.owedAt) > shedAfter {
			w.drop(s, closedSlow)
		}
	}
}

// drain sends all sessions away, spread over the drain time.
func (w *writer) drain() {
	w.draining = true
	w.step.Reset(20 * time.Millisecond)
	for _, s := range w.sessions {
		over := w.server.config.DrainTime
		if s.over == overPoll {
			over = 0 // its client waits for an answer anyway, which says when to come back
		}
		w.leaveLater(s, over)
	}
}

func (w *writer) leaveLater(s *session, over time.Duration) {
	s.leaveAt = w.server.now() + 1
	if over > 0 {
		s.leaveAt += rand.Int64N(over.Milliseconds() + 1)
	}
}

// The delay that a stream is told that is old: these streams do not end all at once, and what is not stored is lost meanwhile.
const (
	agedRetry  = 50 * time.Millisecond
	agedSpread = 200 * time.Millisecond
)

// age has an SSE stream sent away that is older than Config.MaxStreamLife. Others show signs of life.
func (w *writer) age(s *session, now int64) {
	if life := w.server.config.MaxStreamLife; life > 0 && s.over == overSSE {
		s.leaveAt = now + (life + rand.N(life/5+1)).Milliseconds()
	}
}

// sendAway lets a session go once it has been given what it is owed, or after twice its time.
func (w *writer) sendAway(s *session) {
	delay := agedRetry + rand.N(agedSpread)
	if w.draining {
		delay = w.server.retry()
	}
	if s.paced && w.draining { // else the lane lets it go in its time, to the next stream

		now := time.Now()
		for _, f := range s.feeds {
			if f.group.pace != nil {
				f.group.pace.lane.Flush(now)
				w.ask(f.group, now)
			}
		}
	}
	w.flush(s)
	if s.state == closed || s.owes() && w.server.now() < s.leaveAt+w.server.config.DrainTime.Milliseconds() {
		return
	}
	s.out = s.format.reconnect(s.out, delay)
	w.end(s, closeRestart, "restart")
}
