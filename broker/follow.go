package broker

// What a subscription does under a policy. It was given, or told that it was not, everything before
// told; what is between told and next has been dropped without a word, which the next batch will say.

// Follow puts s under the policy of a lane of its log from now on; nil is everything as it comes. What
// the lane before holds back is delivered under the new one. A subscription that is given up follows
// nil before its lane is released.
func (s *Subscription) Follow(n *Lane) {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	s.speak(n)
	if s.lane != nil {
		s.pass()
		s.lane.followers--
	} else {
		s.told = s.next
	}
	s.lane, s.tooSlow = n, false
	if n != nil {
		n.followers++
	}
}

// Advance moves the cursor over what the lane has dropped behind it, so that Position is not older
// than it need be; it reports whether that moved.
func (s *Subscription) Advance() bool {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	before := s.position
	s.pass()
	return s.position != before
}

// pass moves over what the lane has dropped since its newest run, if s has had that.
func (s *Subscription) pass() {
	n := s.lane
	if n == nil || s.phase != flowing || s.gap != nil || s.next < n.run.to || s.next >= n.scanned {
		return
	}
	s.next = n.scanned
	if !n.at.IsZero() && !n.at.Before(s.position) {
		s.position = n.at
	}
}

// TooSlow reports whether the last Take found s too slow for its policy, and that says ThenDisconnect.
func (s *Subscription) TooSlow() bool { return s.tooSlow }

// Unsettled reports whether s may have something to take though its lane is not ready: it waits for
// the log or for the history.
func (s *Subscription) Unsettled() bool { return s.phase != flowing }

// Replaying reports whether s waits for the log, or for a part of the history.
func (s *Subscription) Replaying() bool { return s.phase == waiting || s.phase == fetching }

// takeLane returns the next batch of what the lane has let go and s has not had. It returns nil if
// there is none, or if something else than that comes first: a gap, or the history. l.mu is held.
func (s *Subscription) takeLane() *Batch {
	r := s.lane.run
	for s.phase == flowing && s.gap == nil && !s.tooSlow {
		if s.next >= r.to {
			s.caughtUp = true
			return nil
		}
		if s.next >= r.from && s.next >= s.liveFrom {
			if s.told == s.next || s.next <= r.quiet {
				if b := r.find(s.told); b != nil { // in step
					return s.have(b)
				}
			}
			s.next = max(s.next, r.quiet) // it came in between: it is owed the same, only the count differs
		}
		slow := s.judge(r)
		if s.phase != flowing || s.gap != nil || s.tooSlow {
			return nil
		}
		end, durable := r.to, s.next < s.liveFrom
		if durable {
			end = min(end, s.liveFrom)
		}
		made, b := s.lane.missed(s.next, end, s.told, durable, slow)
		if b == nil || b == made.batches[0] {
			s.countMissed(made)
		}
		if b != nil {
			return s.have(b)
		}
		s.next = end
	}
	return nil
}

func (s *Subscription) have(b *Batch) *Batch {
	s.next, s.told = b.to, b.to
	return b
}

// countMissed counts what s was not given of a run that was made for it. What the lane dropped while
// s followed has been counted already.
func (s *Subscription) countMissed(r *run) {
	s.reportMissed(r, r.slow)
	switch d := s.lane.policy.Drops; {
	case r.slow:
		for _, x := range r.dropped {
			d.Add(DropSlow, x.n)
		}
	case !s.caughtUp:
		r.count(d, 1)
	}
}

// judge decides what becomes of a subscription that has missed runs: it reports whether it is
// conflated until it has caught up, or leaves a gap, the reading of history or tooSlow behind.
func (s *Subscription) judge(r *run) (conflate bool) {
	l, p := s.log, s.lane.policy
	out := s.next < l.ring.first
	slow := s.caughtUp && p.Slow.Ring > 0 && s.next+uint64(p.Slow.Ring) < r.from
	switch {
	case slow && p.Slow.Then == ThenDisconnect:
		s.tooSlow = true
	case slow && p.Slow.Then == ThenGap:
		s.leave()
		missed := int(r.from - s.next)
		p.Drops.Add(DropLapped, missed)
		s.skip(r.from, DropLapped)
		s.lose(Gap{From: s.position, To: l.positionBefore(r.from), Reason: Lapped, lapped: missed})
		s.flow(max(r.from, l.ring.first))
	case (slow || out && s.caughtUp) && p.Slow.Then == ThenConflate:
		s.complain(l.compacted(p.Slow.Key, false))
		return true
	case out && p.Key != nil:
		if c := l.compacted(p.Key, false); s.next < c.lost && p.Slow.Then == ThenHistory {
			s.lapped() // not all of it has keys
		} else {
			s.complain(c)
		}
	case out:
		s.lapped()
	}
	return false
}

// leave is for going on somewhere else: what has not been told is carried along.
func (s *Subscription) leave() {
	if s.lane != nil {
		s.carry += int(s.next - s.told)
	}
	s.told = s.next
}

// complain tells a gap if messages that nothing has superseded are not in memory any more.
func (s *Subscription) complain(c *compact) {
	if c == nil || s.next < c.lost {
		s.leave()
		s.lose(Gap{From: s.position, Reason: Lapped})
		if c != nil {
			s.flow(c.lost)
		} else {
			s.flow(s.log.ring.first)
		}
	}
}

// positionBefore is where who has had everything before index i stands.
func (l *Log) positionBefore(i uint64) Position {
	for ; i > l.ring.first; i-- {
		if p := l.ring.at(i - 1).After(); !p.IsZero() {
			return p
		}
	}
	return l.base
}
