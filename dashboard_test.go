package main

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sluice/otel"
)

// dashboard is what the tests read of Grafana's JSON.
type dashboard struct {
	UID           string
	Title         string
	SchemaVersion int
	Templating    struct {
		List []struct {
			Name, Type, Definition string
			Datasource             *source
		}
	}
	Panels []panel
}

type panel struct {
	ID                       int
	Type, Title, Description string
	Datasource               *source
	GridPos                  struct{ X, Y, W, H int }
	Targets                  []struct {
		RefID, Expr, LegendFormat string
		Datasource                *source
	}
}

type source struct{ Type, UID string }

const dashboardFile = "deploy/grafana/dashboards/sluice.json"

func readDashboard(t *testing.T) *dashboard {
	t.Helper()
	text, err := os.ReadFile(dashboardFile)
	if err != nil {
		t.Fatal(err)
	}
	d := new(dashboard)
	if err := json.Unmarshal(text, d); err != nil {
		t.Fatal(err)
	}
	return d
}

// anySource is the data source that the viewer chooses.
var anySource = source{"prometheus", "${datasource}"}

// TestDashboardShape: Grafana takes it, wherever it is imported, and no panel hides another one.
func TestDashboardShape(t *testing.T) {
	d := readDashboard(t)
	if d.UID != "sluice" || d.Title == "" || d.SchemaVersion < 39 {
		t.Errorf("uid %q, title %q, schema %d", d.UID, d.Title, d.SchemaVersion)
	}
	ids, cells := map[int]bool{}, map[[2]int]string{}
	for _, p := range d.Panels {
		if p.ID <= 0 || ids[p.ID] {
			t.Errorf("%q has the id %d, which is another one's, too", p.Title, p.ID)
		}
		ids[p.ID] = true
		if g := p.GridPos; g.X < 0 || g.W < 1 || g.X+g.W > 24 || g.H < 1 {
			t.Errorf("%q is at %+v of 24 columns", p.Title, g)
		}
		for x := range p.GridPos.W {
			for y := range p.GridPos.H {
				cell := [2]int{p.GridPos.X + x, p.GridPos.Y + y}
				if over := cells[cell]; over != "" {
					t.Fatalf("%q lies over %q", p.Title, over)
				}
				cells[cell] = p.Title
			}
		}
		if p.Type == "row" {
			continue
		}
		if p.Title == "" || p.Description == "" || len(p.Targets) == 0 || p.Datasource == nil || *p.Datasource != anySource {
			t.Errorf("panel %d, %q: it needs a title, a description, a query, and the data source that was chosen", p.ID, p.Title)
		}
		refs := map[string]bool{}
		for _, q := range p.Targets {
			if q.RefID == "" || refs[q.RefID] || q.Datasource == nil || *q.Datasource != anySource {
				t.Errorf("%q: query %q of the data source %+v", p.Title, q.RefID, q.Datasource)
			}
			refs[q.RefID] = true
		}
	}
	var names []string
	for _, v := range d.Templating.List {
		names = append(names, v.Name+" "+v.Type)
		if v.Type == "query" && (*v.Datasource != anySource || !series()[regexp.MustCompile(`sluice_\w+`).FindString(v.Definition)]) {
			t.Errorf("variable %s: %s of %v", v.Name, v.Definition, v.Datasource)
		}
	}
	if want := []string{"datasource datasource", "instance query"}; !slices.Equal(names, want) {
		t.Errorf("variables: got %q, want %q", names, want)
	}
}

// TestDashboardQueries: each panel asks for metrics and labels that there are, of the nodes that were chosen.
func TestDashboardQueries(t *testing.T) {
	exists := series()
	exists["ALERTS"] = true
	labels := map[string]bool{"instance": true, "le": true, "alertname": true, "alertstate": true, "quantile": true}
	for _, i := range otel.Instruments() {
		for _, l := range i.Labels() {
			labels[l] = true
		}
	}
	placeholder := regexp.MustCompile(`{{(\w+)}}`)
	filled := strings.NewReplacer("$__rate_interval", "1m", "$__range", "1h", "$instance", ".*")
	var queries []string
	for _, p := range readDashboard(t).Panels {
		for _, q := range p.Targets {
			metrics, asked := namesIn(q.Expr)
			if len(metrics) == 0 {
				t.Errorf("%q asks for no metric: %s", p.Title, q.Expr)
			}
			for _, m := range metrics {
				if !exists[m] && !strings.HasPrefix(m, "go_") && !strings.HasPrefix(m, "process_") {
					t.Errorf("%q: there is no %s", p.Title, m)
				}
			}
			for _, m := range placeholder.FindAllStringSubmatch(q.LegendFormat, -1) {
				asked = append(asked, m[1])
			}
			for _, l := range asked {
				if !labels[l] {
					t.Errorf("%q: there is no label %s", p.Title, l)
				}
			}
			if selectors := strings.Count(q.Expr, "{"); metrics[0] != "ALERTS" && strings.Count(q.Expr, `instance=~"$instance"`) != selectors {
				t.Errorf("%q heeds the chosen nodes in some places only: %s", p.Title, q.Expr)
			}
			queries = append(queries, filled.Replace(q.Expr))
		}
	}
	checkQueries(t, queries)
}

var (
	matchers  = regexp.MustCompile(`\{[^}]*\}`)
	matcher   = regexp.MustCompile(`(\w+)\s*(?:=~|!~|!=|=)\s*"[^"]*"`)
	groupings = regexp.MustCompile(`\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)`)
	ranges    = regexp.MustCompile(`\[[^\]]*\]`)
	word      = regexp.MustCompile(`\b([a-zA-Z_:][\w:]*)\s*(\(?)`)
)

// namesIn returns the metrics and the labels that a PromQL expression names.
func namesIn(expr string) (metrics, labels []string) {
	for _, m := range matcher.FindAllStringSubmatch(expr, -1) {
		labels = append(labels, m[1])
	}
	for _, m := range groupings.FindAllStringSubmatch(expr, -1) {
		for l := range strings.SplitSeq(m[1], ",") {
			labels = append(labels, strings.TrimSpace(l))
		}
	}
	for _, rest := range []*regexp.Regexp{matchers, groupings, ranges} {
		expr = rest.ReplaceAllString(expr, "")
	}
	for _, m := range word.FindAllStringSubmatch(expr, -1) {
		operator := slices.Contains([]string{"and", "or", "unless", "bool", "offset"}, m[1])
		if function := m[2] == "("; !function && !operator {
			metrics = append(metrics, m[1])
		}
	}
	return metrics, labels
}
