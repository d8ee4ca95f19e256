package transport

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"sluice/middleware"
)

// limits are what strangers may do: one client over all its connections and requests, and all together. A client is a
// subject, where the access rules know one, else an address: an office behind one address is
// many clients once they have signed in. How many connections an address has at once is counted whoever they belong to.
//
// Who is over a limit of his own is told so (429); who meets one of the node is told that the node is full (503), since others may take him.
type limits struct {
	clients *middleware.Clients

	// Each of the limiters may be nil: no limit.
	connects  *middleware.Limiter
	publishes *middleware.Limiter
	commands  *middleware.Limiter
	bytes     *middleware.Limiter
	granted   *middleware.Limiter // by the rates that grants bring

	// Of all clients together.
	nodeConnects  *middleware.Limiter
	nodePublishes *middleware.Limiter
	nodeBytes     *middleware.Limiter

	addresses     crowd // connections at once
	subjects      crowd
	subscriptions atomic.Int64 // those that are reserved, too

	perAddress, perSubject int               // of connections; 0: no limit
	local                  [2]middleware.Key // 127.0.0.1 and ::1, which perAddress leaves alone: proxies and tools of this machine

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
		clients:       clients,
		connects:      middleware.NewLimiter(c.ConnectRate, c.ConnectBurst),
		publishes:     middleware.NewLimiter(c.PublishRate, c.PublishBurst),
		commands:      middleware.NewLimiter(c.ClientCommandRate, c.ClientCommandBurst),
		bytes:         middleware.NewLimiter(float64(c.ClientByteRate), c.ClientByteBurst),
		granted:       middleware.NewRates(),
		nodeConnects:  aSecondOf(c.NodeConnectRate),
		nodePublishes: aSecondOf(c.NodePublishRate),
		nodeBytes:     middleware.NewLimiter(float64(c.NodeByteRate), max(c.NodeByteRate, leastByteBurst)),
		perAddress:    c.AddressConnections,
		perSubject:    c.SubjectConnections,
		local:         [2]middleware.Key{clients.AddrKey(netip.MustParseAddr("127.0.0.1")), clients.AddrKey(netip.IPv6Loopback())},
		log:           log,
		proxies:       len(c.TrustedProxies) > 0,
	}, nil
}

// aSecondOf returns a limiter whose burst is what comes in a second.
func aSecondOf(rate float64) *middleware.Limiter {
	return middleware.NewLimiter(rate, int(min(rate+1, 1<<30)))
}

// key returns who counts for what r and g do: the subject of g, else the address of r.
func (l *limits) key(r *http.Request, g Grant) middleware.Key {
	if s := subject(g); s != "" {
		return l.clients.SubjectKey(s)
	}
	return l.address(r)
}

func (l *limits) address(r *http.Request) middleware.Key { return l.clients.AddrKey(l.clients.Addr(r)) }

// counted reports whether connections of an address are counted.
func (l *limits) counted(address middleware.Key) bool {
	return l.perAddress > 0 && address != l.local[0] && address != l.local[1]
}

// subject returns the subject of a grant that has one, else "".
func subject(g Grant) string {
	return g.Who().Subject
}

// rateOf returns what g lets its holder do a second, messages published and commands together; 0: it does not say.
func rateOf(g Grant) float64 {
	return g.Who().Rate
}

// connectionsOf returns how many connections the subject of g may have at once: the stricter of what the node and what g
// says; 0: as many as it likes.
func (l *limits) connectionsOf(g Grant) int {
	most := l.perSubject
	if own := g.Who().Connections; own > 0 && (most == 0 || own < most) {
		most = own
	}
	return most
}

