package middleware_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/labstack/echo/v4"

	"sluice/middleware"
)

// logs collects JSON lines; requests are logged from their own goroutines.
type logs struct {
	mu    sync.Mutex
	lines []map[string]any
	raw   []string
}

func (l *logs) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var line map[string]any
	if err := json.Unmarshal(b, &line); err != nil {
		return 0, err
	}
	l.lines, l.raw = append(l.lines, line), append(l.raw, string(b))
	return len(b), nil
}

// take returns the lines so far and forgets them.
func (l *logs) take() (lines []map[string]any, raw string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines, raw = l.lines, strings.Join(l.raw, "")
	l.lines, l.raw = nil, nil
	return lines, raw
}

// newServer serves some handlers behind the chain as the transports have it.
func newServer(t *testing.T) (*httptest.Server, *logs) {
	t.Helper()
	var l logs
	log := slog.New(slog.NewJSONHandler(&l, nil))
	e := echo.New()
	e.HTTPErrorHandler = func(err error, c echo.Context) {
		if !c.Response().Committed {
			_ = c.String(http.StatusTeapot, err.Error())
		}
	}
	e.Use(middleware.RequestIDs(), middleware.AccessLog{Log: log, Clients: newClients(t, "127.0.0.1")}.Middleware(),
		middleware.Recover{Log: log, Answer: func(echo.Context) error { return errors.New("it fell") }}.Middleware())
	e.GET("/id", func(c echo.Context) error { return c.String(http.StatusOK, middleware.RequestID(c)) })
	e.GET("/fail", func(echo.Context) error { return errors.New("no") })
	e.GET("/panic", func(echo.Context) error { panic("at the disco") })
	e.GET("/panic-late", func(c echo.Context) error {
		_ = c.String(http.StatusOK, "half")
		panic("too late")
	})
	e.GET("/abort", func(echo.Context) error { panic(http.ErrAbortHandler) })
	e.GET("/stream", func(c echo.Context) error {
		c.Response().Header().Set("Content-Type", "text/event-stream")
		c.Response().WriteHeader(http.StatusOK)
		c.Response().Flush()
		<-c.Request().Context().Done()
		return nil
	})
	server := httptest.NewServer(e)
	t.Cleanup(server.Close)
	return server, &l
}

func fetch(t *testing.T, url string, header http.Header) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header = header
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(body)
}

func TestRequestID(t *testing.T) {
	server, l := newServer(t)
	seen := map[string]bool{}
	for _, row := range []struct {
		name string
		ids  []string
		kept bool
		why  string
	}{
		{"none", nil, false, "one is made"},
		{"none again", nil, false, "another one is made"},
		{"UUID", []string{"0b7f9a5e-3c1d-4a6b-9f0e-1d2c3b4a5968"}, true, "most are"},
		{"base64", []string{"Zm9vYmFy+/=="}, true, "some are"},
		{"one character", []string{"1"}, true, "short is fine"},
		{"64 characters", []string{strings.Repeat("x", 64)}, true, "the most"},
		{"65 characters", []string{strings.Repeat("x", 65)}, false, "too long"},
		{"10 KB", []string{strings.Repeat("x", 10<<10)}, false, "logs are not for that"},
		{"empty", []string{""}, false, "nothing to find it by"},
		{"two", []string{"a", "b"}, false, "which one?"},
		{"space", []string{"a b"}, false, "fields of logs are cut there"},
		{"quote", []string{`a"b`}, false, "logs quote with it"},
		{"markup", []string{"<script>"}, false, "logs are read in browsers"},
		{"not ASCII", []string{"naïve"}, false, "not in headers"},
	} {
		t.Run(row.name, func(t *testing.T) {
			h := http.Header{}
			if row.ids != nil {
				h["X-Request-Id"] = row.ids
			}
			res, body := fetch(t, server.URL+"/id", h)
			got := res.Header.Values("X-Request-Id")
			if len(got) != 1 || got[0] != body {
				t.Fatalf("answered with %q, the handler saw %q", got, body)
			}
			lines, _ := l.take()
			if len(lines) != 1 || lines[0]["request_id"] != body {
				t.Errorf("logged %v, want the id %s", lines, body)
			}
			if kept := len(row.ids) > 0 && body == row.ids[0]; kept != row.kept || !row.kept && len(body) != 16 || seen[body] {
				t.Errorf("%.100q becomes %.100q, kept: %v, want %v: %s", row.ids, body, kept, row.kept, row.why)
			}
			seen[body] = true
		})
	}
}

