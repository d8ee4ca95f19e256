package transport

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"go.uber.org/goleak"

	"sluice/broker"
	"sluice/broker/memory"
	"sluice/middleware/auth"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// everyone lets everybody in, except to channels that begin with "secret".
type everyone struct{}

func (everyone) Authorize(*http.Request, auth.Purpose) (Grant, error) { return everyone{}, nil }
func (everyone) Signed(*http.Request) ([]string, error)               { return nil, nil }
func (everyone) Renew(context.Context, Grant, string) (Grant, error)  { return everyone{}, nil }
func (everyone) Who() *auth.Identity                                  { return &auth.Identity{} }
func (everyone) Trace() error                                         { return errors.New("no rule lets you ask for traces") }
func (everyone) Send(channel string) error                            { return everyone{}.Publish(channel) }
func (everyone) Subscribe(_ context.Context, channels, _ []string) ([]auth.Admission, error) {
	for _, c := range channels {
		if err := (everyone{}).Publish(c); err != nil {
			return nil, err
		}
	}
	return nil, nil
}
func (everyone) Publish(channel string) error {
	if strings.HasPrefix(channel, "secret") {
		return fmt.Errorf("nobody may touch secret channels")
	}
	return nil
}

// node is a server on a free port of the loopback, with a memory backend.
type node struct {
	*Server
	t      *testing.T
	addr   string
	stop   context.CancelFunc
	served chan error
}

func newNode(t *testing.T, change func(*Config)) *node {
	t.Helper()
	return newNodeOver(t, memory.New(memory.DefaultConfig()), change)
}

func newNodeOver(t *testing.T, backend broker.Backend, change func(*Config)) *node {
	t.Helper()
	return newLoggingNode(t, backend, nil, change)
}

func newLoggingNode(t *testing.T, backend broker.Backend, log *slog.Logger, change func(*Config)) *node {
	t.Helper()
	return newNodeWith(t, backend, log, change, func(*Server) *tls.Config { return nil })
}

// newNodeWith is newLoggingNode that speaks TLS as last says, which may change the server before it serves.
func newNodeWith(t *testing.T, backend broker.Backend, log *slog.Logger, change func(*Config), last func(*Server) *tls.Config) *node {
	t.Helper()
	c := DefaultConfig()
	c.Access = everyone{}
	c.DrainTime = 50 * time.Millisecond
	if change != nil {
		change(&c)
	}
	var s *Server
	b := broker.New(backend, broker.Options{OnRevoke: func(list []broker.Revocation) { s.Revoke(list) },
		OnAsk: func(q broker.Question) bool { return s.Asked(q) }, MaxMessage: c.MaxMessage, Linger: 50 * time.Millisecond,
		Arrivals: c.Measured() || c.Tracer != nil, Tracer: c.Tracer, Clock: c.Clock})
	var err error
	if s, err = New(b, c, log); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	bctx, bstop := context.WithCancel(context.Background())
	ran, served := make(chan error, 1), make(chan error, 1)
	go func() { ran <- b.Run(bctx) }()
	secure := last(s)
	go func() { served <- s.Serve(ctx, ln, secure) }()
	n := &node{Server: s, t: t, addr: ln.Addr().String(), stop: stop, served: served}
	t.Cleanup(func() {
		stop()
		if err := <-served; err != nil {
			t.Errorf("Serve = %v", err)
		}
		bstop()
		if err := <-ran; err != nil {
			t.Errorf("Run = %v", err)
		}
	})
	return n
}

func (n *node) url(path string) string { return "http://" + n.addr + path }

// publish posts data and returns the answer's position.
func (n *node) publish(channel, data string, query ...string) string {
	n.t.Helper()
	status, body := n.post("/publish/"+channel+"?"+strings.Join(query, "&"), "text/plain", data)
	var p published
	if err := json.Unmarshal(body, &p); status != 200 || err != nil {
		n.t.Fatalf("publish to %s: %d %s", channel, status, body)
	}
	return p.Position
}

func (n *node) post(path, contentType, body string) (int, []byte) {
	n.t.Helper()
	r, err := http.Post(n.url(path), contentType, strings.NewReader(body))
	if err != nil {
		n.t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		n.t.Fatal(err)
	}
	return r.StatusCode, b
}

// event is one event of a stream as EventSource would see it.
type event struct {
	name, id, data, retry string
	other                 string // a field that EventSource ignores
}

// stream reads text/event-stream by the book (WHATWG HTML §9.2.6).
type stream struct {
	t    *testing.T
	resp *http.Response
	r    *bufio.Reader
	last string // Last-Event-ID
}

func (n *node) sse(query string, header ...string) *stream {
	n.t.Helper()
	return openStream(n.t, http.DefaultTransport, n.url("/sse?"+query), header...)
}

