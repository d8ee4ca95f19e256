package redis

import (
	"fmt"
	"log/slog"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"sluice/otel"
)

// Config says where Redis is and how patient a Backend is with it. The zero value of a field is
// DefaultConfig's.
type Config struct {
	// URL is redis://, rediss:// (TLS) or unix://, with user, password and database:
	// redis://user:secret@host:6379/0. Pub/Sub and functions know no databases: two Sluices on one
	// Redis need different prefixes.
	URL string
	// CAFile is a PEM file with the certificates that sign the server's, for rediss://; default: the system's.
	CAFile string
	// CertFile and KeyFile are PEM files, the node's certificate and its private key, for a server that asks for
	// one; default: none. All three files are read once, by New.
	CertFile string
	KeyFile  string
	// Prefix begins the keys. The public function sluice_publish knows only the default, "sluice".
	Prefix string
	// ChannelPrefix begins the Redis channels that plain PUBLISH uses; default none. With "live:"
	// the message of PUBLISH live:news reaches the channel news.
	ChannelPrefix string
	// MaxPayload is how many bytes a payload from others may have; default 1 MiB. Larger ones are dropped and counted.
	MaxPayload int

	// IdempotencyWindow is how long an ID given by a publisher is known; default 5 min.
	IdempotencyWindow time.Duration
	// MetaAge is how long a channel's last position is kept after its last use; default 24 h.
	MetaAge time.Duration

	DialTimeout    time.Duration // until a connection is up; default 2 s
	CommandTimeout time.Duration // of one round trip; default 2 s
	PublishTimeout time.Duration // of a Publish with its retries, if its context has no earlier end; default 3 s

	// AskTimeout is how long Ask waits for a node to say that it has what is asked for; default 1 s.
	AskTimeout time.Duration

	// PingInterval is how often an idle Pub/Sub connection is asked for a sign of life; default 1 s.
	PingInterval time.Duration
	// LinkTimeout is the longest silence of a Pub/Sub connection, pongs included; default 3 s.
	LinkTimeout time.Duration
	// LoopbackInterval is the silence after which a Pub/Sub connection must deliver a message that
	// the node publishes to itself, and how long that may take; default 5 s.
	LoopbackInterval time.Duration
	// VerifyInterval is how often the sink is asked to compare its channels with the history; default 5 s.
	VerifyInterval time.Duration
	// LeaveDelay is how long a channel that was left stays subscribed, in case it is joined again; default 200 ms.
	LeaveDelay time.Duration

	ChannelsPerConn int // on one Pub/Sub connection; default 50,000
	PublishWorkers  int // publishing connections; a channel keeps to one of them, for its order; default 4
	PublishQueue    int // messages that may wait for a worker; more make Publish wait; default 1024

	// NoFunctions uses EVALSHA where FCALL would be used. Servers that know no functions (Redis 6)
	// are recognised without it; there the public function does not exist.
	NoFunctions bool
	// Clock is given the estimate of how far Redis' clock is from it, by which publish times are told; nil: nobody wants to know.
	Clock *otel.Clock
	// ClockInterval is how often that is estimated; default 10 s.
	ClockInterval time.Duration
	// Logger gets connection losses and their ends, nothing per message; nil discards.
	Logger *slog.Logger
}

// DefaultConfig returns the defaults, for a Redis on this machine.
func DefaultConfig() Config {
	return Config{
		URL:               "redis://127.0.0.1:6379",
		Prefix:            "sluice",
		MaxPayload:        1 << 20,
		IdempotencyWindow: 5 * time.Minute,
		MetaAge:           24 * time.Hour,
		DialTimeout:       2 * time.Second,
		CommandTimeout:    2 * time.Second,
		PublishTimeout:    3 * time.Second,
		AskTimeout:        time.Second,
		PingInterval:      time.Second,
		LinkTimeout:       3 * time.Second,
		LoopbackInterval:  5 * time.Second,
		VerifyInterval:    5 * time.Second,
		LeaveDelay:        200 * time.Millisecond,
		ClockInterval:     10 * time.Second,
		ChannelsPerConn:   50_000,
		PublishWorkers:    4,
		PublishQueue:      1024,
		Logger:            slog.New(slog.DiscardHandler),
	}
}

// complete puts the defaults where nothing was set and refuses what can't work.
func (c *Config) complete() error {
	d := DefaultConfig()
	for _, f := range []struct {
		value *string
		def   string
	}{{&c.URL, d.URL}, {&c.Prefix, d.Prefix}} {
		if *f.value == "" {
			*f.value = f.def
		}
	}
	for _, f := range []struct {
		value *int
		def   int
	}{
		{&c.MaxPayload, d.MaxPayload}, {&c.ChannelsPerConn, d.ChannelsPerConn},
		{&c.PublishWorkers, d.PublishWorkers}, {&c.PublishQueue, d.PublishQueue},
	} {
		if *f.value <= 0 {
			*f.value = f.def
		}
	}
	for _, f := range []struct {
		value *time.Duration
		def   time.Duration
	}{
		{&c.IdempotencyWindow, d.IdempotencyWindow}, {&c.MetaAge, d.MetaAge}, {&c.DialTimeout, d.DialTimeout},
		{&c.CommandTimeout, d.CommandTimeout}, {&c.PublishTimeout, d.PublishTimeout}, {&c.AskTimeout, d.AskTimeout}, {&c.PingInterval, d.PingInterval},
		{&c.LinkTimeout, d.LinkTimeout}, {&c.LoopbackInterval, d.LoopbackInterval},
		{&c.VerifyInterval, d.VerifyInterval}, {&c.LeaveDelay, d.LeaveDelay}, {&c.ClockInterval, d.ClockInterval},
	} {
		if *f.value <= 0 {
			*f.value = f.def
		}
	}
	if c.Logger == nil {
		c.Logger = d.Logger
	}
	// Braces in the prefixes would move a channel's keys to another slot and make raw channels look like ours.
	for _, p := range []string{c.Prefix, c.ChannelPrefix} {
		if strings.ContainsAny(p, "{} \x00\r\n") {
			return fmt.Errorf("redis prefix %q: no braces, spaces or line breaks, please", p)
		}
	}
	if c.LinkTimeout <= c.PingInterval {
		return fmt.Errorf("redis link timeout %v must be longer than the ping interval %v", c.LinkTimeout, c.PingInterval)
	}
	return nil
}

// options returns what go-redis is to do. It is kept from repeating commands on its own: a publish
// is repeated by us, with its ID, and a Pub/Sub connection that broke must be known to have broken.
func (c *Config) options() (*goredis.Options, error) {
	o, err := parseURL(c.URL)
	if err != nil {
		return nil, err
	}
	if err := c.secure(o.TLSConfig); err != nil {
		return nil, err
	}
	o.Protocol = 2
	o.DisableIdentity = true
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	o.ContextTimeoutEnabled = true
	o.MaxRetries = -1
	o.DialerRetries = 1
	o.DialTimeout = c.DialTimeout
	o.ReadTimeout = c.CommandTimeout
	o.WriteTimeout = c.CommandTimeout
	o.PoolTimeout = c.CommandTimeout
	o.PoolSize = c.PublishWorkers + 12 // the broker's readers and the probes
	return o, nil
}
