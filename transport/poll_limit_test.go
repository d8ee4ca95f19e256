package transport

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/broker"
)

func TestPollLimit(t *testing.T) {
	n := newNode(t, nil)
	token := n.poll(`{"channels":["a","b"]}`).Token
	for i := range 40 {
		n.put(&broker.Message{Channel: "a", Data: fmt.Appendf(nil, "%02d %s", i, strings.Repeat(`"`, 400))}, false) // quoted: 800 bytes
	}
	n.put(&broker.Message{Channel: "b", Data: []byte(strings.Repeat("b", 9000))}, false)
	for _, tt := range []struct {
		name, limit string
		most        int // bytes of an answer
		why         string
	}{
		{"least", `,"limit":1024`, 2500, ""},
		{"less than the least", `,"limit":1`, 2500, "it counts as the least"},
		{"some", `,"limit":4096`, 6000, ""},
		{"none", ``, maxPoll, ""},
		{"more than there may be", `,"limit":1000000000`, maxPoll, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			token, a, b := token, 0, 0
			for more := true; more; {
				p := n.poll(`{"channels":["a","b"],"wait":0,"resume":"` + token + `"` + tt.limit + `}`)
				large := false
				for _, m := range p.Messages {
					switch {
					case m.Type != "message":
						t.Fatalf("got %+v", m)
					case m.Channel == "b":
						b++
						large = true
					case !strings.HasPrefix(m.Data, fmt.Sprintf("%02d ", a)):
						t.Fatalf("got %.10q, want number %d", m.Data, a)
					default:
						a++
					}
				}
				if most := tt.most; p.size > most && !large || p.size > most+10_000 {
					t.Errorf("an answer has %d bytes, want %d at most: %s", p.size, most, tt.why)
				}
				token, more = p.Token, p.More
			}
			if a != 40 || b != 1 {
				t.Errorf("got %d and %d messages, want 40 and the one that is larger than the limit", a, b)
			}
		})
	}
	for _, limit := range []string{"0", "-1", "1.5", `"1024"`, "1e30"} {
		if status, _, b, err := n.ask(t.Context(), http.DefaultClient, `{"channel":"a","limit":`+limit+`}`); status != 400 || !strings.Contains(string(b), string(BadRequest)) {
			t.Errorf("limit %s: got %d %s (%v), want %s", limit, status, b, err, BadRequest)
		}
	}
}

// TestPollPart: an answer is cut only where the next poll can go on with nothing lost.
func TestPollPart(t *testing.T) {
	at := func(ms uint64) broker.Position { return broker.Position{MS: ms} }
	durable := func(ms uint64) *broker.Message {
		return &broker.Message{Channel: "a", Position: at(ms), Data: []byte(strings.Repeat("x", 600))}
	}
	live := &broker.Message{Channel: "a", Data: []byte(strings.Repeat("x", 600))}
	for _, tt := range []struct {
		name    string
		batch   *broker.Batch
		want    int
		at      uint64
		because string
	}{
		{"durable", &broker.Batch{Messages: []*broker.Message{durable(1), durable(2), durable(3)}}, 2, 2, ""},
		{"as it came", &broker.Batch{Live: true, Messages: []*broker.Message{durable(1), durable(2), durable(3)}}, 2, 2, "all of it can be had again"},
		{"live at the end", &broker.Batch{Live: true, Messages: []*broker.Message{durable(1), durable(2), live}}, 3, 0, "the live one can't be had again"},
		{"live within", &broker.Batch{Live: true, Messages: []*broker.Message{durable(1), durable(2), live, durable(4), durable(5)}}, 4, 4, "only behind it"},
		{"live first", &broker.Batch{Live: true, Messages: []*broker.Message{live, durable(2), durable(3)}}, 2, 2, ""},
		{"a gap", &broker.Batch{Messages: []*broker.Message{durable(1), durable(2), {Channel: "a", Gap: &broker.Gap{Reason: broker.Interrupted}}, durable(4), durable(5)}}, 4, 4, "it is told once"},
		{"some dropped", &broker.Batch{Skipped: 1, Messages: []*broker.Message{durable(1), durable(2), durable(3)}}, 3, 0, "the number is told once"},
		{"small", &broker.Batch{Messages: []*broker.Message{durable(1)}}, 1, 0, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := &poll{}
			got := p.part(&feed{}, tt.batch, 1024)
			if len(got.Messages) != tt.want || got.Live != tt.batch.Live || p.at != at(tt.at) && tt.at != 0 || (p.cut != nil) != (tt.at != 0) {
				t.Errorf("got %d messages, cut at %v; want %d, cut at %d: %s", len(got.Messages), p.at, tt.want, tt.at, tt.because)
			}
			if tt.at != 0 && got.Last != p.at {
				t.Errorf("the answer stands at %v, its token at %v", got.Last, p.at)
			}
		})
	}
}

