package transport

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/gorilla/websocket"

	"sluice/broker"
	"sluice/middleware"
	"sluice/otel"
)

// readings is a page of metrics: the values by name and labels as they are written.
type readings map[string]float64

// sum adds up all values of a metric whose labels contain the given texts.
func (r readings) sum(name string, labels ...string) (sum float64) {
next:
	for k, v := range r {
		if metric, _, _ := strings.Cut(k, "{"); metric != name {
			continue
		}
		for _, l := range labels {
			if !strings.Contains(k, l) {
				continue next
			}
		}
		sum += v
	}
	return sum
}

// metrics reads what the node tells.
func (n *node) metrics() readings {
	n.t.Helper()
	body, _, err := otel.NewPage(n.Measure, n.broker.Measure).Render(nil)
	if err != nil {
		n.t.Fatal(err)
	}
	r := readings{}
	for line := range strings.Lines(string(body)) {
		if i := strings.LastIndexByte(line, ' '); line[0] != '#' {
			if r[line[:i]], err = strconv.ParseFloat(strings.TrimSpace(line[i:]), 64); err != nil {
				n.t.Fatalf("%q: %v", line, err)
			}
		}
	}
	return r
}

// wantMetrics waits until the metrics are these: what a client has read its writer may be about to count.
func (n *node) wantMetrics(want readings) {
	n.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		got := n.metrics()
		wrong := ""
		for k, v := range want {
			name, labels, _ := strings.Cut(strings.TrimSuffix(k, "}"), "{")
			if g := got.sum(name, strings.Split(labels, ",")...); g != v {
				wrong += fmt.Sprintf("%s is %v, want %v\n", k, g, v)
			}
		}
		if wrong == "" {
			return
		}
		if time.Now().After(deadline) {
			n.t.Fatalf("after 10 s\n%s", wrong)
		}
	}
}

// metered makes a server measure.
func metered(c *Config) { c.Metrics, c.Heartbeat = true, time.Minute }

// raw is a client that keeps every byte that it gets.
type raw struct {
	conn net.Conn
	done chan struct{}

	mu    sync.Mutex
	bytes []byte
}

// raw opens a client on a bare socket, with little room in the kernels if it is slow. It reads once read is called.
func (n *node) raw(path string, slow bool, header ...string) *raw {
	n.t.Helper()
	conn, err := net.Dial("tcp", n.addr)
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { _ = conn.Close() })
	if slow {
		if err := conn.(*net.TCPConn).SetReadBuffer(8 << 10); err != nil {
			n.t.Fatal(err)
		}
	}
	head := "GET " + path + " HTTP/1.1\r\nHost: " + n.addr + "\r\n" + strings.Join(append(header, "\r\n"), "\r\n")
	if _, err := io.WriteString(conn, head); err != nil {
		n.t.Fatal(err)
	}
	return &raw{conn: conn, done: make(chan struct{})}
}

// kinds of raw clients, by format.
func (n *node) rawOf(format, channel string, slow bool) *raw {
	n.t.Helper()
	upgrade := []string{"Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg=="}
	switch format {
	case "sse":
		return n.raw("/sse?channel="+channel, slow)
	case "sse json":
		return n.raw("/sse?format=json&channel="+channel, slow)
	case "ws":
		return n.raw("/ws?channel="+channel, slow, upgrade...)
	}
	return n.raw("/ws?channel="+channel, slow, append(upgrade, "Sec-WebSocket-Protocol: "+subprotocolJSON)...)
}

