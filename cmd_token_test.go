package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sluice/middleware/auth"
)

// testSecret is a secret that must be seen nowhere.
const testSecret = "hunter2hunter2hunter2hunter2hunter2"

// shellIn runs one command with an environment, as shell does.
func shellIn(t *testing.T, env []string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var out, err bytes.Buffer
	term := &terminal{env: env, in: strings.NewReader(""), out: &out, err: &err}
	code = term.run(ctx, args)
	return out.String(), err.String(), code
}

// TestToken: what sluice token prints is a token that a node with these settings takes, and that says what the flags say.
func TestToken(t *testing.T) {
	dir := t.TempDir()
	settings := filepath.Join(dir, "sluice.yaml")
	if err := os.WriteFile(settings, []byte("jwt-secret: "+testSecret+"\njwt-issuers: [backend, other]\njwt-audiences: [edge, other]\njwt-max-lifetime: 2h\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(dir, "key.json")
	if _, errs, code := shell(t, "", "keys", "jwt", "--out", key, "--alg", "ES256", "--kid", "one"); code != 0 {
		t.Fatal(errs)
	}
	env := []string{"SLUICE_JWT_SECRET=" + testSecret}
	for _, tt := range []struct {
		name   string
		env    []string
		args   []string
		claims string // but for iat and exp
		life   time.Duration
		header string
	}{
		{"all flags", env, []string{"--sub=alice", "--subscribe=news*,user:{sub}:*", "--subscribe", "chat", "--publish=chat*", "--ttl=10m", "--jti=t1", "--rate=2.5", "--connections=3",
			"--no-history", "--trace", "--iss=me", "--aud=you"}, "", 0, ""},
		{"most flags", env, []string{"--sub=alice", "--subscribe=news*,user:{sub}:*", "--subscribe", "chat", "--publish=chat*", "--ttl=10m", "--jti=t1", "--rate=2.5", "--connections=3",
			"--no-history", "--trace", "--iss=me"},
			`{"connections":3,"history":false,"iss":"me","jti":"t1","publish":["chat*"],"rate":2.5,"sub":"alice","subscribe":["news*","user:{sub}:*","chat"],"trace":true}`,
			10 * time.Minute, `{"alg":"HS256","typ":"JWT"}`},
		{"nothing", env, nil, `{}`, time.Hour, `{"alg":"HS256","typ":"JWT"}`},
		{"no access", env, []string{"--subscribe="}, `{"subscribe":[]}`, time.Hour, `{"alg":"HS256","typ":"JWT"}`},
		{"one subscription", env, []string{"--sub=alice", "--channel=room:1"}, `{"channel":"room:1","sub":"alice"}`, time.Hour, `{"alg":"HS256","typ":"JWT"}`},
		{"settings", nil, []string{"--config", settings, "--sub=alice"}, `{"aud":["edge"],"iss":"backend","sub":"alice"}`, time.Hour, `{"alg":"HS256","typ":"JWT"}`},
		{"settings, other audience", nil, []string{"--config", settings, "--iss=other", "--aud=x,other"}, `{"aud":["x","other"],"iss":"other"}`, time.Hour, `{"alg":"HS256","typ":"JWT"}`},
		{"key", env, []string{"--key", key, "--sub=alice"}, `{"sub":"alice"}`, time.Hour, `{"alg":"ES256","kid":"one","typ":"JWT"}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out, errs, code := shellIn(t, tt.env, append([]string{"token"}, tt.args...)...)
			if tt.claims == "" { // an audience where none is configured
				if code != exitUsage || !strings.Contains(errs, "a node would refuse it") {
					t.Errorf("exit code %d: %s", code, errs)
				}
				return
			}
			if code != 0 || !strings.Contains(errs, "this token is for development") || strings.Contains(errs, testSecret) {
				t.Fatalf("exit code %d: %s", code, errs)
			}
			header, claims := parts(t, out)
			if string(header) != tt.header {
				t.Errorf("header %s, want %s", header, tt.header)
			}
			var all map[string]any
			if err := json.Unmarshal(claims, &all); err != nil {
				t.Fatal(err)
			}
			exp, iat := all["exp"].(float64), all["iat"].(float64)
			delete(all, "exp")
			delete(all, "iat")
			if got, _ := json.Marshal(all); string(got) != tt.claims {
				t.Errorf("claims %s, want %s", got, tt.claims)
			}
			if exp-iat != tt.life.Seconds() || time.Since(time.Unix(int64(iat), 0)).Abs() > patience {
				t.Errorf("holds from %f to %f, want %s", iat, exp, tt.life)
			}
		})
	}
}

// parts returns header and claims of a token.
func parts(t *testing.T, token string) (header, claims []byte) {
	t.Helper()
	p := strings.Split(strings.TrimSpace(token), ".")
	if len(p) != 3 {
		t.Fatalf("%q is no token", token)
	}
	for i, to := range []*[]byte{&header, &claims} {
		var err error
		if *to, err = base64.RawURLEncoding.DecodeString(p[i]); err != nil {
			t.Fatal(err)
		}
	}
	return header, claims
}

func TestTokenRefused(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	key := filepath.Join(dir, "key.json")
	if _, errs, code := shell(t, "", "keys", "jwt", "--out", key); code != 0 {
		t.Fatal(errs)
	}
	text, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	public, err := os.ReadFile(key + publicSuffix)
	if err != nil {
		t.Fatal(err)
	}
	one := strings.TrimSuffix(strings.TrimPrefix(strings.Join(strings.Fields(string(public)), ""), `{"keys":[`), `]}`)
	env := []string{"SLUICE_JWT_SECRET=" + testSecret}
	for _, tt := range []struct {
		name string
		env  []string
		args []string
		want string
	}{
		{"no key", nil, nil, "sluice: there is nothing to sign with; put a secret into SLUICE_JWT_SECRET (sluice keys secret makes one), or name"},
		{"short secret", []string{"SLUICE_JWT_SECRET=hunter2"}, nil, "jwt-secret (SLUICE_JWT_SECRET): "},
		{"an argument", env, []string{"alice"}, `takes no arguments; remove "alice", or write --sub alice`},
		{"too short", env, []string{"--ttl=10ms"}, "--ttl 10ms is too short"},
		{"too long", env, []string{"--ttl=25h"}, "a node would refuse it: unauthorized: the token lives longer"},
		{"rate of 0", env, []string{"--rate=0"}, "a node would refuse it: unauthorized: the token's rate"},
		{"rate that is no number", env, []string{"--rate=NaN"}, "--rate NaN is not a number"},
		{"no pattern", env, []string{"--subscribe=a b"}, "a node would refuse it: unauthorized: the token's subscribe"},
		{"channel pattern", env, []string{"--channel=a*"}, "a node would refuse it: unauthorized: the token's channel"},
		{"channel and more", env, []string{"--channel=a", "--publish=b"}, "a node would refuse it: unauthorized: the token has a channel"},
		{"subject", env, []string{"--sub=a\nb"}, "a node would refuse it: unauthorized: the token's sub"},
		{"another issuer", env, []string{"--jwt-issuers=backend", "--iss=me"}, "a node would refuse it: unauthorized: the token's iss"},
		{"no file", nil, []string{"--key", filepath.Join(dir, "none")}, "no such file or directory; name a file that can be read"},
		{"a folder", nil, []string{"--key", dir}, "name a file that can be read"},
		{"no JSON", nil, []string{"--key", file("a", testSecret)}, "it is no private key in JSON (JWK); sluice keys jwt makes one"},
		{"a set", nil, []string{"--key", key + publicSuffix}, "it is no private key in JSON (JWK)"},
		{"public", nil, []string{"--key", file("b", one)}, "it is the public half, which can't sign"},
		{"cut off", nil, []string{"--key", file("c", string(text[:len(text)/2]))}, "it is no private key in JSON (JWK)"},
		{"secret for EdDSA", nil, []string{"--key", file("d", `{"kty":"oct","alg":"EdDSA","k":"`+base64.RawURLEncoding.EncodeToString([]byte(testSecret))+`"}`)}, "its alg does not fit its type"},
		{"short secret in a file", nil, []string{"--key", file("e", `{"kty":"oct","k":"aHVudGVyMg"}`)}, "the key can't be used: the keys can't be used: of key 1: it has under 32 bytes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out, errs, code := shellIn(t, tt.env, append([]string{"token"}, tt.args...)...)
			if code != exitUsage || !strings.Contains(errs, tt.want) || out != "" {
				t.Errorf("exit code %d, %q, %q; want %q", code, out, errs, tt.want)
			}
			if strings.Contains(errs, "hunter2") {
				t.Errorf("the secret is shown: %s", errs)
			}
		})
	}
}

// TestTokenSecretInFlag: who writes a secret on the command line is told who sees it.
func TestTokenSecretInFlag(t *testing.T) {
	_, errs, code := shell(t, "", "token", "--jwt-secret", testSecret)
	if code != 0 || !strings.Contains(errs, "others on this machine see --jwt-secret") || strings.Contains(errs, testSecret) {
		t.Errorf("exit code %d: %s", code, errs)
	}
}

// TestKeysTogether: from sluice keys jwt over sluice token to a node that knows the public half only.
func TestKeysTogether(t *testing.T) {
	for _, alg := range keyAlgs {
		t.Run(alg, func(t *testing.T) {
			key := filepath.Join(t.TempDir(), "key.json")
			if _, errs, code := shell(t, "", "keys", "jwt", "--alg", alg, "--out", key); code != 0 {
				t.Fatal(errs)
			}
			token, errs, code := shell(t, "", "token", "--key", key, "--sub=alice")
			if code != 0 {
				t.Fatal(errs)
			}
			c := auth.DefaultTokensConfig()
			var err error
			if c.Keys, err = os.ReadFile(key + publicSuffix); err != nil {
				t.Fatal(err)
			}
			tokens, err := auth.NewTokens(c)
			if err != nil {
				t.Fatal(err)
			}
			claims, err := tokens.Verify(t.Context(), strings.TrimSpace(token))
			if err != nil || claims.Subject != "alice" {
				t.Errorf("got %+v, %v", claims, err)
			}
			if header, _ := parts(t, token); !strings.Contains(string(header), `"alg":"`+alg+`"`) {
				t.Errorf("header %s", header)
			}
		})
	}
}
