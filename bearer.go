package main

import (
	"net/http"
	"strings"

	"github.com/spf13/pflag"
)

// tokenEnv has the token or API key that commands show to a node. It is no setting of a node.
const tokenEnv = envPrefix + "TOKEN"

// bearer is what a command shows to a node: a token or an API key; "" is nothing.
type bearer string

// addBearer adds the flag for it.
func addBearer(flags *pflag.FlagSet) *bearer {
	b := new(bearer)
	flags.StringVar((*string)(b), "token", "", "`token` or API key to show; better in "+tokenEnv+", where others on the machine don't see it")
	return b
}

// or returns b, or what the environment has where the flag was not given.
func (b bearer) or(env []string) bearer {
	if b != "" {
		return b
	}
	for _, pair := range env {
		if value, ok := strings.CutPrefix(pair, tokenEnv+"="); ok {
			return bearer(value)
		}
	}
	return ""
}

// show adds b to the headers of a request.
func (b bearer) show(h http.Header) {
	if b != "" {
		h.Set("Authorization", "Bearer "+string(b))
	}
}
