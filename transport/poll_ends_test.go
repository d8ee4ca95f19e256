package transport

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/broker"
)

func TestPollEnds(t *testing.T) {
	t.Run("expired", func(t *testing.T) {
		n, d := newGuarded(t, nil)
		d.issue("t", "alice", 600*time.Millisecond, "a")
		_, _, b, err := n.askAs("t", `{"channel":"a"}`)
		var p polled
		if err != nil || json.Unmarshal(b, &p) != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		status, _, b, err := n.askAs("t", `{"channel":"a","resume":"`+p.Token+`"}`)
		if took := time.Since(begin); status != 401 || !bytes.Contains(b, []byte(`"token_expired"`)) || took > 5*time.Second {
			t.Errorf("%d %s (%v) after %v, want 401 when the token ends", status, b, err, took)
		}
	})
	t.Run("revoked", func(t *testing.T) {
		n, d := newGuarded(t, nil)
		d.issue("t", "alice", 0, "a")
		_, _, b, _ := n.askAs("t", `{"channel":"a"}`)
		var p polled
		_ = json.Unmarshal(b, &p)
		status := make(chan int)
		go func() {
			s, _, _, _ := n.askAs("t", `{"channel":"a","resume":"`+p.Token+`"}`)
			status <- s
		}()
		n.until("the poll is held", func() bool { return n.sessions.Load() == 1 })
		n.revoke(broker.BySubject, "alice")
		if got := <-status; got != 401 {
			t.Errorf("got %d, want 401", got)
		}
	})
	t.Run("one of its subscriptions", func(t *testing.T) {
		n, d := newGuarded(t, nil)
		d.issue("t", "alice", 0, "a")
		d.sign("s", 600*time.Millisecond, "b")
		_, _, b, _ := n.askAs("t", `{"channels":["a","b"],"signed":["s"]}`)
		var p polled
		_ = json.Unmarshal(b, &p)
		status, _, b, err := n.askAs("t", `{"channels":["a","b"],"signed":["s"],"resume":"`+p.Token+`"}`)
		var end polled
		if err := json.Unmarshal(b, &end); err != nil || len(end.Messages) != 1 || end.Messages[0].Type != "unsubscribed" || end.Messages[0].Channel != "b" || end.Messages[0].Code != "token_expired" {
			t.Errorf("%d %s (%v), want to be told that b has ended", status, b, err)
		}
		_ = err
	})
	t.Run("drained", func(t *testing.T) {
		n := newNode(t, func(c *Config) { c.DrainTime = time.Minute })
		token := n.poll(`{"channel":"a"}`).Token
		answer := make(chan *polled)
		begin := time.Now()
		go func() { answer <- n.poll(`{"channel":"a","resume":"` + token + `"}`) }()
		n.until("the poll is held", func() bool { return n.sessions.Load() == 1 })
		n.stop()
		if p := <-answer; p.Token != token || p.Retry < 2000 || p.Retry >= 4000 || time.Since(begin) > 10*time.Second {
			t.Errorf("got %+v after %v, want it at once, with the token and a pause", p, time.Since(begin))
		}
	})
	t.Run("dismissed", func(t *testing.T) {
		n := newNode(t, nil)
		token := n.poll(`{"channel":"a"}`).Token
		answer := make(chan *polled)
		go func() { answer <- n.poll(`{"channel":"a","resume":"` + token + `"}`) }()
		n.until("the poll is held", func() bool { return n.sessions.Load() == 1 })
		for _, w := range n.writers {
			w.post(func() {
				for _, s := range w.sessions {
					w.dismiss(s)
				}
			})
		}
		if p := <-answer; p.Token != token || p.Retry < 2000 {
			t.Errorf("got %+v, want the token and a pause", p)
		}
	})
}

