package transport

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"sluice/broker"
)

func TestWSPlain(t *testing.T) {
	n := newNode(t, nil)
	c := n.plain("c", "")
	for _, tt := range []struct {
		name, data string
		kind       int
	}{
		{"text", "hello", websocket.TextMessage},
		{"empty", "", websocket.TextMessage},
		{"line breaks", "a\r\nb\rc\nd", websocket.TextMessage},
		{"NUL", "a\x00b", websocket.TextMessage},
		{"BOM", "\ufeffa", websocket.TextMessage},
		{"not UTF-8", "a\xffb", websocket.BinaryMessage},
		{"half a character", "\xe2\x82", websocket.BinaryMessage},
		{"1 MiB", strings.Repeat("x", 1<<20), websocket.TextMessage},
	} {
		n.publish("c", tt.data)
		if kind, b := c.read(); kind != tt.kind || string(b) != tt.data {
			t.Errorf("%s: got kind %d %.40q, want kind %d %.40q", tt.name, kind, b, tt.kind, tt.data)
		}
	}
}

func TestWSJSON(t *testing.T) {
	n := newNode(t, nil)
	c := n.ws("channel=a", subprotocolJSON)
	if c.Subprotocol() != subprotocolJSON {
		t.Fatalf("subprotocol %q", c.Subprotocol())
	}
	w := c.want("welcome")
	if w.Session == "" || w.Heartbeat != 10 || string(w.Channels) != `["a"]` || w.Token == "" {
		t.Errorf("welcome %+v", w)
	}
	if least := n.config.Retry.Milliseconds(); w.Retry < least || w.Retry >= 2*least {
		t.Errorf("welcome has retry %d, want %d to %d", w.Retry, least, 2*least)
	}
	pos := n.publish("a", "quote \" slash \\ tab \t", "event=created", "key=k")
	if m := c.want("message"); m.Channel != "a" || m.Position != pos || m.Event != "created" || m.Key != "k" || m.Data != "quote \" slash \\ tab \t" || m.Time == 0 {
		t.Errorf("message %+v, position should be %s", m, pos)
	}
	n.publish("a", "\xff\xfe")
	if m := c.want("message"); m.Data64 != "//4=" || m.Data != "" {
		t.Errorf("a payload that is not UTF-8 arrives as %+v", m)
	}

	c.send(`{"type":"subscribe","ref":1,"channel":"b"}`)
	if r := c.want("reply"); r.Ref != 1.0 || !strings.Contains(string(r.Channels), `{"channel":"b","position":"`) {
		t.Errorf("reply %+v %s", r, r.Channels)
	}
	c.send(`{"type":"subscribe","ref":"again","channel":"b"}`)
	if r := c.want("reply"); r.Ref != "again" {
		t.Errorf("subscribing twice: %+v", r)
	}
	c.send(`{"type":"publish","ref":3,"channel":"b","data":"from a client","id":"x"}`)
	var m, r frame
	for range 2 { // in either order: the one comes out of the log, the other from the backend
		if f := c.want(""); f.Type == "message" {
			m = f
		} else {
			r = f
		}
	}
	if m.Data != "from a client" || r.Ref != 3.0 || r.Position != m.Position || r.Duplicate {
		t.Errorf("published %+v, answered %+v", m, r)
	}
	c.send(`{"type":"publish","ref":4,"channel":"b","data":"from a client","id":"x"}`)
	if r := c.want("reply"); !r.Duplicate || r.Position != m.Position {
		t.Errorf("the same id again: %+v", r)
	}
	c.send(`{"type":"unsubscribe","ref":5,"channel":"b"}`)
	c.want("reply")
	n.publish("b", "unheard")
	c.send(`{"type":"ping","ref":6}`)
	if r := c.want("reply"); r.Ref != 6.0 || r.Time == 0 || r.Token == "" {
		t.Errorf("pong %+v", r)
	}
}

