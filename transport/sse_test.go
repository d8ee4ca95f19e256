package transport

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestSSE(t *testing.T) {
	n := newNode(t, nil)
	s := n.sse("channel=news")
	w := s.want("welcome", "*")
	if w.id == "" || w.retry == "" || !strings.Contains(w.data, `"channels":["news"]`) || !strings.Contains(w.data, `"heartbeat":10`) {
		t.Errorf("welcome %+v lacks something", w)
	}
	var told struct{ Retry json.Number }
	if err := json.Unmarshal([]byte(w.data), &told); err != nil || told.Retry.String() != w.retry {
		t.Errorf("the data of the welcome has retry %s (%v), the event %s; want the same", told.Retry, err, w.retry)
	}
	h := s.resp.Header
	for name, want := range map[string]string{"Content-Type": "text/event-stream", "Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no"} {
		if got := h.Get(name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	n.publish("news", "one")
	if e := s.want("", "one"); e.id == "" || e.id == w.id {
		t.Errorf("a durable message has id %q after %q", e.id, w.id)
	}
	n.publish("news", "two", "event=created")
	s.want("created", "two")
	n.publish("news", "three", "live=1")
	if e := s.want("", "three"); e.id != "" {
		t.Errorf("a live message has id %q", e.id)
	}
}

func TestSSEPayloads(t *testing.T) {
	n := newNode(t, nil)
	s := n.sse("channel=c")
	s.want("welcome", "*")
	for _, tt := range []struct{ name, data, want, why string }{
		{"empty", "", "", "an empty message is a message"},
		{"LF", "a\nb", "a\nb", ""},
		{"CRLF", "a\r\nb", "a\nb", "EventSource joins lines with LF"},
		{"CR", "a\rb", "a\nb", "a bare CR ends a line for every browser"},
		{"CR before a field", "a\rid: evil", "a\nid: evil", "a payload must not become a field"},
		{"ends in LF", "a\n", "a\n", ""},
		{"only line breaks", "\n\r\n\r", "\n\n\n", ""},
		{"leading space", "  a", "  a", "one space is the format's own"},
		{"colon", ": not a comment", ": not a comment", ""},
		{"BOM", "\ufeffa", "\ufeffa", ""},
		{"U+2028", "a\u2028b", "a\u2028b", "no line break for EventSource"},
		{"NUL", "a\x00b", "data:application/octet-stream;base64," + base64.StdEncoding.EncodeToString([]byte("a\x00b")), "Firefox drops it"},
		{"not UTF-8", "a\xffb", "data:application/octet-stream;base64," + base64.StdEncoding.EncodeToString([]byte("a\xffb")), ""},
		{"large", strings.Repeat("0123456789abcdef", 1<<16), strings.Repeat("0123456789abcdef", 1<<16), "1 MiB"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n.publish("c", tt.data)
			e, err := s.within(5 * time.Second)
			if err != nil || e.data != tt.want {
				t.Errorf("%.60q arrives as %.60q (%v), want %.60q: %s", tt.data, e.data, err, tt.want, tt.why)
			}
		})
	}
}

func TestSSEResume(t *testing.T) {
	n := newNode(t, nil)
	s := n.sse("channel=a&channel=b")
	s.want("welcome", "*")
	n.publish("a", "a1")
	s.want("", "a1")
	n.publish("b", "b1")
	s.want("", "b1")
	n.publish("a", "lost with the connection", "live=1")
	s.want("", "lost with the connection")
	s.close()
	n.publish("a", "a2")
	n.publish("a", "not kept", "live=1")
	n.publish("b", "b2")
	for _, how := range []string{"header", "query", "polyfill", "other order"} {
		t.Run(how, func(t *testing.T) {
			var r *stream
			switch how {
			case "header":
				r = n.sse("channel=a&channel=b", "Last-Event-ID", s.last)
			case "query":
				r = n.sse("channel=a&channel=b&resume=" + s.last)
			case "polyfill":
				r = n.sse("channel=a&channel=b&_=12345&lastEventId=" + s.last)
			default:
				r = n.sse("channel=b&channel=a", "Last-Event-ID", s.last)
			}
			r.want("welcome", "*")
			got := map[string]bool{}
			for range 2 {
				e, err := r.within(5 * time.Second)
				if err != nil {
					t.Fatal(err)
				}
				got[e.data] = true
			}
			if !got["a2"] || !got["b2"] {
				t.Errorf("after resuming got %v, want a2 and b2", got)
			}
			r.close()
		})
	}
}

func TestSSEBadToken(t *testing.T) {
	n := newNode(t, nil)
	other := n.sse("channel=other")
	foreign := other.want("welcome", "*").id
	n.publish("a", "secret of a")
	for _, token := range []string{"nonsense", foreign, strings.Repeat("A", 5000)} {
		s := n.sse("channel=a&resume=" + token)
		s.want("welcome", "*")
		s.want("gap", `{"channel":"a","reason":"bad_token"}`)
		n.publish("a", "new")
		s.want("", "new")
		s.close()
	}
}

func TestSSETruncated(t *testing.T) {
	n := newNode(t, nil)
	s := n.sse("channel=a")
	s.want("welcome", "*")
	s.close()
	for i := range 1100 { // the history keeps 1,000
		n.publish("a", fmt.Sprint(i))
	}
	r := n.sse("channel=a&resume=" + s.last)
	r.want("welcome", "*")
	if g := r.want("gap", "*"); !strings.Contains(g.data, `"reason":"truncated"`) || g.id == "" {
		t.Errorf("gap %+v", g)
	}
	for i := 100; i < 1100; i++ {
		r.want("", fmt.Sprint(i))
	}
}

func TestSSEHeartbeat(t *testing.T) {
	n := newNode(t, func(c *Config) { c.Heartbeat = 200 * time.Millisecond })
	comments := n.sse("channel=a")
	comments.want("welcome", "*")
	begin := time.Now()
	for range 3 {
		if line, err := comments.r.ReadString('\n'); err != nil || line != ":\n" {
			t.Fatalf("got %q, %v, want a comment of one line", line, err)
		}
	}
	if d := time.Since(begin); d > 3*300*time.Millisecond {
		t.Errorf("three heartbeats took %v; the longest silence is to be 200ms", d)
	}
	events := n.sse("channel=a&heartbeat=event")
	events.want("welcome", "*")
	if e := events.want("heartbeat", "*"); !strings.HasPrefix(e.data, `{"time":`) || e.id != "" {
		t.Errorf("heartbeat %+v", e)
	}
}

func TestSSERefusals(t *testing.T) {
	n := newNode(t, func(c *Config) { c.MaxChannels = 2 })
	for _, tt := range []struct {
		query  string
		status int
		code   Code
	}{
		{"", 400, BadRequest},
		{"format=plain", 400, BadRequest},
		{"resume=x", 400, BadRequest},
		{"channel=", 400, BadChannel},
		{"channel=a%20b", 400, BadChannel},
		{"channel=news*", 400, BadChannel},
		{"channel=a&channel=b&channel=c", 400, TooManyChannels},
		{"channel=a&format=xml", 400, BadRequest},
		{"channel=a&heartbeat=loud", 400, BadRequest},
		{"channel=a&chanel=b", 400, BadRequest},
		{"channel=%zz", 400, BadRequest},
		{"channel=secret.plans", 403, Forbidden},
	} {
		status, h, body := get(t, n.url("/sse?"+tt.query))
		if status != tt.status || !strings.Contains(body, `"code":"`+string(tt.code)+`"`) || h.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%q: got %d %s, want %d %s", tt.query, status, body, tt.status, tt.code)
		}
	}
}

