package static

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"crypto/sha512"
	_ "embed" // the library
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// module is the library for browsers, which e2e/client/minify.mjs makes from sluice.js, and types says what it is for TypeScript. They are
// public code: pages of any origin may import them, whoever may connect.
var (
	//go:embed sluice.min.js
	module []byte
	//go:embed sluice.d.ts
	types []byte
)

// Paths of the library. A page that wants what never changes uses ModulePath.
const (
	libraryPath  = "/sluice.js"
	typesPath    = "/sluice.d.ts"
	manifestPath = "/sluice.json"
)

// forever is the Cache-Control of what has its digest in its name (RFC 8246).
const forever = "public, max-age=31536000, immutable"

// ModulePath is where the library is by its digest, such as /sluice-0123456789ab.js. It is another path for another library.
func ModulePath() string {
	sum := sha256.Sum256(module)
	return "/sluice-" + hex.EncodeToString(sum[:6]) + ".js"
}

// Integrity is the digest of the library as browsers check it: the value of an integrity attribute (Subresource Integrity §3.1), sha384.
func Integrity() string {
	sum := sha512.Sum384(module)
	return "sha384-" + base64.StdEncoding.EncodeToString(sum[:])
}

// ClientPaths returns the paths that Client serves, sorted.
func ClientPaths() []string { return []string{ModulePath(), typesPath, libraryPath, manifestPath} }

// Client serves the library to pages of all origins, compressed for those who take it: the module under a name that stays and under one
// with its digest, its types, and a manifest that says what the digests are. Version is that of the program, for the manifest.
// Other paths and methods are answered as by Handler.
//
// There is no Content-Security-Policy: the module is also the script of a SharedWorker, which takes its policy from the answer and
// has to reach nodes of other origins.
func Client(version string) http.Handler {
	manifest, err := json.Marshal(struct {
		Module    string `json:"module"` // beside the manifest, wherever the node is mounted
		Integrity string `json:"integrity"`
		Version   string `json:"version"`
	}{"." + ModulePath(), Integrity(), version})
	if err != nil {
		panic("static: " + err.Error()) // strings
	}
	newest := newPublic(module, "text/javascript; charset=utf-8", "no-cache")
	named := newest
	named.cacheControl = forever
	return library{
		libraryPath:  newest,
		ModulePath(): named,
		typesPath:    newPublic(types, "text/plain; charset=utf-8", "no-cache"), // there is no type for it; browsers take it for video
		manifestPath: newPublic(append(manifest, '\n'), "application/json", "no-cache"),
	}
}

// public is one file that pages of all origins may read.
type public struct {
	plain, packed document
	cacheControl  string
}

func newPublic(body []byte, contentType, cacheControl string) public {
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err == nil {
		_, err = w.Write(body)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		panic("static: " + err.Error()) // the level is one, and memory takes everything
	}
	return public{newDocument(body, contentType), newDocument(b.Bytes(), contentType), cacheControl}
}

// library maps request paths to public files. It is never written to once it serves.
type library map[string]public

func (l library) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Access-Control-Allow-Origin", "*")
	header.Set("Cross-Origin-Resource-Policy", "cross-origin")
	header.Set("Vary", "Accept-Encoding")

	p, ok := l[r.URL.Path]
	if !found(w, r, ok) {
		return
	}
	d := p.plain
	if takesGzip(r) && len(p.packed.body) < len(d.body) {
		d = p.packed
		header.Set("Content-Encoding", "gzip")
		header.Set("Content-Length", strconv.Itoa(len(d.body))) // ServeContent leaves it out beside Content-Encoding
	}
	header.Set("Cache-Control", p.cacheControl)
	header.Set("Content-Type", d.contentType)
	header.Set("ETag", d.etag)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(d.body))
}

// takesGzip reports whether the client takes answers in gzip (RFC 9110 §12.5.3). Who only has a wildcard gets them plain.
func takesGzip(r *http.Request) bool {
	for item := range strings.SplitSeq(strings.Join(r.Header["Accept-Encoding"], ","), ",") {
		name, weight, _ := strings.Cut(item, ";")
		if !strings.EqualFold(strings.TrimSpace(name), "gzip") {
			continue
		}
		q, weighted := strings.CutPrefix(strings.ToLower(strings.TrimSpace(weight)), "q=")
		v, err := strconv.ParseFloat(q, 64)
		return !weighted || err == nil && v > 0
	}
	return false
}
