package transport

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"sluice/broker"
	"sluice/broker/memory"
)

const listA = `{"subscriptions":[{"channel":"a"}]}`

// TestPostedStream: a stream that was asked for in a body is like any other, with envelopes, on all protocols.
func TestPostedStream(t *testing.T) {
	for _, tt := range []struct {
		name       string
		tls, http2 bool
	}{{"HTTP/1.1", false, false}, {"TLS", true, false}, {"HTTP/2", true, true}, {"h2c", false, true}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			change := func(c *Config) { // all shorter than the stream lives
				c.HeaderTimeout, c.BodyTimeout, c.WriteTimeout, c.Heartbeat = 500*time.Millisecond, 100*time.Millisecond, 500*time.Millisecond, 500*time.Millisecond
			}
			secure := func(*Server) *tls.Config { return nil }
			tr := &http.Transport{Protocols: new(http.Protocols)}
			tr.Protocols.SetHTTP1(!tt.http2)
			tr.Protocols.SetUnencryptedHTTP2(tt.http2 && !tt.tls)
			tr.Protocols.SetHTTP2(tt.http2 && tt.tls)
			scheme := "http"
			if tt.tls {
				scheme = "https"
				secure = func(*Server) *tls.Config { return certified(t) }
				tr.TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
			}
			defer tr.CloseIdleConnections()
			n := newNodeWith(t, memory.New(memory.DefaultConfig()), nil, change, secure)
			at := n.put(&broker.Message{Channel: "a", Data: []byte("1")}, false)
			n.put(&broker.Message{Channel: "a", Data: []byte("2"), Key: "k"}, false)
			r, err := http.NewRequest("POST", scheme+"://"+n.addr+"/sse", strings.NewReader(`{"subscriptions":[{"channel":"a","since":"`+at.String()+`"},{"channel":"b","rate":"5/s"}]}`))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Content-Type", "application/json; charset=utf-8")
			s := sendStream(t, tr, r)
			if s.resp.StatusCode != 200 || s.resp.ProtoMajor == 2 != tt.http2 || s.resp.Header.Get("Content-Type") != "text/event-stream" || !strings.Contains(s.resp.Header.Get("Sluice-Deliver"), `"b";rate="5/s"`) {
				t.Fatalf("%s %d %v", s.resp.Proto, s.resp.StatusCode, s.resp.Header)
			}
			if e := s.want("welcome", "*"); !strings.Contains(e.data, `"channels":["a","b"]`) {
				t.Errorf("welcome %+v", e)
			}
			if e := s.want("", "*"); !strings.HasPrefix(e.data, `{"type":"message","channel":"a",`) || !strings.Contains(e.data, `"key":"k"`) || e.id == "" {
				t.Errorf("got %+v, want an envelope", e)
			}
			if line, err := s.r.ReadString('\n'); err != nil || line != ":\n" {
				t.Errorf("got %q (%v), want a comment as heartbeat", line, err)
			}
			time.Sleep(700 * time.Millisecond) // HTTP/2 has no fake clock
			n.put(&broker.Message{Channel: "a", Data: []byte("3")}, true)
			if e := s.want("", "*"); !strings.Contains(e.data, `"data":"3"`) {
				t.Errorf("got %+v", e)
			}
			s.close()
			n.until("nothing is left", func() bool { return n.sessions.Load() == 0 && n.counts.subscriptions[overSSE].Load() == 0 })
		})
	}
}

