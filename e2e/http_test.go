package e2e

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// certificate makes a certificate for 127.0.0.1 and returns its files and who trusts it.
func certificate(t *testing.T) (cert, key string, trust *tls.Config) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "sluice test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, kind string, b []byte) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return write("cert.pem", "CERTIFICATE", der), write("key.pem", "PRIVATE KEY", pkcs8), &tls.Config{RootCAs: pool}
}

// TestHTTPVersions: a stream works and resumes over each version of HTTP that there is.
func TestHTTPVersions(t *testing.T) {
	t.Parallel()
	cert, key, trust := certificate(t)
	plain := startNode(t, "plain")
	secure := startNode(t, "secure", "--tls-cert", cert, "--tls-key", key)
	for _, tt := range []struct {
		name string
		base string
		http *http.Transport
		want string
	}{
		{"HTTP 1.1", plain.url(), transport(nil, (*http.Protocols).SetHTTP1), "HTTP/1.1"},
		{"h2c", plain.url(), transport(nil, (*http.Protocols).SetUnencryptedHTTP2), "HTTP/2.0"},
		{"HTTP 1.1 over TLS", "https://" + secure.addr, transport(trust, (*http.Protocols).SetHTTP1), "HTTP/1.1"},
		{"HTTP 2 over TLS", "https://" + secure.addr, transport(trust, (*http.Protocols).SetHTTP2), "HTTP/2.0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			defer tt.http.CloseIdleConnections()
			ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
			defer cancel()
			c := &http.Client{Transport: tt.http}
			res, err := c.Get(tt.base + "/healthz")
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			if res.Proto != tt.want {
				t.Fatalf("spoke %s, want %s", res.Proto, tt.want)
			}
			channel := strings.ReplaceAll(tt.name, " ", ".")
			next, token := 0, ""
			send := func(n int) {
				t.Helper()
				for i := range n {
					if _, err := publish(ctx, c, tt.base, channel, "", fmt.Sprint(next+i)); err != nil {
						t.Fatal(err)
					}
				}
			}
			for range 3 {
				st, err := openSSE(ctx, c, tt.base+"/sse?channel="+channel, token, false)
				if err != nil {
					t.Fatal(err)
				}
				if e, err := st.next(); err != nil || e.kind != "welcome" {
					t.Fatalf("got %+v, %v, want the welcome", e, err)
				}
				missed := min(next, 3) // published before this connection, but for the first one
				send(200)
				next -= missed
				for range missed + 200 {
					e, err := st.next()
					if err != nil || e.data != fmt.Sprint(next) {
						t.Fatalf("got %+v, %v, want message %d", e, err, next)
					}
					token = e.token
					next++
				}
				st.close()
				send(3)
				next += 3
			}
		})
	}
}

func transport(trust *tls.Config, set func(*http.Protocols, bool)) *http.Transport {
	p := new(http.Protocols)
	set(p, true)
	return &http.Transport{TLSClientConfig: trust, Protocols: p}
}

// TestStopWithHTTP2: streams inside an HTTP/2 connection are told and ended like any other.
func TestStopWithHTTP2(t *testing.T) {
	t.Parallel()
	n := startNode(t, "A", "--drain-time", "200ms")
	tr := transport(nil, (*http.Protocols).SetUnencryptedHTTP2)
	defer tr.CloseIdleConnections()
	var streams []*sseStream
	for i := range 20 {
		st, err := openSSE(t.Context(), &http.Client{Transport: tr}, fmt.Sprintf("%s/sse?channel=c%d", n.url(), i), "", false)
		if err != nil {
			t.Fatal(err)
		}
		defer st.close()
		streams = append(streams, st)
	}
	n.signal(syscall.SIGTERM)
	for i, st := range streams {
		var kinds []string
		var err error
		for err == nil {
			var e event
			if e, err = st.next(); err == nil {
				kinds = append(kinds, e.kind)
			}
		}
		if fmt.Sprint(kinds) != "[welcome reconnect]" || !errors.Is(err, io.EOF) {
			t.Fatalf("stream %d got %v and ended with %v, want welcome, reconnect and EOF", i, kinds, err)
		}
	}
	if code := n.wait(10 * time.Second); code != 0 {
		t.Errorf("ended with %d, want 0", code)
	}
}

// TestWSS is WebSocket over TLS, commands and a large payload included.
func TestWSS(t *testing.T) {
	t.Parallel()
	cert, key, trust := certificate(t)
	n := startNode(t, "A", "--tls-cert", cert, "--tls-key", key)
	d := websocket.Dialer{TLSClientConfig: trust, Subprotocols: []string{subprotocol}, HandshakeTimeout: 5 * time.Second}
	conn, _, err := d.DialContext(t.Context(), "wss://"+n.addr+"/ws?channel=news", nil)
	if err != nil {
		t.Fatal(err)
	}
	st := &wsStream{conn: conn, envelope: true}
	defer st.close()
	_ = conn.SetReadDeadline(time.Now().Add(deadAfter))
	if e, err := st.next(); err != nil || e.kind != "welcome" {
		t.Fatalf("got %+v, %v, want the welcome", e, err)
	}
	large := strings.Repeat("0123456789abcdef", 1<<16)
	tr := transport(trust, (*http.Protocols).SetHTTP2)
	defer tr.CloseIdleConnections()
	if _, err := publish(t.Context(), &http.Client{Transport: tr}, "https://"+n.addr, "news", "", large); err != nil {
		t.Fatal(err)
	}
	if e, err := st.next(); err != nil || e.data != large {
		t.Fatalf("got %s with %d bytes, %v, want the large message", e.kind, len(e.data), err)
	}
	if err := st.send(map[string]any{"type": "publish", "ref": 1, "channel": "news", "data": "by command"}); err != nil {
		t.Fatal(err)
	}
	var got []string // the message and the reply come in any order
	for range 2 {
		e, err := st.next()
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, e.kind+e.data)
	}
	slices.Sort(got)
	if want := []string{"messageby command", "reply"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	n.signal(syscall.SIGTERM)
	for err == nil {
		_, err = st.next()
	}
	if !websocket.IsCloseError(err, websocket.CloseServiceRestart) {
		t.Errorf("closed with %v, want 1012", err)
	}
}

// TestHTTP10 is a client, or an old proxy, that speaks HTTP/1.0.
func TestHTTP10(t *testing.T) {
	t.Parallel()
	n := startNode(t, "A")
	conn, err := net.Dial("tcp", n.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(15 * time.Second))
	if _, err := io.WriteString(conn, "GET /sse?channel=old HTTP/1.0\r\nAccept: text/event-stream\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(conn)
	res, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != 200 || len(res.TransferEncoding) > 0 || !res.Close {
		t.Fatalf("%s, transfer encoding %v, close %t; HTTP/1.0 knows no chunks", res.Status, res.TransferEncoding, res.Close)
	}
	st := newSSEReader(res.Body)
	if e, err := st.next(); err != nil || e.Type != "welcome" {
		t.Fatalf("got %+v, %v, want the welcome", e, err)
	}
	for i := range 3 {
		if _, err := publish(t.Context(), httpClient(t, 5*time.Second), n.url(), "old", "", fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
		if e, err := st.next(); err != nil || e.Data != fmt.Sprint(i) {
			t.Fatalf("got %+v, %v, want message %d", e, err, i)
		}
	}
}
