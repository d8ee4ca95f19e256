package transport

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"sluice/broker"
)

// refresh shows another token on c's live connection, and returns the code of the refusal; "" if it was taken.
func (c *client) refresh(n *node, token string) (code Code, expires int64) {
	c.t.Helper()
	if c.ws != nil {
		c.ws.send(fmt.Sprintf(`{"type":"refresh","ref":"r","token":%q}`, token))
		for {
			switch f := c.read(); f.Type {
			case "reply":
				return "", f.Expires
			case "error":
				return Code(f.Code), 0
			default:
				c.waiting = append(c.waiting, f)
			}
		}
	}
	res, body := n.request("POST", "/sessions/"+c.welcome.Session, fmt.Sprintf(`{"type":"refresh","token":%q}`, token))
	var f frame
	if err := json.Unmarshal([]byte(body), &f); err != nil {
		c.t.Fatalf("%d %s: %v", res.StatusCode, body, err)
	}
	if res.StatusCode != http.StatusOK && f.Code == "" {
		c.t.Fatalf("%d %s", res.StatusCode, body)
	}
	return Code(f.Code), f.Expires
}

// gone reads to the end of c and returns the code under which it was sent away; what else comes is kept.
func (c *client) gone() Code {
	c.t.Helper()
	if c.sse != nil {
		var code Code
		for {
			e, err := c.sse.within(10 * time.Second)
			if errors.Is(err, io.EOF) {
				return code
			}
			if err != nil {
				c.t.Fatal(err)
			}
			if e.name == "denied" {
				var f frame
				if err := json.Unmarshal([]byte(e.data), &f); err != nil {
					c.t.Fatal(err)
				}
				code = Code(f.Code)
			}
		}
	}
	told := ""
	for {
		_ = c.ws.SetReadDeadline(time.Now().Add(10 * time.Second))
		_, data, err := c.ws.Conn.ReadMessage()
		var closed *websocket.CloseError
		if errors.As(err, &closed) {
			if closed.Code != int(closeDenied) || closed.Text != told {
				c.t.Errorf("closed with %d %q after an error %q, want %d and the same code", closed.Code, closed.Text, told, closeDenied)
			}
			return Code(told)
		}
		if err != nil {
			c.t.Fatal(err)
		}
		var f frame
		if json.Unmarshal(data, &f) == nil && f.Type == "error" {
			told = f.Code
		}
	}
}

// TestExpiry: what a token allows ends with it, on time, and whatever else the connection does.
func TestExpiry(t *testing.T) {
	for _, over := range transports {
		t.Run(over, func(t *testing.T) {
			n, d := newGuarded(t, nil) // with a heartbeat of 10 s nothing is visited in time by itself
			c := n.listen(over, "channel=news&"+d.issue("short", "alice", 700*time.Millisecond, "news"))
			end := d.by["short"].Expires
			if c.welcome.Expires != end.Unix() {
				t.Errorf("the welcome says that it expires at %d, want %d", c.welcome.Expires, end.Unix())
			}
			n.say("news", "before")
			c.want("before")
			if code := c.gone(); code != TokenExpired {
				t.Errorf("gone with %q, want %q", code, TokenExpired)
			}
			if late := time.Since(end); late < 0 || late > time.Second {
				t.Errorf("gone %v after the end, want at most a second", late)
			}
			if res, body := n.request("GET", "/sse?channel=news&access_token=short", ""); res.StatusCode != 401 || !strings.Contains(body, string(TokenExpired)) {
				t.Errorf("with it again: %d %s, want 401", res.StatusCode, body)
			} else if res.Header.Get("WWW-Authenticate") != "Bearer" {
				t.Errorf("401 without WWW-Authenticate: %v", res.Header)
			}
			n.await("nothing to be left", func() bool { return n.sessions.Load() == 0 })
		})
	}
}

// TestRefresh: another token takes the place of one that would have ended, and nothing is lost or repeated meanwhile.
func TestRefresh(t *testing.T) {
	for _, over := range transports {
		t.Run(over, func(t *testing.T) {
			n, d := newGuarded(t, func(c *Config) { c.CommandRate, c.CommandBurst = 10_000, 10_000 })
			c := n.listen(over, "channel=news&"+d.issue("t0", "alice", 600*time.Millisecond, "news"))
			published := make(chan int)
			go func() {
				i := 0
				for end := time.Now().Add(2 * time.Second); time.Now().Before(end); i++ {
					n.put(&broker.Message{Channel: "news", Data: fmt.Append(nil, i)}, false)
					time.Sleep(time.Millisecond) // the pace of the publisher: nothing waits for it
				}
				published <- i
			}()
			for i := 1; i <= 6; i++ { // each would have ended before the last
				token := fmt.Sprint("t", i)
				d.issue(token, "alice", 600*time.Millisecond, "news")
				if i == 6 {
					d.issue(token, "alice", time.Hour, "news")
				}
				code, expires := c.refresh(n, token)
				if code != "" || expires != d.by[token].Expires.Unix() {
					t.Fatalf("refresh %d: %q, expires %d, want %d", i, code, expires, d.by[token].Expires.Unix())
				}
				time.Sleep(300 * time.Millisecond)
			}
			total := <-published
			for i := range total {
				c.want(fmt.Sprint(i))
			}
			n.say("news", "after")
			c.want("after")
		})
	}
}

