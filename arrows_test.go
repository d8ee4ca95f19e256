package main

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// arrows says which packages of this module each of its packages may import. It is the map of the
// house: a package that is not on it has no place in it, and a new arrow is drawn here first.
//
// Main wires everything. A transport carries messages and knows the broker's words, never how they
// are kept; a backend keeps them and never learns who listens. Tests may import what they like, and
// bench/ is a module of its own.
var arrows = map[string]struct {
	to  []string // "*" is everything
	why string
}{
	"sluice":                    {[]string{"*"}, "main wires the parts"},
	"sluice/broker":             {[]string{"sluice/otel"}, "the core: what a message is and who gets it; it needs nobody but the tracer"},
	"sluice/broker/backendtest": {[]string{"sluice/broker"}, "the contract of backends, for their tests"},
	"sluice/broker/memory":      {[]string{"sluice/broker"}, "a backend knows the contract and no other backend"},
	"sluice/broker/redis":       {[]string{"sluice/broker", "sluice/otel"}, "a backend knows the contract and no other backend"},
	"sluice/broker/redistest":   {nil, "runs redis-server for tests"},
	"sluice/middleware":         {[]string{"sluice/broker"}, "delivery stages speak of messages; request middleware of nothing here"},
	"sluice/middleware/auth":    {[]string{"sluice/broker"}, "who may do what; it knows channel names, no sockets and no messages"},
	"sluice/otel":               {nil, "what a node tells about itself knows nobody, so that everybody may know it"},
	"sluice/otel/oteltest":      {nil, "a collector for tests; it takes what any program exports"},
	"sluice/static":             {nil, "embedded files"},
	"sluice/transport":          {[]string{"sluice/broker", "sluice/middleware", "sluice/middleware/auth", "sluice/otel", "sluice/static", "sluice/transport/wsframe"}, "sockets in front of the broker; it mounts the request middleware and the page"},
	"sluice/transport/wsframe":  {nil, "RFC 6455 frames know nothing of Sluice"},
	"sluice/e2e":                {nil, "tests from outside know the program only as a process"},
	"sluice/e2e/evilproxy":      {nil, "a proxy for tests knows HTTP and nothing of Sluice"},
}

// strangers are imports that only some packages may have.
var strangers = []struct {
	prefix string // of the import path
	only   []string
	why    string
}{
	{"net/http", []string{"sluice", "sluice/transport", "sluice/middleware", "sluice/middleware/auth", "sluice/static", "sluice/otel/oteltest", "sluice/e2e/evilproxy"}, "broker and otel know no HTTP; a collector and a proxy, which only tests have, speak it"},
	{"github.com/labstack/echo", []string{"sluice", "sluice/transport", "sluice/middleware"}, "broker and otel know no HTTP"},
	{"github.com/gorilla/websocket", []string{"sluice", "sluice/transport"}, "WebSocket is the transport's"},
	{"github.com/redis/go-redis", []string{"sluice", "sluice/broker/redis", "sluice/broker/redistest"}, "Redis is behind one contract; main only silences the library's own log"},
	{"go.opentelemetry.io/otel", []string{"sluice/otel"}, "every span and instrument is made in one place"},
	{"go.opentelemetry.io/proto", []string{"sluice/otel/oteltest"}, "only a collector reads what was exported"},
	{"github.com/prometheus", []string{"sluice/otel"}, "every span and instrument is made in one place"},
}

// listed is what go list says of a package; tests do not count.
type listed struct {
	ImportPath string
	Imports    []string
	Deps       []string
}

func TestArrows(t *testing.T) {
	for _, p := range listPackages(t) {
		rule, known := arrows[p.ImportPath]
		if !known {
			t.Errorf("%s is not in the table of arrows: say what it may import, and why", p.ImportPath)
			continue
		}
		for _, to := range p.Imports {
			if under(to, "sluice") && !slices.Contains(rule.to, "*") && !slices.Contains(rule.to, to) {
				t.Errorf("%s imports %s and may import only %v: %s", p.ImportPath, to, rule.to, rule.why)
			}
			for _, s := range strangers {
				if under(to, s.prefix) && !slices.Contains(s.only, p.ImportPath) {
					t.Errorf("%s imports %s, which only %v may: %s", p.ImportPath, to, s.only, s.why)
				}
			}
		}
		for _, d := range p.Deps { // transports know no Redis, through others neither
			if p.ImportPath == "sluice/transport" && under(d, "github.com/redis/go-redis") {
				t.Errorf("%s depends on %s; only main brings the two together", p.ImportPath, d)
			}
		}
	}
}

// under reports whether an import path is root or below it.
func under(path, root string) bool { return path == root || strings.HasPrefix(path, root+"/") }

func listPackages(t *testing.T) (all []listed) {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports,Deps", "./...").Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("go list: %v\n%s", err, exit.Stderr)
		}
		t.Fatal(err)
	}
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}
