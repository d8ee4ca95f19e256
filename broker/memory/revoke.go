package memory

import (
	"context"

	"sluice/broker"
)

// Revoke implements broker.Backend. The sink is told by Run, a little later. It returns an error that wraps
// broker.ErrUnavailable if ctx has ended; nothing was revoked then.
func (b *Backend) Revoke(ctx context.Context, r broker.Revocation) error {
	if err := ended(ctx); err != nil {
		return err
	}
	if _, err := b.revocations.Add(r); err != nil {
		return err
	}
	r, inForce := b.revocations.Find(r.Kind, r.Value)
	b.intake.Lock()
	if inForce && b.intake.listed {
		b.intake.revoked = append(b.intake.revoked, r)
	}
	b.intake.Unlock()
	b.kick()
	return nil
}

// list has revocations told to the sink from now on, or not any more.
func (b *Backend) list(on bool) {
	b.intake.Lock()
	defer b.intake.Unlock()
	b.intake.listed, b.intake.revoked = on, nil
}
