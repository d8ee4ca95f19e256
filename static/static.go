// Package static holds what Sluice serves to browsers from inside its binary: the client library, the
// demo page and the page for operators.
//
//   - Nothing is built or fetched: the embedded files are the served files, and they use no resource
//     of any other origin. Only the client library is kept minified, beside its source.
//   - Only the files listed in assets are served. There is no directory and no file system behind
//     the handler, so there is no path to climb out of.
//   - The Content-Security-Policy forbids inline script and style and every foreign origin, so a
//     payload that reaches the page can't become code.
//   - Every answer names its version (ETag) and is asked for again (no-cache), but for what has its
//     digest in its name: a browser never runs an old script against a new node.
//   - The client library (Client) is public code: pages of all origins may import it.
package static

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"net/http"
	"slices"
	"time"
)

//go:embed index.html demo.css demo.js demo-feed.js demo-list.js demo-meter.js demo-chart.js demo-publish.js demo-tabs.js
//go:embed demo-edge.css demo-edge.js demo-break.js demo-chat.js demo-latency.js demo-ledger.js demo-snippets.js demo-source.js demo-trust.js
//go:embed firehose.css firehose.js firehose-gather.js firehose-grid.js firehose-hose.js firehose-line.js firehose-market.js
//go:embed firehose-source.js firehose-splice.js firehose-trace.js firehose-wish.js favicon.svg
//go:embed admin.html admin.css admin.js admin-ask.js admin-figures.js admin-histogram.js admin-spark.js admin-tables.js
var files embed.FS

// contentSecurityPolicy lets the page load its own scripts, styles and images, start workers of its own and connect to its own
// origin, and nothing else. 'self' covers the WebSocket as well (CSP Level 3 §6.7.2.8). The one policy of Trusted Types lets the
// client library start its worker (demo-trust.js).
const contentSecurityPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; worker-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types default"

// asset is one path and what is there.
type asset struct{ path, file, contentType string }

// assets is every path of the demo page. The content types are written down since mime.TypeByExtension
// answers by what the machine has in /etc/mime.types.
var assets = [...]asset{
	{"/", "index.html", "text/html; charset=utf-8"},
	{"/demo.css", "demo.css", "text/css; charset=utf-8"},
	{"/demo-edge.css", "demo-edge.css", "text/css; charset=utf-8"},
	{"/demo-edge.js", "demo-edge.js", "text/javascript; charset=utf-8"},
	{"/demo-break.js", "demo-break.js", "text/javascript; charset=utf-8"},
	{"/demo-chat.js", "demo-chat.js", "text/javascript; charset=utf-8"},
	{"/demo-latency.js", "demo-latency.js", "text/javascript; charset=utf-8"},
	{"/demo-ledger.js", "demo-ledger.js", "text/javascript; charset=utf-8"},
	{"/demo-snippets.js", "demo-snippets.js", "text/javascript; charset=utf-8"},
	{"/demo-source.js", "demo-source.js", "text/javascript; charset=utf-8"},
	{"/demo-trust.js", "demo-trust.js", "text/javascript; charset=utf-8"},
	{"/demo.js", "demo.js", "text/javascript; charset=utf-8"},
	{"/demo-feed.js", "demo-feed.js", "text/javascript; charset=utf-8"},
	{"/demo-list.js", "demo-list.js", "text/javascript; charset=utf-8"},
	{"/demo-meter.js", "demo-meter.js", "text/javascript; charset=utf-8"},
	{"/demo-chart.js", "demo-chart.js", "text/javascript; charset=utf-8"},
	{"/demo-publish.js", "demo-publish.js", "text/javascript; charset=utf-8"},
	{"/demo-tabs.js", "demo-tabs.js", "text/javascript; charset=utf-8"},
	{"/firehose.css", "firehose.css", "text/css; charset=utf-8"},
	{"/firehose.js", "firehose.js", "text/javascript; charset=utf-8"},
	{"/firehose-gather.js", "firehose-gather.js", "text/javascript; charset=utf-8"},
	{"/firehose-grid.js", "firehose-grid.js", "text/javascript; charset=utf-8"},
	{"/firehose-hose.js", "firehose-hose.js", "text/javascript; charset=utf-8"},
	{"/firehose-line.js", "firehose-line.js", "text/javascript; charset=utf-8"},
	{"/firehose-market.js", "firehose-market.js", "text/javascript; charset=utf-8"},
	{"/firehose-source.js", "firehose-source.js", "text/javascript; charset=utf-8"},
	{"/firehose-splice.js", "firehose-splice.js", "text/javascript; charset=utf-8"},
	{"/firehose-trace.js", "firehose-trace.js", "text/javascript; charset=utf-8"},
	{"/firehose-wish.js", "firehose-wish.js", "text/javascript; charset=utf-8"},
	{"/favicon.svg", "favicon.svg", "image/svg+xml"},
}

