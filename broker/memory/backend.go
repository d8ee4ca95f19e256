// Package memory is the backend of a node that stands alone: tests, the demo, development, and
// whoever can do without a second node. Its history ends with the process.
//
// What it promises beyond broker.Backend:
//   - A publish is delivered to the node before Publish returns, unless its channel is being joined.
//   - What it holds is bounded in bytes and in channels; a publish beyond that is refused.
//   - A channel that nobody uses costs about 200 bytes, no goroutine and no timer.
//
// A Backend serves one Broker: one node.
package memory

import (
	"context"
	"fmt"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"sluice/broker"
)

// Config says how much a Backend keeps. The zero value of a field is its default.
type Config struct {
	MaxChannels       int           // channels at once; default 1,000,000
	MaxBytes          int64         // bytes of all histories and idempotency keys; default 256 MiB
	IdempotencyWindow time.Duration // how long a publish's ID is remembered; default 5 min

	// Remember is how long the last position of a channel that nobody uses is kept after its history
	// is gone; default 24 h, and a minute while there are MaxChannels. Who comes back with a position
	// later than that is told of a gap, whether or not there was one.
	Remember time.Duration
}

// DefaultConfig returns the defaults.
func DefaultConfig() Config {
	return Config{
		MaxChannels:       1_000_000,
		MaxBytes:          256 << 20,
		IdempotencyWindow: 5 * time.Minute,
		Remember:          24 * time.Hour,
	}
}

// Backend is a broker.Backend within the process. All methods may be called concurrently, and by a
// Sink too, except that Deliver must not publish or read.
type Backend struct {
	config Config
	now    func() time.Time
	start  time.Time // ages are counted from it by the monotonic clock, which no one sets back
	seed   maphash.Seed
	shards [shardCount]shard

	channels atomic.Int64  // in all shards
	bytes    atomic.Int64  // of all histories and IDs
	floor    atomic.Uint64 // the highest position (ms) of a channel that was forgotten
	full     atomic.Bool   // something was refused for want of room since the last sweep

	running atomic.Bool
	sink    broker.Sink   // written by Run before any channel is joined, and read for joined ones only
	ended   chan struct{} // closed when Run returned
	wake    chan struct{} // to Run: there is something in intake, or the first channel
	probes  chan chan struct{}
	intake  struct {
		sync.Mutex
		orders  []order
		revoked []broker.Revocation // to be told
		listed  bool                // the sink has had the list, and is to have the rest
	}
	revocations broker.RevocationSet
}

// New returns an empty backend. It starts nothing; Publish and Read work before Run and without it.
func New(c Config) *Backend {
	d := DefaultConfig()
	if c.MaxChannels <= 0 {
		c.MaxChannels = d.MaxChannels
	}
	if c.MaxBytes <= 0 {
		c.MaxBytes = d.MaxBytes
	}
	if c.IdempotencyWindow <= 0 {
		c.IdempotencyWindow = d.IdempotencyWindow
	}
	if c.Remember <= 0 {
		c.Remember = d.Remember
	}
	b := &Backend{
		config: c,
		now:    time.Now,
		start:  time.Now(),
		seed:   maphash.MakeSeed(),
		ended:  make(chan struct{}),
		wake:   make(chan struct{}, 1),
		probes: make(chan chan struct{}),
	}
	for i := range b.shards {
		b.shards[i].channels = map[string]*channel{}
	}
	return b
}

// Publish stores and delivers m as broker.Backend says. It returns an error that wraps
// broker.ErrUnavailable if ctx has ended or a limit of Config is reached; nothing was published then.
func (b *Backend) Publish(ctx context.Context, m *broker.Message, o broker.PublishOptions) (broker.Receipt, error) {
	if err := ended(ctx); err != nil {
		return broker.Receipt{}, err
	}
	now := b.now()
	var c *channel
	var err error
	if o.Live && o.ID == "" {
		if c = b.lookup(m.Channel); c == nil {
			return broker.Receipt{}, nil // nobody listens, and nothing is kept
		}
	} else if c, err = b.open(m.Channel, now); err != nil {
		return broker.Receipt{}, err
	}
	defer c.mu.Unlock()
	return c.publish(b, m, o, now)
}

// Read answers from memory; what it answers was true for each channel in one instant. It returns an
// error that wraps broker.ErrUnavailable if ctx has ended or there would be too many channels.
func (b *Backend) Read(ctx context.Context, ranges []broker.Range) ([]broker.Page, error) {
	pages := make([]broker.Page, len(ranges))
	for i, r := range ranges {
		if err := ended(ctx); err != nil {
			return nil, err
		}
		now := b.now()
		c, err := b.open(r.Channel, now)
		if err != nil {
			return nil, err
		}
		pages[i] = c.read(b, r, now)
		c.mu.Unlock()
	}
	return pages, nil
}

// Probe returns nil once Run has answered, and an error that wraps broker.ErrUnavailable if that
// does not happen before ctx ends. It needs no message: delivering is a function call here.
func (b *Backend) Probe(ctx context.Context) error {
	if err := ended(ctx); err != nil {
		return err
	}
	answer := make(chan struct{})
	select {
	case b.probes <- answer:
	case <-b.ended:
		return broker.ErrClosed
	case <-ctx.Done():
		return ended(ctx)
	}
	select {
	case <-answer:
		return nil
	case <-b.ended:
		return broker.ErrClosed
	case <-ctx.Done():
		return ended(ctx)
	}
}

func ended(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%w: %w", broker.ErrUnavailable, err)
	}
	return nil
}

// age is the time by which ages and windows are counted.
func (b *Backend) age(now time.Time) time.Duration { return now.Sub(b.start) }

// reserve counts n more bytes in, or refuses if that is too many. A negative n always fits.
func (b *Backend) reserve(n int64) error {
	switch {
	case n == 0:
	case b.bytes.Add(n) <= b.config.MaxBytes || n < 0:
	default:
		b.bytes.Add(-n)
		b.full.Store(true) // what has expired elsewhere may make room
		return fmt.Errorf("%w: the memory backend is full (%d bytes)", broker.ErrUnavailable, b.config.MaxBytes)
	}
	return nil
}

// kick makes Run look.
func (b *Backend) kick() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}
