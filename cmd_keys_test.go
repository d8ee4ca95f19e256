package main

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sluice/middleware/auth"
)

func TestKeysUsage(t *testing.T) {
	for _, tt := range []struct {
		name string
		args []string
		want string
	}{
		{"nothing", nil, "write one of sluice keys secret, sluice keys jwt, sluice keys api ID"},
		{"another", []string{"rsa"}, "write one of sluice keys secret, sluice keys jwt, sluice keys api ID"},
		{"secret of something", []string{"secret", "x"}, "sluice keys secret takes 0 arguments, not 1"},
		{"api key of nobody", []string{"api"}, "sluice keys api takes 1 arguments, not 0"},
		{"api key with an ID that is none", []string{"api", "a_b"}, `"a_b" can't name a key; use 1 to 64 characters out of A-Z a-z 0-9 -`},
		{"flag of another", []string{"secret", "--alg=ES256"}, "--alg is of sluice keys jwt only"},
		{"flag of another, api", []string{"api", "x", "--force"}, "--force is of sluice keys jwt only"},
		{"force without a file", []string{"jwt", "--force"}, "--force is of no use without --out"},
		{"algorithm that is none", []string{"jwt", "--alg=none"}, `--alg "none" is not one to make keys for; use EdDSA, ES256`},
		{"algorithm of secrets", []string{"jwt", "--alg=HS256"}, `--alg "HS256" is not one to make keys for`},
		{"kid that no token may have", []string{"jwt", "--kid=a\nb"}, "a node would refuse the key"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out, errs, code := shell(t, "", append([]string{"keys"}, tt.args...)...)
			if code != exitUsage || !strings.Contains(errs, tt.want) || out != "" {
				t.Errorf("exit code %d, %q, %q; want %q", code, out, errs, tt.want)
			}
		})
	}
}

func TestKeysSecret(t *testing.T) {
	seen := map[string]bool{}
	for range 20 {
		out, errs, code := shell(t, "", "keys", "secret")
		b, err := base64.RawURLEncoding.DecodeString(strings.TrimSuffix(out, "\n"))
		if code != 0 || errs != "" || err != nil || len(b) != 32 || seen[out] {
			t.Fatalf("got %q, %q, %d", out, errs, code)
		}
		seen[out] = true
		if err := checkSecret(strings.TrimSpace(out)); err != nil {
			t.Errorf("it can't be used: %v", err)
		}
	}
}

// TestKeysAPI: the lines are what a settings file takes, and the key is what a node with it takes.
func TestKeysAPI(t *testing.T) {
	for _, id := range []string{"backend", "007", "no", "1e3", "A-b-9", "null", "-"} {
		out, errs, code := shell(t, "", "keys", "api", id)
		key, lines, _ := strings.Cut(out, "\n\n")
		if code != 0 || !strings.Contains(errs, "it is not shown again") || strings.Contains(errs, key) || strings.Contains(lines, key) {
			t.Fatalf("%s: %q, %q, %d", id, out, errs, code)
		}
		l, err := loadText(t, lines, nil)
		if err != nil {
			t.Fatalf("%s: %v in\n%s", id, err, lines)
		}
		keys := l.Config.Access.APIKeys
		if len(keys) != 1 || keys[0].ID != id || len(keys[0].Publish) != 1 || keys[0].Publish[0] != "*" {
			t.Fatalf("%s: got %+v", id, keys)
		}
		g, err := auth.New(auth.Config{Keys: keys})
		if err != nil {
			t.Fatal(err)
		}
		for shown, ok := range map[string]bool{key: true, key + "A": false} {
			r := httptest.NewRequest(http.MethodPost, "/publish", nil)
			r.Header.Set("Authorization", "Bearer "+shown)
			if _, err := g.Authorize(r, auth.Publish); (err == nil) != ok {
				t.Errorf("%s: got %v, want it taken: %v", id, err, ok)
			}
		}
	}
}

