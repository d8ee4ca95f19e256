package transport

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"sluice/broker"
	"sluice/middleware"
	"sluice/otel"
)

// One publish by HTTP is one trace as far as the sockets of both transports; clients can go on in it.
func TestTraceOfAPublish(t *testing.T) {
	n := newTracedNode(t, "", nil, nil)
	ws, sse, asks := n.listen("ws", "channel=a"), n.sse("channel=a"), n.sse("channel=a&traceparent=1")
	sse.want("welcome", "*")
	var welcome frame
	if err := json.Unmarshal([]byte(asks.want("welcome", "*").data), &welcome); err != nil {
		t.Fatal(err)
	}
	n.publish("a", "hello")
	told := ws.next()
	deliver := n.span("deliver")
	if told.Traceparent != deliver.Traceparent() {
		t.Errorf("the client is told %q, the delivery is %s", told.Traceparent, deliver.Traceparent())
	}
	if e := sse.want("", "hello"); e.other != "" {
		t.Errorf("who did not ask gets %q", e.other)
	}
	if e := asks.want("", "hello"); e.other != "traceparent: "+deliver.Traceparent() {
		t.Errorf("who asks gets %q", e.other)
	}
	ws.ws.send(`{"type":"ack","ref":1,"traceparent":"` + told.Traceparent + `"}`)
	if f := ws.ws.want("reply"); string(f.Traced) != "true" {
		t.Errorf("the acknowledgement is answered %+v", f)
	}
	status, body := n.post("/ack", "text/plain", `{"session":"`+welcome.Session+`","traceparent":"`+told.Traceparent+`"}`)
	if status != http.StatusNoContent {
		t.Errorf("got %d %s", status, body)
	}
	n.wantTraces("POST", `
		POST /publish/{channel} [server] status_code=200
		  publish [producer]
		    deliver [consumer] subscribers=3 written=3 pending=0
		      fan-out
		      push sse
		        client-ack from=write
		        queue
		        write
		      push sse
		        queue
		        write
		      push ws
		        client-ack from=write
		        queue
		        write
		      transit
	`, "http.response.status_code", "sluice.fanout.subscribers", "sluice.fanout.written", "sluice.fanout.pending", "sluice.ack.from")
	publish := n.span("publish")
	if publish.StartTimeUnixNano != deliver.StartTimeUnixNano {
		t.Errorf("the delivery begins %d ns after the publish", deliver.StartTimeUnixNano-publish.StartTimeUnixNano)
	}
}

func TestAckRefused(t *testing.T) {
	n := newTracedNode(t, "", nil, nil)
	good := "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	for _, tt := range []struct {
		body   string
		status int
		code   Code
	}{
		{`{"session":"AAAAAAAAAAAAAAAA","traceparent":"` + good + `"}`, 404, NotFound},
		{`{"session":"AAAAAAAAAAAAAAA","traceparent":"` + good + `"}`, 400, BadRequest},
		{`{"session":"AAAAAAAAAAAAAAAA","traceparent":"` + good[1:] + `"}`, 400, BadRequest},
		{`{"session":1}`, 400, BadRequest},
		{`{`, 400, BadRequest},
		{strings.Repeat(" ", maxAck+1), 413, TooLarge},
	} {
		status, body := n.post("/ack", "application/json", tt.body)
		var p Problem
		if err := json.Unmarshal(body, &p); err != nil || status != tt.status || p.Code != tt.code {
			t.Errorf("%.60s: got %d %s", tt.body, status, body)
		}
	}
	ws := n.ws("channel=a", subprotocolJSON)
	ws.want("welcome")
	ws.send(`{"type":"ack","ref":1,"traceparent":"` + good + `"}`)
	if f := ws.want("reply"); string(f.Traced) != "false" {
		t.Errorf("an unknown message: %+v", f)
	}
	ws.send(`{"type":"ack","ref":2,"traceparent":"x"}`)
	if f := ws.want("error"); f.Code != string(BadRequest) {
		t.Errorf("no traceparent: %+v", f)
	}
}

