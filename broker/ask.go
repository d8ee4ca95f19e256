package broker

import (
	"context"
	"fmt"
)

// What nodes may ask each other, in bytes.
const (
	MaxQuestion = 256 << 10
	MaxAnswer   = 256 << 10
)

// Question is what another node asks. Anybody who may write to the backend can make one up.
type Question struct {
	Text []byte // the receiver's to keep

	// Answer sends text, at most MaxAnswer bytes, to the node that asks. An empty one says that there will be another, so that
	// the node goes on waiting. It takes a round trip, so it must not be called by who was handed the question; it may be
	// called concurrently.
	Answer func(ctx context.Context, text []byte) error
}

// Ask is Backend.Ask.
func (b *Broker) Ask(ctx context.Context, question []byte) ([]byte, error) {
	if len(question) > MaxQuestion {
		return nil, fmt.Errorf("%w: a question of %d bytes, at most %d", ErrTooLarge, len(question), MaxQuestion)
	}
	text, err := b.backend.Ask(ctx, question)
	if err != nil {
		return nil, fmt.Errorf("ask the other nodes: %w", err)
	}
	return text, nil
}

// Asked implements Sink.
func (s sink) Asked(q Question) bool { return s.b.options.OnAsk == nil || s.b.options.OnAsk(q) }
