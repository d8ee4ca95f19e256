// Package oteltest is a collector for tests: it takes spans and metrics over OTLP as a real one does, in this process.
package oteltest

import (
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	metricscollector "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	tracecollector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	metrics "go.opentelemetry.io/proto/otlp/metrics/v1"
	traces "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// patience bounds the waits for what is to arrive.
const patience = 20 * time.Second

// Collector takes OTLP over HTTP and gRPC on ports of the loopback interface, until the test ends. It accepts everything unless told
// otherwise. Its methods may be called concurrently.
type Collector struct {
	HTTP string // URL for OTEL_EXPORTER_OTLP_ENDPOINT
	GRPC string // the same with OTEL_EXPORTER_OTLP_PROTOCOL=grpc

	t testing.TB

	mu       sync.Mutex
	spans    []Span
	metrics  []Metric
	requests []Request
	status   int // of HTTP, that it answers with instead
	hangs    bool
}

// Span is a span that arrived.
type Span struct {
	*traces.Span
	Resource map[string]string
	Scope    string
}

// Metric is a metric as one export had it.
type Metric struct {
	*metrics.Metric
	Resource map[string]string
	Scope    string
}

// Request is an HTTP request that arrived, accepted or not.
type Request struct {
	Path   string
	Header http.Header
}

// Start starts a collector.
func Start(t testing.TB) *Collector {
	t.Helper()
	c := &Collector{t: t}
	s := httptest.NewServer(http.HandlerFunc(c.serve))
	t.Cleanup(s.CloseClientConnections)
	t.Cleanup(s.Close)
	t.Cleanup(s.CloseClientConnections) // the first to be called: it ends those that hang
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c.HTTP, c.GRPC = s.URL, "http://"+l.Addr().String()
	c.serveGRPC(l)
	return c
}

// Refuse makes the collector answer with this status of HTTP, over gRPC with a code like it. 0 makes it accept again.
func (c *Collector) Refuse(status int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.status, c.hangs = status, false
}

// Hang makes the collector not answer at all.
func (c *Collector) Hang() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hangs = true
}

// Spans returns the spans that were accepted, in the order of their arrival.
func (c *Collector) Spans() []Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.spans)
}

// WaitSpans returns the spans when there are n of them or more.
func (c *Collector) WaitSpans(n int) []Span {
	c.t.Helper()
	var spans []Span
	c.wait("spans", func() bool {
		spans = c.Spans()
		return len(spans) >= n
	})
	return spans
}

// Metrics returns the metrics that were accepted, in the order of their arrival: one that was exported twice is there twice.
func (c *Collector) Metrics() []Metric {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.metrics)
}

// WaitMetric returns the last export of a metric when there is one.
func (c *Collector) WaitMetric(name string) (m Metric) {
	c.t.Helper()
	c.wait(name, func() bool {
		for _, m = range slices.Backward(c.Metrics()) {
			if m.GetName() == name {
				return true
			}
		}
		return false
	})
	return m
}

// Requests returns the HTTP requests that arrived.
func (c *Collector) Requests() []Request {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.requests)
}

// WaitRequests returns the HTTP requests when there are n of them or more.
func (c *Collector) WaitRequests(n int) []Request {
	c.t.Helper()
	c.wait("requests", func() bool { return len(c.Requests()) >= n })
	return c.Requests()
}

func (c *Collector) wait(what string, ok func() bool) {
	c.t.Helper()
	for begin := time.Now(); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Since(begin) > patience {
			c.t.Fatalf("the collector has waited %v for %s", patience, what)
		}
	}
}

// answer returns the status to answer with, after it has hung for as long as ctx lasts if it is to hang.
func (c *Collector) answer(ctx context.Context) int {
	c.mu.Lock()
	status, hangs := c.status, c.hangs
	c.mu.Unlock()
	if hangs {
		<-ctx.Done()
		return http.StatusServiceUnavailable
	}
	return status
}

func (c *Collector) serve(w http.ResponseWriter, r *http.Request) {
	body, err := read(r)
	c.mu.Lock()
	c.requests = append(c.requests, Request{r.URL.Path, r.Header.Clone()})
	c.mu.Unlock()
	status := c.answer(r.Context())
	switch {
	case status != 0:
		http.Error(w, "refused "+r.Header.Get("Authorization"), status) // as some do
		return
	case err != nil:
	case r.Header.Get("Content-Type") != "application/x-protobuf": // JSON is not understood
	case strings.HasSuffix(r.URL.Path, "/v1/traces"):
		var m tracecollector.ExportTraceServiceRequest
		if err = proto.Unmarshal(body, &m); err == nil {
			c.takeSpans(&m)
		}
	case strings.HasSuffix(r.URL.Path, "/v1/metrics"):
		var m metricscollector.ExportMetricsServiceRequest
		if err = proto.Unmarshal(body, &m); err == nil {
			c.takeMetrics(&m)
		}
	default:
		err = errors.New("no such path")
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
	}
}

func read(r *http.Request) ([]byte, error) {
	if r.Header.Get("Content-Encoding") != "gzip" {
		return io.ReadAll(r.Body)
	}
	z, err := gzip.NewReader(r.Body)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(z)
}

func (c *Collector) takeSpans(m *tracecollector.ExportTraceServiceRequest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range m.GetResourceSpans() {
		for _, s := range r.GetScopeSpans() {
			for _, span := range s.GetSpans() {
				c.spans = append(c.spans, Span{span, Attributes(r.GetResource().GetAttributes()), s.GetScope().GetName()})
			}
		}
	}
}

func (c *Collector) takeMetrics(m *metricscollector.ExportMetricsServiceRequest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range m.GetResourceMetrics() {
		for _, s := range r.GetScopeMetrics() {
			for _, metric := range s.GetMetrics() {
				c.metrics = append(c.metrics, Metric{metric, Attributes(r.GetResource().GetAttributes()), s.GetScope().GetName()})
			}
		}
	}
}

// Attributes returns attributes as a map; those that are no strings as text.
func Attributes(list []*common.KeyValue) map[string]string {
	m := make(map[string]string, len(list))
	for _, kv := range list {
		switch v := kv.GetValue().GetValue().(type) {
		case *common.AnyValue_StringValue:
			m[kv.GetKey()] = v.StringValue
		default:
			m[kv.GetKey()] = kv.GetValue().String()
		}
	}
	return m
}
