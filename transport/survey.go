package transport

import (
	"context"
	"time"
)

// What operators ask of sessions only their writers know. They are asked in steps, between which they do their work, so
// that a node with 100,000 sessions goes on delivering while somebody looks at it.

const (
	surveyStep = time.Millisecond // for how long a writer is kept from its sessions at a time
	surveyRest = 64               // so many of what is looked at before the clock is
	surveyTime = 3 * time.Second  // then the answer is 503: the admin listener gives up after five
)

// survey has begin called on the goroutine of each writer, and then what that returned, again and again until it returns
// false; in between the writer serves its sessions. It returns nil when all have finished: before that, what they write to is not
// the caller's to read. One survey is made at a time.
func (s *Server) survey(ctx context.Context, begin func(i int, w *writer) (step func() (more bool))) error {
	ctx, cancel := context.WithTimeout(ctx, surveyTime)
	defer cancel()
	busy := problem(Unavailable, "the writers are busy and did not answer in time; ask again")
	select {
	case s.surveys <- struct{}{}:
		defer func() { <-s.surveys }()
	case <-ctx.Done():
		return busy
	}
	done := make(chan struct{}, len(s.writers))
	for i, w := range s.writers {
		w.post(func() {
			step := begin(i, w)
			var again func()
			again = func() {
				switch {
				case ctx.Err() != nil: // nobody waits any more
				case step():
					w.post(again)
				default:
					done <- struct{}{}
				}
			}
			w.post(again)
		})
	}
	for range s.writers {
		select {
		case <-done:
		case <-s.ctx.Done():
			return problem(Draining, "the sessions have ended")
		case <-ctx.Done():
			return busy
		}
	}
	return nil
}

// budget is how long one step of a survey may go on.
type budget struct {
	begin time.Time
	done  int
}

// spent reports whether it is time to stop. It is called once for each thing that was looked at.
func (b *budget) spent() bool {
	b.done++
	return b.done%surveyRest == 0 && time.Since(b.begin) > surveyStep
}

// lookAt returns a survey's step over all sessions of w: look is called for each, and end after the last. The newest come
// first: where one ends meanwhile, the last of the list takes its place, which has been looked at; so none is missed, and
// one may be seen twice.
func (w *writer) lookAt(look func(*session), end func()) func() bool {
	next, seen := len(w.sessions), false
	return func() bool {
		if seen {
			end()
			return false
		}
		b := budget{begin: time.Now()}
		for next = min(next, len(w.sessions)); next > 0; {
			next--
			look(w.sessions[next])
			if b.spent() {
				return true
			}
		}
		seen = true
		return true
	}
}
