package static

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// pages are the pages that there are: each with all of its files, and the scripts that look for elements on it.
var pages = []struct {
	file    string
	assets  []asset
	paths   func() []string
	handler http.Handler
	scripts []string
}{
	{"index.html", assets[:], Paths, Handler(), []string{"demo.js", "demo-edge.js", "firehose.js"}},
	{"admin.html", adminAssets[:], AdminPaths, Admin(), []string{"admin.js"}},
}

func serve(t *testing.T) *httptest.Server { return serveBy(t, Handler()) }

func serveBy(t *testing.T, h http.Handler) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

// ask sends a request whose path is exactly target: no client cleans or encodes it on the way.
func ask(t *testing.T, s *httptest.Server, method, target string, header ...string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequest(method, s.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.URL.Opaque = "//" + r.URL.Host + target
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(body)
}

func TestServesEveryAsset(t *testing.T) {
	for _, page := range pages {
		t.Run(page.file, func(t *testing.T) { servesEveryAsset(t, serveBy(t, page.handler), page.assets) })
	}
}

func servesEveryAsset(t *testing.T, s *httptest.Server, assets []asset) {
	types := map[string]string{
		".html": "text/html; charset=utf-8",
		".css":  "text/css; charset=utf-8",
		".js":   "text/javascript; charset=utf-8",
		".svg":  "image/svg+xml",
	}
	for _, a := range assets {
		want, err := os.ReadFile(a.file)
		if err != nil {
			t.Fatal(err)
		}
		res, body := ask(t, s, "GET", a.path)
		if res.StatusCode != 200 || body != string(want) {
			t.Errorf("GET %s: got %d with %d bytes, want 200 with the %d bytes of %s", a.path, res.StatusCode, len(body), len(want), a.file)
		}
		if got, want := res.Header.Get("Content-Type"), types[filepath.Ext(a.file)]; got != want {
			t.Errorf("GET %s: Content-Type %q, want %q", a.path, got, want)
		}
		if got := res.Header.Get("Cache-Control"); got != "no-cache" {
			t.Errorf("GET %s: Cache-Control %q, want no-cache", a.path, got)
		}

		head, empty := ask(t, s, "HEAD", a.path)
		if head.StatusCode != 200 || empty != "" || head.ContentLength != int64(len(want)) {
			t.Errorf("HEAD %s: got %d, length %d, body %q", a.path, head.StatusCode, head.ContentLength, empty)
		}

		etag := res.Header.Get("ETag")
		again, empty := ask(t, s, "GET", a.path, "If-None-Match", etag)
		if etag == "" || again.StatusCode != 304 || empty != "" || again.Header.Get("ETag") != etag {
			t.Errorf("GET %s with If-None-Match %s: got %d with %d bytes, want 304", a.path, etag, again.StatusCode, len(empty))
		}
		if stale, _ := ask(t, s, "GET", a.path, "If-None-Match", `"0000000000000000"`); stale.StatusCode != 200 {
			t.Errorf("GET %s with another ETag: got %d, want 200", a.path, stale.StatusCode)
		}
	}
}

func TestRefusesEverythingElse(t *testing.T) {
	s := serve(t)
	for _, c := range []struct {
		method, target string
		status         int
		why            string
	}{
		{"GET", "/index.html", 404, "the page has one address"},
		{"GET", "/static.go", 404, "source is not embedded"},
		{"GET", "/demo.js/", 404, "no directories"},
		{"GET", "//demo.js", 404, "paths are matched, not cleaned"},
		{"GET", "/./demo.js", 404, "paths are matched, not cleaned"},
		{"GET", "/../static.go", 404, "traversal"},
		{"GET", "/x/../demo.js", 404, "traversal inside"},
		{"GET", "/%2e%2e/static.go", 404, "encoded dots"},
		{"GET", "/..%2f..%2fetc/passwd", 404, "encoded slashes"},
		{"GET", "/..%5c..%5cetc", 404, "backslashes"},
		{"GET", "/demo.js%00.html", 404, "NUL"},
		{"GET", "/DEMO.JS", 404, "names are case-sensitive"},
		{"GET", "/nothing", 404, "unknown"},
		{"POST", "/nothing", 404, "unknown, whatever the method"},
		{"POST", "/", 405, "only GET and HEAD"},
		{"DELETE", "/demo.js", 405, "only GET and HEAD"},
		{"OPTIONS", "/", 405, "only GET and HEAD"},
	} {
		res, body := ask(t, s, c.method, c.target)
		if res.StatusCode != c.status {
			t.Errorf("%s %s: got %d, want %d (%s)", c.method, c.target, res.StatusCode, c.status, c.why)
		}
		if c.status == 405 && res.Header.Get("Allow") != "GET, HEAD" {
			t.Errorf("%s %s: Allow %q", c.method, c.target, res.Header.Get("Allow"))
		}
		if strings.Contains(body, "package static") || res.Header.Get("ETag") != "" {
			t.Errorf("%s %s: a refusal looks like a file", c.method, c.target)
		}
	}
}

func TestEveryAnswerIsGuarded(t *testing.T) {
	s := serve(t)
	for _, c := range []struct{ method, target string }{{"GET", "/"}, {"HEAD", "/demo.js"}, {"GET", "/nothing"}, {"PUT", "/"}} {
		res, _ := ask(t, s, c.method, c.target)
		for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"} {
			if got := res.Header.Get(name); got != want {
				t.Errorf("%s %s: %s %q, want %q", c.method, c.target, name, got, want)
			}
		}
		csp := res.Header.Get("Content-Security-Policy")
		for _, want := range []string{"default-src 'none'", "script-src 'self';", "style-src 'self';", "connect-src 'self';", "frame-ancestors 'none'", "base-uri 'none'"} {
			if !strings.Contains(csp, want) {
				t.Errorf("%s %s: the policy has no %s: %s", c.method, c.target, want, csp)
			}
		}
		if strings.Contains(csp, "unsafe") || strings.Contains(csp, "*") || strings.Contains(csp, "http") {
			t.Errorf("%s %s: the policy lets something else in: %s", c.method, c.target, csp)
		}
	}
}

