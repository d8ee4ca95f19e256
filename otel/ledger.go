package otel

import (
	"context"
	"fmt"
	"strconv"
	"sync"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// defaultQueue is how many spans may wait for their export. A message that is traced in detail has some fifty, and the
// SDK's 2,048 would be full after forty of them.
const defaultQueue = 8192

// queueSize returns how many spans may wait.
func queueSize() (int, error) {
	v := variable("OTEL_BSP_MAX_QUEUE_SIZE")
	if v == "" {
		return defaultQueue, nil
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 || n > 1<<20 {
		return 0, fmt.Errorf("OTEL_BSP_MAX_QUEUE_SIZE is %q; write how many spans may wait, from 1 to 1048576", v)
	}
	return n, nil
}

// ledger books what becomes of spans that have ended. Each is exported, failed or dropped in the end: the SDK drops silently,
// so what it would drop is refused before it gets there.
type ledger struct {
	limit int // of those that wait

	mu        sync.Mutex
	sealed    bool
	waiting   int // not handed to the exporter yet
	exporting int

	exported uint64
	failed   uint64 // the exporter returned an error; a collector that takes only a part of a batch is one
	dropped  uint64 // the queue was full, or the node had stopped
}

// admit books a span that has ended and reports whether it may wait.
func (l *ledger) admit() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.sealed || l.waiting >= l.limit {
		l.dropped++
		return false
	}
	l.waiting++
	return true
}

// begin books that n spans are being exported, end that they were, or not.
func (l *ledger) begin(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.sealed {
		l.waiting -= n
		l.exporting += n
	}
}

func (l *ledger) end(n int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.sealed {
		return
	}
	l.exporting -= n
	if err != nil {
		l.failed += uint64(n)
	} else {
		l.exported += uint64(n)
	}
}

// seal ends it: what is still on its way will not arrive.
func (l *ledger) seal() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sealed = true
	l.dropped += uint64(l.waiting)
	l.failed += uint64(l.exporting)
	l.waiting, l.exporting = 0, 0
}

// read returns what was booked.
func (l *ledger) read() (exported, failed, dropped uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.exported, l.failed, l.dropped
}

// spanGate is the processor in front of the SDK's queue.
type spanGate struct {
	next   sdktrace.SpanProcessor
	ledger *ledger
}

func (g *spanGate) OnStart(ctx context.Context, s sdktrace.ReadWriteSpan) { g.next.OnStart(ctx, s) }

func (g *spanGate) OnEnd(s sdktrace.ReadOnlySpan) {
	if s.SpanContext().IsSampled() && g.ledger.admit() {
		g.next.OnEnd(s)
	}
}

func (g *spanGate) Shutdown(ctx context.Context) error   { return g.next.Shutdown(ctx) }
func (g *spanGate) ForceFlush(ctx context.Context) error { return g.next.ForceFlush(ctx) }
