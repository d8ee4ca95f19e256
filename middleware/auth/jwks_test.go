package auth

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// pipes is a net.Listener within a synctest bubble: real HTTP over net.Pipe, in which waits are seen.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { close(p.closed); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case p.conns <- server:
		return client, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// issuer answers with a JWK set, or with whatever answer says.
type issuer struct {
	mu      sync.Mutex
	answer  http.HandlerFunc
	fetches int
}

func (i *issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	i.fetches++
	answer := i.answer
	i.mu.Unlock()
	answer(w, r)
}

func (i *issuer) set(answer http.HandlerFunc) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.answer = answer
}

func (i *issuer) count() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.fetches
}

// serving answers with a body, and headers NAME: VALUE.
func serving(body []byte, headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		for _, h := range headers {
			name, value, _ := strings.Cut(h, ": ")
			w.Header().Set(name, value)
		}
		_, _ = w.Write(body) // the client reports it
	}
}

func failing(status int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(status) }
}

// hanging answers when the client has gone.
func hanging(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

// bubble runs f with a node whose key set comes from an issuer, both within a synctest bubble.
func bubble(t *testing.T, answer http.HandlerFunc, change func(*TokensConfig), f func(t *testing.T, tokens *Tokens, from *issuer)) {
	t.Helper()
	signers() // outside, since it takes its time
	synctest.Test(t, func(t *testing.T) {
		l := &pipes{make(chan net.Conn), make(chan struct{})}
		from := &issuer{answer: answer}
		srv := &http.Server{Handler: from, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
		c := DefaultTokensConfig()
		c.JWKS = "https://issuer.example/jwks"
		if change != nil {
			change(&c)
		}
		tokens, err := NewTokens(c)
		if err != nil {
			t.Fatal(err)
		}
		tokens.remote.url = "http://issuer.example/jwks" // a pipe has no certificate
		tokens.remote.client.Transport.(*http.Transport).DialContext = l.dial
		ctx, stop := context.WithCancel(t.Context())
		var all sync.WaitGroup
		all.Go(func() { _ = srv.Serve(l) })
		all.Go(func() { tokens.Run(ctx) })
		defer func() {
			stop()
			_ = srv.Close()
			all.Wait()
		}()
		synctest.Wait()
		f(t, tokens, from)
	})
}

// by signs a valid token with a key of signers; the kid is its name unless another one is given.
func by(t testing.TB, name string, kid ...string) string {
	t.Helper()
	alg := map[string]string{"rsa": "RS256", "p256": "ES256", "p384": "ES384", "ed25519": "EdDSA", "oct": "HS256"}[name]
	head := fmt.Sprintf(`{"alg":%q,"kid":%q}`, alg, append(kid, name)[0])
	return sign(t, alg, signers()[name], b64(head)+"."+b64(valid("")))
}

func TestJWKSRotates(t *testing.T) {
	old, both, next := jwkSet(t, jwk(t, "p256")), jwkSet(t, jwk(t, "rsa"), jwk(t, "p256")), jwkSet(t, jwk(t, "rsa"))
	bubble(t, serving(old), func(c *TokensConfig) { c.MaxLifetime = 48 * time.Hour }, func(t *testing.T, tokens *Tokens, from *issuer) {
		wantCode(t, second(tokens.Verify(t.Context(), by(t, "p256"))), "")
		long := sign(t, "ES256", signers()["p256"], b64(`{"alg":"ES256","kid":"p256"}`)+"."+b64(fmt.Sprintf(`{"exp":%d}`, time.Now().Unix()+86400)))
		first, err := tokens.Verify(t.Context(), long)
		if err != nil {
			t.Fatal(err)
		}

		from.set(serving(both))
		wantCode(t, second(tokens.Verify(t.Context(), by(t, "rsa"))), Unauthorized) // it was read just before
		time.Sleep(30 * time.Second)
		wantCode(t, second(tokens.Verify(t.Context(), by(t, "rsa"))), "") // the new key is there as soon as it is used
		if again, err := tokens.Verify(t.Context(), long); again != first || err != nil {
			t.Errorf("got %v, %v; a key that stays keeps what it has verified", again, err)
		}
		if n := from.count(); n != 2 {
			t.Errorf("%d fetches, want 2", n)
		}

		from.set(serving(next))
		time.Sleep(10 * time.Minute)
		if e := wantCode(t, second(tokens.Verify(t.Context(), long)), Unauthorized); e != errUnknownKey {
			t.Errorf("got %v, want that the key is not known", e)
		}
		if _, there := tokens.verified.Get(fingerprint{}); there || tokens.verified.Len() != 2 {
			t.Errorf("%d tokens are remembered, want those of p256 that nobody asked for, and of rsa", tokens.verified.Len())
		}
		if s := tokens.Status(); s != "" {
			t.Errorf("status %q", s)
		}
	})
}

// TestJWKSSameName: another key under the same kid is another key, of the same type or not.
func TestJWKSSameName(t *testing.T) {
	fresh, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	other := func(t *testing.T) (out map[string]any) {
		text, err := (&jose.JSONWebKey{Key: fresh.Public(), KeyID: "k"}).MarshalJSON()
		if err != nil || json.Unmarshal(text, &out) != nil {
			t.Fatal(err)
		}
		return out
	}
	bubble(t, serving(jwkSet(t, with(jwk(t, "p256"), map[string]any{"kid": "k"}))), nil, func(t *testing.T, tokens *Tokens, from *issuer) {
		token := by(t, "p256", "k")
		wantCode(t, second(tokens.Verify(t.Context(), token)), "")
		from.set(serving(jwkSet(t, other(t))))
		time.Sleep(11 * time.Minute)
		if e := wantCode(t, second(tokens.Verify(t.Context(), token)), Unauthorized); e != errSignature {
			t.Errorf("got %v, want that the signature is another key's", e)
		}
		from.set(serving(jwkSet(t, with(jwk(t, "rsa"), map[string]any{"kid": "k"}))))
		time.Sleep(11 * time.Minute)
		if e := wantCode(t, second(tokens.Verify(t.Context(), token)), Unauthorized); e != errOtherAlg {
			t.Errorf("got %v, want that the alg is another key's", e)
		}
		wantCode(t, second(tokens.Verify(t.Context(), by(t, "rsa", "k"))), "")
	})
}

// TestJWKSDown: an issuer that is down changes nothing for those whose keys are known; the others are told to come back.
func TestJWKSDown(t *testing.T) {
	day := func(t *testing.T) string {
		return sign(t, "ES256", signers()["p256"], b64(`{"alg":"ES256","kid":"p256"}`)+"."+b64(fmt.Sprintf(`{"exp":%d}`, time.Now().Unix()+86000)))
	}
	bubble(t, serving(jwkSet(t, jwk(t, "p256"))), nil, func(t *testing.T, tokens *Tokens, from *issuer) {
		remembered := day(t)
		wantCode(t, second(tokens.Verify(t.Context(), remembered)), "")
		from.set(failing(500))
		time.Sleep(11 * time.Minute)
		if want := "the JWK set is stale since 2000-01-01T00:"; !strings.HasPrefix(tokens.Status(), want) || !strings.HasSuffix(tokens.Status(), ": it is answered with status 500") {
			t.Errorf("status %q, want %q …", tokens.Status(), want)
		}
		wantCode(t, second(tokens.Verify(t.Context(), by(t, "p256"))), "")
		began := time.Now()
		e := wantCode(t, second(tokens.Verify(t.Context(), by(t, "rsa"))), Unavailable)
		if e != nil && (e.Retry < time.Second || e.Retry > 30*time.Second) {
			t.Errorf("retry %s, want when it is read again", e.Retry)
		}
		if waited := time.Since(began); waited != 0 {
			t.Errorf("an unknown key was waited for, %s, although the issuer is down", waited)
		}

		time.Sleep(23*time.Hour + 30*time.Minute)
		fresh := day(t)
		wantCode(t, second(tokens.Verify(t.Context(), fresh)), "") // not a day yet
		time.Sleep(31 * time.Minute)
		wantCode(t, second(tokens.Verify(t.Context(), fresh)), Unavailable)  // remembered, but the set is too old
		wantCode(t, second(tokens.Verify(t.Context(), day(t))), Unavailable) // not a 401: nobody knows
		wantCode(t, second(tokens.Verify(t.Context(), by(t, "rsa"))), Unavailable)
		if want := "the JWK set is too old, and its tokens are refused, since 2000-01-02T00:"; !strings.HasPrefix(tokens.Status(), want) {
			t.Errorf("status %q, want %q …", tokens.Status(), want)
		}

		from.set(serving(jwkSet(t, jwk(t, "p256"))))
		time.Sleep(30 * time.Second)
		wantCode(t, second(tokens.Verify(t.Context(), fresh)), "")
		if s := tokens.Status(); s != "" {
			t.Errorf("status %q", s)
		}
	})
}

// TestJWKSNeverRead: a node that starts before its issuer refuses for a while, and asks ever more slowly.
func TestJWKSNeverRead(t *testing.T) {
	var log lockedBuffer
	bubble(t, failing(503), func(c *TokensConfig) { c.Log = slog.New(slog.NewTextHandler(&log, nil)) }, func(t *testing.T, tokens *Tokens, from *issuer) {
		if want := "the JWK set was not read yet: it is answered with status 503"; tokens.Status() != want {
			t.Errorf("status %q, want %q", tokens.Status(), want)
		}
		for _, token := range []string{by(t, "p256"), sign(t, "ES256", signers()["p256"], b64(`{"alg":"ES256"}`)+"."+b64(valid("")))} {
			wantCode(t, second(tokens.Verify(t.Context(), token)), Unavailable)
		}
		time.Sleep(10 * time.Minute)
		// 1, 2, 4, 8, 16 s and then 30 s each, or half of it.
		if n := from.count(); n < 20 || n > 50 {
			t.Errorf("%d fetches in ten minutes", n)
		}
		if n := strings.Count(log.String(), "\n"); n != 1 {
			t.Errorf("%d lines for one outage, want 1:\n%s", n, log.String())
		}
		from.set(serving(jwkSet(t, jwk(t, "p256"))))
		time.Sleep(30 * time.Second)
		wantCode(t, second(tokens.Verify(t.Context(), by(t, "p256"))), "")
		if !strings.Contains(log.String(), "the JWK set can be read again") {
			t.Errorf("nothing says that it is over:\n%s", log.String())
		}
	})
}

// TestJWKSFirst: those who come while the set is read for the first time wait for it, as long as they like.
func TestJWKSFirst(t *testing.T) {
	set := jwkSet(t, jwk(t, "p256"))
	slow := func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(3 * time.Second)
		_, _ = w.Write(set)
	}
	bubble(t, slow, nil, func(t *testing.T, tokens *Tokens, from *issuer) {
		if want := "the JWK set was not read yet: it is being read"; tokens.Status() != want {
			t.Errorf("status %q, want %q", tokens.Status(), want)
		}
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		wantCode(t, second(tokens.Verify(ctx, by(t, "p256"))), Unavailable)
		if d := time.Since(began); d != time.Second {
			t.Errorf("waited for %s, want the context's second", d)
		}
		wantCode(t, second(tokens.Verify(t.Context(), by(t, "p256"))), "")
		if d := time.Since(began); d != 3*time.Second {
			t.Errorf("waited for %s, want 3 s", d)
		}
	})
}

// TestJWKSHangs: a fetch ends after five seconds.
func TestJWKSHangs(t *testing.T) {
	bubble(t, hanging, nil, func(t *testing.T, tokens *Tokens, from *issuer) {
		began := time.Now()
		wantCode(t, second(tokens.Verify(t.Context(), by(t, "p256"))), Unavailable)
		if d := time.Since(began); d != 5*time.Second {
			t.Errorf("waited for %s, want 5 s", d)
		}
		synctest.Wait()
		if want := "the JWK set was not read yet: it does not come in time"; tokens.Status() != want {
			t.Errorf("status %q, want %q", tokens.Status(), want)
		}
	})
}

// TestJWKSWithoutRun: nobody waits for ever for what does not run.
func TestJWKSWithoutRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(t, func(c *TokensConfig) { c.JWKS, c.Keys = "https://issuer.example/jwks", jwkSet(t, jwk(t, "p256")) })
		wantCode(t, second(tokens.Verify(t.Context(), by(t, "p256"))), "") // it is known locally
		wantCode(t, second(tokens.Verify(t.Context(), by(t, "rsa"))), Unavailable)
	})
}

