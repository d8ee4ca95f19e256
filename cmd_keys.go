package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"
	"github.com/spf13/pflag"

	"sluice/middleware/auth"
)

// keyAlgs are what sluice keys jwt makes keys for.
var keyAlgs = []string{"EdDSA", "ES256", "ES384", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}

const (
	publicSuffix = ".pub.json" // of the file with the public half
	secretBytes  = 32          // of a new secret
	rsaBits      = 2048
)

func keysCommand() *command {
	flags := newFlags("keys")
	alg := flags.String("alg", keyAlgs[0], "of jwt: `algorithm`: "+strings.Join(keyAlgs, ", "))
	kid := flags.String("kid", "", "of jwt: `name` of the key; by default its thumbprint (RFC 7638)")
	out := flags.String("out", "", "of jwt: write the private key to this `file`, and the public one to FILE"+publicSuffix)
	force := flags.Bool("force", false, "of jwt: overwrite files")
	return &command{"keys", "secret | jwt | api ID", "make a secret, a pair of keys for tokens, or an API key", flags,
		func(_ context.Context, t *terminal, args []string) error {
			kinds := []string{"secret", "jwt", "api"}
			if len(args) == 0 || !slices.Contains(kinds, args[0]) {
				return usagef("sluice keys makes a secret, jwt or api key; write one of sluice keys secret, sluice keys jwt, sluice keys api ID")
			}
			want := map[bool]int{true: 2, false: 1}[args[0] == "api"]
			if len(args) != want {
				return usagef("sluice keys %s takes %d arguments, not %d; sluice help keys shows how it is written", args[0], want-1, len(args)-1)
			}
			if args[0] != "jwt" {
				var stray string
				flags.Visit(func(f *pflag.Flag) { stray = f.Name })
				if stray != "" {
					return usagef("--%s is of sluice keys jwt only; remove it", stray)
				}
			}
			switch args[0] {
			case "secret":
				return makeSecret(t)
			case "api":
				return makeAPIKey(t, args[1])
			}
			if flags.Changed("force") && *out == "" {
				return usagef("--force is of no use without --out; remove it")
			}
			return makeJWTKey(t, *alg, *kid, *out, *force)
		}}
}

// makeSecret prints a secret for jwt-secret.
func makeSecret(t *terminal) error {
	b := make([]byte, secretBytes)
	_, _ = rand.Read(b) // never fails
	_, err := fmt.Fprintln(t.out, base64.RawURLEncoding.EncodeToString(b))
	return err
}

// makeAPIKey prints an API key, and what the settings file has of it.
func makeAPIKey(t *terminal, id string) error {
	key, hash, err := auth.MakeAPIKey(id)
	if err != nil {
		return usagef("%q can't name a key; %w", id, err)
	}
	fmt.Fprintf(t.out, "%s\n\n%s:\n  - id: %s\n    hash: %s\n    publish: [\"*\"]\n", key, apiKeysKey, yamlQuoted(id), hash)
	fmt.Fprintln(t.err, "the first line is the key: give it to whoever publishes, it is not shown again. The rest goes into the settings file;\n"+
		"say in publish which channels the key is for")
	return nil
}

// yamlQuoted quotes an ID that YAML would read as something else than a text, such as 007 or no.
func yamlQuoted(id string) string {
	text, err := yamlLine(yamlText(id))
	if err != nil {
		return id // the loader says what is wrong with it
	}
	return text
}

// makeJWTKey prints a new private key, or writes it and its public half to files.
func makeJWTKey(t *terminal, alg, kid, out string, force bool) error {
	if !slices.Contains(keyAlgs, alg) {
		return usagef("--alg %q is not one to make keys for; use %s", alg, strings.Join(keyAlgs, ", "))
	}
	private, err := newPrivate(alg, kid)
	if err != nil {
		return err
	}
	public, err := json.MarshalIndent(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{private.Public()}}, "", "  ")
	if err != nil {
		return err
	}
	c := auth.DefaultTokensConfig()
	c.Keys = public
	if _, err := auth.NewTokens(c); err != nil {
		return usagef("a node would refuse the key: %w", err)
	}
	text, err := private.MarshalJSON()
	if err != nil {
		return err
	}
	if out == "" {
		fmt.Fprintln(t.out, string(text))
		fmt.Fprintln(t.err, "this is the private key; with --out FILE it goes to a file that only you can read, and nodes get FILE"+publicSuffix)
		return nil
	}
	files := []struct {
		path string
		text []byte
		mode fs.FileMode
	}{{out, text, 0o600}, {out + publicSuffix, public, 0o644}}
	for _, f := range files {
		if _, err := os.Lstat(f.path); err == nil && !force {
			return usagef("%s is there already; name another file by --out, or overwrite it by --force", f.path)
		}
	}
	for _, f := range files {
		if err := writeKey(f.path, append(f.text, '\n'), f.mode, force); err != nil {
			return err
		}
	}
	fmt.Fprintf(t.err, "%s is the private key, for those who make tokens; %s is for nodes: --jwt-keys %s\n", out, out+publicSuffix, out+publicSuffix)
	return nil
}

// newPrivate returns a new private key.
func newPrivate(alg, kid string) (*jose.JSONWebKey, error) {
	k := &jose.JSONWebKey{KeyID: kid, Algorithm: alg, Use: "sig"}
	var err error
	switch alg {
	case "EdDSA":
		_, k.Key, err = ed25519.GenerateKey(rand.Reader)
	case "ES256":
		k.Key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "ES384":
		k.Key, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	default:
		k.Key, err = rsa.GenerateKey(rand.Reader, rsaBits)
	}
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	if kid == "" {
		thumb, err := k.Thumbprint(crypto.SHA256)
		if err != nil {
			return nil, fmt.Errorf("name the key: %w", err)
		}
		k.KeyID = base64.RawURLEncoding.EncodeToString(thumb)
	}
	return k, nil
}

// defaultAlg returns the algorithm that a private key without one signs by; "": it signs by none.
func defaultAlg(key any) string {
	switch k := key.(type) {
	case []byte:
		return "HS256"
	case ed25519.PrivateKey:
		return "EdDSA"
	case *rsa.PrivateKey:
		return "RS256"
	case *ecdsa.PrivateKey:
		switch k.Curve {
		case elliptic.P256():
			return "ES256"
		case elliptic.P384():
			return "ES384"
		}
	}
	return ""
}

func isSecret(key any) bool {
	_, ok := key.([]byte)
	return ok
}

// writeKey writes a file that is not there yet; with force, whatever is there is replaced, its mode and what it links to included. Nobody
// gets to read it in between.
func writeKey(path string, text []byte, mode fs.FileMode, force bool) error {
	var f *os.File
	var err error
	if force {
		f, err = os.CreateTemp(filepath.Dir(path), ".sluice-key-*") // mode 0600
	} else {
		f, err = os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	}
	if err != nil {
		return fmt.Errorf("write the key: %w", err)
	}
	_, err = f.Write(text)
	err = errors.Join(err, f.Chmod(mode), f.Close())
	if err == nil && force {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write the key: %w", errors.Join(err, os.Remove(f.Name())))
	}
	return nil
}
