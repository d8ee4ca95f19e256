package auth

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha512" // for crypto.SHA384 and SHA512
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// signers are one of each kind, by name. Making them takes a while.
var signers = sync.OnceValue(func() map[string]any {
	must := func(k any, err error) any {
		if err != nil {
			panic(err)
		}
		return k
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	return map[string]any{
		"rsa":     must(rsa.GenerateKey(rand.Reader, 2048)),
		"p256":    must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)),
		"p384":    must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader)),
		"p521":    must(ecdsa.GenerateKey(elliptic.P521(), rand.Reader)),
		"ed25519": must(ed, err),
		"oct":     []byte(strings.Repeat("0123456789abcdef", 4)),
	}
})

// secretText is the HMAC secret of these tests, good for all three sizes.
const secretText = "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210"

// jwk returns a key of signers as a JWK with its name as kid: the public half where there are two.
func jwk(t testing.TB, name string) map[string]any {
	t.Helper()
	k := jose.JSONWebKey{Key: signers()[name], KeyID: name}
	if name != "oct" {
		k = k.Public()
	}
	text, err := k.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	var out map[string]any
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// jwkSet returns keys as a JWK set.
func jwkSet(t testing.TB, keys ...map[string]any) []byte {
	t.Helper()
	text, err := json.Marshal(map[string]any{"keys": keys})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// allKeys are the keys that a node of these tests has.
func allKeys(t testing.TB) []byte {
	t.Helper()
	return jwkSet(t, jwk(t, "rsa"), jwk(t, "p256"), jwk(t, "p384"), jwk(t, "ed25519"), jwk(t, "oct"))
}

func newTokens(t testing.TB, change func(*TokensConfig)) *Tokens {
	t.Helper()
	c := DefaultTokensConfig()
	c.Secret, c.Keys = secretText, allKeys(t)
	if change != nil {
		change(&c)
	}
	tokens, err := NewTokens(c)
	if err != nil {
		t.Fatal(err)
	}
	return tokens
}

// b64 encodes a part of a token.
func b64(part string) string { return base64.RawURLEncoding.EncodeToString([]byte(part)) }

// sign signs text as an algorithm has it, with nothing of the library that is tested.
func sign(t testing.TB, alg string, signer any, text string) string {
	t.Helper()
	hash := map[string]crypto.Hash{"256": crypto.SHA256, "384": crypto.SHA384, "512": crypto.SHA512}[alg[2:]]
	var digest []byte
	if hash != 0 {
		h := hash.New()
		h.Write([]byte(text))
		digest = h.Sum(nil)
	}
	var out []byte
	var err error
	switch k := signer.(type) {
	case []byte:
		h := hmac.New(hash.New, k)
		h.Write([]byte(text))
		out = h.Sum(nil)
	case ed25519.PrivateKey:
		out = ed25519.Sign(k, []byte(text))
	case *rsa.PrivateKey:
		if alg[:2] == "PS" {
			out, err = rsa.SignPSS(rand.Reader, k, hash, digest, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
		} else {
			out, err = rsa.SignPKCS1v15(rand.Reader, k, hash, digest)
		}
	case *ecdsa.PrivateKey:
		r, s, e := ecdsa.Sign(rand.Reader, k, digest)
		size := (k.Curve.Params().BitSize + 7) / 8
		out, err = append(r.FillBytes(make([]byte, size)), s.FillBytes(make([]byte, size))...), e
	}
	if err != nil {
		t.Fatal(err)
	}
	return text + "." + b64(string(out))
}

// signHS signs header and claims, as texts, with the secret.
func signHS(t testing.TB, header, claims string) string {
	t.Helper()
	return sign(t, "HS256", []byte(secretText), b64(header)+"."+b64(claims))
}

// valid is a token's claims for the next hour, with more of them.
func valid(more string) string {
	if more != "" {
		more = "," + more
	}
	now := time.Now().Unix()
	return fmt.Sprintf(`{"exp":%d,"iat":%d%s}`, now+3600, now, more)
}

const plainHeader = `{"alg":"HS256"}`

// wantCode fails unless err is a refusal with that code; "": unless there is none.
func wantCode(t testing.TB, err error, want Code) *Error {
	t.Helper()
	var e *Error
	switch {
	case err == nil && want == "":
	case !errors.As(err, &e):
		t.Errorf("got %v, want %q", err, want)
	case e.Code != want:
		t.Errorf("got %v, want %q", e, want)
	case e.Detail == "" || strings.Contains(e.Detail, "hunter2"):
		t.Errorf("the detail is %q", e.Detail)
	}
	return e
}

// TestAlgorithms: a token is taken with an algorithm that is its key's, and with no other.
func TestAlgorithms(t *testing.T) {
	tokens := newTokens(t, nil)
	of := map[string][]string{
		"rsa":     {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"},
		"p256":    {"ES256"},
		"p384":    {"ES384"},
		"ed25519": {"EdDSA"},
		"oct":     {"HS256", "HS384", "HS512"},
	}
	for name, algs := range of {
		for _, alg := range algs {
			head := fmt.Sprintf(`{"alg":%q,"kid":%q}`, alg, name)
			token := sign(t, alg, signers()[name], b64(head)+"."+b64(valid(`"sub":"alice"`)))
			c, err := tokens.Verify(t.Context(), token)
			if wantCode(t, err, ""); err == nil && c.Subject != "alice" {
				t.Errorf("%s of %s: got %+v", alg, name, c)
			}
			for other := range of {
				if other == name {
					continue
				}
				// The same signature under the name of another key.
				head := fmt.Sprintf(`{"alg":%q,"kid":%q}`, alg, other)
				token := sign(t, alg, signers()[name], b64(head)+"."+b64(valid("")))
				if e := wantCode(t, second(tokens.Verify(t.Context(), token)), Unauthorized); e != nil && e != errOtherAlg {
					t.Errorf("%s with the kid of %s: got %v, want that the alg doesn't fit", alg, other, e)
				}
			}
		}
	}
}

func second(_ *Claims, err error) error { return err }

// TestPublicKeyAsSecret: HMAC under a public key, as text or bytes, is what the oldest attack on JWTs does.
func TestPublicKeyAsSecret(t *testing.T) {
	tokens := newTokens(t, func(c *TokensConfig) { c.Secret = "" })
	for _, name := range []string{"rsa", "p256", "ed25519"} {
		text, err := json.Marshal(jwk(t, name))
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range publicForms(t, name, text) {
			for _, kid := range []string{fmt.Sprintf(`,"kid":%q`, name), ""} {
				token := sign(t, "HS256", secret, b64(`{"alg":"HS256"`+kid+`}`)+"."+b64(valid("")))
				wantCode(t, second(tokens.Verify(t.Context(), token)), Unauthorized)
			}
		}
	}
}

// TestHeader: what a header may have, one rule a row.
func TestHeader(t *testing.T) {
	tokens := newTokens(t, nil)
	for _, row := range []struct {
		name, header string
		want         error
		why          string
	}{
		{"plain", `{"alg":"HS256"}`, nil, "the least that a header may have"},
		{"typ", `{"alg":"HS256","typ":"JWT"}`, nil, "RFC 7519 §5.1"},
		{"typ in lower case", `{"alg":"HS256","typ":"jwt"}`, nil, "media types have no case"},
		{"typ of access tokens", `{"alg":"HS256","typ":"AT+JWT"}`, nil, "RFC 9068 §2.1"},
		{"typ in full", `{"alg":"HS256","typ":"application/at+jwt"}`, nil, "RFC 7515 §4.1.9: the prefix may be there"},
		{"typ of logout tokens", `{"alg":"HS256","typ":"logout+jwt"}`, errTyp, "a token for something else"},
		{"typ empty", `{"alg":"HS256","typ":""}`, errTyp, "it is there, so it must be right"},
		{"typ null", `{"alg":"HS256","typ":null}`, errTyp, "it is there, so it must be right"},
		{"others", `{"alg":"HS256","x5t":"abc","cty":"json","nonce":"x","iss":"x"}`, nil, "what is not critical is ignored (RFC 7515 §4)"},

		{"none", `{"alg":"none"}`, errAlg, "it is no signature"},
		{"None", `{"alg":"None"}`, errAlg, "nor so"},
		{"nOnE", `{"alg":"nOnE"}`, errAlg, "nor so"},
		{"alg empty", `{"alg":""}`, errAlg, "nor so"},
		{"no alg", `{}`, errAlg, "RFC 7515 §4.1.1: it must be there"},
		{"alg null", `{"alg":null}`, errAlg, "it is no string"},
		{"alg number", `{"alg":256}`, errAlg, "it is no string"},
		{"alg list", `{"alg":["HS256"]}`, errAlg, "it is no string"},
		{"alg in lower case", `{"alg":"hs256"}`, errAlg, "algorithms have a case"},
		{"Alg", `{"Alg":"HS256"}`, errAlg, "names have a case"},
		{"alg of another name", `{"alg":"HS256 "}`, errAlg, "it is another name"},
		{"ES512", `{"alg":"ES512"}`, errAlg, "not on the list"},
		{"alg of encryption", `{"alg":"RSA-OAEP","enc":"A256GCM"}`, errAlg, "not on the list"},
		{"alg twice", `{"alg":"HS256","alg":"HS256"}`, errHeader, "RFC 7515 §4: names are unique"},
		{"alg twice, by an escape", `{"alg":"HS256","\u0061lg":"none"}`, errHeader, "it is the same name"},

		{"crit unknown", `{"alg":"HS256","crit":["exp"],"exp":1}`, errCritical, "RFC 7515 §4.1.11"},
		{"crit empty", `{"alg":"HS256","crit":[]}`, errCritical, "RFC 7515 §4.1.11: it must not be"},
		{"crit null", `{"alg":"HS256","crit":null}`, errCritical, "nor so"},
		{"b64 false", `{"alg":"HS256","b64":false,"crit":["b64"]}`, errCritical, "RFC 7797: it would change what is signed"},
		{"b64 true", `{"alg":"HS256","b64":true}`, errCritical, "RFC 7797 §7: not in a JWT"},
		{"zip", `{"alg":"HS256","zip":"DEF"}`, errCritical, "it would be a bomb"},
		{"jku", `{"alg":"HS256","jku":"https://evil.example/jwks"}`, errCritical, "keys come from where the operator says"},
		{"x5u", `{"alg":"HS256","x5u":"https://evil.example/cert"}`, errCritical, "keys come from where the operator says"},
		{"x5c", `{"alg":"HS256","x5c":["MIIB"]}`, errCritical, "tokens don't bring their keys"},
		{"jwk", `{"alg":"HS256","jwk":{"kty":"oct","k":"AAAA"}}`, errCritical, "tokens don't bring their keys"},

		{"kid unknown", `{"alg":"HS256","kid":"hunter2"}`, errUnknownKey, "it names a key that is not here"},
		{"kid of another kind", `{"alg":"HS256","kid":"rsa"}`, errOtherAlg, "a public key is no secret"},
		{"kid empty", `{"alg":"HS256","kid":""}`, errKID, "it is there, so it must be right"},
		{"kid null", `{"alg":"HS256","kid":null}`, errKID, "it is no string"},
		{"kid number", `{"alg":"HS256","kid":7}`, errKID, "it is no string"},
		{"kid path", `{"alg":"HS256","kid":"../../../../dev/null"}`, errUnknownKey, "it is only looked up"},
		{"kid SQL", `{"alg":"HS256","kid":"x' UNION SELECT 'secret"}`, errUnknownKey, "it is only looked up"},
		{"kid URL", `{"alg":"HS256","kid":"https://evil.example/key"}`, errUnknownKey, "it is only looked up"},
		{"kid with a line break", `{"alg":"HS256","kid":"a\r\nSET x y"}`, errKID, "not printable"},
		{"kid not ASCII", `{"alg":"HS256","kid":"ключ"}`, errKID, "two that look alike"},
		{"kid too long", `{"alg":"HS256","kid":"` + strings.Repeat("k", 257) + `"}`, errKID, "bounded"},
		{"kid as long as may be", `{"alg":"HS256","kid":"` + strings.Repeat("k", 256) + `"}`, errUnknownKey, "bounded, and this is within"},

		{"too large", `{"alg":"HS256","x":"` + strings.Repeat("x", 1024) + `"}`, errHeader, "bounded"},
		{"too deep", `{"alg":"HS256","x":` + strings.Repeat("[", 200) + strings.Repeat("]", 200) + `}`, errHeader, "bounded"},
		{"deep in a string", `{"alg":"HS256","x":"\"` + strings.Repeat("[", 200) + `"}`, nil, "these are no arrays"},
		{"list", `["alg","HS256"]`, errHeader, "no object"},
		{"null", `null`, errHeader, "no object"},
		{"empty", ``, errShape, "no object"},
		{"two objects", `{"alg":"HS256"}{"alg":"none"}`, errHeader, "one object"},
		{"no UTF-8", "{\"alg\":\"HS256\",\"x\":\"\xff\"}", errHeader, "JSON is UTF-8"},
		{"byte order mark", "\ufeff" + `{"alg":"HS256"}`, errHeader, "JSON has none"},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := tokens.Verify(t.Context(), signHS(t, row.header, valid("")))
			if err != row.want {
				t.Errorf("%s: got %v, want %v: %s", row.header, err, row.want, row.why)
			}
		})
	}
}

// TestShape: a token can be written in one way only.
func TestShape(t *testing.T) {
	tokens := newTokens(t, func(c *TokensConfig) { c.MaxBytes = 1000 })
	good := signHS(t, plainHeader, valid(""))
	head, rest, _ := strings.Cut(good, ".")
	claims, mac, _ := strings.Cut(rest, ".")
	es := sign(t, "ES256", signers()["p256"], b64(`{"alg":"ES256","kid":"p256"}`)+"."+b64(valid("")))
	esText, esSig := es[:strings.LastIndex(es, ".")], es[strings.LastIndex(es, ".")+1:]
	raw, err := base64.RawURLEncoding.DecodeString(esSig)
	if err != nil {
		t.Fatal(err)
	}
	n := elliptic.P256().Params().N
	for _, row := range []struct {
		name, token string
		want        error
	}{
		{"good", good, nil},
		{"empty", "", errShape},
		{"one part", head, errShape},
		{"two parts", head + "." + claims, errShape},
		{"no signature", head + "." + claims + ".", errShape},
		{"no claims", head + ".." + mac, errShape},
		{"no header", "." + claims + "." + mac, errShape},
		{"four parts", good + "." + mac, errShape},
		{"five parts", head + "." + claims + "." + mac + "." + mac + "." + mac, errShape},
		{"a dot at the end", good + ".", errShape},
		{"padding", good + "=", errShape},
		{"space before", " " + good, errShape},
		{"line break after", good + "\r\n", errShape},
		{"line break within", head + ".\n" + claims + "." + mac, errShape},
		{"NUL after", good + "\x00", errShape},
		{"standard base64", strings.ReplaceAll(head, "_", "/") + "+." + claims + "." + mac, errShape},
		{"JSON serialization", `{"protected":"` + head + `","payload":"` + claims + `","signature":"` + mac + `"}`, errShape},
		{"other bits at the end of the signature", head + "." + claims + "." + otherBits(mac), errShape},
		{"other bits at the end of the header", sign(t, "HS256", []byte(secretText), otherBits(b64(`{"alg":"HS256" }`))+"."+claims), errShape},
		{"too large", signHS(t, plainHeader, valid(`"x":"`+strings.Repeat("x", 1000)+`"`)), errTooLarge},
		{"far too large", strings.Repeat("A", 1<<20), errTooLarge},
		{"claims of another token", head + "." + b64(valid(`"sub":"root"`)) + "." + mac, errSignature},
		{"signature of another key", sign(t, "HS256", []byte(strings.ToUpper(secretText)), head+"."+claims), errSignature},
		{"shorter signature", head + "." + claims + "." + b64("short"), errSignature},
		{"ECDSA", es, nil},
		{"ECDSA, r = s = 0", esText + "." + b64(string(make([]byte, 64))), errSignature},
		{"ECDSA, r = n", esText + "." + b64(string(append(n.Bytes(), raw[32:]...))), errSignature},
		{"ECDSA, DER", esText + "." + b64("\x30\x44\x02\x20"+string(raw[:32])+"\x02\x20"+string(raw[32:])), errSignature},
	} {
		t.Run(row.name, func(t *testing.T) {
			if _, err := tokens.Verify(t.Context(), row.token); err != row.want {
				t.Errorf("got %v, want %v", err, row.want)
			}
		})
	}
}

// otherBits changes the bits of the last character that decoders throw away.
func otherBits(part string) string {
	const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := strings.IndexByte(digits, part[len(part)-1])
	return part[:len(part)-1] + digits[last|1:][:1]
}

// TestNoKID: a token without kid is taken where only one key can be meant.
func TestNoKID(t *testing.T) {
	two := jwk(t, "p256")
	two["kid"] = "other"
	for _, row := range []struct {
		name   string
		keys   []map[string]any
		secret string
		alg    string
		signer string
		want   error
	}{
		{"the secret", []map[string]any{jwk(t, "oct")}, secretText, "HS256", "secret", nil},
		{"the secret before others", []map[string]any{jwk(t, "oct")}, secretText, "HS256", "oct", errSignature},
		{"the only one", []map[string]any{jwk(t, "rsa"), jwk(t, "p256")}, "", "ES256", "p256", nil},
		{"the only oct", []map[string]any{jwk(t, "oct")}, "", "HS512", "oct", nil},
		{"none", []map[string]any{jwk(t, "rsa"), jwk(t, "p384")}, "", "ES256", "p256", errUnknownKey},
		{"two", []map[string]any{jwk(t, "p256"), two}, "", "ES256", "p256", errNoKID},
		{"no public key as secret", []map[string]any{jwk(t, "rsa")}, "", "HS256", "oct", errUnknownKey},
		{"a secret too short for it", nil, secretText[:32], "HS384", "secret", errOtherAlg},
	} {
		t.Run(row.name, func(t *testing.T) {
			tokens := newTokens(t, func(c *TokensConfig) {
				if c.Secret, c.Keys = row.secret, nil; row.keys != nil {
					c.Keys = jwkSet(t, row.keys...)
				}
			})
			signer := signers()[row.signer]
			if row.signer == "secret" {
				signer = []byte(row.secret)
			}
			token := sign(t, row.alg, signer, b64(`{"alg":"`+row.alg+`"}`)+"."+b64(valid("")))
			if _, err := tokens.Verify(t.Context(), token); err != row.want {
				t.Errorf("got %v, want %v", err, row.want)
			}
		})
	}
}

// TestRemembered: a token that was verified is not verified again, until it expires.
func TestRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(t, nil)
		token := signHS(t, plainHeader, valid(`"sub":"alice"`))
		first, err := tokens.Verify(t.Context(), token)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour + 9*time.Second)
		again, err := tokens.Verify(t.Context(), token)
		if err != nil || again != first {
			t.Errorf("got %v, %v, want the claims of before", again, err)
		}
		time.Sleep(time.Second)
		wantCode(t, second(tokens.Verify(t.Context(), token)), TokenExpired)
		if cold := newTokens(t, nil); cold != nil {
			wantCode(t, second(cold.Verify(t.Context(), token)), TokenExpired)
		}
	})
}

