package transport

import (
	"context"
	"io"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"

	"sluice/broker"
	"sluice/broker/memory"
)

// BenchmarkPublishHandler is one POST /publish/{channel} through the whole chain, without sockets.
func BenchmarkPublishHandler(b *testing.B) {
	for _, bench := range []struct {
		name   string
		change func(*Config)
	}{
		{"default", func(*Config) {}},
		{"limits", func(c *Config) { c.PublishRate, c.PublishBurst = 1e6, 1e6 }},
		{"limits behind a proxy", func(c *Config) { c.PublishRate, c.PublishBurst, c.TrustedProxies = 1e6, 1e6, []string{"192.0.2.0/24"} }},
		{"access log", func(c *Config) { c.AccessLog = true }},
	} {
		b.Run(bench.name, func(b *testing.B) {
			c := DefaultConfig()
			c.Access = everyone{}
			bench.change(&c)
			br := broker.New(memory.New(memory.DefaultConfig()), broker.Options{})
			ctx, stop := context.WithCancel(context.Background())
			ran := make(chan error, 1)
			go func() { ran <- br.Run(ctx) }()
			defer func() { stop(); <-ran }()
			s, err := New(br, c, slog.New(slog.NewJSONHandler(io.Discard, nil)))
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = s.poller.file.Close() }()
			b.ReportAllocs()
			for b.Loop() {
				r := httptest.NewRequest("POST", "/publish/a?live=1", strings.NewReader("hello"))
				r.Header.Set("X-Forwarded-For", "203.0.113.1")
				w := httptest.NewRecorder()
				s.handler.ServeHTTP(w, r)
				if w.Code != 200 {
					b.Fatal(w.Code, w.Body)
				}
			}
		})
	}
}
