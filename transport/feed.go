package transport

import (
	"sync/atomic"

	"sluice/broker"
)

// feed is one subscription of one session. It is owned by the session's writer.
type feed struct {
	broker.Subscription
	fan     *fan
	session *session
	slot    int    // where it stands in fan.feeds
	next    *feed  // in the session's list of feeds with something to take
	queued  bool   // it is in that list
	reply   *reply // the subscribe command that waits for it to start; nil: none
}

// fan is one channel as one writer serves it: the channel's log and the feeds of the writer's own
// sessions. A publish marks the fan, once per writer however many listen; the writer finds the
// sessions from there.
type fan struct {
	writer *writer
	log    *broker.Log
	dirty  atomic.Bool
	feeds  []*feed
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
		f.log.Listen(f)
		w.fans[channel] = f
	}
	return f
}

// join adds a feed for channel to s, after since or from now on.
func (w *writer) join(s *session, channel string, since broker.Position) *feed {
	fan := w.fanOf(channel)
	f := &feed{fan: fan, session: s, slot: len(fan.feeds)}
	fan.feeds = append(fan.feeds, f)
	s.feeds = append(s.feeds, f)
	fan.log.Subscribe(&f.Subscription, since)
	s.mark(f)
	return f
}

// leave takes f out of its session and its fan, and closes the log with the last one.
func (w *writer) leave(f *feed) {
	s, fan := f.session, f.fan
	for i, x := range s.feeds {
		if x == f {
			s.feeds = append(s.feeds[:i], s.feeds[i+1:]...)
			break
		}
	}
	s.unmark(f)
	w.unfan(f, fan)
}

func (w *writer) unfan(f *feed, fan *fan) {
	last := len(fan.feeds) - 1
	fan.feeds[f.slot] = fan.feeds[last]
	fan.feeds[f.slot].slot = f.slot
	fan.feeds[last] = nil
	fan.feeds = fan.feeds[:last]
	if last == 0 {
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
