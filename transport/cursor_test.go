package transport

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// cursor is a client that keeps where it stands as one token and, by channel, the positions of what came after it.
type cursor struct {
	*mover
	newer map[string]string
	ways  [5]int
}

// TestCursor: a client goes on from a token that is old and positions that are newer, on every way, and gets everything once and in order.
func TestCursor(t *testing.T) {
	n := newNode(t, nil)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	const clients, count = 4, 200
	token := n.poll(`{"channels":["m1","m2","m3"]}`).Token
	var all sync.WaitGroup
	n.number(&all, seed, []string{"m1", "m2", "m3"}, count)
	for i := range clients {
		all.Go(func() {
			m := &mover{n: n, rng: rand.New(rand.NewPCG(seed, uint64(i))), token: token, next: map[string]int{}}
			c := &cursor{mover: m, newer: map[string]string{}}
			for m.next["m1"] < count || m.next["m2"] < count || m.next["m3"] < count {
				if !c.move() {
					return
				}
			}
			t.Logf("client %d: %v", i, c.ways)
		})
	}
	all.Wait()
	n.until("nothing is left", func() bool { return n.sessions.Load() == 0 })
}

// got takes a message and where it stands.
func (c *cursor) got(f *frame) bool {
	c.newer[f.Channel] = f.Position
	return c.take(f.Channel, f.Data)
}

// query is what c asks for, as a URL says it.
func (c *cursor) query() string {
	q := "channel=m1&channel=m2&channel=m3&format=json&resume=" + c.token
	for channel, at := range c.newer {
		q += "&since[" + channel + "]=" + at
	}
	return q
}

// list is the same as a list.
func (c *cursor) list() string {
	var each []string
	for _, channel := range []string{"m1", "m2", "m3"} {
		e := fmt.Sprintf(`{"channel":%q`, channel)
		if at := c.newer[channel]; at != "" {
			e += fmt.Sprintf(`,"since":%q`, at)
		}
		each = append(each, e+"}")
	}
	return `"subscriptions":[` + strings.Join(each, ",") + `],"resume":"` + c.token + `"`
}

// move listens in some way for a while.
func (c *cursor) move() bool {
	way, some := c.rng.IntN(len(c.ways)), c.rng.IntN(40)
	c.ways[way]++
	switch way {
	case 0:
		return c.stream(c.n.sse(c.query()), some)
	case 1:
		return c.stream(c.n.postSSE("", "{"+c.list()+"}"), some)
	case 2:
		return c.socket(c.n.ws(strings.Replace(c.query(), "&format=json", "", 1), subprotocolJSON), some)
	case 3:
		ws := c.n.ws("", subprotocolJSON)
		ws.send(`{"type":"subscribe",` + c.list() + `}`)
		return c.socket(ws, some)
	}
	return c.poll(1 + some/10)
}

func (c *cursor) stream(s *stream, some int) bool {
	defer s.close()
	for range some {
		e, err := s.within(300 * time.Millisecond)
		if err != nil {
			return true
		}
		var f frame
		if json.Unmarshal([]byte(e.data), &f) == nil && f.Type == "message" && !c.got(&f) {
			return false
		}
	}
	return true
}

func (c *cursor) socket(ws *socket, some int) bool {
	defer ws.Close()
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		time.Sleep(time.Duration(3*some) * time.Millisecond)
		ws.send(`{"type":"ping","ref":"end"}`)
	}()
	defer func() { <-asked }()
	for {
		f := ws.want("")
		if f.Ref == "end" {
			return true
		}
		if f.Type == "message" && !c.got(&f) {
			return false
		}
	}
}

// poll renews the token now and then; the positions from before it do no harm.
func (c *cursor) poll(times int) bool {
	for range times {
		body := fmt.Sprintf(`{%s,"wait":%.2f,"limit":%d}`, c.list(), c.rng.Float64()/5, minPoll)
		status, _, b, err := c.n.ask(c.n.t.Context(), http.DefaultClient, body)
		var p polled
		if err != nil || status != 200 || json.Unmarshal(b, &p) != nil {
			c.n.t.Errorf("%d %s (%v)", status, b, err)
			return false
		}
		for i := range p.Messages {
			if !c.got(&p.Messages[i]) {
				return false
			}
		}
		if c.rng.IntN(3) == 0 {
			c.token = p.Token
			if c.rng.IntN(2) == 0 {
				clear(c.newer)
			}
		}
	}
	return true
}
