package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"
)

// post publishes by the fort's key.
func (f *fort) post(t *testing.T, channel, data string) published {
	t.Helper()
	p, err := publish(t.Context(), f.http, f.url(), channel, "", data)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// guest opens a stream of somebody who has a token.
func (f *fort) guest(t *testing.T, over, token string, channels ...string) *guest {
	t.Helper()
	g := &guest{over: over, ended: make(chan event, 1)}
	query := "?access_token=" + token + "&channel=" + strings.Join(channels, "&channel=")
	var err error
	if over == "ws" {
		g.stream, err = openWS(t.Context(), "ws://"+f.addr+"/ws"+query, true)
	} else {
		g.stream, err = openSSE(t.Context(), httpClient(t, 0), f.url()+"/sse"+query, "", false)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.close)
	g.session = g.until(t, "welcome").body.Session
	return g
}

// until reads up to the next event of a kind.
func (g *guest) until(t *testing.T, kind string) event {
	t.Helper()
	stop := context.AfterFunc(deadline(t, noticed), g.close)
	defer stop()
	var seen []event
	for {
		e, err := g.next()
		if err != nil {
			t.Fatalf("%s: no %s, but %+v and %v", g.over, kind, seen, err)
		}
		if seen = append(seen, e); e.kind == kind {
			return e
		}
	}
}

func deadline(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// TestAttackWildcards: a pattern matches what it is documented to, and {sub} nobody else's.
func TestAttackWildcards(t *testing.T) {
	t.Parallel()
	f := newFort(t)
	for _, tt := range []struct {
		pattern, subject, channel string
		want                      bool
	}{
		{"news:*", "a", "news:1", true},
		{"news:*", "a", "news:", true},
		{"news:*", "a", "news:a:b", true}, // a star crosses separators
		{"news:*", "a", "news", false},
		{"news:*", "a", "newsx:1", false},
		{"news:*", "a", "xnews:1", false},
		{"news:*", "a", "NEWS:1", false},
		{"news", "a", "news", true},
		{"news", "a", "news:1", false},
		{"news", "a", "new", false},
		{"*:1", "a", "news:1", true},
		{"*:1", "a", "news:11", false},
		{"*a*b*", "a", "xaxxbx", true},
		{"*a*b*", "a", "xbxxax", false},
		{"n.ws", "a", "news", false}, // no regular expression
		{"user:{sub}", "a", "user:a", true},
		{"user:{sub}", "a", "user:b", false},
		{"user:{sub}:*", "a", "user:a:x", true},
		{"user:{sub}:*", "a", "user:ab:x", false},
		{"user:{sub}:*", "a:b", "user:a:b:x", false},
		{"user:{sub}:*", "a:b", "user:a~3Ab:x", true},
		{"user:{sub}:*", "*", "user:a:x", false},
		{"user:{sub}:*", "*", "user:~2A:x", true},
		{"user:{sub}:*", "{sub}", "user:a:x", false},
		{"user:{sub}:*", "~2A", "user:~2A:x", false}, // two subjects never share one
		{"user:{sub}:*", "a~3Ab", "user:a~3Ab:x", false},
		{"user:{sub}:*", "A", "user:a:x", false},
		{"user:{sub}:*", "..", "user:..:x", false},
		{"user:{sub}:*", "a/../b", "user:b:x", false},
		{"user:{sub}:*", "à", "user:a:x", false},
		{"{sub}", "news", "news", true},
		{"{sub}", "new", "news", false},
	} {
		token := f.signed(headEd, f.good().with(claims{"sub": tt.subject, "subscribe": []string{tt.pattern}, "publish": []string{tt.pattern}}))
		for _, line := range []string{"GET /sse?channel=" + tt.channel, "POST /publish/" + tt.channel} {
			s := f.ask(t, line, "Authorization: Bearer "+token+"\r\n", "")
			if s.ok() != tt.want || !tt.want && s.code != "forbidden" {
				t.Errorf("%s of %q, %s: got %d %s, want %v", tt.pattern, tt.subject, line, s.status, s.code, tt.want)
			}
		}
	}
	f.unharmed(t)
}

// TestAttackWildcardsAtRandom holds subscriptions against another matcher than the node's.
func TestAttackWildcardsAtRandom(t *testing.T) {
	t.Parallel()
	f := newFort(t)
	word := func(letters string, most int) string {
		b := make([]byte, 1+rand.IntN(most))
		for i := range b {
			b[i] = letters[rand.IntN(len(letters))]
		}
		return string(b)
	}
	right := 0
	for range 40 {
		patterns := []string{word("ab:*", 6), word("ab:*", 6)}
		token := f.signed(headEd, f.good().with(claims{"subscribe": patterns}))
		c := f.upgrade(t, "", speaksJSON+"Authorization: Bearer "+token+"\r\n")
		var reference []*regexp.Regexp
		for _, p := range patterns {
			reference = append(reference, regexp.MustCompile("^"+strings.ReplaceAll(regexp.QuoteMeta(p), `\*`, ".*")+"$"))
		}
		for ref := 1; ref <= 40; ref++ {
			channel := word("ab:", 6)
			c.send(text(toJSON(t, claims{"type": "subscribe", "ref": ref, "channel": channel})))
			want := reference[0].MatchString(channel) || reference[1].MatchString(channel)
			if want {
				right++
			}
			for {
				_, payload, err := c.read()
				if err != nil {
					t.Fatal(err)
				}
				var e body
				if !fromJSON(payload, &e) || e.Ref != ref {
					continue
				}
				if got := e.Type == "reply"; got != want || !want && e.Code != "forbidden" {
					t.Errorf("%q, channel %s: got %s, want %v", patterns, channel, payload, want)
				}
				break
			}
		}
		c.Close()
	}
	if right < 100 || right > 1500 {
		t.Errorf("%d of 1,600 are allowed: this says little", right)
	}
	f.unharmed(t)
}

// TestAttackResume: what a resume token says of positions is no right, whoever it is from.
func TestAttackResume(t *testing.T) {
	t.Parallel()
	f := newFort(t)
	grants := func(sub string, more claims) string {
		return f.signed(headEd, f.good().with(claims{"sub": sub, "subscribe": []string{"private:{sub}", "shared"}}).with(more))
	}
	alice := f.guest(t, "sse", grants("alice", nil), "private:alice", "shared")
	f.post(t, "private:alice", "before")
	token := alice.until(t, "message").token
	first := f.post(t, "private:alice", "for alice only")
	f.post(t, "shared", "for both")
	if e := alice.until(t, "message"); e.data != "for alice only" {
		t.Fatalf("got %+v", e)
	}
	alice.close()
	again := f.resume(t, grants("alice", nil), "private:alice", token)
	if !strings.Contains(again, "for alice only") {
		t.Fatalf("alice herself gets %q: this test would see nothing", again)
	}
	bob := grants("bob", nil)
	for _, tt := range []struct {
		name, token, channel, resume string
		code                         string // "": a stream, which must not have it
		want                         string // in the stream
	}{
		{"of a channel that is not his", bob, "private:alice", token, "forbidden", ""},
		{"of his own", bob, "private:bob", token, "", "bad_token"},
		{"of one that is his among those that are", bob, "private:bob&channel=private:alice", token, "forbidden", ""},
		{"of what they share", bob, "shared", token, "", "for both"},
		{"without credentials", "", "private:alice", token, "unauthorized", ""},
		{"of a public one", "", "public:a", token, "", "bad_token"},
		{"without history", grants("alice", claims{"history": false}), "private:alice", token, "", "no_history"},
		{"made up", bob, "private:bob", "AQAAAAAAAAAAAAAAAAAA", "", "bad_token"},
		{"a position for a token", bob, "private:bob", first.Position, "", "bad_token"},
		{"0", bob, "shared", "0", "", "bad_token"},
		{"$", bob, "shared", "%24", "", "bad_token"},
		{"-", bob, "shared", "-", "", "bad_token"},
		{"a line break", bob, "shared", "a%0aid:1", "", "bad_token"},
		{"long", bob, "shared", strings.Repeat("A", 6000), "", "bad_token"},
	} {
		if tt.code == "" {
			if got := f.resume(t, tt.token, tt.channel, tt.resume); strings.Contains(got, "alice") && tt.want != "no_history" || strings.Contains(got, "only") || !strings.Contains(got, tt.want) {
				t.Errorf("%s: got %q, want %s", tt.name, got, tt.want)
			}
			continue
		}
		for _, head := range []string{"", upgradeHead + speaksJSON} {
			path := map[bool]string{true: "/sse", false: "/ws"}[head == ""]
			if tt.token != "" {
				head += "Authorization: Bearer " + tt.token + "\r\n"
			}
			f.ask(t, "GET "+path+"?channel="+tt.channel+"&resume="+tt.resume, head, "").refuses(t, tt.name+path, "for alice only for alice only", tt.code)
		}
	}
	ws := f.guest(t, "ws", bob, "shared").stream.(*wsStream)
	for ref, command := range []claims{
		{"channel": "private:alice", "since": first.Position}, {"channels": []string{"shared", "private:alice"}, "resume": token},
		{"channel": "private:alice", "resume": token}, {"channel": "private:alice"}, {"channel": "private:alice", "signed": []string{f.room("alice", "private:alice")}},
	} {
		_ = ws.send(command.with(claims{"type": "subscribe", "ref": ref + 1}))
		for {
			e, err := ws.next()
			if err != nil || e.kind == "message" {
				t.Fatalf("%v: got %+v, %v", command, e, err)
			}
			if e.body.Ref == ref+1 {
				if e.body.Code != "forbidden" {
					t.Errorf("%v: got %+v, want forbidden", command, e.body)
				}
				break
			}
		}
	}
	f.unharmed(t)
}

// resume reads what a stream has in its first half a second.
func (f *fort) resume(t *testing.T, token, channels, resume string) string {
	t.Helper()
	c := f.dial(t)
	defer c.Close()
	head := "GET /sse?channel=" + channels + "&resume=" + resume + " HTTP/1.1\r\nHost: x\r\n"
	if token != "" {
		head += "Authorization: Bearer " + token + "\r\n"
	}
	c.send(head + "\r\n")
	if x, err := c.answer(); err != nil || x.status != http.StatusOK {
		t.Fatalf("%s: got %+v, %v", channels, x, err)
	}
	_ = c.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
	return drain(c.r)
}

// TestAttackRefresh: a refresh changes the rights of its holder, and of nobody else; what is gone is gone at once.
func TestAttackRefresh(t *testing.T) {
	t.Parallel()
	f := newFort(t)
	grants := func(sub string, patterns ...string) string {
		return f.signed(headEd, f.good().with(claims{"sub": sub, "subscribe": patterns, "publish": patterns}))
	}
	for _, over := range []string{"sse", "ws"} {
		t.Run(over, func(t *testing.T) {
			g := f.guest(t, over, grants("alice", "news", "secret"), "news", "secret")
			another := "forbidden"
			if over == "sse" {
				another = "not_found" // who posts is not told whose session it is
			}
			for _, tt := range []struct{ name, token, code string }{
				{"another subject", grants("mallory", "*"), another},
				{"no subject", f.signed(headEd, f.good().with(claims{"sub": absent{}, "subscribe": []string{"*"}})), another},
				{"for one subscription", f.room("alice", "room:1"), "unauthorized"},
				{"an API key", f.key, "unauthorized"},
				{"nothing", "", "unauthorized"},
			} {
				if code := f.renew(t, g, tt.token); code != tt.code {
					t.Errorf("%s: got %q, want %s", tt.name, code, tt.code)
				}
			}
			f.post(t, "secret", "still")
			if e := g.until(t, "message"); e.data != "still" {
				t.Fatalf("after refreshes that were refused: %+v", e)
			}
			if code := f.renew(t, g, grants("alice", "news")); code != "" {
				t.Fatalf("refused: %s", code)
			}
			if e := g.until(t, "unsubscribed"); e.body.Channel != "secret" || e.body.Code != "forbidden" {
				t.Errorf("got %+v", e.body)
			}
			f.post(t, "secret", "no more")
			f.post(t, "news", "go on")
			if e := g.until(t, "message"); e.data != "go on" {
				t.Errorf("got %+v, want the news only", e)
			}
			if over == "ws" {
				for ref, command := range []claims{{"type": "subscribe", "channel": "secret"}, {"type": "publish", "channel": "secret", "data": "x"}, {"type": "publish", "channel": "news", "data": "no consent"}} {
					_ = g.stream.(*wsStream).send(command.with(claims{"ref": ref + 50}))
					if e := g.until(t, "error"); e.body.Ref != ref+50 || e.body.Code != "forbidden" {
						t.Errorf("%v: got %+v", command, e.body)
					}
				}
			}
			g.close()
		})
	}
	f.unharmed(t)
	f.alone(t)
}

// renew shows another token and returns the code of the refusal.
func (n *node) renew(t *testing.T, g *guest, token string) string {
	t.Helper()
	if ws, ok := g.stream.(*wsStream); ok {
		_ = ws.send(map[string]any{"type": "refresh", "ref": 9, "token": token})
		for {
			e, err := ws.next()
			if err != nil {
				t.Fatal(err)
			}
			if e.body.Ref == 9 {
				return e.body.Code
			}
		}
	}
	return n.ask(t, "POST /sessions/"+g.session, "", toJSON(t, claims{"type": "refresh", "token": token})).code
}

// TestAttackExpiry: what a token allows ends with it, on a connection that is there and whoever keeps it busy.
func TestAttackExpiry(t *testing.T) {
	t.Parallel()
	f := newFort(t)
	for _, over := range []string{"sse", "ws"} {
		t.Run(over, func(t *testing.T) {
			t.Parallel()
			end := time.Now().Add(3 * time.Second).Truncate(time.Second)
			g := f.guest(t, over, f.signed(headEd, f.good().with(claims{"exp": end.Unix(), "sub": over, "subscribe": []string{"*"}})), "busy-"+over)
			go g.linger()
			ctx, cancel := context.WithCancel(t.Context())
			busy := make(chan struct{})
			go func() {
				defer close(busy)
				for i := 0; ctx.Err() == nil; i++ {
					_, _ = publish(ctx, f.http, f.url(), "busy-"+over, "live=1", fmt.Sprint(i))
				}
			}()
			e := <-g.ended
			if late := time.Since(end); late < -100*time.Millisecond || late > time.Second || e.body.Code != "token_expired" {
				t.Errorf("gone %v after the end, with %+v", late, e)
			}
			cancel()
			<-busy
		})
	}
}

// TestAttackEnumeration: what may not be listened to is answered alike, whether it is there or not.
func TestAttackEnumeration(t *testing.T) {
	t.Parallel()
	f := newFort(t)
	grant := f.signed(headEd, f.good().with(claims{"subscribe": []string{"*"}}))
	for range 3 {
		f.post(t, "hidden", "x")
	}
	f.guest(t, "sse", grant, "hidden")
	token := f.signed(headEd, f.good())
	body := func(s *shown, name string) string { // without the name, which is what was asked for
		return strings.Replace(s.raw[strings.LastIndex(s.raw, "{"):], `"channel":"`+name+`"`, `"channel":NAME`, 1)
	}
	for _, credential := range []string{"", "Authorization: Bearer " + token + "\r\n"} {
		for _, line := range []string{"GET /sse?channel=%s", "GET /sse?channel=news&channel=%s", "GET /ws?channel=%s", "POST /publish/%s", "GET /sse?channel=%s&resume=AQAAAAAAAAAAAAAAAAAA"} {
			head := credential
			if strings.Contains(line, "/ws") {
				head += upgradeHead
			}
			there, not := f.ask(t, fmt.Sprintf(line, "hidden"), head, ""), f.ask(t, fmt.Sprintf(line, "nowhere"), head, "")
			if there.ok() || there.status != not.status || body(there, "hidden") != body(not, "nowhere") {
				t.Errorf("%s: got %d %s, and %d %s where there is nothing", line, there.status, there.raw, not.status, not.raw)
			}
		}
	}
	for _, query := range []string{"channel=hidden&channel=nowhere", "channel=nowhere&channel=hidden"} { // which is named says nothing either
		first, _, _ := strings.Cut(strings.TrimPrefix(query, "channel="), "&")
		if s := f.ask(t, "GET /sse?"+query, "Authorization: Bearer "+token+"\r\n", ""); !strings.Contains(s.raw, `"channel":"`+first+`"`) {
			t.Errorf("%s: got %s, want that it is about the first", query, s.raw)
		}
	}
	for _, id := range []string{"AAAAAAAAAAAAAAAA", "AAAA", "%2e%2e", strings.Repeat("A", 1000)} {
		if s := f.ask(t, "POST /sessions/"+id, "", `{"type":"refresh","token":"`+token+`"}`); s.status != http.StatusNotFound {
			t.Errorf("session %.20s: got %d %s", id, s.status, s.raw)
		}
	}
	f.unharmed(t)
}
