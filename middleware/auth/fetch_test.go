package auth

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestJWKSAnswers: answers that are no key set, from a real server. None of them takes the keys away that were good before.
func TestJWKSAnswers(t *testing.T) {
	good := jwkSet(t, jwk(t, "p256"))
	elsewhere := httptest.NewServer(serving(jwkSet(t, jwk(t, "rsa"))))
	defer elsewhere.Close()
	var many []map[string]any
	for i := range 101 {
		many = append(many, with(jwk(t, "p256"), map[string]any{"kid": fmt.Sprint(i)}))
	}
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	_, _ = z.Write([]byte(`{"keys":[`))
	_, _ = io.CopyN(z, spaces{}, 64<<20)
	_, _ = z.Write(good[len(`{"keys":[`):])
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		name   string
		answer http.HandlerFunc
		want   string // of the status
	}{
		{"500", failing(500), "it is answered with status 500"},
		{"404", failing(404), "it is answered with status 404"},
		{"204", failing(204), "it is answered with status 204"},
		{"500 with a good set", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(500); _, _ = w.Write(good) }, "it is answered with status 500"},
		{"HTML", serving([]byte("<!doctype html><title>Welcome</title>")), "it is no JWK set"},
		{"empty", serving(nil), "it is no JWK set"},
		{"garbage", serving([]byte("\x00\xff\xfe{")), "it is no JWK set"},
		{"cut off", serving(good[:len(good)-5]), "it is no JWK set"},
		{"object without keys", serving([]byte(`{"error":"later"}`)), "it is no JWK set"},
		{"list", serving([]byte(`[]`)), "it is no JWK set"},
		{"deep", serving([]byte(`{"keys":` + strings.Repeat("[", 400_000))), "it is no JWK set"},
		{"empty set", serving([]byte(`{"keys":[]}`)), "it has no key that can be used"},
		{"secrets only", serving(jwkSet(t, jwk(t, "oct"))), "it has no key that can be used"},
		{"101 keys", serving(jwkSet(t, many...)), "it has more than 100 keys"},
		{"10 MB", serving(bytes.Repeat([]byte(" "), 10<<20)), "it is larger than 1048576 bytes"},
		{"gzip bomb", serving(bomb.Bytes(), "Content-Encoding: gzip"), "it is no JWK set"},
		{"redirect", http.RedirectHandler(elsewhere.URL, http.StatusFound).ServeHTTP, "it is elsewhere, and redirects are not followed"},
		{"connection that breaks", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "it can't be reached"},
		{"too much of a header", serving(good, "X-Long: "+strings.Repeat("x", 100<<10)), "it can't be reached"},
	} {
		t.Run(row.name, func(t *testing.T) {
			from := &issuer{answer: serving(good)}
			srv := httptest.NewServer(from)
			defer srv.Close()
			tokens := newTokens(t, func(c *TokensConfig) { c.Keys, c.JWKS = nil, srv.URL })
			fetch := func() {
				j := tokens.remote
				j.begin()
				set, maxAge, err := j.fetch(t.Context())
				j.end(t.Context(), set, maxAge, err)
			}
			fetch()
			wantCode(t, second(tokens.Verify(t.Context(), by(t, "p256"))), "")
			from.set(row.answer)
			fetch()
			if s := tokens.Status(); !strings.Contains(s, "the JWK set is stale since ") || !strings.Contains(s, row.want) {
				t.Errorf("status %q, want %q", s, row.want)
			}
			wantCode(t, second(tokens.Verify(t.Context(), by(t, "p256"))), "")
			wantCode(t, second(tokens.Verify(t.Context(), by(t, "rsa"))), Unavailable)
			if strings.Contains(tokens.Status(), "127.0.0.1") {
				t.Errorf("the status shows an address: %q", tokens.Status())
			}
		})
	}
	t.Run("nobody there", func(t *testing.T) {
		srv := httptest.NewServer(http.NotFoundHandler())
		srv.Close()
		tokens := newTokens(t, func(c *TokensConfig) { c.Keys, c.JWKS = nil, srv.URL })
		_, _, err := tokens.remote.fetch(t.Context())
		if err == nil || !strings.HasPrefix(err.Error(), "it can't be reached: ") {
			t.Errorf("got %v", err)
		}
	})
}

type spaces struct{}

func (spaces) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

// TestJWKSRequest: what the issuer gets to see.
func TestJWKSRequest(t *testing.T) {
	seen := make(chan *http.Request, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen <- r
		_, _ = w.Write(jwkSet(t, jwk(t, "p256")))
	}))
	defer srv.Close()
	tokens := newTokens(t, func(c *TokensConfig) { c.JWKS = srv.URL + "/keys?v=1" })
	if _, _, err := tokens.remote.fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	r := <-seen
	if r.Method != http.MethodGet || r.URL.String() != "/keys?v=1" || r.Header.Get("Accept-Encoding") != "identity" || r.Header.Get("Authorization") != "" {
		text, _ := json.Marshal(r.Header)
		t.Errorf("got %s %s with %s", r.Method, r.URL, text)
	}
}
