package middleware

import (
	"math"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/labstack/echo/v4"
	"golang.org/x/time/rate"
)

// Limiter limits the rate of each of many clients, by one bucket of tokens for each: a client has
// burst tokens at most, and gets perSecond new ones a second.
//
// Its memory is bounded: it knows the 32,768 clients that were there last, some 8 MiB, and none before it needs
// to. Who is forgotten has a full bucket again. So a stranger with more addresses than that gains
// what they are worth, the burst times their number, as he does with fewer.
//
// All methods may be called concurrently, and on nil, which limits nothing.
type Limiter struct {
	limit rate.Limit
	burst int

	mu      sync.Mutex
	clients *simplelru.LRU[Key, *rate.Limiter]
}

const (
	maxClients = 1 << 15
	minRate    = 0.001   // a token in some 17 minutes
	maxBurst   = 1 << 30 // tokens may be bytes
)

// NewLimiter returns a Limiter. It returns nil, which limits nothing, for a rate of 0 or less. A burst is at
// least 1 and at most 2³⁰.
func NewLimiter(perSecond float64, burst int) *Limiter {
	if !(perSecond > 0) {
		return nil
	}
	l := NewRates()
	l.limit, l.burst = rate.Limit(max(perSecond, minRate)), min(max(1, burst), maxBurst)
	return l
}

// NewRates returns a Limiter whose clients bring their own rates: it is for TakeAt, and Take takes from it as if
// each had a token in 17 minutes.
func NewRates() *Limiter {
	clients, err := simplelru.NewLRU[Key, *rate.Limiter](maxClients, nil)
	if err != nil {
		panic(err) // only for a size of 0
	}
	return &Limiter{limit: minRate, burst: 1, clients: clients}
}

// Take takes n tokens from the client's bucket and returns 0, or takes none and returns how long it will be
// until they are there. More than fit into a bucket are had from a full one, on credit: then the client
// waits the longer for the next.
func (l *Limiter) Take(k Key, n int, now time.Time) (wait time.Duration) {
	if l == nil || n <= 0 {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return take(l.bucket(k, l.limit, l.burst), n, l.burst, now)
}

// TakeAt is Take for a client that has a rate of its own, with a burst of what comes in a second. It may be another one
// than before: from now on the bucket fills at this rate, and holds no more. A rate of 0 or less is no limit.
func (l *Limiter) TakeAt(k Key, perSecond float64, n int, now time.Time) (wait time.Duration) {
	if l == nil || n <= 0 || !(perSecond > 0) {
		return 0
	}
	limit, burst := rate.Limit(max(perSecond, minRate)), int(math.Ceil(min(perSecond, maxBurst)))
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.bucket(k, limit, burst)
	if c.Limit() != limit {
		c.SetLimitAt(now, limit)
		c.SetBurstAt(now, burst)
	}
	return take(c, n, burst, now)
}

// bucket returns the client's bucket, a full one if it is not known. l.mu is held.
func (l *Limiter) bucket(k Key, limit rate.Limit, burst int) *rate.Limiter {
	c, known := l.clients.Get(k)
	if !known {
		c = rate.NewLimiter(limit, burst)
		l.clients.Add(k, c)
	}
	return c
}

func take(c *rate.Limiter, n, burst int, now time.Time) time.Duration {
	first := c.ReserveN(now, min(n, burst))
	if wait := first.DelayFrom(now); wait > 0 {
		first.CancelAt(now)
		return wait
	}
	for n -= burst; n > 0; n -= burst {
		c.ReserveN(now, min(n, burst))
	}
	return 0
}

// Return gives back n tokens that were taken and not used.
func (l *Limiter) Return(k Key, n int) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if c, known := l.clients.Get(k); known {
		c.ReserveN(time.Now(), -n) // the library adds what is less than nothing, up to the burst
	}
}

// Middleware returns a middleware that takes one token for each request, from its client's address,
// and hands requests that find none to refuse, with how long it will be until there is one. It comes before
// anybody's rights are looked at, so that strangers who try credentials are slowed down, too.
//
// A nil Limiter lets all pass.
func (l *Limiter) Middleware(clients *Clients, refuse func(c echo.Context, wait time.Duration) error) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		if l == nil {
			return next
		}
		return func(c echo.Context) error {
			r := c.Request()
			if wait := l.Take(clients.AddrKey(clients.Addr(r)), 1, time.Now()); wait > 0 {
				return refuse(c, wait)
			}
			return next(c)
		}
	}
}
