package otel

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"go.opentelemetry.io/otel/sdk/resource"
)

// Options is what a node tells about itself, unless the environment says otherwise.
type Options struct {
	Log     *slog.Logger // hears of trouble with exporting, at most a line a minute
	Node    string       // service.instance.id: names this process among others
	Version string       // service.version
}

// Telemetry is the export of spans and metrics, as the OTEL_* variables of the environment want it. Make it with Start.
// Methods may be called on nil, which is off, and concurrently where they don't say otherwise.
type Telemetry struct {
	version  string
	log      *troubles
	resource *resource.Resource
	traces   *traces // nil: they are off
	meters   *meters // nil: metrics are off
	stop     sync.Once
}

// How long Shutdown waits for what is still to be exported, for spans and then for metrics; and, when that is over, for the export that it cuts off.
const (
	flushTime = 2 * time.Second
	graceTime = 250 * time.Millisecond
)

// Start does what the environment wants. If it wants nothing exported, all is off and costs nothing. An error says
// which variable is wrong and what to write. Nothing is sent before there is something to send; a collector that is
// away is no error.
func Start(ctx context.Context, o Options) (*Telemetry, error) {
	t := &Telemetry{version: o.Version}
	if disabled() {
		return t, nil
	}
	traces, err := traceSignal.exporter()
	if err != nil {
		return nil, err
	}
	metrics, err := metricSignal.exporter()
	if err != nil {
		return nil, err
	}
	if traces == noExporter && metrics == noExporter {
		return t, nil
	}
	t.log = newTroubles(o.Log)
	if err := t.log.during(func() error { return t.start(ctx, o, traces, metrics) }); err != nil {
		t.Shutdown(ctx)
		return nil, err
	}
	return t, nil
}

// start makes the exporters.
func (t *Telemetry) start(ctx context.Context, o Options, traces, metrics string) (err error) {
	if t.resource, err = newResource(ctx, o); err != nil {
		return err
	}
	if traces != noExporter {
		if t.traces, err = newTraces(ctx, traces); err != nil {
			return err
		}
	}
	if metrics != noExporter {
		t.meters, err = newMeters(ctx, metrics)
	}
	return err
}

// Shutdown exports what is left, for some seconds at most and no longer than ctx allows, whatever the collector does. What
// can't be exported is counted and logged. A second call does nothing.
func (t *Telemetry) Shutdown(ctx context.Context) {
	if t != nil {
		t.stop.Do(func() { t.shutdown(ctx) })
	}
}

func (t *Telemetry) shutdown(ctx context.Context) {
	if t.traces != nil {
		t.log.Handle(flush(ctx, t.traces.shutdown, t.traces.exporter.abandon))
		t.traces.ledger.seal()
	}
	if t.meters != nil { // afterwards: the last numbers tell what became of the spans
		t.log.Handle(flush(ctx, t.meters.shutdown, t.meters.exporter.abandon))
	}
}

// flush runs shutdown. When the time is over it abandons the exports, so that shutdown ends; one that does not even then is
// left behind. In the end there are no exports any more.
func flush(ctx context.Context, shutdown func(context.Context) error, abandon func()) error {
	soft, cancel := context.WithTimeout(ctx, flushTime)
	defer cancel()
	hard, giveUp := context.WithCancel(context.WithoutCancel(ctx))
	defer giveUp()
	defer abandon()
	ended := make(chan error, 1)
	go func() { ended <- shutdown(hard) }()
	select {
	case err := <-ended:
		return err
	case <-soft.Done():
	}
	abandon()
	select {
	case err := <-ended:
		return err
	case <-time.After(graceTime):
		return errors.New("what was left could not be exported in time")
	}
}
