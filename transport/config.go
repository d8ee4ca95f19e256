package transport

import (
	"errors"
	"fmt"
	"time"

	"sluice/middleware"
	"sluice/otel"
)

// Config is what a Server is made with. DefaultConfig gives every default; New refuses nonsense.
type Config struct {
	Access  Access   // who may listen and publish; required
	Origins []string // pages that may connect: exact origins such as https://app.example, or "*"; empty: same origin only
	Demo    bool     // serve the demo page at /
	Faults  bool     // POST /dev/break has this node do wrong to clients; for development only

	TrustedProxies []string // whose X-Forwarded-For is believed: addresses and CIDR blocks; empty: nobody's
	AccessLog      bool     // log a line for each request
	Metrics        bool     // measure writes and publishes, for Server.Measure; the broker's Options.Arrivals belongs to it
	Admin          bool     // Server.Admin is served: measure as Metrics does, and keep a ledger of each session
	Version        string   // of the program, for the admin API and the manifest of the client library

	// PassHeaders are the headers, besides those with credentials, by which Access decides: they go along with a command that is
	// passed on to the node that has its session.
	PassHeaders []string

	RevokeFor time.Duration // how long what operators revoke is remembered, unless they say; as long as what was granted may hold

	Tracer     *otel.Tracer // makes spans of requests, messages and writes; nil: none. The broker's Options.Tracer belongs to it
	TraceTrust otel.Trust   // what a publisher's traceparent decides where there is no Tracer: TrustParent passes it on
	Clock      *otel.Clock  // of the node, the broker's too; nil is the machine's

	// Policies say how the messages of a channel are delivered; after they have been changed, call
	// Server.Reload. nil: as each subscriber wishes.
	Policies *middleware.Policies

	// Status returns what GET /readyz tells besides, in sentences: what is wrong with a node that delivers nevertheless. It
	// is called concurrently. nil: nothing.
	Status func() []string

	// Lacks returns what keeps a node that delivers from being ready: a sentence about what it has yet to learn; "" is nothing. It is
	// called concurrently. nil: nothing ever does.
	Lacks func() string

	Heartbeat     time.Duration // the longest silence that a client sees
	Retry         time.Duration // SSE retry and reconnect delays are drawn from [Retry, 2×Retry)
	Coalesce      time.Duration // under load, the longest that a message waits to share a write; 0 never waits
	Writers       int           // writer goroutines; 0 is one a core
	WriteTimeout  time.Duration // a socket that took nothing for this long while something was owed is closed
	MaxLag        time.Duration // a session whose oldest owed byte is older than this is closed; bounds trickling readers
	MaxStreamLife time.Duration // an SSE stream is told to reconnect when it is as old as this to 1.2 times this, drawn for each; 0: never
	UnsentLimit   int           // bytes that the kernel may hold unsent per connection (TCP_NOTSENT_LOWAT); 0 leaves it to the kernel
	SendBuffer    int           // bytes of kernel send buffer per connection (SO_SNDBUF); 0 leaves it to the kernel

	MaxSessions   int           // connections at once
	MaxChannels   int           // channels per connection
	MaxMessage    int           // bytes of a payload
	MaxBatch      int           // messages in one POST /publish
	MaxCommand    int           // bytes of a WebSocket message from a client
	CommandRate   float64       // commands a second per connection
	CommandBurst  int           // commands at once per connection
	HeaderTimeout time.Duration // to read a request's head, TLS handshake included
	BodyTimeout   time.Duration // to read a request's body, and for a WebSocket message to be completed
	IdleTimeout   time.Duration // how long a connection waits for its next request, HTTP/2 for its next stream
	MaxHeader     int           // bytes of a request's head
	JoinTimeout   time.Duration // how long a new session waits for the backend before it is sent away
	PublishWait   time.Duration // how long a publish may take before it is answered with 503
	PollWait      time.Duration // how long a poll is held at most, and if it does not say how long
	DrainTime     time.Duration // over which a stopping node spreads the closing of its sessions

	// Of one client, a subject or else an address, over all its connections. A rate of 0 is no limit.
	ConnectRate        float64 // new connections a second
	ConnectBurst       int     // new connections at once
	PublishRate        float64 // messages published a second
	PublishBurst       int     // messages published at once; a larger array needs a full bucket, and is paid for afterwards
	ClientCommandRate  float64 // commands a second
	ClientCommandBurst int     // commands at once
	ClientByteRate     int     // bytes of publishes and commands a second
	ClientByteBurst    int     // bytes at once; what is larger needs a full bucket, and is paid for afterwards

	AddressConnections int // at once of one address, of IPv6 a /64, whoever they belong to; 0 is no limit
	SubjectConnections int // at once of one subject; 0 is no limit

	// Of all clients together. A rate of 0 is no limit; its burst is what comes in a second.
	MaxSockets       int     // TCP connections at once, those that are no sessions too; 0 is MaxSessions and 1,024
	MaxSubscriptions int     // channels of all connections, once for each
	NodeConnectRate  float64 // new connections a second
	NodePublishRate  float64 // messages published a second
	NodeByteRate     int     // bytes of publishes and commands a second
	MemoryLimit      int     // bytes that the process may take; 0 is no limit. Set the collector's to GoMemory of it
}

