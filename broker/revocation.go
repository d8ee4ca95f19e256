package broker

import (
	"fmt"
	"time"
	"unicode"
	"unicode/utf8"
)

// RevocationKind says what a Revocation names.
type RevocationKind uint8

// The kinds. Their numbers are what backends store: never change them.
const (
	ByToken   RevocationKind = iota + 1 // a token's ID (jti, RFC 7519 §4.1.7)
	BySubject                           // a subject (sub): all of its tokens that were issued at or before Revocation.At
	BySession                           // a session's ID
)

// String names the kind as the admin API does.
func (k RevocationKind) String() string {
	switch k {
	case ByToken:
		return "token"
	case BySubject:
		return "subject"
	case BySession:
		return "session"
	}
	return "unknown"
}

const (
	// MaxRevocations is how many revocations may be in force at once.
	MaxRevocations = 100_000
	// MaxRevocationValue is how many bytes Revocation.Value may have.
	MaxRevocationValue = 512
)

// Revocation takes back what was granted, on all nodes. Of two with the same Kind and Value the later At and the
// later Until hold.
type Revocation struct {
	Kind  RevocationKind
	Value string    // jti, sub or session ID; 1 to 512 bytes of printable UTF-8
	At    time.Time // when it was made
	Until time.Time // how long it has to be remembered; after it, it is forgotten everywhere
}

// Concerns reports whether r takes back a token with this ID, subject and time of issue: by its ID, or by its subject if it was issued at or
// before the second of r.At. NumericDates have whole seconds mostly (RFC 7519 §2), so a token of that second may be from before. A zero issued
// counts as long ago; "" names nothing.
func (r Revocation) Concerns(jti, subject string, issued time.Time) bool {
	switch r.Kind {
	case ByToken:
		return jti != "" && r.Value == jti
	case BySubject:
		return subject != "" && r.Value == subject && (issued.IsZero() || issued.Unix() <= r.At.Unix())
	}
	return false
}

// latest is the last time that a revocation may name, so that all backends can store it in milliseconds.
var latest = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)

// Check returns an error that wraps ErrRevocation if r can't be stored. It does not repeat the value.
func (r Revocation) Check() error {
	switch {
	case r.Kind < ByToken || r.Kind > BySession:
		return fmt.Errorf("%w: kind %d is none", ErrRevocation, r.Kind)
	case r.Value == "":
		return fmt.Errorf("%w: it names no %s", ErrRevocation, r.Kind)
	case len(r.Value) > MaxRevocationValue:
		return fmt.Errorf("%w: %s of %d bytes, at most %d", ErrRevocation, r.Kind, len(r.Value), MaxRevocationValue)
	case !utf8.ValidString(r.Value):
		return fmt.Errorf("%w: %s is not UTF-8", ErrRevocation, r.Kind)
	case r.At.UnixMilli() <= 0 || r.Until.After(latest):
		return fmt.Errorf("%w: its times must be between 1970 and 9999", ErrRevocation)
	case !r.At.Before(r.Until):
		return fmt.Errorf("%w: it ends before it was made", ErrRevocation)
	}
	for _, c := range r.Value {
		if !unicode.IsPrint(c) {
			return fmt.Errorf("%w: %s has a character that can't be printed", ErrRevocation, r.Kind)
		}
	}
	return nil
}
