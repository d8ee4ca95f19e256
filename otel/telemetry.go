package otel

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/sdk/resource"
)

// Options is what a node tells about itself, unless the environment says otherwise.
type Options struct {
	Log     *slog.Logger // hears of trouble with exporting, at most a line a minute
	Node    string       // service.instance.id: names this process among others
	Version string       // service.version
}

// Telemetry is the export of spans, as the OTEL_* variables of the environment want it. Make it with Start.
// Methods may be called on nil, which is off, and concurrently where they don't say otherwise.
type Telemetry struct {
	log      *troubles
	resource *resource.Resource
	traces   *traces // nil: they are off
}

// How long Shutdown waits for what is still to be exported; and, when that is over, for the export that it cuts off.
const (
	flushTime = 2 * time.Second
	graceTime = 250 * time.Millisecond
)

// Start does what the environment wants. If it wants nothing exported, all is off and costs nothing. An error says
// which variable is wrong and what to write. Nothing is sent before there is something to send; a collector that is
// away is no error.
func Start(ctx context.Context, o Options) (*Telemetry, error) {
	t := new(Telemetry)
	if disabled() {
		return t, nil
	}
	traces, err := traceSignal.exporter()
	if err != nil || traces == noExporter {
		return t, err
	}
	t.log = newTroubles(o.Log)
	err = t.log.during(func() (err error) {
		if t.resource, err = newResource(ctx, o); err != nil {
			return err
		}
		t.traces, err = newTraces(ctx, traces)
		return err
	})
	if err != nil {
		t.Shutdown(ctx)
		return nil, err
	}
	return t, nil
}

// Shutdown exports what is left, for some seconds at most and no longer than ctx allows, whatever the collector does. What
// can't be exported is counted and logged.
func (t *Telemetry) Shutdown(ctx context.Context) {
	if t == nil {
		return
	}
	if t.traces != nil {
		if err := flush(ctx, t.traces.shutdown, t.traces.exporter.abandon); err != nil {
			t.log.Handle(err)
		}
		t.traces.exporter.abandon()
		t.traces.ledger.seal()
	}
}

// flush runs shutdown. When the time is over it abandons the exports, so that shutdown ends; one that does not even then is
// left behind.
func flush(ctx context.Context, shutdown func(context.Context) error, abandon func()) error {
	soft, cancel := context.WithTimeout(ctx, flushTime)
	defer cancel()
	hard, giveUp := context.WithCancel(context.WithoutCancel(ctx))
	defer giveUp()
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
