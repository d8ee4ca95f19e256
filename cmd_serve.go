package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os/signal"
	"strconv"
	"syscall"

	"sluice/otel"
)

func serveCommand() *command {
	flags := newFlags("serve")
	addSettings(flags)
	return &command{"serve", "[SETTINGS]", "serve; what sluice does without a command", flags,
		func(ctx context.Context, t *terminal, args []string) error {
			if len(args) > 0 {
				return usagef("sluice serve takes no arguments; remove %q", args[0])
			}
			l, err := load(flags, t.env)
			if err != nil {
				return err
			}
			return serve(ctx, t, l)
		}}
}

func serve(ctx context.Context, t *terminal, l *Loaded) error {
	c := &l.Config
	log := newLogger(t.err, c)
	p, err := NewProgram(l, log)
	if err != nil {
		return err
	}
	if p.watch != nil { // else SIGHUP ends the program, as of a terminal that is closed
		signal.Notify(p.watch.hangup, syscall.SIGHUP)
		defer signal.Stop(p.watch.hangup)
	}
	if err := p.Listen(); err != nil {
		return err
	}
	announce(log, c, p.Addr())
	announceAdmin(log, p.AdminAddr())
	if c.Dev {
		greet(t.out, c, p.Addr())
	}
	err = p.Run(ctx)
	if err == nil {
		log.Info("stopped")
	}
	return err
}

// announce says where the node listens, and what its operator has to know about that.
func announce(log *slog.Logger, c *Config, addr *net.TCPAddr) {
	log.Info("listening", "address", addr.String(), "tls", c.TLSCert != "", "backend", backendName(c))
	switch {
	case c.Dev && !addr.IP.IsLoopback():
		log.Warn("OPEN TO EVERYONE: whoever reaches this address may listen and publish; run --dev without --listen, or keep strangers out",
			"address", addr.String())
	case c.closed():
		log.Warn("closed to everyone: nothing is set up that could let anyone in; start with --dev for an open development node, or see docs/security.md")
	}
	if c.Redis == "" && !c.Dev {
		log.Warn("no redis is set: this node is alone, and its history ends with it")
	}
}

func newLogger(w io.Writer, c *Config) *slog.Logger {
	var o slog.HandlerOptions
	var level slog.Level
	if level.UnmarshalText([]byte(c.LogLevel)) == nil { // the table admits only levels
		o.Level = level
	}
	if c.LogFormat == "json" {
		return slog.New(otel.LogHandler{Handler: slog.NewJSONHandler(w, &o)})
	}
	return slog.New(otel.LogHandler{Handler: slog.NewTextHandler(w, &o)})
}

func backendName(c *Config) string {
	if c.Redis == "" {
		return "memory"
	}
	return maskURL(c.Redis)
}

// greet tells a developer where to look.
func greet(w io.Writer, c *Config, addr *net.TCPAddr) {
	host := addr.IP.String()
	if addr.IP.IsUnspecified() {
		host = "127.0.0.1"
	}
	scheme, curl := "http", "curl"
	if c.TLSCert != "" {
		scheme, curl = "https", "curl -k"
	}
	base := scheme + "://" + net.JoinHostPort(host, strconv.Itoa(addr.Port))
	where := "on this machine"
	if !addr.IP.IsLoopback() {
		where = "who reaches " + addr.String()
	}
	fmt.Fprintf(w, "\n  Sluice is running for development, open to everyone %s.\n\n", where)
	if c.Transport.Demo {
		fmt.Fprintf(w, "  page     %s/\n", base)
	}
	fmt.Fprintf(w, "  listen   %s -N '%s/sse?channel=news'\n", curl, base)
	fmt.Fprintf(w, "  publish  %s -d hello %s/publish/news\n", curl, base)
	if c.Redis != "" {
		fmt.Fprintf(w, "  redis    redis-cli -u '%s' PUBLISH %snews hello\n", maskURL(c.Redis), c.RedisChannelPrefix)
	}
	fmt.Fprintln(w)
}
