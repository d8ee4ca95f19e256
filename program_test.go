package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// node is a Program that runs.
type node struct {
	*Program
	base string
	stop context.CancelFunc
	done chan error
}

// startNode runs a node with these settings on a free port, until the test ends at the latest.
func startNode(t testing.TB, args ...string) *node {
	t.Helper()
	return startNodeAs(t, func(*Program) {}, args...)
}

// startNodeAs starts a node after prepare has changed something in it.
func startNodeAs(t testing.TB, prepare func(*Program), args ...string) *node {
	t.Helper()
	l, err := loadText(t, "", nil, append([]string{"--listen=127.0.0.1:0", "--drain-time=0"}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	p, err := NewProgram(l, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	prepare(p)
	if err := p.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	n := &node{Program: p, base: "http://" + p.Addr().String(), stop: stop, done: make(chan error, 1)}
	if p.tls != nil {
		n.base = "https://" + p.Addr().String()
	}
	go func() { n.done <- p.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		n.wait(t)
	})
	return n
}

// wait returns when the node has ended.
func (n *node) wait(t testing.TB) {
	t.Helper()
	select {
	case err := <-n.done:
		n.done <- err // for whoever waits next
		if err != nil {
			t.Errorf("the node ended with %v", err)
		}
	case <-time.After(patience):
		t.Error("the node does not end")
	}
}

func get(t *testing.T, client *http.Client, url string) (int, string) {
	t.Helper()
	res, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

func TestOpenAndClosed(t *testing.T) {
	open, closed := startNode(t, "--dev"), startNode(t)
	if status, _ := get(t, http.DefaultClient, open.base+"/"); status != http.StatusOK {
		t.Errorf("demo page with --dev: got %d, want 200", status)
	}
	if status, _ := get(t, http.DefaultClient, closed.base+"/"); status != http.StatusNotFound {
		t.Errorf("demo page without --dev: got %d, want 404", status)
	}
	for _, what := range []string{"GET /sse?channel=news", "POST /publish/news"} {
		method, path, _ := strings.Cut(what, " ")
		req, err := http.NewRequestWithContext(t.Context(), method, closed.base+path, strings.NewReader(""))
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || res.StatusCode != http.StatusUnauthorized || !bytes.Contains(body, []byte("credentials are needed")) {
			t.Errorf("%s: got %d %s %v, want 401 and why", what, res.StatusCode, body, err)
		}
	}
	if status, body := get(t, http.DefaultClient, closed.base+"/readyz"); status != http.StatusOK {
		t.Errorf("readyz: got %d %s", status, body)
	}
}

// TestDrain: a node that stops tells its clients first, and ends without an error.
func TestDrain(t *testing.T) {
	n := startNode(t, "--dev")
	res, err := http.Get(n.base + "/sse?channel=news")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	stop := time.AfterFunc(patience, func() { res.Body.Close() })
	defer stop.Stop()
	var told bool
	for lines := bufio.NewScanner(res.Body); lines.Scan(); {
		switch lines.Text() {
		case "event: welcome":
			n.stop()
		case "event: reconnect":
			told = true
		}
	}
	if !told {
		t.Error("the stream ended without event: reconnect")
	}
	n.wait(t)
}

func TestPortTaken(t *testing.T) {
	n := startNode(t)
	_, errs, code := shell(t, "", "--listen", n.Addr().String())
	if code != exitError || !strings.Contains(errs, "listen ("+n.Addr().String()+"): ") || !strings.Contains(errs, "address already in use") {
		t.Errorf("exit code %d, %s", code, errs)
	}
}

// certificate writes a self-signed certificate for 127.0.0.1 and returns the names of its two files.
func certificate(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	certDER, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	return write("cert.pem", "CERTIFICATE", certDER), write("key.pem", "PRIVATE KEY", keyDER)
}

func TestTLS(t *testing.T) {
	cert, key := certificate(t)
	n := startNode(t, "--dev", "--tls-cert", cert, "--tls-key", key)
	client := &http.Client{Transport: &http.Transport{
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
		ForceAttemptHTTP2: true,
	}}
	defer client.CloseIdleConnections()
	res, err := client.Get(n.base + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.ProtoMajor != 2 {
		t.Errorf("got %s, want HTTP/2", res.Proto)
	}
	if _, errs, code := shell(t, "", "health", "--tls-cert", cert, "--tls-key", key, "--listen", n.Addr().String()); code != 0 {
		t.Errorf("health: exit code %d, %s", code, errs)
	}
}

func TestGreeting(t *testing.T) {
	tests := []struct {
		name string
		args []string
		ip   net.IP
		want string
	}{
		{"memory", []string{"--dev"}, net.IPv4(127, 0, 0, 1), `
  Sluice is running for development, open to everyone on this machine.

  page     http://127.0.0.1:8080/
  listen   curl -N 'http://127.0.0.1:8080/sse?channel=news'
  publish  curl -d hello http://127.0.0.1:8080/publish/news

`},
		{"redis, everywhere", []string{"--dev", "--demo=false", "--redis=redis://:hunter2@r:6379", "--redis-channel-prefix=app:"}, net.IPv6unspecified, `
  Sluice is running for development, open to everyone who reaches [::]:8080.

  listen   curl -N 'http://127.0.0.1:8080/sse?channel=news'
  publish  curl -d hello http://127.0.0.1:8080/publish/news
  redis    redis-cli -u 'redis://:***@r:6379' PUBLISH app:news hello

`},
		{"TLS", []string{"--dev", "--tls-cert=c", "--tls-key=k"}, net.IPv6loopback, `
  Sluice is running for development, open to everyone on this machine.

  page     https://[::1]:8080/
  listen   curl -k -N 'https://[::1]:8080/sse?channel=news'
  publish  curl -k -d hello https://[::1]:8080/publish/news

`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l, err := loadText(t, "", nil, tt.args...)
			if err != nil {
				t.Fatal(err)
			}
			var out strings.Builder
			greet(&out, &l.Config, &net.TCPAddr{IP: tt.ip, Port: 8080})
			if out.String() != tt.want {
				t.Errorf("got %s\nwant %s", out.String(), tt.want)
			}
		})
	}
}

// TestAnnounce: what a node says to the log about how open it is.
func TestAnnounce(t *testing.T) {
	local, public := net.IPv4(127, 0, 0, 1), net.IPv4zero
	tests := []struct {
		name string
		args []string
		ip   net.IP
		want string
		not  string
	}{
		{"dev", []string{"--dev"}, local, "msg=listening address=127.0.0.1:8080 tls=false backend=memory", "level=WARN"},
		{"dev for everyone", []string{"--dev"}, public, "OPEN TO EVERYONE", "closed"},
		{"closed", nil, public, "closed to everyone: nothing is set up", "OPEN"},
		{"alone", nil, local, "no redis is set", "OPEN"},
		{"not alone", []string{"--redis=redis://:hunter2@r"}, local, "backend=redis://:***@r", "no redis is set"},
		{"JSON", []string{"--log-format=json"}, local, `"msg":"listening"`, "msg="},
		{"level", []string{"--log-level=warn"}, local, "closed", "listening"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l, err := loadText(t, "", nil, tt.args...)
			if err != nil {
				t.Fatal(err)
			}
			var log strings.Builder
			announce(newLogger(&log, &l.Config), &l.Config, &net.TCPAddr{IP: tt.ip, Port: 8080})
			if s := log.String(); !strings.Contains(s, tt.want) || strings.Contains(s, tt.not) {
				t.Errorf("want %q and not %q in\n%s", tt.want, tt.not, s)
			}
		})
	}
}

// Connections are broken on request by nodes for development, and no setting has others do it.
func TestOnlyDevBreaks(t *testing.T) {
	for _, tt := range []struct {
		flags  string
		status int
	}{
		{"--dev", http.StatusNoContent},
		{"--dev --demo=false", http.StatusNoContent},
		{"--demo", http.StatusNotFound},
		{"--jwt-secret=0123456789abcdef0123456789abcdef --demo", http.StatusNotFound},
	} {
		n := startNode(t, strings.Fields(tt.flags)...)
		res, err := http.Post(n.base+"/dev/break", "application/json", strings.NewReader(`{"transport":"ws","do":"heal"}`))
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != tt.status {
			t.Errorf("%s: %d, want %d", tt.flags, res.StatusCode, tt.status)
		}
	}
}
