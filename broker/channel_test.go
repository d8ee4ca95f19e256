package broker

import (
	"errors"
	"regexp"
	"strings"
	"testing"
)

// FuzzCheckChannel: the grammar of the manual is what is checked, and what is wrong is told without repeating it.
func FuzzCheckChannel(f *testing.F) {
	for _, s := range []string{"", "news", "a/b:c.d_e-f@g~h", "news\n", "news\x00", "*", "{a}", "[a]", "a b", "ä", "\xff", "a\\b", "__keyspace@0__:a", "__keyevent@", "__key", "a__keyspace@", strings.Repeat("a", MaxChannel), strings.Repeat("a", MaxChannel+1)} {
		f.Add(s)
	}
	grammar := regexp.MustCompile(`\A[A-Za-z0-9_.:/\-@~]{1,200}\z`)
	f.Fuzz(func(t *testing.T, name string) {
		err := CheckChannel(name)
		own := strings.HasPrefix(name, "__keyspace@") || strings.HasPrefix(name, "__keyevent@")
		if (err == nil) != (grammar.MatchString(name) && !own) {
			t.Errorf("%q: %v", name, err)
		}
		if err == nil {
			return
		}
		if !errors.Is(err, ErrChannel) {
			t.Errorf("%q: %v is no ErrChannel", name, err)
		}
		if !own && len(name) > 8 && strings.Contains(err.Error(), name) {
			t.Errorf("%q is repeated: %v", name, err)
		}
	})
}
