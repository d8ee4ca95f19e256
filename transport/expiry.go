package transport

import (
	"time"

	"sluice/broker"
	"sluice/middleware/auth"
)

// What a session was granted ends: with its token, with that of a subscription, or because it is taken back. All of it is
// the writer's to do.

// at converts a time to the server's milliseconds, never to one that is over before t; the zero time is 0, never.
func (s *Server) at(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return max(1, s.now()+time.Until(t).Milliseconds()+2) // both are cut off
}

// bound has s looked at when something of it ends; 0 is never.
func (w *writer) bound(s *session, at int64) {
	if at != 0 && (s.expires == 0 || at < s.expires) {
		s.expires = at
		w.remindExpiry(s, w.server.now())
	}
}

// admit notes how f was let in: as the i-th of those that were asked for.
func (w *writer) admit(f *feed, admitted []auth.Admission, i int) {
	f.until, f.signed = 0, false
	if admitted != nil {
		f.until, f.signed = w.server.at(admitted[i].Until), admitted[i].Signed
		w.bound(f.session, f.until)
	}
}

// remindExpiry sets a timer if s expires before it would be visited next. Until then it has none: a node of a hundred thousand
// sessions, each with a token for an hour, has timers for those of the next few seconds.
func (w *writer) remindExpiry(s *session, now int64) {
	if left := s.expires - now; left <= w.server.config.sweepTime().Milliseconds()*5/4 {
		time.AfterFunc(time.Duration(max(0, left)+1)*time.Millisecond, func() { w.post(func() { w.expire(s) }) })
	}
}

// expire ends what has come to its end of s.
func (w *writer) expire(s *session) {
	now := w.server.now()
	if s.expires == 0 || now < s.expires || s.state == closed || s.ending {
		return
	}
	s.expires = 0
	who := s.grant().Who()
	end := w.server.at(who.Expires)
	if end != 0 && end <= now {
		w.deny(s, problem(TokenExpired, "the token has expired; connect again with another, or refresh before that"))
		return
	}
	if who.Anonymous && len(s.feeds) == 0 && s.state == open {
		w.deny(s, problem(Unauthorized, "neither a token nor a subscription came in time"))
		return
	}
	w.bound(s, end)
	for i := len(s.feeds) - 1; i >= 0; i-- {
		switch f := s.feeds[i]; {
		case f.until == 0:
		case f.until > now:
			w.bound(s, f.until)
		default:
			w.unsubscribe(s, f, problem(TokenExpired, "what this subscription was allowed by has expired"))
		}
	}
}

// unsubscribe ends one subscription against the client's will, and the session where nothing is left that it could do.
func (w *writer) unsubscribe(s *session, f *feed, p *Problem) {
	channel := f.Channel()
	if p = p.of(channel); f.reply != nil {
		f.reply.fail(s, p)
	}
	w.leave(f)
	if len(s.feeds) == 0 && (s.ws == nil || !s.ws.commands) {
		w.deny(s, p)
		return
	}
	s.out = s.format.unsubscribed(s.out, channel, p)
	w.schedule(s)
}

// deny sends s away because it may not be here any more.
func (w *writer) deny(s *session, p *Problem) {
	if s.ending || s.state == closed {
		return
	}
	s.out = s.format.denied(s.out, p)
	w.end(s, closeDenied, string(p.Code))
}

// Revoke ends the sessions that list is about. It returns at once; they end as soon as the writers come to it.
func (s *Server) Revoke(list []broker.Revocation) {
	if len(list) == 0 {
		return
	}
	for _, w := range s.writers {
		w.post(func() {
			step := w.lookAt(func(ss *session) { w.revoke(ss, list) }, func() {})
			var again func()
			again = func() {
				if step() {
					w.post(again)
				}
			}
			again()
		})
	}
}

// revoke ends s if one of list is about it.
func (w *writer) revoke(s *session, list []broker.Revocation) {
	who := s.grant().Who()
	for i := range list {
		if list[i].Kind == broker.BySession && list[i].Value == s.name() || list[i].Concerns(who.TokenID, who.Subject, who.Issued) {
			w.deny(s, problem(TokenRevoked, "what this connection was allowed by was taken back"))
			return
		}
	}
}

// patience is how long a session may be there that has shown no credentials and listens to nothing.
func (w *writer) patience(s *session, who *auth.Identity) {
	if who.Anonymous && len(s.feeds) == 0 {
		w.bound(s, w.server.now()+w.server.config.JoinTimeout.Milliseconds())
	}
}
