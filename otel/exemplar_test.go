package otel

import (
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"sluice/otel/oteltest"
)

// The last of each bucket is kept; of several parts told as one, the newest.
func TestExemplars(t *testing.T) {
	at := func(second int64) time.Time { return time.Unix(1_700_000_000+second, 0) }
	h1, h2 := QueueTime.Histogram(), QueueTime.Histogram()
	for _, x := range []struct {
		h      *Histogram
		v      int64
		id     byte
		second int64
	}{
		{h1, 4_000, 1, 9},
		{h1, 5_000, 2, 3}, // the same bucket, and later here whatever its time says
		{h1, 6_000_000, 3, 4},
		{h2, 7_000_000, 4, 5}, // newer than that
		{h2, 90e9, 5, 6},      // above all bounds
		{h1, 80e9, 6, 5},
	} {
		x.h.Observe(x.v)
		x.h.Exemplify(x.v, Exemplar{TraceID: [16]byte{0xa0, 15: x.id}, SpanID: [8]byte{0xb0, 7: x.id}, Time: at(x.second)})
	}
	source := func(r *Readings) { r.Histogram(QueueTime, []*Histogram{h1, h2}, "ws") }

	body, _, err := NewPage(source).Render([]string{"application/openmetrics-text;version=1.0.0"})
	if err != nil {
		t.Fatal(err)
	}
	body = regexp.MustCompile(`\{(trace_id="\w+"),(span_id="\w+")\}`).ReplaceAll(body, []byte("{$2,$1}")) // they come in any order
	for _, want := range []string{
		`le="5e-06"} 2 # {span_id="b000000000000002",trace_id="a0000000000000000000000000000002"} 5e-06 1.700000003e+09`,
		`le="0.01"} 4 # {span_id="b000000000000004",trace_id="a0000000000000000000000000000004"} 0.007 1.700000005e+09`,
		`le="+Inf"} 6 # {span_id="b000000000000005",trace_id="a0000000000000000000000000000005"} 90.0 1.700000006e+09`,
	} {
		if !strings.Contains(string(body), want) {
			t.Errorf("%s is missing in\n%s", want, body)
		}
	}
	if n := strings.Count(string(body), "trace_id"); n != 3 {
		t.Errorf("%d exemplars, want 3", n)
	}
	if text, _, err := NewPage(source).Render(nil); err != nil || strings.Contains(string(text), "trace_id") {
		t.Errorf("exemplars are in plain text, which has none: %v", err)
	}

	c := oteltest.Start(t)
	tel := start(t, nil, "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT="+c.HTTP+"/v1/metrics")
	if err := tel.Export(source); err != nil {
		t.Fatal(err)
	}
	tel.Shutdown(t.Context())
	got := ""
	for _, e := range c.WaitMetric("sluice.queue").GetHistogram().GetDataPoints()[0].GetExemplars() {
		got += fmt.Sprintf("%x %x %v %d\n", e.GetTraceId(), e.GetSpanId(), e.GetAsDouble(), e.GetTimeUnixNano()/1e9)
	}
	want := "a0000000000000000000000000000002 b000000000000002 5e-06 1700000003\n" +
		"a0000000000000000000000000000004 b000000000000004 0.007 1700000005\n" +
		"a0000000000000000000000000000005 b000000000000005 90 1700000006\n"
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestExemplifyConcurrently(t *testing.T) {
	h := QueueTime.Histogram()
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for v := range int64(1000) {
				h.Exemplify(v*1000, Exemplar{TraceID: [16]byte{byte(i + 1)}, Time: time.Unix(v, 0)})
			}
		})
	}
	for range 100 {
		NewPage(func(r *Readings) { r.Histogram(QueueTime, []*Histogram{h}, "ws") }).Render(nil)
	}
	wg.Wait()
	if e := h.example(0); e == nil || e.value != 5000 {
		t.Errorf("got %v, want the last", e)
	}
}

// A histogram is whole cache lines.
func TestHistogramSize(t *testing.T) {
	if n := unsafe.Sizeof(Histogram{}); n%64 != 0 {
		t.Errorf("%d bytes", n)
	}
}