func openStream(t *testing.T, rt http.RoundTripper, url string, header ...string) *stream {
	t.Helper()
	req, err := http.NewRequest("GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	return sendStream(t, rt, req)
}

func sendStream(t *testing.T, rt http.RoundTripper, req *http.Request) *stream {
	t.Helper()
	resp, err := rt.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	s := &stream{t: t, resp: resp, r: bufio.NewReaderSize(resp.Body, 64<<10)}
	t.Cleanup(s.close)
	return s
}

func (s *stream) close() { _ = s.resp.Body.Close() }

// next returns the next event; io.EOF at the end of the stream.
func (s *stream) next() (e event, err error) {
	dispatch := false
	var data []string
	for {
		line, err := s.r.ReadString('\n')
		if err != nil {
			return e, err
		}
		line = strings.TrimSuffix(line, "\n")
		if line == "" {
			if !dispatch {
				continue
			}
			e.data = strings.Join(data, "\n")
			if e.id != "" {
				s.last = e.id
			}
			return e, nil
		}
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "event":
			e.name = value
		case "data":
			data = append(data, value)
			dispatch = true
		case "id":
			e.id = value
		case "retry":
			e.retry = value
		default:
			if field != "" {
				e.other = line
			}
		}
	}
}

// want reads the next event and checks its name and data.
func (s *stream) want(name, data string) event {
	s.t.Helper()
	e, err := s.within(5 * time.Second)
	if err != nil {
		s.t.Fatalf("event %q %q: %v", name, data, err)
	}
	if e.name != name || data != "*" && e.data != data {
		s.t.Fatalf("got event %q with %.200q, want %q with %.200q", e.name, e.data, name, data)
	}
	return e
}

// within is next with a deadline.
func (s *stream) within(d time.Duration) (event, error) {
	type result struct {
		event
		error
	}
	c := make(chan result, 1)
	go func() {
		e, err := s.next()
		c <- result{e, err}
	}()
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case r := <-c:
		return r.event, r.error
	case <-t.C:
		s.close()
		<-c
		return event{}, fmt.Errorf("nothing came within %v", d)
	}
}

// socket is a WebSocket client.
type socket struct {
	t *testing.T
	*websocket.Conn
}

func (n *node) ws(query string, protocols ...string) *socket {
	n.t.Helper()
	d := websocket.Dialer{Subprotocols: protocols, HandshakeTimeout: 5 * time.Second}
	c, resp, err := d.Dial("ws://"+n.addr+"/ws?"+query, nil)
	if err != nil {
		body := ""
		if resp != nil {
			b, _ := io.ReadAll(resp.Body)
			body = resp.Status + " " + string(b)
		}
		n.t.Fatalf("dial: %v %s", err, body)
	}
	n.t.Cleanup(func() { _ = c.Close() })
	return &socket{n.t, c}
}

// plain opens a plain WebSocket and waits until it is joined, which a plain client is not told: it
// publishes until something arrives.
func (n *node) plain(channel, query string) *socket {
	n.t.Helper()
	c := n.ws("channel=" + channel + query)
	got := make(chan error, 1)
	go func() {
		_, _, err := c.ReadMessage()
		got <- err
	}()
	for i := 0; ; i++ {
		n.publish(channel, "knock "+strconv.Itoa(i), "live=1")
		select {
		case err := <-got:
			if err != nil {
				n.t.Fatal(err)
			}
			// What else was knocked comes before what the test publishes; the test's own reads skip it.
			return c
		case <-time.After(5 * time.Millisecond):
			if i > 1000 {
				n.t.Fatal("a plain WebSocket was not joined within 5 s")
			}
		}
	}
}

func (s *socket) read() (int, []byte) {
	s.t.Helper()
	for {
		_ = s.SetReadDeadline(time.Now().Add(5 * time.Second))
		kind, b, err := s.ReadMessage()
		if err != nil {
			s.t.Fatalf("read: %v", err)
		}
		if !bytes.HasPrefix(b, []byte("knock ")) {
			return kind, b
		}
	}
}

// frame is anything that sluice.v1.json sends.
type frame struct {
	Type, Channel, Position, Event, Key, Data, Data64, Code, Detail, From, To, Reason, Session, Token string
	Ref                                                                                               any
	Time, Delay, Retry, Expires                                                                       int64
	Heartbeat                                                                                         float64
	Duplicate                                                                                         bool
	Channels                                                                                          json.RawMessage
	Skipped                                                                                           int
	Messages                                                                                          []frame
	Deliver                                                                                           json.RawMessage
	Traceparent                                                                                       string
	Traced                                                                                            json.RawMessage
}

// want reads the next frame that is not a heartbeat and checks its type; "" is any.
func (s *socket) want(kind string) frame {
	s.t.Helper()
	for {
		_, b := s.read()
		var f frame
		if err := json.Unmarshal(b, &f); err != nil {
			s.t.Fatalf("frame %q: %v", b, err)
		}
		if f.Type == "heartbeat" && kind != "heartbeat" {
			continue
		}
		if kind != "" && f.Type != kind {
			s.t.Fatalf("got %s, want a %s", b, kind)
		}
		return f
	}
}

func (s *socket) send(text string) {
	s.t.Helper()
	if err := s.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
		s.t.Fatal(err)
	}
}

// wantClose reads until the close frame and checks its code.
func (s *socket) wantClose(code int) *websocket.CloseError {
	s.t.Helper()
	for {
		_ = s.SetReadDeadline(time.Now().Add(10 * time.Second))
		_, _, err := s.ReadMessage()
		if err == nil {
			continue
		}
		e, ok := err.(*websocket.CloseError)
		if !ok || e.Code != code {
			s.t.Fatalf("got %v, want close code %d", err, code)
		}
		return e
	}
}

func get(t *testing.T, url string, header ...string) (int, http.Header, string) {
	t.Helper()
	req, err := http.NewRequest("GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	r, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, r.Header, string(b)
}
