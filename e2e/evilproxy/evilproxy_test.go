package evilproxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// patience is for how long nothing may come until it counts as nothing.
const patience = 500 * time.Millisecond

// TestModes sees each mode as a client does that tries a WebSocket, a stream and a poll.
func TestModes(t *testing.T) {
	t.Parallel()
	const (
		open, flows, whole = "welcome, echo", "200 text/event-stream, flows", `200 ["hello","7","HTTP/1.1"]`
		silence            = "nothing"
	)
	want := map[string]struct{ ws, stream, poll string }{
		"honest":             {open, flows, whole},
		"ws-stripped":        {"426", flows, whole},
		"ws-400":             {"400", flows, whole},
		"ws-403":             {"403", flows, whole},
		"ws-502":             {"502", flows, whole},
		"ws-302":             {"302", flows, whole},
		"ws-200":             {"200", flows, whole},
		"ws-swallowed":       {silence, flows, whole},
		"ws-reset":           {"reset", flows, whole},
		"ws-lost":            {"open, nothing", flows, whole},
		"ws-down-lost":       {"open, nothing", flows, whole},
		"ws-up-lost":         {"welcome, nothing", flows, whole},
		"ws-ended":           {"open, end", flows, whole},
		"ws-altered":         {"welcome, broken", flows, whole},
		"held":               {"400", silence, whole},
		"held-16k":           {"400", silence, whole},
		"gzip":               {"400", "200 text/event-stream, nothing", whole},
		"gzip-polite":        {"400", "200 text/event-stream, nothing", whole},
		"sse-html":           {"400", "200 text/html, flows", whole},
		"sse-503":            {"400", "503 text/html, end", whole},
		"no-last-event-id":   {"400", flows, `200 ["hello","","HTTP/1.1"]`},
		"http-1.0":           {"426", flows, `200 ["hello","7","HTTP/1.0"]`},
		"idle-fin":           {open, flows, whole},
		"idle-rst":           {open, flows, whole},
		"idle-lost":          {open, flows, whole},
		"sse-idle-fin":       {"400", flows, whole},
		"sse-idle-rst":       {"400", flows, whole},
		"sse-idle-lost":      {"400", flows, whole},
		"life":               {open, flows, whole},
		"sse-life":           {"400", flows, whole},
		"no-workers":         {open, flows, whole},
		"swallowed-and-held": {silence, silence, whole},
		"lost-and-held":      {"open, nothing", silence, whole},
		"swallowed-and-gzip": {silence, "200 text/event-stream, nothing", whole},
		"held-and-idle":      {"400", silence, whole},
		"lost-and-life":      {"open, nothing", flows, whole},
	}
	for _, m := range Modes() {
		t.Run(m.Name, func(t *testing.T) {
			t.Parallel()
			w, ok := want[m.Name]
			if !ok {
				t.Fatal("the table does not have it")
			}
			p := behind(t, m)
			if got := trySocket(t, p); got != w.ws {
				t.Errorf("WebSocket: got %q, want %q: %s", got, w.ws, m.Why)
			}
			if got := tryStream(t, p, "no-cache"); got != w.stream {
				t.Errorf("stream: got %q, want %q: %s", got, w.stream, m.Why)
			}
			if got := tryPoll(t, p); got != w.poll {
				t.Errorf("poll: got %q, want %q: %s", got, w.poll, m.Why)
			}
		})
	}
}

// TestGzipPolite: an answer that forbids it is not compressed, by those who ask.
func TestGzipPolite(t *testing.T) {
	t.Parallel()
	for answers, want := range map[Answers]string{
		AnswersGzip:       "200 text/event-stream, nothing",
		AnswersGzipPolite: "200 text/event-stream, flows",
	} {
		if got := tryStream(t, behind(t, Mode{Answers: answers}), "no-store, no-transform"); got != want {
			t.Errorf("answers %d: got %q, want %q", answers, got, want)
		}
	}
}

// TestHeld16K: 16 KiB come at once, and not before they are there.
func TestHeld16K(t *testing.T) {
	t.Parallel()
	p := behind(t, Mode{Answers: AnswersHeld16K})
	begin := time.Now()
	res, err := transport(t).RoundTrip(streamRequest(t.Context(), t, p, ""))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	n, err := io.ReadFull(res.Body, make([]byte, 16<<10))
	// 82 events, one each 10 ms.
	if took := time.Since(begin); err != nil || took < 600*time.Millisecond {
		t.Errorf("got %d bytes after %v (%v), want 16 KiB after 0.8 s", n, took, err)
	}
}

// TestLimits: what is quiet ends after Idle, what is not stays; after Life both end.
func TestLimits(t *testing.T) {
	t.Parallel()
	const limit = 300 * time.Millisecond
	for _, test := range []struct {
		name        string
		mode        Mode
		quiet, busy string // how a WebSocket and a stream end
	}{
		{"no limit", Mode{}, "open", "open"},
		{"idle, FIN", Mode{Idle: limit}, "end", "open"},
		{"idle, RST", Mode{Idle: limit, IdleEnd: IdleRST}, "reset", "open"},
		{"idle, lost", Mode{Idle: limit, IdleEnd: IdleLost}, "dead", "open"},
		{"life", Mode{Life: limit}, "end", "end"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := behind(t, test.mode)
			for _, busy := range []bool{false, true} {
				want := map[bool]string{false: test.quiet, true: test.busy}[busy]
				if got := socketAfter(t, p, 3*limit, busy); got != want {
					t.Errorf("WebSocket, busy %v: got %q, want %q", busy, got, want)
				}
				if want == "dead" {
					want = "open" // a quiet stream can't be told from a dead one
				}
				if got := streamAfter(t, p, 3*limit, busy); got != want {
					t.Errorf("stream, busy %v: got %q, want %q", busy, got, want)
				}
			}
		})
	}
}

