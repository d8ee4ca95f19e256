//go:build !linux

package transport

import (
	"context"
	"net"
)

// poller is only there on Linux; elsewhere every session reads with a goroutine of its own.
type poller struct{}

func newPoller() (*poller, error) { return &poller{}, nil }

func (*poller) run(ctx context.Context) { <-ctx.Done() }

func (*Server) tune(*net.TCPConn) {}

type fdLink struct{ link }

func (*poller) detach(net.Conn, *session) (*fdLink, bool) { return nil, false }

func (*fdLink) start() error { return nil }
