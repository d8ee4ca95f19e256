package main

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"sluice/broker"
	"sluice/broker/redis"
	"sluice/middleware"
	"sluice/middleware/auth"
	"sluice/otel"
	"sluice/transport"
)

// Config is what a node runs with: every setting after flags, environment and file have been heard.
type Config struct {
	Listen    string // host:port
	Dev       bool   // open to everyone, with the demo page
	LogFormat string // text or json
	LogLevel  string // debug, info, warn or error
	TLSCert   string // file, PEM
	TLSKey    string // file, PEM
	Admin     string // host:port of the admin API; "": it is closed
	Metrics   string // host:port of the metrics; "": it is closed

	TraceTrust   string        // link, parent or ignore: what a caller's traceparent decides
	TraceNodes   string        // parent or link: how a node's spans of a message belong to its publish
	TraceSockets int           // of a message's fan-out that have spans
	TraceDetail  float64       // messages a second of which sockets have spans
	TraceSlow    time.Duration // from publish to write: beyond it a message is traced in any case; 0: none is

	Redis              string // URL; empty is the backend in memory
	RedisCA            string // file, PEM; "": the system's
	RedisCert          string // file, PEM
	RedisKey           string // file, PEM
	RedisPrefix        string // of the keys that Sluice writes
	RedisChannelPrefix string // of the Redis channels that messages are announced on

	HistoryMessages int           // kept per channel
	HistoryAge      time.Duration // how long they are kept
	RingMessages    int           // of a channel's history that this node holds in memory
	RingBytes       int           // and their bytes
	Linger          time.Duration // how long a channel stays joined after its last listener left

	Transport transport.Config // all but Access and History, which the program fills in
	Access    AccessConfig
	Channels  []ChannelRule // exceptions by channel name; the first that matches counts
}

// DefaultConfig returns what holds when nothing is configured.
func DefaultConfig() Config {
	r, t := redis.DefaultConfig(), otel.DefaultTracerConfig()
	tokens, hook := auth.DefaultTokensConfig(), auth.DefaultWebhookConfig()
	return Config{
		TraceTrust:         string(t.Trust),
		TraceNodes:         "parent",
		TraceSockets:       t.Sockets,
		TraceDetail:        t.Detail,
		TraceSlow:          t.Slow,
		Listen:             ":8080",
		LogFormat:          "text",
		LogLevel:           "info",
		RedisPrefix:        r.Prefix,
		RedisChannelPrefix: r.ChannelPrefix,
		HistoryMessages:    broker.DefaultHistoryMessages,
		HistoryAge:         broker.DefaultHistoryAge,
		RingMessages:       1024,
		RingBytes:          1 << 20,
		Linger:             5 * time.Second,
		Transport:          transport.DefaultConfig(),
		Access: AccessConfig{
			Leeway: tokens.Leeway, MaxLifetime: tokens.MaxLifetime,
			WebhookTimeout: hook.Timeout, WebhookCache: hook.Cache, WebhookStale: hook.Stale, WebhookHeaders: hook.Headers,
		},
	}
}

// devListen is where a development node listens unless told otherwise: it is open to everyone who
// reaches it, so it is reached by nobody else.
const devListen = "127.0.0.1:8080"

const (
	day  = 24 * time.Hour
	kib  = 1 << 10
	mib  = 1 << 20
	many = 1_000_000
)

// settings is the one table of settings: flags, environment, file, `sluice config` and
// docs/settings.md are all made from it. Defaults are in DefaultConfig and nowhere else.
func settings() []setting {
	all := nodeSettings()
	after := slices.IndexFunc(all, func(s setting) bool { return s.group != all[0].group })
	return slices.Insert(all, after, accessSettings()...)
}

