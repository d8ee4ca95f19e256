package transport

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"sluice/broker"
)

// kept is the filter of these tests.
const kept = `event == "kept"`

var keptQuery = "filter=" + url.QueryEscape(kept)

// Under a rate there are as many deliveries as there are intervals, and the last state arrives. What was conflated
// away is counted to the message.
func TestDeliveryRate(t *testing.T) {
	const interval, last = 50 * time.Millisecond, "last"
	n := newNode(t, nil)
	var clients []*client
	for _, transport := range transports {
		clients = append(clients, n.listen(transport, "channel=a&rate=20/s&conflate=latest"))
	}
	begin, published := time.Now(), 0
	for time.Since(begin) < 10*interval {
		n.put(&broker.Message{Channel: "a", Data: []byte("x")}, published%2 == 0)
		published++
	}
	n.put(&broker.Message{Channel: "a", Data: []byte(last)}, false)
	for i, c := range clients {
		got := c.until(last)
		if most := int(time.Since(begin)/interval) + 2; len(got) > most || len(got) < 3 {
			t.Errorf("%s: %d deliveries in %v, at most one in %v", transports[i], len(got), time.Since(begin), interval)
		}
		if len(got)+c.skipped != published+1 {
			t.Errorf("%s: %d messages and %d skipped ones, %d were published", transports[i], len(got), c.skipped, published+1)
		}
	}
}

// The last value of each key arrives, in the order of publishing, whatever else does.
func TestDeliveryConflation(t *testing.T) {
	n := newNode(t, nil)
	var clients []*client
	for _, transport := range transports {
		clients = append(clients, n.listen(transport, "channel=a&rate=20/s&conflate=key"))
	}
	const messages, keys = 3000, 7
	for i := range messages {
		n.put(&broker.Message{Channel: "a", Key: strconv.Itoa(i % keys), Data: fmt.Append(nil, i)}, false)
	}
	for i, c := range clients {
		got := c.until(strconv.Itoa(messages - 1))
		last := map[string]int{}
		before := -1
		for _, m := range got {
			v, _ := strconv.Atoi(m.Data)
			if v <= before {
				t.Fatalf("%s: %d after %d", transports[i], v, before)
			}
			before, last[m.Key] = v, v
		}
		for k := range keys {
			if v := last[strconv.Itoa(k)]; v < messages-keys {
				t.Errorf("%s: the last of key %d is %d", transports[i], k, v)
			}
		}
		if len(got)+c.skipped != messages {
			t.Errorf("%s: %d messages and %d skipped ones, %d were published", transports[i], len(got), c.skipped, messages)
		}
	}
}

func TestDeliveryBatch(t *testing.T) {
	n := newNode(t, nil)
	for _, transport := range transports {
		t.Run(transport, func(t *testing.T) {
			ch := "batch." + transport
			q := "channel=" + ch
			c := n.listen(transport, q+"&batch=10s,5")
			n.putNumbers(ch, 0, 5)
			c.want("0", "1", "2", "3", "4")
			token := c.token
			n.putNumbers(ch, 5, 10)
			c.want("5", "6", "7", "8", "9")
			n.putNumbers(ch, 10, 13) // which are held back
			if transport == "ws" && c.arrays != 2 {
				t.Errorf("%d arrays, want 2", c.arrays)
			}
			c.close()
			n.deserted(ch) // else the lane is there still, and holds them back from the next one, too
			r := n.listen(transport, q+"&resume="+c.token)
			if transport == "ws" { // its token is the welcome's
				r.want("0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12")
			} else {
				r.want("10", "11", "12")
				again := n.listen(transport, q+"&resume="+token)
				again.want("5", "6", "7", "8", "9", "10", "11", "12")
			}
		})
	}
	t.Run("by position", func(t *testing.T) {
		c := n.listen("ws", "channel=p&batch=10s,5")
		n.putNumbers("p", 0, 7)
		var last string
		for range 5 {
			last = c.next().Position
		}
		c.close()
		r := n.listen("ws", "")
		r.ws.send(`{"type":"subscribe","channel":"p","batch":"10s,2","since":"` + last + `"}`)
		r.ws.want("reply")
		r.want("5", "6")
	})
	t.Run("plain", func(t *testing.T) {
		c := n.ws("channel=q&batch=10s,3&resume=" + n.listen("ws", "channel=q").token)
		for i, s := 0, n.sse("channel=q&batch=10s,3"); i < 3; i++ {
			if i == 0 {
				s.want("welcome", "*")
				n.putNumbers("q", 0, 3)
			}
			s.want("", strconv.Itoa(i))
			if _, b := c.read(); string(b) != strconv.Itoa(i) {
				t.Errorf("a plain WebSocket gets %q, want %d", b, i)
			}
		}
	})
}

func TestDeliveryFilter(t *testing.T) {
	n := newNode(t, nil)
	for _, transport := range transports {
		t.Run(transport, func(t *testing.T) {
			ch := "filter." + transport
			c, all := n.listen(transport, "channel="+ch+"&"+keptQuery), n.listen(transport, "channel="+ch)
			var want, wantAll []string
			for i := range 100 {
				m := &broker.Message{Channel: ch, Data: fmt.Append(nil, i)}
				if i%10 == 9 {
					m.Event = "kept"
					want = append(want, strconv.Itoa(i))
				}
				wantAll = append(wantAll, strconv.Itoa(i))
				n.put(m, i%3 == 0)
			}
			c.want(want...)
			if c.skipped != 90 {
				t.Errorf("%d were told as skipped, want 90", c.skipped)
			}
			all.want(wantAll...)
			if all.skipped != 0 {
				t.Errorf("%d were told as skipped to the one who gets everything", all.skipped)
			}
		})
	}
}

