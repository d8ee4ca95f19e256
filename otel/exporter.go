package otel

import (
	"context"
	"fmt"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/exporters/stdout/stdouttrace"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// newSpanExporter makes an exporter of spans. It is given no options: they would beat the environment.
func newSpanExporter(ctx context.Context, kind string) (sdktrace.SpanExporter, error) {
	if kind == consoleExporter {
		return stdouttrace.New()
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
