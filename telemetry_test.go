package main

import (
	"bufio"
	"net/http"
	"strings"
	"testing"

	"sluice/otel/oteltest"
)

// TestMetricsExported: without a listener for Prometheus a node measures too if the environment wants metrics exported, and the
// last numbers leave when it has stopped.
func TestMetricsExported(t *testing.T) {
	c := oteltest.Start(t)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", c.HTTP)
	n := startNode(t, "--dev")
	if !n.measured() || n.metrics != nil {
		t.Fatal("nothing is measured, or there is a listener")
	}
	res, err := http.Get(n.base + "/sse?channel=news")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	post, err := http.Post(n.base+"/publish/news", "text/plain", strings.NewReader("hello"))
	if err != nil {
		t.Fatal(err)
	}
	post.Body.Close()
	for lines := bufio.NewScanner(res.Body); lines.Scan() && lines.Text() != "data: hello"; {
	}
	n.stop()
	n.wait(t)
	h := c.WaitMetric("sluice.publish_to_write").GetHistogram().GetDataPoints()
	if len(h) == 0 || h[0].GetCount() != 1 {
		t.Errorf("got %v, want one delivery", h)
	}
	if r := c.WaitMetric("sluice.ready").Resource; len(r["service.instance.id"]) < 16 || r["service.version"] == "" {
		t.Errorf("it comes from %v", r)
	}
	for _, p := range c.WaitMetric("sluice.ready").GetGauge().GetDataPoints() {
		if p.GetAsDouble() != 0 {
			t.Errorf("a node that has stopped is ready")
		}
	}
}

func TestTelemetryOff(t *testing.T) {
	if n := startNode(t, "--dev"); n.measured() {
		t.Error("it is measured without anybody who wants to know")
	}
}

// TestTelemetryWrong: wrong OTEL_* variables stop the start like wrong settings.
func TestTelemetryWrong(t *testing.T) {
	for _, tt := range []struct{ name, value, err string }{
		{"OTEL_TRACES_EXPORTER", "jaeger", `sluice: OTEL_TRACES_EXPORTER is "jaeger"; write otlp, console or none`},
		{"OTEL_METRIC_EXPORT_INTERVAL", "often", `parse duration (OTEL_METRIC_EXPORT_INTERVAL)`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", oteltest.Start(t).HTTP)
			t.Setenv(tt.name, tt.value)
			_, err, code := shell(t, "", "--dev", "--listen=127.0.0.1:0")
			if code != exitUsage || !strings.Contains(err, tt.err) {
				t.Errorf("exit code %d, %s", code, err)
			}
		})
	}
}