func TestPathsAreWhatHandlerServes(t *testing.T) {
	for _, page := range pages {
		s, paths := serveBy(t, page.handler), page.paths()
		if !slices.IsSorted(paths) || !slices.Contains(paths, "/") || len(paths) != len(page.assets) {
			t.Errorf("got %q", paths)
		}
		for _, p := range paths {
			if res, _ := ask(t, s, "GET", p); res.StatusCode != 200 {
				t.Errorf("GET %s: got %d, want 200", p, res.StatusCode)
			}
		}
	}
	if res, _ := ask(t, serve(t), "GET", "/admin.js"); res.StatusCode != 404 {
		t.Errorf("where clients connect, the operators' page is there: %d", res.StatusCode)
	}
	paths := Paths()
	paths[0] = "/changed"
	if Paths()[0] == "/changed" {
		t.Error("the caller can change the list")
	}
}

// The policy turns inline code and foreign resources into errors in the console; this turns them
// into errors here.
func TestPageKeepsToItsPolicy(t *testing.T) {
	for _, page := range pages {
		t.Run(page.file, func(t *testing.T) { keepsToItsPolicy(t, page.file, page.assets, page.paths()) })
	}
}

func keepsToItsPolicy(t *testing.T, file string, assets []asset, paths []string) {
	page := read(t, file)
	paths = append(paths, ClientPaths()...) // which every node has
	for _, c := range []struct{ pattern, why string }{
		{`<script[^>]*>[^<]`, "inline script"},
		{`<style`, "inline style"},
		{`\sstyle\s*=`, "style attribute"},
		{`\son[a-z]+\s*=`, "event handler attribute"},
		{`javascript:`, "script URL"},
		{`(src|href|action)\s*=\s*"(https?:)?//`, "foreign resource"},
	} {
		if m := regexp.MustCompile(c.pattern).FindString(page); m != "" {
			t.Errorf("%s has %q: %s", file, m, c.why)
		}
	}
	for _, m := range regexp.MustCompile(`(?:src|href)="([^"]+)"`).FindAllStringSubmatch(page, -1) {
		if !slices.Contains(paths, "/"+m[1]) {
			t.Errorf("%s asks for %s, which is not served", file, m[1])
		}
	}
	sinks := regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser|setHTML`)
	for _, a := range assets {
		if filepath.Ext(a.file) != ".js" {
			continue
		}
		script := read(t, a.file)
		if m := sinks.FindString(script); m != "" {
			t.Errorf("%s uses %s: payloads must reach the page as text only", a.file, m)
		}
		for _, m := range regexp.MustCompile(`(?m)^import .* from "\./([^"]+)"`).FindAllStringSubmatch(script, -1) {
			if !slices.Contains(paths, "/"+m[1]) {
				t.Errorf("%s imports %s, which is not served", a.file, m[1])
			}
		}
	}
	for _, a := range assets {
		if filepath.Ext(a.file) != ".css" {
			continue
		}
		if m := regexp.MustCompile(`@import|url\(`).FindString(read(t, a.file)); m != "" {
			t.Errorf("%s has %q: style sheets load nothing", a.file, m)
		}
	}
}