// A new EventSource gives up for good on a 5xx, so a full node answers with a stream that ends.
func TestSSEAtCapacity(t *testing.T) {
	n := newNode(t, func(c *Config) { c.MaxSessions = 1 })
	first := n.sse("channel=a")
	first.want("welcome", "*")
	second := n.sse("channel=a")
	e := second.want("unavailable", "*")
	var told struct{ Retry json.Number }
	if err := json.Unmarshal([]byte(e.data), &told); err != nil || e.retry == "" || told.Retry.String() != e.retry || !strings.Contains(e.data, string(AtCapacity)) || second.resp.StatusCode != 200 {
		t.Errorf("got %d %+v", second.resp.StatusCode, e)
	}
	if _, err := second.within(5 * time.Second); err != io.EOF {
		t.Errorf("after it: %v, want the end of the stream", err)
	}
	first.close()
	for begin := time.Now(); ; {
		s := n.sse("channel=a")
		if e, err := s.within(5 * time.Second); err == nil && e.name == "welcome" {
			break
		}
		if time.Since(begin) > 5*time.Second {
			t.Fatal("the place of a client that left was not given to another within 5 s")
		}
	}
}

func TestSSEOverHTTP10(t *testing.T) {
	n := newNode(t, nil)
	c, err := net.Dial("tcp", n.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "GET /sse?channel=a HTTP/1.0\r\nHost: x\r\n\r\n")
	buf := make([]byte, 4096)
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	k, err := c.Read(buf)
	if err != nil || !strings.Contains(string(buf[:k]), "event: welcome\n") {
		t.Errorf("the first read has %q, %v; the head and the welcome are to come in one write", buf[:k], err)
	}
	if strings.Contains(strings.ToLower(string(buf[:k])), "chunked") {
		t.Error("HTTP/1.0 has no chunks")
	}
}

func TestSSEOverH2C(t *testing.T) {
	n := newNode(t, func(c *Config) { c.Heartbeat = 200 * time.Millisecond })
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	tr := &http.Transport{Protocols: p}
	defer tr.CloseIdleConnections()
	var all []*stream
	for range 10 { // more than a browser's six, on one connection
		s := openStream(t, tr, n.url("/sse?channel=a&heartbeat=event"))
		if s.resp.ProtoMajor != 2 {
			t.Fatalf("protocol %s", s.resp.Proto)
		}
		s.want("welcome", "*")
		all = append(all, s)
	}
	n.publish("a", "to all")
	for _, s := range all {
		for {
			e, err := s.within(5 * time.Second)
			if err != nil {
				t.Fatal(err)
			}
			if e.name == "" && e.data == "to all" {
				break
			}
		}
		s.close()
	}
	for begin := time.Now(); n.sessions.Load() > 0; time.Sleep(time.Millisecond) {
		if time.Since(begin) > 5*time.Second {
			t.Fatalf("%d sessions are left 5 s after their streams were reset", n.sessions.Load())
		}
	}
}