// settle takes the n tokens that a request costs, once it is known who sent it. The middleware has taken
// one from its address, which goes back: with a subject the address has nothing to do with it, and
// without one a refusal must cost nothing, or it would be no use to wait as long as it says.
func (l *limits) settle(kind limitKind, r *http.Request, g Grant, n int) *Problem {
	own, n := rateOf(g), max(n, 1)
	from := l.of(kind)
	if kind == limitConnect || kind == limitPoll {
		own = 0 // what the grant counts is messages and commands
	}
	if from == nil && own <= 0 && (kind != limitPublish || l.nodePublishes == nil) {
		return nil
	}
	who, paid := l.key(r, g), toll{kind: kind, from: from, key: l.address(r), n: 1}
	client := toll{kind: kind, from: from, key: who, n: n}
	if n == 1 && who == paid.key {
		client.n = 0 // it has paid
	} else {
		from.Return(paid.key, 1)
		paid.n = 0
	}
	tolls := [3]toll{client, {kind: limitGranted, from: l.granted, key: who, n: n, own: own}}
	if kind == limitPublish {
		tolls[2] = toll{kind: limitNodePublish, from: l.nodePublishes, key: allOf, n: n}
	}
	over, wait := pay(time.Now(), tolls[:])
	if wait == 0 {
		return nil
	}
	from.Return(paid.key, paid.n)
	return l.refuse(over, r, wait)
}

// sent takes what n bytes cost that r sends.
func (l *limits) sent(r *http.Request, g Grant, n int) *Problem {
	if l.bytes == nil && l.nodeBytes == nil {
		return nil
	}
	tolls := l.bytesOf(l.key(r, g), n)
	if over, wait := pay(time.Now(), tolls[:]); wait > 0 {
		return l.refuse(over, r, wait)
	}
	return nil
}

func (l *limits) bytesOf(k middleware.Key, n int) [2]toll {
	return [2]toll{{kind: limitBytes, from: l.bytes, key: k, n: n}, {kind: limitNodeBytes, from: l.nodeBytes, key: allOf, n: n}}
}

// take takes one token of a client.
func (l *limits) take(kind limitKind, k middleware.Key) *Problem {
	return l.spend([]toll{{kind: kind, from: l.of(kind), key: k, n: 1}})
}

// command takes what a command of n bytes costs a client that has a session.
func (l *limits) command(k middleware.Key, g Grant, n int) *Problem {
	b := l.bytesOf(k, n)
	return l.spend([]toll{{kind: limitCommand, from: l.commands, key: k, n: 1},
		{kind: limitGranted, from: l.granted, key: k, n: 1, own: rateOf(g)}, b[0], b[1]})
}

// publish takes what a message costs a client that has a session, and has paid for the command.
func (l *limits) publish(k middleware.Key) *Problem {
	return l.spend([]toll{{kind: limitPublish, from: l.publishes, key: k, n: 1},
		{kind: limitNodePublish, from: l.nodePublishes, key: allOf, n: 1}})
}

func (l *limits) spend(tolls []toll) *Problem {
	over, wait := pay(time.Now(), tolls)
	if wait == 0 {
		return nil
	}
	l.refused[over].Add(1)
	return limited(over, wait)
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

// refuse answers a request that comes too soon.
func (l *limits) refuse(kind limitKind, r *http.Request, wait time.Duration) *Problem {
	l.refused[kind].Add(1)
	p := limited(kind, wait)
	if p.Code == RateLimited {
		l.hint(r)
	}
	return p
}

// hint says once what may be behind a client that is over a limit: that all clients of a proxy count as one.
func (l *limits) hint(r *http.Request) {
	if !l.proxies && len(r.Header["X-Forwarded-For"]) > 0 && !l.warned.Swap(true) {
		l.log.Warn("a client was over its rate and may be a proxy, whose clients count as one: see the setting trusted-proxies",
			"address", l.clients.Addr(r))
	}
}

// full is the problem of those who come while the node has as much of something as it may.
func (l *limits) full(kind limitKind, what string) *Problem {
	l.refused[kind].Add(1)
	return problem(AtCapacity, "this node has as many "+what+" as it may; come back later")
}

// tooFast is the problem of a connection whose commands come faster than l lets them.
func tooFast(l *rate.Limiter) *Problem {
	p := problem(RateLimited, "too many commands; slow down")
	p.Retry = time.Duration((1 - l.Tokens()) / float64(l.Limit()) * float64(time.Second))
	return p
}

// limited is the problem of those who come too soon.
func limited(kind limitKind, wait time.Duration) *Problem {
	p := problem(RateLimited, "more than this client may do; wait as long as it says")
	if kind >= limitNode {
		p = problem(AtCapacity, "more than this node takes from all its clients; wait as long as it says")
	}
	p.Retry = wait
	return p
}
