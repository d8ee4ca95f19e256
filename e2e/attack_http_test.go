package e2e

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"
)

// httpAttack is bytes that a stranger sends, and what must come of it.
type httpAttack struct {
	name, why string
	send      string
	want      []int  // statuses that will do; 0: the connection ends without one
	code      string // of the problem; "": any, or none
	ends      bool   // the connection must not be used for a second request
}

const (
	publishHead = "POST /publish/a HTTP/1.1\r\nHost: x\r\n"
	jsonHead    = "POST /publish HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
	smuggled    = "GET /healthz HTTP/1.1\r\nHost: smuggled\r\n\r\n"
)

// sized returns a request with a body.
func sized(head, body string) string {
	return fmt.Sprintf("%sContent-Length: %d\r\n\r\n%s", head, len(body), body)
}

// httpAttacks need no credentials.
func httpAttacks() []httpAttack {
	all := []httpAttack{
		// Floods of headers.
		{"a header of 2 MiB", "memory for each connection", "GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: " + strings.Repeat("a", 2<<20) + "\r\n\r\n", []int{431, 0}, "", true},
		{"10,000 headers", "a map is more than its bytes", "GET /healthz HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("A: b\r\n", 10_000) + "\r\n", []int{431, 0}, "", true},
		{"a cookie of 64 KiB", "", "GET /sse?channel=a HTTP/1.1\r\nHost: x\r\nCookie: a=" + strings.Repeat("b", 64<<10) + "\r\n\r\n", []int{431, 0}, "", true},
		{"a path of 1 MiB", "", "GET /" + strings.Repeat("a", 1<<20) + " HTTP/1.1\r\nHost: x\r\n\r\n", []int{431, 414, 0}, "", true},
		{"100,000 channels", "a list of channels is read before it is counted", "GET /sse?" + strings.Repeat("channel=a&", 100_000) + " HTTP/1.1\r\nHost: x\r\n\r\n", []int{431, 0}, "", true},

		// Requests that a proxy in front may understand otherwise (RFC 9112 §11.2).
		{"length and chunks", "the proxy may go by the one, the node by the other", publishHead + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + smuggled, []int{400, 200, 0}, "", true},
		{"two lengths", "", publishHead + "Content-Length: 0\r\nContent-Length: 44\r\n\r\n" + smuggled, []int{400, 0}, "", true},
		{"two lengths in one", "", publishHead + "Content-Length: 0, 44\r\n\r\n" + smuggled, []int{400, 0}, "", true},
		{"a length with a sign", "", publishHead + "Content-Length: +4\r\n\r\nabcd", []int{400, 0}, "", true},
		{"a length below 0", "", publishHead + "Content-Length: -1\r\n\r\n", []int{400, 0}, "", true},
		{"a length that overflows", "", publishHead + "Content-Length: 18446744073709551620\r\n\r\nabcd", []int{400, 0}, "", true},
		{"an unknown coding", "", publishHead + "Transfer-Encoding: xchunked\r\n\r\n" + smuggled, []int{501, 400, 0}, "", true},
		{"chunked twice", "", publishHead + "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n" + smuggled, []int{501, 400, 0}, "", true},
		{"chunked and identity", "", publishHead + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n" + smuggled, []int{501, 400, 0}, "", true},
		{"a space before the colon", "some proxies drop such a header", publishHead + "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + smuggled, []int{400, 0}, "", true},
		{"a folded header", "", publishHead + "X-A: b\r\n Transfer-Encoding: chunked\r\n\r\n", []int{400, 200, 0}, "", false},
		{"a header without a colon", "", publishHead + "Transfer-Encoding\r\n\r\n", []int{400, 0}, "", true},
		{"a header with a NUL", "", "GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: a\x00b\r\n\r\n", []int{400, 0}, "", true},
		{"a header with a bare CR", "some end the line there", "GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: a\rTransfer-Encoding: chunked\r\n\r\n", []int{400, 0}, "", true},
		{"two Hosts", "", "GET /healthz HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", []int{400, 0}, "", true},
		{"no Host", "RFC 9112 §3.2", "GET /healthz HTTP/1.1\r\n\r\n", []int{400, 0}, "", true},
		{"a Host with a path", "", "GET /healthz HTTP/1.1\r\nHost: x/y?z\r\n\r\n", []int{400, 200, 0}, "", false},
		{"a chunk size that overflows", "", publishHead + "Transfer-Encoding: chunked\r\n\r\n10000000000000004\r\nabcd\r\n0\r\n\r\n", []int{400, 0}, "", true},
		{"a chunk size with 0x", "", publishHead + "Transfer-Encoding: chunked\r\n\r\n0x4\r\nabcd\r\n0\r\n\r\n", []int{400, 0}, "", true},
		{"a chunk that ends in a bare LF", "", publishHead + "Transfer-Encoding: chunked\r\n\r\n4\nabcd\r\n0\r\n\r\n", []int{400, 0}, "", true},
		{"a chunk extension of 1 MiB", "", publishHead + "Transfer-Encoding: chunked\r\n\r\n4;a=" + strings.Repeat("b", 1<<20) + "\r\nabcd\r\n0\r\n\r\n", []int{400, 413, 0}, "", true},
		{"10,000 chunks of one byte with extensions", "bytes that the limit of the body does not count", publishHead + "Transfer-Encoding: chunked\r\n\r\n" + strings.Repeat("1;"+strings.Repeat("x", 200)+"\r\na\r\n", 10_000) + "0\r\n\r\n", []int{400, 413, 0}, "", true},
		{"trailers of 1 MiB", "", publishHead + "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-A: " + strings.Repeat("b", 1<<20) + "\r\n\r\n", []int{400, 0}, "", true},
		{"a handshake with a body", "gorilla switches protocols with the body pending", strings.Replace(handshake("a", ""), "\r\n\r\n", fmt.Sprintf("\r\nContent-Length: %d\r\n\r\n%s", len(smuggled), smuggled), 1), []int{400}, "bad_request", true},
		{"HTTP/0.9", "", "GET /healthz\r\n\r\n", []int{400, 0}, "", true},
		{"HTTP/2.0 in the line", "", "GET /healthz HTTP/2.0\r\nHost: x\r\n\r\n", []int{505, 400, 0}, "", true},
		{"TLS", "somebody has mistaken the port", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + strings.Repeat("\x00", 100) + "\r\n\r\n", []int{400, 0}, "", true},
		{"SMTP", "a page can have a browser send something similar", "HELO x\r\nMAIL FROM:<a@b>\r\n\r\n", []int{400, 0}, "", true},
		{"Redis", "", "*1\r\n$8\r\nFLUSHALL\r\n\r\n", []int{400, 0}, "", true},
		{"CONNECT", "it is no proxy", "CONNECT redis:6379 HTTP/1.1\r\nHost: redis:6379\r\n\r\n", []int{404, 405, 400}, "", false},
		{"an absolute target", "it is no proxy", "GET http://169.254.169.254/latest/meta-data HTTP/1.1\r\nHost: x\r\n\r\n", []int{404}, "not_found", false},
		{"TRACE", "it would show cookies to scripts", "TRACE / HTTP/1.1\r\nHost: x\r\nCookie: secret\r\n\r\n", []int{404, 405}, "", false},
		{"a method of 1,000 bytes", "", strings.Repeat("A", 1000) + " /sse HTTP/1.1\r\nHost: x\r\n\r\n", []int{404, 405, 400}, "", false},

		// Bodies of publishers.
		{"10 MB", "it is refused before it is read", sized(publishHead, strings.Repeat("x", 10<<20)), []int{413, 0}, "too_large", true},
		{"10 MB in chunks", "its length is not known before", publishHead + "Transfer-Encoding: chunked\r\n\r\n" + strings.Repeat("4000\r\n"+strings.Repeat("x", 0x4000)+"\r\n", 640) + "0\r\n\r\n", []int{413, 0}, "too_large", true},
		{"10 GB announced", "memory for what does not come", publishHead + "Content-Length: 10000000000\r\n\r\nx", []int{413}, "too_large", true},
		{"as much announced as is allowed, and nothing sent", "", publishHead + "Content-Length: 16384\r\n\r\n", []int{400, 408, 0}, "", true},
		{"chunks without an end", "", publishHead + "Transfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n", []int{400, 408, 0}, "", true},
		{"compressed", "a bomb", sized(publishHead+"Content-Encoding: gzip\r\n", "\x1f\x8b\x08\x00"), []int{415}, "unsupported_media_type", false},
		{"compressed in transit", "", publishHead + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", []int{501, 400, 0}, "", true},
		{"a form", "pages of any origin can send one without being asked", sized("POST /publish HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\n", `{"channel":"a","data":"x"}`), []int{415}, "unsupported_media_type", false},
		{"100,000 messages", "", sized(jsonHead, "["+strings.Repeat("0,", 30_000)+"0]"), []int{413}, "too_large", false},
		{"an array of arrays", "", sized(jsonHead, strings.Repeat("[", 50_000)+strings.Repeat("]", 50_000)), []int{400}, "bad_request", false},
		{"data that is nested deep", "", sized(jsonHead, `{"channel":"a","data":`+strings.Repeat("[", 30_000)+strings.Repeat("]", 30_000)+"}"), []int{400, 413}, "", false},
		{"a number that is none", "1e999 is JSON, and data is not read", sized(jsonHead, `{"channel":"a","data":1e999}`), []int{200}, "", false},
		{"a channel twice", "who checks it first may read another than who publishes it", sized(jsonHead, `{"channel":"a","channel":"b","data":1}`), []int{400}, "bad_request", false},
		{"bytes that are no text", "", sized(jsonHead, "{\"channel\":\"a\xff\",\"data\":1}"), []int{400}, "", false},
		{"half a surrogate", "", sized(jsonHead, `{"channel":"a\ud800","data":1}`), []int{400}, "bad_channel", false},
		{"null", "", sized(jsonHead, `null`), []int{400}, "", false},
		{"an idempotency key of 1 MB", "it is kept for minutes", sized(jsonHead, `{"channel":"a","data":1,"id":"`+strings.Repeat("k", 1<<20)+`"}`), []int{413}, "too_large", true},
		{"an idempotency key of 300 bytes", "", sized(publishHead+"Idempotency-Key: "+strings.Repeat("k", 300)+"\r\n", "x"), []int{413}, "too_large", false},
		{"an idempotency key with a line break", "it is part of a key in Redis", sized(jsonHead, `{"channel":"a","data":1,"id":"a\r\nb"}`), []int{400}, "bad_message", false},

		// What would become fields of an SSE stream, or its own events.
		{"a line break in the event", "a field of the stream", sized(jsonHead, `{"channel":"a","data":1,"event":"a\nid: evil"}`), []int{400}, "bad_message", false},
		{"a CR in the event", "it ends a line, too", sized(jsonHead, `{"channel":"a","data":1,"event":"a\rid: evil"}`), []int{400}, "bad_message", false},
		{"an event of the node's own", "clients believe those", sized(jsonHead, `{"channel":"a","data":1,"event":"welcome"}`), []int{400}, "bad_message", false},
		{"an event that EventSource fires itself", "", sized(jsonHead, `{"channel":"a","data":1,"event":"error"}`), []int{400}, "bad_message", false},
		{"an event with U+2028", "a line break for JavaScript of old", sized(jsonHead, `{"channel":"a","data":1,"event":"a\u2028b"}`), []int{400}, "bad_message", false},

		// What is told to traces and logs.
		{"a tracestate of 7 KB", "", sized(publishHead+"Traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\nTracestate: "+strings.Repeat("a=b,", 1800)+"\r\n", "x"), []int{200}, "", false},
		{"a traceparent that is none", "", sized(publishHead+"Traceparent: 00-\x01\x02-' OR 1=1\r\n", "x"), []int{200, 400}, "", false},
		{"baggage", "", sized(publishHead+"Baggage: secret="+strings.Repeat("x", 5000)+"\r\n", "x"), []int{200}, "", false},
		{"escape sequences everywhere", "a log is read in a terminal", "GET /\x1b[2J%1b[2J%0d%0aforged HTTP/1.1\r\nHost: x\r\nUser-Agent: \x1b]0;owned\x07\r\nX-Request-Id: a\x1b[31m\r\n\r\n", []int{404, 400}, "", false},
		{"a request id with a line break", "it is in the answer's head and in the log", "GET /none HTTP/1.1\r\nHost: x\r\nX-Request-Id: a\tSet-Cookie: b=c\r\n\r\n", []int{404}, "not_found", false},
		{"forwarded for by a million", "", "GET /sse?channel=a%20 HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: " + strings.Repeat("1.1.1.1,", 800) + "\r\n\r\n", []int{400}, "bad_channel", false},
		{"an origin with markup", "", "GET /sse?channel=a HTTP/1.1\r\nHost: x\r\nOrigin: <script>alert(1)</script>\r\n\r\n", []int{403}, "origin_forbidden", false},
		{"a query that is not encoded", "", "GET /sse?channel=%zz HTTP/1.1\r\nHost: x\r\n\r\n", []int{400}, "bad_request", false},
		{"a parameter with markup", "its name is in the answer", "GET /sse?channel=a&%3Cscript%3E=1 HTTP/1.1\r\nHost: x\r\n\r\n", []int{400}, "bad_request", false},

		// The SSE desk, whose ids are guessed.
		{"a session id that is guessed", "", sized("POST /sessions/AAAAAAAAAAAAAAAA HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n", `{"type":"refresh","token":"x"}`), []int{400, 401, 404}, "", false},
		{"a session id with a path", "", sized("POST /sessions/..%2f..%2fadmin HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n", `{"type":"refresh"}`), []int{400, 401, 404}, "", false},
		{"an acknowledgement of 1 MB", "", sized("POST /ack HTTP/1.1\r\nHost: x\r\n", strings.Repeat("x", 1<<20)), []int{400, 413, 0}, "", true},
	}
	for _, path := range []string{
		"/../../../../etc/passwd", "/..%2f..%2fetc%2fpasswd", "/%2e%2e/%2e%2e/go.mod", "/..%5c..%5cgo.mod", "/..\\go.mod", "/%00", "/index.html%00.js",
		"/.git/config", "/.env", "/static/", "/static", "/%252e%252e/go.mod", "/./../go.mod", "//etc/passwd", "/demo.html/../../go.mod",
	} {
		all = append(all, httpAttack{"the file " + path, "only embedded files are served, by their names", "GET " + path + " HTTP/1.1\r\nHost: x\r\n\r\n", []int{404, 400, 301, 307}, "", false})
	}
	for _, path := range []string{"/metrics", "/debug/pprof/", "/debug/pprof/heap", "/debug/vars", "/admin", "/admin/", "/admin/stats", "/admin/sessions", "/admin/revocations", "/debug/requests"} {
		all = append(all, httpAttack{"the operators' " + path, "these have a port of their own", "GET " + path + " HTTP/1.1\r\nHost: x\r\n\r\n", []int{404}, "not_found", false})
	}
	return all
}

// TestAttackHTTP: whatever bytes a stranger sends, the answer is one of those that are expected, and nobody else notices.
func TestAttackHTTP(t *testing.T) {
	t.Parallel()
	a := newArena(t)
	for _, tt := range httpAttacks() {
		t.Run(tt.name, func(t *testing.T) {
			defer a.unharmed(t)
			c := a.dial(t)
			sent := make(chan struct{})
			go func() { defer close(sent); c.send(tt.send) }() // the answer may come before all is sent
			defer func() { c.Close(); <-sent }()
			x, err := c.answer()
			if errors.Is(err, io.EOF) {
				x = &answer{}
			} else if err != nil {
				t.Fatalf("%v: %s", err, tt.why)
			}
			if !slices.Contains(tt.want, x.status) || x.status > 0 && tt.code != "" && x.code != tt.code {
				t.Errorf("got %d %s %.200q, want %v %s: %s", x.status, x.code, x.body, tt.want, tt.code, tt.why)
			}
			x.check(t)
			if !tt.ends || x.status == 0 {
				return
			}
			_ = c.SetDeadline(time.Now().Add(5 * time.Second))
			if more, err := c.answer(); err == nil || !errors.Is(err, io.EOF) {
				t.Errorf("the connection goes on, with %+v %v: %s", more, err, tt.why)
			}
		})
	}
	a.alone(t)
}

// check holds every answer to what all of them must have. Those of net/http itself, which say nothing but the status, are apart: they have no X-Request-Id.
func (x *answer) check(t *testing.T) {
	t.Helper()
	if x.header.Get("X-Request-Id") == "" {
		if x.status >= 400 && (len(x.body) > 100 || !x.last) {
			t.Errorf("net/http answers %v %q", x.header, x.body)
		}
		return
	}
	if x.status != 301 && x.status != 304 && !strings.Contains(x.header.Get("Cache-Control"), "no-store") {
		t.Errorf("a cache may keep %d %.100q: %v", x.status, x.body, x.header)
	}
	if x.status >= 400 && x.header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("a browser may guess what %d is: %v", x.status, x.header)
	}
	for _, bad := range []string{"\x1b", "\x00", "<script", "goroutine ", ".go:", "/src/", "passwd", "root:"} {
		if strings.Contains(x.body, bad) || strings.Contains(fmt.Sprint(x.header), bad) {
			t.Errorf("%q is in the answer %v %.300q", bad, x.header, x.body)
		}
	}
	if x.header.Get("Set-Cookie") != "" {
		t.Errorf("a cookie: %v", x.header)
	}
}
