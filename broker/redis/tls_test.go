package redis

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/broker"
	"sluice/broker/redistest"
)

// logBuffer keeps what is logged.
type logBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// logger logs everything there is.
func (l *logBuffer) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func TestTLS(t *testing.T) {
	authority, stranger := redistest.NewTLS(t), redistest.NewTLS(t)
	s := redistest.StartTLS(t, authority)
	withPassword := strings.Replace(s.URL(), "rediss://", "rediss://default:hunter2@", 1)
	if err := s.Client().ConfigSet(t.Context(), "requirepass", "hunter2").Err(); err != nil {
		t.Fatal(err)
	}
	use := func(ca, cert, key string) func(*Config) {
		return func(c *Config) { c.URL, c.CAFile, c.CertFile, c.KeyFile = withPassword, ca, cert, key }
	}
	t.Run("right", func(t *testing.T) {
		b, r := run(t, s, use(authority.CA, authority.ClientCert, authority.ClientKey))
		join(t, b, r, "news")
		publish(t, b, "news", "x", broker.PublishOptions{})
		until(t, "delivered", func() bool { return r.payloads("news") == "x" })
		revoke(t, b, hour("x"))
		until(t, "revoked", func() bool { return r.knows(broker.ByToken, "x") })
		if err := b.Probe(t.Context()); err != nil {
			t.Error(err)
		}
	})
	for _, tt := range []struct {
		name   string
		adjust func(*Config)
		want   string // in the log. What a server says before it closes may get lost
	}{
		{"wrong authority", use(stranger.CA, authority.ClientCert, authority.ClientKey), "certificate signed by unknown authority"},
		{"authorities of the system", use("", authority.ClientCert, authority.ClientKey), "certificate signed by unknown authority"},
		{"certificate of a stranger", use(authority.CA, stranger.ClientCert, stranger.ClientKey), "unknown certificate authority|connection reset|EOF"},
		{"no certificate", use(authority.CA, "", ""), "certificate required|connection reset|EOF"},
		{"no TLS", func(c *Config) { c.URL = strings.Replace(withPassword, "rediss:", "redis:", 1) }, "EOF|connection reset"},
		{"another host", func(c *Config) {
			use(authority.CA, authority.ClientCert, authority.ClientKey)(c)
			c.URL = strings.Replace(withPassword, "127.0.0.1", "localhost", 1)
		}, "certificate is not valid for any names"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var log logBuffer
			b, _ := run(t, s, func(c *Config) { tt.adjust(c); c.Logger = log.logger(); c.PublishTimeout = 200 * time.Millisecond })
			want := regexp.MustCompile(tt.want)
			lost := func() bool {
				for line := range strings.Lines(log.String()) {
					if strings.Contains(line, "connection lost") && want.MatchString(line) {
						return true
					}
				}
				return false
			}
			until(t, "told in the log: "+tt.want, func() bool {
				if strings.Contains(log.String(), "connection lost") && !lost() {
					t.Fatalf("want %q in the log:\n%s", tt.want, log.String())
				}
				return lost()
			})
			_, err := b.Publish(t.Context(), &broker.Message{Channel: "news", Data: []byte("x")}, broker.PublishOptions{})
			if !isUnavailable(err) {
				t.Errorf("publish: got %v", err)
			}
			if strings.Contains(log.String()+err.Error(), "hunter2") {
				t.Errorf("the password is told: %v\n%s", err, log.String())
			}
			t.Log(err)
		})
	}
}

func TestTLSFiles(t *testing.T) {
	c := redistest.NewTLS(t)
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, []byte("no certificate\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, url, ca, cert, key, want string }{
		{"no TLS", "redis://:hunter2@h", c.CA, "", "", "not rediss://"},
		{"authority not there", "rediss://:hunter2@h", "/nonexistent", "", "", "no such file"},
		{"authority without a certificate", "rediss://:hunter2@h", empty, "", "", "none in PEM"},
		{"certificate without a key", "rediss://:hunter2@h", "", c.ClientCert, "", "read client certificate"},
		{"certificate and another's key", "rediss://:hunter2@h", "", c.ClientCert, c.ServerKey, "private key does not match"},
	} {
		_, err := New(Config{URL: tt.url, CAFile: tt.ca, CertFile: tt.cert, KeyFile: tt.key})
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: got %v, want %q and no password", tt.name, err, tt.want)
		}
	}
}

// TestURLErrorsTellNoPassword: a password that was not escaped may be anywhere in a URL.
func TestURLErrorsTellNoPassword(t *testing.T) {
	for _, url := range []string{
		"redis://u:hunter2%zz@h", "redis://u:hun/hunter2@h", "redis://u:11/hunter2@h", "redis://u:11?hunter2@h", "redis://u:11?x=hunter2@h", "redis://u:11#hunter2@h",
		"redis://u:hunter2@h:port", "redis:u:hunter2@h", "http://u:hunter2@h", "redis://u:hunter2@h/x", "redis://u:hunter2@h?y=1", "redis://u:hunter2@h/1/2",
	} {
		if _, err := New(Config{URL: url}); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: got %v", url, err)
		}
	}
}

func TestWrongPassword(t *testing.T) {
	s := redistest.Start(t)
	if err := s.Client().ConfigSet(t.Context(), "requirepass", "right").Err(); err != nil {
		t.Fatal(err)
	}
	var log logBuffer
	b, _ := run(t, s, func(c *Config) {
		c.URL = "redis://default:hunter2@" + s.Addr()
		c.Logger = log.logger()
		c.VerifyInterval = 100 * time.Millisecond
	})
	until(t, "told in the log", func() bool {
		return strings.Contains(log.String(), "connection lost") && strings.Contains(log.String(), "WRONGPASS")
	})
	_, err := b.Publish(t.Context(), &broker.Message{Channel: "news", Data: []byte("x")}, broker.PublishOptions{})
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	told := log.String() + "\n" + err.Error()
	for name, err := range map[string]error{"publish": err, "revoke": b.Revoke(t.Context(), hour("x")), "probe": b.Probe(ctx)} {
		if !isUnavailable(err) {
			t.Errorf("%s: got %v, want ErrUnavailable: the password may be put right", name, err)
		}
		told += err.Error() + "\n"
	}
	if strings.Contains(told, "hunter2") {
		t.Errorf("the password is told:\n%s", told)
	}
}