// DefaultConfig returns the defaults, without Access.
func DefaultConfig() Config {
	return Config{
		Heartbeat:     10 * time.Second,
		Retry:         2 * time.Second,
		Coalesce:      time.Millisecond,
		WriteTimeout:  20 * time.Second,
		MaxLag:        time.Minute,
		MaxStreamLife: 15 * time.Minute,
		UnsentLimit:   16 << 10,
		MaxSessions:   100_000,
		MaxChannels:   64,
		MaxMessage:    1 << 20,
		MaxBatch:      1000,
		MaxCommand:    64 << 10,
		CommandRate:   50,
		CommandBurst:  100,
		ConnectBurst:  1000,
		PublishBurst:  1000,
		HeaderTimeout: 5 * time.Second,
		BodyTimeout:   30 * time.Second,
		IdleTimeout:   2 * time.Minute,
		MaxHeader:     16 << 10,
		JoinTimeout:   10 * time.Second,
		PublishWait:   2 * time.Second,
		PollWait:      20 * time.Second,
		DrainTime:     5 * time.Second,
		RevokeFor:     25 * time.Hour,

		ClientCommandBurst: 500,
		ClientByteBurst:    8 << 20,

		AddressConnections: 1000,
		MaxSubscriptions:   1_000_000,
	}
}

// answerTime is how long a request has from the end of its head until its answer is taken: for its body, for the backend, and for
// whoever asked to read. Without it one who never reads would be waited for without end.
func (c *Config) answerTime() time.Duration { return c.BodyTimeout + c.PublishWait + c.WriteTimeout }

// Measured reports whether writes and publishes are measured.
func (c *Config) Measured() bool { return c.Metrics || c.Admin }

// check returns an error that names the first field that can't work.
func (c *Config) check() error {
	switch {
	case c.Access == nil:
		return errors.New("transport: Config.Access is nil: say who may listen and publish")
	case c.Heartbeat < 100*time.Millisecond:
		return errors.New("transport: Config.Heartbeat is under 100ms")
	case c.PollWait < 0, c.MaxStreamLife < 0:
		return errors.New("transport: Config.PollWait or MaxStreamLife is negative")
	case c.MaxSessions < 1, c.MaxChannels < 1, c.MaxMessage < 1, c.MaxBatch < 1, c.MaxCommand < 1, c.MaxSubscriptions < 1:
		return errors.New("transport: a Config.Max… is under 1")
	case !(c.ConnectRate >= 0), !(c.PublishRate >= 0), !(c.ClientCommandRate >= 0), c.ClientByteRate < 0,
		!(c.NodeConnectRate >= 0), !(c.NodePublishRate >= 0), c.NodeByteRate < 0: // NaN, too
		return errors.New("transport: a Config.…Rate is no rate; 0 is no limit")
	case c.ConnectRate > 0 && c.ConnectBurst < 1, c.PublishRate > 0 && c.PublishBurst < 1, c.ClientCommandRate > 0 && c.ClientCommandBurst < 1,
		c.ClientByteRate > 0 && c.ClientByteBurst < leastByteBurst:
		return errors.New("transport: a Config.…Burst is under 1 (of bytes: 64 KiB): nobody could do anything")
	case c.AddressConnections < 0, c.SubjectConnections < 0, c.MaxSockets < 0:
		return errors.New("transport: a limit of connections is negative; 0 is none")
	case c.MemoryLimit != 0 && c.MemoryLimit < LeastMemory(c.MaxMessage):
		return fmt.Errorf("transport: Config.MemoryLimit is under %d MiB, which messages of Config.MaxMessage need", LeastMemory(c.MaxMessage)>>20)
	}
	return nil
}
