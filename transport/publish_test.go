package transport

import (
	"encoding/json"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"sluice/broker"
)

func TestPublish(t *testing.T) {
	n := newNode(t, nil)
	c := n.ws("channel=a&channel=a/b:c", subprotocolJSON)
	c.want("welcome")
	for _, tt := range []struct{ name, body, data string }{
		{"a string is its text", `{"channel":"a","data":"hello \u00e9"}`, "hello é"},
		{"an object is its JSON", `{"channel":"a","data":{"x": [1, 2.50]}}`, `{"x": [1, 2.50]}`},
		{"a number", `{"channel":"a","data":1e999}`, "1e999"},
		{"null is a value too", `{"channel":"a","data":null}`, "null"},
		{"empty", `{"channel":"a","data":""}`, ""},
		{"bytes", `{"channel":"a","data64":"aGk="}`, "hi"},
	} {
		status, body := n.post("/publish", "application/json; charset=utf-8", tt.body)
		var p published
		if err := json.Unmarshal(body, &p); status != 200 || err != nil || p.Channel != "a" || p.Position == "" {
			t.Errorf("%s: got %d %s", tt.name, status, body)
			continue
		}
		if m := c.want("message"); m.Data != tt.data || m.Position != p.Position {
			t.Errorf("%s: got %q at %s, want %q at %s", tt.name, m.Data, m.Position, tt.data, p.Position)
		}
	}
	if _, body := n.post("/publish", "application/json", `{"channel":"a","data":"x","live":true}`); strings.Contains(string(body), "position") {
		t.Errorf("a live message has a position: %s", body)
	}
	c.want("message")
	n.publish("a%2Fb%3Ac", "encoded path")
	if m := c.want("message"); m.Channel != "a/b:c" {
		t.Errorf("got %+v", m)
	}
	n.publish("a/b:c", "plain path", "event=e", "key=k", "id=1")
	if m := c.want("message"); m.Channel != "a/b:c" || m.Event != "e" || m.Key != "k" {
		t.Errorf("got %+v", m)
	}
	req, err := http.NewRequest("POST", n.url("/publish/a"), strings.NewReader("by headers"))
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range [][2]string{{"Sluice-Event", "e2"}, {"Sluice-Key", "k2"}, {"Idempotency-Key", "i2"}, {"Sluice-Live", "true"}} {
		req.Header.Set(h[0], h[1])
	}
	r, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = r.Body.Close()
	if m := c.want("message"); m.Event != "e2" || m.Key != "k2" || m.Position != "" {
		t.Errorf("got %+v", m)
	}
}

func TestPublishMany(t *testing.T) {
	n := newNode(t, nil)
	s := n.sse("channel=a")
	s.want("welcome", "*")
	status, body := n.post("/publish", "application/json", `[
		{"channel":"a","data":"1"},{"channel":"b","data":"x"},{"channel":"a b","data":"x"},{"channel":"secret","data":"x"},
		{"channel":"a","data":"2"},{"channel":"a","colour":"red"},{"channel":"a","data":"3","id":"i"},{"channel":"a","data":"3","id":"i"}]`)
	var got struct{ Results []published }
	if err := json.Unmarshal(body, &got); err != nil || status != http.StatusMultiStatus || len(got.Results) != 8 {
		t.Fatalf("got %d %s", status, body)
	}
	for i, want := range []Code{"", "", BadChannel, Forbidden, "", BadRequest, "", ""} {
		r := got.Results[i]
		if want == "" && (r.Error != nil || r.Position == "") || want != "" && (r.Error == nil || r.Error.Code != want) {
			t.Errorf("result %d: got %+v %+v, want code %q", i, r, r.Error, want)
		}
	}
	if !got.Results[7].Duplicate || got.Results[7].Position != got.Results[6].Position {
		t.Errorf("the same id twice in one request: %+v and %+v", got.Results[6], got.Results[7])
	}
	for _, want := range []string{"1", "2", "3"} {
		s.want("", want)
	}
	if status, body := n.post("/publish", "application/json", `[{"channel":"a","data":"4"}]`); status != 200 {
		t.Errorf("all went well: %d %s", status, body)
	}
}

