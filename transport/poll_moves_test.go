package transport

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	"sluice/broker"
)

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
	n.number(&all, seed, channels, count)
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

// number publishes count numbered messages to each of channels, at random times.
func (n *node) number(all *sync.WaitGroup, seed uint64, channels []string, count int) {
	for i, c := range channels {
		all.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(1000+i)))
			for i := range count {
				n.put(&broker.Message{Channel: c, Data: fmt.Append(nil, i)}, false)
				time.Sleep(time.Duration(rng.IntN(8)) * time.Millisecond)
			}
		})
	}
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
			body := fmt.Sprintf(`{"channels":["m3","m1","m2"],"wait":%.2f,"resume":%q}`, m.rng.Float64()/5, m.token)
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
	for _, s := range []string{`{"channel":"a"}`, `{"channels":["a","b"],"resume":"AQ","wait":1.5,"signed":["x"]}`, `{"wait":1e999}`, `{"channel":"a","limit":4096}`, `{"limit":-1}`, `{"limit":9223372036854775807}`,
		`{"subscriptions":[{"channel":"a","since":"1-0-abcd","filter":"x"},{"channel":"b","signed":"x"}],"resume":"AQ","wait":20,"limit":1024}`, `{"channel":"a"}]`, `[]`} {
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
		if l := in.limit(); l < minPoll || l > maxPoll {
			t.Errorf("%q: limit is %d", body, l)
		}
	})
}
