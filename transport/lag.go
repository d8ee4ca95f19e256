package transport

import (
	"time"

	"sluice/otel"
)

// lag is how far the sessions of one transport are behind.
type lag struct {
	messages uint64        // the most that one is behind in a channel
	age      time.Duration // of the oldest byte that a link has not taken
	owing    int           // sessions whose link has not taken everything
}

// add counts a session.
func (l *lag) add(row *sessionRow) {
	l.messages = max(l.messages, row.Lag)
	if row.OwedMS > 0 {
		l.age = max(l.age, time.Duration(row.OwedMS)*time.Millisecond)
		l.owing++
	}
}

// measureLag looks at all sessions. If the writers are too busy to answer, nothing is told.
func (s *Server) measureLag(r *otel.Readings) {
	by := make([][streams]lag, len(s.writers))
	err := s.survey(s.ctx, func(i int, w *writer) func() bool {
		o := observer{spans: map[*fan]uint64{}}
		return w.lookAt(func(ss *session) {
			var row sessionRow
			o.account(&row, ss)
			by[i][ss.over].add(&row)
		}, func() {})
	})
	if err != nil {
		return
	}
	for over := range streams {
		var all lag
		for i := range by {
			x := &by[i][over]
			all.messages, all.age, all.owing = max(all.messages, x.messages), max(all.age, x.age), all.owing+x.owing
		}
		r.Value(otel.LagMessages, float64(all.messages), carrierNames[over])
		r.Value(otel.LagTime, all.age.Seconds(), carrierNames[over])
		r.Value(otel.SessionsOwing, float64(all.owing), carrierNames[over])
	}
}
