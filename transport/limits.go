package transport

import (
	"fmt"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"sluice/middleware"
)

// limits are what one client may do a second, over all its connections and requests. A client is a
// subject, where the access rules know one, else an address: an office behind one address is
// many clients once they have signed in.
type limits struct {
	clients   *middleware.Clients
	connects  *middleware.Limiter // each of the limiters may be nil: no limit
	publishes *middleware.Limiter
	commands  *middleware.Limiter

	refused [limitKinds]atomic.Int64

	log     *slog.Logger
	proxies bool // some are trusted
	warned  atomic.Bool
}

func newLimits(c *Config, log *slog.Logger) (*limits, error) {
	clients, err := middleware.NewClients(c.TrustedProxies)
	if err != nil {
		return nil, fmt.Errorf("transport: %w", err)
	}
	return &limits{
		clients:   clients,
		connects:  middleware.NewLimiter(c.ConnectRate, c.ConnectBurst),
		publishes: middleware.NewLimiter(c.PublishRate, c.PublishBurst),
		commands:  middleware.NewLimiter(c.ClientCommandRate, c.ClientCommandBurst),
		log:       log,
		proxies:   len(c.TrustedProxies) > 0,
	}, nil
}

// key returns who counts for what r and g do: the subject of g, else the address of r.
func (l *limits) key(r *http.Request, g Grant) middleware.Key {
	if s := subject(g); s != "" {
		return l.clients.SubjectKey(s)
	}
	return l.clients.AddrKey(l.clients.Addr(r))
}

// subject returns the subject of a grant that has one, else "".
func subject(g Grant) string {
	if s, ok := g.(interface{ Subject() string }); ok {
		return s.Subject()
	}
	return ""
}

// settle takes the n tokens that a request costs, once it is known who sent it. The middleware has taken
// one from its address, which goes back: with a subject the address has nothing to do with it, and
// without one a refusal must cost nothing, or it would be no use to wait as long as it says.
func (l *limits) settle(kind limitKind, r *http.Request, g Grant, n int) *Problem {
	from := l.of(kind)
	n = max(n, 1)
	if from == nil || n == 1 && subject(g) == "" {
		return nil
	}
	from.Return(l.clients.AddrKey(l.clients.Addr(r)), 1)
	if wait := from.Take(l.key(r, g), n, time.Now()); wait > 0 {
		return l.refuse(kind, r, wait)
	}
	return nil
}

// take takes one token of a client that has a session.
func (l *limits) take(kind limitKind, k middleware.Key) *Problem {
	from := l.of(kind)
	if from == nil {
		return nil
	}
	if wait := from.Take(k, 1, time.Now()); wait > 0 {
		l.refused[kind].Add(1)
		return limited(wait)
	}
	return nil
}

// of returns the limiter of a kind that is limited per client; it may be nil.
func (l *limits) of(kind limitKind) *middleware.Limiter {
	switch kind {
	case limitConnect:
		return l.connects
	case limitPublish:
		return l.publishes
	}
	return l.commands
}

// refuse answers a request that comes too soon. Once it says what may be behind it: that all clients of a
// proxy count as one.
func (l *limits) refuse(kind limitKind, r *http.Request, wait time.Duration) *Problem {
	l.refused[kind].Add(1)
	if !l.proxies && len(r.Header["X-Forwarded-For"]) > 0 && !l.warned.Swap(true) {
		l.log.Warn("a client was over its rate and may be a proxy, whose clients count as one: see the setting trusted-proxies",
			"address", l.clients.Addr(r))
	}
	return limited(wait)
}

// limited is the problem of those who come too soon.
func limited(wait time.Duration) *Problem {
	p := problem(RateLimited, "more than this client may do; wait as long as it says")
	p.Retry = wait
	return p
}
