package otel

import (
	"context"
	"fmt"
	"os"

	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/exporters/stdout/stdoutmetric"
	"go.opentelemetry.io/otel/exporters/stdout/stdouttrace"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// newSpanExporter makes an exporter of spans. It is given no options: they would beat the environment.
func newSpanExporter(ctx context.Context, kind string) (sdktrace.SpanExporter, error) {
	if kind == consoleExporter {
		return stdouttrace.New(stdouttrace.WithWriter(os.Stdout))
	}
	protocol, err := traceSignal.protocol()
	if err != nil {
		return nil, err
	}
	var e sdktrace.SpanExporter
	if protocol == overGRPC {
		e, err = otlptracegrpc.New(ctx)
	} else {
		e, err = otlptracehttp.New(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("export traces by OTLP: %w", err)
	}
	return e, nil
}

// newMetricExporter makes an exporter of metrics, without options as above.
func newMetricExporter(ctx context.Context, kind string) (sdkmetric.Exporter, error) {
	if kind == consoleExporter {
		return stdoutmetric.New(stdoutmetric.WithWriter(os.Stdout))
	}
	protocol, err := metricSignal.protocol()
	if err != nil {
		return nil, err
	}
	var e sdkmetric.Exporter
	if protocol == overGRPC {
		e, err = otlpmetricgrpc.New(ctx)
	} else {
		e, err = otlpmetrichttp.New(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("export metrics by OTLP: %w", err)
	}
	return e, nil
}

// lifeline cuts exports off: the SDK lets them last as long as the collector likes, even while it shuts down.
type lifeline struct {
	life    context.Context
	abandon context.CancelFunc
}

func newLifeline() lifeline {
	life, abandon := context.WithCancel(context.Background())
	return lifeline{life, abandon}
}

// bind returns a context that ends with ctx or the lifeline.
func (l *lifeline) bind(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(l.life, cancel)
	return ctx, func() {
		stop()
		cancel()
	}
}

// spanExporter is the exporter behind the queue.
type spanExporter struct {
	sdktrace.SpanExporter
	lifeline
	ledger *ledger
}

// ExportSpans implements sdktrace.SpanExporter.
func (e *spanExporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	ctx, cancel := e.bind(ctx)
	defer cancel()
	e.ledger.begin(len(spans))
	err := e.SpanExporter.ExportSpans(ctx, spans)
	e.ledger.end(len(spans), err)
	return err
}

// metricExporter is the exporter behind the reader.
type metricExporter struct {
	sdkmetric.Exporter
	lifeline
}

// Export implements sdkmetric.Exporter.
func (e *metricExporter) Export(ctx context.Context, m *metricdata.ResourceMetrics) error {
	ctx, cancel := e.bind(ctx)
	defer cancel()
	return e.Exporter.Export(ctx, m)
}
