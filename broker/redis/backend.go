// Package redis is the Redis backend of the broker.
//
// What it promises, beyond broker.Backend:
//   - A message that anybody publishes with PUBLISH news bytes reaches the channel news byte for byte.
//   - A durable publish is one call of a Redis function: entry, last position, idempotency key and
//     announcement are made together or not at all. Anybody may call it: FCALL sluice_publish 1 news hello.
//   - Publish is repeated under the same ID within its time, so a lost reply neither loses nor doubles a message.
//   - Sink.Joined comes after Redis has confirmed both of a channel's subscriptions, Sink.Lost whenever
//     their connection breaks or falls silent. Nothing reconnects in secret.
//
// Positions, formats and keys are described in lua/core.lua.
package redis

import (
	"context"
	"crypto/rand"
	"hash/maphash"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"

	"sluice/broker"
)

// Backend is a broker.Backend on Redis. All methods may be called concurrently.
type Backend struct {
	config  Config
	options *goredis.Options
	client  goredis.UniversalClient
	keys    keys
	log     *slog.Logger
	stats   Stats
	node    string // names the node's control channels
	publish string // the command that publishes announcements: SPUBLISH some day, for Cluster
	scripts atomic.Bool
	mail    revocationMail
	asks    asks

	life    context.Context // ends with Close
	end     context.CancelFunc
	workers []*worker
	seed    maphash.Seed
	wg      sync.WaitGroup // workers that have something to do

	mu    sync.Mutex // guards links; taken before a link's seats
	links []*link    // at least one
	grown chan struct{}
}

var _ broker.Backend = (*Backend)(nil)

// New returns a backend for the Redis of c. It does not connect: that is for Run, or for the first
// Publish or Read, which work without Run as well. The caller has to Close it.
func New(c Config) (*Backend, error) {
	if err := c.complete(); err != nil {
		return nil, err
	}
	o, err := c.options()
	if err != nil {
		return nil, err
	}
	logging.Disable() // go-redis writes every failed dial to standard error; what matters is logged here
	b := &Backend{
		config:  c,
		options: o,
		client:  goredis.NewClient(o),
		keys:    keys{prefix: c.Prefix, channel: c.ChannelPrefix},
		log:     c.Logger,
		node:    rand.Text(),
		publish: "PUBLISH",
		seed:    maphash.MakeSeed(),
		grown:   make(chan struct{}, 1),
	}
	b.scripts.Store(c.NoFunctions)
	b.asks.waiting = map[string]chan string{}
	b.mail.wake = make(chan struct{}, 1)
	b.life, b.end = context.WithCancel(context.Background())
	b.links = []*link{newLink(b, 0)}
	for range c.PublishWorkers {
		b.workers = append(b.workers, &worker{b: b, queue: make(chan *request, c.PublishQueue)})
	}
	return b, nil
}

// Stats returns the backend's counters, to be read only.
func (b *Backend) Stats() *Stats { return &b.stats }

// Connected reports whether all Pub/Sub connections are up.
func (b *Backend) Connected() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, l := range b.links {
		if !l.up.Load() {
			return false
		}
	}
	return true
}

// Close ends what is being published and closes the connections. It comes after Run has returned.
func (b *Backend) Close() error {
	b.end()
	for _, w := range b.workers {
		w.close()
	}
	err := b.client.Close()
	b.wg.Wait()
	return err
}

// Run implements broker.Backend. It never gives up: a wrong password too may be put right while the node runs.
func (b *Backend) Run(ctx context.Context, s broker.Sink) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { b.keepLoaded(ctx) })
	wg.Go(func() { b.keepRevocations(ctx, s) })
	if b.config.Clock != nil {
		wg.Go(func() { b.keepClock(ctx) })
	}
	verify := time.NewTicker(b.config.VerifyInterval)
	defer verify.Stop()
	started := 0
	for {
		b.mu.Lock()
		fresh := b.links[started:]
		b.mu.Unlock()
		for _, l := range fresh {
			wg.Go(func() { l.run(ctx, s) })
		}
		started += len(fresh)
		select {
		case <-ctx.Done():
			return nil
		case <-b.grown:
		case <-verify.C:
			if b.stats.Connections.Load() > 0 {
				s.Verify()
			}
		}
	}
}

// keepLoaded looks for the libraries at the start and then now and then: somebody may flush them,
// or Redis start without its data, while this node publishes nothing itself.
func (b *Backend) keepLoaded(ctx context.Context) {
	for pause := 20 * time.Millisecond; ; {
		err := b.load(ctx)
		switch {
		case err == nil:
			pause = b.config.VerifyInterval
		case isReply(err) && !hasPrefix(err, passing):
			b.log.Warn("functions can't be loaded into redis", "err", err)
			pause = b.config.VerifyInterval
		default:
			pause = min(2*pause, time.Second)
		}
		if !sleep(ctx, pause) {
			return
		}
	}
}

// Join implements broker.Backend.
func (b *Backend) Join(channels ...string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range channels {
		b.place(c).seats.join(c)
	}
}

// place returns the link that has the channel, or else the first with room. b.mu is held.
func (b *Backend) place(channel string) *link {
	var free *link
	for _, l := range b.links {
		has, n := l.seats.look(channel)
		if has {
			return l
		}
		if free == nil && n < b.config.ChannelsPerConn {
			free = l
		}
	}
	if free == nil {
		free = newLink(b, len(b.links))
		b.links = append(b.links, free)
		wake(b.grown)
	}
	return free
}

// Leave implements broker.Backend.
func (b *Backend) Leave(channels ...string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	due := time.Now().Add(b.config.LeaveDelay)
	for _, c := range channels {
		for _, l := range b.links {
			if l.seats.leave(c, due) {
				break
			}
		}
	}
}

// Probe implements broker.Backend: it goes through every Pub/Sub connection, and asks for the
// functions: a node that may PUBLISH but not FCALL could deliver live messages only.
func (b *Backend) Probe(ctx context.Context) error {
	if err := b.load(ctx); err != nil {
		return unavailable(err)
	}
	b.mu.Lock()
	links := b.links[:len(b.links):len(b.links)]
	b.mu.Unlock()
	for _, l := range links {
		if err := l.probe(ctx); err != nil {
			return unavailable(err)
		}
	}
	return nil
}

// send publishes a message that is not kept.
func (b *Backend) send(ctx context.Context, channel, payload string) error {
	ctx, cancel := context.WithTimeout(ctx, b.config.CommandTimeout)
	defer cancel()
	return b.client.Do(ctx, b.publish, channel, payload).Err()
}

// sleep waits for d and reports whether ctx is still alive.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// wake makes whoever waits on c look again. c has room for one signal.
func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// ended tells why a context is over, as an error for publishers and readers.
func (b *Backend) ended(ctx context.Context) error {
	if b.life.Err() != nil {
		return unavailable(broker.ErrClosed)
	}
	return unavailable(ctx.Err())
}
