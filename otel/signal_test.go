package otel

import (
	"fmt"
	"maps"
	"runtime"
	"strings"
	"testing"
)

func TestWhatIsOn(t *testing.T) {
	const here = "=http://127.0.0.1:4318"
	for _, tt := range []struct {
		name    string
		env     []string
		traces  string
		metrics string
	}{
		{"nothing", nil, "", ""},
		{"empty", []string{"OTEL_EXPORTER_OTLP_ENDPOINT=", "OTEL_TRACES_EXPORTER=", "OTEL_METRICS_EXPORTER= "}, "", ""},
		{"only a sampler and a name", []string{"OTEL_TRACES_SAMPLER=always_on", "OTEL_SERVICE_NAME=x"}, "", ""},
		{"an endpoint", []string{"OTEL_EXPORTER_OTLP_ENDPOINT" + here}, "otlp", "otlp"},
		{"of traces", []string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT" + here}, "otlp", ""},
		{"of metrics", []string{"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT" + here}, "", "otlp"},
		{"exporters", []string{"OTEL_TRACES_EXPORTER=console", "OTEL_METRICS_EXPORTER=OTLP"}, "console", "otlp"},
		{"none", []string{"OTEL_EXPORTER_OTLP_ENDPOINT" + here, "OTEL_METRICS_EXPORTER=none"}, "otlp", ""},
		{"neither", []string{"OTEL_EXPORTER_OTLP_ENDPOINT" + here, "OTEL_METRICS_EXPORTER=none", "OTEL_TRACES_EXPORTER=none"}, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			setenv(t, tt.env...)
			if got, err := traceSignal.exporter(); got != tt.traces || err != nil {
				t.Errorf("traces: got %q, %v, want %q", got, err, tt.traces)
			}
			if got, err := metricSignal.exporter(); got != tt.metrics || err != nil {
				t.Errorf("metrics: got %q, %v, want %q", got, err, tt.metrics)
			}
		})
	}
}

func TestStartDisabled(t *testing.T) {
	tel := start(t, nil, "OTEL_SDK_DISABLED=TRUE", "OTEL_TRACES_EXPORTER=nonsense", "OTEL_EXPORTER_OTLP_ENDPOINT=nonsense")
	if tel.tracerProvider() != nil || tel.headSampler() != nil {
		t.Error("traces are on")
	}
}

func TestStartOff(t *testing.T) {
	before := runtime.NumGoroutine()
	for _, tel := range []*Telemetry{start(t, nil), nil} {
		if tel.tracerProvider() != nil || tel.headSampler() != nil || tel.Measured() {
			t.Error("something is on")
		}
		if err := tel.Export(everything); err != nil {
			t.Error(err)
		}
		if n := runtime.NumGoroutine(); n > before { // before a page is made: its goroutines may take a moment to end
			t.Errorf("%d goroutines, %d before", n, before)
		}
		want := map[string]float64{}
		for _, result := range []string{"exported", "failed", "dropped"} {
			want["sluice_trace_spans_total"+fmt.Sprint(map[string]string{"result": result})] = 0
		}
		got := series(t, NewPage(tel.Measure))
		maps.DeleteFunc(got, func(k string, _ float64) bool { return !strings.HasPrefix(k, "sluice_") })
		if !maps.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		tel.Shutdown(t.Context())
	}
}

// What is wrong in the environment is an error at the start; the SDK would take a default, and say so to nobody.
func TestStartFails(t *testing.T) {
	const secret = "hunter2"
	for _, tt := range []struct {
		name string
		env  []string
		err  string
	}{
		{"exporter of traces", []string{"OTEL_TRACES_EXPORTER=zipkin"}, `OTEL_TRACES_EXPORTER is "zipkin"; write otlp, console or none`},
		{"exporter of metrics", []string{"OTEL_METRICS_EXPORTER=statsd"}, `OTEL_METRICS_EXPORTER is "statsd"; write otlp, console or none`},
		{"Prometheus", []string{"OTEL_METRICS_EXPORTER=prometheus"}, "OTEL_METRICS_EXPORTER: for Prometheus set SLUICE_METRICS"},
		{"metrics as JSON", []string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_PROTOCOL=http/json"}, "set OTEL_EXPORTER_OTLP_METRICS_PROTOCOL to http/protobuf or grpc"},
		{"protocol", []string{"OTEL_TRACES_EXPORTER=otlp", "OTEL_EXPORTER_OTLP_PROTOCOL=udp"}, `OTEL_EXPORTER_OTLP_PROTOCOL is "udp"; write grpc, `},
		{"protocol of traces", []string{"OTEL_TRACES_EXPORTER=otlp", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=udp"}, `OTEL_EXPORTER_OTLP_TRACES_PROTOCOL is "udp"; `},
		{"sampler", []string{"OTEL_TRACES_EXPORTER=console", "OTEL_TRACES_SAMPLER=some"}, "OTEL_TRACES_SAMPLER is "},
		{"queue", []string{"OTEL_TRACES_EXPORTER=console", "OTEL_BSP_MAX_QUEUE_SIZE=many"}, `OTEL_BSP_MAX_QUEUE_SIZE is "many"; write `},
		{"no queue", []string{"OTEL_TRACES_EXPORTER=console", "OTEL_BSP_MAX_QUEUE_SIZE=0"}, `from 1 to`},
		{"endpoint without a scheme", []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + secret + ":4318"}, "OTEL_EXPORTER_OTLP_ENDPOINT is no URL"},
		{"endpoint of another kind", []string{"OTEL_EXPORTER_OTLP_ENDPOINT=ftp://" + secret}, "write http://HOST:PORT"},
		{"endpoint that is no URL", []string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://a:" + secret + "@[b"}, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is no URL"},
		{"endpoint that is none for gRPC either", []string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://a:" + secret + "@[b", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc"}, "is no URL"},
		{"resource", []string{"OTEL_TRACES_EXPORTER=console", "OTEL_RESOURCE_ATTRIBUTES=a=b," + secret}, "OTEL_RESOURCE_ATTRIBUTES has a part without a value"},
		{"timeout", []string{"OTEL_TRACES_EXPORTER=otlp", "OTEL_EXPORTER_OTLP_TIMEOUT=10s"}, `parse duration: strconv.Atoi: parsing "10s"`},
		{"header", []string{"OTEL_TRACES_EXPORTER=otlp", "OTEL_EXPORTER_OTLP_HEADERS=authorization:" + secret}, "parse headers"},
		{"header with an escape", []string{"OTEL_TRACES_EXPORTER=otlp", "OTEL_EXPORTER_OTLP_HEADERS=authorization=%" + secret}, "escape header value"},
		{"certificate", []string{"OTEL_TRACES_EXPORTER=otlp", "OTEL_EXPORTER_OTLP_CERTIFICATE=/nowhere.pem"}, "read tls ca cert file (/nowhere.pem)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			setenv(t, tt.env...)
			tel, err := Start(t.Context(), Options{})
			if err == nil {
				tel.Shutdown(t.Context())
				t.Fatal("no error")
			}
			if got := err.Error(); !strings.Contains(got, tt.err) || strings.Contains(got, secret) {
				t.Errorf("got %v, want %q and no secret", err, tt.err)
			}
		})
	}
}
