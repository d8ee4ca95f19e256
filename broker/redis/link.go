package redis

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"sluice/broker"
)

// link is one Pub/Sub connection, made again whenever it is lost, with its share of the channels.
//
// go-redis' own healing is kept out: each connection is a client of its own that can dial only once,
// and the low-level Receive is used, since PubSub.Channel drops messages when its reader is busy.
// One goroutine reads and makes all calls of the sink, one writes, one checks that something arrives.
type link struct {
	b       *Backend
	control string // Redis channel on which the link hears itself
	revoked string // Redis channel on which it hears of revocations; "" for all links but the first
	asked   string // and of what other nodes ask; likewise
	seats   *seats
	echoes  echoes
	up      atomic.Bool
	arrived atomic.Uint64 // messages received
}

func newLink(b *Backend, n int) *link {
	l := &link{b: b, control: b.keys.control(b.node + "/" + strconv.Itoa(n)), seats: newSeats(), echoes: newEchoes()}
	if n == 0 {
		l.revoked, l.asked = b.keys.revoked(), b.keys.asked()
	}
	return l
}

// Pauses before a link dials again: the first ones are short, for raw messages are lost meanwhile.
const (
	firstPause  = 20 * time.Millisecond
	lastPause   = time.Second
	goodSession = 200 * time.Millisecond
)

// run keeps the link up until ctx ends.
func (l *link) run(ctx context.Context, s broker.Sink) {
	pause := firstPause
	for {
		began := time.Now()
		err := l.session(ctx, s)
		wasUp := l.up.Swap(false)
		if wasUp {
			l.b.stats.Connections.Add(-1)
		}
		lost := l.seats.restart()
		if ctx.Err() != nil {
			return
		}
		if len(lost) > 0 {
			s.Lost(lost)
		}
		if wasUp || pause == firstPause {
			l.b.log.Warn("redis Pub/Sub connection lost", "link", l.control, "err", err)
		}
		if wasUp && time.Since(began) > goodSession {
			pause = firstPause
		}
		// Many nodes lose their connections at the same moment.
		if !sleep(ctx, pause+rand.N(pause/2)) {
			return
		}
		pause = min(2*pause, lastPause)
		l.b.stats.Reconnects.Add(1)
	}
}

// session makes one connection and reads from it until it fails or ctx ends.
func (l *link) session(ctx context.Context, s broker.Sink) error {
	ctx, cancel := context.WithCancelCause(ctx)
	client := l.b.dialOnce()
	pubsub := client.Subscribe(ctx)
	var wg sync.WaitGroup
	stop := context.AfterFunc(ctx, func() { _ = pubsub.Close() }) // unblocks reader and writer
	defer func() {
		cancel(nil)
		wg.Wait()
		stop()
		_ = pubsub.Close()
		_ = client.Close()
	}()
	own := []string{l.control}
	if l.revoked != "" {
		own = []string{l.asked, l.control, l.revoked} // confirmed in order: who is up hears questions, its own too
	}
	if err := pubsub.Subscribe(ctx, own...); err != nil {
		return err
	}
	wg.Go(func() { cancel(l.write(ctx, pubsub)) })
	wg.Go(func() { cancel(l.watch(ctx)) })
	for {
		// After any error, time-outs included, half a message may have been read: the connection is done for.
		received, err := pubsub.ReceiveTimeout(ctx, l.b.config.LinkTimeout)
		if err != nil {
			if cause := context.Cause(ctx); cause != nil {
				return cause
			}
			return err
		}
		switch x := received.(type) {
		case *goredis.Message:
			l.arrived.Add(1)
			l.receive(x, s)
		case *goredis.Subscription:
			l.confirm(x, s)
		}
	}
}

// dialOnce returns a client that makes one connection and can't make another when that is lost.
func (b *Backend) dialOnce() *goredis.Client {
	o := *b.options
	o.PoolSize = 1
	dial := goredis.NewDialer(&o)
	var used atomic.Bool
	o.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if used.Swap(true) {
			return nil, errDialOnce
		}
		return dial(ctx, network, addr)
	}
	return goredis.NewClient(&o)
}

