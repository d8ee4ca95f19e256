package transport

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/broker"
)

// give posts a command for a stream to n by a token, and returns what it is answered.
func (n *node) give(session, token, command string) (int, string, http.Header) {
	n.t.Helper()
	req, err := http.NewRequest("POST", n.url("/sessions/"+session), strings.NewReader(command))
	if err != nil {
		n.t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		n.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		n.t.Fatal(err)
	}
	return res.StatusCode, string(body), res.Header
}

// varying is what differs between two answers to the same command.
var varying = regexp.MustCompile(`"(position|token|time|session)":("[^"]*"|[0-9]+)`)

// equals are commands that both transports answer alike, in this order.
var equals = []struct {
	name, command string
	code          Code // of the refusal; "": there is none
}{
	{"ping", `{"type":"ping","ref":1}`, ""},
	{"ping without a reference", `{"type":"ping"}`, ""},
	{"subscribe", `{"type":"subscribe","ref":"two","channel":"chat"}`, ""},
	{"again, with wishes", `{"type":"subscribe","ref":3,"channel":"chat","rate":"5/s","conflate":"key"}`, ""},
	{"several", `{"type":"subscribe","ref":4,"channels":["chat","more","news"]}`, ""},
	{"ping with them", `{"type":"ping","ref":5}`, ""},
	{"none", `{"type":"subscribe","ref":6}`, BadRequest},
	{"not allowed", `{"type":"subscribe","ref":7,"channel":"vip"}`, Forbidden},
	{"signed", `{"type":"subscribe","ref":8,"channel":"vip","signed":["vip"]}`, ""},
	{"bad channel", `{"type":"subscribe","ref":9,"channel":"a b"}`, BadChannel},
	{"bad wish", `{"type":"subscribe","ref":10,"channel":"chat","rate":"often"}`, BadDelivery},
	{"bad position", `{"type":"subscribe","ref":11,"channel":"chat","since":"x"}`, BadToken},
	{"bad token", `{"type":"subscribe","ref":12,"channel":"chat","resume":"x"}`, BadToken},
	{"too many", `{"type":"subscribe","ref":13,"channels":["a","b","c","d","e","f","g","h","i"]}`, TooManyChannels},
	{"too many together", `{"type":"subscribe","ref":14,"channels":["w1","w2","w3","w4","w5"]}`, TooManyChannels},
	{"unsubscribe", `{"type":"unsubscribe","ref":15,"channels":["more","never"]}`, ""},
	{"publish", `{"type":"publish","ref":16,"channel":"w1","data":"x","id":"once %s"}`, ""},
	{"publish twice", `{"type":"publish","ref":17,"channel":"w1","data":"x","id":"once %s"}`, ""},
	{"publish live", `{"type":"publish","ref":18,"channel":"w1","data":{"a":1},"live":true}`, ""},
	{"publish without a right", `{"type":"publish","ref":19,"channel":"vip","data":"x"}`, Forbidden},
	{"publish nothing", `{"type":"publish","ref":20,"channel":"w1"}`, BadRequest},
	{"publish a reserved event", `{"type":"publish","ref":21,"channel":"w1","data":"x","event":"gap"}`, BadMessage},
	{"ack of nothing", `{"type":"ack","ref":22,"traceparent":"x"}`, BadRequest},
	{"ack of what is not traced", `{"type":"ack","ref":23,"traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}`, ""},
	{"refresh", `{"type":"refresh","ref":24,"token":"a"}`, ""},
	{"refresh by a bad token", `{"type":"refresh","ref":25,"token":"bad"}`, Unauthorized},
	{"refresh by an old token", `{"type":"refresh","ref":26,"token":"old"}`, TokenExpired},
	{"unknown type", `{"type":"fly","ref":27}`, BadRequest},
	{"no type", `{"ref":28}`, BadRequest},
	{"unknown field", `{"type":"ping","ref":29,"chanel":"x"}`, BadRequest},
	{"a member twice", `{"type":"ping","ref":30,"Ref":31}`, BadRequest},
	{"deep", `{"type":"ping","ref":32,"data":` + strings.Repeat("[", 70) + strings.Repeat("]", 70) + `}`, BadRequest},
	{"something follows", `{"type":"ping","ref":33} {}`, BadRequest},
	{"no reference", `{"type":"ping","ref":{}}`, BadRequest},
	{"no JSON", `{"type"`, BadRequest},
	{"an array", `[{"type":"ping"}]`, BadRequest},
	{"nothing", ``, BadRequest},
}

