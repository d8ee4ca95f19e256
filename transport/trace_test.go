package transport

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"sluice/broker"
	"sluice/middleware"
	"sluice/otel"
	"sluice/otel/oteltest"
)

// traced is a node whose spans go to a collector.
type tracedNode struct {
	*node
	collector *oteltest.Collector
}

// newTracedNode starts a node that samples what sampler, one of OTEL_TRACES_SAMPLER, says.
func newTracedNode(t *testing.T, sampler string, trace func(*otel.TracerConfig), change func(*Config)) *tracedNode {
	t.Helper()
	collector := oteltest.Start(t)
	for name, value := range map[string]string{
		"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": collector.HTTP + "/v1/traces", "OTEL_TRACES_SAMPLER": sampler, "OTEL_BSP_SCHEDULE_DELAY": "20",
	} {
		t.Setenv(name, value)
	}
	telemetry, err := otel.Start(t.Context(), otel.Options{})
	if err != nil {
		t.Fatal(err)
	}
	c := otel.DefaultTracerConfig()
	c.Detail = 10_000
	if trace != nil {
		trace(&c)
	}
	tracer := telemetry.Tracer(new(otel.Clock), c)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { tracer.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
		telemetry.Shutdown(context.Background())
	})
	n := newNode(t, func(c *Config) {
		c.Tracer, c.Access = tracer, tracingGrant{}
		if change != nil {
			change(c)
		}
	})
	return &tracedNode{n, collector}
}

// tracingGrant is everyone, who may ask for traces if it says so.
type tracingGrant struct{ everyone }

func (tracingGrant) Authorize(r *http.Request) (Grant, error) {
	if r.Header.Get("X-May-Not") != "" {
		return everyone{}, nil
	}
	return tracingGrant{}, nil
}

func (tracingGrant) Trace() error { return nil }

// traces renders the traces whose root has a name that begins so.
func (n *tracedNode) traces(root string, show ...string) string {
	spans := n.collector.Spans()
	mine := map[string]bool{}
	for _, s := range spans {
		if strings.HasPrefix(s.Name, root) && len(s.ParentSpanId) == 0 {
			mine[string(s.TraceId)] = true
		}
	}
	var nodes []oteltest.Node
	for _, s := range spans {
		if mine[string(s.TraceId)] {
			nodes = append(nodes, s.Node(show...))
		}
	}
	return oteltest.Tree(nodes)
}

// wantTraces waits until the traces with that root are as told.
func (n *tracedNode) wantTraces(root, tree string, show ...string) {
	n.t.Helper()
	tree = strings.TrimLeft(strings.ReplaceAll(tree, "\t", ""), "\n")
	got := ""
	for begin := time.Now(); time.Since(begin) < 10*time.Second; time.Sleep(5 * time.Millisecond) {
		if got = n.traces(root, show...); got == tree {
			return
		}
	}
	n.t.Errorf("got the traces\n%swant\n%s", got, tree)
}

// span returns a span of that name, when there is one.
func (n *tracedNode) span(name string) oteltest.Span {
	n.t.Helper()
	for begin := time.Now(); time.Since(begin) < 10*time.Second; time.Sleep(5 * time.Millisecond) {
		for _, s := range n.collector.Spans() {
			if s.Name == name {
				return s
			}
		}
	}
	n.t.Fatalf("there is no span %q", name)
	return oteltest.Span{}
}

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

// block publishes to a channel until a client that reads nothing has a write that can't be finished, and a few messages more. It returns how many
// that were.
func (n *node) block(channel string) (sent int) {
	n.t.Helper()
	big := []byte(strings.Repeat("x", 16<<10))
	for blocked := 0; blocked < 5; sent++ {
		n.put(&broker.Message{Channel: channel, Data: big}, false)
		n.settled() // the pass that hears of it
		n.inspect(func(w *writer) {
			for _, s := range w.sessions {
				if len(s.rest) > 0 {
					blocked++
				}
			}
		})
		if sent > 10_000 {
			n.t.Fatal("the kernel takes everything")
		}
	}
	return sent
}

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

// visit listens until it has read so many frames or events, and returns the last token that it was given; "" if there was none.
func (n *node) visit(ctx context.Context, transport, query string, frames int) (token string) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if transport == "ws" {
		d := websocket.Dialer{Subprotocols: []string{subprotocolJSON}}
		c, _, err := d.DialContext(ctx, "ws://"+n.addr+"/ws?"+query, nil)
		if err != nil {
			return ""
		}
		defer c.Close()
		context.AfterFunc(ctx, func() { _ = c.Close() })
		for range frames {
			var f frame
			if c.ReadJSON(&f) != nil {
				return token
			}
			token = cmp.Or(f.Token, token)
		}
		return token
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, n.url("/sse?"+query), nil)
	if err != nil {
		return ""
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for frames > 0 && lines.Scan() {
		if lines.Text() == "" {
			frames--
		} else if id, ok := strings.CutPrefix(lines.Text(), "id: "); ok {
			token = id
		}
	}
	return token
}

// await waits until ok.
func (n *node) await(what string, ok func() bool) {
	n.t.Helper()
	for begin := time.Now(); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Since(begin) > 10*time.Second {
			n.t.Fatalf("waited 10 s for %s", what)
		}
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
