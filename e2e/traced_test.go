package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// traced is a rig whose nodes send their spans to a Jaeger.
type traced struct {
	*rig
	jaeger *jaeger
	config []string // flags of all nodes
	env    []string // of all nodes
	hung   []func() // hang up listeners
}

// service is what nodes call themselves unless they are told otherwise.
const service = "sluice"

// newTraced starts Redis, and n nodes with these rules, variables and flags.
func newTraced(t *testing.T, j *jaeger, n int, rules map[string]rule, env []string, flags ...string) *traced {
	t.Helper()
	config := []string{"--config", newSettings(t, rules).path, "--drain-time", "100ms"}
	env = append(j.env(), env...)
	return &traced{rig: newRigIn(t, env, nil, n, append(config, flags...)...), jaeger: j, config: config, env: env}
}

// add starts one more node, with flags of its own.
func (r *traced) add(name string, flags ...string) {
	r.Helper()
	flags = append(append([]string{"--redis", r.redis.URL()}, r.config...), flags...)
	r.nodes = append(r.nodes, startNodeIn(r.T, r.env, name, flags...))
}

// tee returns the endpoint of something that has several Jaegers get the same spans.
func tee(t *testing.T, to ...*jaeger) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		for _, j := range to {
			req, err := http.NewRequestWithContext(r.Context(), r.Method, j.otlp+r.URL.Path, bytes.NewReader(body))
			if err != nil {
				w.WriteHeader(http.StatusInternalServerError)
				return
			}
			req.Header = r.Header.Clone()
			res, err := j.http.Do(req)
			if err != nil {
				w.WriteHeader(http.StatusBadGateway)
				return
			}
			res.Body.Close()
			if res.StatusCode != http.StatusOK {
				w.WriteHeader(res.StatusCode)
				return
			}
		}
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// put publishes at node i and returns the position. header are names and values in turn.
func (r *traced) put(i int, channel, query, data string, header ...string) string {
	r.Helper()
	status, answer := r.request(i, "/publish/"+channel+"?"+query, data, header...)
	var p published
	if err := json.Unmarshal(answer, &p); err != nil || status != http.StatusOK {
		r.Fatalf("publish to %s: %d %s (%v)", channel, status, answer, err)
	}
	return p.Position
}

// request posts something to node i.
func (r *traced) request(i int, path, data string, header ...string) (status int, answer []byte) {
	r.Helper()
	req, err := http.NewRequestWithContext(r.ctx, http.MethodPost, r.nodes[i].url()+path, strings.NewReader(data))
	if err != nil {
		r.Fatal(err)
	}
	for h := range slices.Chunk(header, 2) {
		req.Header.Set(h[0], h[1])
	}
	res, err := r.http.Do(req)
	if err != nil {
		r.Fatal(err)
	}
	defer res.Body.Close()
	if answer, err = io.ReadAll(res.Body); err != nil {
		r.Fatal(err)
	}
	return res.StatusCode, answer
}

// fcall publishes the way any Redis client can, and returns the position.
func (r *traced) fcall(channel, data string, options ...any) string {
	r.Helper()
	p, err := receipt(r.redis.Client().FCall(r.ctx, "sluice_publish", []string{channel}, append([]any{data}, options...)...))
	if err != nil {
		r.Fatal(err)
	}
	return p.Position
}

// traceOf returns the trace of a durable message, once it has so many spans.
func (r *traced) traceOf(position string, spans int) *trace {
	r.Helper()
	found := r.jaeger.awaitSearch(search{service: service, tags: map[string]string{"messaging.message.id": position}}, 1)
	if len(found) > 1 {
		r.Fatalf("%s is in %d traces: %v", position, len(found), found)
	}
	return r.jaeger.await(found[0].ID, hasSpans(spans))
}