// What a policy decides is one span for all its followers, linked to the message that took the place.
func TestTraceOfConflation(t *testing.T) {
	for _, transport := range transports {
		t.Run(transport, func(t *testing.T) {
			p := rules(t, map[string]middleware.Delivery{"a": {Conflate: middleware.ConflateKey, Filter: `event != "no"`, Interval: 300 * time.Millisecond}})
			n := newTracedNode(t, "", nil, func(c *Config) { c.Policies = p })
			one, two := n.listen(transport, "channel=a"), n.listen(transport, "channel=a")
			n.put(&broker.Message{Channel: "a", Key: "k", Data: []byte("first")}, false) // goes out at once
			one.want("first")
			two.want("first")
			n.put(&broker.Message{Channel: "a", Key: "k", Data: []byte("old")}, false)
			n.put(&broker.Message{Channel: "a", Event: "no", Data: []byte("unwanted")}, false)
			n.put(&broker.Message{Channel: "a", Key: "k", Data: []byte("new")}, false)
			one.want("new")
			two.want("new")
			written := fmt.Sprintf(`
				publish [producer]
				  deliver [consumer] subscribers=2 written=2 conflated=0 dropped=0
				    fan-out
				    push %[1]s
				      queue
				      write
				    push %[1]s
				      queue
				      write
				    transit`, transport)
			n.wantTraces("publish", `
				publish [producer]
				  deliver [consumer] subscribers=2 written=0 conflated=0 dropped=2
				    drop reason=filter subscribers=2
				    fan-out
				    transit
				publish [producer]
				  deliver [consumer] subscribers=2 written=0 conflated=2 dropped=0
				    conflate reason=conflate subscribers=2 →superseded-by
				    fan-out
				    transit`+written+written+"\n",
				"sluice.fanout.subscribers", "sluice.fanout.written", "sluice.fanout.conflated", "sluice.fanout.dropped", "sluice.reason", "sluice.subscribers")
			newest := ""
			for _, s := range n.collector.Spans() {
				if s.Name == "deliver" && s.Attribute("sluice.fanout.written") == "2" {
					newest = string(s.SpanId)
				}
			}
			if s := n.span("conflate"); string(s.Links[0].SpanId) != newest {
				t.Error("the link leads to another message than the one that took the place")
			}
			for _, s := range n.collector.Spans() {
				if s.Name == "queue" && string(s.ParentSpanId) != "" && s.EndTimeUnixNano-s.StartTimeUnixNano > 100e6 && s.Attribute("sluice.held_ms") == "" {
					t.Error("a queue does not say how long the policy held the message back")
				}
			}
		})
	}
}

// A session that may and asks to has all its messages traced; nobody else has.
func TestPinned(t *testing.T) {
	n := newTracedNode(t, "always_off", nil, nil)
	for _, tt := range []struct {
		query  string
		header []string
		status int
	}{
		{"channel=a&trace=1", []string{"X-May-Not", "1"}, 403},
		{"channel=a&trace=2", nil, 400},
		{"channel=a&traceparent=2", nil, 400},
	} {
		if status, _, body := get(t, n.url("/sse?"+tt.query), tt.header...); status != tt.status {
			t.Errorf("%s: got %d %s", tt.query, status, body)
		}
	}
	for _, transport := range transports {
		other, pinned := n.listen(transport, "channel=a"), n.listen(transport, "channel=a&trace=1")
		for i := range 3 {
			n.put(&broker.Message{Channel: "a", Data: fmt.Append(nil, i)}, false)
			other.want(fmt.Sprint(i))
			pinned.want(fmt.Sprint(i))
		}
		other.close()
		pinned.close()
		n.deserted("a")
	}
	one := `
		deliver [consumer] sampled=pinned
		  fan-out
		  push %s picked=pinned
		    queue
		    write
		  transit`
	n.wantTraces("deliver", strings.Repeat(fmt.Sprintf(one, "sse"), 3)+strings.Repeat(fmt.Sprintf(one, "ws"), 3)+"\n", "sluice.sampled", "sluice.picked")
	off := newNode(t, nil)
	if status, _, body := get(t, off.url("/sse?channel=a&trace=1")); status != 400 || !strings.Contains(body, "traces nothing") {
		t.Errorf("a node that traces nothing answers %d %s", status, body)
	}
}

