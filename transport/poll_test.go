package transport

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"slices"
	"strconv"
	"strings"
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
	go func() { answer <- n.poll(`{"channels":["a","b"],"resume":"` + first.Token + `"}`) }()
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
	empty := n.poll(`{"channels":["a","b"],"wait":0,"resume":"` + p.Token + `"}`)
	if took := time.Since(begin); len(empty.Messages) > 0 || empty.Token != p.Token || empty.Retry < 2000 || took > 5*time.Second {
		t.Errorf("with wait 0 got %+v after %v, want nothing, at once, with the same token and a pause", empty, took)
	}
	n.publish("a", "a1")
	n.publish("b", "b1")
	both := n.poll(`{"channel":"a","channels":["b"],"wait":0,"resume":"` + p.Token + `"}`)
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
			p := n.poll(`{"channel":"a","resume":"` + token + `"` + tt.wait + `}`)
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
		p := n.poll(`{"channel":"a","wait":0,"resume":"` + token + `"}`)
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
	if d := n.poll(`{"channel":"a","resume":"` + token + `"}`).data(t); len(d) != 1 || d[0] != big {
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
				token = poll(`{"channel":"a","wait":0.6,"resume":"` + token + `"}`).Token // longer than all of these deadlines
				n.put(&broker.Message{Channel: "a", Data: fmt.Append(nil, i)}, false)
				p := poll(`{"channel":"a","resume":"` + token + `"}`)
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
			_, _, _, err := n.ask(ctx, http.DefaultClient, `{"channel":"a","resume":"`+token+`"}`)
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
	if got := n.poll(`{"channel":"a","resume":"` + token + `"}`).data(t); !slices.Equal(got, []string{"kept"}) {
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
		body := `{"channel":"a","wait":0,"resume":"` + token + `"}`
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
	body := `{"channel":"a","wait":0,"resume":"` + token + `"}`
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
	ends := &n.counts.closes[overPoll]
	n.until("nothing is left, and it is counted", func() bool {
		return n.sessions.Load() == 0 && ends[closedByPeer].Load()+ends[closedSlow].Load() > 0
	})
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	if peer, slow := ends[closedByPeer].Load(), ends[closedSlow].Load(); peer != 1 || slow != 0 {
		t.Errorf("%d ended by the peer and %d as slow, want 1 and 0", peer, slow)
	}
}

// preflight is what a browser asks before a page of origin may POST with such headers.
func (n *node) preflight(path, origin, headers string) *http.Response {
	n.t.Helper()
	r, err := http.NewRequest("OPTIONS", n.url(path), nil)
	if err != nil {
		n.t.Fatal(err)
	}
	r.Header.Set("Origin", origin)
	r.Header.Set("Access-Control-Request-Method", "POST")
	r.Header.Set("Access-Control-Request-Headers", headers)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		n.t.Fatal(err)
	}
	resp.Body.Close()
	return resp
}

// TestPollOrigins: pages ask before they may send JSON, and only those on the list.
func TestPollOrigins(t *testing.T) {
	n := newNode(t, func(c *Config) { c.Origins = []string{"https://app.example"} })
	for _, tt := range []struct {
		origin string
		status int
	}{{"https://app.example", 204}, {"https://evil.example", 403}} {
		resp := n.preflight("/poll", tt.origin, "content-type")
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
