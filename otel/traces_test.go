package otel

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"sluice/otel/oteltest"
)

// endSpans starts and ends n spans.
func endSpans(t *testing.T, tel *Telemetry, n int) {
	t.Helper()
	tracer := tel.tracerProvider().Tracer("test")
	for i := range n {
		_, s := tracer.Start(t.Context(), fmt.Sprint("span ", i))
		s.End()
	}
}

func TestSpansArrive(t *testing.T) {
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		env  []string
	}{
		{"http", nil},
		{"http with gzip", []string{"OTEL_EXPORTER_OTLP_COMPRESSION=gzip"}},
		{"http/protobuf", []string{"OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf"}},
		{"grpc", []string{"OTEL_EXPORTER_OTLP_PROTOCOL=grpc"}},
		{"grpc with gzip", []string{"OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=grpc", "OTEL_EXPORTER_OTLP_COMPRESSION=gzip"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := oteltest.Start(t)
			setenv(t, append(tt.env, "OTEL_EXPORTER_OTLP_ENDPOINT="+c.HTTP, "OTEL_METRICS_EXPORTER=none")...)
			if strings.Contains(tt.name, "grpc") {
				setenv(t, "OTEL_EXPORTER_OTLP_ENDPOINT="+c.GRPC)
			}
			tel := start(t, nil)
			endSpans(t, tel, 600) // more than a batch
			tel.Shutdown(t.Context())
			spans := c.Spans()
			if len(spans) != 600 {
				t.Fatalf("%d spans", len(spans))
			}
			r := spans[0].Resource
			for k, want := range map[string]string{
				"service.name": "sluice", "service.instance.id": "node-1", "service.version": "v1.2.3", "host.name": host, "telemetry.sdk.language": "go",
			} {
				if r[k] != want {
					t.Errorf("%s is %q, want %q", k, r[k], want)
				}
			}
			wantLedger(t, tel, 600, 0, 0)
		})
	}
}

func wantLedger(t *testing.T, tel *Telemetry, exported, failed, dropped uint64) {
	t.Helper()
	if e, f, d := tel.traces.ledger.read(); e != exported || f != failed || d != dropped {
		t.Errorf("%d exported, %d failed, %d dropped; want %d, %d, %d", e, f, d, exported, failed, dropped)
	}
}

// The environment is stronger than what a node says of itself.
func TestEnvironmentWins(t *testing.T) {
	c := oteltest.Start(t)
	tel := start(t, nil, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT="+c.HTTP+"/v1/traces", "OTEL_EXPORTER_OTLP_HEADERS=authorization=Bearer%20abc",
		"OTEL_SERVICE_NAME=edge", "OTEL_RESOURCE_ATTRIBUTES=service.name=other,service.instance.id=mine,service.version=9,host.id=h1,host.name=box,deployment.environment.name=test",
		"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT=1", "OTEL_TRACES_SAMPLER=always_off")
	_, span := tel.tracerProvider().Tracer("test").Start(t.Context(), "x", trace.WithAttributes(attribute.Int("a", 1), attribute.Int("b", 2)))
	span.End()
	tel.Shutdown(t.Context())
	spans := c.Spans()
	if len(spans) != 1 || len(spans[0].GetAttributes()) != 1 {
		t.Fatalf("got %v, want one with one attribute", spans)
	}
	r := spans[0].Resource
	for k, want := range map[string]string{
		"service.name": "edge", "service.instance.id": "mine", "service.version": "9", "host.id": "h1", "host.name": "box", "deployment.environment.name": "test",
	} {
		if r[k] != want {
			t.Errorf("%s is %q, want %q", k, r[k], want)
		}
	}
	if got := c.Requests()[0].Header.Get("Authorization"); got != "Bearer abc" {
		t.Errorf("authorization is %q", got)
	}
	t.Run("JSON", func(t *testing.T) {
		setenv(t, "OTEL_EXPORTER_OTLP_PROTOCOL=http/json")
		tel := start(t, nil)
		endSpans(t, tel, 1)
		tel.Shutdown(t.Context())
		requests := c.Requests()
		if got := requests[len(requests)-1].Header.Get("Content-Type"); got != "application/json" {
			t.Errorf("content type %s", got)
		}
		wantLedger(t, tel, 1, 0, 0)
	})
}

