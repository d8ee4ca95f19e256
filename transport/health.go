package transport

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"
)

// probeTime is how long a probe through the backend may take before the node counts as not ready.
const probeTime = time.Second

// serveHealth answers GET /healthz: the process lives and answers.
func (s *Server) serveHealth(c echo.Context) error {
	c.Response().Header().Set("Cache-Control", "no-store")
	return c.String(http.StatusOK, "ok\n")
}

// ready is the answer of GET /readyz.
type ready struct {
	Ready    bool     `json:"ready"`
	Why      string   `json:"why,omitempty"`
	ProbeMS  float64  `json:"probe_ms"`
	Sessions int64    `json:"sessions"`
	Channels int      `json:"channels"`
	Notes    []string `json:"notes,omitempty"` // Config.Status
}

// probe publishes something to this node through the backend, and returns how long that took and what went wrong, or is not known yet.
func (s *Server) probe(ctx context.Context) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	begin := time.Now()
	err := s.broker.Probe(ctx)
	took := time.Since(begin)
	if err == nil && s.config.Lacks != nil {
		if what := s.config.Lacks(); what != "" {
			err = lack(what)
		}
	}
	return took, err
}

// lack is what a node that delivers has yet to learn.
type lack string

func (l lack) Error() string { return string(l) }

// serveReady answers GET /readyz: 200 if a message published to the backend comes back within a
// second, there is room for new work, and it knows whom to refuse; 503 and why if not. A node that can't deliver says so; what else is wrong with it changes nothing but the notes.
func (s *Server) serveReady(c echo.Context) error {
	took, err := s.probe(c.Request().Context())
	r := ready{Ready: true, Sessions: s.sessions.Load(), Channels: s.broker.Channels()}
	r.ProbeMS = float64(took.Microseconds()) / 1000
	if s.config.Status != nil {
		r.Notes = s.config.Status()
	}
	full, lacks := s.memory.isFull(0), lack("")
	switch {
	case s.draining.Load():
		r.Ready, r.Why = false, "draining"
	case full:
		r.Ready, r.Why = false, "at capacity: new connections and publishes are refused until there is memory again (memory-limit)"
	case errors.As(err, &lacks):
		r.Ready, r.Why = false, string(lacks)
	case err != nil:
		s.log.Warn("not ready", "err", err)
		r.Ready, r.Why = false, "a message published to the backend did not come back within "+probeTime.String()
	}
	c.Response().Header().Set("Cache-Control", "no-store")
	if !r.Ready {
		return c.JSON(http.StatusServiceUnavailable, r)
	}
	return c.JSON(http.StatusOK, r)
}
