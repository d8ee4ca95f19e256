package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// sent is a span that a test sends by hand.
type sent struct {
	id, parent, name string
	kind             int           // of OTLP: 4 is a producer, 5 a consumer
	begin, took      time.Duration // since the begin of the trace
	tags             map[string]any
	link             string // id of a span of the same trace
}

// send sends the spans of one service on a host of its own, as OTLP in JSON.
func (j *jaeger) send(traceID string, begin time.Time, service string, spans ...sent) {
	j.t.Helper()
	attributes := func(tags map[string]any) (list []any) {
		for key, v := range tags {
			value := map[string]any{"stringValue": v}
			if n, ok := v.(int); ok {
				value = map[string]any{"intValue": strconv.Itoa(n)}
			}
			list = append(list, map[string]any{"key": key, "value": value})
		}
		return list
	}
	nanos := func(d time.Duration) string { return strconv.FormatInt(begin.Add(d).UnixNano(), 10) }
	var list []any
	for _, s := range spans {
		o := map[string]any{"traceId": traceID, "spanId": s.id, "parentSpanId": s.parent, "name": s.name, "kind": s.kind,
			"startTimeUnixNano": nanos(s.begin), "endTimeUnixNano": nanos(s.begin + s.took), "attributes": attributes(s.tags)}
		if s.link != "" {
			o["links"] = []any{map[string]any{"traceId": traceID, "spanId": s.link}}
		}
		list = append(list, o)
	}
	body, err := json.Marshal(map[string]any{"resourceSpans": []any{map[string]any{
		"resource":   map[string]any{"attributes": attributes(map[string]any{"service.name": service, "ip": service})},
		"scopeSpans": []any{map[string]any{"spans": list}},
	}}})
	if err != nil {
		j.t.Fatal(err)
	}
	res, err := j.http.Post(j.otlp+"/v1/traces", "application/json", bytes.NewReader(body))
	if err != nil {
		j.t.Fatal(err)
	}
	defer res.Body.Close()
	if answer, _ := io.ReadAll(res.Body); res.StatusCode != http.StatusOK {
		j.t.Fatalf("jaeger does not take spans: %s: %s", res.Status, answer)
	}
}

// TestJaegerReadsBack: what is sent can be read back and searched for, as it was; and only a Jaeger that is told to
// corrects clocks moves a span, which makes a delivery that begins after its publish has ended look shorter than it was.
func TestJaegerReadsBack(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		skew  time.Duration
		begin time.Duration // of the delivery, since the publish
		warns string
	}{
		{0, 12 * time.Millisecond, "clock skew"}, // it says what it would do
		{time.Second, 500 * time.Microsecond, "adjusted by -11.5ms"},
	} {
		t.Run(fmt.Sprintf("clocks off by %v", tt.skew), func(t *testing.T) {
			t.Parallel()
			j := startJaeger(t, tt.skew)
			const id = "0af7651916cd43dd8448eb211c80319c"
			if tr := j.trace(id); tr != nil {
				t.Fatalf("before anything was sent there is\n%v", tr)
			}
			begin := time.Now().Truncate(time.Microsecond)
			ms := time.Millisecond
			j.send(id, begin, "shop",
				sent{id: "00000000000000a1", name: "publish orders", kind: 4, took: 2 * ms, tags: map[string]any{"messages": 3}})
			j.send(id, begin, "edge",
				sent{id: "00000000000000b1", parent: "00000000000000a1", name: "deliver orders", kind: 5, begin: 12 * ms, took: 1 * ms},
				sent{id: "00000000000000b2", parent: "00000000000000b1", name: "push ws", kind: 1, begin: 12 * ms, took: ms / 2,
					tags: map[string]any{"transport": "ws"}},
				sent{id: "00000000000000b3", parent: "00000000000000b1", name: "push sse", kind: 1, begin: 12*ms + ms/2, took: ms / 2,
					link: "00000000000000a1"})
			tr := j.await(id, hasNames("publish orders", "deliver orders", "push ws", "push sse"))
			tr.wantsTree("publish orders\n\tdeliver orders\n\t\tpush ws\n\t\tpush sse")
			if roots := tr.roots(); len(roots) != 1 || roots[0] != tr.only("publish orders") || !tr.begin().Equal(begin) {
				t.Errorf("the roots are %v, and the begin is %v, want one at %v", roots, tr.begin(), begin)
			}
			publish := tr.only("publish orders")
			publish.wants("producer", map[string]string{"messages": "3", "transport": ""})
			deliver := publish.child("deliver orders")
			deliver.wants("consumer", nil)
			if got := deliver.begin().Sub(begin); got != tt.begin || deliver.took() != ms || deliver.service() != "edge" || deliver.resource("ip") != "edge" {
				t.Errorf("the delivery begins after %v, want %v:\n%v", got, tt.begin, tr)
			}
			if warned := strings.Join(deliver.Warnings, " "); !strings.Contains(warned, tt.warns) {
				t.Errorf("jaeger warns of %q, want %q", warned, tt.warns)
			}
			if got, want := deliver.child("push sse").links(), []reference{{followsFrom, id, publish.ID}}; !slices.Equal(got, want) {
				t.Errorf("links: got %v, want %v", got, want)
			}
			j.searches(id)
			j.staysWhole()
		})
	}
}

