package static

import (
	"compress/gzip"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestClientServesTheLibrary(t *testing.T) {
	s := serveBy(t, Client("v1.2.3"))
	if !slices.IsSorted(ClientPaths()) {
		t.Errorf("paths are not sorted: %q", ClientPaths())
	}
	for _, tt := range []struct{ path, file, contentType, cache string }{
		{"/sluice.js", "sluice.min.js", "text/javascript; charset=utf-8", "no-cache"},
		{ModulePath(), "sluice.min.js", "text/javascript; charset=utf-8", "public, max-age=31536000, immutable"},
		{"/sluice.d.ts", "sluice.d.ts", "text/plain; charset=utf-8", "no-cache"},
		{"/sluice.json", "", "application/json", "no-cache"},
	} {
		t.Run(tt.path, func(t *testing.T) {
			if !slices.Contains(ClientPaths(), tt.path) {
				t.Errorf("it is not in %q", ClientPaths())
			}
			res, plain := ask(t, s, "GET", tt.path, "Accept-Encoding", "identity", "Origin", "https://stranger.example")
			if res.StatusCode != 200 || tt.file != "" && plain != read(t, tt.file) {
				t.Fatalf("got %d with %d bytes, want 200 with those of %q", res.StatusCode, len(plain), tt.file)
			}
			for name, want := range map[string]string{
				"Content-Type": tt.contentType, "Cache-Control": tt.cache, "Content-Encoding": "", "Vary": "Accept-Encoding", "X-Content-Type-Options": "nosniff",
				"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Credentials": "", "Cross-Origin-Resource-Policy": "cross-origin", "Content-Security-Policy": "",
			} {
				if got := res.Header.Get(name); got != want {
					t.Errorf("%s is %q, want %q", name, got, want)
				}
			}
			packed, body := ask(t, s, "GET", tt.path, "Accept-Encoding", "br, gzip;q=0.8")
			if packed.Header.Get("Content-Encoding") == "gzip" {
				if packed.ContentLength != int64(len(body)) || len(body) >= len(plain) || unpack(t, body) != plain {
					t.Errorf("compressed it has %d bytes of %d, told as %d, or other content", len(body), len(plain), packed.ContentLength)
				}
				if packed.Header.Get("ETag") == res.Header.Get("ETag") {
					t.Error("the compressed one has the ETag of the plain one (RFC 9110 §8.8.3.3)")
				}
				part, some := ask(t, s, "GET", tt.path, "Accept-Encoding", "gzip", "Range", "bytes=2-9")
				if part.StatusCode != 206 || some != body[2:10] || part.ContentLength != 8 {
					t.Errorf("a range of the compressed one: %d with %d bytes of %d", part.StatusCode, len(some), part.ContentLength)
				}
				if tt.file == "sluice.min.js" && len(body) > 5<<10 {
					t.Errorf("it has %d bytes compressed, at most 5 KiB are promised", len(body))
				}
			} else if tt.file == "sluice.min.js" || body != plain {
				t.Errorf("it is not compressed for who takes that, or is another: %d bytes", len(body))
			}
			for _, form := range []struct{ etag, takes string }{{res.Header.Get("ETag"), "identity"}, {packed.Header.Get("ETag"), "gzip"}} {
				again, rest := ask(t, s, "GET", tt.path, "Accept-Encoding", form.takes, "If-None-Match", form.etag)
				if form.etag == "" || again.StatusCode != 304 || rest != "" || again.Header.Get("Content-Encoding") != "" || again.Header.Get("Cache-Control") != tt.cache || again.Header.Get("Vary") == "" {
					t.Errorf("with If-None-Match %s: %d with %d bytes and %v, want 304", form.etag, again.StatusCode, len(rest), again.Header)
				}
			}
			head, none := ask(t, s, "HEAD", tt.path, "Accept-Encoding", "gzip")
			if head.StatusCode != 200 || none != "" || head.ContentLength != packed.ContentLength {
				t.Errorf("HEAD: %d, length %d, body %q", head.StatusCode, head.ContentLength, none)
			}
		})
	}
}

func TestClientRefusesEverythingElse(t *testing.T) {
	s := serveBy(t, Client(""))
	for _, tt := range []struct {
		method, target string
		status         int
	}{
		{"GET", "/sluice-000000000000.js", 404}, {"GET", "/", 404}, {"GET", "/demo.js", 404}, {"GET", "/package.json", 404}, {"GET", "/x/../sluice.js", 404}, {"POST", "/sluice.js", 405},
	} {
		res, _ := ask(t, s, tt.method, tt.target)
		if res.StatusCode != tt.status || res.Header.Get("Cache-Control") != "" || res.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s %s: %d with %v, want %d, and nothing that a cache would keep", tt.method, tt.target, res.StatusCode, res.Header, tt.status)
		}
	}
}

// The manifest names a path that is there, and a digest that browsers find right.
func TestClientManifest(t *testing.T) {
	s := serveBy(t, Client("v1.2.3"))
	_, body := ask(t, s, "GET", "/sluice.json")
	var got struct{ Module, Integrity, Version string }
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatalf("%v: %q", err, body)
	}
	path, relative := strings.CutPrefix(got.Module, ".")
	if !relative || !regexp.MustCompile(`^/sluice-[0-9a-f]{12}\.js$`).MatchString(path) {
		t.Errorf("module is %q, want a path beside the manifest, wherever the node is mounted", got.Module)
	}
	_, script := ask(t, s, "GET", path)
	sum := sha512.Sum384([]byte(script))
	if want := "sha384-" + base64.StdEncoding.EncodeToString(sum[:]); got.Integrity != want || got.Version != "v1.2.3" {
		t.Errorf("manifest %+v, want the integrity %s", got, want)
	}
}

func TestTakesGzip(t *testing.T) {
	for _, tt := range []struct {
		header []string
		want   bool
	}{
		{nil, false}, {[]string{""}, false}, {[]string{"gzip"}, true}, {[]string{"GZIP"}, true}, {[]string{"deflate, gzip;q=1.0, *;q=0.5"}, true}, {[]string{"br", "gzip"}, true},
		{[]string{"gzip;q=0"}, false}, {[]string{"gzip; q=0.000"}, false}, {[]string{"gzip;Q=0.1"}, true}, {[]string{"gzip;q=x"}, false}, {[]string{"x-gzip"}, false}, {[]string{"*"}, false}, {[]string{"identity"}, false},
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header["Accept-Encoding"] = tt.header
		if got := takesGzip(r); got != tt.want {
			t.Errorf("Accept-Encoding %q: got %v, want %v", tt.header, got, tt.want)
		}
	}
}

func unpack(t *testing.T, body string) string {
	t.Helper()
	r, err := gzip.NewReader(strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
