package e2e

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// forger has the keys of an issuer, and signs what no issuer would. It knows nothing of the program either.
type forger struct {
	*issuer
	rsa *rsa.PrivateKey
	ec  *ecdsa.PrivateKey
	ed  ed25519.PrivateKey
	ear string // host:port where nobody may connect to
}

// Names of the forger's keys in its set.
const (
	kidRSA = "rsa-1"
	kidEC  = "ec-1"
	kidEd  = "ed-1"
)

func newForger(t *testing.T) *forger {
	t.Helper()
	f := &forger{issuer: newIssuer(t)}
	var errs [3]error
	f.rsa, errs[0] = rsa.GenerateKey(rand.Reader, 2048)
	f.ec, errs[1] = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	_, f.ed, errs[2] = ed25519.GenerateKey(rand.Reader)
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
	return f
}

// set is the JWK set (RFC 7517) of the forger's public keys.
func (f *forger) set() string {
	f.t.Helper()
	point, err := f.ec.PublicKey.Bytes() // 4, x, y
	if err != nil {
		f.t.Fatal(err)
	}
	keys := []claims{
		{"kty": "RSA", "use": "sig", "alg": "RS256", "kid": kidRSA, "n": b64(f.rsa.N.Bytes()), "e": "AQAB"},
		{"kty": "EC", "use": "sig", "alg": "ES256", "kid": kidEC, "crv": "P-256", "x": b64(point[1:33]), "y": b64(point[33:])},
		{"kty": "OKP", "use": "sig", "alg": "EdDSA", "kid": kidEd, "crv": "Ed25519", "x": b64(f.ed.Public().(ed25519.PublicKey))},
	}
	return toJSON(f.t, claims{"keys": keys})
}

// file writes the set for jwt-keys and returns the name of the file.
func (f *forger) file() string {
	f.t.Helper()
	path := filepath.Join(f.t.TempDir(), "keys.json")
	if err := os.WriteFile(path, []byte(f.set()), 0o600); err != nil {
		f.t.Fatal(err)
	}
	return path
}

func b64[T ~string | ~[]byte](b T) string { return base64.RawURLEncoding.EncodeToString([]byte(b)) }

func toJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// absent is the value of a claim or header parameter that is to be left out.
type absent struct{}

// with returns a copy of c in which other claims stand.
func (c claims) with(more claims) claims {
	all := maps.Clone(c)
	maps.Copy(all, more)
	maps.DeleteFunc(all, func(_ string, v any) bool { return v == absent{} })
	return all
}

// good are claims that the fort takes, of alice.
func (f *forger) good() claims {
	f.n++
	now := time.Now()
	return claims{"sub": "alice", "jti": fmt.Sprintf("alice-%d", f.n), "iss": fortIssuer, "aud": fortAudience, "iat": now.Unix(), "exp": now.Add(time.Hour).Unix(),
		"subscribe": []string{"news*", "good"}, "publish": []string{"news*"}}
}

// Headers that the fort takes.
var (
	headRSA = claims{"alg": "RS256", "typ": "JWT", "kid": kidRSA}
	headEC  = claims{"alg": "ES256", "typ": "JWT", "kid": kidEC}
	headEd  = claims{"alg": "EdDSA", "typ": "JWT", "kid": kidEd}
	headHS  = claims{"alg": "HS256", "typ": "JWT"}
)

// raw returns the token with a header and a payload, whatever these are, and a signature that sign makes.
func (f *forger) raw(header, payload string, sign func(signed []byte) []byte) string {
	signed := b64(header) + "." + b64(payload)
	return signed + "." + b64(sign([]byte(signed)))
}

// signed is raw with the signature that the header promises.
func (f *forger) signed(header, all claims) string {
	f.t.Helper()
	sign := f.hs(f.secret)
	switch header["alg"] {
	case "RS256":
		sign = f.rs
	case "ES256":
		sign = f.es
	case "EdDSA":
		sign = f.eddsa
	}
	return f.raw(toJSON(f.t, header), toJSON(f.t, all), sign)
}

func (f *forger) hs(secret string) func([]byte) []byte {
	return func(signed []byte) []byte {
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write(signed)
		return mac.Sum(nil)
	}
}

func (f *forger) rs(signed []byte) []byte {
	sum := sha256.Sum256(signed)
	sig, err := rsa.SignPKCS1v15(rand.Reader, f.rsa, crypto.SHA256, sum[:])
	if err != nil {
		f.t.Fatal(err)
	}
	return sig
}

func (f *forger) ps(signed []byte) []byte {
	sum := sha256.Sum256(signed)
	sig, err := rsa.SignPSS(rand.Reader, f.rsa, crypto.SHA256, sum[:], &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
	if err != nil {
		f.t.Fatal(err)
	}
	return sig
}

// es is r and s one after the other, as RFC 7518 §3.4 wants it.
func (f *forger) es(signed []byte) []byte {
	sum := sha256.Sum256(signed)
	r, s, err := ecdsa.Sign(rand.Reader, f.ec, sum[:])
	if err != nil {
		f.t.Fatal(err)
	}
	return pair(r, s)
}

func pair(r, s *big.Int) []byte {
	return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
}

// der is a signature as other programs write it.
func (f *forger) der(signed []byte) []byte {
	sum := sha256.Sum256(signed)
	sig, err := ecdsa.SignASN1(rand.Reader, f.ec, sum[:])
	if err != nil {
		f.t.Fatal(err)
	}
	return sig
}

func (f *forger) eddsa(signed []byte) []byte { return ed25519.Sign(f.ed, signed) }

// always returns what signs everything with the same bytes.
func always(sig []byte) func([]byte) []byte { return func([]byte) []byte { return sig } }

// escape writes s for a query, every byte that is not plain in hexadecimal.
func escape(s string) string { return url.QueryEscape(s) }

func fromJSON(s string, v any) bool { return json.Unmarshal([]byte(s), v) == nil }
