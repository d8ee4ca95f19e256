package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// prometheus is a Prometheus that scrapes nodes twice a second and knows the alerts of deploy/alerts.yaml.
type prometheus struct {
	t     *testing.T
	http  *http.Client
	url   string
	begin time.Time
}

// startPrometheus starts one that has the metrics of these nodes, and waits until it has scraped them all.
func startPrometheus(t *testing.T, nodes ...*node) *prometheus {
	t.Helper()
	path, err := exec.LookPath("prometheus")
	if err != nil {
		const help = "needs prometheus on the path (Debian: apt-get install prometheus)"
		if os.Getenv("SLUICE_REQUIRE_PROMETHEUS") == "1" {
			t.Fatal(help)
		}
		t.Skip(help)
	}
	dir := t.TempDir()
	alerts, err := filepath.Abs("../deploy/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var targets []string
	for _, n := range nodes {
		targets = append(targets, n.address("metrics are open"))
	}
	config, err := json.Marshal(map[string]any{ // JSON is YAML
		"global":         map[string]any{"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "500ms"},
		"rule_files":     []string{alerts},
		"scrape_configs": []any{map[string]any{"job_name": "sluice", "static_configs": []any{map[string]any{"targets": targets}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "prometheus.yaml")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		t.Fatal(err)
	}
	p := &prometheus{t: t, http: httpClient(t, 5*time.Second), begin: time.Now()}
	command := func(ports []int) *exec.Cmd {
		return exec.Command(path, "--config.file", file, "--storage.tsdb.path", filepath.Join(dir, strconv.Itoa(ports[0])),
			"--web.listen-address", fmt.Sprintf("127.0.0.1:%d", ports[0]), "--enable-feature", "exemplar-storage", "--log.level", "warn")
	}
	ports := startProcess(t, "prometheus", 1, command, func(ctx context.Context, ports []int) error {
		return answers(ctx, p.http, local(ports[0])+"/-/ready")
	})
	p.url = local(ports[0])
	until(t, startTime, "prometheus has scraped all nodes", func() bool {
		up := p.values(`up{job="sluice"} == 1`)
		return len(up) == len(nodes)
	})
	return p
}

// address returns the address in the log line with this message, once it is there.
func (n *node) address(msg string) (address string) {
	n.t.Helper()
	until(n.t, startTime, fmt.Sprintf("node %s says %q", n.name, msg), func() bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		for line := range strings.Lines(n.log.String()) {
			var l struct{ Msg, Address string }
			if json.Unmarshal([]byte(line), &l) == nil && l.Msg == msg {
				address = l.Address
			}
		}
		return address != ""
	})
	return address
}

// metrics returns the values of the node's metrics by name and labels.
func (n *node) metrics() map[string]float64 {
	n.t.Helper()
	_, page := get(n.t, "http://"+n.address("metrics are open")+"/metrics")
	all := map[string]float64{}
	for line := range strings.Lines(page) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if x, err := strconv.ParseFloat(value, 64); err == nil {
			all[name] = x
		}
	}
	return all
}

// sampled is one series of an answer: its labels, and its values from the start of Prometheus until now.
type sampled struct {
	labels map[string]string
	values []float64
}

// values evaluates an expression at many times since the start.
func (p *prometheus) values(expr string) (all []sampled) {
	p.t.Helper()
	var answer struct {
		Result []struct {
			Metric map[string]string
			Values [][2]any // time, value as text
		}
	}
	p.get("/api/v1/query_range", url.Values{"query": {expr}, "start": {at(p.begin)}, "end": {at(time.Now())}, "step": {"0.5"}}, &answer)
	for _, r := range answer.Result {
		s := sampled{labels: r.Metric}
		for _, v := range r.Values {
			text, _ := v[1].(string)
			f, err := strconv.ParseFloat(text, 64)
			if err != nil {
				p.t.Fatalf("prometheus: %s is %v", expr, v)
			}
			s.values = append(s.values, f)
		}
		all = append(all, s)
	}
	return all
}

// everNotZero reports whether one of the series had something to show at some time.
func everNotZero(all []sampled) bool {
	for _, s := range all {
		for _, v := range s.values {
			if v != 0 && !math.IsNaN(v) && !math.IsInf(v, 0) {
				return true
			}
		}
	}
	return false
}

// examples returns the exemplars of a metric: the labels that each has.
func (p *prometheus) examples(metric string) (all []map[string]string) {
	p.t.Helper()
	var answer []struct {
		Exemplars []struct{ Labels map[string]string }
	}
	p.get("/api/v1/query_exemplars", url.Values{"query": {metric}, "start": {at(p.begin)}, "end": {at(time.Now())}}, &answer)
	for _, series := range answer {
		for _, e := range series.Exemplars {
			all = append(all, e.Labels)
		}
	}
	return all
}

// at is a time as the API takes it.
func at(t time.Time) string { return strconv.FormatFloat(float64(t.UnixMilli())/1000, 'f', 3, 64) }

// ruleState is what Prometheus makes of an alert.
type ruleState struct {
	Name, Health, LastError, State string
	LastEvaluation                 time.Time
}

// rules returns all alerts.
func (p *prometheus) rules() (all []ruleState) {
	p.t.Helper()
	var answer struct{ Groups []struct{ Rules []ruleState } }
	p.get("/api/v1/rules", nil, &answer)
	for _, g := range answer.Groups {
		all = append(all, g.Rules...)
	}
	return all
}

// get asks the API and reads the data of its answer.
func (p *prometheus) get(path string, query url.Values, data any) {
	p.t.Helper()
	req, err := http.NewRequestWithContext(p.t.Context(), http.MethodGet, p.url+path+"?"+query.Encode(), nil)
	if err != nil {
		p.t.Fatal(err)
	}
	res, err := p.http.Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	var answer struct {
		Status, Error string
		Data          json.RawMessage
	}
	if err := json.Unmarshal(body, &answer); err != nil || answer.Status != "success" {
		p.t.Fatalf("prometheus: %s: %v: %s: %s", path, err, query.Get("query"), body)
	}
	if err := json.Unmarshal(answer.Data, data); err != nil {
		p.t.Fatalf("prometheus: %s: %v: %.200s", path, err, body)
	}
}
