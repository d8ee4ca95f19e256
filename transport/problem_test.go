package transport

import (
	"encoding/json"
	"testing"
	"time"

	"sluice/broker"
)

// refusals are what a client does that may listen and publish to a and b, and the channel that the refusal is about.
var refusals = []struct {
	name, command, query, poll string // the same in each way in which it can be said
	code                       Code
	want                       string // "": the refusal is not about one channel
	why                        string
}{
	{name: "forbidden", command: `"type":"subscribe","channel":"x"`, query: "channel=x", poll: `"channel":"x"`, code: Forbidden, want: "x"},
	{name: "one of three", command: `"type":"subscribe","channels":["a","x","b"]`, query: "channel=a&channel=x&channel=b", poll: `"channels":["a","x","b"]`, code: Forbidden, want: "x"},
	{name: "publish", command: `"type":"publish","channel":"x","data":""`, code: Forbidden, want: "x"},
	{name: "bad channel", command: `"type":"subscribe","channel":"a b"`, query: "channel=a%20b", poll: `"channel":"a b"`, code: BadChannel, why: "what is no name may be anything, such as a token in the wrong place"},
	{name: "wish", command: `"type":"subscribe","channel":"a","rate":"often"`, code: BadDelivery, want: "a"},
	{name: "wish of one", query: "channel=a&channel=b&rate[b]=often", code: BadDelivery, want: "b"},
	{name: "wish for all", command: `"type":"subscribe","channels":["a","b"],"rate":"often"`, query: "channel=a&channel=b&rate=often", poll: `"channels":["a","b"],"rate":"often"`, code: BadDelivery},
	{name: "filter", command: `"type":"subscribe","channel":"a","filter":"("`, code: BadDelivery, want: "a"},
	{name: "position", command: `"type":"subscribe","channel":"a","since":"x"`, code: BadToken, want: "a"},
	{name: "token", command: `"type":"subscribe","channel":"a","resume":"x"`, code: BadToken, why: "it is for any number of channels"},
	{name: "no command", command: `"type":"sub","channel":"a"`, code: BadRequest},
}

// TestRefusedChannel: a refusal that is about one channel names it, on all ways, so that a client can go on with the others.
func TestRefusedChannel(t *testing.T) {
	n, d := newGuarded(t, nil)
	d.issue("a", "alice", time.Hour, "a", "b")
	ws := n.ws("access_token=a", subprotocolJSON)
	ws.want("welcome")
	session := n.listen("sse", "channel=b&access_token=a").welcome.Session
	for _, tt := range refusals {
		check := func(way, code, channel, all string) {
			t.Helper()
			if code != string(tt.code) || channel != tt.want {
				t.Errorf("%s by %s: got %s, want %s about %q: %s", tt.name, way, all, tt.code, tt.want, tt.why)
			}
		}
		answered := func(way string, status int, body string) {
			t.Helper()
			var p struct{ Code, Channel string }
			if err := json.Unmarshal([]byte(body), &p); err != nil || status < 400 {
				t.Fatalf("%s by %s: %d %s (%v)", tt.name, way, status, body, err)
			}
			check(way, p.Code, p.Channel, body)
		}
		if tt.command != "" {
			ws.send("{" + tt.command + "}")
			f := ws.want("error")
			all, _ := json.Marshal(f)
			check("ws", f.Code, f.Channel, string(all))
			status, body, _ := n.give(session, "a", "{"+tt.command+"}")
			answered("posted command", status, body)
		}
		if tt.query != "" {
			status, _, body := get(t, n.url("/sse?access_token=a&"+tt.query))
			answered("sse", status, body)
		}
		if tt.poll != "" {
			status, _, body, err := n.askAs("a", "{"+tt.poll+"}")
			if err != nil {
				t.Fatal(err)
			}
			answered("poll", status, string(body))
		}
	}
}

// TestRefusedClient: who gets nothing of a list because he shows nothing is told about himself, not about a channel.
func TestRefusedClient(t *testing.T) {
	n, _ := newGuarded(t, nil)
	status, _, body, err := n.askAs("", `{"subscriptions":[{"channel":"a"},{"channel":"b"}]}`)
	var p Problem
	if err != nil || json.Unmarshal(body, &p) != nil || p.Code != Unauthorized || p.Channel != "" {
		t.Errorf("got %d %s (%v), want %s about no channel", status, body, err, Unauthorized)
	}
}

// TestEndedChannel: when a subscription ends that was all that a poll was for, the answer names it.
func TestEndedChannel(t *testing.T) {
	n, d := newGuarded(t, nil)
	at := n.put(&broker.Message{Channel: "vip", Data: []byte("1")}, false)
	token := broker.AppendToken(nil, broker.Place{Channel: "vip", Position: at})
	d.sign("short", 300*time.Millisecond, "vip")
	status, _, body, err := n.askAs("", `{"channel":"vip","signed":["short"],"resume":"`+string(token)+`"}`)
	var p Problem
	if err != nil || json.Unmarshal(body, &p) != nil || p.Code != TokenExpired || p.Channel != "vip" {
		t.Errorf("got %d %s (%v), want %s about vip", status, body, err, TokenExpired)
	}
}
