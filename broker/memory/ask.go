package memory

import (
	"context"

	"sluice/broker"
)

// Ask implements broker.Backend. There is no other node: it returns broker.ErrNoAnswer, or an error that wraps
// broker.ErrUnavailable if ctx has ended.
func (b *Backend) Ask(ctx context.Context, _ []byte) ([]byte, error) {
	if err := ended(ctx); err != nil {
		return nil, err
	}
	return nil, broker.ErrNoAnswer
}