// receive hands a message to the sink, or drops and counts it: anybody may publish here.
func (l *link) receive(x *goredis.Message, s broker.Sink) {
	b := l.b
	if channel, ok := b.keys.announced(x.Channel); ok {
		if len(x.Payload) > b.config.MaxPayload+maxHead { // it is not even copied
			b.stats.DroppedTooLarge.Add(1)
			return
		}
		m, ok := parseAnnouncement(channel, x.Payload)
		switch {
		case !ok:
			b.stats.DroppedMalformed.Add(1)
		case len(m.Data) > b.config.MaxPayload:
			b.stats.DroppedTooLarge.Add(1)
		default:
			b.stats.Announcements.Add(1)
			s.Deliver(m)
		}
		return
	}
	switch x.Channel {
	case l.control:
		if id, text, ok := parseAnswer(x.Payload); ok {
			b.asks.answered(id, text)
		} else if !l.echoes.came(x.Payload) {
			b.stats.DroppedMalformed.Add(1)
		}
		return
	case l.asked:
		if !b.asked(x.Payload, s) {
			b.stats.DroppedMalformed.Add(1)
		}
		return
	case l.revoked:
		if !b.mail.announced(x.Payload) {
			b.stats.DroppedMalformed.Add(1)
		}
		return
	}
	if len(x.Payload) > b.config.MaxPayload {
		b.stats.DroppedTooLarge.Add(1)
		return
	}
	b.stats.Raw.Add(1)
	s.Deliver(&broker.Message{Channel: strings.TrimPrefix(x.Channel, b.keys.channel), Data: []byte(x.Payload)})
}

// confirm takes Redis' confirmations of SUBSCRIBE. Those of UNSUBSCRIBE mean nothing to anybody.
func (l *link) confirm(x *goredis.Subscription, s broker.Sink) {
	if x.Kind != "subscribe" {
		return
	}
	switch x.Channel {
	case l.control:
		l.up.Store(true)
		l.b.stats.Connections.Add(1)
		l.b.log.Info("redis Pub/Sub connection up", "link", l.control)
		return
	case l.revoked:
		l.b.mail.readAll()
		return
	}
	if channel, ok := l.b.keys.announced(x.Channel); ok {
		if joined := l.seats.subscribed(channel); len(joined) > 0 {
			s.Joined(joined)
		}
	}
}

// write subscribes and unsubscribes as the seats say and asks Redis for a sign of life, until ctx ends.
func (l *link) write(ctx context.Context, pubsub *goredis.PubSub) error {
	ping := time.NewTicker(l.b.config.PingInterval)
	defer ping.Stop()
	for {
		subscribe, unsubscribe, wait := l.seats.next(time.Now())
		var err error
		switch {
		case len(subscribe) > 0:
			err = pubsub.Subscribe(ctx, l.b.keys.pairs(subscribe)...)
		case len(unsubscribe) > 0:
			err = pubsub.Unsubscribe(ctx, l.b.keys.pairs(unsubscribe)...)
		default:
			err = l.idle(ctx, pubsub, ping.C, wait)
		}
		if err != nil || ctx.Err() != nil {
			return err
		}
	}
}

func (l *link) idle(ctx context.Context, pubsub *goredis.PubSub, ping <-chan time.Time, wait time.Duration) error {
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-l.seats.wake:
	case <-t.C:
	case <-ping:
		return pubsub.Ping(ctx)
	}
	return nil
}

// watch ends the session if a link on which nothing arrives does not deliver a message to itself
// either. Pongs prove less: they come from a master that has been demoted, too.
func (l *link) watch(ctx context.Context) error {
	every := time.NewTicker(l.b.config.LoopbackInterval)
	defer every.Stop()
	seen := l.arrived.Load()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-every.C:
		}
		if n := l.arrived.Load(); n != seen {
			seen = n
			continue
		}
		echo, cancel := context.WithTimeout(ctx, l.b.config.LoopbackInterval)
		err := l.echo(echo, l.b.config.LoopbackInterval)
		cancel()
		// That the command did not get through is not the link's fault.
		if errors.Is(err, errSilent) && ctx.Err() == nil {
			return errSilent
		}
	}
}
