package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// kind is how a client listens.
type kind string

const (
	viaSSE     kind = "sse"
	viaSSEJSON kind = "sse json"
	viaWS      kind = "ws sluice.v1.json"
	viaWSPlain kind = "ws plain" // can't resume: for faults that do not cut clients off
	viaPoll    kind = "poll"
	viaAll     kind = "all" // changes the transport every few messages
)

// received is one thing that a client got: a message or a gap.
type received struct {
	data    string
	via     string // transport, for the report
	gap     *body  // not nil: a gap, no message
	channel string // of a message, where the format says it
	skipped int    // dropped before it
}

// client listens to channels as a careful program would: it comes back at once whenever it is cut
// off, with what docs/protocol.md says it needs to resume, until the test is over.
type client struct {
	name     string
	kind     kind
	channels []string
	base     func(attempt int) string // http://host:port to connect to
	hop      int                      // messages per connection (viaAll), or until the next mood
	away     time.Duration            // at most, between two connections
	http     *http.Client
	dial     dialFunc         // WebSocket; nil: an ordinary connection
	wish     wish             // of all channels
	moods    []wish           // WebSocket: it takes another of these every few messages
	terms    map[string]terms // what its policies make of the channels, for the judge; absent: it gets everything

	// Owned by run: where the client stands.
	token string            // of everything up to the newest event that had one
	since map[string]string // positions that are newer than the token, by channel
	joins int               // subscribe commands of this connection without an answer: a token does not know their channels

	mu         sync.Mutex
	got        []received
	probed     map[string]bool // channels that a probe has come through
	ends       map[string]bool // channels whose last message has come
	ready      chan struct{}   // closed when it listens to all channels
	connected  int
	reconnects []event // what nodes that stop said
	errs       []string
	closeErrs  []error // why connections ended
}

func newClient(t *testing.T, name string, k kind, channels []string, base func(int) string) *client {
	tr := &http.Transport{DisableKeepAlives: true}
	t.Cleanup(tr.CloseIdleConnections)
	return &client{name: name, kind: k, channels: channels, base: base, hop: 7, away: 30 * time.Millisecond, http: &http.Client{Transport: tr},
		since: map[string]string{}, probed: map[string]bool{}, ends: map[string]bool{}, ready: make(chan struct{})}
}

// run connects again and again until ctx ends.
func (c *client) run(ctx context.Context) {
	for attempt := 0; ctx.Err() == nil; attempt++ {
		err := c.session(ctx, attempt)
		if ctx.Err() != nil {
			return
		}
		c.mu.Lock()
		c.closeErrs = append(c.closeErrs, err)
		c.mu.Unlock()
		if err == errHop {
			continue
		}
		select { // what real clients wait, a hundred times shorter
		case <-time.After(10*time.Millisecond + rand.N(c.away)):
		case <-ctx.Done():
		}
	}
}

var errHop = fmt.Errorf("changes the transport")

// session is one connection, from connect to its end.
func (c *client) session(ctx context.Context, attempt int) error {
	sse := c.kind == viaSSE || c.kind == viaSSEJSON || c.kind == viaAll && attempt%3 == 0 && len(c.since) == 0
	polls := c.kind == viaPoll || c.kind == viaAll && attempt%3 == 1 && len(c.since) == 0
	connect := c.connectWS
	if sse {
		connect = c.connectSSE
	}
	if polls {
		connect = c.connectPoll
	}
	c.joins = 0
	st, err := connect(ctx, c.base(attempt))
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, st.close)
	defer stop()
	defer st.close()
	c.mu.Lock()
	c.connected++
	c.mu.Unlock()
	via := "ws"
	if sse {
		via = "sse"
	}
	if polls {
		via = "poll"
	}
	pinged, messages, mood := false, 0, 0
	for {
		e, err := st.next()
		if err != nil {
			return err
		}
		c.take(e, via)
		if e.kind == "message" {
			messages++
		}
		ws, ok := st.(*wsStream)
		if now := messages / c.hop; ok && len(c.moods) > 0 && now > mood {
			mood = now
			c.wish = c.moods[now%len(c.moods)]
			if err := ws.send(c.subscribe(c.channels...)); err != nil {
				return err
			}
		}
		if c.kind != viaAll || messages < c.hop || c.joins > 0 {
			continue
		}
		if p, ok := st.(*pollStream); ok && len(p.waiting) > 0 {
			continue // the token is with the last one
		}
		switch {
		case !ok, pinged && e.kind == "reply" && e.token != "":
			return errHop
		case !pinged:
			pinged = true // its answer has the token of all that was sent before it
			if err := ws.send(map[string]any{"type": "ping", "ref": 99}); err != nil {
				return err
			}
		}
	}
}

