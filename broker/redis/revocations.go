package redis

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"strings"
	"sync"
	"time"

	"sluice/broker"
)

const (
	revokeBatch  = 500  // revocations that one call stores
	maxRevoked   = 1000 // announcements that wait; beyond it the whole list is read
	restorePause = time.Second
)

// revocationMail is what the keeper of revocations has to look at.
type revocationMail struct {
	wake chan struct{}

	mu    sync.Mutex
	whole bool                // the list has to be read, whatever its state is said to be
	news  []revokedNews       // that were announced
	own   []broker.Revocation // that this node has stored
}

func (m *revocationMail) readAll() {
	m.mu.Lock()
	m.whole = true
	m.mu.Unlock()
	wake(m.wake)
}

// announced takes an announcement. It reports false for what is none.
func (m *revocationMail) announced(payload string) bool {
	n, ok := parseRevoked(strings.Clone(payload))
	if !ok {
		return false
	}
	m.mu.Lock()
	if len(m.news) < maxRevoked {
		m.news = append(m.news, n)
	} else {
		m.whole = true
	}
	m.mu.Unlock()
	wake(m.wake)
	return true
}

// stored notes what this node has stored, so that it does not depend on an announcement whether it remembers it.
func (m *revocationMail) stored(r broker.Revocation) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.own) < maxRevoked { // else nobody takes them: Run is not running
		m.own = append(m.own, r)
	}
}

func (m *revocationMail) take() (whole bool, news []revokedNews, own []broker.Revocation) {
	m.mu.Lock()
	defer m.mu.Unlock()
	whole, news, own = m.whole, m.news, m.own
	m.whole, m.news, m.own = false, nil, nil
	return whole, news, own
}

// Revoke implements broker.Backend.
func (b *Backend) Revoke(ctx context.Context, r broker.Revocation) error {
	if err := r.Check(); err != nil {
		return err
	}
	r = inMillis(r)
	ctx, cancel := context.WithTimeout(ctx, b.config.PublishTimeout)
	defer cancel()
	defer context.AfterFunc(b.life, cancel)()
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, 200*time.Millisecond) {
		err := b.storeRevocations(ctx, b.publish, []broker.Revocation{r})
		if err == nil {
			b.mail.stored(r)
			return nil
		}
		if ctx.Err() != nil {
			return b.ended(ctx)
		}
		if errors.Is(err, broker.ErrRevocationsFull) {
			return err
		}
		if !retryable(err) || !sleep(ctx, pause) {
			return unavailable(err)
		}
		b.stats.Retries.Add(1)
	}
}

// storeRevocations stores what is not yet stored for so long. An empty publish announces nothing.
func (b *Backend) storeRevocations(ctx context.Context, publish string, list []broker.Revocation) error {
	for len(list) > 0 {
		n := min(len(list), revokeBatch)
		args := make([]any, 0, 4+3*n)
		args = append(args, publish, b.keys.revoked(), rand.Text(), broker.MaxRevocations)
		for _, r := range list[:n] {
			args = append(args, revokedName(r), r.At.UnixMilli(), r.Until.UnixMilli())
		}
		_, err := b.callRevocations(ctx, revokeFunction, args...)
		if err != nil && isReply(err) && strings.Contains(err.Error(), "sluice_revoke: full") {
			return fmt.Errorf("%w: redis holds %d", broker.ErrRevocationsFull, broker.MaxRevocations)
		}
		if err != nil {
			return err
		}
		list = list[n:]
	}
	return nil
}

// askRevocations returns those that the news tell of and that are revoked indeed; without news the whole list, unless
// its state is the known one: then changed is false.
func (b *Backend) askRevocations(ctx context.Context, known string, news []revokedNews) (state string, changed bool, list []broker.Revocation, err error) {
	args := []any{known, broker.MaxRevocations}
	for _, n := range news {
		args = append(args, n.name)
	}
	reply, err := b.callRevocations(ctx, revokedFunction, args...)
	if err != nil {
		return "", false, nil, err
	}
	values, _ := reply.([]any)
	if len(values) != 3 {
		return "", false, nil, errReply
	}
	state, ok1 := values[0].(string)
	flag, ok2 := values[1].(int64)
	flat, ok3 := values[2].([]any)
	if !ok1 || !ok2 || !ok3 || len(flat)%3 != 0 {
		return "", false, nil, errReply
	}
	now := time.Now()
	list = make([]broker.Revocation, 0, len(flat)/3)
	for ; len(flat) > 0; flat = flat[3:] {
		name, _ := flat[0].(string)
		at, _ := flat[1].(string)
		until, _ := flat[2].(string)
		r, ok := parseRevocation(name, at, until)
		switch {
		case !ok:
			b.stats.DroppedMalformed.Add(1)
		case r.Until.After(now):
			list = append(list, r)
		}
	}
	return state, flag == 1, list, nil
}

