package transport

import (
	"testing"
	"time"

	"sluice/broker"
)

// empties are the ways to open a connection that begins without channels and gets envelopes.
var empties = []struct {
	name string
	open func(n *node, token string) *client
}{
	{"GET", func(n *node, token string) *client {
		c := &client{t: n.t}
		c.open(n.sse("format=json&access_token=" + token))
		return c
	}},
	{"POST", func(n *node, token string) *client {
		c := &client{t: n.t}
		c.open(n.postSSE(token, `{"subscriptions":[]}`))
		return c
	}},
	{"ws", func(n *node, token string) *client { return n.listen("ws", "access_token="+token) }},
}

// order has a command done, however the client commands.
func (c *client) order(n *node, token, command string) {
	c.t.Helper()
	if c.ws != nil {
		c.ws.send(command)
		c.ws.want("reply")
		return
	}
	if status, body, _ := n.give(c.welcome.Session, token, command); status != 200 {
		c.t.Fatalf("%s: %d %s", command, status, body)
	}
}

// TestEmptyStream: a connection may begin without channels, and gets them by commands.
func TestEmptyStream(t *testing.T) {
	for _, way := range empties {
		t.Run(way.name, func(t *testing.T) {
			n, d := newGuarded(t, nil)
			d.issue("a", "alice", 0, "news")
			c := way.open(n, "a")
			if string(c.welcome.Channels) != "[]" || c.token != "" {
				t.Errorf("welcome %+v with the token %q, want no channels and no token", c.welcome, c.token)
			}
			at := n.put(&broker.Message{Channel: "news", Data: []byte("1")}, false)
			n.put(&broker.Message{Channel: "news", Data: []byte("2")}, false)
			c.order(n, "a", `{"type":"subscribe","channel":"news","since":"`+at.String()+`"}`)
			c.want("2")
			c.order(n, "a", `{"type":"unsubscribe","channel":"news"}`)
			c.order(n, "a", `{"type":"subscribe","channel":"news"}`)
			n.say("news", "3")
			c.want("3")
		})
	}
}

// TestEmptyStreamOfNobody: who shows nothing and listens to nothing holds no connection for long, and whoever does one of the two later does.
func TestEmptyStreamOfNobody(t *testing.T) {
	for _, way := range empties {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			n, d := newGuarded(t, func(c *Config) { c.JoinTimeout = time.Second })
			d.issue("a", "alice", 0, "news")
			idle, listener, known, alice := way.open(n, ""), way.open(n, ""), way.open(n, ""), way.open(n, "a")
			listener.order(n, "", `{"type":"subscribe","channel":"public"}`)
			if code, _ := known.refresh(n, "a"); code != "" {
				t.Fatalf("refused: %s", code)
			}
			began := time.Now()
			if code := idle.gone(); code != Unauthorized {
				t.Errorf("who does nothing is gone with %q, want %q", code, Unauthorized)
			}
			if took := time.Since(began); took > 3*time.Second {
				t.Errorf("that took %v, want a second", took)
			}
			n.until("it is counted no more", func() bool { return n.sessions.Load() == 3 })
			known.order(n, "a", `{"type":"subscribe","channel":"news"}`)
			alice.order(n, "a", `{"type":"subscribe","channel":"news"}`)
			n.say("news", "x")
			known.want("x")
			alice.want("x")
			n.say("public", "y")
			listener.want("y")
		})
	}
}
