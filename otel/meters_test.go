package otel

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/otlptranslator"
	metrics "go.opentelemetry.io/proto/otlp/metrics/v1"

	"sluice/otel/oteltest"
)

// everything is a source that tells every instrument of the page, each by another number.
func everything(r *Readings) {
	for i := range Instrument(instruments) {
		for series := range 2 {
			labels := make([]string, len(page[i].labels))
			for j := range labels {
				labels[j] = fmt.Sprintf("v%d", j+series)
			}
			switch {
			case series > 0 && len(labels) == 0:
			case page[i].kind == histogram:
				h1, h2 := i.Histogram(), i.Histogram()
				for v := range int64(100) {
					h1.Observe(v * v * v * int64(series+1))
					h2.Observe(v)
				}
				h1.Observe(1 << 50)
				r.Histogram(i, []*Histogram{h1, h2}, labels...)
			default:
				r.Value(i, float64(i)+float64(series)/4, labels...)
			}
		}
	}
}

// series returns the values of a page by name and labels, as Prometheus has them.
func series(t *testing.T, p *Page) map[string]float64 {
	t.Helper()
	body, _, err := p.Render(nil)
	if err != nil {
		t.Fatal(err)
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]float64{}
	for name, f := range families {
		for _, m := range f.GetMetric() {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			key := name + fmt.Sprint(labels)
			h := m.GetHistogram()
			for _, b := range h.GetBucket() {
				all[fmt.Sprintf("%s le %v", key, b.GetUpperBound())] = float64(b.GetCumulativeCount())
			}
			if h != nil {
				all[key+" count"], all[key+" sum"] = float64(h.GetSampleCount()), h.GetSampleSum()
			} else {
				all[key] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return all
}

// received returns the same of what a collector got, by the names that Prometheus' own receiver makes of it.
func received(t *testing.T, all []oteltest.Metric) map[string]float64 {
	t.Helper()
	out := map[string]float64{}
	namer := otlptranslator.NewMetricNamer("", otlptranslator.UnderscoreEscapingWithSuffixes)
	for _, m := range all {
		var kind otlptranslator.MetricType = otlptranslator.MetricTypeGauge
		points := m.GetGauge().GetDataPoints()
		if s := m.GetSum(); s != nil {
			if !s.GetIsMonotonic() || s.GetAggregationTemporality() != metrics.AggregationTemporality_AGGREGATION_TEMPORALITY_CUMULATIVE {
				t.Errorf("%s is no cumulative counter", m.GetName())
			}
			kind, points = otlptranslator.MetricTypeMonotonicCounter, s.GetDataPoints()
		}
		if m.GetHistogram() != nil {
			kind = otlptranslator.MetricTypeHistogram
		}
		name, err := namer.Build(otlptranslator.Metric{Name: m.GetName(), Unit: m.GetUnit(), Type: kind})
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range points {
			out[name+fmt.Sprint(oteltest.Attributes(p.GetAttributes()))] = p.GetAsDouble()
		}
		for _, p := range m.GetHistogram().GetDataPoints() {
			key := name + fmt.Sprint(oteltest.Attributes(p.GetAttributes()))
			n := uint64(0)
			for i, c := range p.GetBucketCounts() {
				if n += c; i < len(p.GetExplicitBounds()) {
					out[fmt.Sprintf("%s le %v", key, p.GetExplicitBounds()[i])] = float64(n)
				} else {
					out[key+" le +Inf"] = float64(n)
				}
			}
			out[key+" count"], out[key+" sum"] = float64(p.GetCount()), p.GetSum()
		}
	}
	return out
}

// What goes out over OTLP is what the page says, under the same names once Prometheus has it.
func TestMetricsArrive(t *testing.T) {
	for _, protocol := range []string{"", overProtobuf, overGRPC} {
		t.Run(protocol, func(t *testing.T) {
			c := oteltest.Start(t)
			setenv(t, "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT="+c.HTTP+"/v1/metrics", "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL="+protocol, "OTEL_EXPORTER_OTLP_COMPRESSION=gzip")
			if protocol == overGRPC {
				setenv(t, "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT="+c.GRPC)
			}
			begin := time.Now()
			tel := start(t, nil)
			if !tel.Measured() {
				t.Fatal("metrics are off")
			}
			if err := tel.Export(everything); err != nil {
				t.Fatal(err)
			}
			tel.Shutdown(t.Context())
			var ours []oteltest.Metric
			runtime := 0
			for _, m := range c.Metrics() {
				if m.Scope != scopeName {
					runtime++
					continue
				}
				ours = append(ours, m)
				if r := m.Resource; r["service.name"] != "sluice" || r["service.instance.id"] != "node-1" {
					t.Errorf("%s comes from %v", m.GetName(), r)
				}
				if m.GetDescription() == "" {
					t.Errorf("%s has no description", m.GetName())
				}
			}
			if runtime < 5 {
				t.Errorf("%d metrics of the runtime", runtime)
			}
			got, want := received(t, ours), series(t, NewPage(everything))
			maps.DeleteFunc(want, func(k string, _ float64) bool { return !strings.HasPrefix(k, "sluice_") })
			for k, v := range want {
				if g, ok := got[k]; !ok || g != v {
					t.Errorf("%s: got %v (%v), want %v", k, g, ok, v)
				}
				delete(got, k)
			}
			if len(got) > 0 {
				t.Errorf("also there: %v", slices.Sorted(maps.Keys(got)))
			}
			point := c.WaitMetric("sluice.queue").GetHistogram().GetDataPoints()[0]
			if since := time.Unix(0, int64(point.GetStartTimeUnixNano())); since.Before(begin) || since.After(time.Unix(0, int64(point.GetTimeUnixNano()))) {
				t.Errorf("they count from %v", since)
			}
		})
	}
}

// Metrics come at the interval of the environment, and those of spans that were exported with them.
func TestMetricsInterval(t *testing.T) {
	c := oteltest.Start(t)
	tel := start(t, nil, "OTEL_EXPORTER_OTLP_ENDPOINT="+c.HTTP, "OTEL_METRIC_EXPORT_INTERVAL=20")
	if err := tel.Export(tel.Measure); err != nil {
		t.Fatal(err)
	}
	endSpans(t, tel, 3)
	for range 3 {
		n := len(c.Metrics())
		for begin := time.Now(); len(c.Metrics()) == n; time.Sleep(time.Millisecond) {
			if time.Since(begin) > 10*time.Second {
				t.Fatal("nothing comes")
			}
		}
	}
	tel.Shutdown(t.Context())
	for _, p := range c.WaitMetric("sluice.trace_spans").GetSum().GetDataPoints() {
		result, want := oteltest.Attributes(p.GetAttributes())["result"], 0.0
		if result == "exported" {
			want = 3
		}
		if p.GetAsDouble() != want {
			t.Errorf("%v spans are %s, want %v", p.GetAsDouble(), result, want)
		}
	}
}

func TestMetricsInTrouble(t *testing.T) {
	for _, tt := range []struct {
		name    string
		trouble func(*oteltest.Collector)
		source  Source
	}{
		{"hangs", (*oteltest.Collector).Hang, everything},
		{"busy", func(c *oteltest.Collector) { c.Refuse(http.StatusServiceUnavailable) }, everything},
		{"refuses", func(c *oteltest.Collector) { c.Refuse(http.StatusBadRequest) }, everything},
		{"source with a bug", func(*oteltest.Collector) {}, func(r *Readings) { r.Value(Gaps, 1) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := oteltest.Start(t)
			tt.trouble(c)
			var log bytes.Buffer
			tel := start(t, slog.New(slog.NewTextHandler(&log, nil)), "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT="+c.HTTP+"/v1/metrics")
			if err := tel.Export(tt.source); err != nil {
				t.Fatal(err)
			}
			begin := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			tel.Shutdown(ctx)
			if took := time.Since(begin); took > 300*time.Millisecond+graceTime+5*time.Second {
				t.Errorf("shutdown took %v", took)
			}
			if strings.Count(log.String(), "\n") != 1 || len(c.Metrics()) > 0 {
				t.Errorf("%d metrics; log:\n%s", len(c.Metrics()), &log)
			}
		})
	}
}

func TestExportFails(t *testing.T) {
	silence(t) // Shutdown tells what there is
	tel := start(t, nil, "OTEL_METRICS_EXPORTER=console", "OTEL_METRIC_EXPORT_INTERVAL=1m")
	if err := tel.Export(); err == nil || !strings.Contains(err.Error(), "parse duration (OTEL_METRIC_EXPORT_INTERVAL)") {
		t.Errorf("got %v", err)
	}
}

// The exporter named console writes to standard output.
func TestConsole(t *testing.T) {
	path := silence(t)
	tel := start(t, nil, "OTEL_METRICS_EXPORTER=console", "OTEL_TRACES_EXPORTER=console")
	if err := tel.Export(everything); err != nil {
		t.Fatal(err)
	}
	endSpans(t, tel, 1)
	tel.Shutdown(t.Context())
	text, err := os.ReadFile(path)
	if err != nil || !strings.Contains(string(text), `"span 0"`) || !strings.Contains(string(text), `"sluice.publish_to_write"`) {
		t.Errorf("%v, %s", err, text)
	}
	wantLedger(t, tel, 1, 0, 0)
}

// silence sends standard output to a file until the test ends, and returns its name.
func silence(t *testing.T) (path string) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "stdout"))
	if err != nil {
		t.Fatal(err)
	}
	stdout := os.Stdout
	os.Stdout = f
	t.Cleanup(func() {
		os.Stdout = stdout
		f.Close()
	})
	return f.Name()
}