// TestRememberedBound: what is remembered has a bound, and what is refused is not remembered.
func TestRememberedBound(t *testing.T) {
	tokens := newTokens(t, nil)
	for i := range maxVerified + 100 {
		if _, err := tokens.Verify(t.Context(), signHS(t, plainHeader, valid(fmt.Sprintf(`"jti":"%d"`, i)))); err != nil {
			t.Fatal(err)
		}
	}
	if n := tokens.verified.Len(); n != maxVerified {
		t.Errorf("%d tokens are remembered, want %d", n, maxVerified)
	}
	tokens.verified.Purge()
	for i := range 100 {
		wantCode(t, second(tokens.Verify(t.Context(), signHS(t, plainHeader, valid(fmt.Sprintf(`"jti":%d`, i))))), Unauthorized)
	}
	if n := tokens.verified.Len(); n != 0 {
		t.Errorf("%d refused tokens are remembered", n)
	}
}

// TestConcurrent: one Tokens serves all connections at once.
func TestConcurrent(t *testing.T) {
	tokens := newTokens(t, nil)
	token := signHS(t, plainHeader, valid(`"sub":"alice"`))
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 200 {
				if c, err := tokens.Verify(context.Background(), token); err != nil || c.Subject != "alice" {
					t.Errorf("got %+v, %v", c, err)
					return
				}
			}
		})
	}
	all.Wait()
}