func (c *client) query() url.Values {
	q := url.Values{"channel": c.channels}
	for name, value := range c.wish.fields() {
		q.Set(name, value)
	}
	return q
}

func (c *client) connectSSE(ctx context.Context, base string) (stream, error) {
	q := c.query()
	if c.kind == viaSSEJSON {
		q.Set("format", "json")
	}
	return openSSE(ctx, c.http, base+"/sse?"+q.Encode(), c.token, c.kind == viaSSEJSON)
}

func (c *client) connectPoll(ctx context.Context, base string) (stream, error) {
	request := map[string]any{"channels": c.channels, "wait": 2}
	for name, value := range c.wish.fields() {
		request[name] = value
	}
	return openPoll(ctx, c.http, base, c.token, request), nil
}

// subscribe returns the command for channels, with what the client wishes now.
func (c *client) subscribe(channels ...string) map[string]any {
	command := map[string]any{"type": "subscribe"}
	if len(channels) == 1 {
		command["channel"] = channels[0]
	} else {
		command["channels"] = channels
	}
	for name, value := range c.wish.fields() {
		command[name] = value
	}
	return command
}

// connectWS resumes by URL while the token is up to date, else by commands.
func (c *client) connectWS(ctx context.Context, base string) (stream, error) {
	base = strings.Replace(base, "http", "ws", 1) + "/ws"
	envelope := c.kind != viaWSPlain
	if !envelope || len(c.since) == 0 {
		q := c.query()
		if envelope && c.token != "" {
			q.Set("resume", c.token)
		}
		return openWSBy(ctx, c.dial, base+"?"+q.Encode(), envelope)
	}
	st, err := openWSBy(ctx, c.dial, base, envelope)
	if err != nil {
		return nil, err
	}
	for i, ch := range c.channels {
		command := c.subscribe(ch)
		command["ref"] = i + 1
		if p := c.since[ch]; p != "" {
			command["since"] = p
		} else if c.token != "" {
			command["resume"] = c.token
		}
		if err := st.send(command); err != nil {
			st.close()
			return nil, err
		}
		c.joins++
	}
	return st, nil
}

// take books one event: what came, and where the client stands now.
func (c *client) take(e event, via string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch e.kind {
	case "welcome":
		if len(e.body.Channels) < len(c.channels) && via == "ws" {
			return // joined by commands, not by URL: the token is not about everything
		}
		c.isReady()
	case "message":
		if ch, ok := strings.CutPrefix(e.data, probeMark); ok {
			if c.probed[ch] = true; len(c.probed) == len(c.channels) {
				c.isReady()
			}
			return
		}
		c.got = append(c.got, received{data: e.data, via: via, channel: e.body.Channel, skipped: e.body.Skipped})
		if ch, ok := strings.CutPrefix(numberOf(e.data), endMark); ok {
			c.ends[ch] = true
		}
		if p := e.body.Position; p != "" && via == "ws" {
			c.since[e.body.Channel] = p
		}
	case "gap":
		c.got = append(c.got, received{gap: &e.body, via: via})
		if p := e.body.To; p != "" && via == "ws" {
			c.since[e.body.Channel] = p
		}
	case "reply":
		if e.body.Ref > 0 && e.body.Ref <= len(c.channels) {
			c.joins--
		}
	case "reconnect":
		c.reconnects = append(c.reconnects, e)
	case "error":
		if e.body.Code == "unavailable" || e.body.Code == "slow_consumer" {
			return // Redis is away, or it has read too slowly: the close that follows brings it back
		}
		c.errs = append(c.errs, e.body.Code+": "+e.body.Detail)
	}
	if e.token != "" && c.joins == 0 {
		c.token = e.token
		clear(c.since)
	}
}

func (c *client) isReady() {
	select {
	case <-c.ready:
	default:
		close(c.ready)
	}
}

// complete reports whether the last message of every channel has come.
func (c *client) complete() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.ends) == len(c.channels)
}

// count returns how many messages have come.
func (c *client) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, r := range c.got {
		if r.gap == nil {
			n++
		}
	}
	return n
}
