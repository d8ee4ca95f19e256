package redistest

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestRestartKeepsPortAndFiles(t *testing.T) {
	s := Start(t, "--appendonly", "yes", "--appendfsync", "always")
	addr := s.Addr()
	if err := s.Client().Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	s.Kill()
	if err := s.Client().Ping(t.Context()).Err(); err == nil {
		t.Error("a killed server answered")
	}
	s.Restart()
	if got, err := s.Client().Get(t.Context(), "k").Result(); got != "v" || err != nil {
		t.Errorf("after kill -9 and restart: got %q, %v, want v from the append-only file", got, err)
	}
	if s.Addr() != addr {
		t.Errorf("after restart: address %s, want %s", s.Addr(), addr)
	}
	s.Stop()
	s.Restart()
	if err := s.Client().Ping(t.Context()).Err(); err != nil {
		t.Errorf("after stop and restart: %v", err)
	}
}

func TestPauseAndResume(t *testing.T) {
	s := Start(t)
	s.Pause()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := s.Client().Ping(ctx).Err(); !errors.Is(err, context.DeadlineExceeded) && !os.IsTimeout(err) {
		t.Errorf("a paused server: got %v, want a time-out", err)
	}
	s.Resume()
	if err := s.Client().Ping(t.Context()).Err(); err != nil {
		t.Errorf("after resume: %v", err)
	}
	s.Pause() // the clean-up must end a paused server as well
}
