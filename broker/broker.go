// Package broker is the heart of Sluice: what a message is, who gets it and what is kept.
//
// The promise, per channel:
//   - Messages arrive in the order of the backend, live and durable ones alike.
//   - A durable message arrives exactly once, resumes on any node included, as long as the history
//     reaches back; else the subscription gets a Gap in its place, never silence.
//   - A live message arrives at most once, is never repeated, and is not kept for those who are away.
//   - A subscription that is read late delays nobody. It gets what it missed from the ring, then
//     from the history, and a Gap for what neither has.
//
// A Broker owns one Log per channel that somebody on this node listens to. A Subscription is a
// cursor into a log: nothing is queued per subscriber and no goroutine waits for one.
package broker

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"sluice/otel"
)

// Options say how much a broker keeps. The zero value of a field is its default.
type Options struct {
	RingMessages int           // messages that a channel's log holds; default 1024
	RingBytes    int           // and their bytes; default 1 MiB. One message is always held
	Linger       time.Duration // how long a channel stays joined after its last listener left; default 5 s
	MaxMessage   int           // bytes of a payload that Publish takes; default 1 MiB
	Logger       *slog.Logger  // nil discards
	Arrivals     bool          // note when each message arrives, for Message.Waited
	Clock        *otel.Clock   // of publish times; nil is the machine's
	Tracer       *otel.Tracer  // nil traces nothing; else Arrivals must be set

	// History limits the channel's history at each publish; nil means the defaults of PublishOptions.
	History func(channel string) (messages int, age time.Duration)

	// OnRevoke is called with revocations that are new to this node, or have a later At; nil: nobody wants to know.
	// It must return soon. The backend's goroutine and whoever calls Revoke may call it at the same time.
	OnRevoke func(list []Revocation)

	// OnAsk is called with what other nodes ask, and returns false for what can't be read; nil: nobody answers. It must
	// return soon, and must not call Question.Answer itself.
	OnAsk func(q Question) bool
}

func (o *Options) defaults() {
	if o.RingMessages <= 0 {
		o.RingMessages = 1024
	}
	if o.RingBytes <= 0 {
		o.RingBytes = 1 << 20
	}
	if o.Linger <= 0 {
		o.Linger = 5 * time.Second
	}
	if o.MaxMessage <= 0 {
		o.MaxMessage = 1 << 20
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

// Broker hands out logs and keeps them in step with a backend. All methods may be called
// concurrently.
type Broker struct {
	backend Backend
	options Options
	log     *slog.Logger
	stats   Stats
	transit *otel.Histogram // nil without Options.Arrivals

	mu   sync.RWMutex
	logs map[string]*Log

	revoked RevocationSet
	listed  atomic.Bool // the backend's list has come

	work struct { // what the worker goroutine does next
		sync.Mutex
		wake   chan struct{}
		joins  []membership
		reads  []*Log
		verify []*Log
	}
	fetches struct { // pages and backfills, made by a few goroutines
		sync.Mutex
		wake   chan struct{}
		orders []fetch
	}
}

// membership is one Join or Leave, kept in order so that the last one counts.
type membership struct {
	channel string
	join    bool
}

// New returns a broker over b. It does nothing until Run.
func New(b Backend, o Options) *Broker {
	o.defaults()
	br := &Broker{backend: b, options: o, log: o.Logger, logs: map[string]*Log{}}
	if o.Arrivals {
		br.transit = otel.TransitTime.Histogram()
	}
	br.work.wake = make(chan struct{}, 1)
	br.fetches.wake = make(chan struct{}, fetchers)
	return br
}

// Stats returns the broker's counters, to be read only.
func (b *Broker) Stats() *Stats { return &b.stats }

// Run connects the backend and serves the logs until ctx ends; it returns nil then, and the
// backend's error if that gave up.
func (b *Broker) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { b.runWork(ctx) })
	for range fetchers {
		wg.Go(func() { b.runFetches(ctx) })
	}
	err := b.backend.Run(ctx, sink{b})
	cancel()
	wg.Wait()
	return err
}

// Probe publishes through the backend to this node and returns nil when it came back before ctx ended.
func (b *Broker) Probe(ctx context.Context) error { return b.backend.Probe(ctx) }

// Publish checks m, stores and announces it. It returns an error that wraps ErrChannel, ErrMessage,
// ErrTooLarge or ErrUnavailable; only nil means that the backend acknowledged it.
func (b *Broker) Publish(ctx context.Context, m *Message, o PublishOptions) (Receipt, error) {
	if err := b.check(m, &o); err != nil {
		return Receipt{}, err
	}
	if m.Time.IsZero() {
		m.Time = b.options.Clock.Publish()
	}
	if o.Messages == 0 && o.Age == 0 && b.options.History != nil {
		o.Messages, o.Age = b.options.History(m.Channel)
	}
	var r Receipt
	var err error
	if b.options.Tracer != nil {
		r, err = b.publishTraced(ctx, m, o)
	} else {
		r, err = b.backend.Publish(ctx, m, o)
	}
	if err != nil {
		return Receipt{}, fmt.Errorf("publish to %s: %w", m.Channel, err)
	}
	return r, nil
}

// Open returns the log of a channel and has the backend join it if need be. Each Open needs one
// Close. It returns at once; the log is ready a little later.
func (b *Broker) Open(channel string) *Log {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.logs[channel]
	if l == nil {
		l = &Log{channel: channel, broker: b, ring: ring{first: ringStart, next: ringStart}}
		b.logs[channel] = l
		b.member(channel, true)
	}
	l.refs++
	return l
}

// Close gives up one Open. The log lingers for a while, since pages reload and storms come back.
func (l *Log) Close() {
	b := l.broker
	b.mu.Lock()
	defer b.mu.Unlock()
	if l.refs--; l.refs == 0 {
		time.AfterFunc(b.options.Linger, l.expire)
	}
}

// expire forgets the log if nobody has opened it since. Two timers may be under way; the later one finds nothing.
func (l *Log) expire() {
	b := l.broker
	b.mu.Lock()
	defer b.mu.Unlock()
	if l.refs == 0 && b.logs[l.channel] == l {
		delete(b.logs, l.channel)
		b.member(l.channel, false)
	}
}

// Channels returns how many channels this node listens to.
func (b *Broker) Channels() int {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return len(b.logs)
}

func (b *Broker) lookup(channel string) *Log {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.logs[channel]
}

// member queues a Join or Leave. The backend is not called here: it may answer at once, into the log.
func (b *Broker) member(channel string, join bool) {
	b.work.Lock()
	b.work.joins = append(b.work.joins, membership{channel, join})
	b.work.Unlock()
	b.wake()
}

// enqueue has the worker read l's history after last, or its head if it has none yet. l.mu is held.
func (b *Broker) enqueue(l *Log) {
	if l.queued {
		return
	}
	l.queued = true
	b.work.Lock()
	b.work.reads = append(b.work.reads, l)
	b.work.Unlock()
	b.wake()
}

func (b *Broker) wake() {
	select {
	case b.work.wake <- struct{}{}:
	default:
	}
}