func TestWSCommandErrors(t *testing.T) {
	n := newNode(t, func(c *Config) { c.MaxChannels = 3; c.CommandBurst = 1000 })
	c := n.ws("", subprotocolJSON)
	c.want("welcome")
	for _, tt := range []struct {
		command string
		code    Code
		ref     any
	}{
		{`{"type":"subscribe","ref":1}`, BadRequest, 1.0},
		{`{"type":"subscribe","ref":2,"channel":"a b"}`, BadChannel, 2.0},
		{`{"type":"subscribe","ref":3,"channel":"secret.a"}`, Forbidden, 3.0},
		{`{"type":"subscribe","ref":4,"channels":["a","b","c","d"]}`, TooManyChannels, 4.0},
		{`{"type":"subscribe","ref":5,"channel":"a","since":"soon"}`, BadToken, 5.0},
		{`{"type":"subscribe","ref":6,"channel":"a","resume":"AAAA"}`, BadToken, 6.0},
		{`{"type":"subscribe","ref":7,"channels":["a","b"],"since":"1795426843459-0-9f3c"}`, BadRequest, 7.0},
		{`{"type":"publish","ref":8,"channel":"a"}`, BadRequest, 8.0},
		{`{"type":"publish","ref":9,"channel":"a","data":"x","event":"gap"}`, BadMessage, 9.0},
		{`{"type":"publish","ref":10,"channel":"a","data":"x","event":"a\nid: 1"}`, BadMessage, 10.0},
		{`{"type":"publish","ref":11,"channel":"secret","data":"x"}`, Forbidden, 11.0},
		{`{"type":"shout","ref":12}`, BadRequest, 12.0},
		{`{"type":"ping","ref":13,"colour":"red"}`, BadRequest, 13.0},
		{`{"type":"ping","ref":{"a":1}}`, BadRequest, nil},
		{`{"type":"ping"`, BadRequest, nil},
		{`{"type":"ping"} {}`, BadRequest, nil},
		{`[]`, BadRequest, nil},
		{`"`, BadRequest, nil},
		{strings.Repeat("[", 50_000), BadRequest, nil},
	} {
		c.send(tt.command)
		if e := c.want("error"); e.Code != string(tt.code) || e.Ref != tt.ref || e.Detail == "" {
			t.Errorf("%.80s: got %+v, want %s with ref %v", tt.command, e, tt.code, tt.ref)
		}
	}
	c.send(`{"type":"ping","ref":"still here"}`)
	c.want("reply")
}

func TestWSResume(t *testing.T) {
	n := newNode(t, nil)
	c := n.ws("channel=a&channel=b", subprotocolJSON)
	token := c.want("welcome").Token
	_ = c.Close()
	a1, a2, b1 := n.publish("a", "a1"), n.publish("a", "a2"), n.publish("b", "b1")
	t.Run("by the query", func(t *testing.T) {
		c := n.ws("channel=a&channel=b&resume="+token, subprotocolJSON)
		c.want("welcome")
		got := map[string]bool{}
		for range 3 {
			got[c.want("message").Position] = true
		}
		if !got[a1] || !got[a2] || !got[b1] {
			t.Errorf("got %v", got)
		}
	})
	t.Run("by a command with the token", func(t *testing.T) {
		c := n.ws("", subprotocolJSON)
		c.want("welcome")
		c.send(`{"type":"subscribe","channels":["b"],"resume":"` + token + `"}`)
		c.want("reply")
		if m := c.want("message"); m.Position != b1 {
			t.Errorf("got %+v", m)
		}
	})
	t.Run("by a command with a position", func(t *testing.T) {
		c := n.ws("", subprotocolJSON)
		c.want("welcome")
		c.send(`{"type":"subscribe","channel":"a","since":"` + a1 + `"}`)
		c.want("reply")
		if m := c.want("message"); m.Position != a2 {
			t.Errorf("got %+v, want %s", m, a2)
		}
	})
	t.Run("on SSE", func(t *testing.T) {
		s := n.sse("channel=a&resume=" + token)
		s.want("welcome", "*")
		s.want("", "a1")
		s.want("", "a2")
	})
	t.Run("plain", func(t *testing.T) {
		c := n.ws("channel=a&resume=" + token)
		for _, want := range []string{"a1", "a2"} {
			if _, b := c.read(); string(b) != want {
				t.Errorf("got %q, want %q", b, want)
			}
		}
	})
	t.Run("with a bad token", func(t *testing.T) {
		c := n.ws("channel=a&resume=rubbish", subprotocolJSON)
		if e := c.want("error"); e.Code != string(BadToken) {
			t.Errorf("got %+v", e)
		}
		c.wantClose(int(closeBad))
	})
}

