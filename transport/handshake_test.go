package transport

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

const goodHandshake = "GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
	"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"

// TestCheckHandshake sends handshakes over a real connection to net/http, whose parser refuses some of
// them before checkHandshake sees them. Every row that is not 101 is goodHandshake with one change.
func TestCheckHandshake(t *testing.T) {
	tests := []struct {
		name     string
		why      string
		old, new string
		status   int
		detail   string // part of the answer
	}{
		{"good", "", "", "", 101, ""},
		{"Firefox", "it sends two tokens", "Connection: Upgrade", "Connection: keep-alive, Upgrade", 101, ""},
		{"two Connection lines", "a list may be cut into lines, RFC 9110 §5.3", "Connection: Upgrade", "Connection: keep-alive\r\nConnection: upgrade", 101, ""},
		{"case", "tokens have none", "Upgrade: websocket", "upgrade: WebSocket", 101, ""},
		{"Content-Length 0", "that is no body", "Host: x", "Host: x\r\nContent-Length: 0", 101, ""},
		{"one Origin", "whether it may connect is asked elsewhere", "Host: x", "Host: x\r\nOrigin: https://a.test", 101, ""},

		{"POST", "RFC 6455 §4.1: GET", "GET", "POST", 405, "GET"},
		{"HEAD", "", "GET", "HEAD", 405, ""},
		{"POST with a body that never comes", "the answer must not wait for it", "GET /ws HTTP/1.1", "POST /ws HTTP/1.1\r\nContent-Length: 5", 405, "GET"},
		{"HTTP/1.0", "gorilla answers 101; an HTTP/1.0 proxy does not know Upgrade", "HTTP/1.1", "HTTP/1.0", 426, "HTTP/1.1"},
		{"no Upgrade", "a browser's address bar", "Upgrade: websocket\r\n", "", 426, "WebSocket"},
		{"no Connection", "a proxy dropped it", "Connection: Upgrade\r\n", "", 426, "WebSocket"},
		{"Upgrade: h2c", "", "Upgrade: websocket", "Upgrade: h2c", 426, "WebSocket"},
		{"not quite websocket", "tokens are compared whole", "Upgrade: websocket", "Upgrade: websockets", 426, "WebSocket"},

		{"no version", "", "Sec-WebSocket-Version: 13\r\n", "", 426, "13"},
		{"version 8", "the drafts", "Version: 13", "Version: 8", 426, "13"},
		{"versions in one line", "§4.1: the value MUST be 13", "Version: 13", "Version: 13, 8", 426, "13"},
		{"two versions", "", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Version: 13", 400, "more than one"},

		{"no key", "", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "", 400, "one Sec-WebSocket-Key"},
		{"two keys", "gorilla takes the first; who is in front may take the last",
			"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", 400, "one Sec-WebSocket-Key"},
		{"empty key", "", "dGhlIHNhbXBsZSBub25jZQ==", "", 400, "16 bytes"},
		{"15 bytes", "", "dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25j", 400, "16 bytes"},
		{"17 bytes", "as long as 16 in base64, but for the padding", "dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQA=", 400, "16 bytes"},
		{"no base64", "", "dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25!ZQ==", 400, "16 bytes"},
		{"URL alphabet", "", "dGhlIHNhbXBsZSBub25jZQ==", "__hlIHNhbXBsZSBub25jZQ==", 400, "16 bytes"},
		{"stray bits", "two keys would mean the same bytes", "dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZR==", 400, "16 bytes"},

		{"Content-Length", "the body would be read as frames; that it never comes must not delay the answer", "Host: x", "Host: x\r\nContent-Length: 5", 400, "no body"},
		{"chunked", "", "Host: x", "Host: x\r\nTransfer-Encoding: chunked", 400, "no body"},
		{"both", "request smuggling", "Host: x", "Host: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked", 400, ""},
		{"no Host", "net/http refuses it", "Host: x\r\n", "", 400, ""},
		{"empty Host", "", "Host: x", "Host:", 400, "one Host"},
		{"two Hosts", "net/http refuses it", "Host: x", "Host: x\r\nHost: y", 400, ""},
		{"two Origins", "gorilla judges the first only", "Host: x", "Host: x\r\nOrigin: https://a.test\r\nOrigin: https://b.test", 400, "Origin"},
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if f := checkHandshake(r); f != nil {
			f.setHeader(w.Header())
			http.Error(w, f.detail, f.status)
			return
		}
		upgrader := websocket.Upgrader{CheckOrigin: func(*http.Request) bool { return true }}
		c, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			t.Errorf("checkHandshake let through what Upgrade refuses: %v", err)
			return
		}
		c.Close()
	}))
	defer server.Close()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			request := strings.Replace(goodHandshake, tt.old, tt.new, 1)
			if tt.old != "" && request == goodHandshake {
				t.Fatalf("%q is not in the handshake", tt.old)
			}
			response, body := exchange(t, server.Listener.Addr().String(), request)
			if response.StatusCode != tt.status || !strings.Contains(body, tt.detail) {
				t.Fatalf("got %d %q, want %d with %q: %s", response.StatusCode, body, tt.status, tt.detail, tt.why)
			}
			h := response.Header
			if tt.status == 426 && (h.Get("Sec-WebSocket-Version") != "13" || h.Get("Upgrade") != "websocket") {
				t.Errorf("a 426 must name protocol and version, got %v", h)
			}
			if tt.status == 405 && h.Get("Allow") != "GET" {
				t.Errorf("a 405 must name the method, got %v", h)
			}
		})
	}
}

// exchange sends the bytes of a request and reads the answer.
func exchange(t *testing.T, address, request string) (*http.Response, string) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	var r http.Request
	r.Method, _, _ = strings.Cut(request, " ")
	response, err := http.ReadResponse(bufio.NewReader(conn), &r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body := ""
	if response.StatusCode != http.StatusSwitchingProtocols {
		b, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		body = string(b)
	}
	return response, body
}

// TestCheckHandshakeHTTP2: a request that came over HTTP/2 can't be upgraded.
func TestCheckHandshakeHTTP2(t *testing.T) {
	r := httptest.NewRequest(http.MethodGet, "/ws", nil)
	r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/2.0", 2, 0
	if f := checkHandshake(r); f == nil || f.status != http.StatusUpgradeRequired {
		t.Errorf("got %v, want 426", f)
	}
}
