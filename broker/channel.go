package broker

import (
	"fmt"
	"strings"
)

// MaxChannel is the longest channel name, in bytes.
const MaxChannel = 200

// CheckChannel returns nil for a legal channel name and an error that wraps ErrChannel otherwise:
// 1 to MaxChannel bytes out of A-Z a-z 0-9 and _ . : / - @ ~
//
// Names that begin like those of Redis' own notifications (__keyspace@, __keyevent@) are none: there Redis tells which keys it has, those of
// other programs, too.
//
// Excluded on purpose: control characters and spaces, Redis' patterns (* ? [ ] \ ^), braces (they
// would steer the Cluster slot), and bytes outside ASCII (two names that look alike).
func CheckChannel(name string) error {
	if name == "" {
		return fmt.Errorf("%w: it is empty", ErrChannel)
	}
	if len(name) > MaxChannel {
		return fmt.Errorf("%w: %d bytes, at most %d", ErrChannel, len(name), MaxChannel)
	}
	if strings.HasPrefix(name, "__keyspace@") || strings.HasPrefix(name, "__keyevent@") {
		return fmt.Errorf("%w: names that begin with __keyspace@ or __keyevent@ are Redis' own", ErrChannel)
	}
	for i := range len(name) {
		if !legal[name[i]] {
			return fmt.Errorf("%w: byte %d (0x%02x) is not one of A-Z a-z 0-9 _ . : / - @ ~", ErrChannel, i, name[i])
		}
	}
	return nil
}

var legal = func() (t [256]bool) {
	for c := range 256 {
		t[c] = c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
	}
	for _, c := range "_.:/-@~" {
		t[c] = true
	}
	return t
}()