// callRevocations calls one of the two functions, which are loaded if they are missing.
func (b *Backend) callRevocations(ctx context.Context, f function, args ...any) (any, error) {
	keys := []string{b.keys.revokedEnds(), b.keys.revokedMade()}
	for try := 0; ; try++ {
		once, cancel := context.WithTimeout(ctx, b.config.CommandTimeout)
		reply, err := b.call(once, b.client, f, keys, args...).Result()
		cancel()
		if !missing(err) || try > 1 { // the second time they may turn out to be scripts
			return reply, err
		}
		if err := b.loadRevocations(ctx, err); err != nil {
			return nil, err
		}
	}
}

// keeper keeps a node's sink in step with what Redis has, and Redis with what the node remembers: a Redis that lost
// its data must not let in again who was thrown out. One goroutine.
type keeper struct {
	b     *Backend
	sink  broker.Sink
	known broker.RevocationSet // what Redis has been known to have
	state string               // of the list that was read last; "" if it has to be read again
	heard bool                 // the announcements were subscribed to at least once
	lost  bool                 // Redis lacks something of known
	next  time.Time            // when to look at the list again
}

// keepRevocations tells the sink what is revoked until ctx ends: a first time when the announcements are
// subscribed to, so that nothing falls between.
func (b *Backend) keepRevocations(ctx context.Context, s broker.Sink) {
	k := &keeper{b: b, sink: s, next: time.Now().Add(b.config.VerifyInterval)}
	pause := firstPause
	for {
		t := time.NewTimer(time.Until(k.next))
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-b.mail.wake:
		case <-t.C:
		}
		t.Stop()
		err := k.look(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			pause = firstPause
			continue
		case isReply(err) && !hasPrefix(err, passing) || errors.Is(err, broker.ErrRevocationsFull):
			b.log.Error("revocations can't be read from redis or written to it", "err", err)
			pause = b.config.VerifyInterval
		default:
			b.log.Debug("reading revocations failed; trying again", "err", err)
			pause = min(2*pause, lastPause)
		}
		k.state, k.next = "", time.Now().Add(pause)
	}
}

// look takes in what has come, and compares the whole list when it is time to.
func (k *keeper) look(ctx context.Context) error {
	whole, news, own := k.b.mail.take()
	_, _ = k.known.Add(own...)
	due := !time.Now().Before(k.next)
	switch {
	case whole || k.heard && (due || k.state == ""):
		if whole {
			k.heard, k.state = true, ""
		}
		return k.readList(ctx)
	case !k.heard: // it will be read then
		k.next = time.Now().Add(k.b.config.VerifyInterval)
		return nil
	case len(news) == 0:
		return nil
	}
	state, _, list, err := k.b.askRevocations(ctx, "", news)
	if err != nil {
		return err
	}
	if len(list) > 0 {
		k.tell(list)
	}
	// If the news are all that has happened since the list was read, it need not be read again.
	at := k.state
	for _, n := range news {
		if n.from == at {
			at = n.to
		}
	}
	if at == state {
		k.state = state
	}
	return nil
}

func (k *keeper) tell(list []broker.Revocation) {
	_, _ = k.known.Add(list...) // what finds no room here finds none in the sink, which says so
	k.sink.Revoked(list)
}

// readList reads the list if it has changed. What Redis lacks is written back, without an announcement, after a
// pause and another look: all nodes notice at the same moment, and one of them is enough.
func (k *keeper) readList(ctx context.Context) error {
	before := k.known.All()
	state, changed, list, err := k.b.askRevocations(ctx, k.state, nil)
	if err != nil {
		return err
	}
	k.next = time.Now().Add(k.b.config.VerifyInterval)
	if !changed {
		return nil
	}
	k.tell(list)
	k.state = state
	lacking := lacks(list, before)
	switch {
	case len(lacking) == 0:
		k.lost = false
	case !k.lost:
		k.lost, k.state = true, ""
		k.next = time.Now().Add(mathrand.N(restorePause))
	default:
		k.b.log.Warn("redis has lost revocations; writing them again", "revocations", len(lacking))
		if err := k.b.storeRevocations(ctx, "", lacking); err != nil {
			return err
		}
		k.lost = false
	}
	return nil
}

// lacks returns those of known that list has not, or not for so long.
func lacks(list, known []broker.Revocation) (lacking []broker.Revocation) {
	has := make(map[string]broker.Revocation, len(list))
	for _, r := range list {
		has[revokedName(r)] = r
	}
	now := time.Now()
	for _, r := range known {
		x := has[revokedName(r)]
		if r.Until.After(now) && (r.At.After(x.At) || r.Until.After(x.Until)) {
			lacking = append(lacking, r)
		}
	}
	return lacking
}