// Every element that the scripts look up must be on the page.
func TestScriptsFindTheirElements(t *testing.T) {
	for _, p := range pages {
		page := read(t, p.file)
		for _, script := range p.scripts {
			for _, m := range regexp.MustCompile(`\$\("([^"]+)"\)`).FindAllStringSubmatch(read(t, script), -1) {
				if !strings.Contains(page, `id="`+m[1]+`"`) {
					t.Errorf("%s looks for #%s, which %s does not have", script, m[1], p.file)
				}
			}
		}
	}
}

// What the page names, labels, controls or describes must be there, once.
func TestPageRefersToItself(t *testing.T) {
	for _, p := range pages {
		t.Run(p.file, func(t *testing.T) { refersToItself(t, p.file) })
	}
}

func refersToItself(t *testing.T, file string) {
	page := read(t, file)
	ids := map[string]int{}
	for _, m := range regexp.MustCompile(`\sid="([^"]+)"`).FindAllStringSubmatch(page, -1) {
		ids[m[1]]++
	}
	for id, n := range ids {
		if n != 1 {
			t.Errorf("%s has #%s %d times", file, id, n)
		}
	}
	for _, m := range regexp.MustCompile(`\s(for|aria-labelledby|aria-describedby|aria-controls)="([^"]+)"`).FindAllStringSubmatch(page, -1) {
		if ids[m[2]] == 0 {
			t.Errorf("%s has %s=%q, but no such element", file, m[1], m[2])
		}
	}
	controls := regexp.MustCompile(`<(input|textarea|select)\s[^>]*\bid="([^"]+)"[^>]*>`)
	for _, m := range controls.FindAllStringSubmatch(page, -1) {
		if !strings.Contains(page, `for="`+m[2]+`"`) && !regexp.MustCompile(`<label><input [^>]*id="`+m[2]+`"`).MatchString(page) {
			t.Errorf("%s has the %s #%s without a label", file, m[1], m[2])
		}
	}
}

func TestScriptsUnderNode(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("node is not installed")
	}
	tests, err := filepath.Glob("*.test.mjs")
	if err != nil || len(tests) == 0 {
		t.Fatalf("no tests found: %v", err)
	}
	out, err := exec.Command(node, append([]string{"--test"}, tests...)...).CombinedOutput()
	if err != nil {
		t.Errorf("node --test: %v\n%s", err, out)
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