// TestJWKSSecret: a token that is signed with a secret asks for no fetch, and waits for none.
func TestJWKSSecret(t *testing.T) {
	bubble(t, failing(500), func(c *TokensConfig) { c.Secret, c.Keys = secretText, jwkSet(t, jwk(t, "oct")) }, func(t *testing.T, tokens *Tokens, from *issuer) {
		wantCode(t, second(tokens.Verify(t.Context(), by(t, "oct"))), "")
		wantCode(t, second(tokens.Verify(t.Context(), signHS(t, plainHeader, valid("")))), "")
		wantCode(t, second(tokens.Verify(t.Context(), by(t, "oct", "unknown"))), Unauthorized)
		if n := from.count(); n != 1 {
			t.Errorf("%d fetches, want the first", n)
		}
	})
}

// TestJWKSStampede: unknown keys cost one fetch in RefreshMin, however many they are.
func TestJWKSStampede(t *testing.T) {
	set := jwkSet(t, jwk(t, "p256"))
	slow := func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(time.Second)
		_, _ = w.Write(set)
	}
	bubble(t, slow, nil, func(t *testing.T, tokens *Tokens, from *issuer) {
		time.Sleep(time.Second)
		for round := range 5 {
			before := from.count()
			var all sync.WaitGroup
			var unauthorized atomic.Int32
			for i := range 1000 {
				all.Go(func() {
					time.Sleep(time.Duration(i) * 29 * time.Millisecond) // all in less than 30 s
					_, err := tokens.Verify(context.Background(), by(t, "p256", fmt.Sprintf("%d-%d", round, i)))
					if errors.Is(err, refuse(Unauthorized, "")) {
						unauthorized.Add(1)
					}
				})
			}
			all.Wait()
			if n := from.count() - before; n > 1 {
				t.Errorf("%d fetches in 30 s", n)
			}
			if n := unauthorized.Load(); n != 1000 {
				t.Errorf("%d of 1000 are told that their key is not known", n)
			}
			wantCode(t, second(tokens.Verify(t.Context(), by(t, "p256"))), "")
			time.Sleep(time.Second)
		}
	})
}

