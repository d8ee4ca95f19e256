package e2e

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"
)

// history is a set-up without load: one client that goes away and comes back.
type history struct {
	*rig
	k     kind
	token string
	since string
}

func (h *history) publish(from, to int) (data []string) {
	h.Helper()
	for i := from; i <= to; i++ {
		d := fmt.Sprintf("m%d", i)
		if _, err := publish(h.ctx, h.http, h.nodes[0].url(), "news", "", d); err != nil {
			h.Fatal(err)
		}
		data = append(data, d)
	}
	return data
}

// visit connects to node i, resumes, runs during once it listens, reads n messages and returns
// what came: the data of messages, and gaps as "gap REASON".
func (h *history) visit(i, n int, during func()) (got []string) {
	h.Helper()
	c := newClient(h.T, string(h.k), h.k, []string{"news"}, h.at(i))
	c.token = h.token
	if h.since != "" {
		c.since["news"] = h.since
	}
	ctx, cancel := context.WithTimeout(h.ctx, 10*time.Second)
	defer cancel()
	connect := c.connectWS
	if h.k != viaWS {
		connect = c.connectSSE
	}
	st, err := connect(ctx, h.nodes[i].url())
	if err != nil {
		h.Fatal(err)
	}
	defer st.close()
	defer context.AfterFunc(ctx, st.close)()
	for messages := 0; messages < n; {
		e, err := st.next()
		if err != nil {
			h.Fatalf("%s after %q: %v", h.k, got, err)
		}
		c.take(e, map[bool]string{true: "ws", false: "sse"}[h.k == viaWS])
		switch {
		case during != nil && (e.kind == "welcome" && len(c.since) == 0 || e.kind == "reply"):
			during()
			during = nil
		case e.kind == "message":
			messages++
			got = append(got, e.data)
		case e.kind == "gap":
			got = append(got, "gap "+e.body.Reason)
			if e.body.Channel != "news" || e.body.From == "" || e.body.To == "" {
				h.Errorf("%s: incomplete gap %+v", h.k, e.body)
			}
		}
	}
	h.token, h.since = c.token, c.since["news"]
	return got
}

func eachResumable(t *testing.T, set func(t *testing.T, k kind)) {
	for _, k := range resumable {
		t.Run(string(k), func(t *testing.T) { t.Parallel(); set(t, k) })
	}
}

// TestTrimmedHistory: who comes back too late is told that something is missing, and then gets all
// that there still is.
func TestTrimmedHistory(t *testing.T) {
	t.Parallel()
	eachResumable(t, func(t *testing.T, k kind) {
		h := &history{rig: newRig(t, nil, 2, "--history-messages", "20", "--ring-messages", "16", "--linger", "1ms"), k: k}
		h.visit(0, 5, func() { h.publish(1, 5) })
		h.publish(6, 25)
		want := payloads(6, 25)
		if got := h.visit(0, 20, nil); !slices.Equal(got, want) {
			t.Errorf("within the history: got %q, want %q", got, want)
		}
		for i := range h.nodes {
			token, since := h.token, h.since
			h.publish(26, 125)
			want := append([]string{"gap truncated"}, payloads(106, 125)...)
			if got := h.visit(i, 20, nil); !slices.Equal(got, want) {
				t.Errorf("too late, at node %s: got %q, want %q", h.nodes[i].name, got, want)
			}
			h.token, h.since = token, since
		}
	})
}

// payloads lists the payloads of publish(from, to).
func payloads(from, to int) (data []string) {
	for i := from; i <= to; i++ {
		data = append(data, fmt.Sprintf("m%d", i))
	}
	return data
}

// TestLostHistory: Redis has forgotten what was published while the client was away.
func TestLostHistory(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		forget func(*redisServer)
	}{
		{"FLUSHALL", func(s *redisServer) { s.do("FLUSHALL") }},
		{"restart", func(s *redisServer) { s.Kill(); s.Restart() }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			eachResumable(t, func(t *testing.T, k kind) {
				h := &history{rig: newRig(t, []string{"appendonly", "no", "save", ""}, 2, "--linger", "1ms"), k: k}
				h.visit(0, 3, func() { h.publish(1, 3) })
				h.publish(4, 6)
				tt.forget(h.redis)
				until(t, 10*time.Second, "the node has found Redis again", func() bool {
					_, err := publish(h.ctx, h.http, h.nodes[0].url(), "other", "", "x")
					return err == nil
				})
				h.publish(7, 9)
				want := append([]string{"gap truncated"}, payloads(7, 9)...)
				if got := h.visit(1, 3, nil); !slices.Equal(got, want) {
					t.Errorf("at a node that has seen nothing: got %q, want %q", got, want)
				}
			})
		})
	}
}

// TestRestoredBackup: Redis comes back with a history that ends before what the client has seen.
func TestRestoredBackup(t *testing.T) {
	t.Parallel()
	for _, waits := range []bool{false, true} {
		t.Run(map[bool]string{false: "published before it is back", true: "published when it is back"}[waits], func(t *testing.T) {
			eachResumable(t, func(t *testing.T, k kind) {
				h := &history{rig: newRig(t, []string{"appendonly", "no", "save", ""}, 2, "--linger", "1ms"), k: k}
				h.publish(1, 3)
				h.redis.do("SAVE")
				h.visit(0, 3, func() { h.publish(4, 6) })
				h.redis.Kill()
				h.redis.Restart()
				until(t, 10*time.Second, "the node has found Redis again", func() bool {
					_, err := publish(h.ctx, h.http, h.nodes[0].url(), "other", "", "x")
					return err == nil
				})
				news := func() { h.publish(7, 9) }
				if !waits {
					news()
					news = nil
				}
				want := append([]string{"gap fork"}, payloads(7, 9)...)
				if got := h.visit(1, 3, news); !slices.Equal(got, want) {
					t.Errorf("got %q, want %q", got, want)
				}
			})
		})
	}
}