func TestRefreshRefusals(t *testing.T) {
	for _, over := range transports {
		t.Run(over, func(t *testing.T) {
			n, d := newGuarded(t, nil)
			c := n.listen(over, "channel=news&"+d.issue("a", "alice", time.Hour, "news"))
			d.issue("b", "bob", time.Hour, "news")
			d.issue("over", "alice", -time.Hour, "news")
			others := map[string]Code{"sse": NotFound, "ws": Forbidden} // who posts it may not even have the session
			for _, row := range []struct {
				token string
				want  Code
				why   string
			}{
				{"b", others[over], "a connection can't become another's: its limits and its place would go along"},
				{"unknown", Unauthorized, "what is no token changes nothing"},
				{"over", TokenExpired, "nor does one that has ended"},
			} {
				if code, _ := c.refresh(n, row.token); code != row.want {
					t.Errorf("%s: got %q, want %q: %s", row.token, code, row.want, row.why)
				}
			}
			n.say("news", "still here")
			c.want("still here")
		})
	}
}

// TestSessionsEndpoint: what POST /sessions/{id} refuses.
func TestSessionsEndpoint(t *testing.T) {
	n, d := newGuarded(t, nil)
	d.issue("b", "bob", time.Hour, "news")
	c := n.listen("sse", "channel=news&"+d.issue("a", "alice", time.Hour, "news"))
	ws := n.listen("ws", "channel=news&"+d.issue("w", "alice", time.Hour, "news"))
	id := c.welcome.Session
	for _, row := range []struct {
		name, path, body string
		status           int
	}{
		{"its own credentials", id + "?access_token=a", `{"type":"refresh"}`, 200},
		{"nobody's", id, `{"type":"refresh"}`, 401},
		{"another session", strings.Repeat("A", 16), `{"type":"refresh","token":"a"}`, 404},
		{"no id", "x", `{"type":"refresh","token":"a"}`, 404},
		{"a WebSocket's", ws.welcome.Session, `{"type":"refresh","token":"a"}`, 404},
		{"another session, no token", strings.Repeat("A", 16), `{"type":"refresh","token":"unknown"}`, 401},
		{"no token", id, `{"type":"refresh","token":"unknown"}`, 401},
		{"another subject's token", id, `{"type":"refresh","token":"b"}`, 404},
		{"nobody's command", id, `{"type":"ping"}`, 404},
		{"another subject's command", id + "?access_token=b", `{"type":"ping"}`, 404},
		{"another session's command", strings.Repeat("A", 16) + "?access_token=a", `{"type":"ping"}`, 404},
		{"a command with an unknown token", id + "?access_token=unknown", `{"type":"ping"}`, 401},
		{"a command with an unknown token, another session", strings.Repeat("A", 16) + "?access_token=unknown", `{"type":"ping"}`, 401},
		{"an unknown type", id + "?access_token=a", `{"type":"fly"}`, 400},
		{"no JSON", id, `{"type"`, 400},
		{"too large", id, `{"type":"refresh","token":"` + strings.Repeat("a", DefaultConfig().MaxCommand) + `"}`, 413},
	} {
		if res, body := n.request("POST", "/sessions/"+row.path, row.body); res.StatusCode != row.status {
			t.Errorf("%s: %d %s, want %d", row.name, res.StatusCode, body, row.status)
		}
	}
	c.close()
	n.await("the stream to be forgotten", func() bool {
		res, _ := n.request("POST", "/sessions/"+id, `{"type":"refresh","token":"a"}`)
		return res.StatusCode == 404
	})
}

// TestRefreshLosesChannels: what the new token does not allow ends, and nothing else.
func TestRefreshLosesChannels(t *testing.T) {
	for _, over := range transports {
		t.Run(over, func(t *testing.T) {
			n, d := newGuarded(t, nil)
			c := n.listen(over, "channel=news&channel=chat&"+d.issue("a", "alice", time.Hour, "news", "chat"))
			d.issue("less", "alice", time.Hour, "news")
			if code, _ := c.refresh(n, "less"); code != "" {
				t.Fatalf("refused: %s", code)
			}
			f := c.next()
			if f.Type != "unsubscribed" || f.Channel != "chat" || f.Code != string(Forbidden) {
				t.Fatalf("got %+v, want that chat has ended", f)
			}
			n.say("chat", "not for alice")
			n.say("news", "for alice")
			c.want("for alice")
			d.issue("none", "alice", time.Hour)
			if code, _ := c.refresh(n, "none"); code != "" {
				t.Fatalf("refused: %s", code)
			}
			if over == "sse" { // there is nothing left that it could do
				if code := c.gone(); code != Forbidden {
					t.Errorf("gone with %q, want %q", code, Forbidden)
				}
				return
			}
			if f := c.next(); f.Type != "unsubscribed" || f.Channel != "news" {
				t.Errorf("got %+v, want that news has ended", f)
			}
		})
	}
}

