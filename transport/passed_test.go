package transport

import (
	"context"
	"fmt"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/broker"
	"sluice/broker/redis"
	"sluice/broker/redistest"
)

// newPair returns two nodes on one Redis to which one desk hands out the grants.
func newPair(t *testing.T, change func(*Config)) (a, b *node, d *desk, r *redistest.Server) {
	t.Helper()
	d, r = newDesk(t), redistest.Start(t)
	start := func() *node {
		backend, err := redis.New(redis.Config{URL: r.URL()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = backend.Close() })
		n := newNodeOver(t, backend, func(c *Config) {
			c.Access = d
			if change != nil {
				change(c)
			}
		})
		n.await("ready", func() bool {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			return n.broker.Probe(ctx) == nil
		})
		return n
	}
	return start(), start(), d, r
}

// TestPassedOn: all that a stream's client may do on its node it may do on any other.
func TestPassedOn(t *testing.T) {
	a, b, d, _ := newPair(t, nil)
	d.issue("a", "alice", time.Hour, "news", "chat")
	d.issue("b", "bob", time.Hour, "news", "chat")
	c := a.listen("sse", "channel=news&access_token=a")
	id := c.welcome.Session
	none := (&session{id: newSessionID()}).name()
	for _, tt := range []struct {
		name, session, token, command string
		status                        int
		has                           string
	}{
		{"ping", id, "a", `{"type":"ping","ref":"x \u00e9\n"}`, 200, `"ref":"x \u00e9\n","time":`},
		{"subscribe", id, "a", `{"type":"subscribe","ref":1,"channel":"chat"}`, 200, `"ref":1,"channels":[{"channel":"chat","position":"`},
		{"subscribe to what is not allowed", id, "a", `{"type":"subscribe","channel":"vip"}`, 403, "forbidden"},
		{"publish", id, "a", `{"type":"publish","channel":"chat","data":"said <é>","id":"1"}`, 200, `"duplicate":false`},
		{"publish again", id, "a", `{"type":"publish","channel":"chat","data":"said <é>","id":"1"}`, 200, `"duplicate":true`},
		{"publish where she may not", id, "a", `{"type":"publish","channel":"secret","data":"x"}`, 403, `"channel":"secret"`},
		{"ack", id, "a", `{"type":"ack","traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}`, 200, `"traced":false`},
		{"refresh", id, "", `{"type":"refresh","token":"a"}`, 200, `"expires":`},
		{"refresh by the request", id, "a", `{"type":"refresh"}`, 200, `"expires":`},
		{"refresh by another subject's token", id, "", `{"type":"refresh","token":"b"}`, 404, unknownSession},
		{"refresh by none", id, "", `{"type":"refresh","token":"bad"}`, 401, "unauthorized"},
		{"no command", id, "a", `{"type":"ping"`, 400, "bad_request"},
		{"another's", id, "b", `{"type":"ping"}`, 404, unknownSession},
		{"nobody's", id, "", `{"type":"ping"}`, 404, unknownSession},
		{"unknown", none, "a", `{"type":"ping"}`, 404, unknownSession},
		{"unsubscribe", id, "a", `{"type":"unsubscribe","ref":2,"channel":"chat"}`, 200, `"ref":2`},
	} {
		began := time.Now()
		status, body, _ := b.give(tt.session, tt.token, tt.command)
		if status != tt.status || !strings.Contains(body, tt.has) {
			t.Errorf("%s: got %d %s, want %d with %s", tt.name, status, body, tt.status, tt.has)
		}
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("%s took %v", tt.name, took)
		}
	}
	c.want("said <é>")
	a.say("chat", "unheard")
	a.say("news", "heard")
	c.want("heard")
	began := time.Now()
	for range 20 {
		b.give(id, "a", `{"type":"ping"}`)
	}
	t.Logf("a ping through the other node takes %v", time.Since(began)/20)
	if status, _, _ := b.give(id, "a", `{"type":"publish","channel":"news","data":"`+strings.Repeat("<", 60<<10)+`"}`); status != 200 {
		t.Errorf("a large one: %d", status)
	}
}

