package auth

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

// publicForms are the texts and bytes of a public key that somebody could take for a secret.
func publicForms(t *testing.T, name string, jwkText []byte) [][]byte {
	t.Helper()
	k := jose.JSONWebKey{Key: signers()[name]}
	der, err := x509.MarshalPKIXPublicKey(k.Public().Key)
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	return [][]byte{der, text, []byte(strings.TrimSpace(string(text))), jwkText}
}

// with returns a JWK with something changed; a value of nil removes.
func with(k map[string]any, change map[string]any) map[string]any {
	out := maps.Clone(k)
	for name, value := range change {
		if out[name] = value; value == nil {
			delete(out, name)
		}
	}
	return out
}

// private returns a JWK with its private half.
func private(t *testing.T, name string) (out map[string]any) {
	t.Helper()
	text, err := (&jose.JSONWebKey{Key: signers()[name], KeyID: name}).MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestReadKey: which JWKs are taken, one rule a row, from a file and from elsewhere.
func TestReadKey(t *testing.T) {
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	smallKey := with(jwk(t, "rsa"), map[string]any{"n": base64.RawURLEncoding.EncodeToString(small.N.Bytes())})
	even := with(jwk(t, "rsa"), map[string]any{"n": base64.RawURLEncoding.EncodeToString(append(make([]byte, 0, 256), append([]byte{0xff}, make([]byte, 255)...)...))})
	huge := with(jwk(t, "rsa"), map[string]any{"n": strings.Repeat("_", 1<<10)})
	oct := func(bytes int) map[string]any {
		return with(jwk(t, "oct"), map[string]any{"k": b64(strings.Repeat("k", bytes))})
	}
	for _, row := range []struct {
		name          string
		key           map[string]any
		local, remote error
		algs          string
	}{
		{"RSA", jwk(t, "rsa"), nil, nil, "[RS256 RS384 RS512 PS256 PS384 PS512]"},
		{"RSA for one algorithm", with(jwk(t, "rsa"), map[string]any{"alg": "PS384"}), nil, nil, "[PS384]"},
		{"P-256", jwk(t, "p256"), nil, nil, "[ES256]"},
		{"P-384", jwk(t, "p384"), nil, nil, "[ES384]"},
		{"P-521", jwk(t, "p521"), errKeyCurve, errKeyCurve, ""},
		{"Ed25519", with(jwk(t, "ed25519"), map[string]any{"alg": "EdDSA"}), nil, nil, "[EdDSA]"},
		{"secret", jwk(t, "oct"), nil, errKeySecret, "[HS256 HS384 HS512]"},
		{"secret of 48 bytes", oct(48), nil, errKeySecret, "[HS256 HS384]"},
		{"secret of 32 bytes", oct(32), nil, errKeySecret, "[HS256]"},
		{"secret of 31 bytes", oct(31), errKeyShort, errKeySecret, ""},
		{"secret of no bytes", oct(0), errKeyShort, errKeySecret, ""},
		{"secret that is too short for its alg", with(oct(32), map[string]any{"alg": "HS512"}), errKeyAlg, errKeySecret, ""},
		{"RSA of 1024 bits", smallKey, errKeyRSA, errKeyRSA, ""},
		{"RSA of 6144 bits", huge, errKeyForm, errKeyForm, ""},
		{"RSA with an even modulus", even, errKeyRSA, errKeyRSA, ""},
		{"RSA with an even exponent", with(jwk(t, "rsa"), map[string]any{"e": "BA"}), errKeyRSA, errKeyRSA, ""},
		{"RSA without modulus", with(jwk(t, "rsa"), map[string]any{"n": nil}), errKeyForm, errKeyForm, ""},
		{"RSA for HMAC", with(jwk(t, "rsa"), map[string]any{"alg": "HS256"}), errKeyAlg, errKeyAlg, ""},
		{"RSA for encryption", with(jwk(t, "rsa"), map[string]any{"alg": "RSA-OAEP"}), errKeyAlg, errKeyAlg, ""},
		{"P-256 for ES384", with(jwk(t, "p256"), map[string]any{"alg": "ES384"}), errKeyAlg, errKeyAlg, ""},
		{"alg none", with(jwk(t, "p256"), map[string]any{"alg": "none"}), errKeyAlg, errKeyAlg, ""},
		{"use sig", with(jwk(t, "p256"), map[string]any{"use": "sig"}), nil, nil, "[ES256]"},
		{"use enc", with(jwk(t, "p256"), map[string]any{"use": "enc"}), errKeyUse, errKeyUse, ""},
		{"to verify", with(jwk(t, "p256"), map[string]any{"key_ops": []string{"verify"}}), nil, nil, "[ES256]"},
		{"to sign", with(jwk(t, "p256"), map[string]any{"key_ops": []string{"sign"}}), errKeyUse, errKeyUse, ""},
		{"to do nothing", with(jwk(t, "p256"), map[string]any{"key_ops": []string{}}), errKeyUse, errKeyUse, ""},
		{"key_ops as a string", with(jwk(t, "p256"), map[string]any{"key_ops": "verify"}), errKeyForm, errKeyForm, ""},
		{"point that is not on the curve", with(jwk(t, "p256"), map[string]any{"y": jwk(t, "p256")["x"]}), errKeyForm, errKeyForm, ""},
		{"Ed25519 of low order", with(jwk(t, "ed25519"), map[string]any{"x": b64(string(make([]byte, 32)))}), errKeyForm, errKeyForm, ""},
		{"private RSA", private(t, "rsa"), errKeyPrivate, errKeyPrivate, ""},
		{"private P-256", private(t, "p256"), errKeyPrivate, errKeyPrivate, ""},
		{"private Ed25519", private(t, "ed25519"), errKeyPrivate, errKeyPrivate, ""},
		{"kid with a line break", with(jwk(t, "p256"), map[string]any{"kid": "a\nb"}), errKeyID, errKeyID, ""},
		{"kid that is a number", with(jwk(t, "p256"), map[string]any{"kid": 7}), errKeyForm, errKeyForm, ""},
		{"X25519", map[string]any{"kty": "OKP", "crv": "X25519", "x": b64(strings.Repeat("x", 32)), "kid": "x"}, errKeyForm, errKeyForm, ""},
		{"no type", with(jwk(t, "p256"), map[string]any{"kty": nil}), errKeyForm, errKeyForm, ""},
		{"unknown type", with(jwk(t, "p256"), map[string]any{"kty": "XYZ"}), errKeyForm, errKeyForm, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			text, err := json.Marshal(row.key)
			if err != nil {
				t.Fatal(err)
			}
			k, err := readKey(text, false)
			if err != row.local {
				t.Errorf("from a file: got %v, want %v", err, row.local)
			}
			if err == nil && fmt.Sprint(k.algs) != row.algs {
				t.Errorf("it is for %v, want %s", k.algs, row.algs)
			}
			if _, err := readKey(text, true); err != row.remote {
				t.Errorf("from elsewhere: got %v, want %v", err, row.remote)
			}
		})
	}
}

