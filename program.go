package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"sluice/broker"
	"sluice/broker/memory"
	"sluice/broker/redis"
	"sluice/middleware"
	"sluice/middleware/auth"
	"sluice/otel"
	"sluice/transport"
)

// Program is one node: backend, broker, transports and the listener, put together by a Config.
// Make it with NewProgram, then Listen, then Run, once each.
type Program struct {
	config    *Config // as at the start
	log       *slog.Logger
	broker    *broker.Broker
	transport *transport.Server
	backend   broker.Backend
	tls       *tls.Config // nil: plain
	listener  net.Listener
	admin     net.Listener // nil: it is closed
	metrics   *metrics     // nil: they are off
	clock     *otel.Clock
	telemetry *otel.Telemetry
	tracer    *otel.Tracer // nil: nothing is traced
	watch     *watch       // nil: there is no settings file

	// What may change while it runs; see apply.
	inForce  atomic.Pointer[Config] // config with other channels
	policies middleware.Policies
	guard    *guard
	trouble  atomic.Pointer[string] // why the settings file is not in force; nil: it is
}

// NewProgram puts a node together. Nothing is listened to or connected yet; metrics that the OTEL_* variables want
// are exported from now on.
func NewProgram(l *Loaded, log *slog.Logger) (_ *Program, err error) {
	c := &l.Config
	p := &Program{config: c, log: log, clock: new(otel.Clock)}
	defer func() {
		if err != nil {
			p.telemetry.Shutdown(context.Background())
		}
	}()
	p.inForce.Store(c)
	p.watch = newWatch(p, l)
	if err := p.policies.Set(c.Rules()); err != nil {
		return nil, &usageError{err}
	}
	if c.TLSCert != "" {
		pair, err := tls.LoadX509KeyPair(c.TLSCert, c.TLSKey)
		if err != nil {
			return nil, usagef("tls-cert and tls-key can't be used: %w; name two PEM files that belong together", err)
		}
		p.tls = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	}
	version, _, _ := build()
	if p.telemetry, err = otel.Start(context.Background(), otel.Options{Log: log, Node: rand.Text(), Version: version}); err != nil {
		return nil, &usageError{err}
	}
	p.tracer = p.telemetry.Tracer(p.clock, p.tracing())
	if p.backend, err = newBackend(c, p.clock, log); err != nil {
		return nil, err
	}
	p.broker = broker.New(p.backend, broker.Options{
		RingMessages: c.RingMessages,
		RingBytes:    c.RingBytes,
		Linger:       c.Linger,
		MaxMessage:   c.Transport.MaxMessage,
		Logger:       log,
		Arrivals:     p.measured() || p.tracer != nil,
		Clock:        p.clock,
		Tracer:       p.tracer,
		OnRevoke:     func(list []broker.Revocation) { p.transport.Revoke(list) },
		OnAsk:        func(q broker.Question) bool { return p.transport.Asked(q) },
		History: func(channel string) (messages int, age time.Duration) {
			return p.inForce.Load().History(channel)
		},
	})
	if p.guard, err = newGuard(c, log, func(channel string) *ChannelRule { return p.inForce.Load().rule(channel) }, p.broker); err != nil {
		return nil, err
	}
	t := c.Transport
	t.RevokeFor = c.Access.MaxLifetime + c.Access.Leeway
	t.Access, t.Policies, t.Status, t.Lacks = access{p.guard.Guard}, &p.policies, p.status, p.guard.lacks
	t.PassHeaders = c.Access.WebhookHeaders
	t.Metrics, t.Admin, t.Faults = p.measured(), c.Admin != "", c.Dev
	t.Version, _, _ = build()
	t.Tracer, t.TraceTrust, t.Clock = p.tracer, otel.Trust(c.TraceTrust), p.clock
	if p.transport, err = transport.New(p.broker, t, log); err != nil {
		return nil, err
	}
	p.metrics = newMetrics(p)
	if err := p.telemetry.Export(p.sources()...); err != nil {
		return nil, &usageError{err}
	}
	return p, nil
}

// tracing says how messages are traced, if they are.
func (p *Program) tracing() otel.TracerConfig {
	c, t := p.config, otel.DefaultTracerConfig()
	t.Trust, t.Linked = otel.Trust(c.TraceTrust), c.TraceNodes == "link"
	t.Sockets, t.Detail, t.Slow = c.TraceSockets, c.TraceDetail, c.TraceSlow
	if c.Redis != "" {
		t.System = "redis"
	}
	t.Template = func(channel string) string {
		if r := p.inForce.Load().rule(channel); r != nil {
			return r.Match.String()
		}
		return ""
	}
	return t
}