// TestPassedOnRefusals: what other nodes refuse says what it would say there.
func TestPassedOnRefusals(t *testing.T) {
	a, b, d, r := newPair(t, func(c *Config) { c.CommandRate, c.CommandBurst = 0.01, 1 })
	c := a.listen("sse", "channel=news&"+d.issue("a", "alice", time.Hour, "news"))
	id := c.welcome.Session
	if status, body, _ := b.give(id, "a", `{"type":"ping"}`); status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	status, body, head := b.give(id, "a", `{"type":"ping"}`)
	if status != 429 || head.Get("Retry-After") == "" || head.Get("Retry-After") == "1" {
		t.Errorf("too many: %d %s, Retry-After %q, want 429 and some 100 s", status, body, head.Get("Retry-After"))
	}
	a.revoke(broker.BySession, id)
	a.await("the stream to be gone", func() bool { status, _, _ := a.give(id, "a", `{"type":"ping"}`); return status == 404 })
	if status, body, _ := b.give(id, "a", `{"type":"ping"}`); status != 404 {
		t.Errorf("revoked: %d %s, want 404", status, body)
	}
	r.Kill()
	b.await("503 without Redis", func() bool { status, _, _ := b.give(id, "a", `{"type":"ping"}`); return status == 503 })
	r.Restart()
}

// TestPassedOnWhileStreamsEnd: streams come and go while their clients post to the other node.
func TestPassedOnWhileStreamsEnd(t *testing.T) {
	a, b, d, _ := newPair(t, func(c *Config) { c.CommandRate, c.CommandBurst = 100_000, 100_000 })
	d.issue("a", "alice", time.Hour, "news", "chat")
	var running sync.WaitGroup
	for range 8 {
		c := a.listen("sse", "channel=news&access_token=a")
		for _, command := range []string{`{"type":"ping"}`, `{"type":"subscribe","channel":"chat"}`} {
			running.Go(func() {
				for i := 0; ; i++ {
					status, body, _ := b.give(c.welcome.Session, "a", command)
					if i == 10 {
						c.close()
					}
					if status == 404 && i > 0 {
						return
					}
					if status != 200 {
						t.Errorf("%d: %d %s", i, status, body)
						return
					}
				}
			})
		}
	}
	running.Wait()
	for status := 0; status != 404; { // the holder goes away
		c := a.listen("sse", "channel=news&access_token=a")
		a.stop()
		status, _, _ = b.give(c.welcome.Session, "a", `{"type":"ping"}`)
		if status != 404 && status != 200 && status != 503 {
			t.Errorf("while the node stops: %d", status)
		}
		if status != 404 {
			b.await("404", func() bool { status, _, _ = b.give(c.welcome.Session, "a", `{"type":"ping"}`); return status == 404 })
		}
	}
}