// TestPostedEqualsFrame: what a command is answered does not depend on the way it came.
func TestPostedEqualsFrame(t *testing.T) {
	n, d := newGuarded(t, func(c *Config) { c.MaxChannels = 8; c.CommandBurst = 1000 })
	channels := []string{"news", "chat", "more", "w1", "w2", "w3", "w4", "w5"}
	d.issue("a", "alice", time.Hour, channels...)
	d.issue("old", "alice", -time.Hour, channels...)
	d.sign("vip", time.Hour, "vip")
	sse, ws := n.listen("sse", "channel=news&access_token=a"), n.listen("ws", "channel=news&access_token=a")
	for _, tt := range equals {
		t.Run(tt.name, func(t *testing.T) {
			command := func(over string) string { return strings.ReplaceAll(tt.command, "%s", over) }
			ws.ws.send(command("ws"))
			_, want := ws.ws.read()
			var f frame
			if err := json.Unmarshal(want, &f); err != nil || Code(f.Code) != tt.code || (f.Type == "error") != (tt.code != "") {
				t.Fatalf("WebSocket: %s, want code %q", want, tt.code)
			}
			status, got, head := n.give(sse.welcome.Session, "a", command("sse"))
			if head.Get("Cache-Control") != "no-store" {
				t.Errorf("Cache-Control is %q", head.Get("Cache-Control"))
			}
			if tt.code == "" {
				plain := func(s string) string { return varying.ReplaceAllString(strings.TrimSpace(s), `"$1":…`) }
				if status != 200 || plain(got) != plain(string(want)) {
					t.Errorf("POST: %d %s, want 200 %s", status, got, want)
				}
				return
			}
			var p Problem
			if err := json.Unmarshal([]byte(got), &p); err != nil || status != codes[tt.code].status || p.Code != tt.code || p.Detail != f.Detail {
				t.Errorf("POST: %d %s, want %d, code and detail of %s", status, got, codes[tt.code].status, want)
			}
			if ct := head.Get("Content-Type"); ct != "application/problem+json" {
				t.Errorf("Content-Type is %q", ct)
			}
		})
	}
}

// TestPostedSubscriptions: what is subscribed to by POST comes on the stream, whose tokens know of it.
func TestPostedSubscriptions(t *testing.T) {
	n, d := newGuarded(t, func(c *Config) { c.Heartbeat = 200 * time.Millisecond })
	c := n.listen("sse", "channel=news&"+d.issue("a", "alice", time.Hour, "news", "chat"))
	id := c.welcome.Session
	n.say("chat", "before")
	status, body, _ := n.give(id, "a", `{"type":"subscribe","channel":"chat"}`)
	if status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	knows := func(token, channel string) bool {
		parsed, err := broker.ParseToken(token)
		return err == nil && !parsed.Of(channel).IsZero()
	}
	n.await("a token with the channel, without a message", func() bool {
		e, err := c.sse.within(5 * time.Second)
		return err == nil && knows(e.id, "chat") && knows(e.id, "news")
	})
	n.say("chat", "after")
	n.say("news", "more")
	got := map[string]string{}
	for range 2 {
		f := c.next()
		got[f.Channel] = f.Data
	}
	if got["chat"] != "after" || got["news"] != "more" || !knows(c.token, "chat") || !knows(c.token, "news") {
		t.Errorf("got %v with the token %s", got, c.token)
	}
	if status, body, _ := n.give(id, "a", `{"type":"unsubscribe","channels":["news","chat"]}`); status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	n.say("chat", "unheard")
	if status, body, _ := n.give(id, "a", `{"type":"subscribe","channel":"news"}`); status != 200 { // it may be left without any, like a WebSocket
		t.Fatalf("%d %s", status, body)
	}
	n.say("news", "heard")
	c.want("heard")
}

