package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"
)

// algorithm is the alg of a token: one of RFC 7518 §3.1, or EdDSA (RFC 8037 §3.1).
type algorithm jose.SignatureAlgorithm

// known reports whether the algorithm is taken with some kind of key. none is not, however it is written.
func (a algorithm) known() bool {
	switch a {
	case "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA":
		return true
	}
	return false
}

// secret reports whether who verifies could sign, too.
func (a algorithm) secret() bool { return a == "HS256" || a == "HS384" || a == "HS512" }

// Sizes of keys.
const (
	minSecret = 32   // bytes: of HS256; of HS384 and HS512 it is 48 and 64 (RFC 7518 §3.2)
	minRSA    = 2048 // bits (RFC 7518 §3.3); the library takes no more than 4096
)

// key verifies the tokens that it signed, pinned to the algorithms that it is for. It is immutable.
type key struct {
	id     string // kid; "": it has none
	algs   []algorithm
	public any // or []byte, a secret
	remote bool
	thumb  [sha256.Size]byte // of a public key (RFC 7638)
}

// Reasons why a key is not used. They name no key, so that each is logged once.
var (
	errKeyForm    = errors.New("it is no JWK of type RSA, EC, OKP or oct that can be read")
	errKeyUse     = errors.New("it is not for signatures: see use and key_ops")
	errKeyAlg     = errors.New("its alg does not fit its type, or is not one that is taken here")
	errKeyPrivate = errors.New("it is private: publish and configure only its public half")
	errKeySecret  = errors.New("it is a secret (oct), which has no place in a set that others can read")
	errKeyRSA     = errors.New("it is an RSA key under 2048 bits, or with an even modulus or exponent")
	errKeyCurve   = errors.New("its curve is none of P-256, P-384 and Ed25519")
	errKeyShort   = fmt.Errorf("it has under %d bytes; sluice keys secret makes one", minSecret)
	errKeyID      = errors.New("its kid is not 1 to 256 printable ASCII characters")
	errKeyTwice   = errors.New("another key has its kid")
	errKeys       = errors.New("it is no JWK set, which is a JSON object with a list of keys in keys")
	errManyKeys   = fmt.Errorf("it has more than %d keys", maxKeys)
	errNoKeys     = errors.New("it has no key that can be used")
)

// newSecret returns a key for HMAC.
func newSecret(id string, secret []byte) (*key, error) {
	k := &key{id: id, public: secret}
	for _, of := range []struct {
		alg   algorithm
		bytes int
	}{{"HS256", minSecret}, {"HS384", 48}, {"HS512", 64}} {
		if len(secret) >= of.bytes {
			k.algs = append(k.algs, of.alg)
		}
	}
	if k.algs == nil {
		return nil, errKeyShort
	}
	return k, nil
}

// readKey reads a JWK. In a set from elsewhere there is no place for secrets.
func readKey(text []byte, remote bool) (*key, error) {
	var m struct {
		KID string   `json:"kid"`
		Use string   `json:"use"`
		Ops []string `json:"key_ops"`
		Alg string   `json:"alg"`
	}
	var parsed jose.JSONWebKey
	if json.Unmarshal(text, &m) != nil || json.Unmarshal(text, &parsed) != nil {
		return nil, errKeyForm
	}
	if m.Use != "" && m.Use != "sig" || m.Ops != nil && !slices.Contains(m.Ops, "verify") {
		return nil, errKeyUse
	}
	if m.KID != "" && !isKID(m.KID) {
		return nil, errKeyID
	}
	k, err := newKey(&parsed, remote)
	if err != nil {
		return nil, err
	}
	k.id, k.remote = m.KID, remote
	if m.Alg != "" {
		if !k.fits(algorithm(m.Alg)) {
			return nil, errKeyAlg
		}
		k.algs = []algorithm{algorithm(m.Alg)}
	}
	return k, nil
}

