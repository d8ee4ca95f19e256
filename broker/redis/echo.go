package redis

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"
)

// echoes are messages that a link has sent itself and waits for.
type echoes struct {
	mu      sync.Mutex
	last    uint64
	waiting map[string]chan struct{} // by payload
}

func newEchoes() echoes { return echoes{waiting: map[string]chan struct{}{}} }

// expect returns a payload to send and a channel that closes when it has come back.
func (e *echoes) expect() (payload string, came chan struct{}) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.last++
	payload, came = strconv.FormatUint(e.last, 10), make(chan struct{})
	e.waiting[payload] = came
	return payload, came
}

// came takes a message to the link itself. It reports false for what can be none.
func (e *echoes) came(payload string) bool {
	if n, err := strconv.ParseUint(payload, 10, 64); err != nil || strconv.FormatUint(n, 10) != payload {
		return false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if c := e.waiting[payload]; c != nil {
		close(c)
		delete(e.waiting, payload)
	}
	return true
}

func (e *echoes) forget(payload string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.waiting, payload)
}

// echo publishes to the link itself and waits for it to arrive, for d at most. It returns errSilent
// if Redis took the message and it did not arrive.
func (l *link) echo(ctx context.Context, d time.Duration) error {
	payload, came := l.echoes.expect()
	defer l.echoes.forget(payload)
	if err := l.b.send(ctx, l.control, payload); err != nil {
		return err
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-came:
		return nil
	case <-t.C:
		return errSilent
	case <-ctx.Done():
		return errSilent
	}
}

// Times of a probe: how long an echo may take before it is sent again, since the link may just have
// been between two connections, and the pause after a failed one.
const (
	probeEcho  = 250 * time.Millisecond
	probePause = 20 * time.Millisecond
)

// probe returns nil as soon as an echo arrived, and why none did when ctx ends.
func (l *link) probe(ctx context.Context) error {
	for {
		err := errNoLink
		if l.up.Load() {
			if err = l.echo(ctx, probeEcho); err == nil {
				return nil
			}
		}
		if !sleep(ctx, probePause) {
			return fmt.Errorf("probe: %w: %w", ctx.Err(), err)
		}
	}
}