// TestPostedRights: a session is its subject's.
func TestPostedRights(t *testing.T) {
	n, d := newGuarded(t, nil)
	d.issue("a1", "alice", time.Hour, "news")
	d.issue("a2", "alice", time.Hour, "news")
	d.issue("b", "bob", time.Hour, "news")
	d.issue("nobody1", "", time.Hour, "news")
	d.issue("nobody2", "", time.Hour, "news")
	alice := n.listen("sse", "channel=news&access_token=a1").welcome.Session
	nobody := n.listen("sse", "channel=news&access_token=nobody1").welcome.Session
	anonymous := n.listen("sse", "channel=public").welcome.Session
	unknown := newSessionID()
	none := (&session{id: unknown}).name()
	var notFound string
	for _, tt := range []struct {
		name, session, token string
		status               int
		why                  string
	}{
		{"unknown", none, "a1", 404, "there is none"},
		{"her own", alice, "a1", 200, "it is hers"},
		{"by another token of hers", alice, "a2", 200, "tokens come and go, a subject stays"},
		{"another subject's", alice, "b", 404, "who has learnt an id must not do anything with it, nor be told that it is one"},
		{"anonymously", alice, "", 404, "an id alone is no credential"},
		{"an anonymous one", anonymous, "", 200, "there is nothing else to show"},
		{"an anonymous one, by a token", anonymous, "a1", 404, "it is nobody's, not alice's"},
		{"of no subject", nobody, "nobody1", 200, "it is the same token"},
		{"of no subject, by another token", nobody, "nobody2", 404, "two of nobody in particular may be two people"},
		{"a bad token", alice, "bad", 401, "that is said whatever the session"},
		{"a bad token, unknown", none, "bad", 401, "that is said whatever the session"},
	} {
		status, body, _ := n.give(tt.session, tt.token, `{"type":"ping"}`)
		if status != tt.status {
			t.Errorf("%s: got %d %s, want %d: %s", tt.name, status, body, tt.status, tt.why)
		}
		switch {
		case status != 404:
		case notFound == "":
			notFound = body
		case body != notFound:
			t.Errorf("%s: got %s, others get %s: nobody may tell them apart", tt.name, body, notFound)
		}
	}
	n.revoke(broker.ByToken, "id of a1")
	n.await("the stream to be gone", func() bool {
		status, _, _ := n.give(alice, "a2", `{"type":"ping"}`)
		return status == 404
	})
}

// TestPostedLimits: a command costs what it costs on a WebSocket.
func TestPostedLimits(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*Config)
		body   string
		status int
		kind   limitKind // limitKinds: none
		more   int       // commands that are taken before
	}{
		{"of a session", func(c *Config) { c.CommandRate, c.CommandBurst = 0.01, 3 }, `{"type":"ping"}`, 429, limitSessionCommand, 3},
		{"of a client", func(c *Config) { c.ClientCommandRate, c.ClientCommandBurst = 0.01, 3 }, `{"type":"ping"}`, 429, limitCommand, 3},
		{"publishes", func(c *Config) { c.PublishRate, c.PublishBurst = 0.01, 2 }, `{"type":"publish","channel":"news","data":"x"}`, 429, limitPublish, 2},
		{"bytes", func(c *Config) { c.ClientByteRate, c.ClientByteBurst = 1, 64<<10 }, `{"type":"publish","channel":"news","data":"` + strings.Repeat("x", 40<<10) + `"}`, 429, limitBytes, 1},
		{"size", func(c *Config) { c.MaxCommand = 100 }, `{"type":"ping","ref":"` + strings.Repeat("x", 100) + `"}`, 413, limitKinds, 0},
		{"subscriptions", func(c *Config) { c.MaxSubscriptions = 1 }, `{"type":"subscribe","channel":"chat"}`, 503, limitNodeSubscriptions, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n, d := newGuarded(t, tt.change)
			c := n.listen("sse", "channel=news&"+d.issue("a", "alice", time.Hour, "news", "chat"))
			for i := range tt.more {
				if status, body, _ := n.give(c.welcome.Session, "a", tt.body); status != 200 {
					t.Fatalf("%d: %d %s", i, status, body)
				}
			}
			status, body, head := n.give(c.welcome.Session, "a", tt.body)
			if status != tt.status {
				t.Fatalf("got %d %.200s, want %d", status, body, tt.status)
			}
			if status != 413 && head.Get("Retry-After") == "" {
				t.Error("no Retry-After")
			}
			if tt.kind < limitKinds && n.limits.refused[tt.kind].Load() != 1 {
				t.Errorf("refused %d of %s, want 1", n.limits.refused[tt.kind].Load(), limitNames[tt.kind])
			}
		})
	}
}

