package auth

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
)

// TokensConfig says which tokens are taken. Zero fields are as in DefaultTokensConfig, but for Leeway.
type TokensConfig struct {
	Secret string // for HS256, HS384 and HS512 without kid: 32, 48 and 64 bytes at least; taken as it is, not decoded
	Keys   []byte // a JWK set (RFC 7517) in JSON: public keys and secrets (oct), each with a kid
	JWKS   string // URL of a JWK set of public keys, HTTPS but on this machine

	Issuers   []string // iss must be one of these; empty: it is not looked at
	Audiences []string // aud must name one of these; empty: a token that has an audience is refused (RFC 7519 §4.1.3)

	Leeway      time.Duration // for clocks that differ: 10 s in DefaultTokensConfig, at most 30 s; 0 is none
	MaxLifetime time.Duration // from iat, or now without one, to exp: default 24 h
	MaxBytes    int           // of a token: default 8 KiB, at most 64 KiB

	RefreshEvery time.Duration // the set at JWKS is read again after this, or after its max-age if that is less: default 10 min
	RefreshMin   time.Duration // and not sooner than this, whatever tokens say: default 30 s
	MaxStale     time.Duration // its keys are taken for this long after it was read: default 24 h

	Log *slog.Logger // default: none
}

// DefaultTokensConfig returns what holds where nothing is configured. It has no key, so it is no complete configuration.
func DefaultTokensConfig() TokensConfig {
	return TokensConfig{
		Leeway:       10 * time.Second,
		MaxLifetime:  24 * time.Hour,
		MaxBytes:     8 << 10,
		RefreshEvery: 10 * time.Minute,
		RefreshMin:   30 * time.Second,
		MaxStale:     24 * time.Hour,
		Log:          slog.New(slog.DiscardHandler),
	}
}

// Limits of the configuration.
const (
	maxLeeway   = 30 * time.Second
	minToken    = 256
	maxToken    = 64 << 10
	maxKeys     = 100 // in one set
	maxVerified = 10_000
)

// check fills in the defaults and returns what is wrong.
func (c *TokensConfig) check() error {
	d := DefaultTokensConfig()
	c.MaxLifetime, c.MaxBytes = cmp.Or(c.MaxLifetime, d.MaxLifetime), cmp.Or(c.MaxBytes, d.MaxBytes)
	c.RefreshEvery, c.RefreshMin, c.MaxStale = cmp.Or(c.RefreshEvery, d.RefreshEvery), cmp.Or(c.RefreshMin, d.RefreshMin), cmp.Or(c.MaxStale, d.MaxStale)
	if c.Log == nil {
		c.Log = d.Log
	}
	switch {
	case c.Secret == "" && len(c.Keys) == 0 && c.JWKS == "":
		return errors.New("there is no key to check tokens with; set a secret, keys, or the URL of a JWK set")
	case c.Leeway < 0 || c.Leeway > maxLeeway:
		return fmt.Errorf("the leeway is not between 0 and %s", maxLeeway)
	case c.MaxLifetime < time.Second:
		return errors.New("the longest lifetime is under a second")
	case c.MaxBytes < minToken || c.MaxBytes > maxToken:
		return fmt.Errorf("the largest token is not between %d and %d bytes", minToken, maxToken)
	case c.RefreshMin < time.Second || c.RefreshMin > c.RefreshEvery || c.RefreshEvery > c.MaxStale:
		return errors.New("the times of the JWK set are not in order: 1 s, the shortest refresh, the longest, how stale it may be")
	case slices.Contains(c.Issuers, "") || slices.Contains(c.Audiences, ""):
		return errors.New("an issuer or audience is empty; remove it")
	}
	return nil
}

// Tokens verifies tokens: JWTs (RFC 7519) in the compact form, signed by a key that is known here, under the policy of
// docs/security.md. Tokens that were verified are remembered, some 10,000 of them, until they expire or their key goes. What is
// refused is not: a forged signature costs a check each time, and everything else is refused before that.
//
// All methods may be called concurrently.
type Tokens struct {
	config   TokensConfig
	secret   *key // of TokensConfig.Secret; nil: there is none
	local    []*key
	remote   *jwks // nil: there is none
	verified *lru.Cache[fingerprint, *verified]
}

// fingerprint is the SHA-256 of a token.
type fingerprint [sha256.Size]byte

// verified is a token whose signature and claims were right once.
type verified struct {
	claims *Claims
	key    *key
}