func newBackend(c *Config, clock *otel.Clock, log *slog.Logger) (broker.Backend, error) {
	if c.Redis == "" {
		m := memory.DefaultConfig()
		if limit := int64(c.Transport.MemoryLimit); limit > 0 {
			m.MaxBytes = min(m.MaxBytes, limit/4)
		}
		return memory.New(m), nil
	}
	r := redis.DefaultConfig()
	r.URL, r.Prefix, r.ChannelPrefix, r.Logger = c.Redis, c.RedisPrefix, c.RedisChannelPrefix, log
	r.CAFile, r.CertFile, r.KeyFile = c.RedisCA, c.RedisCert, c.RedisKey
	r.Clock = clock
	r.MaxPayload, r.PublishTimeout = c.Transport.MaxMessage, c.Transport.PublishWait
	b, err := redis.New(r)
	if err != nil {
		return nil, usagef("redis (%s): %w; write redis://user:password@host:6379/0, and name PEM files that can be read", maskURL(c.Redis), err)
	}
	return b, nil
}

// apply puts other rules and API keys in force, for those who are connected, too. It returns an error, and changes nothing, if
// they can't be used. It must not be called concurrently.
func (p *Program) apply(rules []ChannelRule, keys []auth.APIKey) error {
	if err := fitRings(rules, p.config.RingMessages); err != nil { // not those that the file may have by now
		return err
	}
	c := *p.config
	c.Channels, c.Access.APIKeys = rules, keys
	if err := p.policies.Set(c.Rules()); err != nil {
		return err
	}
	if err := p.guard.SetKeys(keys); err != nil {
		return err
	}
	p.inForce.Store(&c)
	p.transport.Reload()
	return nil
}

// status returns what is wrong with a node that delivers nevertheless.
func (p *Program) status() []string {
	list := p.guard.status()
	if t := p.trouble.Load(); t != nil {
		list = append(list, *t)
	}
	return list
}

// Listen binds the addresses, so that a port that is taken is found before anything is started.
func (p *Program) Listen() (err error) {
	defer func() {
		if err != nil { // it will not run
			p.telemetry.Shutdown(context.Background())
		}
	}()
	l, err := net.Listen("tcp", p.config.Listen)
	if err != nil {
		return fmt.Errorf("listen (%s): %w", p.config.Listen, err)
	}
	p.listener = l
	if err := p.metrics.listen(); err != nil {
		_ = l.Close()
		return err
	}
	if p.config.Admin == "" {
		return nil
	}
	if p.admin, err = net.Listen("tcp", p.config.Admin); err != nil {
		_ = l.Close()
		p.metrics.close()
		return fmt.Errorf("admin (%s): %w", p.config.Admin, err)
	}
	return nil
}

// Addr returns the address that Listen bound.
func (p *Program) Addr() *net.TCPAddr { return p.listener.Addr().(*net.TCPAddr) }

// AdminAddr returns the address of the admin API that Listen bound, nil if it is closed.
func (p *Program) AdminAddr() *net.TCPAddr {
	if p.admin == nil {
		return nil
	}
	return p.admin.Addr().(*net.TCPAddr)
}

// Run serves until ctx ends, then drains and returns nil. An error of the broker or of a server ends
// it too, and is returned.
//
// The broker is started first and stopped last: what is owed is written while the node drains, and
// a publish that has begun can still be acknowledged. The admin API answers as long as there are sessions. Last of all
// what is to be told of that is exported.
func (p *Program) Run(ctx context.Context) error {
	if limit := p.config.Transport.MemoryLimit; limit > 0 {
		before := debug.SetMemoryLimit(-1)
		debug.SetMemoryLimit(min(before, transport.GoMemory(limit))) // GOMEMLIMIT may ask for less
		defer debug.SetMemoryLimit(before)
	}
	brokerCtx, stopBroker := context.WithCancel(context.WithoutCancel(ctx))
	defer stopBroker()
	serveCtx, stopServing := context.WithCancel(ctx)
	defer stopServing()
	tracing := p.trace(brokerCtx)
	broken := make(chan error, 1)
	go func() {
		err := p.broker.Run(brokerCtx)
		if brokerCtx.Err() == nil {
			if err == nil {
				err = errors.New("broker ended by itself")
			}
			stopServing() // without a broker there is nothing to serve
		}
		broken <- err
	}()
	var beside sync.WaitGroup
	p.guard.run(brokerCtx, &beside)
	defer p.guard.close()
	if p.watch != nil {
		beside.Go(func() { p.watch.run(serveCtx) })
	}
	var administered error
	if p.admin != nil {
		beside.Go(func() {
			if administered = serveAdmin(brokerCtx, p.admin, p.transport.Admin(), p.log); administered != nil {
				stopServing()
			}
		})
	}
	measured := p.metrics.serve(brokerCtx, stopServing)
	served := p.transport.Serve(serveCtx, p.listener, p.tls)
	stopServing()
	stopBroker()
	err := errors.Join(served, <-broken, measured())
	beside.Wait()
	err = errors.Join(err, administered)
	if c, ok := p.backend.(io.Closer); ok {
		err = errors.Join(err, c.Close())
	}
	tracing()
	return err
}

// trace has spans made until ctx ends. The function that it returns waits for that, and has them exported.
func (p *Program) trace(ctx context.Context) (wait func()) {
	var running sync.WaitGroup
	if p.tracer != nil {
		running.Go(func() { p.tracer.Run(ctx) })
	}
	return func() {
		running.Wait()
		p.telemetry.Shutdown(context.WithoutCancel(ctx))
	}
}