func (r *raw) read() {
	defer close(r.done)
	buf := make([]byte, 4<<10)
	for {
		n, err := r.conn.Read(buf)
		r.mu.Lock()
		r.bytes = append(r.bytes, buf[:n]...)
		r.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// stream returns what the client got from the session: all of it over SSE, what follows the handshake over WebSocket.
func (r *raw) stream() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	if bytes.HasPrefix(r.bytes, []byte("HTTP/1.1 101")) {
		_, rest, _ := bytes.Cut(r.bytes, []byte("\r\n\r\n"))
		return bytes.Clone(rest)
	}
	return bytes.Clone(r.bytes)
}

const marker = "~m~"

// TestMetricsAgree: what the metrics say is what clients counted, byte for byte, whatever the transport, the format and
// the policy, for readers that make the node write in pieces, too.
func TestMetricsAgree(t *testing.T) {
	const messages, each = 300, 2 // of which the last one reads late
	formats := []string{"sse", "sse json", "ws", "ws json"}
	for _, tt := range []struct {
		name  string
		rules map[string]middleware.Delivery
	}{
		{"as it comes", nil},
		{"conflated", map[string]middleware.Delivery{"a": {Conflate: middleware.ConflateKey, Interval: 20 * time.Millisecond}}},
		{"filtered", map[string]middleware.Delivery{"a": {Filter: `event == "kept"`}}},
		{"batches", map[string]middleware.Delivery{"a": {Window: 5 * time.Millisecond, Messages: 50}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := newNode(t, func(c *Config) {
				metered(c)
				c.Policies, c.SendBuffer = rules(t, tt.rules), 8<<10
			})
			var clients []*raw
			for _, f := range formats {
				for i := range each {
					c := n.rawOf(f, "a", i == each-1)
					clients = append(clients, c)
					if i < each-1 {
						go c.read()
					}
				}
			}
			n.wantMetrics(readings{"sluice_sessions": each * 4, "sluice_subscriptions": each * 4, "sluice_connects_total{ok": each * 4,
				"sluice_writes_total": each * 3}) // the welcomes, which plain WebSockets don't get
			data := append(bytes.Repeat([]byte("x"), 1000), marker...)
			for i := range messages {
				m := &broker.Message{Channel: "a", Key: strconv.Itoa(i % 10), Data: data}
				if i%3 == 2 {
					m.Event = "kept" // 300 % 3 == 0: so is the last
				}
				n.put(m, i%2 == 0)
			}
			for i := each - 1; i < len(clients); i += each {
				go clients[i].read()
			}
			var got map[string]int
			for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
				was := maps.Clone(got)
				got = map[string]int{}
				for i, c := range clients {
					over := formats[i/each][:2]
					got["bytes "+over] += len(c.stream())
					got[over] += bytes.Count(c.stream(), []byte(marker))
				}
				m := n.metrics()
				dropped := m.sum("sluice_dropped_messages_total")
				if maps.Equal(was, got) && dropped+float64(got["ss"]+got["ws"]) == each*4*messages &&
					m.sum("sluice_written_bytes_total") == float64(got["bytes ss"]+got["bytes ws"]) {
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("after 10 s clients have %v, %v were dropped and %v bytes written", got, dropped, m.sum("sluice_written_bytes_total"))
				}
			}
			ss, ws := float64(got["ss"]), float64(got["ws"])
			n.wantMetrics(readings{
				`sluice_deliveries_total{"sse"`:                    ss,
				`sluice_deliveries_total{"ws"`:                     ws,
				`sluice_deliveries_total{"history"`:                0,
				`sluice_written_bytes_total{"sse"`:                 float64(got["bytes ss"]),
				`sluice_written_bytes_total{"ws"`:                  float64(got["bytes ws"]),
				`sluice_publish_to_write_seconds_count{"sse"`:      ss,
				`sluice_publish_to_write_seconds_count{"ws"`:       ws,
				`sluice_publish_to_write_seconds_bucket{"ws",+Inf`: ws,
				`sluice_queue_seconds_count{"sse"`:                 ss,
				`sluice_queue_seconds_count{"ws"`:                  ws,
				`sluice_deliveries_per_write_sum`:                  ss + ws,
				`sluice_received_messages_total{"durable"`:         messages / 2,
				`sluice_received_messages_total{"live"`:            messages / 2,
				`sluice_log_messages`:                              messages,
				`sluice_channels`:                                  1,
				`sluice_clock_clamped_total`:                       0,
				`sluice_gaps_total`:                                0,
			})
			m := n.metrics()
			if loaded := m.sum("sluice_deliveries_per_write_count"); loaded > ss+ws || loaded > m.sum("sluice_writes_total") {
				t.Errorf("%v writes with messages, %v in all, for %v messages", loaded, m.sum("sluice_writes_total"), ss+ws)
			}
			if w := m.sum("sluice_writes_total"); w != m.sum("sluice_write_seconds_count") {
				t.Errorf("%v writes, %v were timed", w, m.sum("sluice_write_seconds_count"))
			}
			if age, queue := m.sum("sluice_publish_to_write_seconds_sum"), m.sum("sluice_queue_seconds_sum"); age < queue*0.999 || queue <= 0 {
				t.Errorf("messages were %v s old and waited for %v s of that", age, queue)
			}
			for _, c := range clients {
				_ = c.conn.Close()
				<-c.done
			}
			n.wantMetrics(readings{"sluice_sessions": 0, "sluice_subscriptions": 0, `sluice_closes_total{"peer"`: each * 4,
				`sluice_closes_total`: each * 4, `sluice_websocket_closes_total{"1006"`: each * 2, `sluice_websocket_closes_total`: each * 2})
		})
	}
}

