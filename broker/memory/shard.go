package memory

import (
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"sync"
	"time"

	"sluice/broker"
)

// shardCount spreads the map of channels, so that publishers of different channels seldom meet.
const shardCount = 64

// shard is one part of the map. Its lock is above the channels' locks, and neither is held while the
// other side of the same kind is taken.
type shard struct {
	mu       sync.RWMutex
	channels map[string]*channel
}

func (b *Backend) shard(name string) *shard {
	return &b.shards[maphash.String(b.seed, name)%shardCount]
}

// lookup returns the channel, locked, or nil.
func (b *Backend) lookup(name string) *channel {
	s := b.shard(name)
	for {
		s.mu.RLock()
		c := s.channels[name]
		s.mu.RUnlock()
		if c == nil {
			return nil
		}
		c.mu.Lock()
		if !c.forgotten {
			return c
		}
		c.mu.Unlock() // it was forgotten in between; now it is not in the map any more
	}
}

// open returns the channel, locked. It is made if it is not there; that gives it its genesis.
func (b *Backend) open(name string, now time.Time) (*channel, error) {
	for {
		if c := b.lookup(name); c != nil {
			return c, nil
		}
		if err := b.create(name, now); err != nil {
			return nil, err
		}
	}
}

func (b *Backend) create(name string, now time.Time) error {
	s := b.shard(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.channels[name] != nil {
		return nil
	}
	n := b.channels.Add(1)
	if n > int64(b.config.MaxChannels) {
		b.channels.Add(-1)
		b.full.Store(true)
		return fmt.Errorf("%w: the memory backend has %d channels, its limit", broker.ErrUnavailable, b.config.MaxChannels)
	}
	// The name may be a slice of something large, such as a request's body.
	name = string(append([]byte(nil), name...))
	genesis := broker.Position{MS: max(uint64(max(now.UnixMilli(), 1)), b.floor.Load()+1), Tag: tag()}
	s.channels[name] = &channel{name: name, last: genesis, touched: b.age(now)}
	if n == 1 {
		b.kick()
	}
	return nil
}

// forget takes the channels out of the map that still are of no use to anyone.
func (b *Backend) forget(s *shard, idle []*channel, before time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range idle {
		c.mu.Lock()
		if c.idle(before) {
			c.forgotten = true
			delete(s.channels, c.name)
			b.channels.Add(-1)
			// The next genesis must come after all that was: the clock may have gone back meanwhile.
			for f := b.floor.Load(); f < c.last.MS && !b.floor.CompareAndSwap(f, c.last.MS); {
				f = b.floor.Load()
			}
		}
		c.mu.Unlock()
	}
}

// tag is random, not counted: histories of two processes must differ (broker.Position).
func tag() uint16 { return uint16(rand.Uint32()) }
