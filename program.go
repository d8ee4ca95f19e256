package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"

	"sluice/broker"
	"sluice/broker/memory"
	"sluice/broker/redis"
	"sluice/transport"
)

// Program is one node: backend, broker, transports and the listener, put together by a Config.
// Make it with NewProgram, then Listen, then Run, once each.
type Program struct {
	config    *Config
	log       *slog.Logger
	broker    *broker.Broker
	transport *transport.Server
	backend   broker.Backend
	tls       *tls.Config // nil: plain
	listener  net.Listener
}

// NewProgram puts a node together. Nothing is listened to or connected yet.
func NewProgram(c *Config, log *slog.Logger) (*Program, error) {
	p := &Program{config: c, log: log}
	if c.TLSCert != "" {
		pair, err := tls.LoadX509KeyPair(c.TLSCert, c.TLSKey)
		if err != nil {
			return nil, usagef("tls-cert and tls-key can't be used: %w; name two PEM files that belong together", err)
		}
		p.tls = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	}
	var err error
	if p.backend, err = newBackend(c, log); err != nil {
		return nil, err
	}
	p.broker = broker.New(p.backend, broker.Options{
		RingMessages: c.RingMessages,
		RingBytes:    c.RingBytes,
		Linger:       c.Linger,
		MaxMessage:   c.Transport.MaxMessage,
		Logger:       log,
		History:      c.History,
	})
	t := c.Transport
	t.Access = access(c)
	p.transport, err = transport.New(p.broker, t, log)
	return p, err
}

func newBackend(c *Config, log *slog.Logger) (broker.Backend, error) {
	if c.Redis == "" {
		return memory.New(memory.Config{}), nil
	}
	r := redis.DefaultConfig()
	r.URL, r.Prefix, r.ChannelPrefix, r.Logger = c.Redis, c.RedisPrefix, c.RedisChannelPrefix, log
	r.MaxPayload, r.PublishTimeout = c.Transport.MaxMessage, c.Transport.PublishWait
	b, err := redis.New(r)
	if err != nil {
		return nil, usagef("redis (%s): %w; write redis://user:password@host:6379/0", maskURL(c.Redis), err)
	}
	return b, nil
}

// Listen binds the address, so that a port that is taken is found before anything is started.
func (p *Program) Listen() error {
	l, err := net.Listen("tcp", p.config.Listen)
	if err != nil {
		return fmt.Errorf("listen (%s): %w", p.config.Listen, err)
	}
	p.listener = l
	return nil
}

// Addr returns the address that Listen bound.
func (p *Program) Addr() *net.TCPAddr { return p.listener.Addr().(*net.TCPAddr) }

// Run serves until ctx ends, then drains and returns nil. An error of the broker or the server ends
// it too, and is returned.
//
// The broker is started first and stopped last: what is owed is written while the node drains, and
// a publish that has begun can still be acknowledged.
func (p *Program) Run(ctx context.Context) error {
	brokerCtx, stopBroker := context.WithCancel(context.WithoutCancel(ctx))
	defer stopBroker()
	serveCtx, stopServing := context.WithCancel(ctx)
	defer stopServing()
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
	served := p.transport.Serve(serveCtx, p.listener, p.tls)
	stopBroker()
	err := errors.Join(served, <-broken)
	if c, ok := p.backend.(io.Closer); ok {
		err = errors.Join(err, c.Close())
	}
	return err
}
