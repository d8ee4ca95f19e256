package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// lines is a writer that can be waited on.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// follower is a sluice tail that runs.
type follower struct {
	out, err lines
	code     chan int
	stop     context.CancelFunc
}

func startTail(t *testing.T, args ...string) *follower {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	f := &follower{code: make(chan int, 1), stop: stop}
	term := &terminal{out: &f.out, err: &f.err}
	go func() { f.code <- term.run(ctx, append([]string{"tail"}, args...)) }()
	t.Cleanup(func() {
		stop()
		f.wait(t)
	})
	return f
}

// wait returns the exit code.
func (f *follower) wait(t *testing.T) int {
	t.Helper()
	select {
	case code := <-f.code:
		f.code <- code // for whoever waits next
		return code
	case <-time.After(patience):
		t.Fatal("tail does not end")
		return -1
	}
}

// await waits for a text on standard output or error.
func (f *follower) await(t *testing.T, text string) {
	t.Helper()
	if !settles(func() bool { return strings.Contains(f.out.String(), text) || strings.Contains(f.err.String(), text) }) {
		t.Fatalf("%q does not come; there is\n%s\nand\n%s", text, f.out.String(), f.err.String())
	}
}

// join publishes live messages until the follower prints one: then it listens. It forgets them.
func (f *follower) join(t *testing.T, base string, channels ...string) {
	t.Helper()
	for _, channel := range channels {
		mark := "joined-" + channel
		if !settles(func() bool {
			mustPublish(t, base, channel, mark, "--live")
			return strings.Contains(f.out.String(), mark)
		}) {
			t.Fatalf("tail does not join %s: %s", channel, f.err.String())
		}
	}
}

// printed returns the lines of standard output without those of join.
func (f *follower) printed() []string {
	var out []string
	for line := range strings.Lines(f.out.String()) {
		if !strings.Contains(line, "joined-") {
			out = append(out, strings.TrimSuffix(line, "\n"))
		}
	}
	return out
}

func mustPublish(t *testing.T, base, channel, data string, flags ...string) string {
	t.Helper()
	out, errs, code := shell(t, data, append([]string{"publish", "--url", base, channel}, flags...)...)
	if code != 0 {
		t.Fatalf("publish: exit code %d, %s", code, errs)
	}
	return strings.TrimSpace(out)
}

func TestTail(t *testing.T) {
	n := startNode(t, "--dev")
	f := startTail(t, "--url", n.base, "news")
	f.join(t, n.base, "news")
	for _, data := range []string{"hello", "two\nlines", "tab\there", "\x1b[31mred", "\u009bC1", "grüße", "", "\xff\x00", "end"} {
		mustPublish(t, n.base, "news", data)
	}
	f.await(t, "\nend\n")
	f.stop()
	if code := f.wait(t); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	want := []string{"hello", `two\nlines`, "tab\there", `\x1b[31mred`, `\u009bC1`, "grüße", "", "data:application/octet-stream;base64,/wA=", "end"}
	if got := f.printed(); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if s := f.err.String(); s != "" {
		t.Errorf("standard error %q, want nothing", s)
	}
}

func TestTailChannels(t *testing.T) {
	n := startNode(t, "--dev")
	f := startTail(t, "--url", n.base+"/", "a", "b:c")
	f.join(t, n.base, "a", "b:c")
	mustPublish(t, n.base, "a", "1")
	f.await(t, "a\t1\n")
	mustPublish(t, n.base, "b:c", "2")
	f.await(t, "b:c\t2\n")
}

func TestTailJSON(t *testing.T) {
	n := startNode(t, "--dev")
	f := startTail(t, "--url", n.base, "--json", "news")
	f.join(t, n.base, "news")
	position := mustPublish(t, n.base, "news", "two\nlines\u009b\x7f", "--event=e", "--key=k")
	f.await(t, `lines\u009b\u007f`)
	var m frame
	if err := json.Unmarshal([]byte(f.printed()[0]), &m); err != nil {
		t.Fatal(err)
	}
	if m.Type != "message" || m.Channel != "news" || m.Position != position || m.Data != "two\nlines\u009b\x7f" {
		t.Errorf("got %+v", m)
	}
}

