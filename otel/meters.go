package otel

import (
	"context"
	"fmt"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/runtime"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
)

// scopeName names what spans and metrics were made by.
const scopeName = "sluice"

// meters is the way of metrics: sources, the SDK's reader, exporter.
type meters struct {
	since    time.Time
	exporter *metricExporter
	provider *sdkmetric.MeterProvider // nil until there are sources
}

func newMeters(ctx context.Context, exporter string) (*meters, error) {
	e, err := newMetricExporter(ctx, exporter)
	if err != nil {
		return nil, err
	}
	return &meters{since: time.Now(), exporter: &metricExporter{e, newLifeline()}}, nil
}

// Measured reports whether metrics are exported. If so, Export is to be called.
func (t *Telemetry) Measured() bool { return t != nil && t.meters != nil }

// Export begins to export what the sources tell, and what the Go runtime does, as often as OTEL_METRIC_EXPORT_INTERVAL says. It
// does nothing if metrics are off. Call it once, before Shutdown. An error is like those of Start.
func (t *Telemetry) Export(sources ...Source) error {
	if !t.Measured() {
		return nil
	}
	return t.log.during(func() error {
		p := &producer{sources: sources, since: t.meters.since, scope: instrumentation.Scope{Name: scopeName, Version: t.version}}
		reader := sdkmetric.NewPeriodicReader(t.meters.exporter,
			sdkmetric.WithProducer(p), sdkmetric.WithProducer(runtime.NewProducer()))
		t.meters.provider = sdkmetric.NewMeterProvider(sdkmetric.WithResource(t.resource), sdkmetric.WithReader(reader))
		if err := runtime.Start(runtime.WithMeterProvider(t.meters.provider)); err != nil {
			return fmt.Errorf("measure the Go runtime: %w", err)
		}
		return nil
	})
}

// Measure tells what became of spans.
func (t *Telemetry) Measure(r *Readings) {
	var exported, failed, dropped uint64
	if t != nil && t.traces != nil {
		exported, failed, dropped = t.traces.ledger.read()
	}
	r.Value(TracedSpans, float64(exported), "exported")
	r.Value(TracedSpans, float64(failed), "failed")
	r.Value(TracedSpans, float64(dropped), "dropped")
}

func (m *meters) shutdown(ctx context.Context) error {
	if m.provider != nil {
		return m.provider.Shutdown(ctx)
	}
	return m.exporter.Shutdown(ctx)
}