// A subscribe can be there before the welcome has gone out; the welcome is about the URL all the same.
func TestWSEarlySubscribe(t *testing.T) {
	n := newNode(t, nil)
	for range 50 {
		c := n.ws("", subprotocolJSON)
		c.send(`{"type":"subscribe","ref":1,"channels":["a","b"]}`)
		if w := c.want("welcome"); string(w.Channels) != "[]" || w.Token != "" {
			t.Fatalf("welcome %+v %s", w, w.Channels)
		}
		if r := c.want("reply"); !strings.Contains(string(r.Channels), `"b"`) {
			t.Fatalf("reply %+v %s", r, r.Channels)
		}
		_ = c.Close()
	}
}

func TestWSPing(t *testing.T) {
	n := newNode(t, func(c *Config) { c.Heartbeat = 200 * time.Millisecond })
	c := n.ws("channel=a", subprotocolJSON)
	c.want("welcome")
	pings := 0
	c.SetPingHandler(func(data string) error {
		pings++
		return c.WriteControl(websocket.PongMessage, []byte(data), time.Now().Add(time.Second))
	})
	for range 5 {
		c.want("heartbeat")
	}
	if pings == 0 {
		t.Error("a quiet client was not asked for a sign of life")
	}
	pong := ""
	c.SetPongHandler(func(data string) error { pong = data; return nil })
	if err := c.WriteControl(websocket.PingMessage, []byte("abc"), time.Now().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	c.want("heartbeat")
	if pong != "abc" {
		t.Errorf("a ping with abc got a pong with %q", pong)
	}
}

func TestWSSilentClientIsClosed(t *testing.T) {
	n := newNode(t, func(c *Config) { c.Heartbeat = 150 * time.Millisecond })
	c := n.ws("channel=a")
	c.SetPingHandler(func(string) error { return nil }) // never answers
	begin := time.Now()
	c.wantClose(int(closeSilent))
	if d := time.Since(begin); d < 300*time.Millisecond || d > 2*time.Second {
		t.Errorf("closed after %v, want after 2.5 heartbeats", d)
	}
}

func TestWSCommandRate(t *testing.T) {
	n := newNode(t, func(c *Config) { c.CommandRate = 1; c.CommandBurst = 5 })
	c := n.ws("", subprotocolJSON)
	c.want("welcome")
	for range 6 {
		c.send(`{"type":"ping"}`)
	}
	limited := false
	for range 6 {
		_, b := c.read()
		limited = limited || strings.Contains(string(b), string(RateLimited))
	}
	if !limited {
		t.Error("the sixth command in a row was not refused")
	}
	for range 60 {
		if c.WriteMessage(websocket.TextMessage, []byte(`{"type":"ping"}`)) != nil {
			break
		}
	}
	c.wantClose(int(closeTooFast))
}

func TestWSProtocolErrors(t *testing.T) {
	n := newNode(t, func(c *Config) { c.MaxCommand = 1000 })
	for _, tt := range []struct {
		name string
		send func(c *socket) error
		code int
	}{
		{"too large", func(c *socket) error { return c.WriteMessage(websocket.TextMessage, make([]byte, 1001)) }, websocket.CloseMessageTooBig},
		{"not UTF-8", func(c *socket) error { return c.WriteMessage(websocket.TextMessage, []byte("a\xff")) }, websocket.CloseInvalidFramePayloadData},
		{"a binary command", func(c *socket) error { return c.WriteMessage(websocket.BinaryMessage, []byte("x")) }, websocket.CloseUnsupportedData},
		{"not masked", func(c *socket) error { _, err := c.NetConn().Write([]byte{0x81, 1, 'x'}); return err }, websocket.CloseProtocolError},
		{"a close", func(c *socket) error {
			return c.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""), time.Now().Add(time.Second))
		}, websocket.CloseNormalClosure},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := n.ws("", subprotocolJSON)
			c.want("welcome")
			if err := tt.send(c); err != nil {
				t.Fatal(err)
			}
			c.wantClose(tt.code)
		})
	}
}

