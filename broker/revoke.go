package broker

import (
	"context"
	"fmt"
	"time"
)

// Revoke takes back what r names, on all nodes; on this one it is in force when Revoke returns nil. A zero r.At is
// now. The error wraps ErrRevocation, ErrRevocationsFull or ErrUnavailable; after the last of these it may be in
// force or not, and it is safe to repeat it.
func (b *Broker) Revoke(ctx context.Context, r Revocation) error {
	if r.At.IsZero() {
		r.At = time.Now()
	}
	err := r.Check()
	if err == nil {
		err = b.backend.Revoke(ctx, r)
	}
	if err == nil {
		err = b.revoke([]Revocation{r})
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

// Revoked reports whether a token is revoked: by its ID, or by its subject if it was issued at or before the
// second in which that was revoked. NumericDates have whole seconds mostly (RFC 7519 §2), so a token of that second
// may be from before. A zero issued counts as long ago; "" names nothing. It costs two look-ups and no allocation.
func (b *Broker) Revoked(jti, subject string, issued time.Time) bool {
	if jti != "" {
		if _, found := b.revoked.Find(ByToken, jti); found {
			return true
		}
	}
	if subject == "" {
		return false
	}
	r, found := b.revoked.Find(BySubject, subject)
	return found && (issued.IsZero() || issued.Unix() <= r.At.Unix())
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
