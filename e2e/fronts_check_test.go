package e2e

import (
	"bufio"
	"compress/gzip"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// TestProxies: each configuration does to WebSockets and streams what it is there for, and polls pass through all of them. It says what
// TestBrowserProxies is about, and sees that none of it is about something else.
func TestProxies(t *testing.T) {
	t.Parallel()
	want := map[string]struct {
		ws, sse bool // come through
		why     string
	}{
		"nginx, defaults": {false, true, "HTTP/1.0 to the node; X-Accel-Buffering switches its buffers off"},
		"nginx, buffers, X-Accel-Buffering ignored":   {false, false, "what is less than a buffer waits for the end"},
		"nginx, gzip of streams":                      {false, true, "it flushes"},
		"nginx, idle 5 s":                             {true, true, "the heartbeat is shorter"},
		"nginx, WebSocket answered 403":               {false, true, "only handshakes are refused"},
		"nginx, Last-Event-ID dropped":                {false, true, "Connection: close is no upgrade"},
		"nginx, cache that ignores headers":           {false, false, "it buffers what it may keep"},
		"nginx, 3 connections a client":               {true, true, "there are fewer"},
		"nginx, recommended, HTTP/2":                  {true, true, ""},
		"nginx, recommended, HTTP/2, streams alone":   {true, true, "only pages leave WebSockets alone"},
		"HAProxy, defaults":                           {true, true, ""},
		"HAProxy, Upgrade stripped":                   {false, true, ""},
		"HAProxy, gzip of streams, Upgrade stripped":  {false, true, "it heeds no-transform"},
		"HAProxy, idle 5 s":                           {true, true, "the heartbeat is shorter"},
		"HAProxy, wait-for-body, Upgrade stripped":    {false, false, "a stream's body has no end"},
		"HAProxy, recommended, HTTP/2":                {true, true, ""},
		"HAProxy, recommended, HTTP/2, streams alone": {true, true, "only pages leave WebSockets alone"},
		"Apache, ProxyPass alone":                     {false, true, ""},
		"Apache, upgrade=websocket":                   {true, true, ""},
		"Apache, mod_deflate of streams":              {false, true, "it flushes"},
		"Apache, HTTP/1.0 to the node, idle 5 s":      {false, true, "the heartbeat is shorter"},
		"Apache, recommended, HTTP/2":                 {true, true, ""},
		"Apache, recommended, HTTP/2, streams alone":  {true, true, "only pages leave WebSockets alone"},
		"Caddy, encode gzip, WebSocket answered 403":  {false, true, "what begins with less than 512 bytes is not compressed"},
		"Caddy, recommended, HTTP/2":                  {true, true, ""},
		"Caddy, recommended, HTTP/2, streams alone":   {true, true, "only pages leave WebSockets alone"},
	}
	f := newFronts(t, startFrontNodes(t))
	f.startNginx()
	f.startHAProxy()
	f.startApache()
	f.startCaddy()
	if len(f.all) != len(want) {
		t.Errorf("there are %d configurations, and the table has %d", len(f.all), len(want))
	}
	var all sync.WaitGroup
	defer all.Wait()
	for _, front := range f.all {
		w, ok := want[front.name]
		if !ok {
			t.Errorf("the table does not have %s", front.name)
		}
		all.Go(func() {
			if got, err := f.handshake(front); got != w.ws {
				t.Errorf("%s: a WebSocket comes through: %v (%v), want %v: %s", front.name, got, err, w.ws, w.why)
			}
			delays, err := f.stream(front)
			if got := err == nil; got != w.sse {
				t.Errorf("%s: a stream comes through: %v (%v), want %v: %s", front.name, got, err, w.sse, w.why)
			} else if got {
				slices.Sort(delays)
				if median := delays[len(delays)/2]; median > 150*time.Millisecond {
					t.Errorf("%s: messages of a stream take %v, want them at once", front.name, delays)
				}
			}
			if err := f.poll(front); err != nil {
				t.Errorf("%s: a poll: %v", front.name, err)
			}
		})
	}
}

// handshake opens a WebSocket as a page of the front's own origin, and waits for the welcome.
func (f *fronts) handshake(to front) (bool, error) {
	d := websocket.Dialer{HandshakeTimeout: 2 * time.Second, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, Subprotocols: []string{subprotocol}}
	c, _, err := d.Dial(strings.Replace(to.url, "http", "ws", 1)+"/ws", http.Header{"Origin": {to.url}})
	if err != nil {
		return false, err
	}
	defer c.Close()
	_ = c.SetReadDeadline(time.Now().Add(2 * time.Second))
	_, _, err = c.ReadMessage()
	return err == nil, err
}

// stream listens to a channel of the front's own, publishes through the front, and returns how long the messages took.
func (f *fronts) stream(to front) (delays []time.Duration, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Second)
	defer cancel()
	channel := "c" + strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' {
			return r
		}
		return -1
	}, to.name)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, to.url+"/sse?channel="+channel, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "text/event-stream")
	req.Header.Set("Accept-Encoding", "gzip")
	c := f.client()
	defer c.CloseIdleConnections()
	res, err := c.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	body := io.Reader(res.Body)
	if res.Header.Get("Content-Encoding") == "gzip" {
		if body, err = gzip.NewReader(res.Body); err != nil {
			return nil, err
		}
	}
	lines := bufio.NewReader(body)
	await := func(what string) error {
		for {
			line, err := lines.ReadString('\n')
			if err != nil || strings.HasPrefix(line, what) {
				return err
			}
		}
	}
	if err := await("event: welcome"); err != nil {
		return nil, err
	}
	for range 5 {
		if _, err := publish(ctx, c, to.url, channel, "", "hello"); err != nil {
			return nil, err
		}
		begin := time.Now()
		if err := await("data: hello"); err != nil {
			return nil, err
		}
		delays = append(delays, time.Since(begin))
	}
	return delays, nil
}

// poll asks once, as a page of the front's own origin.
func (f *fronts) poll(to front) error {
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to.url+"/poll", strings.NewReader(`{"channel":"c","wait":0}`))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Origin", to.url)
	req.Header.Set("Sec-Fetch-Site", "same-origin") // not all pass Host on
	c := f.client()
	defer c.CloseIdleConnections()
	res, err := c.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", res.Status, body)
	}
	return err
}

// client is one whose connections nobody else has.
func (f *fronts) client() *http.Client {
	return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true}}
}