// TestNewTokens: what is wrong with a configuration is said before a node starts.
func TestNewTokens(t *testing.T) {
	keys := func(n int) []byte {
		var list []map[string]any
		for i := range n {
			list = append(list, with(jwk(t, "p256"), map[string]any{"kid": fmt.Sprint(i)}))
		}
		return jwkSet(t, list...)
	}
	for _, row := range []struct {
		name string
		c    TokensConfig
		want string // contained in the error; "": there is none
	}{
		{"nothing", TokensConfig{}, "there is no key"},
		{"secret", TokensConfig{Secret: secretText[:32]}, ""},
		{"short secret", TokensConfig{Secret: "hunter2hunter2hunter2hunter2hun"}, "the secret can't be used: it has under 32 bytes; sluice keys secret makes one"},
		{"keys", TokensConfig{Keys: keys(100)}, ""},
		{"too many keys", TokensConfig{Keys: keys(101)}, "more than 100 keys"},
		{"no keys", TokensConfig{Keys: []byte(`{"keys":[]}`)}, "no key that can be used"},
		{"keys that are none", TokensConfig{Keys: []byte(`{"keys":null}`)}, "it is no JWK set"},
		{"one key, no set", TokensConfig{Keys: []byte(`{"kty":"oct","k":"AAAA"}`)}, "it is no JWK set"},
		{"keys twice", TokensConfig{Keys: []byte(`{"keys":[],"keys":[]}`)}, "it is no JWK set"},
		{"HTML", TokensConfig{Keys: []byte(`<html>`)}, "it is no JWK set"},
		{"key without kid", TokensConfig{Keys: jwkSet(t, with(jwk(t, "p256"), map[string]any{"kid": nil}))}, "of key 1: its kid is not"},
		{"kid twice", TokensConfig{Keys: jwkSet(t, jwk(t, "p256"), with(jwk(t, "rsa"), map[string]any{"kid": "p256"}))}, "of key 2: another key has its kid"},
		{"one bad key", TokensConfig{Keys: jwkSet(t, jwk(t, "p256"), private(t, "ed25519"))}, "of key 2: it is private"},
		{"URL", TokensConfig{JWKS: "https://issuer.example/jwks"}, ""},
		{"URL on this machine", TokensConfig{JWKS: "http://127.0.0.1:8080/jwks"}, ""},
		{"URL on this machine, IPv6", TokensConfig{JWKS: "http://[::1]/jwks"}, ""},
		{"URL on this machine by name", TokensConfig{JWKS: "http://localhost/jwks"}, ""},
		{"http", TokensConfig{JWKS: "http://issuer.example/jwks"}, "by https only"},
		{"http to a name like this machine's", TokensConfig{JWKS: "http://localhost.evil.example/jwks"}, "by https only"},
		{"file", TokensConfig{JWKS: "file:///etc/passwd"}, "it is no URL"},
		{"path", TokensConfig{JWKS: "/jwks.json"}, "it is no URL"},
		{"password in the URL", TokensConfig{JWKS: "https://a:hunter2@issuer.example/jwks"}, "it has a user in it"},
		{"leeway", TokensConfig{Secret: secretText, Leeway: 31e9}, "the leeway is not between"},
		{"negative leeway", TokensConfig{Secret: secretText, Leeway: -1}, "the leeway is not between"},
		{"lifetime", TokensConfig{Secret: secretText, MaxLifetime: 1}, "under a second"},
		{"size", TokensConfig{Secret: secretText, MaxBytes: 1 << 20}, "the largest token is not between"},
		{"times", TokensConfig{Secret: secretText, RefreshMin: 3600e9}, "not in order"},
		{"issuer", TokensConfig{Secret: secretText, Issuers: []string{""}}, "an issuer or audience is empty"},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := NewTokens(row.c)
			if (err != nil) != (row.want != "") || err != nil && !strings.Contains(err.Error(), row.want) {
				t.Errorf("got %v, want %q", err, row.want)
			}
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error repeats a secret: %v", err)
			}
		})
	}
}
