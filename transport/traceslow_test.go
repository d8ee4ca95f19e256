package transport

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/broker"
	"sluice/middleware"
	"sluice/otel"
	"sluice/otel/oteltest"
)

// A client that reads nothing holds up its own span, which says so at the deadline, and nobody else's. What was late is told when it is written.
func TestTraceOfAStalledClient(t *testing.T) {
	const wait = 300 * time.Millisecond
	n := newTracedNode(t, "", func(c *otel.TracerConfig) { c.Wait = wait }, nil)
	_, slow := n.stalled("channel=a")
	healthy := n.sse("channel=b")
	healthy.want("welcome", "*")
	sent := n.block("a")
	n.put(&broker.Message{Channel: "b", Data: []byte("quick")}, false)
	healthy.want("", "quick")
	var stuck []oteltest.Span
	for begin := time.Now(); len(stuck) == 0 && time.Since(begin) < 10*time.Second; time.Sleep(5 * time.Millisecond) {
		for _, s := range n.collector.Spans() {
			if s.Name == "deliver" && s.Attribute("sluice.fanout.pending") == "1" {
				stuck = append(stuck, s)
			}
		}
	}
	if len(stuck) == 0 {
		t.Fatal("nothing is pending at the deadline")
	}
	for _, s := range n.collector.Spans() {
		if took := time.Duration(s.EndTimeUnixNano - s.StartTimeUnixNano); s.Name == "deliver" && s.Attribute("messaging.destination.name") == "b" && took > wait/2 {
			t.Errorf("the neighbour's delivery takes %v", took)
		}
	}
	for _, s := range stuck {
		if took := time.Duration(s.EndTimeUnixNano - s.StartTimeUnixNano); took < wait || s.Attribute("messaging.destination.name") != "a" {
			t.Errorf("pending in channel %s after %v", s.Attribute("messaging.destination.name"), took)
		}
	}
	for range sent {
		slow.want("", "*")
	}
	for begin := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		late := 0
		for _, s := range n.collector.Spans() {
			if s.Name == "push sse" && slices.ContainsFunc(stuck, func(d oteltest.Span) bool { return string(d.SpanId) == string(s.ParentSpanId) }) {
				late++
			}
		}
		if late == len(stuck) {
			break
		}
		if time.Since(begin) > 10*time.Second {
			t.Fatalf("%d of %d late writes are told", late, len(stuck))
		}
	}
}

// A session that ends with something owed to it says which messages it did not get.
func TestTraceOfAFailure(t *testing.T) {
	n := newTracedNode(t, "", nil, nil)
	conn, _ := n.stalled("channel=a")
	sent := n.block("a")
	_ = conn.SetLinger(0)
	_ = conn.Close()
	s := n.span("drop sse")
	if s.Attribute("sluice.reason") != "peer" || s.Status.GetMessage() == "" {
		t.Errorf("it was dropped for %q, status %v", s.Attribute("sluice.reason"), s.Status)
	}
	for begin := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		ended := 0
		for _, s := range n.collector.Spans() {
			if s.Name == "deliver" && s.Attribute("sluice.fanout.pending") == "0" {
				ended++
			}
		}
		if ended == sent { // before the deadline: nobody owes them anything
			break
		}
		if time.Since(begin) > otel.DefaultTracerConfig().Wait*9/10 {
			t.Fatalf("%d of %d deliveries have ended", ended, sent)
		}
	}
}