// adminAssets is every path of the page for operators, which is on another listener.
var adminAssets = [...]asset{
	{"/", "admin.html", "text/html; charset=utf-8"},
	{"/demo.css", "demo.css", "text/css; charset=utf-8"}, // colours and controls are the same
	{"/admin.css", "admin.css", "text/css; charset=utf-8"},
	{"/admin.js", "admin.js", "text/javascript; charset=utf-8"},
	{"/admin-ask.js", "admin-ask.js", "text/javascript; charset=utf-8"},
	{"/admin-figures.js", "admin-figures.js", "text/javascript; charset=utf-8"},
	{"/admin-histogram.js", "admin-histogram.js", "text/javascript; charset=utf-8"},
	{"/admin-spark.js", "admin-spark.js", "text/javascript; charset=utf-8"},
	{"/admin-tables.js", "admin-tables.js", "text/javascript; charset=utf-8"},
	{"/favicon.svg", "favicon.svg", "image/svg+xml"},
}

// Paths returns the paths that Handler serves, sorted, for a router that would rather register
// each of them than give its catch-all away.
func Paths() []string { return pathsOf(assets[:]) }

// AdminPaths returns the paths that Admin serves, sorted.
func AdminPaths() []string { return pathsOf(adminAssets[:]) }

func pathsOf(list []asset) []string {
	paths := make([]string, 0, len(list))
	for _, a := range list {
		paths = append(paths, a.path)
	}
	slices.Sort(paths)
	return paths
}

// Handler serves the demo page at / and its files beside it, to GET and HEAD. Any other path is
// answered with 404, any other method with 405. It matches the exact request path, decoded once;
// mount it elsewhere with http.StripPrefix.
func Handler() http.Handler { return newHandler(assets[:]) }

// Admin serves the page for operators at / and its files beside it, as Handler does the demo page. It asks the admin API, which
// must be at /admin/ of the same origin.
func Admin() http.Handler { return newHandler(adminAssets[:]) }

func newHandler(list []asset) http.Handler {
	h := make(handler, len(list))
	for _, a := range list {
		body, err := files.ReadFile(a.file)
		if err != nil {
			panic("static: " + err.Error()) // the list and the embed directive disagree: a mistake at build time
		}
		h[a.path] = newDocument(body, a.contentType)
	}
	return h
}

// document is one file, ready to be served.
type document struct {
	body        []byte
	contentType string
	etag        string
}

func newDocument(body []byte, contentType string) document {
	sum := sha256.Sum256(body)
	return document{body: body, contentType: contentType, etag: `"` + hex.EncodeToString(sum[:8]) + `"`}
}

// handler maps request paths to documents. It is never written to once it serves.
type handler map[string]document

func (h handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("Content-Security-Policy", contentSecurityPolicy)
	header.Set("Cross-Origin-Opener-Policy", "same-origin")
	header.Set("Cross-Origin-Resource-Policy", "same-origin")

	d, ok := h[r.URL.Path]
	if !found(w, r, ok) {
		return
	}
	header.Set("Content-Type", d.contentType)
	header.Set("Cache-Control", "no-cache")
	header.Set("ETag", d.etag)
	// The zero time leaves Last-Modified out: the build has no honest date, and the ETag is exact.
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(d.body))
}

// found reports whether there is a file, and a method that reads it. If not, it has answered.
func found(w http.ResponseWriter, r *http.Request, ok bool) bool {
	switch {
	case !ok:
		http.Error(w, "no such file", http.StatusNotFound)
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "only GET and HEAD", http.StatusMethodNotAllowed)
	default:
		return true
	}
	return false
}
