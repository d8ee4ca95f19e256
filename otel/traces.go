package otel

import (
	"context"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// flushMarks is room in the SDK's queue for what ForceFlush puts there.
const flushMarks = 16

// traces is the way of spans: provider, ledger, the SDK's queue, exporter.
type traces struct {
	head     sdktrace.Sampler
	ledger   ledger
	exporter *spanExporter
	provider *sdktrace.TracerProvider // nil until it is asked for
}

func newTraces(ctx context.Context, exporter string) (*traces, error) {
	t := new(traces)
	var err error
	if t.head, err = headSampler(); err != nil {
		return nil, err
	}
	if t.ledger.limit, err = queueSize(); err != nil {
		return nil, err
	}
	e, err := newSpanExporter(ctx, exporter)
	if err != nil {
		return nil, err
	}
	t.exporter = &spanExporter{e, newLifeline(), &t.ledger}
	return t, nil
}

// tracerProvider returns the provider of spans, made with these options too; nil if traces are off. It samples all that
// is started: whoever starts a span has asked the head sampler before. Call it once, before Shutdown.
func (t *Telemetry) tracerProvider(more ...sdktrace.TracerProviderOption) *sdktrace.TracerProvider {
	if t == nil || t.traces == nil {
		return nil
	}
	// The ledger admits no more spans than the SDK's queue holds besides the marks of flushes, so that the queue drops none.
	queue := sdktrace.NewBatchSpanProcessor(t.traces.exporter, sdktrace.WithMaxQueueSize(t.traces.ledger.limit+flushMarks))
	options := append([]sdktrace.TracerProviderOption{
		sdktrace.WithSampler(sdktrace.AlwaysSample()),
		sdktrace.WithResource(t.resource),
		sdktrace.WithSpanProcessor(&spanGate{next: queue, ledger: &t.traces.ledger}),
	}, more...)
	t.traces.provider = sdktrace.NewTracerProvider(options...)
	return t.traces.provider
}

// headSampler returns the sampler that the environment names; nil if traces are off.
func (t *Telemetry) headSampler() sdktrace.Sampler {
	if t == nil || t.traces == nil {
		return nil
	}
	return t.traces.head
}

func (t *traces) shutdown(ctx context.Context) error {
	if t.provider != nil {
		return t.provider.Shutdown(ctx)
	}
	return t.exporter.Shutdown(ctx)
}