// nodeSettings are the rows of the table but for those about access.
func nodeSettings() []setting {
	return []setting{
		{name: "listen", group: "Node", kind: kindString, check: checkListen,
			text:  "Address to listen on, HOST:PORT. With `dev` the default is " + devListen + ".",
			field: func(c *Config) any { return &c.Listen }},
		{name: "dev", group: "Node", kind: kindBool,
			text:  "Development: everyone may listen and publish, the demo page is on, only this machine is served unless `listen` says otherwise.",
			field: func(c *Config) any { return &c.Dev }},
		{name: "demo", group: "Node", kind: kindBool,
			text:  "Serve the demo page at `/`. With `dev` it is on unless set.",
			field: func(c *Config) any { return &c.Transport.Demo }},
		{name: "origins", group: "Node", kind: kindList, check: checkOrigin,
			text:  "Pages that may connect, such as `https://app.example`, or `*` for all. Empty: only pages of the node's own origin.",
			field: func(c *Config) any { return &c.Transport.Origins }},
		{name: "trusted-proxies", group: "Node", kind: kindList, check: checkProxy,
			text:  "Proxies whose `X-Forwarded-For` is believed: addresses and CIDR blocks, such as `10.0.0.0/8`. Empty: the header is ignored. See [operating](operating.md#limits-and-proxies).",
			field: func(c *Config) any { return &c.Transport.TrustedProxies }},
		{name: "tls-cert", group: "Node", kind: kindString,
			text:  "Certificate chain, a PEM file. Together with `tls-key` it turns on TLS and HTTP/2.",
			field: func(c *Config) any { return &c.TLSCert }},
		{name: "tls-key", group: "Node", kind: kindString,
			text:  "Private key of `tls-cert`, a PEM file.",
			field: func(c *Config) any { return &c.TLSKey }},
		{name: "log-format", group: "Node", kind: kindEnum, options: []string{"text", "json"},
			text:  "How logs are written to standard error.",
			field: func(c *Config) any { return &c.LogFormat }},
		{name: "log-level", group: "Node", kind: kindEnum, options: []string{"debug", "info", "warn", "error"},
			text:  "The least level that is logged.",
			field: func(c *Config) any { return &c.LogLevel }},
		{name: "access-log", group: "Node", kind: kindBool,
			text:  "Log a line for each request, and for each connection when it begins. Never with the query string.",
			field: func(c *Config) any { return &c.Transport.AccessLog }},
		{name: "admin", group: "Node", kind: kindString, check: checkAdmin,
			text:  "Address of the admin API and its page, HOST:PORT. It has no authentication: use a loopback address such as `127.0.0.1:8081`. Empty: it is closed. See [operating](operating.md#admin-api).",
			field: func(c *Config) any { return &c.Admin }},
		{name: "metrics", group: "Node", kind: kindString, check: checkMetrics,
			text:  "Address of `GET /metrics` for Prometheus, HOST:PORT such as `127.0.0.1:9464`. It has no authentication. Empty: it is closed. See [observability](observability.md).",
			field: func(c *Config) any { return &c.Metrics }},

		{name: "trace-trust", group: "Tracing", kind: kindEnum, options: []string{string(otel.TrustLink), string(otel.TrustParent), string(otel.TrustIgnore)},
			text:  "What the `traceparent` of a publisher or listener decides. `link`: nothing; the node decides, and its spans have a link to the caller's. `parent`: the trace, and whether it is sampled; only where all callers are your own. `ignore`: it is not even looked at. Who publishes through Redis is always trusted.",
			field: func(c *Config) any { return &c.TraceTrust }},
		{name: "trace-nodes", group: "Tracing", kind: kindEnum, options: []string{"parent", "link"},
			text:  "What a node's spans of a message have to do with its publish: `parent`: they are in its trace; `link`: in one of their own, with a link to it.",
			field: func(c *Config) any { return &c.TraceNodes }},
		{name: "trace-sockets", group: "Tracing", kind: kindInt, unit: "connections", min: 0, max: 1000,
			text:  "Of a sampled message, about how many connections have spans of their own on each node; other ones for each message. The slowest has them besides.",
			field: func(c *Config) any { return &c.TraceSockets }},
		{name: "trace-detail", group: "Tracing", kind: kindNumber, unit: "messages a second", min: 0, max: many,
			text:  "Of how many sampled messages a second connections have spans; of more than these there are only numbers.",
			field: func(c *Config) any { return &c.TraceDetail }},
		{name: "trace-slow", group: "Tracing", kind: kindDuration, min: 0, max: int64(time.Hour),
			text:  "A message that is written to a client so long after its publish is traced although it was not sampled, five a second at most. What a policy holds back does not count. 0: none is.",
			field: func(c *Config) any { return &c.TraceSlow }},

		{name: "redis", group: "Redis", kind: kindString, secret: true, isURL: true, check: checkRedis,
			text:  "URL of Redis: `redis://[user:password@]host:port[/db]`, `rediss://` for TLS. Empty: messages stay in the memory of this one node.",
			field: func(c *Config) any { return &c.Redis }},
		{name: "redis-ca", group: "Redis", kind: kindString,
			text:  "Certificates of those who sign Redis' certificate, a PEM file. Empty: those of the system. See [operating](operating.md#redis-with-tls).",
			field: func(c *Config) any { return &c.RedisCA }},
		{name: "redis-cert", group: "Redis", kind: kindString,
			text:  "The node's certificate for a Redis that asks for one, a PEM file.",
			field: func(c *Config) any { return &c.RedisCert }},
		{name: "redis-key", group: "Redis", kind: kindString,
			text:  "Private key of `redis-cert`, a PEM file.",
			field: func(c *Config) any { return &c.RedisKey }},
		{name: "redis-prefix", group: "Redis", kind: kindString, check: checkKeyPrefix,
			text:  "Begins every key that Sluice writes. Nodes that belong together share it; the Redis function `sluice_publish` knows only the default.",
			field: func(c *Config) any { return &c.RedisPrefix }},
		{name: "redis-channel-prefix", group: "Redis", kind: kindString, check: checkChannelPrefix,
			text:  "Put before a channel's name to get the Redis channel of plain `PUBLISH`. Empty: they are the same.",
			field: func(c *Config) any { return &c.RedisChannelPrefix }},

		{name: "history-messages", group: "History", kind: kindInt, unit: "messages", min: 1, max: many,
			text:  "Messages kept per channel for those who come back.",
			field: func(c *Config) any { return &c.HistoryMessages }},
		{name: "history-age", group: "History", kind: kindDuration, min: int64(time.Second), max: int64(30 * day),
			text:  "How long they are kept after the newest one.",
			field: func(c *Config) any { return &c.HistoryAge }},
		{name: "ring-messages", group: "History", kind: kindInt, unit: "messages", min: 16, max: many,
			text:  "The newest messages per channel that this node holds in memory. Who reads no further back costs Redis nothing.",
			field: func(c *Config) any { return &c.RingMessages }},
		{name: "ring-bytes", group: "History", kind: kindBytes, min: 4 * kib, max: kib * mib,
			text:  "Their bytes, at most. One message is always held.",
			field: func(c *Config) any { return &c.RingBytes }},
		{name: "linger", group: "History", kind: kindDuration, min: int64(time.Millisecond), max: int64(day),
			text:  "How long a channel stays in memory after its last listener left.",
			field: func(c *Config) any { return &c.Linger }},

		{name: "heartbeat", group: "Delivery", kind: kindDuration, min: int64(100 * time.Millisecond), max: int64(10 * time.Minute),
			text:  "The longest silence that a client sees. Proxies close what is silent for 30 to 60 seconds.",
			field: func(c *Config) any { return &c.Transport.Heartbeat }},
		{name: "retry", group: "Delivery", kind: kindDuration, min: int64(100 * time.Millisecond), max: int64(10 * time.Minute),
			text:  "Clients are told to come back after this to twice this, drawn for each.",
			field: func(c *Config) any { return &c.Transport.Retry }},
		{name: "coalesce", group: "Delivery", kind: kindDuration, min: 0, max: int64(100 * time.Millisecond),
			text:  "Under load, the longest that a message waits to share a write with others. 0 never waits.",
			field: func(c *Config) any { return &c.Transport.Coalesce }},
		{name: "writers", group: "Delivery", kind: kindInt, unit: "goroutines", min: 0, max: 256,
			text:  "Writer goroutines. 0 is one a core.",
			field: func(c *Config) any { return &c.Transport.Writers }},
		{name: "write-timeout", group: "Delivery", kind: kindDuration, min: int64(100 * time.Millisecond), max: int64(10 * time.Minute),
			text:  "A connection that takes nothing for this long while something is owed to it is closed.",
			field: func(c *Config) any { return &c.Transport.WriteTimeout }},
		{name: "max-lag", group: "Delivery", kind: kindDuration, min: int64(100 * time.Millisecond), max: int64(day),
			text:  "A connection whose oldest owed byte is older than this is closed, even if it still takes a byte now and then.",
			field: func(c *Config) any { return &c.Transport.MaxLag }},
		{name: "max-stream-life", group: "Delivery", kind: kindDuration, min: 0, max: int64(day),
			text:  "An SSE stream is told to reconnect when it is as old as this to 1.2 times this, drawn for each. Behind a proxy that buffers whole answers nothing else ends the streams of browsers that are gone. 0 is never.",
			field: func(c *Config) any { return &c.Transport.MaxStreamLife }},
		{name: "poll-wait", group: "Delivery", kind: kindDuration, min: int64(100 * time.Millisecond), max: int64(10 * time.Minute),
			text:  "How long a poll (`POST /poll`) is held for which there is nothing, at most and if it does not say how long. Proxies give up answers that take 30 to 60 seconds.",
			field: func(c *Config) any { return &c.Transport.PollWait }},
		{name: "unsent-limit", group: "Delivery", kind: kindBytes, min: 0, max: 16 * mib,
			text:  "What the kernel may hold unsent per connection (`TCP_NOTSENT_LOWAT`). 0 leaves it to the kernel.",
			field: func(c *Config) any { return &c.Transport.UnsentLimit }},
		{name: "send-buffer", group: "Delivery", kind: kindBytes, min: 0, max: 64 * mib,
			text:  "The kernel's send buffer per connection (`SO_SNDBUF`). 0 leaves it to the kernel.",
			field: func(c *Config) any { return &c.Transport.SendBuffer }},
		{name: "drain-time", group: "Delivery", kind: kindDuration, min: 0, max: int64(time.Hour),
			text:  "A node that stops closes its connections one by one over this time, so that they do not all come back at once.",
			field: func(c *Config) any { return &c.Transport.DrainTime }},

		{name: "max-sessions", group: "Limits", kind: kindInt, unit: "connections", min: 1, max: 10 * many,
			text:  "Connections at once.",
			field: func(c *Config) any { return &c.Transport.MaxSessions }},
		{name: "max-channels", group: "Limits", kind: kindInt, unit: "channels", min: 1, max: 10_000,
			text:  "Channels per connection.",
			field: func(c *Config) any { return &c.Transport.MaxChannels }},
		{name: "max-message", group: "Limits", kind: kindBytes, min: 1, max: 64 * mib,
			text:  "The largest payload.",
			field: func(c *Config) any { return &c.Transport.MaxMessage }},
		{name: "max-batch", group: "Limits", kind: kindInt, unit: "messages", min: 1, max: 100_000,
			text:  "Messages in one `POST /publish`.",
			field: func(c *Config) any { return &c.Transport.MaxBatch }},
		{name: "max-command", group: "Limits", kind: kindBytes, min: 256, max: 64 * mib,
			text:  "The largest WebSocket message from a client.",
			field: func(c *Config) any { return &c.Transport.MaxCommand }},
		{name: "command-rate", group: "Limits", kind: kindNumber, unit: "commands a second", min: 1, max: many,
			text:  "Commands a second per connection.",
			field: func(c *Config) any { return &c.Transport.CommandRate }},
		{name: "command-burst", group: "Limits", kind: kindInt, unit: "commands", min: 1, max: many,
			text:  "Commands at once per connection.",
			field: func(c *Config) any { return &c.Transport.CommandBurst }},
		{name: "connect-rate", group: "Limits", kind: kindNumber, unit: "connections a second", min: 0, max: many,
			text:  "New connections a second per client (a subject, else an address; IPv6: a /64). 0 is no limit. Behind a proxy set `trusted-proxies` first.",
			field: func(c *Config) any { return &c.Transport.ConnectRate }},
		{name: "connect-burst", group: "Limits", kind: kindInt, unit: "connections", min: 1, max: many,
			text:  "New connections at once per client.",
			field: func(c *Config) any { return &c.Transport.ConnectBurst }},
		{name: "publish-rate", group: "Limits", kind: kindNumber, unit: "messages a second", min: 0, max: many,
			text:  "Messages that a client may publish a second, each of an array counting. 0 is no limit.",
			field: func(c *Config) any { return &c.Transport.PublishRate }},
		{name: "publish-burst", group: "Limits", kind: kindInt, unit: "messages", min: 1, max: many,
			text:  "Messages that a client may publish at once. A larger array is taken from a client that has been quiet, and paid for afterwards.",
			field: func(c *Config) any { return &c.Transport.PublishBurst }},
		{name: "client-command-rate", group: "Limits", kind: kindNumber, unit: "commands a second", min: 0, max: many,
			text:  "Commands a second per client, over all its connections. 0 is no limit but `command-rate`.",
			field: func(c *Config) any { return &c.Transport.ClientCommandRate }},
		{name: "client-command-burst", group: "Limits", kind: kindInt, unit: "commands", min: 1, max: many,
			text:  "Commands at once per client.",
			field: func(c *Config) any { return &c.Transport.ClientCommandBurst }},
		{name: "client-byte-rate", group: "Limits", kind: kindBytes, min: 0, max: kib * mib,
			text:  "Bytes of publishes and commands that a client may send a second. 0 is no limit.",
			field: func(c *Config) any { return &c.Transport.ClientByteRate }},
		{name: "client-byte-burst", group: "Limits", kind: kindBytes, min: 64 * kib, max: kib * mib,
			text:  "Bytes that a client may send at once. What is larger is taken from a client that has been quiet, and paid for afterwards.",
			field: func(c *Config) any { return &c.Transport.ClientByteBurst }},
		{name: "address-connections", group: "Limits", kind: kindInt, unit: "connections", min: 0, max: 10 * many,
			text:  "Connections at once of one address (IPv6: a /64), whoever they belong to; and twice as many sockets, and 16. 0 is no limit, and the default with `dev`. Behind a proxy set `trusted-proxies` first.",
			field: func(c *Config) any { return &c.Transport.AddressConnections }},
		{name: "subject-connections", group: "Limits", kind: kindInt, unit: "connections", min: 0, max: 10 * many,
			text:  "Connections at once of one subject; credentials may allow fewer. 0 is no limit but theirs.",
			field: func(c *Config) any { return &c.Transport.SubjectConnections }},
		{name: "max-sockets", group: "Limits", kind: kindInt, unit: "sockets", min: 0, max: 20 * many,
			text:  "TCP connections at once, those that are no stream or WebSocket too. 0 is `max-sessions` and 1,024 more.",
			field: func(c *Config) any { return &c.Transport.MaxSockets }},
		{name: "max-subscriptions", group: "Limits", kind: kindInt, unit: "subscriptions", min: 1, max: 100 * many,
			text:  "Channels that all connections listen to, each counted once per connection.",
			field: func(c *Config) any { return &c.Transport.MaxSubscriptions }},
		{name: "node-connect-rate", group: "Limits", kind: kindNumber, unit: "connections a second", min: 0, max: many,
			text:  "New connections a second of all clients together, a second's worth of them at once. 0 is no limit.",
			field: func(c *Config) any { return &c.Transport.NodeConnectRate }},
		{name: "node-publish-rate", group: "Limits", kind: kindNumber, unit: "messages a second", min: 0, max: many,
			text:  "Messages that all clients together may publish here a second, a second's worth of them at once. 0 is no limit.",
			field: func(c *Config) any { return &c.Transport.NodePublishRate }},
		{name: "node-byte-rate", group: "Limits", kind: kindBytes, min: 0, max: kib * mib,
			text:  "Bytes of publishes and commands that all clients together may send a second, a second's worth of them at once. 0 is no limit.",
			field: func(c *Config) any { return &c.Transport.NodeByteRate }},
		{name: "memory-limit", group: "Limits", kind: kindBytes, min: 0, max: 1024 * kib * mib,
			text:  "Memory that the process may take. Near it new connections and publishes are refused until there is room again. 0 is no limit. At least 64MiB, and 32 times `max-message` more; see [operating](operating.md#memory).",
			field: func(c *Config) any { return &c.Transport.MemoryLimit }},
		{name: "max-header", group: "Limits", kind: kindBytes, min: kib, max: mib,
			text:  "The largest head of a request.",
			field: func(c *Config) any { return &c.Transport.MaxHeader }},
		{name: "header-timeout", group: "Limits", kind: kindDuration, min: int64(100 * time.Millisecond), max: int64(5 * time.Minute),
			text:  "To read a request's head, TLS handshake included.",
			field: func(c *Config) any { return &c.Transport.HeaderTimeout }},
		{name: "body-timeout", group: "Limits", kind: kindDuration, min: int64(100 * time.Millisecond), max: int64(time.Hour),
			text:  "To read a request's body.",
			field: func(c *Config) any { return &c.Transport.BodyTimeout }},
		{name: "idle-timeout", group: "Limits", kind: kindDuration, min: int64(100 * time.Millisecond), max: int64(time.Hour),
			text:  "How long a connection without a stream waits for its next request. Behind a proxy that keeps connections for longer, raise it above that.",
			field: func(c *Config) any { return &c.Transport.IdleTimeout }},
		{name: "join-timeout", group: "Limits", kind: kindDuration, min: int64(100 * time.Millisecond), max: int64(5 * time.Minute),
			text:  "How long a new connection waits for the backend before it is sent away to come back later.",
			field: func(c *Config) any { return &c.Transport.JoinTimeout }},
		{name: "publish-wait", group: "Limits", kind: kindDuration, min: int64(10 * time.Millisecond), max: int64(time.Minute),
			text:  "How long a publish may take before it is answered with 503.",
			field: func(c *Config) any { return &c.Transport.PublishWait }},
	}
}

