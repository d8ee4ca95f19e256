package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// hole returns the endpoint of a collector that takes connections, and all that is sent, and never answers.
func hole(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		var conns []net.Conn
		for {
			c, err := l.Accept()
			if err != nil {
				break
			}
			conns = append(conns, c)
			go func() { _, _ = io.Copy(io.Discard, c) }()
		}
		for _, c := range conns {
			_ = c.Close()
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-ended
	})
	return "http://" + l.Addr().String()
}

// refusing returns the endpoint of a collector that takes nothing.
func refusing(t *testing.T) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusBadRequest)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// TestCollectorAway: a collector that is down, does not answer or refuses costs clients nothing. What becomes of the spans is
// counted, the log has one line, and the node still stops in time.
func TestCollectorAway(t *testing.T) {
	for _, tt := range []struct {
		name     string
		endpoint func(t *testing.T) string
	}{
		{"down", func(t *testing.T) string { return local(freePorts(t, 1)[0]) }},
		{"silent", hole},
		{"refusing", refusing},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRigIn(t, []string{
				"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=" + tt.endpoint(t) + "/v1/traces", "OTEL_EXPORTER_OTLP_TIMEOUT=300", "OTEL_BSP_EXPORT_TIMEOUT=300",
				"OTEL_BSP_SCHEDULE_DELAY=50", "OTEL_BSP_MAX_QUEUE_SIZE=64", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE=32",
			}, nil, 1, "--metrics", "127.0.0.1:0", "--trace-detail", "1000000", "--drain-time", "0s", "--publish-wait", "30s")
			r.http.Timeout = time.Minute // a busy machine is no concern of this test
			n := r.nodes[0]
			r.deliversAll(n, 3000)
			until(t, 10*time.Second, "the metrics tell of spans that failed and were dropped", func() bool {
				return r.counter(n, `sluice_trace_spans_total{result="failed"}`) > 0 && r.counter(n, `sluice_trace_spans_total{result="dropped"}`) > 0
			})
			if x := r.counter(n, `sluice_trace_spans_total{result="exported"}`); x != 0 {
				t.Errorf("%v spans are exported", x)
			}
			n.signal(syscall.SIGTERM)
			if code := n.wait(10 * time.Second); code != 0 {
				t.Errorf("it exits with %d", code)
			}
			if lines := n.lines("telemetry can't be exported"); len(lines) != 1 {
				t.Errorf("the log has %d lines, want one: %q", len(lines), lines)
			}
		})
	}
}

// deliversAll publishes so many messages as fast as they are taken, and fails the test if a client does not get each of them once and in order.
func (r *rig) deliversAll(n *node, messages int) {
	r.Helper()
	ctx, cancel := context.WithTimeout(r.ctx, time.Minute)
	defer cancel()
	st, err := openWS(ctx, strings.Replace(n.url(), "http", "ws", 1)+"/ws?channel=orders", true)
	if err != nil {
		r.Fatal(err)
	}
	defer st.close()
	stop := context.AfterFunc(ctx, st.close)
	defer stop()
	if e, err := st.next(); err != nil || e.kind != "welcome" {
		r.Fatalf("got %+v, %v, want a welcome", e, err)
	}
	const atOnce = 100
	r.publishing.Go(func() {
		for from := 0; from < messages; from += atOnce {
			if err := r.publishMany(ctx, n, from, from+atOnce); err != nil {
				r.Error(err)
				cancel()
				return
			}
		}
	})
	defer r.publishing.Wait()
	for i := 0; i < messages; {
		e, err := st.next()
		if err != nil {
			r.Fatalf("after %d messages: %v", i, err)
		}
		if e.kind == "heartbeat" {
			continue
		}
		if e.kind != "message" || e.data != strconv.Itoa(i) {
			r.Fatalf("message %d is the %s %+v", i, e.kind, e.body)
		}
		i++
	}
}

// publishMany publishes numbers in one request.
func (r *rig) publishMany(ctx context.Context, n *node, from, to int) error {
	var list []map[string]string
	for i := from; i < to; i++ {
		list = append(list, map[string]string{"channel": "orders", "data": strconv.Itoa(i)})
	}
	body, err := json.Marshal(list)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, n.url()+"/publish", strings.NewReader(string(body)))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := r.http.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if answer, _ := io.ReadAll(res.Body); res.StatusCode != http.StatusOK {
		return fmt.Errorf("publish %d to %d: %s: %.300s", from, to, res.Status, answer)
	}
	return nil
}

// counter returns a metric of n.
func (r *rig) counter(n *node, name string) float64 {
	r.Helper()
	res, err := r.http.Get("http://" + n.address("metrics are open") + "/metrics")
	if err != nil {
		r.Fatal(err)
	}
	defer res.Body.Close()
	page, err := io.ReadAll(res.Body)
	if err != nil {
		r.Fatal(err)
	}
	for line := range strings.Lines(string(page)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			x, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				r.Fatalf("%s: %v", line, err)
			}
			return x
		}
	}
	r.Fatalf("there is no %s in\n%s", name, page)
	return 0
}
