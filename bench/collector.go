package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// collector takes what is exported to it by OTLP over HTTP, and forgets it. It shares the tool's core, so that a server is charged for
// what exporting costs it and for nothing else.
type collector struct {
	server *http.Server
	done   chan struct{} // closed when it has ended
}

func startCollector() (*collector, error) {
	l, err := net.Listen("tcp", collectorAddr)
	if err != nil {
		return nil, fmt.Errorf("collector: %w", err)
	}
	c := &collector{done: make(chan struct{}), server: &http.Server{
		ReadTimeout: time.Minute,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			w.Header().Set("Content-Type", "application/x-protobuf") // an empty message
		}),
	}}
	go func() {
		defer close(c.done)
		_ = c.server.Serve(l) // ends with stop
	}()
	return c, nil
}

func (c *collector) stop() {
	_ = c.server.Close()
	<-c.done
}