// Whatever a collector does, each span is booked once, shutdown is bounded, and there is one line in the log.
func TestCollectorInTrouble(t *testing.T) {
	for _, tt := range []struct {
		name    string
		trouble func(*oteltest.Collector)
		env     []string
	}{
		{"away", nil, []string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:1"}},
		{"away, gRPC", nil, []string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc"}},
		{"hangs", (*oteltest.Collector).Hang, nil},
		{"hangs, gRPC", (*oteltest.Collector).Hang, []string{"OTEL_EXPORTER_OTLP_PROTOCOL=grpc"}},
		{"busy", func(c *oteltest.Collector) { c.Refuse(http.StatusServiceUnavailable) }, nil},
		{"busy, gRPC", func(c *oteltest.Collector) { c.Refuse(http.StatusServiceUnavailable) }, []string{"OTEL_EXPORTER_OTLP_PROTOCOL=grpc"}},
		{"refuses", func(c *oteltest.Collector) { c.Refuse(http.StatusBadRequest) }, nil},
		{"refuses, gRPC", func(c *oteltest.Collector) { c.Refuse(http.StatusBadRequest) }, []string{"OTEL_EXPORTER_OTLP_PROTOCOL=grpc"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := oteltest.Start(t)
			if tt.trouble != nil {
				tt.trouble(c)
			}
			const secret = "s3cr3t-t0ken"
			setenv(t, "OTEL_TRACES_EXPORTER=otlp", "OTEL_METRICS_EXPORTER=none", "OTEL_EXPORTER_OTLP_ENDPOINT="+strings.Replace(c.HTTP, "//", "//user:"+secret+"@", 1),
				"OTEL_EXPORTER_OTLP_HEADERS=authorization=Bearer%20"+secret, "OTEL_BSP_MAX_QUEUE_SIZE=1000", "OTEL_BSP_SCHEDULE_DELAY=600000")
			if strings.HasSuffix(tt.name, "gRPC") {
				setenv(t, "OTEL_EXPORTER_OTLP_ENDPOINT="+c.GRPC)
			}
			var log bytes.Buffer
			tel := start(t, slog.New(slog.NewTextHandler(&log, nil)), tt.env...)
			endSpans(t, tel, 400)
			begin := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			defer cancel()
			tel.Shutdown(ctx)
			if took := time.Since(begin); took > 500*time.Millisecond+graceTime+5*time.Second { // some for a busy machine
				t.Errorf("shutdown took %v", took)
			}
			wantLedger(t, tel, 0, 400, 0)
			if lines := strings.Count(log.String(), "\n"); lines != 1 || !strings.Contains(log.String(), "level=WARN msg=\"telemetry can't be exported\"") {
				t.Errorf("%d lines in the log:\n%s", lines, &log)
			}
			if strings.Contains(log.String(), secret) {
				t.Errorf("a secret is in the log:\n%s", &log)
			}
			t.Log(&log)
		})
	}
}

// When the queue is full spans are dropped and counted.
func TestQueueFull(t *testing.T) {
	c := oteltest.Start(t)
	c.Hang()
	tel := start(t, nil, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT="+c.HTTP+"/v1/traces", "OTEL_BSP_MAX_QUEUE_SIZE=700", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE=100")
	provider := tel.tracerProvider()
	end := func() {
		_, s := provider.Tracer("test").Start(t.Context(), "x")
		s.End()
	}
	for range 100 {
		end()
	}
	c.WaitRequests(1) // the batch is on its way
	for range 1000 {
		end()
	}
	wantLedger(t, tel, 0, 0, 300)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	tel.Shutdown(ctx)
	wantLedger(t, tel, 0, 800, 300)
	end()
	wantLedger(t, tel, 0, 800, 300) // the SDK does not start any more
}