// TestNoWorkers: the script of a worker never comes, and everything else does.
func TestNoWorkers(t *testing.T) {
	t.Parallel()
	p := behind(t, Mode{NoWorkers: true})
	for dest, want := range map[string]string{"script": "404", "sharedworker": "nothing"} {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		req := streamRequest(ctx, t, p, "")
		req.URL.Path = "/sluice.js"
		req.Header.Set("Sec-Fetch-Dest", dest)
		res, err := transport(t).RoundTrip(req)
		got := why(err)
		if err == nil {
			got = fmt.Sprint(res.StatusCode)
			res.Body.Close()
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", dest, got, want)
		}
	}
}

// TestHeldAndIdle: an answer that takes longer than Idle never comes.
func TestHeldAndIdle(t *testing.T) {
	t.Parallel()
	if got := tryStream(t, behind(t, Mode{Answers: AnswersHeld, Idle: patience / 5}), ""); got != "end" {
		t.Errorf("got %q, want its end", got)
	}
}

func dial(t *testing.T, p *Proxy) (*websocket.Conn, string) {
	t.Helper()
	d := websocket.Dialer{HandshakeTimeout: patience}
	c, res, err := d.Dial(strings.Replace(p.URL(), "http", "ws", 1)+"/ws", nil)
	switch {
	case res != nil && err != nil:
		return nil, fmt.Sprint(res.StatusCode)
	case err != nil:
		return nil, why(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, ""
}

func trySocket(t *testing.T, p *Proxy) string {
	t.Helper()
	c, failed := dial(t, p)
	if failed != "" {
		return failed
	}
	hear := func() string {
		_ = c.SetReadDeadline(time.Now().Add(patience))
		_, b, err := c.ReadMessage()
		if err != nil {
			return why(err)
		}
		return string(b)
	}
	first := hear()
	if first != "welcome" {
		return "open, " + first
	}
	for _, say := range []string{"echo", "echo"} { // the second is beyond the first bytes
		_ = c.WriteMessage(websocket.TextMessage, []byte(say)) // hear tells
		if got := hear(); got != say {
			return first + ", " + got
		}
	}
	return first + ", echo"
}

// why is what a client can tell of an error.
func why(err error) string {
	var slow net.Error
	switch {
	case err == nil:
		return ""
	case errors.As(err, &slow) && slow.Timeout():
		return "nothing"
	case errors.Is(err, syscall.ECONNRESET):
		return "reset"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.EPIPE), websocket.IsCloseError(err, websocket.CloseAbnormalClosure):
		return "end"
	case websocket.IsCloseError(err, websocket.CloseProtocolError), strings.Contains(err.Error(), "RSV"):
		return "broken"
	}
	return err.Error()
}

// streamRequest asks for a stream. The transport is kept from decoding it.
func streamRequest(ctx context.Context, t *testing.T, p *Proxy, query string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.URL()+"/stream?"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept-Encoding", "gzip")
	return req
}

func transport(t *testing.T) *http.Transport {
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	return tr
}

func tryStream(t *testing.T, p *Proxy, cache string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	res, err := transport(t).RoundTrip(streamRequest(ctx, t, p, url.Values{"cache": {cache}}.Encode()))
	if err != nil {
		return why(err)
	}
	defer res.Body.Close()
	head := fmt.Sprintf("%d %s, ", res.StatusCode, res.Header.Get("Content-Type"))
	for got := ""; !strings.Contains(got, "data: "); {
		b := make([]byte, 1<<10)
		n, err := res.Body.Read(b)
		got += string(b[:n])
		if err != nil {
			return head + why(err)
		}
	}
	return head + "flows"
}

func tryPoll(t *testing.T, p *Proxy) string {
	t.Helper()
	c := &http.Client{Transport: transport(t)}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.URL()+"/poll", strings.NewReader("hello"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Last-Event-ID", "7")
	res, err := c.Do(req)
	if err != nil {
		return why(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return why(err)
	}
	return fmt.Sprintf("%d %s", res.StatusCode, body)
}

// socketAfter says what has become of a WebSocket after a time in which it was quiet, or was not.
func socketAfter(t *testing.T, p *Proxy, d time.Duration, busy bool) string {
	t.Helper()
	c, failed := dial(t, p)
	if failed != "" {
		return failed
	}
	echo := func() error {
		if err := c.WriteMessage(websocket.TextMessage, nil); err != nil {
			return err
		}
		_ = c.SetReadDeadline(time.Now().Add(patience))
		_, _, err := c.ReadMessage()
		return err
	}
	if err := echo(); err != nil { // reads the welcome; the echo is read by the next
		return why(err)
	}
	for end := time.Now().Add(d); time.Now().Before(end); {
		time.Sleep(d / 30)
		if busy {
			if err := echo(); err != nil {
				return why(err)
			}
		}
	}
	for range 2 {
		switch err := echo(); {
		case err != nil && why(err) == "nothing":
			return "dead"
		case err != nil:
			return why(err)
		}
	}
	return "open"
}

// streamAfter says the same of a stream.
func streamAfter(t *testing.T, p *Proxy, d time.Duration, busy bool) string {
	t.Helper()
	query := ""
	if !busy {
		query = "quiet=1"
	}
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	res, err := transport(t).RoundTrip(streamRequest(ctx, t, p, query))
	if err != nil {
		return why(err)
	}
	defer res.Body.Close()
	_, err = io.Copy(io.Discard, res.Body)
	if err == nil {
		err = io.EOF
	}
	if why(err) == "nothing" {
		return "open"
	}
	return why(err)
}