// TestForgedQuestions: who may publish in Redis needs what the session's client has; and what can't be read is counted.
func TestForgedQuestions(t *testing.T) {
	a, _, d, r := newPair(t, nil)
	c := a.listen("sse", "channel=news&"+d.issue("a", "alice", time.Hour, "news"))
	d.issue("b", "bob", time.Hour, "news")
	ask := func(text string) {
		if err := r.Client().Publish(t.Context(), "sluice:{!}:q", "1 EVIL ID "+text).Err(); err != nil {
			t.Fatal(err)
		}
	}
	answers := r.Client().Subscribe(t.Context(), "sluice:{EVIL/0}:n")
	defer answers.Close()
	if _, err := answers.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	command := `{"type":"publish","channel":"news","data":"%s"}`
	header := func(token string) string { return fmt.Sprintf(`{"header":{"Authorization":["Bearer %s"]}}`, token) }
	for _, text := range []string{
		c.welcome.Session + " {}\n" + fmt.Sprintf(command, "without a token"),
		c.welcome.Session + " " + header("b") + "\n" + fmt.Sprintf(command, "by bob"),
		c.welcome.Session + " " + header("bad") + "\n" + fmt.Sprintf(command, "by nobody"),
		c.welcome.Session + " " + header("a") + "\n",
		c.welcome.Session + " " + header("a") + "{}\n" + fmt.Sprintf(command, "two objects"),
		c.welcome.Session + ` {"grant":"all"}` + "\n" + fmt.Sprintf(command, "an unknown member"),
		"x {}\n{}", "", " ", strings.Repeat("x", 1<<20),
	} {
		ask(text)
	}
	ask(c.welcome.Session + " " + header("a") + "\n" + fmt.Sprintf(command, "by alice"))
	c.want("by alice")
	for range 2 { // 401 to nobody, which is no secret, and alice's
		m, err := answers.ReceiveTimeout(t.Context(), 5*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if text := fmt.Sprint(m); !strings.Contains(text, "duplicate") && !strings.Contains(text, "unauthorized") {
			t.Errorf("answered %s", text)
		}
	}
}

// TestShown: what a request shows arrives at the other node, and nothing else of it.
func TestShown(t *testing.T) {
	n := newNode(t, func(c *Config) { c.PassHeaders = []string{"x-tenant"}; c.TrustedProxies = []string{"10.0.0.0/8"} })
	r := httptest.NewRequest("POST", "https://sluice.example/sessions/x?access_token=t&other=y", nil)
	r.RemoteAddr = "10.1.2.3:4567"
	for name, value := range map[string]string{
		"Authorization": "Bearer x", "Cookie": "a=b; c=\"d\"", "Origin": "https://app.example", "Sec-Fetch-Site": "same-origin",
		"X-Tenant": "seven", "X-Forwarded-For": "192.0.2.1, 2001:db8::1", "User-Agent": "test", "Traceparent": "00-",
	} {
		r.Header.Set(name, value)
	}
	text, err := (&posted{body: []byte(`{"type":"ping"}`), shown: n.shownBy(r)}).appendQuestion(nil)
	if err != nil {
		t.Fatal(err)
	}
	p, ok := parseQuestion(text, n.passed())
	if !ok {
		t.Fatalf("%s can't be read", text)
	}
	got := p.shown.request(t.Context())
	if a := n.limits.clients.Addr(got); a.String() != "2001:db8::1" {
		t.Errorf("the client is %v", a)
	}
	if got.Host != "sluice.example" || got.TLS == nil || got.URL.String() != "/sse?access_token=t" || len(got.Header) != 5 {
		t.Errorf("got %s of %s with TLS %v and %v", got.URL, got.Host, got.TLS != nil, got.Header)
	}
	for name := range got.Header {
		if got.Header.Get(name) != r.Header.Get(name) {
			t.Errorf("%s is %q", name, got.Header.Get(name))
		}
	}
	for _, tt := range []struct{ name, shown string }{
		{"a header with a line break", `{"header":{"Cookie":["a\nb"]}}`},
		{"a host with a NUL", `{"host":"a\u0000"}`},
		{"a long host", `{"host":"` + strings.Repeat("h", maxHost+1) + `"}`},
		{"an address that is none", `{"address":"here"}`},
		{"a member twice", `{"tls":false,"tls":true}`},
		{"no object", `[]`},
	} {
		if _, ok := parseQuestion([]byte("AAAAAAAAAAAAAAAA "+tt.shown+"\n{}"), n.passed()); ok {
			t.Errorf("%s was taken", tt.name)
		}
	}
}

func FuzzQuestion(f *testing.F) {
	names := []string{"Authorization", "Cookie"}
	p := posted{id: [12]byte{1, 2, 3}, body: []byte(`{"type":"ping","ref":1}`), shown: shown{Host: "h", Address: "::1", Tokens: []string{"t"},
		Header: map[string][]string{"Cookie": {"a=b"}}}}
	text, err := p.appendQuestion(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte("AAAAAAAAAAAAAAAA {}\n{}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, ok := parseQuestion(text, names)
		if !ok {
			return
		}
		r := p.shown.request(t.Context())
		for name, values := range r.Header {
			if name != "Authorization" && name != "Cookie" {
				t.Errorf("it has the header %q", name)
			}
			for _, v := range values {
				if strings.ContainsAny(v, "\r\n\x00") {
					t.Errorf("the header %s is %q", name, v)
				}
			}
		}
		again, err := p.appendQuestion(nil)
		if err != nil {
			t.Fatal(err)
		}
		q, ok := parseQuestion(again, names)
		if !ok || q.id != p.id || string(q.body) != string(p.body) || fmt.Sprint(q.shown) != fmt.Sprint(p.shown) {
			t.Errorf("%q was written as %q and read as %+v", text, again, q)
		}
	})
}

func FuzzOutcome(f *testing.F) {
	f.Add([]byte(`r{"type":"reply"}`))
	f.Add((&outcome{problem: limited(limitCommand, time.Second)}).append(nil))
	f.Add((&outcome{problem: problem(Forbidden, "no").of("a")}).append(nil))
	f.Add([]byte(`p{"code":"forbidden","channel":"a b"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		x, ok := parseOutcome(text)
		if !ok {
			return
		}
		if x.problem != nil && x.problem.Status < 400 {
			t.Errorf("%q is a problem with status %d", text, x.problem.Status)
		}
		if x.problem != nil && x.problem.Channel != "" && broker.CheckChannel(x.problem.Channel) != nil {
			t.Errorf("%q is about the channel %q", text, x.problem.Channel)
		}
		if x.problem == nil && (len(x.object) == 0 || x.object[0] != '{') {
			t.Errorf("%q is a reply %q", text, x.object)
		}
		again, ok := parseOutcome(x.append(nil))
		if !ok || string(again.object) != string(x.object) || (again.problem == nil) != (x.problem == nil) || x.problem != nil && *again.problem != *x.problem {
			t.Errorf("%q was read as %+v and again as %+v", text, x, again)
		}
	})
}