// TestSignedSubscriptions: a token for one subscription lets in what the session's own does not, and ends only that.
func TestSignedSubscriptions(t *testing.T) {
	for _, over := range transports {
		t.Run(over, func(t *testing.T) {
			n, d := newGuarded(t, nil)
			own := d.issue("a", "alice", time.Hour, "news")
			c := n.listen(over, "channel=news&channel=vip&"+own+"&signed="+d.sign("vip", 700*time.Millisecond, "vip"))
			n.say("vip", "secret")
			c.want("secret")
			d.issue("again", "alice", time.Hour, "news")
			if code, _ := c.refresh(n, "again"); code != "" { // it says nothing about vip, which has a token of its own
				t.Fatalf("refused: %s", code)
			}
			f := c.next()
			if f.Type != "unsubscribed" || f.Channel != "vip" || f.Code != string(TokenExpired) {
				t.Fatalf("got %+v, want that vip has expired", f)
			}
			if early := time.Until(d.by["vip"].Expires); early > 0 {
				t.Errorf("%v too early", early)
			}
			n.say("vip", "secret")
			n.say("news", "for all")
			c.want("for all")
		})
	}
	t.Run("command", func(t *testing.T) {
		n, d := newGuarded(t, nil)
		c := n.listen("ws", d.issue("a", "alice", time.Hour, "news"))
		c.ws.send(`{"type":"subscribe","ref":1,"channel":"vip"}`)
		if f := c.read(); f.Code != string(Forbidden) {
			t.Fatalf("without a token: %+v", f)
		}
		c.ws.send(fmt.Sprintf(`{"type":"subscribe","ref":2,"channel":"vip","signed":[%q]}`, d.sign("vip", 600*time.Millisecond, "vip")))
		if f := c.read(); f.Type != "reply" {
			t.Fatalf("with it: %+v", f)
		}
		if f := c.read(); f.Type != "unsubscribed" || f.Channel != "vip" {
			t.Fatalf("got %+v, want that vip has expired", f)
		}
	})
}

// TestFirstCommand: a connection may show its token after the handshake, but not take for ever.
func TestFirstCommand(t *testing.T) {
	n, d := newGuarded(t, func(c *Config) { c.JoinTimeout = time.Second })
	late := n.listen("ws", "")
	c := n.listen("ws", "")
	public := n.listen("ws", "channel=public")
	d.issue("a", "alice", time.Hour, "news")
	if code, _ := c.refresh(n, "a"); code != "" {
		t.Fatalf("refused: %s", code)
	}
	c.ws.send(`{"type":"subscribe","channel":"news"}`)
	if f := c.read(); f.Type != "reply" {
		t.Fatalf("subscribe after it: %+v", f)
	}
	if code := late.gone(); code != Unauthorized {
		t.Errorf("who says nothing is gone with %q, want %q", code, Unauthorized)
	}
	n.say("public", "x")
	public.want("x")
	n.put(&broker.Message{Channel: "news", Data: []byte("x")}, false)
	c.want("x")
}

// TestRevoke: what is taken back ends within a second, and what is not goes on.
func TestRevoke(t *testing.T) {
	for _, over := range transports {
		t.Run(over, func(t *testing.T) {
			n, d := newGuarded(t, nil)
			query := func(token, subject string) string {
				return "channel=news&" + d.issue(token, subject, time.Hour, "news")
			}
			a1, a2 := n.listen(over, query("a1", "alice")), n.listen(over, query("a2", "alice"))
			b1, b2 := n.listen(over, query("b1", "bob")), n.listen(over, query("b2", "bob"))
			steps := []struct {
				name  string
				kind  broker.RevocationKind
				value string
				ends  []*client
			}{
				{"token", broker.ByToken, "id of a1", []*client{a1}},
				{"session", broker.BySession, b1.welcome.Session, []*client{b1}},
				{"subject", broker.BySubject, "alice", []*client{a2}},
			}
			for _, step := range steps {
				began := time.Now()
				n.revoke(step.kind, step.value)
				for _, c := range step.ends {
					if code := c.gone(); code != TokenRevoked {
						t.Errorf("%s: gone with %q, want %q", step.name, code, TokenRevoked)
					}
				}
				if took := time.Since(began); took > time.Second {
					t.Errorf("%s: took %v, want at most a second", step.name, took)
				}
			}
			n.say("news", "x")
			b2.want("x")
		})
	}
}
