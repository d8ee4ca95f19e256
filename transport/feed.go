package transport

import (
	"sync/atomic"

	"sluice/broker"
	"sluice/middleware"
)

// feed is one subscription of one session. It is owned by the session's writer.
type feed struct {
	broker.Subscription
	group   *group
	session *session
	slot    int32                // where it stands in group.feeds
	loose   int32                // one more than where it stands in paced.loose; 0: it is not there
	next    *feed                // in the session's list of feeds with something to take
	queued  bool                 // it is in that list
	signed  bool                 // it was let in by a token of its own
	reply   *reply               // the subscribe command that waits for it to start; nil: none
	wish    *middleware.Delivery // what the client asked for; nil: nothing
	until   int64                // when it ends by itself, in the server's milliseconds; 0: with the grant
}

// fan is one channel as one writer serves it: the channel's log and the feeds of the writer's own
// sessions. A publish marks the fan, once per writer however many listen; the writer finds the
// sessions from there.
type fan struct {
	writer *writer
	log    *broker.Log
	dirty  atomic.Bool
	ws     int32  // how many of the feeds are WebSockets'
	plain  group  // those who get everything as it comes
	paced  *paced // the others; nil: there are none
}

// Notify implements broker.Listener.
func (f *fan) Notify() {
	if !f.dirty.Swap(true) {
		f.writer.notify(f)
	}
}

// fanOf returns the writer's fan of a channel and makes it if this is the first feed.
func (w *writer) fanOf(channel string) *fan {
	f := w.fans[channel]
	if f == nil {
		f = &fan{writer: w, log: w.server.broker.Open(channel)}
		f.plain.fan = f
		f.log.Listen(f)
		w.fans[channel] = f
	}
	return f
}

// join adds a feed for channel to s, after since or from now on, under what is in force for it.
func (w *writer) join(s *session, channel string, since broker.Position, t term) *feed {
	fan := w.fanOf(channel)
	f := &feed{session: s, wish: t.wish}
	s.feeds = append(s.feeds, f)
	w.server.counts.subscriptions[s.over].Add(1)
	s.reserved--
	if s.over == overWS {
		fan.ws++
	}
	fan.log.Subscribe(&f.Subscription, since)
	fan.groupOf(&t.effective).add(f)
	s.mark(f)
	return f
}

// leave takes f out of its session and its fan, and closes the log with the last one.
func (w *writer) leave(f *feed) {
	s := f.session
	for i, x := range s.feeds {
		if x == f {
			s.feeds = append(s.feeds[:i], s.feeds[i+1:]...)
			break
		}
	}
	s.unmark(f)
	w.unfan(f, "")
}

// unfan gives up f; failure is what went wrong, "" if nothing did.
func (w *writer) unfan(f *feed, failure string) {
	fan := f.group.fan
	w.server.counts.subscriptions[f.session.over].Add(-1)
	w.server.limits.subscriptions.Add(-1)
	if f.session.over == overWS {
		fan.ws--
	}
	f.Close(carrierNames[f.session.over], failure)
	f.group.remove(f)
	if len(fan.plain.feeds) == 0 && fan.paced == nil {
		fan.log.Unlisten(fan)
		fan.log.Close()
		delete(w.fans, fan.log.Channel())
	}
}

// begin reports whether f has its place in the log, and answers the command that waited for it.
func (f *feed) begin() bool {
	if !f.Started() {
		return false
	}
	if f.reply != nil {
		f.reply.joined(f)
		f.reply = nil
	}
	return true
}

// mark queues f as having something to take. Once the session is ending nothing is: no message may
// follow a close frame.
func (s *session) mark(f *feed) {
	if f.queued || s.ending {
		return
	}
	f.queued = true
	p := &s.dirty // at the end: a busy channel must not starve the others
	for *p != nil {
		p = &(*p).next
	}
	*p = f
}

// unmark takes f out of the list again.
func (s *session) unmark(f *feed) {
	for p := &s.dirty; *p != nil; p = &(*p).next {
		if *p == f {
			*p = f.next
			break
		}
	}
	f.next, f.queued = nil, false
}
