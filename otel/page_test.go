package otel

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The names follow the conventions of Prometheus and OpenMetrics.
func TestNames(t *testing.T) {
	pattern := regexp.MustCompile(`^sluice(_[a-z]+)+$`)
	seen := map[string]bool{}
	for i, r := range page {
		if !pattern.MatchString(r.name) || seen[r.name] || r.help == "" || !strings.HasSuffix(r.help, ".") {
			t.Errorf("%d: %q, %q", i, r.name, r.help)
		}
		seen[r.name] = true
		if total := strings.HasSuffix(r.name, "_total"); total != (r.kind == counter) {
			t.Errorf("%s is a %s", r.name, r.kind)
		}
		for ucum, unit := range baseUnits {
			if named := strings.HasSuffix(strings.TrimSuffix(r.name, "_total"), "_"+unit); named != (r.unit == ucum) {
				t.Errorf("%s has the unit %q", r.name, r.unit)
			}
		}
		if r.unit == "1" || baseUnits[r.unit] == "" && r.unit != "" && !regexp.MustCompile(`^\{[a-z]+\}$`).MatchString(r.unit) {
			t.Errorf("%s has the unit %q, which Prometheus would add to its name", r.name, r.unit)
		}
		if (r.layout != nil) != (r.kind == histogram) {
			t.Errorf("%s is a %s and has the layout %v", r.name, r.kind, r.layout)
		}
		for _, l := range r.labels {
			if slices.Contains([]string{"channel", "user", "subject", "token", "session", "address", "le"}, l) {
				t.Errorf("%s has the label %s", r.name, l)
			}
		}
	}
}

func TestRender(t *testing.T) {
	h1, h2 := QueueTime.Histogram(), QueueTime.Histogram()
	h1.Observe(5_000)
	h1.Observe(5_001)
	h2.Observe(70e9)
	p := NewPage(func(r *Readings) {
		r.Value(Channels, 3)
		r.Value(Repairs, 4)
		r.Histogram(QueueTime, []*Histogram{h1, h2}, "ws")
	})
	openMetrics := "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.1"
	for _, tt := range []struct{ accept, contentType, end string }{
		{"", "text/plain; version=0.0.4; ", ""},
		{"*/*", "text/plain; version=0.0.4; ", ""},
		{openMetrics, "application/openmetrics-text; version=1.0.0; ", "# EOF\n"},
	} {
		body, contentType, err := p.Render([]string{tt.accept})
		if err != nil || !strings.HasPrefix(contentType, tt.contentType) || !strings.HasSuffix(string(body), tt.end) {
			t.Errorf("%s: %s, %v", tt.accept, contentType, err)
		}
		for _, want := range []string{
			`sluice_queue_seconds_bucket{transport="ws",le="5e-06"} 1`,
			`sluice_queue_seconds_bucket{transport="ws",le="1e-05"} 2`,
			`sluice_queue_seconds_bucket{transport="ws",le="+Inf"} 3`,
			`sluice_queue_seconds_count{transport="ws"} 3`,
			`sluice_queue_seconds_sum{transport="ws"} 70.000010001`,
			`sluice_repairs_total 4`,
		} {
			if !strings.Contains(string(body), want) {
				t.Errorf("%s: %s is missing", tt.accept, want)
			}
		}
	}
	body, _, _ := p.Render([]string{openMetrics})
	if n := strings.Count(string(body), "# UNIT sluice_"); n != 1 || !strings.Contains(string(body), "\n# UNIT sluice_queue_seconds seconds\n") {
		t.Errorf("%d units in\n%s", n, body)
	}
	names := map[string]bool{}
	body, _, _ = p.Render(nil)
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (\w+)`).FindAllStringSubmatch(string(body), -1) {
		prefix, _, _ := strings.Cut(m[1], "_")
		names[prefix] = true
	}
	if got := slices.Sorted(maps.Keys(names)); !slices.Equal(got, []string{"go", "process", "sluice"}) {
		t.Errorf("got metrics of %q", got)
	}
}

// A source with a bug does not make a page that looks right.
func TestRenderFails(t *testing.T) {
	for name, s := range map[string]Source{
		"labels": func(r *Readings) { r.Value(Gaps, 1) },
		"twice":  func(r *Readings) { r.Value(Channels, 1); r.Value(Channels, 2) },
	} {
		if _, _, err := NewPage(s).Render(nil); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
