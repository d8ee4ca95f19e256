package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// composition is what the tests read of deploy/compose.yaml.
type composition struct {
	Services map[string]struct {
		Profiles    []string
		Image       string
		Command     []string
		Environment map[string]string
		Ports       []string
		Volumes     []string
	}
	Volumes map[string]any
}

// readYAML reads a file of deploy/; fields that v does not have are skipped.
func readYAML(t *testing.T, path string, v any) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("deploy", path))
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, v); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

// TestComposition: what it mounts is there, its images are of a version, only this machine reaches it, and without
// a profile it is a node and its Redis.
func TestComposition(t *testing.T) {
	var c composition
	readYAML(t, "compose.yaml", &c)
	profiles := map[string][]string{}
	for name, s := range c.Services {
		profile := strings.Join(s.Profiles, " ")
		profiles[profile] = append(profiles[profile], name)
		if s.Image != "" && !regexp.MustCompile(`^[\w./-]+:v?\d[\w.-]*$`).MatchString(s.Image) {
			t.Errorf("%s: the image %s has no version", name, s.Image)
		}
		for _, p := range s.Ports {
			if !strings.HasPrefix(p, "127.0.0.1:") {
				t.Errorf("%s: others than this machine reach port %s", name, p)
			}
		}
		for _, v := range s.Volumes {
			from, to, _ := strings.Cut(v, ":")
			_, known := c.Volumes[from]
			if strings.HasPrefix(from, "./") {
				_, err := os.Stat(filepath.Join("deploy", from))
				known = err == nil && strings.HasSuffix(to, ":ro")
			}
			if !known {
				t.Errorf("%s: mounts %s, which is not there, or may be written", name, v)
			}
		}
	}
	for _, names := range profiles {
		slices.Sort(names)
	}
	for profile, want := range map[string][]string{"": {"redis", "sluice"}, "metrics": {"grafana", "prometheus"}, "tracing": {"jaeger"}} {
		if !slices.Equal(profiles[profile], want) {
			t.Errorf("profile %q: got %q, want %q", profile, profiles[profile], want)
		}
	}
	for name, value := range c.Services["sluice"].Environment {
		if strings.HasPrefix(name, envPrefix) && !slices.ContainsFunc(settings(), func(s setting) bool { return s.env() == name }) {
			t.Errorf("sluice: there is no setting %s=%s", name, value)
		}
	}
}

// scraping is what the tests read of deploy/prometheus.yaml.
type scraping struct {
	Global map[string]string
	Jobs   []struct {
		Name    string                       `yaml:"job_name"`
		Targets []struct{ Targets []string } `yaml:"static_configs"`
	} `yaml:"scrape_configs"`
}

// TestPrometheusFindsNode: it asks the node where that tells, and the node is told where Jaeger listens.
func TestPrometheusFindsNode(t *testing.T) {
	var c composition
	readYAML(t, "compose.yaml", &c)
	promtool(t, "", "check", "config", filepath.Join("deploy", "prometheus.yaml"))
	var p scraping
	readYAML(t, "prometheus.yaml", &p)
	_, port, _ := strings.Cut(c.Services["sluice"].Environment["SLUICE_METRICS"], ":")
	if len(p.Jobs) != 1 || p.Jobs[0].Name != "sluice" || !slices.Equal(p.Jobs[0].Targets[0].Targets, []string{"sluice:" + port}) {
		t.Errorf("prometheus asks %+v, the node tells at port %s", p.Jobs, port)
	}
	text, err := os.ReadFile(filepath.Join("deploy", "compose.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://jaeger:4318 ", `"127.0.0.1:4318:4318"`, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://127.0.0.1:4318/v1/traces\n"} {
		if !strings.Contains(string(text), at) {
			t.Errorf("compose.yaml does not say %q", at)
		}
	}
}

// TestGrafanaFindsAll: it asks Prometheus and Jaeger where they are, points lead to traces, and the dashboard is where it looks.
func TestGrafanaFindsAll(t *testing.T) {
	var c composition
	readYAML(t, "compose.yaml", &c)
	var p scraping
	readYAML(t, "prometheus.yaml", &p)
	var g struct {
		Sources []struct {
			UID, Type, URL string
			JSON           struct {
				Interval string `yaml:"timeInterval"`
				Traces   []struct {
					UID string `yaml:"datasourceUid"`
					URL string
				} `yaml:"exemplarTraceIdDestinations"`
			} `yaml:"jsonData"`
		} `yaml:"datasources"`
	}
	readYAML(t, "grafana/provisioning/datasources/sluice.yaml", &g)
	at := map[string]string{"prometheus": "http://prometheus:9090", "jaeger": "http://jaeger:16686"}
	for _, s := range g.Sources {
		if s.URL != at[s.UID] || s.Type != s.UID {
			t.Errorf("grafana asks %s of the type %s for %s", s.URL, s.Type, s.UID)
		}
		if s.Type == "prometheus" && (s.JSON.Interval != p.Global["scrape_interval"] || len(s.JSON.Traces) == 0) {
			t.Errorf("grafana thinks that prometheus asks every %s, it is %s", s.JSON.Interval, p.Global["scrape_interval"])
		}
		for _, to := range s.JSON.Traces {
			if at[to.UID] == "" && to.URL != "http://127.0.0.1:16686/trace/$${__value.raw}" {
				t.Errorf("points lead to %+v, where no traces are", to)
			}
		}
	}
	if len(g.Sources) != len(at) {
		t.Errorf("grafana has %d data sources, want %d", len(g.Sources), len(at))
	}
	var d struct {
		Providers []struct{ Options struct{ Path string } }
	}
	readYAML(t, "grafana/provisioning/dashboards/sluice.yaml", &d)
	path := d.Providers[0].Options.Path
	if s := c.Services["grafana"]; !slices.Contains(s.Volumes, "./grafana/dashboards:"+path+":ro") || s.Environment["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"] != path+"/sluice.json" {
		t.Errorf("grafana looks for dashboards in %s, where none are mounted, or begins with another one", path)
	}
}