// TestJWKSMaxAge: the issuer says how long its set is good for, within limits.
func TestJWKSMaxAge(t *testing.T) {
	for _, row := range []struct {
		header    string
		at, until time.Duration // when the second fetch comes
	}{
		{"", 9 * time.Minute, 10 * time.Minute},
		{"max-age=60", 54 * time.Second, time.Minute},
		{"public, MAX-AGE=\"120\"", 108 * time.Second, 2 * time.Minute},
		{"max-age=0", 30 * time.Second, 30 * time.Second},
		{"max-age=86400", 9 * time.Minute, 10 * time.Minute},
		{"max-age=-1", 9 * time.Minute, 10 * time.Minute},
		{"max-age=99999999999999999999", 9 * time.Minute, 10 * time.Minute},
		{"s-maxage=60, no-store", 9 * time.Minute, 10 * time.Minute},
	} {
		t.Run(row.header, func(t *testing.T) {
			bubble(t, serving(jwkSet(t, jwk(t, "p256")), "Cache-Control: "+row.header), nil, func(t *testing.T, tokens *Tokens, from *issuer) {
				time.Sleep(row.at - 1)
				if n := from.count(); n != 1 {
					t.Errorf("%d fetches before %s", n, row.at)
				}
				time.Sleep(row.until - row.at + 2)
				synctest.Wait()
				if n := from.count(); n != 2 {
					t.Errorf("%d fetches by %s, want 2", n, row.until)
				}
			})
		})
	}
}

