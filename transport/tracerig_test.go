package transport

import (
	"bufio"
	"cmp"
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"sluice/broker"
	"sluice/middleware/auth"
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

func (tracingGrant) Authorize(r *http.Request, _ auth.Purpose) (Grant, error) {
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