// What blocks, HTTP/2 here, is counted when it is written.
func TestMetricsHTTP2(t *testing.T) {
	n := newNode(t, metered)
	h2 := &http.Transport{Protocols: new(http.Protocols), TLSClientConfig: new(tls.Config)}
	h2.Protocols.SetUnencryptedHTTP2(true)
	defer h2.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), "GET", n.url("/sse?channel=a"), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := h2.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	n.wantMetrics(readings{"sluice_sessions": 1, `sluice_connects_total{"ok"`: 1})
	const messages = 100
	for range messages {
		n.put(&broker.Message{Channel: "a", Data: []byte(marker)}, false)
	}
	got, buf := 0, make([]byte, 32<<10)
	var all []byte
	for got < messages || !bytes.HasSuffix(all, []byte("\n\n")) {
		k, err := resp.Body.Read(buf)
		all = append(all, buf[:k]...)
		if got = bytes.Count(all, []byte(marker)); err != nil {
			t.Fatalf("after %d messages: %v", got, err)
		}
	}
	n.wantMetrics(readings{"sluice_deliveries_total": messages, "sluice_written_bytes_total": float64(len(all)),
		"sluice_publish_to_write_seconds_count": messages, "sluice_deliveries_per_write_sum": messages})
}

// What a client missed is delivered and has no age, and clocks that differ are told of.
func TestMetricsHistory(t *testing.T) {
	n := newNode(t, metered)
	for _, transport := range transports {
		c := n.listen(transport, "channel="+transport)
		token := c.token
		c.close()
		n.wantMetrics(readings{`sluice_subscriptions{"` + transport + `"`: 0})
		n.putNumbers(transport, 0, 5)
		again := n.listen(transport, "channel="+transport+"&resume="+token)
		again.want("0", "1", "2", "3", "4")
		n.put(&broker.Message{Channel: transport, Data: []byte("5"), Time: time.Now().Add(time.Hour)}, false)
		n.put(&broker.Message{Channel: transport, Data: []byte("6"), Time: time.Now().Add(-time.Hour)}, false)
		again.want("5", "6")
		label := `{"` + transport + `"`
		n.wantMetrics(readings{
			"sluice_deliveries_total" + label + `,"history"`:                 5,
			"sluice_deliveries_total" + label + `,"live"`:                    2,
			"sluice_publish_to_write_seconds_count" + label:                  2,
			"sluice_publish_to_write_seconds_bucket" + label + `,le="5e-06"`: 1,
			"sluice_publish_to_write_seconds_bucket" + label + `,le="60"`:    1,
			"sluice_clock_clamped_total" + label:                             1,
		})
	}
	// Whether from memory or the history depends on when the log went that nobody read any more.
	n.wantMetrics(readings{"sluice_resumes_total": 2, `sluice_resumes_total{"gap"`: 0})
}