// Nobody samples anything, and still the message that one client got late is found, and only that.
func TestTraceOfASlowMessage(t *testing.T) {
	for _, over := range []string{"plain TCP", "HTTP/2"} {
		t.Run(over, func(t *testing.T) {
			n := newTracedNode(t, "always_off", func(c *otel.TracerConfig) { c.Slow = 200 * time.Millisecond }, nil)
			healthy := n.sse("channel=b")
			healthy.want("welcome", "*")
			big := strings.Repeat("x", 1<<20)
			var slow *stream
			if over == "HTTP/2" {
				h2 := &http.Transport{Protocols: new(http.Protocols)}
				h2.Protocols.SetUnencryptedHTTP2(true)
				defer h2.CloseIdleConnections()
				slow = openStream(t, h2, n.url("/sse?channel=a"))
				slow.want("welcome", "*")
			} else {
				_, slow = n.stalled("channel=a")
			}
			for range 6 {
				n.put(&broker.Message{Channel: "a", Data: []byte(big)}, false)
			}
			begin := time.Now()
			for i := 0; time.Since(begin) < 300*time.Millisecond; i++ { // while it waits
				n.put(&broker.Message{Channel: "b", Data: fmt.Append(nil, i)}, false)
				healthy.want("", fmt.Sprint(i))
			}
			for range 6 {
				slow.want("", "*")
			}
			s := n.span("deliver")
			if took := time.Duration(s.EndTimeUnixNano - s.StartTimeUnixNano); took < 200*time.Millisecond || s.Attribute("sluice.sampled") != "slow" || s.Attribute("messaging.message.id") == "" {
				t.Errorf("found %v, sampled: %s", took, s.Attribute("sluice.sampled"))
			}
			for _, s := range n.collector.Spans() {
				if s.Name == "deliver" && s.Attribute("messaging.destination.name") != "a" {
					t.Error("a quick message is there")
				}
			}
		})
	}
}

// Whatever becomes of a message, of every subscriber that was there it is told once: they add up. Clients of both transports, with and
// without policies, come, go and come back meanwhile.
func TestTraceAccountsForEverySubscriber(t *testing.T) {
	p := rules(t, map[string]middleware.Delivery{
		"a": {Conflate: middleware.ConflateKey, Interval: 20 * time.Millisecond, Slow: middleware.Slow{Ring: 50, Then: broker.ThenConflate}},
		"b": {Filter: `key != "1"`, Window: 5 * time.Millisecond},
	})
	const messages = 200
	n := newTracedNode(t, "", func(c *otel.TracerConfig) { c.Detail = 0 }, func(c *Config) { c.Policies = p })
	queries := []string{"channel=a", "channel=b", "channel=c", "channel=a&channel=b&channel=c", "channel=c&rate=100/s", `channel=c&conflate=latest&batch=10ms`}
	var clients sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	for i, q := range queries {
		for _, transport := range transports {
			clients.Go(func() {
				token := ""
				for visit := 0; ctx.Err() == nil; visit++ {
					if t := n.visit(ctx, transport, q+"&resume="+token, 10+7*i+visit); t != "" {
						token = t
					}
				}
			})
		}
	}
	n.await("clients", func() bool { return n.feeds() >= 2*len(queries) })
	for i := range messages {
		for _, channel := range []string{"a", "b", "c"} {
			n.put(&broker.Message{Channel: channel, Key: fmt.Sprint(i % 7), Data: fmt.Append(nil, i)}, i%5 == 0)
		}
		time.Sleep(time.Millisecond) // so that there is something to hold back, and somebody to come back
	}
	cancel()
	clients.Wait()
	n.await("the end of the sessions", func() bool { return n.feeds() == 0 })
	var deliveries []oteltest.Span
	n.await("the spans", func() bool {
		published, delivered := 0, map[string]bool{}
		deliveries = nil
		for _, s := range n.collector.Spans() {
			switch s.Name {
			case "publish":
				published++
			case "deliver":
				deliveries = append(deliveries, s)
				delivered[string(s.ParentSpanId)] = true
			}
		}
		return published == 3*messages && len(deliveries) >= 2*messages
	})
	kinds := map[string]int{}
	for _, s := range deliveries {
		sum := 0
		for _, what := range []string{"written", "conflated", "dropped", "left", "pending"} {
			k, err := strconv.Atoi(s.Attribute("sluice.fanout." + what))
			if err != nil {
				t.Fatal(err)
			}
			sum += k
			kinds[what] += k
		}
		if fmt.Sprint(sum) != s.Attribute("sluice.fanout.subscribers") || s.Attribute("sluice.fanout.pending") != "0" {
			t.Errorf("a message in %s: %v", s.Attribute("messaging.destination.name"), s.Node("sluice.fanout.subscribers", "sluice.fanout.written",
				"sluice.fanout.conflated", "sluice.fanout.dropped", "sluice.fanout.left", "sluice.fanout.pending").Text)
		}
	}
	for _, what := range []string{"written", "conflated", "dropped", "left"} {
		if kinds[what] == 0 {
			t.Errorf("nothing was %s", what)
		}
	}
	t.Log(kinds)
}
