package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/spf13/pflag"

	"sluice/middleware/auth"
)

// tokenFlags say what a token is to say.
type tokenFlags struct {
	set         *pflag.FlagSet
	subject     string
	id          string
	issuer      string
	audience    []string
	subscribe   []string
	publish     []string
	channel     string
	ttl         time.Duration
	rate        float64
	connections int
	noHistory   bool
	trace       bool
	key         string // file
}

func tokenCommand() *command {
	flags := newFlags("token")
	f := &tokenFlags{set: flags}
	flags.StringVar(&f.subject, "sub", "", "`subject`: who it is for")
	flags.StringSliceVar(&f.subscribe, "subscribe", nil, "channel `patterns` to listen to, such as 'news*' or 'user:{sub}:*'; separated by commas, or several times")
	flags.StringSliceVar(&f.publish, "publish", nil, "channel `patterns` to publish to")
	flags.StringVar(&f.channel, "channel", "", "a token for one subscription, to this `channel`")
	flags.DurationVar(&f.ttl, "ttl", time.Hour, "`duration` that it holds for")
	flags.StringVar(&f.id, "jti", "", "`name` of the token, by which it can be revoked")
	flags.Float64Var(&f.rate, "rate", 0, "`number` of messages and commands a second that its holder may send")
	flags.IntVar(&f.connections, "connections", 0, "`number` of connections at once of the subject")
	flags.BoolVar(&f.noHistory, "no-history", false, "only what is published from now on")
	flags.BoolVar(&f.trace, "trace", false, "its holder may ask for traces")
	flags.StringVar(&f.issuer, "iss", "", "`issuer`; by default the first of jwt-issuers")
	flags.StringSliceVar(&f.audience, "aud", nil, "`audience`; by default the first of jwt-audiences")
	flags.StringVar(&f.key, "key", "", "`file` with the private key to sign with, as sluice keys jwt makes it; by default the setting jwt-secret is used")
	addSettings(flags)
	return &command{"token", "[SETTINGS]", "print a token to try things with; real ones come from your backend", flags,
		func(ctx context.Context, t *terminal, args []string) error {
			if len(args) > 0 {
				return usagef("sluice token takes no arguments; remove %q, or write --sub %s", args[0], args[0])
			}
			l, err := load(flags, t.env)
			if err != nil {
				return err
			}
			token, err := f.token(ctx, l)
			if err != nil {
				return err
			}
			fmt.Fprintln(t.out, token)
			fmt.Fprintln(t.err, "this token is for development: let your backend make those of your users")
			if l.From("jwt-secret") == "flag --jwt-secret" {
				fmt.Fprintln(t.err, "others on this machine see --jwt-secret in the list of processes; put it into SLUICE_JWT_SECRET or the settings file")
			}
			return nil
		}}
}

// token returns a signed token that a node with these settings takes.
func (f *tokenFlags) token(ctx context.Context, l *Loaded) (string, error) {
	if f.ttl < time.Second {
		return "", usagef("--ttl %s is too short; use 1s or more", f.ttl)
	}
	check := auth.DefaultTokensConfig() // what a node with these settings would say
	a := &l.Config.Access
	check.Leeway, check.MaxLifetime, check.Issuers, check.Audiences = a.Leeway, a.MaxLifetime, a.Issuers, a.Audiences
	key, err := f.signer(a, &check)
	if err != nil {
		return "", err
	}
	tokens, err := auth.NewTokens(check)
	if err != nil {
		return "", usagef("the key can't be used: %w", err)
	}
	text, err := json.Marshal(f.claims(a, time.Now()))
	if err != nil {
		return "", usagef("--rate %g is not a number that can be written; use one above 0", f.rate)
	}
	signer, err := jose.NewSigner(key, (&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		return "", fmt.Errorf("sign the token: %w", err)
	}
	signed, err := signer.Sign(text)
	if err != nil {
		return "", fmt.Errorf("sign the token: %w", err)
	}
	token, err := signed.CompactSerialize()
	if err != nil {
		return "", fmt.Errorf("sign the token: %w", err)
	}
	if _, err := tokens.Verify(ctx, token); err != nil {
		return "", usagef("a node would refuse it: %w", err)
	}
	return token, nil
}

// claims returns what the token says (docs/security.md).
func (f *tokenFlags) claims(a *AccessConfig, now time.Time) map[string]any {
	c := map[string]any{"iat": now.Unix(), "exp": now.Add(f.ttl).Unix()}
	add := func(flag, claim string, value any) {
		if f.set.Changed(flag) {
			c[claim] = value
		}
	}
	if len(a.Issuers) > 0 {
		c["iss"] = a.Issuers[0]
	}
	if len(a.Audiences) > 0 {
		c["aud"] = a.Audiences[:1]
	}
	add("iss", "iss", f.issuer)
	add("aud", "aud", f.audience)
	add("sub", "sub", f.subject)
	add("jti", "jti", f.id)
	add("subscribe", "subscribe", f.subscribe)
	add("publish", "publish", f.publish)
	add("channel", "channel", f.channel)
	add("rate", "rate", f.rate)
	add("connections", "connections", f.connections)
	add("no-history", "history", !f.noHistory)
	add("trace", "trace", f.trace)
	return c
}

// signer returns what to sign with, and has check verify it.
func (f *tokenFlags) signer(a *AccessConfig, check *auth.TokensConfig) (jose.SigningKey, error) {
	if f.key == "" {
		if a.Secret == "" {
			return jose.SigningKey{}, usagef("there is nothing to sign with; put a secret into SLUICE_JWT_SECRET (sluice keys secret makes one), " +
				"or name a private key by --key (sluice keys jwt makes one)")
		}
		check.Secret = a.Secret
		return jose.SigningKey{Algorithm: jose.HS256, Key: []byte(a.Secret)}, nil
	}
	key, err := readPrivate(f.key)
	if err != nil {
		return jose.SigningKey{}, usagef("--key %s: %w", f.key, err)
	}
	known := key
	if _, secret := key.Key.([]byte); !secret {
		known = key.Public()
	}
	if known.KeyID == "" {
		known.KeyID = "unnamed" // a node's own keys have names; a token without one is of the only key that fits
	}
	if check.Keys, err = json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{known}}); err != nil {
		return jose.SigningKey{}, usagef("--key %s: %w", f.key, err)
	}
	return jose.SigningKey{Algorithm: jose.SignatureAlgorithm(key.Algorithm), Key: key}, nil
}

// maxKeyFile bounds a file with a key; an RSA key takes some 2 KiB.
const maxKeyFile = 64 << 10

// readPrivate reads a private JWK, and fills in an algorithm where it names none. Errors are ends of sentences.
func readPrivate(path string) (key jose.JSONWebKey, err error) {
	f, err := os.Open(path)
	if err != nil {
		return key, fmt.Errorf("%w; name a file that can be read", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxKeyFile))
	if err != nil {
		return key, fmt.Errorf("%w; name a file that can be read", err)
	}
	if err := json.Unmarshal(text, &key); err != nil { // the error may repeat the key
		return key, fmt.Errorf("it is no private key in JSON (JWK); sluice keys jwt makes one")
	}
	if key.IsPublic() {
		return key, fmt.Errorf("it is the public half, which can't sign; name the file without %s", publicSuffix)
	}
	if key.Algorithm == "" {
		key.Algorithm = defaultAlg(key.Key)
	}
	if strings.HasPrefix(key.Algorithm, "HS") != isSecret(key.Key) {
		return key, fmt.Errorf("its alg does not fit its type")
	}
	return key, nil
}