// Refusals and ends are counted once each, by what the client was told.
func TestMetricsResults(t *testing.T) {
	n := newNode(t, func(c *Config) {
		metered(c)
		c.MaxSessions, c.CommandRate, c.CommandBurst = 3, 1, 2
		c.ConnectRate, c.ConnectBurst = 0.001, 8
	})
	for _, path := range []string{"/sse", "/sse?channel=secret", "/sse?channel=a+b", "/ws?channel=a"} {
		if status, body, _ := ask(t, "GET", n.url(""), path, ""); status < 400 {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	clients := []*client{n.listen("sse", "channel=a"), n.listen("ws", "channel=quiet"), n.listen("ws", "channel=a&channel=b")}
	ask(t, "GET", n.url(""), "/sse?channel=a", "") // full
	ask(t, "GET", n.url(""), "/sse?channel=a", "") // and too often
	n.publish("a", "1")
	n.publish("b", "2", "live=1")
	n.post("/publish/secret", "text/plain", "x")
	n.post("/publish", "application/json", `[{"channel":"a","data":1},{"channel":"secret","data":2},{"channel":"a"},3]`)
	n.post("/publish", "application/json", `[{"channel":`)
	ws := clients[1].ws
	ws.send(`{"type":"publish","ref":1,"channel":"a","data":1}`)
	ws.want("reply")
	ws.send(`{"type":"publish","ref":2,"channel":"secret","data":1}`)
	ws.want("error")
	ws.send(`{"type":"ping","ref":3}`)
	if e := ws.want("error"); e.Code != string(RateLimited) {
		t.Errorf("got %+v, want a refusal", e)
	}
	n.wantMetrics(readings{
		"sluice_sessions":                               3,
		`sluice_sessions{"sse"`:                         1,
		`sluice_sessions{v1`:                            2,
		"sluice_sessions_limit":                         3,
		"sluice_subscriptions":                          4,
		"sluice_ready":                                  1,
		`sluice_connects_total{"sse","ok"`:              1,
		`sluice_connects_total{"sse","bad_request"`:     1,
		`sluice_connects_total{"sse","forbidden"`:       1,
		`sluice_connects_total{"sse","bad_channel"`:     1,
		`sluice_connects_total{"sse","at_capacity"`:     1,
		`sluice_connects_total{"sse","rate_limited"`:    1,
		`sluice_connects_total{"sse"`:                   6,
		`sluice_connects_total{"ws","ok"`:               2,
		`sluice_connects_total{"ws","upgrade_required"`: 1,
		`sluice_connects_total{"ws"`:                    3,
		`sluice_rate_limited_total{"connect"`:           1,
		`sluice_rate_limited_total{"session_command"`:   1,
		`sluice_rate_limited_total{"node_sessions"`:     1,
		`sluice_rate_limited_total`:                     3,
		`sluice_publishes_total{"http","ok"`:            3,
		`sluice_publishes_total{"http","forbidden"`:     2,
		`sluice_publishes_total{"http","bad_request"`:   3,
		`sluice_publishes_total{"http"`:                 8,
		`sluice_publishes_total{"ws","ok"`:              1,
		`sluice_publishes_total{"ws","forbidden"`:       1,
		`sluice_publishes_total{"ws"`:                   2,
		`sluice_publish_seconds_count{"http"`:           3,
		`sluice_publish_seconds_count{"ws"`:             1,
	})
	if err := clients[2].ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(4999, ""), time.Now().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	clients[2].ws.wantClose(4999)
	n.wantMetrics(readings{`sluice_closes_total{"ws","peer"`: 1, `sluice_websocket_closes_total{"other"`: 1})
	n.stop()
	ws.wantClose(websocket.CloseServiceRestart)
	n.wantMetrics(readings{`sluice_closes_total{"ws","server"`: 1, `sluice_closes_total{"sse","server"`: 1, `sluice_closes_total`: 3,
		`sluice_websocket_closes_total{"1012"`: 1, `sluice_websocket_closes_total`: 2, "sluice_ready": 0})
}

// Measuring allocates nothing per delivery.
func TestMeterAllocatesNothing(t *testing.T) {
	m, s := newMeter(&writer{server: new(Server)}), &session{over: overWS}
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
		t.Errorf("%v allocations a write", n)
	}
	if got := m.by[overWS].live.Load(); got != 101*100 {
		t.Errorf("%d deliveries", got)
	}
}

// An idle connection is mostly its session: what is measured must not make it larger.
func TestSessionSize(t *testing.T) {
	if n := unsafe.Sizeof(session{}); n > 288 {
		t.Errorf("a session takes %d bytes, more than the allocator's 288", n)
	}
}
