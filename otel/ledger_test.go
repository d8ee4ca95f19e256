package otel

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sluice/otel/oteltest"
)

// However ends of spans, exports and the shutdown fall, each span is booked once.
func TestLedgerBalances(t *testing.T) {
	c := oteltest.Start(t)
	tel := start(t, nil, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT="+c.HTTP+"/v1/traces",
		"OTEL_BSP_MAX_QUEUE_SIZE=300", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE=64", "OTEL_BSP_SCHEDULE_DELAY=1")
	provider := tel.tracerProvider()
	tracer := provider.Tracer("test")
	const each = 2000
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range each {
				_, s := tracer.Start(context.Background(), "x")
				s.End()
				if i%500 == 0 {
					_ = provider.ForceFlush(t.Context())
				}
			}
		})
	}
	wg.Wait()
	tel.Shutdown(t.Context())
	exported, failed, dropped := tel.traces.ledger.read()
	if exported+failed+dropped != 4*each || int(exported) != len(c.Spans()) || failed != 0 {
		t.Errorf("%d exported, %d failed, %d dropped of %d; %d arrived", exported, failed, dropped, 4*each, len(c.Spans()))
	}
}

func TestLedger(t *testing.T) {
	l := ledger{limit: 3}
	for i, want := range []bool{true, true, true, false} {
		if got := l.admit(); got != want {
			t.Errorf("span %d: admitted %v, want %v", i, got, want)
		}
	}
	l.begin(2) // makes room for as many
	for i, want := range []bool{true, true, false} {
		if got := l.admit(); got != want {
			t.Errorf("span %d of the second lot: admitted %v, want %v", i, got, want)
		}
	}
	l.end(2, nil)
	l.begin(1)
	l.end(1, errors.New("refused"))
	l.begin(1)
	l.seal() // one is under way, one waits
	l.end(1, nil)
	if l.admit() {
		t.Error("admitted after the end")
	}
	if e, f, d := l.read(); e != 2 || f != 2 || d != 4 {
		t.Errorf("%d exported, %d failed, %d dropped; want 2, 2, 4", e, f, d)
	}
}

// Flush lasts as long as it may, whatever shutdown does.
func TestFlush(t *testing.T) {
	for _, tt := range []struct {
		name  string
		ctx   time.Duration // 0: without an end
		takes time.Duration
		heeds bool // being abandoned
		want  time.Duration
		err   bool
	}{
		{"quick", 0, time.Millisecond, true, time.Millisecond, false},
		{"slow", 0, time.Minute, true, flushTime, false},
		{"slow, and in a hurry", time.Second, time.Minute, true, time.Second, false},
		{"stuck", 0, time.Minute, false, flushTime + graceTime, true},
		{"stuck, and no time at all", time.Nanosecond, time.Minute, false, graceTime + time.Nanosecond, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				if tt.ctx > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, tt.ctx)
					defer cancel()
				}
				life := newLifeline()
				begin := time.Now()
				err := flush(ctx, func(context.Context) error {
					heeds := life.life.Done()
					if !tt.heeds {
						heeds = nil
					}
					select {
					case <-time.After(tt.takes):
					case <-heeds:
					}
					return nil
				}, life.abandon)
				if took := time.Since(begin); took != tt.want || (err != nil) != tt.err {
					t.Errorf("took %v and returned %v, want %v", took, err, tt.want)
				}
				if life.life.Err() == nil {
					t.Error("exports may go on")
				}
				time.Sleep(tt.takes) // the stuck one ends, too
			})
		})
	}
}
