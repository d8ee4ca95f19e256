package main

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/broker/redistest"
	"sluice/otel"
)

// TestMetricsManual: docs/observability.md lists the metrics that there are, with their types and labels, and no other.
func TestMetricsManual(t *testing.T) {
	text, err := os.ReadFile("docs/observability.md")
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile("(?m)^\\| `(sluice_\\w+)` \\| (\\w+) \\| ([^|]*?) ?\\| ([^|\n]+) \\|$")
	listed := map[string]bool{}
	for _, m := range row.FindAllStringSubmatch(string(text), -1) {
		if listed[m[1]] {
			t.Errorf("%s is listed twice", m[1])
		}
		listed[m[1]] = true
		i := slices.IndexFunc(otel.Instruments(), func(i otel.Instrument) bool { return i.Name() == m[1] })
		if i < 0 {
			t.Errorf("%s is listed and does not exist", m[1])
			continue
		}
		is := otel.Instruments()[i]
		if labels := strings.Join(is.Labels(), ", "); m[2] != is.Kind() || m[3] != labels {
			t.Errorf("%s is listed as a %s with the labels %q; it is a %s with %q", m[1], m[2], m[3], is.Kind(), labels)
		}
	}
	for _, i := range otel.Instruments() {
		if !listed[i.Name()] {
			t.Errorf("%s is not listed: %s", i.Name(), i.Help())
		}
	}
}

// series returns the names of all series that a node tells of itself.
func series() map[string]bool {
	exists := map[string]bool{}
	for _, i := range otel.Instruments() {
		exists[i.Name()] = true
		if i.Kind() == "histogram" {
			for _, end := range []string{"_bucket", "_sum", "_count"} {
				exists[i.Name()+end] = true
			}
		}
	}
	return exists
}

// TestMetricsNamed: queries and alerts ask for metrics that there are, and every alert is in the manual.
func TestMetricsNamed(t *testing.T) {
	exists := series()
	name := regexp.MustCompile(`\bsluice_\w+`)
	manual, err := os.ReadFile("docs/observability.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"docs/observability.md", "deploy/alerts.yaml", "deploy/alerts.test.yaml"} {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range name.FindAllString(string(text), -1) {
			if !exists[n] {
				t.Errorf("%s: there is no %s", path, n)
			}
		}
		for _, m := range regexp.MustCompile(`alert: (\w+)`).FindAllStringSubmatch(string(text), -1) {
			if !strings.Contains(string(manual), "| "+m[1]+" |") {
				t.Errorf("the alert %s is not in the manual", m[1])
			}
		}
	}
}

// promtool runs Prometheus' tool with standard input.
func promtool(t *testing.T, input string, args ...string) {
	t.Helper()
	path, err := exec.LookPath("promtool")
	if err != nil {
		const help = "needs promtool on the path (Debian: apt-get install prometheus)"
		if os.Getenv("SLUICE_REQUIRE_PROMTOOL") == "1" {
			t.Fatal(help)
		}
		t.Skip(help)
	}
	c := exec.CommandContext(t.Context(), path, args...)
	c.Stdin = strings.NewReader(input)
	if out, err := c.CombinedOutput(); err != nil || strings.Contains(string(out), "FAILED") {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func TestAlerts(t *testing.T) {
	promtool(t, "", "check", "rules", filepath.Join("deploy", "alerts.yaml"))
	promtool(t, "", "test", "rules", filepath.Join("deploy", "alerts.test.yaml"))
}

// TestMetricsQueries: what the manual suggests to ask can be asked.
func TestMetricsQueries(t *testing.T) {
	manual, err := os.ReadFile("docs/observability.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(manual), "```promql\n")
	block, _, _ := strings.Cut(rest, "```")
	var queries []string
	for line := range strings.Lines(block) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			queries = append(queries, line)
		}
	}
	checkQueries(t, queries)
}

// checkQueries: promtool takes them. There must be some.
func checkQueries(t *testing.T, queries []string) {
	t.Helper()
	if len(queries) == 0 {
		t.Fatal("there are no queries")
	}
	rules := "groups: [{name: queries, rules: ["
	for n, q := range queries {
		rules += fmt.Sprintf("\n  {record: 'query%d', expr: '%s'},", n, q)
	}
	path := filepath.Join(t.TempDir(), "queries.yaml")
	if err := os.WriteFile(path, []byte(rules+"\n]}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, "", "check", "rules", path)
}

// TestMetricsServed: a node on Redis tells every metric of the page, in a form that promtool finds nothing against.
func TestMetricsServed(t *testing.T) {
	r := redistest.Start(t)
	n := startNode(t, "--dev", "--redis", r.URL(), "--metrics", "127.0.0.1:0")
	base := "http://" + n.metrics.addr().String()
	begin := time.Now()
	var body string
	for {
		var status int
		if status, body = get(t, http.DefaultClient, base+"/metrics"); status != http.StatusOK {
			t.Fatalf("got %d %s", status, body)
		}
		if strings.Contains(body, "\nsluice_ready 1\n") && strings.Contains(body, "\nsluice_redis_connected 1\n") &&
			strings.Contains(body, "\nsluice_clock_offset_seconds ") {
			break
		}
		if time.Since(begin) > patience {
			t.Fatalf("not ready within %v:\n%s", patience, body)
		}
	}
	for _, i := range otel.Instruments() {
		if i != otel.Drops && !strings.Contains(body, "# TYPE "+i.Name()+" "+i.Kind()+"\n") { // drops are there from the first on
			t.Errorf("%s is missing", i.Name())
		}
	}
	promtool(t, body, "check", "metrics")
	for _, tt := range []struct {
		method, path string
		status       int
	}{
		{"HEAD", "/metrics", 200}, {"POST", "/metrics", 405}, {"GET", "/", 404}, {"GET", "/metrics/", 404},
	} {
		req, err := http.NewRequestWithContext(t.Context(), tt.method, base+tt.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != tt.status {
			t.Errorf("%s %s: got %d, want %d", tt.method, tt.path, res.StatusCode, tt.status)
		}
	}
	if status, _ := get(t, http.DefaultClient, n.base+"/metrics"); status != http.StatusNotFound {
		t.Errorf("the public address answers %d to /metrics", status)
	}
	r.Kill()
	begin = time.Now()
	for !strings.Contains(body, "\nsluice_ready 0\n") || !strings.Contains(body, "\nsluice_redis_connected 0\n") {
		if time.Since(begin) > patience {
			t.Fatalf("without redis it is ready %v later:\n%s", patience, body)
		}
		_, body = get(t, http.DefaultClient, base+"/metrics")
	}
}

func TestMetricsOff(t *testing.T) {
	n := startNode(t, "--dev")
	if n.metrics != nil || n.metrics.addr() != nil {
		t.Error("metrics are on without an address")
	}
}

func TestMetricsPortTaken(t *testing.T) {
	n := startNode(t)
	_, errs, code := shell(t, "", "--listen=127.0.0.1:0", "--metrics", n.Addr().String())
	if code != exitError || !strings.Contains(errs, "metrics ("+n.Addr().String()+"): ") {
		t.Errorf("exit code %d, %s", code, errs)
	}
	_, errs, code = shell(t, "", "--metrics=9464")
	if code != exitUsage || !strings.Contains(errs, "127.0.0.1:9464") {
		t.Errorf("exit code %d, %s", code, errs)
	}
}
