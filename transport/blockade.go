package transport

import (
	"context"
	"sync"
	"time"

	"github.com/labstack/echo/v4"

	"sluice/middleware"
)

// blockade keeps clients of some addresses off some transports for a while, as a proxy or a firewall would. Its methods may be called
// concurrently.
type blockade struct {
	mu    sync.Mutex
	lists map[barred]barrier
}

// barred is a client's address and a transport.
type barred struct {
	address middleware.Key
	over    carrier
}

// barrier is until when that is kept off, and how: by an answer, or by none.
type barrier struct {
	until  time.Time
	silent bool
}

// set puts up a barrier, or takes it down if it ends now.
func (b *blockade) set(who barred, x barrier) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	for k, old := range b.lists {
		if !old.until.After(now) {
			delete(b.lists, k)
		}
	}
	delete(b.lists, who)
	if x.until.After(now) {
		b.lists[who] = x
	}
}

// of returns the barrier before who, if there is one.
func (b *blockade) of(who barred) (barrier, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	x, ok := b.lists[who]
	return x, ok && x.until.After(time.Now())
}

// transportPaths are where clients listen.
var transportPaths = map[string]carrier{"/sse": overSSE, "/ws": overWS, "/poll": overPoll}

// barriers is the middleware of what a client may be kept off. A request that is not to be answered has its connection held until the
// barrier is down, or the node ends; over HTTP/2, whose connection is others' as well, it is refused.
func (s *Server) barriers(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		over, listens := transportPaths[c.Path()]
		if !listens {
			return next(c)
		}
		x, ok := s.faults.blockade.of(barred{s.limits.address(c.Request()), over})
		if !ok {
			return next(c)
		}
		if x.silent {
			if conn, _, err := c.Response().Hijack(); err == nil {
				c.Response().Committed = true
				ctx, cancel := context.WithDeadline(s.ctx, x.until)
				context.AfterFunc(ctx, func() {
					cancel()
					_ = conn.Close()
				})
				return nil
			}
		}
		p := problem(Unavailable, "this node was asked to refuse "+carrierNames[over]+" for a while (POST /dev/break)")
		p.Retry = time.Second
		return p
	}
}