// cutter is a proxy that cuts each connection after so many bytes of what the node says.
func (n *node) cutter(after int64) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		n.t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer in.Close()
				out, err := net.Dial("tcp", n.addr)
				if err != nil {
					return
				}
				defer out.Close()
				all.Go(func() { _, _ = io.Copy(out, in); _ = out.Close() })
				_, _ = io.CopyN(in, out, after)
			})
		}
	})
	n.t.Cleanup(func() { _ = ln.Close(); all.Wait() })
	return ln.Addr().String()
}

// TestPollCut: where connections are cut after 8 KB, a client gets on that asks for half of what did not come, and misses nothing.
func TestPollCut(t *testing.T) {
	for _, held := range []bool{false, true} {
		t.Run(fmt.Sprintf("held %t", held), func(t *testing.T) {
			n := newNode(t, nil)
			proxy := n.cutter(8 << 10)
			tr := &http.Transport{}
			client := &http.Client{Transport: tr}
			defer tr.CloseIdleConnections()
			const count = 60
			publish := func() {
				for i := range count {
					n.put(&broker.Message{Channel: "a", Data: fmt.Appendf(nil, "%02d %s", i, strings.Repeat(`"`, 500))}, false)
				}
			}
			token := n.poll(`{"channel":"a"}`).Token
			if !held {
				publish()
			}
			ask := func(token string, limit int) (p polled, err error) {
				r, err := http.NewRequest("POST", "http://"+proxy+"/poll", strings.NewReader(fmt.Sprintf(`{"channel":"a","resume":%q,"limit":%d}`, token, limit)))
				if err != nil {
					return p, err
				}
				r.Header.Set("Content-Type", "application/json")
				resp, err := client.Do(r)
				if err != nil {
					return p, err
				}
				defer resp.Body.Close()
				b, err := io.ReadAll(resp.Body)
				if err == nil && resp.StatusCode != 200 {
					t.Fatalf("%d %s", resp.StatusCode, b)
				}
				return p, errors.Join(err, json.Unmarshal(b, &p))
			}
			if held {
				time.AfterFunc(50*time.Millisecond, publish)
			} else if _, err := ask(token, maxPoll); err == nil {
				t.Fatal("a large answer came through; nothing is tested")
			}
			var got []string
			limit, polls := maxPoll, 0
			for ; len(got) < count && polls < 100; polls++ {
				p, err := ask(token, limit)
				if err != nil {
					limit = max(limit/2, minPoll)
					continue
				}
				token = p.Token
				for _, d := range p.data(t) {
					got = append(got, d[:2])
				}
			}
			var want []string
			for i := range count {
				want = append(want, fmt.Sprintf("%02d", i))
			}
			if !slices.Equal(got, want) {
				t.Errorf("after %d polls got %q, want each of %d once", polls, got, count)
			}
			t.Logf("%d polls, limit %d", polls, limit)
		})
	}
}
