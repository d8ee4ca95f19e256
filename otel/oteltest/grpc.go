package oteltest

import (
	"context"
	"net"
	"net/http"

	metricscollector "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	tracecollector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	_ "google.golang.org/grpc/encoding/gzip" // to understand clients that compress
	"google.golang.org/grpc/status"
)

// serveGRPC serves until the test ends.
func (c *Collector) serveGRPC(l net.Listener) {
	s := grpc.NewServer()
	tracecollector.RegisterTraceServiceServer(s, &traceService{c: c})
	metricscollector.RegisterMetricsServiceServer(s, &metricsService{c: c})
	ended := make(chan struct{})
	go func() {
		_ = s.Serve(l)
		close(ended)
	}()
	c.t.Cleanup(func() {
		s.Stop()
		<-ended
	})
}

type traceService struct {
	tracecollector.UnimplementedTraceServiceServer
	c *Collector
}

// Export implements tracecollector.TraceServiceServer.
func (s *traceService) Export(ctx context.Context, m *tracecollector.ExportTraceServiceRequest) (*tracecollector.ExportTraceServiceResponse, error) {
	if err := s.c.refusal(ctx); err != nil {
		return nil, err
	}
	s.c.takeSpans(m)
	return &tracecollector.ExportTraceServiceResponse{}, nil
}

type metricsService struct {
	metricscollector.UnimplementedMetricsServiceServer
	c *Collector
}

// Export implements metricscollector.MetricsServiceServer.
func (s *metricsService) Export(ctx context.Context, m *metricscollector.ExportMetricsServiceRequest) (*metricscollector.ExportMetricsServiceResponse, error) {
	if err := s.c.refusal(ctx); err != nil {
		return nil, err
	}
	s.c.takeMetrics(m)
	return &metricscollector.ExportMetricsServiceResponse{}, nil
}

// refusal returns what to refuse a request with, or nil.
func (c *Collector) refusal(ctx context.Context) error {
	switch n := c.answer(ctx); n {
	case 0:
		return nil
	case http.StatusServiceUnavailable:
		return status.Error(codes.Unavailable, "refused")
	default:
		return status.Error(codes.InvalidArgument, "refused")
	}
}