// askAs is ask with a token of the desk.
func (n *node) askAs(token, body string) (int, http.Header, []byte, error) {
	r, err := http.Post(n.url("/poll?access_token="+token), "application/json", strings.NewReader(body))
	if err != nil {
		return 0, nil, nil, err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	return r.StatusCode, r.Header, b, err
}

func TestPollRefusals(t *testing.T) {
	n := newNode(t, func(c *Config) { c.MaxChannels, c.MaxCommand = 2, 1000 })
	for _, tt := range []struct {
		name, body string
		status     int
		code       Code
	}{
		{"nothing", ``, 400, BadRequest},
		{"no channel", `{}`, 400, BadRequest},
		{"no JSON", `channel=a`, 400, BadRequest},
		{"two", `{"channel":"a"}{}`, 400, BadRequest},
		{"unknown member", `{"chanel":"a"}`, 400, BadRequest},
		{"member twice", `{"channel":"a","channel":"b"}`, 400, BadRequest},
		{"bad channel", `{"channel":"a b"}`, 400, BadChannel},
		{"too many", `{"channels":["a","b","c"]}`, 400, TooManyChannels},
		{"negative wait", `{"channel":"a","wait":-1}`, 400, BadRequest},
		{"wait of another type", `{"channel":"a","wait":"1"}`, 400, BadRequest},
		{"wait beyond all bounds", `{"channel":"a","wait":1e300}`, 400, BadRequest},
		{"bad rate", `{"channel":"a","rate":"often"}`, 400, BadDelivery},
		{"not allowed", `{"channel":"secret"}`, 403, Forbidden},
		{"too large", `{"channel":"a","filter":"` + strings.Repeat("x", 1000) + `"}`, 413, TooLarge},
	} {
		t.Run(tt.name, func(t *testing.T) {
			status, body := n.post("/poll", "application/json", tt.body)
			if status != tt.status || !bytes.Contains(body, []byte(`"code":"`+tt.code+`"`)) {
				t.Errorf("got %d %s, want %d %s", status, body, tt.status, tt.code)
			}
		})
	}
	if status, body := n.post("/poll", "text/plain", `{"channel":"a"}`); status != 415 {
		t.Errorf("text/plain: %d %s, want 415: a form of another site could send it", status, body)
	}
	if status, body := n.post("/poll?channel=a", "application/json", `{"channel":"a"}`); status != 400 {
		t.Errorf("a channel in the query: %d %s, want 400", status, body)
	}
	if got := n.sessions.Load(); got != 0 {
		t.Errorf("%d sessions are left", got)
	}
	if status, h, _ := get(t, n.url("/poll")); status != 405 || h.Get("Cache-Control") != "no-store" {
		t.Errorf("GET: %d %v", status, h)
	}
}

// TestPollBadToken: a client whose token is of no use is told, and has a new one.
func TestPollBadToken(t *testing.T) {
	n := newNode(t, nil)
	other := n.poll(`{"channel":"other"}`).Token
	n.publish("a", "secret of a")
	for _, token := range []string{"nonsense", other} {
		p := n.poll(`{"channel":"a","resume":"` + token + `"}`)
		if len(p.Messages) != 1 || p.Messages[0].Type != "gap" || p.Messages[0].Reason != "bad_token" || p.Token == "" {
			t.Fatalf("got %+v, want a gap and a token", p)
		}
		if again := n.poll(`{"channel":"a","wait":0,"resume":"` + p.Token + `"}`); len(again.Messages) > 0 {
			t.Errorf("with the new one got %+v", again)
		}
	}
}

func TestPollLimits(t *testing.T) {
	t.Run("rate", func(t *testing.T) {
		n := newNode(t, func(c *Config) {
			c.ClientCommandRate, c.ClientCommandBurst = 0.1, 3
			c.ConnectRate, c.ConnectBurst = 0.1, 1
		})
		token := ""
		for range 3 {
			token = n.poll(`{"channel":"a","wait":0,"resume":"` + token + `"}`).Token
		}
		status, h, b, err := n.ask(t.Context(), http.DefaultClient, `{"channel":"a"}`)
		if status != 429 || h.Get("Retry-After") == "" || err != nil {
			t.Errorf("the fourth: %d %s (%v), want 429", status, b, err)
		}
		if got := n.limits.refused[limitPoll].Load(); got != 1 {
			t.Errorf("%d refusals are counted", got)
		}
	})
	t.Run("connections", func(t *testing.T) {
		n := newNode(t, func(c *Config) { c.MaxSessions = 1 })
		s := n.sse("channel=a")
		s.want("welcome", "*")
		if status, _, b, _ := n.ask(t.Context(), http.DefaultClient, `{"channel":"a"}`); status != 503 || !bytes.Contains(b, []byte(`"at_capacity"`)) {
			t.Errorf("on a full node: %d %s", status, b)
		}
	})
	t.Run("of a subject", func(t *testing.T) {
		n, d := newGuarded(t, func(c *Config) { c.SubjectConnections = 1 })
		d.issue("t", "alice", 0, "a")
		_, _, b, _ := n.askAs("t", `{"channel":"a"}`)
		var p polled
		_ = json.Unmarshal(b, &p)
		done := make(chan struct{})
		go func() { _, _, _, _ = n.askAs("t", `{"channel":"a","resume":"`+p.Token+`"}`); close(done) }()
		n.until("the poll is held", func() bool { return n.sessions.Load() == 1 })
		if status, _, b, _ := n.askAs("t", `{"channel":"a"}`); status != 429 || !bytes.Contains(b, []byte(`"too_many_connections"`)) {
			t.Errorf("while another is held: %d %s", status, b)
		}
		n.say("a", "x")
		<-done
		if status, _, b, _ := n.askAs("t", `{"channel":"a"}`); status != 200 {
			t.Errorf("afterwards: %d %s", status, b)
		}
	})
}

// TestPollRate: what a rate lets out in the middle of a poll is one answer, and the next is not asked for before its time.
func TestPollRate(t *testing.T) {
	n := newNode(t, nil)
	const wish = `"channel":"a","rate":"5/s","filter":"data != 3"`
	token := n.poll(`{` + wish + `}`).Token
	for i := range 6 {
		n.put(&broker.Message{Channel: "a", Data: fmt.Append(nil, i)}, false)
	}
	p := n.poll(`{` + wish + `,"resume":"` + token + `"}`)
	if got := p.data(t); !slices.Equal(got, []string{"0", "1", "2", "4", "5"}) || p.Retry != 200 || p.Messages[0].Skipped+p.Messages[3].Skipped != 1 {
		t.Errorf("got %q, retry %d: %+v", got, p.Retry, p.Messages)
	}
	if h := p.header.Get("Sluice-Deliver"); !strings.Contains(h, `rate="5/s"`) {
		t.Errorf("Sluice-Deliver is %q", h)
	}
	for range 3 { // nothing but what is filtered out
		n.put(&broker.Message{Channel: "a", Data: []byte("3")}, false)
	}
	q := n.poll(`{` + wish + `,"wait":0.2,"resume":"` + p.Token + `"}`)
	if len(q.Messages) > 0 {
		t.Errorf("got %+v", q.Messages)
	}
}