// TestKeysFiles: the private key is for its owner only, and nothing is overwritten unless that is asked for.
func TestKeysFiles(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "key.json")
	read := func(name string, mode os.FileMode) string {
		t.Helper()
		info, err := os.Lstat(name)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != mode {
			t.Errorf("%s has mode %s, want %s", name, info.Mode(), mode)
		}
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	out, errs, code := shell(t, "", "keys", "jwt", "--out", path, "--kid", "one")
	if code != 0 || out != "" || !strings.Contains(errs, "--jwt-keys "+path+publicSuffix) {
		t.Fatalf("exit code %d, %q, %q", code, out, errs)
	}
	private, public := read(path, 0o600), read(path+publicSuffix, 0o644)
	var k struct{ Kid, Alg, Use, D string }
	var set struct{ Keys []map[string]any }
	if err := json.Unmarshal([]byte(private), &k); err != nil || k.Kid != "one" || k.Alg != "EdDSA" || k.Use != "sig" || k.D == "" {
		t.Errorf("private key %+v, %v", k, err)
	}
	if err := json.Unmarshal([]byte(public), &set); err != nil || len(set.Keys) != 1 || set.Keys[0]["kid"] != "one" || set.Keys[0]["d"] != nil {
		t.Errorf("public key %s, %v", public, err)
	}
	if strings.Contains(public, k.D) || strings.Contains(errs, k.D) {
		t.Errorf("the private key is shown")
	}

	for _, there := range []string{path, path + publicSuffix} {
		_, errs, code = shell(t, "", "keys", "jwt", "--out", path)
		if code != exitUsage || !strings.Contains(errs, "is there already; name another file by --out, or overwrite it by --force") {
			t.Errorf("exit code %d, %q", code, errs)
		}
		if again := read(path+publicSuffix, 0o644); again != public {
			t.Errorf("the public key was overwritten")
		}
		if there == path {
			if err := os.Remove(path); err != nil { // now only the public one is in the way
				t.Fatal(err)
			}
		}
	}

	// A file that others may read, and a link: both are replaced, not written to.
	elsewhere := filepath.Join(dir, "elsewhere")
	if err := os.WriteFile(elsewhere, []byte("mine"), 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(elsewhere, path); err != nil {
		t.Fatal(err)
	}
	if _, errs, code := shell(t, "", "keys", "jwt", "--out", path); code != exitUsage {
		t.Errorf("a link was followed: exit code %d, %q", code, errs)
	}
	if _, errs, code := shell(t, "", "keys", "jwt", "--out", path, "--force"); code != 0 {
		t.Errorf("exit code %d, %q", code, errs)
	}
	if again := read(path, 0o600); again == private {
		t.Errorf("the private key was not overwritten")
	}
	if again := read(path+publicSuffix, 0o644); again == public {
		t.Errorf("the public key was not overwritten")
	}
	if text, err := os.ReadFile(elsewhere); err != nil || string(text) != "mine" {
		t.Errorf("what the link showed to is now %q, %v", text, err)
	}
	if _, errs, code := shell(t, "", "keys", "jwt", "--out", filepath.Join(dir, "none", "key")); code != exitError || !strings.Contains(errs, "write the key: ") {
		t.Errorf("exit code %d, %q", code, errs)
	}
	left, err := filepath.Glob(filepath.Join(dir, ".sluice-key-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("files are left over: %q, %v", left, err)
	}
}

// TestKeysJWT: without a file the private key goes to standard output, and its name is its thumbprint.
func TestKeysJWT(t *testing.T) {
	out, errs, code := shell(t, "", "keys", "jwt", "--alg", "ES384")
	var k struct{ Kty, Crv, Kid, Alg, D string }
	if err := json.Unmarshal([]byte(out), &k); err != nil || code != 0 || k.Kty != "EC" || k.Crv != "P-384" || k.Alg != "ES384" || len(k.Kid) != 43 || k.D == "" {
		t.Errorf("got %q, %v", out, err)
	}
	if !strings.Contains(errs, "this is the private key") || strings.Contains(errs, k.D) {
		t.Errorf("standard error %q", errs)
	}
}
