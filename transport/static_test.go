package transport

import (
	"net/http"
	"testing"

	"sluice/static"
)

// Every node has the client library for the pages of every origin, though it lets none of them connect.
func TestClientLibraryIsServed(t *testing.T) {
	n := newNode(t, func(c *Config) { c.Origins = []string{"https://app.example"} })
	for _, path := range static.ClientPaths() {
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			r, err := http.NewRequest(method, n.url(path), nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Origin", "https://stranger.example")
			res, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			if res.StatusCode != 200 || res.Header.Get("Access-Control-Allow-Origin") != "*" || res.Header.Get("X-Request-Id") == "" {
				t.Errorf("%s %s: %d with %v, want 200 for every origin", method, path, res.StatusCode, res.Header)
			}
		}
	}
	if status, _, _ := get(t, n.url("/demo.js")); status != 404 {
		t.Errorf("the demo is there without being asked for: %d", status)
	}
	// A node of another version, in the middle of a roll-out: no cache may keep that.
	if status, head, _ := get(t, n.url("/sluice-000000000000.js")); status != 404 || head.Get("Cache-Control") != "no-store" {
		t.Errorf("another version: %d, Cache-Control %q, want 404 and no-store", status, head.Get("Cache-Control"))
	}
}