// stopAll has all listeners hang up, and tells all nodes to stop. When it returns Jaeger has everything that they have sent.
func (r *traced) stopAll() {
	r.Helper()
	for _, hangUp := range r.hung {
		hangUp()
	}
	for _, n := range r.nodes {
		n.signal(syscall.SIGTERM)
	}
	for _, n := range r.nodes {
		if code := n.wait(15 * time.Second); code != 0 {
			r.Errorf("node %s exits with %d", n.name, code)
		}
	}
	const id = "000000000000000000000000000000ee" // after all others in the queue
	r.jaeger.send(id, time.Now(), "test", sent{id: "00000000000000e1", name: "end"})
	r.jaeger.await(id, hasSpans(1))
}

// listener is one connection whose events a test reads by itself.
type listener struct {
	*traced
	stream
	node    int
	over    string // ws or sse
	session string // of its welcome
	token   string // of its welcome, or of the newest event that had one
}

// hear connects to node i and returns when it listens. query goes on after the channel.
func (r *traced) hear(over string, i int, channel, query string) *listener {
	r.Helper()
	return r.hearBy(nil, over, i, channel, query)
}

// hearBy is hear over a connection that dial makes; nil: an ordinary one.
func (r *traced) hearBy(dial dialFunc, over string, i int, channel, query string) *listener {
	r.Helper()
	ctx, cancel := context.WithTimeout(r.ctx, visitTime)
	r.Cleanup(cancel)
	tr := &http.Transport{DisableKeepAlives: true, DialContext: dial}
	r.Cleanup(tr.CloseIdleConnections)
	url := r.nodes[i].url() + "/" + over + "?channel=" + channel + query
	var st stream
	var err error
	if over == "ws" {
		st, err = openWSBy(ctx, dial, strings.Replace(url, "http", "ws", 1), true)
	} else {
		st, err = openSSE(ctx, &http.Client{Transport: tr}, url, "", strings.Contains(query, "format=json"))
	}
	if err != nil {
		r.Fatalf("%s: %v", url, err)
	}
	stop := context.AfterFunc(ctx, st.close)
	hangUp := func() {
		stop()
		st.close()
	}
	r.Cleanup(hangUp)
	r.hung = append(r.hung, hangUp)
	l := &listener{traced: r, stream: st, node: i, over: over}
	welcome := l.event("welcome")
	l.session = welcome.body.Session
	return l
}

// event returns the next event but heartbeats, which has to be of this kind.
func (l *listener) event(kind string) event {
	l.Helper()
	for {
		e, err := l.next()
		if err != nil {
			l.Fatalf("%s at node %s: %v", l.over, l.nodes[l.node].name, err)
		}
		if e.token != "" {
			l.token = e.token
		}
		if e.kind == "heartbeat" {
			continue
		}
		if e.kind != kind {
			l.Fatalf("%s at node %s: got the %s %+v, want a %s", l.over, l.nodes[l.node].name, e.kind, e.body, kind)
		}
		return e
	}
}

// want returns the next message, which has to have this payload.
func (l *listener) want(data string) event {
	l.Helper()
	e := l.event("message")
	if e.data != data {
		l.Fatalf("%s at node %s: got %.60q, want %.60q", l.over, l.nodes[l.node].name, e.data, data)
	}
	return e
}

// standing returns the token of all that has come.
func (l *listener) standing() string {
	l.Helper()
	if ws, ok := l.stream.(*wsStream); ok {
		if err := ws.send(map[string]any{"type": "ping", "ref": 1}); err != nil {
			l.Fatal(err)
		}
		l.event("reply")
	}
	return l.token
}

// context is a traceparent taken apart.
func contextOf(t *testing.T, traceparent string) (traceID, spanID string) {
	t.Helper()
	part := strings.Split(traceparent, "-")
	if len(part) != 4 || len(part[1]) != 32 || len(part[2]) != 16 {
		t.Fatalf("%q is no traceparent", traceparent)
	}
	return part[1], part[2]
}