// TestTailResume: by a token from another connection.
func TestTailResume(t *testing.T) {
	n := startNode(t, "--dev")
	mustPublish(t, n.base, "news", "before")
	token := welcomeToken(t, n.base, "news")
	mustPublish(t, n.base, "news", "missed")
	f := startTail(t, "--url", n.base, "--resume", token, "news")
	f.await(t, "missed\n")
	mustPublish(t, n.base, "news", "now")
	f.await(t, "now\n")
	if got, want := f.printed(), []string{"missed", "now"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func welcomeToken(t *testing.T, base, channel string) string {
	t.Helper()
	f := &tail{base: base}
	conn, err := f.dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	for _, command := range []string{`{"type":"subscribe","channel":"` + channel + `"}`, `{"type":"ping"}`} {
		if err := conn.WriteMessage(1, []byte(command)); err != nil {
			t.Fatal(err)
		}
		for {
			var m struct {
				Type, Token, Detail string
			}
			if err := conn.ReadJSON(&m); err != nil {
				t.Fatal(err)
			}
			if m.Type == "error" {
				t.Fatal(m.Detail)
			}
			if m.Type == "reply" {
				if m.Token != "" {
					return m.Token
				}
				break
			}
		}
	}
	t.Fatal("no token in the reply to ping")
	return ""
}

// cable is a TCP proxy whose connections can be cut.
type cable struct {
	net.Listener
	to    string
	group sync.WaitGroup

	mu    sync.Mutex
	down  bool
	conns []net.Conn
}

func startCable(t *testing.T, to string) *cable {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cable{Listener: l, to: to}
	c.group.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			c.group.Go(func() { c.carry(in) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		c.set(true)
		c.group.Wait()
	})
	return c
}

func (c *cable) carry(in net.Conn) {
	defer in.Close()
	out, err := net.Dial("tcp", c.to)
	if err != nil {
		return
	}
	defer out.Close()
	c.mu.Lock()
	if c.down {
		c.mu.Unlock()
		return
	}
	c.conns = append(c.conns, in, out)
	c.mu.Unlock()
	var both sync.WaitGroup
	pump := func(to, from net.Conn) {
		_, _ = io.Copy(to, from) // it ends when either side does
		to.Close()
		from.Close()
	}
	both.Go(func() { pump(in, out) })
	both.Go(func() { pump(out, in) })
	both.Wait()
}

// set cuts all connections and refuses new ones, or lets them through again.
func (c *cable) set(down bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.down = down
	for _, conn := range c.conns {
		conn.Close()
	}
	c.conns = nil
}

// TestTailReconnects: nothing is lost and nothing comes twice, however often the line is cut.
func TestTailReconnects(t *testing.T) {
	n := startNode(t, "--dev")
	c := startCable(t, n.Addr().String())
	f := startTail(t, "--url", "http://"+c.Addr().String(), "a", "b")
	f.join(t, n.base, "a", "b")
	var want []string
	const cuts, burst = 4, 10
	for cut := range cuts {
		c.set(true)
		for i := range burst {
			channel := []string{"a", "b"}[i%2]
			data := fmt.Sprintf("%d.%d", cut, i)
			mustPublish(t, n.base, channel, data)
			want = append(want, channel+"\t"+data)
		}
		c.set(false)
		f.await(t, want[len(want)-1]+"\n")
		f.await(t, want[len(want)-2]+"\n")
	}
	f.await(t, "next try in")
	for _, channel := range []string{"a", "b"} {
		var got, expect []string
		for _, line := range f.printed() {
			if strings.HasPrefix(line, channel) {
				got = append(got, line)
			}
		}
		for _, line := range want {
			if strings.HasPrefix(line, channel) {
				expect = append(expect, line)
			}
		}
		if !slices.Equal(got, expect) {
			t.Errorf("%s: got %q, want %q", channel, got, expect)
		}
	}
}

// TestTailGap: what the history no longer has is told.
func TestTailGap(t *testing.T) {
	n := startNode(t, "--dev", "--history-messages=2", "--ring-messages=16", "--linger=1ms")
	c := startCable(t, n.Addr().String())
	f := startTail(t, "--url", "http://"+c.Addr().String(), "news")
	f.join(t, n.base, "news")
	mustPublish(t, n.base, "news", "first")
	f.await(t, "first\n")
	c.set(true)
	for i := range 50 {
		mustPublish(t, n.base, "news", fmt.Sprint(i))
	}
	c.set(false)
	f.await(t, "sluice: gap in news: messages may be missing after")
	f.await(t, "(truncated)")
	f.await(t, "\n49\n")
}

// TestTailWaits: a node that is not there yet is waited for, one that leaves is followed to the next.
func TestTailWaits(t *testing.T) {
	first := startNode(t, "--dev")
	c := startCable(t, first.Addr().String())
	c.set(true)
	f := startTail(t, "--url", "http://"+c.Addr().String(), "news")
	f.await(t, "next try in")
	c.set(false)
	f.join(t, first.base, "news")
	first.stop()
	first.wait(t)
	f.await(t, "with 1012")
}

func TestTailRefusals(t *testing.T) {
	closed, open := startNode(t), startNode(t, "--dev", "--max-channels=1")
	other := httptest.NewServer(nil)
	defer other.Close()
	tests := []struct {
		name string
		args []string
		code int
		want string
	}{
		{"no channel", nil, 2, "sluice: sluice tail needs a channel; write sluice tail CHANNEL\n"},
		{"bad channel", []string{"a b"}, 2, `sluice: "a b": bad channel name: `},
		{"no URL", []string{"--url=x", "a"}, 2, `--url "x" is not the URL of a node`},
		{"no token", []string{"--url", closed.base, "a"}, 1, "sluice: unauthorized: credentials are needed"},
		{"not a node", []string{"--url", other.URL, "a"}, 1, "is a node of Sluice at this URL?"},
		{"token", []string{"--url", open.base, "--resume=xyz", "a"}, 1, "sluice: bad_token: "},
		{"too many", []string{"--url", open.base, "a", "b"}, 1, "sluice: too_many_channels: "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, errs, code := shell(t, "", append([]string{"tail"}, tt.args...)...)
			if code != tt.code || !strings.Contains(errs, tt.want) {
				t.Errorf("exit code %d, %q; want %d, %q", code, errs, tt.code, tt.want)
			}
		})
	}
}