// staysWhole sends a trace whose delivery begins with its publish: that one nothing moves, and nothing is odd about it.
func (j *jaeger) staysWhole() {
	const id = "0af7651916cd43dd8448eb211c80319d"
	begin := time.Now().Truncate(time.Microsecond)
	j.send(id, begin, "shop", sent{id: "00000000000000a1", name: "publish orders", kind: 4, took: 2 * time.Millisecond})
	j.send(id, begin, "edge", sent{id: "00000000000000b1", parent: "00000000000000a1", name: "deliver orders", kind: 5, took: 13 * time.Millisecond})
	tr := j.await(id, hasSpans(2))
	tr.wantsNoWarnings()
	if got := tr.only("deliver orders").end().Sub(begin); got != 13*time.Millisecond {
		j.t.Errorf("the delivery ends after %v, want 13ms:\n%v", got, tr)
	}
}

// TestJaegerEnvironment: what a node is to send its spans by reaches it; and variables of the test's own do not.
func TestJaegerEnvironment(t *testing.T) {
	t.Setenv("SLUICE_MAX_MESSAGE", "2")
	n := startNodeIn(t, startJaeger(t, 0).env("SLUICE_MAX_MESSAGE=4"), "A")
	c := httpClient(t, 5*time.Second)
	for body, want := range map[string]bool{"four": true, "fives": false} {
		if _, err := publish(t.Context(), c, n.url(), "a", "", body); (err == nil) != want {
			t.Errorf("publishing %q: %v", body, err)
		}
	}
}

// searches looks for the trace of TestJaegerReadsBack in all ways.
func (j *jaeger) searches(id string) {
	if got, want := j.services(), []string{"edge", "shop"}; !slices.Equal(got, want) {
		j.t.Errorf("services: got %v, want %v", got, want)
	}
	if got, want := j.operations("edge"), []string{"deliver orders", "push sse", "push ws"}; !slices.Equal(got, want) {
		j.t.Errorf("operations: got %v, want %v", got, want)
	}
	j.awaitSearch(search{service: "edge", operation: "push sse"}, 1)
	for _, tt := range []struct {
		search search
		n      int
	}{
		{search{service: "edge"}, 1},
		{search{service: "edge", operation: "deliver orders", min: time.Millisecond}, 1},
		{search{service: "edge", operation: "deliver orders", min: 2 * time.Millisecond}, 0},
		{search{service: "edge", operation: "push ws", max: time.Millisecond}, 1},
		{search{service: "edge", tags: map[string]string{"transport": "ws"}}, 1},
		{search{service: "edge", tags: map[string]string{"transport": "sse"}}, 0},
		{search{service: "shop", operation: "deliver orders"}, 0},
	} {
		if got := j.search(tt.search); len(got) != tt.n || tt.n > 0 && got[0].ID != id {
			j.t.Errorf("%+v finds %v, want %d traces", tt.search, got, tt.n)
		}
	}
}
