package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"strconv"
	"time"

	"sluice/otel"
)

// metrics serves GET /metrics on an address of its own. All methods may be called on nil, which serves nothing.
type metrics struct {
	address  string
	page     *otel.Page
	log      *slog.Logger
	listener net.Listener
}

// scrapeTime bounds a request for the metrics, and how long a node that stops waits for those that are under way.
const scrapeTime = 10 * time.Second

// newMetrics returns nil if they are off.
func newMetrics(p *Program) *metrics {
	if p.config.Metrics == "" {
		return nil
	}
	return &metrics{address: p.config.Metrics, page: otel.NewPage(p.sources()...), log: p.log}
}

// measured reports whether anybody wants to know: the listener for Prometheus, who is told by OTLP, or the page for operators.
func (p *Program) measured() bool {
	return p.config.Metrics != "" || p.telemetry.Measured() || p.config.Admin != ""
}

// sources returns what tells the numbers of the node.
func (p *Program) sources() []otel.Source {
	all := []otel.Source{measureBuild, p.broker.Measure, p.transport.Measure, p.telemetry.Measure, p.tracer.Measure, p.clock.Measure}
	all = append(all, p.guard.measure)
	if b, ok := p.backend.(interface{ Measure(*otel.Readings) }); ok {
		all = append(all, b.Measure)
	}
	return all
}

// build returns what is running.
func build() (version, revision, goVersion string) {
	version, revision, goVersion = "unknown", "unknown", "unknown"
	if info, ok := debug.ReadBuildInfo(); ok {
		version, goVersion = info.Main.Version, info.GoVersion
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				revision = s.Value
			}
		}
	}
	return version, revision, goVersion
}

// measureBuild tells what is running.
func measureBuild(r *otel.Readings) {
	version, revision, goVersion := build()
	r.Value(otel.BuildInfo, 1, version, revision, goVersion)
}

// listen binds the address.
func (m *metrics) listen() error {
	if m == nil {
		return nil
	}
	l, err := net.Listen("tcp", m.address)
	if err != nil {
		return fmt.Errorf("metrics (%s): %w", m.address, err)
	}
	m.listener = l
	return nil
}

// close gives up what listen bound, of a node that will not run.
func (m *metrics) close() {
	if m != nil {
		_ = m.listener.Close()
	}
}

// addr returns the address that listen bound, nil if the metrics are off.
func (m *metrics) addr() *net.TCPAddr {
	if m == nil {
		return nil
	}
	return m.listener.Addr().(*net.TCPAddr)
}

// serve serves until ctx ends. If it ends before, it calls failed. The function that it returns waits for its end, and
// returns what went wrong.
func (m *metrics) serve(ctx context.Context, failed func()) (wait func() error) {
	if m == nil {
		return func() error { return nil }
	}
	m.log.Info("metrics are open", "address", m.addr().String())
	hs := &http.Server{
		Handler:        m,
		ReadTimeout:    scrapeTime,
		WriteTimeout:   scrapeTime,
		IdleTimeout:    2 * time.Minute,
		MaxHeaderBytes: 16 * kib,
		ErrorLog:       slog.NewLogLogger(m.log.Handler(), slog.LevelDebug),
	}
	served, ended := make(chan error, 1), make(chan error, 1)
	go func() { served <- hs.Serve(m.listener) }()
	go func() {
		var err error
		select {
		case err = <-served:
			failed()
		case <-ctx.Done():
			limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), scrapeTime)
			defer cancel()
			_ = hs.Shutdown(limit) // those that take longer are cut off
			err = <-served
		}
		_ = hs.Close()
		if errors.Is(err, http.ErrServerClosed) {
			err = nil
		} else {
			err = fmt.Errorf("serve metrics: %w", err)
		}
		ended <- err
	}()
	return func() error { return <-ended }
}

// ServeHTTP answers GET /metrics.
func (m *metrics) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path != "/metrics":
		http.Error(w, "there is only /metrics here", http.StatusNotFound)
		return
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "GET it", http.StatusMethodNotAllowed)
		return
	}
	body, contentType, err := m.page.Render(r.Header["Accept"])
	if err != nil {
		m.log.Error("metrics can't be told", "err", err)
		http.Error(w, "metrics can't be told; see the log", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write(body)
}

// checkMetrics admits nothing at all, too.
func checkMetrics(s string) error {
	if s != "" && checkListen(s) != nil {
		return errors.New("write HOST:PORT such as 127.0.0.1:9464, or nothing to keep them off")
	}
	return nil
}
