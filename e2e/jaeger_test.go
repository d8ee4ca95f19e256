package e2e

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"
)

// jaeger is a Jaeger that takes spans by OTLP and is asked for them by its API. Everything is in its memory.
type jaeger struct {
	t     *testing.T
	http  *http.Client
	query string // base of its API
	otlp  string // endpoint for OTLP over HTTP
	grpc  string // endpoint for OTLP over gRPC
}

// traceTime bounds how long spans may take from their end until they can be read: they are sent in batches.
const traceTime = 20 * time.Second

// startJaeger starts a Jaeger that moves spans by at most clockSkew to have children of other hosts lie within their
// parents; 0 leaves them where they were, which is Jaeger's default. The binary is $SLUICE_JAEGER.
func startJaeger(t *testing.T, clockSkew time.Duration) *jaeger {
	t.Helper()
	path := jaegerBinary(t)
	j := &jaeger{t: t, http: httpClient(t, traceTime)}
	names := []string{"QUERY", "OTLP_HTTP", "OTLP_GRPC", "QUERY_GRPC", "HEALTH"}
	command := func(ports []int) *exec.Cmd {
		cmd := exec.Command(path, "--config", "file:jaeger/config.yaml")
		cmd.Env = []string{
			"HOME=" + os.Getenv("HOME"),
			"OTEL_TRACES_SAMPLER=always_off", // or it traces itself
			"JAEGER_CLOCK_SKEW=" + clockSkew.String(),
		}
		for i, name := range names {
			cmd.Env = append(cmd.Env, fmt.Sprintf("JAEGER_%s_PORT=%d", name, ports[i]))
		}
		return cmd
	}
	ports := startProcess(t, "jaeger", len(names), command, func(ctx context.Context, ports []int) error {
		if err := answers(ctx, j.http, local(ports[4])+"/status"); err != nil {
			return err
		}
		return answers(ctx, j.http, local(ports[0])+"/api/services")
	})
	j.query, j.otlp, j.grpc = local(ports[0]), local(ports[1]), local(ports[2])
	return j
}

func jaegerBinary(t *testing.T) string {
	t.Helper()
	if path := os.Getenv("SLUICE_JAEGER"); path != "" {
		return path
	}
	const help = "needs a Jaeger: SLUICE_JAEGER=$(e2e/jaeger/build.sh), or ./test.sh jaeger"
	if os.Getenv("SLUICE_REQUIRE_JAEGER") == "1" {
		t.Fatal(help)
	}
	t.Skip(help)
	return ""
}

// env returns the environment of a node that sends its spans here, soon and over HTTP.
func (j *jaeger) env(more ...string) []string {
	return append([]string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + j.otlp, "OTEL_BSP_SCHEDULE_DELAY=50"}, more...)
}

// services returns the names of all services that have sent spans, sorted.
func (j *jaeger) services() []string {
	j.t.Helper()
	var names []string
	j.get("/api/services", nil, &names)
	slices.Sort(names)
	return names
}

// operations returns the names of all spans of a service, sorted.
func (j *jaeger) operations(service string) []string {
	j.t.Helper()
	var names []string
	j.get("/api/services/"+url.PathEscape(service)+"/operations", nil, &names)
	slices.Sort(names)
	return names
}

// trace returns a trace by its id in hexadecimal digits, nil if nothing is known of it.
func (j *jaeger) trace(id string) *trace {
	j.t.Helper()
	var found []*trace
	if !j.get("/api/traces/"+id, nil, &found) || len(found) == 0 {
		return nil
	}
	return found[0].prepare(j.t)
}

// search is what the form of Jaeger's user interface asks for: traces with a span to which all of this applies.
type search struct {
	service   string // has to be there
	operation string
	tags      map[string]string
	min, max  time.Duration // of the span; 0: any
	limit     int           // of traces; 0: 100
}

// search returns traces, the newest first.
func (j *jaeger) search(s search) []*trace {
	j.t.Helper()
	q := url.Values{"service": {s.service}, "lookback": {"1h"}, "limit": {fmt.Sprint(cmp.Or(s.limit, 100))}}
	if s.operation != "" {
		q.Set("operation", s.operation)
	}
	if len(s.tags) > 0 {
		tags, err := json.Marshal(s.tags)
		if err != nil {
			j.t.Fatal(err)
		}
		q.Set("tags", string(tags))
	}
	if s.min > 0 {
		q.Set("minDuration", s.min.String())
	}
	if s.max > 0 {
		q.Set("maxDuration", s.max.String())
	}
	var found []*trace
	j.get("/api/traces", q, &found)
	for _, tr := range found {
		tr.prepare(j.t)
	}
	slices.SortFunc(found, func(a, b *trace) int { return b.begin().Compare(a.begin()) })
	return found
}

// await returns the trace once enough of it has come; see hasSpans and hasNames.
func (j *jaeger) await(id string, enough func(*trace) bool) *trace {
	j.t.Helper()
	again := time.NewTicker(25 * time.Millisecond)
	defer again.Stop()
	for begin := time.Now(); ; <-again.C {
		tr := j.trace(id)
		if tr != nil && enough(tr) {
			return tr
		}
		if time.Since(begin) > traceTime {
			j.t.Fatalf("trace %s is not whole within %v:\n%v", id, traceTime, tr)
		}
	}
}

// awaitSearch returns what the search finds, once it is n traces at least.
func (j *jaeger) awaitSearch(s search, n int) []*trace {
	j.t.Helper()
	var found []*trace
	until(j.t, traceTime, fmt.Sprintf("%d traces are found by %+v", n, s), func() bool {
		found = j.search(s)
		return len(found) >= n
	})
	return found
}

// hasSpans is enough for await when there are so many spans.
func hasSpans(n int) func(*trace) bool {
	return func(tr *trace) bool { return len(tr.Spans) >= n }
}

// hasNames is enough for await when there are spans of these names, as often as they are listed.
func hasNames(names ...string) func(*trace) bool {
	return func(tr *trace) bool {
		want := map[string]int{}
		for _, name := range names {
			want[name]++
		}
		for name, n := range want {
			if len(tr.named(name)) < n {
				return false
			}
		}
		return true
	}
}

// get asks the API and reads the data of its answer; false: it knows nothing of that.
func (j *jaeger) get(path string, query url.Values, data any) bool {
	j.t.Helper()
	address := j.query + path
	if len(query) > 0 {
		address += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(j.t.Context(), http.MethodGet, address, nil)
	if err != nil {
		j.t.Fatal(err)
	}
	res, err := j.http.Do(req)
	if err != nil {
		j.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		j.t.Fatal(err)
	}
	switch res.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound:
		return false
	default:
		j.t.Fatalf("jaeger: %s: %s: %s", address, res.Status, body)
	}
	var answer struct{ Data json.RawMessage }
	if err := json.Unmarshal(body, &answer); err != nil {
		j.t.Fatalf("jaeger: %s: %v: %.200s", address, err, body)
	}
	if err := json.Unmarshal(answer.Data, data); err != nil {
		j.t.Fatalf("jaeger: %s: %v: %.200s", address, err, body)
	}
	return true
}
