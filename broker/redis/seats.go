package redis

import (
	"sync"
	"time"
)

// seats says which channels a link is to be subscribed to and how far that has come. Join and
// Leave only write here; the link's writer does what is left to do, in batches.
type seats struct {
	wake chan struct{}

	mu     sync.Mutex
	of     map[string]*seat
	joins  []string // channels with seat.queued, in order
	leaves []leave  // channels with seat.leaving, in order
	open   int      // SUBSCRIBEs of channels that are not confirmed
	told   []string // confirmed, to be told to the sink
}

// seat is one channel. It is kept until nothing is left to do and Redis has confirmed every SUBSCRIBE.
type seat struct {
	wanted  bool // Join was the last word, not Leave
	queued  bool // in seats.joins
	leaving bool // in seats.leaves
	asked   bool // SUBSCRIBE was written on this connection, and no UNSUBSCRIBE since
	joined  bool // the sink knows that nothing is missed
	open    int  // SUBSCRIBEs written and not confirmed: only the last one counts
}

type leave struct {
	channel string
	due     time.Time
}

// subscribeBatch is how many channels one SUBSCRIBE names; each has two.
const subscribeBatch = 256

func newSeats() *seats {
	return &seats{wake: make(chan struct{}, 1), of: map[string]*seat{}}
}

// look reports whether the channel has a seat and how many have.
func (s *seats) look(channel string) (has bool, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.of[channel] != nil, len(s.of)
}

// join wants the channel. One that is subscribed to is subscribed to again: the confirmation tells
// the reader, in order with the messages, that the sink may be told.
func (s *seats) join(channel string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	x := s.of[channel]
	if x == nil {
		x = &seat{}
		s.of[channel] = x
	}
	x.wanted = true
	if !x.queued {
		x.queued = true
		s.joins = append(s.joins, channel)
		wake(s.wake)
	}
}

// leave gives the channel up at due, unless it is joined again. It reports whether it had a seat.
func (s *seats) leave(channel string, due time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	x := s.of[channel]
	if x == nil {
		return false
	}
	x.wanted = false
	if !x.leaving {
		x.leaving = true
		s.leaves = append(s.leaves, leave{channel, due})
		wake(s.wake)
	}
	return true
}

// next returns the channels to subscribe to now, or those to unsubscribe from, or how long nothing
// is to do. The writer must do it then.
func (s *seats) next(now time.Time) (subscribe, unsubscribe []string, wait time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.joins) > 0 && len(subscribe) < subscribeBatch {
		c := s.joins[0]
		s.joins = s.joins[1:]
		x := s.of[c]
		x.queued = false
		if !x.wanted {
			s.drop(c, x)
			continue
		}
		x.asked = true
		x.open++
		s.open++
		subscribe = append(subscribe, c)
	}
	if len(subscribe) > 0 {
		return subscribe, nil, 0
	}
	for len(s.leaves) > 0 && len(unsubscribe) < subscribeBatch {
		l := s.leaves[0]
		if wait = l.due.Sub(now); wait > 0 {
			return nil, unsubscribe, wait
		}
		s.leaves = s.leaves[1:]
		x := s.of[l.channel]
		x.leaving = false
		if x.wanted {
			continue
		}
		if x.asked {
			x.asked, x.joined = false, false
			unsubscribe = append(unsubscribe, l.channel)
		}
		s.drop(l.channel, x)
	}
	return nil, unsubscribe, time.Hour
}

// drop forgets a seat that nothing refers to any more. s.mu is held.
func (s *seats) drop(channel string, x *seat) {
	if !x.wanted && !x.queued && !x.leaving && !x.asked && x.open == 0 {
		delete(s.of, channel)
	}
}

// subscribed takes the confirmation of a channel's SUBSCRIBE. It returns the channels to tell the
// sink once the batch that was asked for is complete.
func (s *seats) subscribed(channel string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	x := s.of[channel]
	if x == nil || x.open == 0 {
		return nil
	}
	x.open--
	s.open--
	if x.open == 0 && x.asked {
		x.joined = true
		s.told = append(s.told, channel)
	}
	s.drop(channel, x)
	if s.open > 0 && len(s.told) < subscribeBatch {
		return nil
	}
	return s.take()
}

// take returns what is to be told to the sink. s.mu is held.
func (s *seats) take() []string {
	t := s.told
	s.told = nil
	return t
}

// restart forgets what the lost connection knew and queues all channels for the next one. It
// returns those that were joined.
func (s *seats) restart() (lost []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.joins, s.leaves, s.told, s.open = nil, nil, nil, 0
	for c, x := range s.of {
		if x.joined {
			lost = append(lost, c)
		}
		if !x.wanted {
			delete(s.of, c)
			continue
		}
		*x = seat{wanted: true, queued: true}
		s.joins = append(s.joins, c)
	}
	return lost
}
