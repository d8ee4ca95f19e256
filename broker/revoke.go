package broker

import (
	"context"
	"fmt"
	"time"
)

// Revoke takes back what r names, on all nodes. A zero r.At is now. The error wraps ErrRevocation, ErrRevocationsFull or
// ErrUnavailable; after the last of these it is in force on this node, which tells the others as soon as its backend
// lets it, and it is safe to repeat it.
func (b *Broker) Revoke(ctx context.Context, r Revocation) error {
	if r.At.IsZero() {
		r.At = time.Now()
	}
	err := r.Check()
	if err == nil {
		err = b.revoke([]Revocation{r})
	}
	if err == nil {
		err = b.backend.Revoke(ctx, r)
	}
	if err != nil {
		return fmt.Errorf("revoke a %s: %w", r.Kind, err)
	}
	return nil
}

// Revocations returns what is in force on this node, by kind and value. It copies, so it is for those who ask now
// and then.
func (b *Broker) Revocations() []Revocation { return b.revoked.All() }

// RevocationsKnown reports whether the backend's list has been read since this node started: until then Revoked
// may answer false for what was revoked before.
func (b *Broker) RevocationsKnown() bool { return b.listed.Load() }

// Revoked reports whether a revocation concerns a token. It costs two look-ups and no allocation.
func (b *Broker) Revoked(jti, subject string, issued time.Time) bool {
	if r, found := b.revoked.Find(ByToken, jti); found && r.Concerns(jti, subject, issued) {
		return true
	}
	r, found := b.revoked.Find(BySubject, subject)
	return found && r.Concerns(jti, subject, issued)
}

// revoke puts in force what is not yet, and tells who wants to know.
func (b *Broker) revoke(list []Revocation) error {
	fresh, err := b.revoked.Add(list...)
	if len(fresh) > 0 && b.options.OnRevoke != nil {
		b.options.OnRevoke(fresh)
	}
	return err
}

func (s sink) Revoked(list []Revocation) {
	if err := s.b.revoke(list); err != nil {
		s.b.log.Error("revocations are NOT in force on this node", "err", err)
	}
	s.b.listed.Store(true)
}