// A request to listen is a span until the session has what it missed, and no longer.
func TestTraceOfAConnect(t *testing.T) {
	for _, transport := range transports {
		t.Run(transport, func(t *testing.T) {
			n := newTracedNode(t, "", nil, nil)
			c := n.listen(transport, "channel=a")
			n.publish("a", "1")
			c.want("1")
			c.close()
			n.deserted("a")
			n.publish("a", "2")
			n.publish("a", "3")
			back := n.listen(transport, "channel=a&resume="+c.token)
			back.until("3")
			status := 200
			if transport == "ws" {
				status = 101
			}
			missed := 2
			if transport == "ws" {
				missed = 3 // its token is that of the welcome
			}
			n.wantTraces("connect", fmt.Sprintf(`
				connect %[1]s [server] status_code=%[2]d
				connect %[1]s [server] status_code=%[2]d
				  replay message_count=%[3]d%[4]s
			`, transport, status, missed, strings.Repeat(" →replayed", missed)), "http.response.status_code", "error.type", "messaging.batch.message_count")
			if status, _, _ := get(t, n.url("/"+transport+"?channel=no+such")); status < 400 {
				t.Errorf("got %d", status)
			}
			for begin := time.Now(); !strings.Contains(n.traces("connect", "error.type"), "type=bad_channel") && transport == "sse"; time.Sleep(5 * time.Millisecond) {
				if time.Since(begin) > 10*time.Second {
					t.Fatalf("the refusal is not there:\n%s", n.traces("connect", "error.type"))
				}
			}
		})
	}
}

// Nothing that a client or publisher says but names of channels is in a span.
func TestTracesKeepSecrets(t *testing.T) {
	n := newTracedNode(t, "", nil, nil)
	s := n.sse("channel=a&resume=SECRET1&_x=SECRET2", "Authorization", "Bearer SECRET3", "Cookie", "SECRET4")
	s.want("welcome", "*")
	s.want("gap", "*")
	if status, _ := n.post("/publish/a?id=SECRET5&key=SECRET6&event=SECRET7", "text/SECRET8", "SECRET9"); status != 200 {
		t.Errorf("got %d", status)
	}
	s.want("SECRET7", "SECRET9")
	n.span("write")
	n.span("connect sse")
	for _, s := range n.collector.Spans() {
		if strings.Contains(s.String(), "SECRET") {
			t.Errorf("%s tells %s", s.Name, s.String())
		}
	}
}

// Where nothing is traced a trusted publisher's context goes through to the client, and a stranger's does not.
func TestTraceparentPassesThrough(t *testing.T) {
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	for trust, want := range map[otel.Trust]string{otel.TrustParent: parent, otel.TrustLink: "", otel.TrustIgnore: ""} {
		n := newNode(t, func(c *Config) { c.TraceTrust = trust })
		ws := n.listen("ws", "channel=a")
		if resp, body := n.request("POST", "/publish/a", "x", "Traceparent", parent); resp.StatusCode != 200 {
			t.Fatal(body)
		}
		if status, body := n.post("/publish", "application/json", `{"channel":"a","data":"y","traceparent":"`+parent+`"}`); status != 200 {
			t.Fatalf("%s", body)
		}
		for range 2 {
			if f := ws.next(); f.Traceparent != want {
				t.Errorf("%s: %s comes with %q", trust, f.Data, f.Traceparent)
			}
		}
	}
}

// Tracing what is not sampled allocates nothing per delivery.
func TestTracingAllocatesNothing(t *testing.T) {
	t.Setenv("OTEL_TRACES_EXPORTER", "otlp")
	t.Setenv("OTEL_TRACES_SAMPLER", "always_off")
	telemetry, err := otel.Start(t.Context(), otel.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer telemetry.Shutdown(t.Context())
	server := &Server{config: Config{Tracer: telemetry.Tracer(nil, otel.DefaultTracerConfig())}}
	w := &writer{server: server}
	m, s := newMeter(w), &session{over: overWS}
	w.meter = m
	b := &broker.Batch{Live: true}
	for range 100 {
		b.Messages = append(b.Messages, &broker.Message{Time: time.Now(), Data: []byte("x")})
	}
	m.begin()
	if n := testing.AllocsPerRun(100, func() {
		m.taken = append(m.taken, b)
		m.wrote(s, 100, true, false)
		m.end()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