// TestJWKSMixed: what can't be used is left out, and said once.
func TestJWKSMixed(t *testing.T) {
	set := jwkSet(t, jwk(t, "oct"), jwk(t, "p521"), private(t, "rsa"), with(jwk(t, "ed25519"), map[string]any{"use": "enc"}),
		map[string]any{"kty": "XYZ"}, jwk(t, "p256"), with(jwk(t, "rsa"), map[string]any{"kid": "p256"}), jwk(t, "oct"))
	var log lockedBuffer
	bubble(t, serving(set), func(c *TokensConfig) { c.Log = slog.New(slog.NewTextHandler(&log, nil)) }, func(t *testing.T, tokens *Tokens, from *issuer) {
		wantCode(t, second(tokens.Verify(t.Context(), by(t, "p256"))), "")
		wantCode(t, second(tokens.Verify(t.Context(), by(t, "oct"))), Unauthorized)
		wantCode(t, second(tokens.Verify(t.Context(), by(t, "rsa"))), Unauthorized)
		time.Sleep(time.Hour)
		lines := strings.Count(log.String(), "\n")
		if distinct := 6; lines != distinct || from.count() < 6 {
			t.Errorf("%d lines after %d fetches, want %d:\n%s", lines, from.count(), distinct, log.String())
		}
		for _, k := range []map[string]any{jwk(t, "oct"), private(t, "rsa")} {
			for _, part := range []string{"k", "d", "p"} {
				if v, ok := k[part].(string); ok && strings.Contains(log.String(), v) {
					t.Errorf("%s of a key is in the log", part)
				}
			}
		}
	})
}

// lockedBuffer is a log that is read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