// TestPostedStreamRaw: however the body comes, and whatever comes behind it, the connection is the stream's.
func TestPostedStreamRaw(t *testing.T) {
	sized := func(more string) string {
		return fmt.Sprintf("POST /sse HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n%sContent-Length: %d\r\n\r\n", more, len(listA))
	}
	chunked := fmt.Sprintf("POST /sse HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(listA), listA)
	for _, tt := range []struct {
		name  string
		parts []string
		why   string
	}{
		{"at once", []string{sized("") + listA}, ""},
		{"in two parts", []string{sized(""), listA}, "the head was read first"},
		{"byte by byte", strings.Split(sized("")+listA, ""), ""},
		{"with junk behind it", []string{sized("") + listA + "junk\r\n\r\n\x00"}, "what a client of a stream says is not looked at"},
		{"with junk later", []string{sized("") + listA, "junk"}, "net/http waits for the next request when it is asked for the connection"},
		{"with a request behind it", []string{sized("") + listA + "GET /sse?channel=b HTTP/1.1\r\nHost: x\r\n\r\n"}, "it is no request any more"},
		{"in chunks", []string{chunked}, ""},
		{"in chunks, with a request behind it", []string{chunked + "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"}, ""},
		{"in chunks with a trailer", []string{strings.TrimSuffix(chunked, "\r\n") + "X: y\r\n\r\n"}, ""},
		{"HTTP/1.0", []string{strings.Replace(sized(""), "HTTP/1.1", "HTTP/1.0", 1) + listA}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t, nil)
			c := n.silent(t)
			for _, p := range tt.parts {
				if _, err := io.WriteString(c, p); err != nil {
					t.Fatal(err)
				}
			}
			wantRaw(t, c, tt.why, "HTTP/1.1 200 OK\r\n", "event: welcome\n", `"channels":["a"]`)
			n.publish("a", "x")
			n.publish("b", "y")
			n.publish("a", "end")
			all := wantRaw(t, c, tt.why, `"data":"x"`, `"data":"end"`)
			if bytes.Contains(all, []byte("HTTP/1.1 ")) || bytes.Contains(all, []byte(`"y"`)) {
				t.Errorf("what came behind was answered: %q", all)
			}
			_ = c.Close()
			n.until("nothing is left", func() bool { return n.sessions.Load() == 0 })
		})
	}
	t.Run("expected", func(t *testing.T) {
		n := newNode(t, nil)
		c := n.silent(t)
		_, _ = io.WriteString(c, sized("Expect: 100-continue\r\n"))
		wantRaw(t, c, "it waits to be asked", "HTTP/1.1 100 Continue\r\n\r\n")
		_, _ = io.WriteString(c, listA)
		all := wantRaw(t, c, "", "HTTP/1.1 200 OK\r\n", "event: welcome\n")
		if n := strings.Count(strings.ToLower(string(all)), "connection: "); n != 1 {
			t.Errorf("%d times Connection in %q", n, all)
		}
	})
	t.Run("never sent", func(t *testing.T) {
		n := newNode(t, func(c *Config) { c.HeaderTimeout, c.BodyTimeout = 100*time.Millisecond, 100*time.Millisecond })
		c := n.silent(t)
		_, _ = io.WriteString(c, sized("")+listA[:5])
		_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
		if b, err := io.ReadAll(c); err != nil || !bytes.Contains(b, []byte(" 400 ")) {
			t.Errorf("got %q (%v), want the end", b, err)
		}
		if got := n.sessions.Load(); got != 0 {
			t.Errorf("%d sessions", got)
		}
	})
}

// wantRaw reads from c until all of the texts have come, and returns what was read.
func wantRaw(t *testing.T, c net.Conn, why string, texts ...string) []byte {
	t.Helper()
	var all []byte
	buf := make([]byte, 4096)
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	for _, text := range texts {
		for !bytes.Contains(all, []byte(text)) {
			k, err := c.Read(buf)
			if all = append(all, buf[:k]...); err != nil {
				t.Fatalf("%v after %q, want %q: %s", err, all, text, why)
			}
		}
	}
	return all
}