// check returns an error for settings that are fine by themselves and wrong together.
func (c *Config) check() error {
	switch {
	case c.TLSCert != "" && c.TLSKey == "":
		return errors.New("tls-cert is set and tls-key is not; set both, or neither to serve without TLS")
	case c.TLSKey != "" && c.TLSCert == "":
		return errors.New("tls-key is set and tls-cert is not; set both, or neither to serve without TLS")
	case c.RedisCert != "" && c.RedisKey == "":
		return errors.New("redis-cert is set and redis-key is not; set both, or neither if Redis asks for no certificate")
	case c.RedisKey != "" && c.RedisCert == "":
		return errors.New("redis-key is set and redis-cert is not; set both, or neither if Redis asks for no certificate")
	case c.RedisCA+c.RedisCert != "" && !strings.HasPrefix(strings.ToLower(c.Redis), "rediss://"):
		return errors.New("redis-ca or redis-cert is set and redis is no rediss:// URL; write redis: rediss://… for TLS, or leave the certificates out")
	}
	if n, least := c.Transport.MemoryLimit, transport.LeastMemory(c.Transport.MaxMessage); n != 0 && n < least {
		return fmt.Errorf("memory-limit is %s, less than messages of max-message need; set it to at least %s, or to 0 for no limit", formatBytes(int64(n)), formatBytes(int64(least)))
	}
	return nil
}

