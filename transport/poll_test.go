package transport

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/broker"
	"sluice/broker/memory"
)

// polled is an answer to a poll.
type polled struct {
	Messages []frame
	Token    string
	More     bool
	Retry    int64
	size     int
	header   http.Header
}

// ask polls once with a body, which is JSON, and returns the status and the answer as it came.
func (n *node) ask(ctx context.Context, client *http.Client, body string, header ...string) (int, http.Header, []byte, error) {
	r, err := http.NewRequestWithContext(ctx, "POST", n.url("/poll"), strings.NewReader(body))
	if err != nil {
		return 0, nil, nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := client.Do(r)
	if err != nil {
		return 0, nil, nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.ContentLength != int64(len(b)) {
		err = fmt.Errorf("Content-Length is %d of %d bytes", resp.ContentLength, len(b))
	}
	return resp.StatusCode, resp.Header, b, err
}

// poll is ask for an answer that is no refusal.
func (n *node) poll(body string) *polled {
	n.t.Helper()
	return n.pollBy(http.DefaultClient, body)
}

func (n *node) pollBy(client *http.Client, body string, header ...string) *polled {
	n.t.Helper()
	status, h, b, err := n.ask(n.t.Context(), client, body, header...)
	p := &polled{size: len(b), header: h}
	if err == nil {
		err = json.Unmarshal(b, p)
	}
	if status != 200 || err != nil || p.Messages == nil {
		n.t.Fatalf("poll %s: %d %.200s (%v)", body, status, b, err)
	}
	return p
}

// data are the payloads of an answer that has nothing but messages.
func (p *polled) data(t *testing.T) (got []string) {
	t.Helper()
	for _, m := range p.Messages {
		if m.Type != "message" {
			t.Fatalf("got %+v, want a message", m)
		}
		got = append(got, m.Data)
	}
	return got
}

func TestPoll(t *testing.T) {
	n := newNode(t, nil)
	begin := time.Now()
	first := n.poll(`{"channels":["a","b"]}`)
	if took := time.Since(begin); len(first.Messages) > 0 || first.Token == "" || first.Retry < 250 || first.Retry >= 500 || took > 5*time.Second {
		t.Errorf("first answer %+v after %v, want it at once, with a token", first, took)
	}
	for name, want := range map[string]string{"Content-Type": "application/json", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"} {
		if got := first.header.Get(name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	answer := make(chan *polled)
	go func() { answer <- n.poll(`{"channels":["a","b"],"token":"` + first.Token + `"}`) }()
	n.until("a poll is held", func() bool { return n.counts.subscriptions[overPoll].Load() == 2 })
	select {
	case p := <-answer:
		t.Fatalf("answered with %+v though there is nothing", p)
	case <-time.After(100 * time.Millisecond):
	}
	n.publish("b", `say "hi"`, "event=created", "key=k")
	p := <-answer
	if got := p.data(t); !slices.Equal(got, []string{`say "hi"`}) || p.Retry != 0 || p.More || p.Token == first.Token {
		t.Errorf("got %+v", p)
	}
	if m := p.Messages[0]; m.Channel != "b" || m.Event != "created" || m.Key != "k" || m.Position == "" || m.Time == 0 {
		t.Errorf("the envelope lacks something: %+v", m)
	}
	begin = time.Now()
	empty := n.poll(`{"channels":["a","b"],"wait":0,"token":"` + p.Token + `"}`)
	if took := time.Since(begin); len(empty.Messages) > 0 || empty.Token != p.Token || empty.Retry < 2000 || took > 5*time.Second {
		t.Errorf("with wait 0 got %+v after %v, want nothing, at once, with the same token and a pause", empty, took)
	}
	n.publish("a", "a1")
	n.publish("b", "b1")
	both := n.poll(`{"channel":"a","channels":["b"],"wait":0,"token":"` + p.Token + `"}`)
	if got := both.data(t); len(got) != 2 || !slices.Contains(got, "a1") || !slices.Contains(got, "b1") {
		t.Errorf("got %q, want what came between the polls", got)
	}
	n.until("nothing is left", func() bool { return n.sessions.Load() == 0 && n.counts.subscriptions[overPoll].Load() == 0 })
	if got := n.counts.connects[overPoll][resultOK].Load(); got != 4 {
		t.Errorf("%d polls are counted, want 4", got)
	}
}

// until waits for what comes by itself.
func (n *node) until(what string, done func() bool) {
	n.t.Helper()
	for range 2000 {
		if done() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	n.t.Fatalf("not within 10 s: %s", what)
}

func TestPollHold(t *testing.T) {
	n := newNode(t, func(c *Config) { c.PollWait = 400 * time.Millisecond })
	token := n.poll(`{"channel":"a"}`).Token
	for _, tt := range []struct {
		name, wait string
		least      time.Duration
	}{
		{"as the node has it", ``, 350 * time.Millisecond},
		{"shorter", `,"wait":0.2`, 170 * time.Millisecond},
		{"longer is cut", `,"wait":3600`, 350 * time.Millisecond},
	} {
		t.Run(tt.name, func(t *testing.T) {
			begin := time.Now()
			p := n.poll(`{"channel":"a","token":"` + token + `"` + tt.wait + `}`)
			if took := time.Since(begin); took < tt.least || took > 10*time.Second || len(p.Messages) > 0 || p.Token != token || p.Retry == 0 {
				t.Errorf("%+v after %v, want nothing after %v and the same token", p, took, tt.least)
			}
		})
	}
}

// TestPollPages: what was missed comes in answers of bounded size, in order and once.
func TestPollPages(t *testing.T) {
	n := newNode(t, nil)
	token := n.poll(`{"channel":"a"}`).Token
	const count, size = 300, 5000
	for i := range count {
		n.put(&broker.Message{Channel: "a", Data: fmt.Appendf(nil, "%d %s", i, strings.Repeat("x", size))}, false)
	}
	var got []string
	answers := 0
	for more := true; more; answers++ {
		p := n.poll(`{"channel":"a","wait":0,"token":"` + token + `"}`)
		if p.size > maxPoll+64<<10 {
			t.Errorf("an answer has %d bytes, want about %d at most", p.size, maxPoll)
		}
		for _, d := range p.data(t) {
			i, _, _ := strings.Cut(d, " ")
			got = append(got, i)
		}
		token, more = p.Token, p.More
	}
	for i := range got {
		if got[i] != strconv.Itoa(i) {
			t.Fatalf("message %d is %s", i, got[i])
		}
	}
	if len(got) != count || answers < count*size/maxPoll || answers > count*size/maxPoll+3 {
		t.Errorf("%d messages in %d answers", len(got), answers)
	}
	big := strings.Repeat("y", 1<<20)
	n.publish("a", big)
	if d := n.poll(`{"channel":"a","token":"` + token + `"}`).data(t); len(d) != 1 || d[0] != big {
		t.Errorf("a message of 1 MiB came as %d messages", len(d))
	}
}

// TestPollConnections: a poll is an ordinary request. Its connection is used again, however long it was held or its answer took.
func TestPollConnections(t *testing.T) {
	for _, tt := range []struct {
		name       string
		tls, http2 bool
	}{{"HTTP/1.1", false, false}, {"TLS", true, false}, {"HTTP/2", true, true}, {"h2c", false, true}} {
		t.Run(tt.name, func(t *testing.T) {
			change := func(c *Config) {
				c.HeaderTimeout, c.BodyTimeout = 150*time.Millisecond, 50*time.Millisecond
				c.WriteTimeout, c.MaxLag = 200*time.Millisecond, 300*time.Millisecond
			}
			secure := func(*Server) *tls.Config { return nil }
			tr := &http.Transport{Protocols: new(http.Protocols)}
			tr.Protocols.SetHTTP1(!tt.http2)
			tr.Protocols.SetUnencryptedHTTP2(tt.http2 && !tt.tls)
			tr.Protocols.SetHTTP2(tt.http2 && tt.tls)
			scheme := "http"
			if tt.tls {
				scheme = "https"
				secure = func(*Server) *tls.Config { return certified(t) }
				tr.TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
			}
			defer tr.CloseIdleConnections()
			n := newNodeWith(t, memory.New(memory.DefaultConfig()), nil, change, secure)
			client := &http.Client{Transport: tr}
			var fresh []bool
			poll := func(body string) *polled {
				t.Helper()
				ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { fresh = append(fresh, !i.Reused) }})
				r, err := http.NewRequestWithContext(ctx, "POST", scheme+"://"+n.addr+"/poll", strings.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}
				r.Header.Set("Content-Type", "application/json")
				resp, err := client.Do(r)
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				b, err := io.ReadAll(resp.Body)
				p := &polled{}
				if err != nil || json.Unmarshal(b, p) != nil || resp.ContentLength != int64(len(b)) || resp.ProtoMajor == 2 != tt.http2 {
					t.Fatalf("%s %d %.100s: %v", resp.Proto, resp.StatusCode, b, err)
				}
				return p
			}
			token := poll(`{"channel":"a"}`).Token
			for i := range 3 {
				token = poll(`{"channel":"a","wait":0.6,"token":"` + token + `"}`).Token // longer than all of these deadlines
				n.put(&broker.Message{Channel: "a", Data: fmt.Append(nil, i)}, false)
				p := poll(`{"channel":"a","token":"` + token + `"}`)
				if got := p.data(t); !slices.Equal(got, []string{strconv.Itoa(i)}) {
					t.Errorf("got %q, want %d", got, i)
				}
				token = p.Token
			}
			if !slices.Equal(fresh, []bool{true, false, false, false, false, false, false}) {
				t.Errorf("new connections: %v, want only the first", fresh)
			}
		})
	}
}

func TestPollAbort(t *testing.T) {
	n := newNode(t, nil)
	token := n.poll(`{"channel":"a"}`).Token
	for range 5 {
		ctx, cancel := context.WithCancel(t.Context())
		gone := make(chan error)
		go func() {
			_, _, _, err := n.ask(ctx, http.DefaultClient, `{"channel":"a","token":"`+token+`"}`)
			gone <- err
		}()
		n.until("the poll is held", func() bool { return n.sessions.Load() == 1 })
		cancel()
		if err := <-gone; err == nil {
			t.Fatal("there was an answer")
		}
		begin := time.Now()
		n.until("nothing is left of it", func() bool {
			return n.sessions.Load() == 0 && n.limits.subscriptions.Load() == 0 && n.counts.subscriptions[overPoll].Load() == 0
		})
		if took := time.Since(begin); took > 2*time.Second {
			t.Errorf("it took %v to notice that the client had gone", took)
		}
	}
	n.publish("a", "kept")
	if got := n.poll(`{"channel":"a","token":"` + token + `"}`).data(t); !slices.Equal(got, []string{"kept"}) {
		t.Errorf("got %q: what nobody was given is still there", got)
	}
}

// TestPollSlow: a client that does not take its answer is counted as long as that is held for it, and given up in time.
func TestPollSlow(t *testing.T) {
	n := newNode(t, func(c *Config) { c.WriteTimeout, c.SendBuffer = 300*time.Millisecond, 4<<10 })
	token := n.poll(`{"channel":"a"}`).Token
	for range 12 {
		n.publish("a", strings.Repeat("x", 1<<20))
	}
	conn, err := net.Dial("tcp", n.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.(*net.TCPConn).SetReadBuffer(4 << 10)
	for range 12 { // one after the other, until the kernel has no more room
		body := `{"channel":"a","wait":0,"token":"` + token + `"}`
		fmt.Fprintf(conn, "POST /poll HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	}
	n.until("a session owes", func() bool { return n.sessions.Load() == 1 })
	n.until("it was given up", func() bool {
		return n.counts.closes[overPoll][closedSlow].Load() == 1
	})
	n.until("nothing is left", func() bool { return n.sessions.Load() == 0 && n.sockets.open.Load() <= 2 })
}

// TestPollHangUp: who goes while the answer is written is gone at once, and is not taken for slow.
func TestPollHangUp(t *testing.T) {
	n := newNode(t, nil)
	token := n.poll(`{"channel":"a"}`).Token
	n.publish("a", strings.Repeat("x", 1<<20))
	conn, err := net.Dial("tcp", n.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	body := `{"channel":"a","wait":0,"token":"` + token + `"}`
	one := fmt.Sprintf("POST /poll HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	for range 12 {
		_, _ = io.WriteString(conn, one)
	}
	n.until("an answer is stuck", func() bool {
		before := n.counts.connects[overPoll][resultOK].Load()
		time.Sleep(300 * time.Millisecond)
		return n.sessions.Load() == 1 && n.counts.connects[overPoll][resultOK].Load() == before
	})
	begin := time.Now()
	_ = conn.(*net.TCPConn).SetLinger(0)
	_ = conn.Close()
	n.until("nothing is left", func() bool { return n.sessions.Load() == 0 })
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	if peer, slow := n.counts.closes[overPoll][closedByPeer].Load(), n.counts.closes[overPoll][closedSlow].Load(); peer != 1 || slow != 0 {
		t.Errorf("%d ended by the peer and %d as slow, want 1 and 0", peer, slow)
	}
}

// TestPollOrigins: pages ask before they may send JSON, and only those on the list.
func TestPollOrigins(t *testing.T) {
	n := newNode(t, func(c *Config) { c.Origins = []string{"https://app.example"} })
	for _, tt := range []struct {
		origin string
		status int
	}{{"https://app.example", 204}, {"https://evil.example", 403}} {
		r, err := http.NewRequest("OPTIONS", n.url("/poll"), nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Origin", tt.origin)
		r.Header.Set("Access-Control-Request-Method", "POST")
		r.Header.Set("Access-Control-Request-Headers", "content-type")
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != tt.status || tt.status == 204 && resp.Header.Get("Access-Control-Allow-Origin") != tt.origin {
			t.Errorf("%s: %d %v, want %d", tt.origin, resp.StatusCode, resp.Header, tt.status)
		}
		want := 200
		if tt.status != 204 {
			want = 403
		}
		if status, _, b, err := n.ask(t.Context(), http.DefaultClient, `{"channel":"a"}`, "Origin", tt.origin); status != want {
			t.Errorf("%s: %d %s (%v), want %d", tt.origin, status, b, err, want)
		}
	}
}

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
		status, _, b, err := n.askAs("t", `{"channel":"a","token":"`+p.Token+`"}`)
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
			s, _, _, _ := n.askAs("t", `{"channel":"a","token":"`+p.Token+`"}`)
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
		status, _, b, err := n.askAs("t", `{"channels":["a","b"],"signed":["s"],"token":"`+p.Token+`"}`)
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
		go func() { answer <- n.poll(`{"channel":"a","token":"` + token + `"}`) }()
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
		go func() { answer <- n.poll(`{"channel":"a","token":"` + token + `"}`) }()
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
		p := n.poll(`{"channel":"a","token":"` + token + `"}`)
		if len(p.Messages) != 1 || p.Messages[0].Type != "gap" || p.Messages[0].Reason != "bad_token" || p.Token == "" {
			t.Fatalf("got %+v, want a gap and a token", p)
		}
		if again := n.poll(`{"channel":"a","wait":0,"token":"` + p.Token + `"}`); len(again.Messages) > 0 {
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
			token = n.poll(`{"channel":"a","wait":0,"token":"` + token + `"}`).Token
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
		go func() { _, _, _, _ = n.askAs("t", `{"channel":"a","token":"`+p.Token+`"}`); close(done) }()
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
	p := n.poll(`{` + wish + `,"token":"` + token + `"}`)
	if got := p.data(t); !slices.Equal(got, []string{"0", "1", "2", "4", "5"}) || p.Retry != 200 || p.Messages[0].Skipped+p.Messages[3].Skipped != 1 {
		t.Errorf("got %q, retry %d: %+v", got, p.Retry, p.Messages)
	}
	if h := p.header.Get("Sluice-Deliver"); !strings.Contains(h, `rate="5/s"`) {
		t.Errorf("Sluice-Deliver is %q", h)
	}
	for range 3 { // nothing but what is filtered out
		n.put(&broker.Message{Channel: "a", Data: []byte("3")}, false)
	}
	q := n.poll(`{` + wish + `,"wait":0.2,"token":"` + p.Token + `"}`)
	if len(q.Messages) > 0 {
		t.Errorf("got %+v", q.Messages)
	}
}

// TestMoves: clients that go from one transport to another at any moment, with one token, get everything once and in order.
func TestMoves(t *testing.T) {
	n := newNode(t, nil)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	const clients, count = 8, 400
	channels := []string{"m1", "m2", "m3"}
	tokens := make([]string, clients)
	for i := range tokens {
		tokens[i] = n.poll(`{"channels":["m1","m2","m3"]}`).Token
	}
	var all sync.WaitGroup
	for i, c := range channels {
		all.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(1000+i)))
			for i := range count {
				n.put(&broker.Message{Channel: c, Data: fmt.Append(nil, i)}, false)
				time.Sleep(time.Duration(rng.IntN(8)) * time.Millisecond)
			}
		})
	}
	for i := range clients {
		all.Go(func() {
			m := &mover{n: n, rng: rand.New(rand.NewPCG(seed, uint64(i))), token: tokens[i], next: map[string]int{}}
			for m.next["m1"] < count || m.next["m2"] < count || m.next["m3"] < count {
				if !m.move() {
					return
				}
			}
			t.Logf("client %d: %v", i, m.moves)
		})
	}
	all.Wait()
	n.until("nothing is left", func() bool { return n.sessions.Load() == 0 })
}

// mover is a client of TestMoves.
type mover struct {
	n     *node
	rng   *rand.Rand
	token string
	next  map[string]int // the number that comes next, by channel
	moves [3]int
}

// take checks a message, of which the client knows the token.
func (m *mover) take(channel, data string) bool {
	if want := strconv.Itoa(m.next[channel]); data != want {
		m.n.t.Errorf("channel %s: got %s, want %s", channel, data, want)
		return false
	}
	m.next[channel]++
	return true
}

// move listens over some transport for a while.
func (m *mover) move() bool {
	over := m.rng.IntN(3)
	m.moves[over]++
	some := m.rng.IntN(40)
	const query = "channel=m1&channel=m2&channel=m3&resume="
	t := m.n.t
	switch over {
	case 0:
		s := m.n.sse(query + m.token + "&format=json")
		defer s.close()
		for range some {
			e, err := s.within(300 * time.Millisecond)
			if err != nil {
				return true
			}
			var f frame
			if json.Unmarshal([]byte(e.data), &f) == nil && f.Type == "message" && !m.take(f.Channel, f.Data) {
				return false
			}
			m.token = s.last
		}
	case 1:
		ws := m.n.ws(query+m.token, subprotocolJSON)
		defer ws.Close()
		asked := make(chan struct{})
		wait := time.Duration(3*some) * time.Millisecond
		go func() {
			defer close(asked)
			time.Sleep(wait)
			ws.send(`{"type":"ping"}`) // for a token
		}()
		defer func() { <-asked }()
		for {
			switch f := ws.want(""); f.Type {
			case "message":
				if !m.take(f.Channel, f.Data) {
					return false
				}
			case "reply":
				m.token = f.Token
				return true
			}
		}
	default:
		for range 1 + some/10 {
			body := fmt.Sprintf(`{"channels":["m3","m1","m2"],"wait":%.2f,"token":%q}`, m.rng.Float64()/5, m.token)
			ctx, cancel := context.WithCancel(t.Context())
			if m.rng.IntN(4) == 0 { // who hangs up has got nothing
				time.AfterFunc(time.Duration(m.rng.IntN(20))*time.Millisecond, cancel)
			}
			status, _, b, err := m.n.ask(ctx, http.DefaultClient, body)
			cancel()
			if err != nil {
				continue
			}
			var p polled
			if err := json.Unmarshal(b, &p); err != nil || status != 200 {
				t.Errorf("%d %s: %v", status, b, err)
				return false
			}
			for _, f := range p.Messages {
				if f.Type != "message" || !m.take(f.Channel, f.Data) {
					t.Errorf("got %+v", f)
					return false
				}
			}
			m.token = p.Token
		}
	}
	return true
}

func FuzzPoll(f *testing.F) {
	for _, s := range []string{`{"channel":"a"}`, `{"channels":["a","b"],"token":"AQ","wait":1.5,"signed":["x"]}`, `{"wait":1e999}`, `{"channel":"a"}]`, `[]`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		in, err := decodePoll(body)
		if err != nil {
			if p := problemOf(err); p.Code != BadRequest {
				t.Errorf("%q: %v, want %s", body, err, BadRequest)
			}
			return
		}
		if in.Wait != nil && !(*in.Wait >= 0) {
			t.Errorf("%q: wait is %v", body, *in.Wait)
		}
	})
}