// NewTokens returns Tokens for a configuration. It reads nothing from elsewhere; Run does. Errors are ends of sentences for the operator.
func NewTokens(c TokensConfig) (*Tokens, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	t := &Tokens{config: c}
	var err error
	if c.Secret != "" {
		if t.secret, err = newSecret("", []byte(c.Secret)); err != nil {
			return nil, fmt.Errorf("the secret can't be used: %w", err)
		}
	}
	if len(c.Keys) > 0 {
		if t.local, err = readLocal(c.Keys); err != nil {
			return nil, fmt.Errorf("the keys can't be used: %w", err)
		}
	}
	if c.JWKS != "" {
		if t.remote, err = newJWKS(&c); err != nil {
			return nil, fmt.Errorf("the URL of the JWK set can't be used: %w", err)
		}
	}
	if t.verified, err = lru.New[fingerprint, *verified](maxVerified); err != nil {
		return nil, err
	}
	return t, nil
}

// Run keeps the set at TokensConfig.JWKS fresh until ctx ends. Without one it returns at once. It may run once.
func (t *Tokens) Run(ctx context.Context) {
	if t.remote != nil {
		t.remote.run(ctx)
	}
}

// Status returns "" if all keys can be had, and otherwise what is wrong with the set at TokensConfig.JWKS, since when, and what it means.
func (t *Tokens) Status() string {
	if t.remote == nil {
		return ""
	}
	return t.remote.status()
}

// Verify returns what a token says, if it is signed by a key that is known here and fits the policy, and an *Error otherwise. Only where
// its key is not known it waits: for a fetch of the set at TokensConfig.JWKS that is under way or may be started, for as long as ctx
// holds and some 5 s at most.
func (t *Tokens) Verify(ctx context.Context, token string) (*Claims, error) {
	if len(token) > t.config.MaxBytes {
		return nil, errTooLarge
	}
	id := fingerprint(sha256.Sum256([]byte(token)))
	if v, ok := t.verified.Get(id); ok {
		if c, err := t.again(v); c != nil || err != nil {
			return c, err
		}
		t.verified.Remove(id) // its key is not known any more
	}
	h, err := readHeader(token)
	if err != nil {
		return nil, err
	}
	k, err := t.find(ctx, h)
	if err != nil {
		return nil, err
	}
	payload, err := k.verify(token, h.alg)
	if err != nil {
		return nil, err
	}
	c, err := t.config.readClaims(payload, time.Now())
	if err != nil {
		return nil, err
	}
	t.verified.Add(id, &verified{c, k})
	return c, nil
}

// again returns the claims of a token that was verified before, or why it isn't good any more; neither if its key was taken back.
func (t *Tokens) again(v *verified) (*Claims, error) {
	if v.key.remote {
		keys, err := t.remote.fresh()
		if err != nil {
			return nil, err
		}
		if !slices.Contains(keys, v.key) {
			return nil, nil
		}
	}
	if !time.Now().Before(v.claims.Expires.Add(t.config.Leeway)) {
		return nil, expired(v.claims.Channel)
	}
	return v.claims, nil
}

// find returns the key that a token with this header is to be verified with. A kid that is known locally is asked for nowhere else,
// nor is a secret, which sets from elsewhere have none of.
func (t *Tokens) find(ctx context.Context, h header) (*key, error) {
	if h.kid == "" {
		return t.only(ctx, h.alg)
	}
	k := pick(t.local, h.kid)
	if k == nil && t.remote != nil && !h.alg.secret() {
		var err error
		if k, err = t.remote.find(ctx, h.kid); err != nil {
			return nil, err
		}
	}
	switch {
	case k == nil:
		return nil, errUnknownKey
	case !k.fits(h.alg):
		return nil, errOtherAlg
	}
	return k, nil
}

// only returns the key of a token without kid: the secret, or the only one that fits its algorithm.
func (t *Tokens) only(ctx context.Context, alg algorithm) (*key, error) {
	if t.secret != nil && alg.secret() {
		if !t.secret.fits(alg) {
			return nil, errOtherAlg
		}
		return t.secret, nil
	}
	keys := t.local
	if t.remote != nil && !alg.secret() {
		more, err := t.remote.first(ctx)
		if err != nil {
			return nil, err
		}
		keys = slices.Concat(keys, more)
	}
	var found *key
	for _, k := range keys {
		switch {
		case !k.fits(alg):
		case found != nil:
			return nil, errNoKID
		default:
			found = k
		}
	}
	if found == nil {
		return nil, errUnknownKey
	}
	return found, nil
}