// When nothing but what is filtered out is published, the client's place moves on, and it learns that with a heartbeat.
func TestHeartbeatBringsToken(t *testing.T) {
	n := newNode(t, func(c *Config) { c.Heartbeat = 200 * time.Millisecond })
	s := n.sse("channel=a&channel=b&" + keptQuery)
	first := s.want("welcome", "*").id
	c := n.listen("ws", "channel=a&"+keptQuery)
	n.put(&broker.Message{Channel: "a", Data: []byte("dropped")}, false)
	n.put(&broker.Message{Channel: "a", Data: []byte("dropped, too")}, false)
	e := s.want("heartbeat", "*")
	if e.id == "" || e.id == first {
		t.Errorf("heartbeat %+v after the welcome's %s, want a newer id", e, first)
	}
	if line, err := s.r.ReadString('\n'); err != nil || line != ":\n" {
		t.Errorf("then %q, %v, want a comment: there is nothing new to tell", line, err)
	}
	token := ""
	for token == "" {
		token = c.ws.want("heartbeat").Token
	}
	if f := c.ws.want("heartbeat"); f.Token != "" {
		t.Errorf("the heartbeat after it tells it again")
	}
	n.put(&broker.Message{Channel: "a", Data: []byte("new")}, false)
	pinged := token
	for pinged == token { // the message may be on its way still
		c.ws.send(`{"type":"ping"}`)
		pinged = c.ws.want("reply").Token
	}
	for _, tt := range []struct{ token, want string }{{e.id, "new"}, {token, "new"}, {first, "dropped"}, {pinged, "newer"}} {
		r := n.listen("sse", "channel=a&resume="+tt.token)
		if tt.want == "newer" {
			n.put(&broker.Message{Channel: "a", Data: []byte("newer")}, false)
		}
		r.want(tt.want)
		r.close()
	}
}

// The same input under the same policy is the same sequence of payloads, whatever the transport and format.
func TestTransportsDeliverTheSame(t *testing.T) {
	n := newNode(t, nil)
	start := n.listen("ws", "channel=a")
	var input []*broker.Message
	for i := range 60 {
		m := &broker.Message{Channel: "a", Key: []string{"", "red", "green", "blue"}[i*7%4], Data: fmt.Appendf(nil, "%d", i)}
		if i%3 == 0 {
			m.Event = "kept"
		}
		input = append(input, m)
	}
	input = append(input, &broker.Message{Channel: "a", Event: "kept", Data: []byte("end")})
	publish := func(channel string) {
		for _, m := range input {
			n.put(&broker.Message{Channel: channel, Event: m.Event, Key: m.Key, Data: m.Data}, false)
		}
	}
	publish("a")
	var got []byte
	for i, wish := range []string{"", "batch=1ms", "rate=100/s", keptQuery, "conflate=key", "conflate=latest", "conflate=key&batch=5ms,3&" + keptQuery} {
		got = append(got, "? "+wish+"\n"...)
		var first []string
		for _, format := range []string{"sse", "sse-json", "ws", "ws-json"} {
			all := n.payloads(format, "channel=a&resume="+start.token+"&"+wish)
			if first == nil {
				first = all
				got = append(got, strings.Join(all, " ")+"\n"...)
			}
			if !slices.Equal(all, first) {
				t.Errorf("%q resumed: %s gets\n%q\nothers get\n%q", wish, format, all, first)
			}
		}
		if strings.Contains(wish, "conflate") {
			continue // what is published while it listens is conflated by the time that passes
		}
		channel := "live." + strconv.Itoa(i)
		since := n.listen("ws", "channel="+channel).token
		results := make(chan []string, 4)
		before := n.feeds()
		for _, format := range []string{"sse", "sse-json", "ws", "ws-json"} {
			go func() { results <- n.payloads(format, "channel="+channel+"&resume="+since+"&"+wish) }()
		}
		for deadline := time.Now().Add(5 * time.Second); n.feeds() < before+4; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("not all were joined within 5 s")
			}
		}
		publish(channel)
		for range 4 {
			if all := <-results; !slices.Equal(all, first) {
				t.Errorf("%q live: one gets\n%q\nothers got\n%q", wish, all, first)
			}
		}
	}
	golden(t, "golden-delivery.txt", got)
}

// payloads listens in the given format up to the payload "end".
func (n *node) payloads(format, query string) (all []string) {
	var next func() string
	switch format {
	case "sse":
		s := n.sse(query)
		s.want("welcome", "*")
		next = func() string {
			e, err := s.within(10 * time.Second)
			if err != nil {
				n.t.Error(err)
				return "end"
			}
			return e.data
		}
	case "ws":
		c := n.ws(query)
		next = func() string { _, b := c.read(); return string(b) }
	default:
		c := n.listen(strings.TrimSuffix(format, "-json"), query)
		next = func() string { return c.next().Data }
	}
	for {
		all = append(all, next())
		if all[len(all)-1] == "end" {
			return all
		}
	}
}

// What is held back must not go under with the node: live messages can't be had from anywhere else.
func TestDrainLetsGo(t *testing.T) {
	for _, transport := range transports {
		t.Run(transport, func(t *testing.T) {
			n := newNode(t, nil)
			c := n.listen(transport, "channel=held&rate=1/h")
			n.putNumbers("held", 0, 1)
			c.want("0") // the first goes out at once
			n.putNumbers("held", 1, 4)
			n.stop()
			c.want("1", "2", "3")
			if f := c.next(); f.Type != "reconnect" {
				t.Errorf("got %+v, want to be sent away", f)
			}
		})
	}
}