func checkListen(s string) error {
	_, port, err := net.SplitHostPort(s)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return errors.New("write HOST:PORT such as 127.0.0.1:8080, or :8080 for all addresses")
	}
	return nil
}

// checkAdmin admits nothing at all, too.
func checkAdmin(s string) error {
	if s != "" && checkListen(s) != nil {
		return errors.New("write HOST:PORT such as 127.0.0.1:8081, or nothing to keep it closed")
	}
	return nil
}

func checkOrigin(s string) error {
	u, err := url.Parse(s)
	if s != "*" && (err != nil || u.Host == "" || s != u.Scheme+"://"+u.Host || s != strings.ToLower(s)) {
		return errors.New("write a scheme and a host in lower case, without a path, such as https://app.example, or *")
	}
	return nil
}

func checkProxy(s string) error {
	_, err := middleware.ParseProxy(s)
	return err
}

func checkRedis(s string) error {
	u, err := url.Parse(s)
	if s != "" && (err != nil || u.Scheme != "redis" && u.Scheme != "rediss" && u.Scheme != "unix" || afterHost(u, "@")) {
		return errors.New("write redis://user:password@host:6379/0 (rediss:// for TLS), special characters in the password as %XX")
	}
	return nil
}

// checkKeyPrefix admits what channel names are made of: whatever else stands in a Redis key may steer
// Cluster slots (braces) or match patterns.
func checkKeyPrefix(s string) error {
	if err := broker.CheckChannel(s); err != nil {
		return fmt.Errorf("use 1 to %d characters out of A-Z a-z 0-9 _ . : / - @ ~", broker.MaxChannel)
	}
	return nil
}

// checkChannelPrefix admits nothing at all, too.
func checkChannelPrefix(s string) error {
	if s == "" {
		return nil
	}
	return checkKeyPrefix(s)
}