// What no client library sends: nothing of it may end up in the answer's head or split a line of the log.
func TestRequestIDRaw(t *testing.T) {
	server, l := newServer(t)
	for _, hostile := range []string{"a\r\nSet-Cookie: b=c", "a\rSet-Cookie: b=c", "a\nSet-Cookie: b=c", "a\x00b", "a\x1b[31m", "a\x7f", "\xff\xfe", "a\x85b"} {
		conn, err := net.Dial("tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write([]byte("GET /id HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Request-Id: " + hostile + "\r\n\r\n")); err != nil {
			t.Fatal(err)
		}
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		_ = conn.Close()
		if res.Header.Get("Set-Cookie") != "" || res.StatusCode == 200 && (res.Header.Get("X-Request-Id") != string(body) || bytes.ContainsFunc(body, func(r rune) bool { return r < ' ' || r > '~' })) {
			t.Errorf("%q is answered with %d, %v, %q", hostile, res.StatusCode, res.Header, body)
		}
		if _, raw := l.take(); strings.Count(raw, "\n") > 1 || strings.Contains(raw, "\x1b") {
			t.Errorf("%q is logged as %q", hostile, raw)
		}
	}
}

func TestAccessLog(t *testing.T) {
	server, l := newServer(t)
	for _, row := range []struct {
		name, path string
		header     http.Header
		want       map[string]any
		not        string
	}{
		{name: "fine", path: "/id?token=hunter2", want: map[string]any{"path": "/id", "status": 200.0, "bytes": 16.0, "client": "127.0.0.1"}, not: "hunter2"},
		{name: "proxied", path: "/id", header: http.Header{"X-Forwarded-For": {"1.1.1.1, 203.0.113.5"}}, want: map[string]any{"client": "203.0.113.5"}},
		{name: "failed", path: "/fail", want: map[string]any{"status": 418.0, "bytes": 2.0}},
		{name: "unknown", path: "/elsewhere", want: map[string]any{"status": 418.0, "path": "/elsewhere"}},
		{name: "line break", path: "/a%0Atime=x%1B[31m", want: map[string]any{"path": "/a\ntime=x\x1b[31m"}, not: "\x1b"},
		{name: "long path", path: "/" + strings.Repeat("x", 4000), want: map[string]any{"path": "/" + strings.Repeat("x", 255) + "…"}},
		{name: "secrets elsewhere", path: "/id", header: http.Header{"Authorization": {"Bearer hunter2"}, "Cookie": {"hunter2"}, "Last-Event-Id": {"hunter2"}, "Referer": {"hunter2"}}, not: "hunter2"},
	} {
		t.Run(row.name, func(t *testing.T) {
			fetch(t, server.URL+row.path, row.header)
			lines, raw := l.take()
			if len(lines) != 1 || lines[0]["msg"] != "request" || lines[0]["method"] != "GET" || lines[0]["duration"].(float64) <= 0 || lines[0]["request_id"] == "" {
				t.Fatalf("logged %s", raw)
			}
			for k, v := range row.want {
				if lines[0][k] != v {
					t.Errorf("%s: got %v, want %v", k, lines[0][k], v)
				}
			}
			if row.not != "" && strings.Contains(raw, row.not) {
				t.Errorf("logged %q", raw)
			}
		})
	}
	t.Run("stream", func(t *testing.T) {
		res, err := http.Get(server.URL + "/stream")
		if err != nil {
			t.Fatal(err)
		}
		if lines, raw := l.take(); len(lines) != 1 || lines[0]["status"] != 200.0 {
			t.Errorf("while the stream is open there is %q", raw)
		}
		_ = res.Body.Close()
		server.Config.SetKeepAlivesEnabled(false)
		server.Close() // waits for the handler
		if lines, raw := l.take(); len(lines) != 0 {
			t.Errorf("at its end there is another line, %s", raw)
		}
	})
}

func TestRecover(t *testing.T) {
	server, l := newServer(t)
	res, body := fetch(t, server.URL+"/panic", http.Header{"X-Request-Id": {"r-1"}})
	if res.StatusCode != http.StatusTeapot || body != "it fell" {
		t.Errorf("a panic is answered with %d %q", res.StatusCode, body)
	}
	lines, raw := l.take()
	if len(lines) != 2 || lines[0]["msg"] != "panic in a handler" || lines[0]["panic"] != "at the disco" || lines[0]["request_id"] != "r-1" ||
		lines[0]["path"] != "/panic" || !strings.Contains(lines[0]["stack"].(string), "request_test.go") || lines[1]["status"] != 418.0 {
		t.Errorf("logged %s", raw)
	}
	if res, body := fetch(t, server.URL+"/panic-late", nil); res.StatusCode != 200 || body != "half" {
		t.Errorf("a panic after the answer: %d %q", res.StatusCode, body)
	}
	if lines, raw := l.take(); len(lines) != 2 || lines[1]["status"] != 200.0 {
		t.Errorf("logged %s", raw)
	}
	if res, err := http.Get(server.URL + "/abort"); err == nil {
		_ = res.Body.Close()
		t.Errorf("http.ErrAbortHandler is answered with %d; it should drop the connection", res.StatusCode)
	}
}

// Without a limit nothing is in the way, not even a function.
func TestLimiterMiddlewareOff(t *testing.T) {
	var out bytes.Buffer
	next := func(echo.Context) error { out.WriteString("next"); return nil }
	var off *middleware.Limiter
	if err := off.Middleware(nil, nil)(next)(nil); err != nil || out.String() != "next" {
		t.Errorf("got %v, %q", err, out.String())
	}
}