// newKey returns a key for all algorithms that its type and size allow.
func newKey(parsed *jose.JSONWebKey, remote bool) (*key, error) {
	k := &key{public: parsed.Key}
	switch public := parsed.Key.(type) {
	case []byte:
		if remote {
			return nil, errKeySecret
		}
		return newSecret("", public)
	case *rsa.PublicKey:
		if public.N.BitLen() < minRSA || public.N.Bit(0) == 0 || public.E%2 == 0 {
			return nil, errKeyRSA
		}
		k.algs = []algorithm{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}
	case *ecdsa.PublicKey:
		switch public.Curve {
		case elliptic.P256():
			k.algs = []algorithm{"ES256"}
		case elliptic.P384():
			k.algs = []algorithm{"ES384"}
		default:
			return nil, errKeyCurve
		}
	case ed25519.PublicKey:
		k.algs = []algorithm{"EdDSA"}
	case *rsa.PrivateKey, *ecdsa.PrivateKey, ed25519.PrivateKey:
		return nil, errKeyPrivate
	default:
		return nil, errKeyForm
	}
	thumb, err := parsed.Thumbprint(crypto.SHA256)
	if err != nil {
		return nil, errKeyForm
	}
	copy(k.thumb[:], thumb)
	return k, nil
}

func (k *key) fits(a algorithm) bool { return slices.Contains(k.algs, a) }

// same reports whether two public keys do the same.
func (k *key) same(l *key) bool {
	return k.id == l.id && k.thumb == l.thumb && slices.Equal(k.algs, l.algs)
}

// verify returns what a token says if it is signed with this key. The caller has checked that the key fits a, which is the token's.
func (k *key) verify(token string, a algorithm) ([]byte, error) {
	signed, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.SignatureAlgorithm(a)})
	if err != nil {
		return nil, errShape
	}
	text, err := signed.Verify(k.public)
	if err != nil {
		return nil, errSignature
	}
	return text, nil
}

// pick returns the key that a header with a kid asks for; nil: there is none with that kid.
func pick(keys []*key, kid string) *key {
	for _, k := range keys {
		if k.id == kid {
			return k
		}
	}
	return nil
}

// splitSet returns the keys of a JWK set (RFC 7517 §5) as they stand in it.
func splitSet(text []byte) ([]json.RawMessage, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	switch err := json.Unmarshal(text, &set); {
	case err != nil || set.Keys == nil:
		return nil, errKeys
	case len(set.Keys) > maxKeys:
		return nil, errManyKeys
	}
	return set.Keys, nil
}

// readLocal reads the operator's own keys. All of them must be good: what is wrong there is a mistake.
func readLocal(text []byte) ([]*key, error) {
	raw, err := splitSet(text)
	if err != nil {
		return nil, err
	}
	keys := make([]*key, 0, len(raw))
	for i := range raw {
		k, err := readKey(raw[i], false)
		switch {
		case err != nil:
		case k.id == "":
			err = errKeyID
		case slices.ContainsFunc(keys, func(l *key) bool { return l.id == k.id }):
			err = errKeyTwice
		}
		if err != nil {
			return nil, fmt.Errorf("of key %d: %w", i+1, err)
		}
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		return nil, errNoKeys
	}
	return keys, nil
}

// readRemote reads a set from elsewhere. A key that can't be used is left out, and skip is told why; a set without any is an error.
// Keys of before that are still there are kept, so that what they have verified is.
func readRemote(text []byte, before []*key, skip func(why error)) ([]*key, error) {
	raw, err := splitSet(text)
	if err != nil {
		return nil, err
	}
	keys := make([]*key, 0, len(raw))
	for i := range raw {
		k, err := readKey(raw[i], true)
		if err == nil && k.id != "" && slices.ContainsFunc(keys, func(l *key) bool { return l.id == k.id }) {
			err = errKeyTwice
		}
		if err != nil {
			skip(err)
			continue
		}
		if at := slices.IndexFunc(before, k.same); at >= 0 {
			k = before[at]
		}
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		return nil, errNoKeys
	}
	return keys, nil
}