func TestWSHandshakeRefusals(t *testing.T) {
	n := newNode(t, nil)
	handshake := []string{"Connection", "Upgrade", "Upgrade", "websocket", "Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="}
	for _, tt := range []struct {
		name, query string
		header      []string
		status      int
		code        Code
	}{
		{"no handshake", "channel=a", nil, 426, UpgradeRequired},
		{"two keys", "channel=a", append(handshake, "Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="), 400, BadRequest},
		{"bad channel", "channel=a*", handshake, 400, BadChannel},
		{"forbidden", "channel=secret", handshake, 403, Forbidden},
		{"unknown parameter", "chanel=a", handshake, 400, BadRequest},
	} {
		t.Run(tt.name, func(t *testing.T) {
			status, _, body := get(t, n.url("/ws?"+tt.query), tt.header...)
			if status != tt.status || !strings.Contains(body, `"code":"`+string(tt.code)+`"`) {
				t.Errorf("got %d %s, want %d %s", status, body, tt.status, tt.code)
			}
		})
	}
	c := n.ws("")
	c.wantClose(int(closeBad)) // a plain client without a channel would wait for ever
}

func TestDrain(t *testing.T) {
	n := newNode(t, nil)
	s, c := n.sse("channel=a"), n.ws("channel=a", subprotocolJSON)
	s.want("welcome", "*")
	c.want("welcome")
	n.publish("a", "owed")
	n.stop()
	s.want("", "owed")
	if e := s.want("reconnect", "*"); e.retry == "" || e.data != fmt.Sprintf(`{"delay":%s}`, e.retry) {
		t.Errorf("reconnect %+v", e)
	}
	if _, err := s.within(5 * time.Second); err != io.EOF {
		t.Errorf("after reconnect: %v, want the end", err)
	}
	if m := c.want("message"); m.Data != "owed" {
		t.Errorf("got %+v", m)
	}
	if r := c.want("reconnect"); r.Delay < 2000 || r.Delay >= 4000 {
		t.Errorf("reconnect %+v, want a delay between 2 and 4 s", r)
	}
	c.wantClose(int(closeRestart))
	if _, err := http.Get(n.url("/healthz")); err == nil {
		t.Error("a node that drains takes new connections")
	}
}

// RFC 6455 §5.5.1: nothing follows a close frame, however many messages are on their way.
func TestWSNothingAfterClose(t *testing.T) {
	n := newNode(t, func(c *Config) { c.Coalesce = 0 })
	stop := make(chan struct{})
	var publishing sync.WaitGroup
	publishing.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				_, _ = n.broker.Publish(t.Context(), &broker.Message{Channel: "a", Data: []byte("x")}, broker.PublishOptions{Live: true})
			}
		}
	})
	defer publishing.Wait()
	defer close(stop)
	for range 20 {
		c, err := net.Dial("tcp", n.addr)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(c, "GET /ws?channel=a HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
		r := bufio.NewReader(c)
		if _, err := http.ReadResponse(r, nil); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Peek(3); err != nil { // messages flow
			t.Fatal(err)
		}
		if _, err := c.Write([]byte{0x81, 1, 'x'}); err != nil { // not masked: a protocol error
			t.Fatal(err)
		}
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		all, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(all); {
			size := 2 + int(all[i+1])
			if all[i] == 0x88 && i+size != len(all) {
				t.Fatalf("%d bytes follow the close frame: %.20q", len(all)-i-size, all[i+size:])
			}
			i += size
		}
		_ = c.Close()
	}
}
