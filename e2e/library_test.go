package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// libraryTime bounds the tests of one file under Node.
const libraryTime = 3 * time.Minute

// underNode runs tests of the client library, client/FILE.test.mjs, with Node's test runner, and variables of the environment (NAME=value).
// What they tell by the way is logged.
func underNode(t *testing.T, file string, env ...string) {
	t.Helper()
	missing := func(what, fix string) {
		t.Helper()
		if os.Getenv("SLUICE_REQUIRE_CLIENT") == "1" {
			t.Fatalf("SLUICE_REQUIRE_CLIENT=1 and no %s: %s", what, fix)
		}
		t.Skipf("no %s: %s", what, fix)
	}
	for _, command := range []string{"node", "npm"} {
		if _, err := exec.LookPath(command); err != nil {
			missing(command, "install Node 20 or newer, with npm")
		}
	}
	for _, module := range []string{"esbuild", "typescript"} {
		if _, err := os.Stat(filepath.Join("client", "node_modules", module)); err != nil {
			missing(module, "run npm ci in e2e/client, or ./test.sh, which does")
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), libraryTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", "--experimental-websocket", "--no-warnings", "--test", "--test-timeout=150000", "--test-reporter=spec", file+".test.mjs") // Node 20 has WebSocket by that flag only
	cmd.Dir, cmd.SysProcAttr, cmd.Env = "client", orphanless(), append(outside(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("node --test %s.test.mjs: %v\n%s", file, err, tail(string(out), 16<<10))
	}
	for _, line := range regexp.MustCompile(`(?m)^ℹ .*$`).FindAllString(string(out), -1) {
		if !regexp.MustCompile(`^ℹ (tests|suites|pass|fail|cancelled|todo|duration_ms) `).MatchString(line) && line != "ℹ skipped 0" {
			t.Log(strings.TrimPrefix(line, "ℹ "))
		}
	}
}

// TestClientPackage packs the client library as npm would, and installs, imports, bundles and type-checks it.
func TestClientPackage(t *testing.T) { underNode(t, "package") }

// TestClientSize holds the client library to its size.
func TestClientSize(t *testing.T) { underNode(t, "size") }

// TestClientReadsGolden feeds the client library with the golden frames of the encoder.
func TestClientReadsGolden(t *testing.T) { underNode(t, "golden") }

// clientSettings are of the node that the tests of the client library listen to.
const clientSettings = `
channels:
  - match: "open.short.*"
    access: public
    publish: clients
    history: {messages: 3, age: 5m}
  - match: "open.*"
    access: public
    publish: clients
  - match: "room.*"
    access: signed
  - match: "news.*"
    publish: clients
`

// TestClientLibrary has the client library listen and publish, show tokens, and come back, over each transport.
func TestClientLibrary(t *testing.T) {
	i := newIssuer(t)
	n := i.startGuarded("A", "--config", settingsFile(t, clientSettings), "--jwt-leeway", "0s")
	for _, file := range []string{"listen", "access", "network"} {
		t.Run(file, func(t *testing.T) { underNode(t, file, "SLUICE_NODE="+n.url(), "SLUICE_SECRET="+i.secret) })
	}
}