// TestPostedInOrder: commands that come at once are done one after the other, and what is answered is in force.
func TestPostedInOrder(t *testing.T) {
	n, d := newGuarded(t, func(c *Config) { c.CommandRate, c.CommandBurst = 10_000, 10_000 })
	c := n.listen("sse", "channel=news&"+d.issue("t", "alice", time.Hour, "news"))
	for i := range 50 { // what a refresh has brought may be used by the next command
		token := fmt.Sprint("t", i)
		channel := fmt.Sprint("c", i)
		d.issue(token, "alice", time.Hour, "news", channel)
		if status, body, _ := n.give(c.welcome.Session, token, fmt.Sprintf(`{"type":"refresh","token":%q}`, token)); status != 200 {
			t.Fatalf("%d %s", status, body)
		}
		if status, body, _ := n.give(c.welcome.Session, token, fmt.Sprintf(`{"type":"subscribe","channel":%q}`, channel)); status != 200 {
			t.Fatalf("%s: %d %s", channel, status, body)
		}
		if status, body, _ := n.give(c.welcome.Session, token, fmt.Sprintf(`{"type":"unsubscribe","channel":%q}`, channel)); status != 200 {
			t.Fatalf("%d %s", status, body)
		}
	}
}

// TestPostedWhileStreamEnds: a command of a stream that ends is answered, whenever that happens.
func TestPostedWhileStreamEnds(t *testing.T) {
	n, d := newGuarded(t, func(c *Config) { c.CommandRate, c.CommandBurst = 100_000, 100_000 })
	d.issue("a", "alice", time.Hour, "news", "chat")
	counts := map[int]int{}
	var mu sync.Mutex
	for range 40 {
		c := n.listen("sse", "channel=news&access_token=a")
		var running sync.WaitGroup
		for _, command := range []string{
			`{"type":"ping"}`, `{"type":"subscribe","channel":"chat"}`, `{"type":"unsubscribe","channel":"chat"}`,
			`{"type":"publish","channel":"news","data":"x"}`, `{"type":"refresh","token":"a"}`,
		} {
			running.Go(func() {
				for status := 200; status == 200; {
					began := time.Now()
					var body string
					status, body, _ = n.give(c.welcome.Session, "a", command)
					if took := time.Since(began); took > 5*time.Second {
						t.Errorf("%s was answered after %v", command, took)
					}
					mu.Lock()
					counts[status]++
					mu.Unlock()
					if status != 200 && status != 404 && !strings.Contains(body, "unsubscribed before") {
						t.Errorf("%s: %d %s", command, status, body)
					}
				}
			})
		}
		running.Go(func() { time.Sleep(2 * time.Millisecond); c.close() })
		running.Wait()
	}
	t.Logf("answers by status: %v", counts)
	n.await("nothing to be left", func() bool {
		left := make(chan int, len(n.writers))
		for _, w := range n.writers {
			w.post(func() { left <- len(w.inboxes) + len(w.streams) })
		}
		sum := 0
		for range n.writers {
			sum += <-left
		}
		return sum == 0 && n.limits.subscriptions.Load() == 0
	})
}
