package main

import (
	"errors"
	"net/url"
	"strings"
	"time"

	"sluice/middleware/auth"
)

// AccessConfig says who may listen and publish; docs/security.md says what it means.
type AccessConfig struct {
	Secret      string   // of HMAC
	Keys        string   // file, JWK set
	JWKS        string   // URL of a JWK set
	Issuers     []string // any of them
	Audiences   []string // any of them
	Leeway      time.Duration
	MaxLifetime time.Duration
	Cookie      string   // its name; "": none
	Query       bool     // tokens in the query
	Subscribe   []string // what every token grants besides
	Publish     []string

	Webhook        string // URL; "": none
	WebhookSecret  string
	WebhookTimeout time.Duration
	WebhookCache   time.Duration
	WebhookStale   time.Duration
	WebhookHeaders []string

	APIKeys []auth.APIKey // of the settings file
}

// accessSettings are the rows of the table that say who may listen and publish.
func accessSettings() []setting {
	return []setting{
		{name: "jwt-secret", group: "Access", kind: kindString, secret: true, check: checkSecret,
			text:  "Secret of tokens that are signed with HS256, HS384 or HS512, 32 bytes at least; `sluice keys secret` makes one. Better in the environment or the file than in a flag, which others on the machine see.",
			field: func(c *Config) any { return &c.Access.Secret }},
		{name: "jwt-keys", group: "Access", kind: kindString,
			text:  "File with the keys that tokens are verified by, a JWK set (RFC 7517) of public or secret keys.",
			field: func(c *Config) any { return &c.Access.Keys }},
		{name: "jwt-jwks", group: "Access", kind: kindString, secret: true, isURL: true, check: checkSecureURL,
			text:  "URL of the JWK set of an issuer, which is read again and again. See [security](security.md#keys).",
			field: func(c *Config) any { return &c.Access.JWKS }},
		{name: "jwt-issuers", group: "Access", kind: kindList, check: checkAnything,
			text:  "Issuers whose tokens are taken (`iss`). Empty: it is not looked at.",
			field: func(c *Config) any { return &c.Access.Issuers }},
		{name: "jwt-audiences", group: "Access", kind: kindList, check: checkAnything,
			text:  "Of these a token has to name one (`aud`). Empty: tokens that are for somebody by name are refused.",
			field: func(c *Config) any { return &c.Access.Audiences }},
		{name: "jwt-leeway", group: "Access", kind: kindDuration, min: 0, max: int64(30 * time.Second),
			text:  "How far the clocks of issuers may be off.",
			field: func(c *Config) any { return &c.Access.Leeway }},
		{name: "jwt-max-lifetime", group: "Access", kind: kindDuration, min: int64(time.Second), max: int64(366 * day),
			text:  "Tokens that hold for longer are refused. What is revoked is remembered for as long.",
			field: func(c *Config) any { return &c.Access.MaxLifetime }},
		{name: "jwt-cookie", group: "Access", kind: kindString, check: checkCookie,
			text:  "Name of a cookie that has the token; it counts for pages of a listed origin only. Empty: cookies are not looked at.",
			field: func(c *Config) any { return &c.Access.Cookie }},
		{name: "jwt-query", group: "Access", kind: kindBool,
			text:  "Take tokens from the query (`access_token`, `signed`) too. Proxies and browsers keep URLs, so this is for short-lived tokens.",
			field: func(c *Config) any { return &c.Access.Query }},
		{name: "jwt-subscribe", group: "Access", kind: kindList, check: checkPattern,
			text:  "Channel patterns that everyone with a valid token may listen to, such as `user:{sub}:*`.",
			field: func(c *Config) any { return &c.Access.Subscribe }},
		{name: "jwt-publish", group: "Access", kind: kindList, check: checkPattern,
			text:  "Channel patterns that everyone with a valid token may publish to.",
			field: func(c *Config) any { return &c.Access.Publish }},

		{name: "webhook", group: "Access", kind: kindString, secret: true, isURL: true, check: checkSecureURL,
			text:  "URL of a backend that is asked who may connect and subscribe. Empty: nobody is asked. See [security](security.md#authorization-webhook).",
			field: func(c *Config) any { return &c.Access.Webhook }},
		{name: "webhook-secret", group: "Access", kind: kindString, secret: true, check: checkSecret,
			text:  "Secret that the questions are signed with.",
			field: func(c *Config) any { return &c.Access.WebhookSecret }},
		{name: "webhook-timeout", group: "Access", kind: kindDuration, min: int64(10 * time.Millisecond), max: int64(time.Minute),
			text:  "How long an answer may take. Without one nobody is let in.",
			field: func(c *Config) any { return &c.Access.WebhookTimeout }},
		{name: "webhook-cache", group: "Access", kind: kindDuration, min: 0, max: int64(day),
			text:  "How long what was allowed is not asked again. 0: it always is.",
			field: func(c *Config) any { return &c.Access.WebhookCache }},
		{name: "webhook-stale", group: "Access", kind: kindDuration, min: 0, max: int64(day),
			text:  "How old an answer may be that is used while the backend can't be reached. 0: without the backend nobody is let in.",
			field: func(c *Config) any { return &c.Access.WebhookStale }},
		{name: "webhook-headers", group: "Access", kind: kindList, check: checkHeaderName,
			text:  "Headers of the request that the backend is told.",
			field: func(c *Config) any { return &c.Access.WebhookHeaders }},
	}
}

// closed reports whether nothing is there that could let anyone in.
func (c *Config) closed() bool {
	a := &c.Access
	if c.Dev || a.Secret != "" || a.Keys != "" || a.JWKS != "" || a.Webhook != "" || len(a.APIKeys) > 0 {
		return false
	}
	for i := range c.Channels {
		if c.Channels[i].Access == auth.Public {
			return false
		}
	}
	return true
}

// minSecret is the fewest bytes of a secret (RFC 7518 §3.2).
const minSecret = 32

// checkSecret admits nothing at all, too.
func checkSecret(s string) error {
	if s != "" && len(s) < minSecret {
		return errors.New("use 32 bytes or more; sluice keys secret makes such")
	}
	return nil
}

// checkSecureURL admits nothing at all, too. Without TLS what comes back could be anyone's, unless it does not leave the machine.
func checkSecureURL(s string) error {
	u, err := url.Parse(s)
	switch {
	case s == "":
		return nil
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return errors.New("write a URL such as https://auth.example/path")
	case u.Scheme == "http" && !isLoopback(u.Hostname()):
		return errors.New("write https: without TLS anyone on the way could answer; http is for this machine only")
	}
	return nil
}

// checkAnything admits any text; what is allowed in it is the issuer's affair.
func checkAnything(string) error { return nil }

func checkPattern(s string) error {
	if auth.CheckPatterns([]string{s}) != nil {
		return errors.New("write a channel name, with * for any run of characters and {sub}, between separators, for the token's subject")
	}
	return nil
}

// tokenChars are those of RFC 9110 §5.6.2, which names of cookies and headers are made of.
const tokenChars = "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// checkCookie admits nothing at all, too.
func checkCookie(s string) error {
	if strings.Trim(s, tokenChars) != "" {
		return errors.New("write the name of a cookie, such as __Host-token")
	}
	return nil
}

func checkHeaderName(s string) error {
	if s == "" || strings.Trim(s, tokenChars) != "" {
		return errors.New("write the name of a header, such as Cookie")
	}
	return nil
}
