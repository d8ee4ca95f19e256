package broker

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"time"
)

// RevocationSet holds revocations until they end, MaxRevocations at most. The zero value is empty. All methods may
// be called concurrently; what has ended is never answered, and its memory is freed by a later Add.
type RevocationSet struct {
	mu  sync.RWMutex
	of  map[revoked]term
	due time.Time // nothing ends before it
}

// revoked is what a revocation names.
type revoked struct {
	kind  RevocationKind
	value string
}

// term is from when to when a revocation is remembered.
type term struct{ at, until time.Time }

// Add takes in those of list that are in force; Check is the caller's. It returns those that name something new,
// or something known with a later At, each with the times that hold now. If there is no room for some of them the
// error wraps ErrRevocationsFull, and the others are in.
func (s *RevocationSet) Add(list ...Revocation) (fresh []Revocation, err error) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.of == nil {
		s.of = map[revoked]term{}
	}
	if len(list) > 0 && !now.Before(s.due) {
		s.sweep(now)
	}
	for _, r := range list {
		if !r.Until.After(now) {
			continue
		}
		name := revoked{r.Kind, r.Value}
		// Without Round a machine that sleeps would remember for longer.
		next := term{r.At.Round(0), r.Until.Round(0)}
		known, ok := s.of[name]
		if !ok && len(s.of) >= MaxRevocations {
			err = fmt.Errorf("%w: %d are in force", ErrRevocationsFull, MaxRevocations)
			continue
		}
		isFresh := !ok || !known.until.After(now) || next.at.After(known.at)
		if ok && known.until.After(now) {
			next = term{later(next.at, known.at), later(next.until, known.until)}
		}
		s.of[name] = next
		if s.due.IsZero() || next.until.Before(s.due) {
			s.due = next.until
		}
		if isFresh {
			fresh = append(fresh, name.during(next))
		}
	}
	return fresh, err
}

// sweep frees what has ended. s.mu is held.
func (s *RevocationSet) sweep(now time.Time) {
	s.due = time.Time{}
	for name, t := range s.of {
		switch {
		case !t.until.After(now):
			delete(s.of, name)
		case s.due.IsZero() || t.until.Before(s.due):
			s.due = t.until
		}
	}
}

// Find returns what is in force for a kind and value.
func (s *RevocationSet) Find(kind RevocationKind, value string) (Revocation, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	name := revoked{kind, value}
	t, ok := s.of[name]
	if !ok || !t.until.After(time.Now()) {
		return Revocation{}, false
	}
	return name.during(t), true
}

// All returns what is in force, by kind and value.
func (s *RevocationSet) All() []Revocation {
	now := time.Now()
	s.mu.RLock()
	all := make([]Revocation, 0, len(s.of))
	for name, t := range s.of {
		if t.until.After(now) {
			all = append(all, name.during(t))
		}
	}
	s.mu.RUnlock()
	slices.SortFunc(all, func(a, b Revocation) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Value, b.Value))
	})
	return all
}

func (r revoked) during(t term) Revocation { return Revocation{r.kind, r.value, t.at, t.until} }

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
