package redis

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/broker/redistest"
	"sluice/otel"
)

// A node whose clock is wrong finds out by how much, and its publish times are Redis'.
func TestClock(t *testing.T) {
	s := redistest.Start(t)
	for _, skew := range []time.Duration{0, 50 * time.Millisecond, -50 * time.Millisecond, -time.Hour} {
		clock := &otel.Clock{Skew: skew}
		b := open(t, s, func(c *Config) { c.Clock = clock })
		offset, bound, err := b.sampleClock(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if bound <= 0 || bound > time.Second || (offset+skew).Abs() > bound {
			t.Errorf("with a clock that is %v wrong: %v ahead, give or take %v", skew, offset, bound)
		}
		b.noteClock(offset, bound)
		before, at, after := time.Now().Add(-bound-time.Microsecond), clock.Publish(), time.Now().Add(bound)
		if at.Before(before) || at.After(after) {
			t.Errorf("with a clock that is %v wrong the time is told %v off", skew, at.Sub(after))
		}
	}
}

// The estimate is kept up while the backend runs, through an outage, and a clock that jumps is logged.
func TestClockKept(t *testing.T) {
	s := redistest.Start(t)
	var log lockedBuffer
	clock := new(otel.Clock)
	b := open(t, s, func(c *Config) {
		c.Clock, c.ClockInterval, c.Logger = clock, 5*time.Millisecond, slog.New(slog.NewTextHandler(&log, nil))
	})
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { b.keepClock(ctx) })
	defer running.Wait()
	defer cancel()
	until(t, "the first estimate", func() bool { _, _, known := clock.Offset(); return known })
	s.Kill()
	s.Restart()
	clock.Estimate(time.Hour, time.Microsecond) // as if another Redis had answered
	until(t, "the log of a jump", func() bool { return strings.Contains(log.String(), "clock has jumped") })
	until(t, "another estimate", func() bool { offset, _, _ := clock.Offset(); return offset.Abs() < time.Second })
}

// lockedBuffer is a log that is read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
