package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// adminTimeout bounds a request to the admin API from its first byte to the last of the answer, and how long a node
// that stops waits for those that are under way.
const adminTimeout = 5 * time.Second

// serveAdmin serves the admin API on l until ctx ends.
func serveAdmin(ctx context.Context, l net.Listener, h http.Handler, log *slog.Logger) error {
	hs := &http.Server{
		Handler:        h,
		ReadTimeout:    adminTimeout,
		WriteTimeout:   adminTimeout,
		IdleTimeout:    time.Minute,
		MaxHeaderBytes: 16 * kib,
		ErrorLog:       slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	failed := make(chan error, 1)
	go func() { failed <- hs.Serve(l) }()
	var err error
	select {
	case err = <-failed:
	case <-ctx.Done():
		limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), adminTimeout)
		defer cancel()
		_ = hs.Shutdown(limit) // those that take longer are cut off
		err = <-failed
	}
	_ = hs.Close()
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve admin: %w", err)
}

// announceAdmin says where the admin API is, and who may be there.
func announceAdmin(log *slog.Logger, addr *net.TCPAddr) {
	if addr == nil {
		return
	}
	log.Info("admin API is open", "address", addr.String())
	if !addr.IP.IsLoopback() {
		log.Warn("ADMIN API WITHOUT AUTHENTICATION: whoever reaches this address may use it; set admin to a loopback address, or keep strangers out",
			"address", addr.String())
	}
}
