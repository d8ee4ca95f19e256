package e2e

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestEveryWayIn: however a message is published, everyone who listens gets it, on every node and
// transport, in the order in which it was published.
func TestEveryWayIn(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, 2)
	r.channels = []string{"news"}
	r.listenEverywhere(everyKind...)
	r.connect()
	binary := string([]byte{0, 1, 0xff, 0xfe, '\n', 0x80})
	large := strings.Repeat("0123456789abcdef", 1<<16) // 1 MiB
	raw := func(data string) { r.redis.do("PUBLISH", "news", data) }
	viaHTTP := func(node int, query, data string) {
		if _, err := publish(r.ctx, r.http, r.nodes[node].url(), "news", query, data); err != nil {
			t.Fatal(err)
		}
	}
	fcall := func(data string) {
		if _, err := r.redis.fcall(r.ctx, "news", "", data); err != nil {
			t.Fatal(err)
		}
	}
	ways := []struct {
		name, data string
		publish    func(data string)
	}{
		{"PUBLISH text", "plain text, with an ümlaut", raw},
		{"FCALL", `{"by":"fcall"}`, fcall},
		{"PUBLISH JSON", `{"a":[1,2,{"b":null}]}`, raw},
		{"HTTP at A", "by HTTP at A", func(d string) { viaHTTP(0, "", d) }},
		{"PUBLISH binary", binary, raw},
		{"HTTP at B", "by HTTP at B", func(d string) { viaHTTP(1, "", d) }},
		{"HTTP live", "live by HTTP", func(d string) { viaHTTP(0, "live=1", d) }},
		{"PUBLISH 1 MiB", large, raw},
		{"FCALL binary", binary + "2", fcall},
		{"HTTP 1 MiB", large[1:] + "!", func(d string) { viaHTTP(1, "", d) }},
		{"PUBLISH empty", "", raw},
		{"FCALL 1 MiB binary", binary + large[len(binary):], fcall},
		{"HTTP binary", binary + "3", func(d string) { viaHTTP(0, "", d) }},
	}
	for i, w := range ways {
		w.publish(w.data)
		// FCALL and PUBLISH meet in Redis, HTTP at another node comes by its own connection: the order
		// of two publishers is that of their acknowledgements only.
		for _, c := range r.clients {
			until(t, 10*time.Second, fmt.Sprintf("%s has the message by %s", c.name, w.name), func() bool { return c.count() > i })
		}
	}
	r.hangUp()
	r.listening.Wait()
	for _, c := range r.clients {
		for i, w := range ways {
			want := w.data
			if c.kind == viaSSE {
				want = throughEventSource(w.data)
			}
			if got := c.got[i].data; got != want {
				t.Errorf("%s: %s: got %.60q (%d bytes), want %.60q (%d bytes)", c.name, w.name, got, len(got), want, len(want))
			}
		}
		if n := len(c.got); n != len(ways) {
			t.Errorf("%s got %d messages and gaps, want %d", c.name, n, len(ways))
		}
	}
}

// throughEventSource is what a page sees of a payload (docs/protocol.md): line ends as \n, and what
// is not text or has a NUL as a data URL.
func throughEventSource(data string) string {
	if strings.ToValidUTF8(data, "") != data || strings.ContainsRune(data, 0) {
		return "data:application/octet-stream;base64," + base64.StdEncoding.EncodeToString([]byte(data))
	}
	b := bytes.ReplaceAll([]byte(data), []byte("\r\n"), []byte("\n"))
	return string(bytes.ReplaceAll(b, []byte("\r"), []byte("\n")))
}

// TestRawAndStoredInOrder: one Redis client that alternates PUBLISH and FCALL is heard in its order.
func TestRawAndStoredInOrder(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, 2)
	r.channels = []string{"news"}
	r.listenEverywhere(everyKind...)
	r.connect()
	const n = 2000
	for i := range n {
		if i%3 == 0 {
			r.redis.do("PUBLISH", "news", fmt.Sprint(i))
			continue
		}
		if _, err := r.redis.fcall(r.ctx, "news", "", fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range r.clients {
		until(t, 10*time.Second, c.name+" has all messages", func() bool { return c.count() >= n })
	}
	r.hangUp()
	r.listening.Wait()
	for _, c := range r.clients {
		for i, m := range c.got {
			if m.data != fmt.Sprint(i) {
				t.Errorf("%s: message %d is %q (gap %v)", c.name, i, m.data, m.gap)
				break
			}
		}
	}
}

// TestForeignToken: a token is never applied to channels that it is not for.
func TestForeignToken(t *testing.T) {
	t.Parallel()
	n := startNode(t, "A")
	c := httpClient(t, 0)
	st, err := openSSE(t.Context(), c, n.url()+"/sse?channel=mine", "", false)
	if err != nil {
		t.Fatal(err)
	}
	welcome, err := st.next()
	st.close()
	if err != nil || welcome.token == "" {
		t.Fatalf("got %+v, %v, want a welcome with a token", welcome, err)
	}
	for _, token := range []string{welcome.token, "rubbish", strings.Repeat("A", 400)} {
		st, err := openSSE(t.Context(), c, n.url()+"/sse?channel=another", token, false)
		if err != nil {
			t.Fatal(err)
		}
		told := false
		for range 2 {
			e, err := st.next()
			if err != nil {
				t.Fatal(err)
			}
			told = told || e.kind == "gap" && e.body.Reason == "bad_token" && e.body.Channel == "another"
		}
		st.close()
		if !told {
			t.Errorf("SSE with the token %.20q was not told a gap", token)
		}
		ws, err := openWS(t.Context(), strings.Replace(n.url(), "http", "ws", 1)+"/ws?channel=another&resume="+token, true)
		if err != nil {
			t.Fatal(err)
		}
		e, err := ws.next()
		if err != nil || e.kind != "error" || e.body.Code != "bad_token" {
			t.Errorf("WebSocket with the token %.20q: got %+v, %v, want the error bad_token", token, e, err)
		}
		ws.close()
	}
}
