package e2e

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// issuer makes tokens as any backend would, by the book (RFC 7515 §3.1, RFC 7519 §3), with nothing of the program.
type issuer struct {
	t      *testing.T
	secret string
	n      int
}

func newIssuer(t *testing.T) *issuer { return &issuer{t: t, secret: rand.Text() + rand.Text()} }

// claims are what a token says.
type claims map[string]any

// token returns a token for subject that holds for so long; more claims may say otherwise.
func (i *issuer) token(subject string, ttl time.Duration, more claims) string {
	i.t.Helper()
	i.n++
	now := time.Now()
	all := claims{"sub": subject, "jti": fmt.Sprintf("%s-%d", subject, i.n), "iat": now.Unix(), "exp": now.Add(ttl).Unix(),
		"subscribe": []string{"news*"}}
	maps.Copy(all, more)
	return i.sign(claims{"alg": "HS256", "typ": "JWT"}, all)
}

// sign returns a token with the given header and claims.
func (i *issuer) sign(header, all claims) string {
	i.t.Helper()
	part := func(c claims) string {
		b, err := json.Marshal(c)
		if err != nil {
			i.t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(b)
	}
	signed := part(header) + "." + part(all)
	mac := hmac.New(sha256.New, []byte(i.secret))
	mac.Write([]byte(signed))
	return signed + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// apiKey returns a key as backends show it, and its entry in the settings file.
func apiKey(id string, publish ...string) (key, entry string) {
	secret := rand.Text()
	sum := sha256.Sum256([]byte(secret))
	return "sluice_" + id + "_" + secret, fmt.Sprintf("  - id: %s\n    hash: sha256:%s\n    publish: [%q]\n", id, hex.EncodeToString(sum[:]), strings.Join(publish, `", "`))
}

// settingsFile writes a settings file and returns its name.
func settingsFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sluice.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// startGuarded starts a node that is not for development: it takes the issuer's tokens, and those of the query too. The secret is in its environment, as it should be.
func (i *issuer) startGuarded(name string, flags ...string) *node {
	i.t.Helper()
	return startNodeIn(i.t, []string{"SLUICE_JWT_SECRET=" + i.secret}, name,
		append([]string{"--dev=false", "--jwt-query", "--admin", "127.0.0.1:0"}, flags...)...)
}