func TestPostedStreamRefusals(t *testing.T) {
	n := newNode(t, func(c *Config) { c.MaxChannels, c.MaxCommand = 2, 1000 })
	as := "application/json"
	for _, tt := range []struct {
		name, path, as, body string
		status               int
		code                 Code
	}{
		{"nothing", "/sse", as, ``, 400, BadRequest},
		{"no JSON", "/sse", as, `channel=a`, 400, BadRequest},
		{"not UTF-8", "/sse", as, "{\"subscriptions\":[{\"channel\":\"\xff\"}]}", 400, BadRequest},
		{"two", "/sse", as, `{}{}`, 400, BadRequest},
		{"a poll", "/sse", as, `{"channel":"a"}`, 400, BadRequest},
		{"no list", "/sse", as, `{"subscriptions":"a"}`, 400, BadRequest},
		{"member twice", "/sse", as, `{"resume":"a","resume":"b"}`, 400, BadRequest},
		{"as a form can send it", "/sse", "text/plain", `{}`, 415, UnsupportedMedia},
		{"a channel in the query", "/sse?channel=a", as, `{}`, 400, BadRequest},
		{"a format in the query", "/sse?format=plain", as, `{}`, 400, BadRequest},
		{"too large", "/sse", as, `{"resume":"` + strings.Repeat("x", 1000) + `"}`, 413, TooLarge},
	} {
		t.Run(tt.name, func(t *testing.T) {
			status, body := n.post(tt.path, tt.as, tt.body)
			if status != tt.status || !bytes.Contains(body, []byte(`"code":"`+tt.code+`"`)) {
				t.Errorf("got %d %s, want %d %s", status, body, tt.status, tt.code)
			}
		})
	}
	if got := n.sessions.Load(); got != 0 {
		t.Errorf("%d sessions are left", got)
	}
	t.Run("not now", func(t *testing.T) {
		n := newNode(t, func(c *Config) { c.MaxSessions = 1 })
		n.postSSE("", listA).want("welcome", "*")
		if e := n.postSSE("", listA).want("unavailable", "*"); !strings.Contains(e.data, `"code":"at_capacity"`) || !strings.Contains(e.data, `"retry":`+e.retry) {
			t.Errorf("got %+v", e)
		}
	})
	t.Run("too much", func(t *testing.T) {
		n := newNode(t, func(c *Config) { c.ClientByteRate, c.ClientByteBurst = 1, 64<<10 })
		long := `{"subscriptions":[{"channel":"a"}],"resume":"` + strings.Repeat("x", 60_000) + `"}`
		n.postSSE("", long).want("welcome", "*")
		if e := n.postSSE("", long).want("unavailable", "*"); !strings.Contains(e.data, `"code":"rate_limited"`) {
			t.Errorf("got %+v", e)
		}
	})
}

// TestPostedStreamEmpty: a client that subscribes to nothing yet has a stream to do that for.
func TestPostedStreamEmpty(t *testing.T) {
	n := newNode(t, nil)
	for _, body := range []string{`{}`, `{"subscriptions":[]}`} {
		c := &client{t: t}
		c.open(n.postSSE("", body))
		if string(c.welcome.Channels) != "[]" {
			t.Errorf("welcome %+v", c.welcome)
		}
		if status, answer, _ := n.give(c.welcome.Session, "", `{"type":"subscribe","subscriptions":[{"channel":"a"}]}`); status != 200 {
			t.Fatalf("%d %s", status, answer)
		}
		n.publish("a", "x")
		c.want("x")
	}
}

// TestPostedStreamOrigins: pages ask before they send JSON and headers of their own.
func TestPostedStreamOrigins(t *testing.T) {
	n := newNode(t, func(c *Config) { c.Origins = []string{"https://app.example"} })
	for _, tt := range []struct {
		origin string
		status int
	}{{"https://app.example", 204}, {"https://evil.example", 403}} {
		resp := n.preflight("/sse", tt.origin, "authorization,content-type,sluice-signed")
		h := resp.Header
		if resp.StatusCode != tt.status {
			t.Errorf("%s: %d, want %d", tt.origin, resp.StatusCode, tt.status)
		}
		for name, wants := range map[string][]string{"Access-Control-Allow-Methods": {"POST"}, "Access-Control-Allow-Headers": {"Authorization", "Content-Type", "Sluice-Signed"}} {
			for _, want := range wants {
				if got := strings.Contains(h.Get(name), want); got != (tt.status == 204) {
					t.Errorf("%s: %s is %q", tt.origin, name, h.Get(name))
				}
			}
		}
		s := n.postSSE("", listA, "Origin", tt.origin)
		if tt.status != 204 {
			if s.resp.StatusCode != 403 {
				t.Errorf("%s: %d, want 403", tt.origin, s.resp.StatusCode)
			}
			continue
		}
		if s.want("welcome", "*"); s.resp.Header.Get("Access-Control-Allow-Origin") != tt.origin {
			t.Errorf("%s: %v", tt.origin, s.resp.Header)
		}
	}
}