func TestPublishRefusals(t *testing.T) {
	n := newNode(t, func(c *Config) {
		c.MaxMessage = 1000
		c.MaxBatch = 2
		c.HeaderTimeout, c.BodyTimeout = 100*time.Millisecond, 200*time.Millisecond
	})
	for _, tt := range []struct {
		name, path, contentType, body string
		status                        int
		code                          Code
	}{
		{"no JSON type", "/publish", "text/plain", `{"channel":"a","data":1}`, 415, UnsupportedMedia},
		{"no JSON", "/publish", "application/json", `{"channel":`, 400, BadRequest},
		{"two messages", "/publish", "application/json", `{"channel":"a","data":1}{"channel":"a","data":1}`, 400, BadRequest},
		{"no channel", "/publish", "application/json", `{"data":1}`, 400, BadChannel},
		{"no data", "/publish", "application/json", `{"channel":"a"}`, 400, BadRequest},
		{"both data", "/publish", "application/json", `{"channel":"a","data":1,"data64":""}`, 400, BadRequest},
		{"bad base64", "/publish", "application/json", `{"channel":"a","data64":"?"}`, 400, BadRequest},
		{"unknown field", "/publish", "application/json", `{"channel":"a","data":1,"dta":2}`, 400, BadRequest},
		{"wrong type", "/publish", "application/json", `{"channel":["a"],"data":1}`, 400, BadRequest},
		{"too large", "/publish/a", "text/plain", strings.Repeat("x", 1001), 413, TooLarge},
		{"too large in JSON", "/publish", "application/json", `{"channel":"a","data":"` + strings.Repeat("x", 1001) + `"}`, 413, TooLarge},
		{"too many", "/publish", "application/json", `[{},{},{}]`, 413, TooLarge},
		{"bad channel", "/publish/a*b", "text/plain", "x", 400, BadChannel},
		{"an encoded channel that is encoded", "/publish/%2561", "text/plain", "x", 400, BadChannel},
		{"the same, where the raw path is matched", "/publish/%2Fa%2561", "text/plain", "x", 400, BadChannel},
		{"no channel in the path", "/publish/", "text/plain", "x", 400, BadChannel},
		{"forbidden", "/publish/secret", "text/plain", "x", 403, Forbidden},
		{"reserved event", "/publish/a?event=welcome", "text/plain", "x", 400, BadMessage},
		{"event of EventSource", "/publish/a?event=error", "text/plain", "x", 400, BadMessage},
		{"line break in the event", "/publish/a?event=a%0Ad", "text/plain", "x", 400, BadMessage},
		{"long key", "/publish/a?key=" + strings.Repeat("k", broker.MaxKey+1), "text/plain", "x", 413, TooLarge},
		{"live is no number", "/publish/a?live=maybe", "text/plain", "x", 400, BadRequest},
		{"elsewhere", "/elsewhere", "text/plain", "x", 404, NotFound},
		{"method", "/ws", "text/plain", "x", 405, MethodNotAllowed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			status, body := n.post(tt.path, tt.contentType, tt.body)
			if status != tt.status || !strings.Contains(string(body), `"code":"`+string(tt.code)+`"`) {
				t.Errorf("got %d %s, want %d %s", status, body, tt.status, tt.code)
			}
			if strings.Contains(string(body), "Go ") || strings.Contains(string(body), "transport.") {
				t.Errorf("the answer shows internals: %s", body)
			}
		})
	}
	t.Run("compressed", func(t *testing.T) {
		req, _ := http.NewRequest("POST", n.url("/publish/a"), strings.NewReader("x"))
		req.Header.Set("Content-Encoding", "gzip")
		r, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = r.Body.Close()
		if r.StatusCode != 415 {
			t.Errorf("got %d", r.StatusCode)
		}
	})
	t.Run("a body that never ends", func(t *testing.T) {
		c, err := net.Dial("tcp", n.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Write([]byte("POST /publish/a HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")); err != nil {
			t.Fatal(err)
		}
		_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
		b := make([]byte, 1000)
		if k, err := c.Read(b); err != nil || !strings.Contains(string(b[:k]), " 400 ") {
			t.Errorf("got %q, %v", b[:k], err)
		}
	})
}

func TestHealth(t *testing.T) {
	n := newNode(t, func(c *Config) { c.Demo = true })
	if status, _, body := get(t, n.url("/healthz")); status != 200 || body != "ok\n" {
		t.Errorf("healthz: %d %q", status, body)
	}
	if status, _, body := get(t, n.url("/readyz")); status != 200 || !strings.Contains(body, `"ready":true`) {
		t.Errorf("readyz: %d %s", status, body)
	}
	if status, _, body := get(t, n.url("/")); status != 200 || !strings.Contains(body, "<title>") {
		t.Errorf("the page: %d %.100s", status, body)
	}
	if status, _, body := get(t, n.url("/etc/passwd")); status != 404 || !strings.Contains(body, string(NotFound)) {
		t.Errorf("another path: %d %.100s", status, body)
	}
}
