package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"sluice/broker"
)

// APIKey is what a backend publishes with, as settings have it: the secret itself is nowhere but with its holder.
type APIKey struct {
	ID      string // names it in logs and settings: 1 to 64 characters out of A-Z a-z 0-9 -
	Hash    string // "sha256:" and the secret's SHA-256 in lower-case hexadecimal
	Publish Patterns
}

const (
	keyPrefix  = "sluice_" // of a presented key: sluice_ID_SECRET
	hashPrefix = "sha256:"
	maxKeyID   = 64
)

// MakeAPIKey draws a key: what its holder presents, and the hash for the settings. The secret has 130 random bits, so a plain hash
// of it is as safe as a slow one, which would be there to hide weak secrets, and is quick enough to ask before anything else.
func MakeAPIKey(id string) (presented, hash string, err error) {
	if err := checkKeyID(id); err != nil {
		return "", "", err
	}
	secret := rand.Text()
	return keyPrefix + id + "_" + secret, hashOf(secret), nil
}

func hashOf(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hashPrefix + hex.EncodeToString(sum[:])
}

func checkKeyID(id string) error {
	ok := id != "" && len(id) <= maxKeyID
	for i := range len(id) {
		c := id[i]
		ok = ok && (c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-')
	}
	if !ok {
		return errors.New("use 1 to 64 characters out of A-Z a-z 0-9 -")
	}
	return nil
}

// Check returns what is wrong with a key of the settings, as the end of a sentence.
func (k *APIKey) Check() error {
	if err := checkKeyID(k.ID); err != nil {
		return fmt.Errorf("its id can't be used; %w", err)
	}
	sum, ok := strings.CutPrefix(k.Hash, hashPrefix)
	if b, err := hex.DecodeString(sum); !ok || err != nil || len(b) != sha256.Size || sum != strings.ToLower(sum) {
		return errors.New("its hash is not sha256: and 64 hexadecimal digits; make one with sluice keys api")
	}
	return CheckPatterns(k.Publish)
}

// apiKeys are the keys by ID. They are immutable.
type apiKeys map[string]apiKey

type apiKey struct {
	hash    [sha256.Size]byte
	publish []broker.Pattern
}

func newAPIKeys(list []APIKey) (apiKeys, error) {
	keys := apiKeys{}
	for i := range list {
		k := &list[i]
		if err := k.Check(); err != nil {
			return nil, fmt.Errorf("API key %q: %w", k.ID, err)
		}
		if _, twice := keys[k.ID]; twice {
			return nil, fmt.Errorf("API key %q: it is there twice", k.ID)
		}
		publish, err := compile(k.Publish, "")
		if err != nil {
			return nil, fmt.Errorf("API key %q: %w", k.ID, err)
		}
		x := apiKey{publish: publish}
		_, _ = hex.Decode(x.hash[:], []byte(strings.TrimPrefix(k.Hash, hashPrefix))) // Check has
		keys[k.ID] = x
	}
	return keys, nil
}

// find returns the key that was presented. Comparing takes the same time whatever is wrong with the secret; that an ID is known is no secret.
func (keys apiKeys) find(presented string) (id string, k apiKey, err error) {
	id, secret, ok := strings.Cut(strings.TrimPrefix(presented, keyPrefix), "_")
	k, known := keys[id]
	sum := sha256.Sum256([]byte(secret))
	if same := subtle.ConstantTimeCompare(sum[:], k.hash[:]) == 1; !ok || !known || !same {
		return "", apiKey{}, refuse(Unauthorized, "the API key is not known here")
	}
	return id, k, nil
}
