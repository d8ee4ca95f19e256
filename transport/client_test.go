package transport

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/broker"
	"sluice/middleware"
)

// transports are the two ways in which a test listens.
var transports = []string{"sse", "ws"}

// client listens to a node and gets envelopes, whatever the transport.
type client struct {
	t       *testing.T
	sse     *stream
	ws      *socket
	welcome frame
	waiting []frame
	skipped int    // told so far
	arrays  int    // frames of type batch
	token   string // the newest
}

// listen opens a client and waits for its welcome.
func (n *node) listen(transport, query string) *client {
	n.t.Helper()
	c := &client{t: n.t}
	if transport == "ws" {
		c.ws = n.ws(query, subprotocolJSON)
		c.welcome = c.ws.want("welcome")
		c.token = c.welcome.Token
		return c
	}
	c.open(n.sse(query + "&format=json"))
	return c
}

func (c *client) open(s *stream) {
	c.t.Helper()
	c.sse = s
	if err := json.Unmarshal([]byte(s.want("welcome", "*").data), &c.welcome); err != nil {
		c.t.Fatal(err)
	}
	c.token = s.last
}

func (c *client) close() {
	if c.ws != nil {
		_ = c.ws.Close()
	} else {
		c.sse.close()
	}
}

// read returns the next frame that is not a heartbeat, as it came.
func (c *client) read() (f frame) {
	c.t.Helper()
	if c.ws != nil {
		return c.ws.want("")
	}
	for {
		e, err := c.sse.within(10 * time.Second)
		if err != nil {
			c.t.Fatalf("read: %v", err)
		}
		c.token = c.sse.last
		if e.name == "heartbeat" {
			continue
		}
		if err := json.Unmarshal([]byte(e.data), &f); err != nil {
			c.t.Fatalf("%+v: %v", e, err)
		}
		if f.Type == "" {
			f.Type = e.name
		}
		return f
	}
}

// next returns the next message, gap or other frame; messages out of arrays one by one.
func (c *client) next() frame {
	c.t.Helper()
	for len(c.waiting) == 0 {
		f := c.read()
		c.skipped += f.Skipped
		switch f.Type {
		case "batch":
			c.arrays++
			for _, m := range f.Messages {
				if m.Type != "" || m.Channel != "" {
					c.t.Fatalf("a message in a batch has type %q and channel %q", m.Type, m.Channel)
				}
				m.Type, m.Channel = "message", f.Channel
				c.waiting = append(c.waiting, m)
			}
		default:
			c.waiting = append(c.waiting, f)
		}
	}
	f := c.waiting[0]
	c.waiting = c.waiting[1:]
	return f
}

// data reads n messages and returns their payloads.
func (c *client) data(n int) (got []string) {
	c.t.Helper()
	for range n {
		f := c.next()
		if f.Type != "message" {
			c.t.Fatalf("got %+v after %d messages, want a message", f, len(got))
		}
		got = append(got, f.Data)
	}
	return got
}

// want reads messages and compares their payloads.
func (c *client) want(payloads ...string) {
	c.t.Helper()
	if got := c.data(len(payloads)); !slices.Equal(got, payloads) {
		c.t.Fatalf("got %q, want %q", got, payloads)
	}
}

// until reads messages up to the one with this payload and returns all.
func (c *client) until(payload string) (got []frame) {
	c.t.Helper()
	for {
		f := c.next()
		if f.Type != "message" {
			c.t.Fatalf("got %+v, want messages up to %.20q", f, payload)
		}
		got = append(got, f)
		if f.Data == payload {
			return got
		}
	}
}

// rules are policies with one rule per pattern: a channel, or what channels begin with and a *.
func rules(t *testing.T, rules map[string]middleware.Delivery) *middleware.Policies {
	t.Helper()
	p := new(middleware.Policies)
	setRules(t, p, rules)
	return p
}

func setRules(t *testing.T, p *middleware.Policies, rules map[string]middleware.Delivery) {
	t.Helper()
	var list []middleware.Rule
	for pattern, d := range rules {
		list = append(list, middleware.Rule{Pattern: pattern, Delivery: d, Match: func(channel string) bool {
			prefix, open := strings.CutSuffix(pattern, "*")
			return channel == pattern || open && strings.HasPrefix(channel, prefix)
		}})
	}
	if err := p.Set(list); err != nil {
		t.Fatal(err)
	}
}

// put publishes without the detour over HTTP.
func (n *node) put(m *broker.Message, live bool) broker.Position {
	r, err := n.broker.Publish(context.Background(), m, broker.PublishOptions{Live: live})
	if err != nil {
		n.t.Errorf("publish to %s: %v", m.Channel, err)
	}
	return r.Position
}

// putNumbers publishes the numbers from up to to.
func (n *node) putNumbers(channel string, from, to int) {
	for i := from; i < to; i++ {
		n.put(&broker.Message{Channel: channel, Data: fmt.Append(nil, i)}, false)
	}
}
