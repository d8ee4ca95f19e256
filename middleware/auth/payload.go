package auth

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/go-jose/go-jose/v4/json"

	"sluice/broker"
)

// Refusals of what a token says.
var (
	errPayload   = refuse(Unauthorized, "the claims of the token are no JSON object, are too deep, are not UTF-8, or one is there twice")
	errExp       = refuse(Unauthorized, "the token has no exp, or it is not a number of seconds since 1970")
	errExpired   = refuse(TokenExpired, "the token has expired; get a new one")
	errLifetime  = refuse(Unauthorized, "the token lives longer than this node allows; give it an earlier exp, in seconds, not milliseconds")
	errNbf       = refuse(Unauthorized, "the token's nbf is not a number of seconds since 1970")
	errEarly     = refuse(Unauthorized, "the token is not valid yet: see its nbf, and the clocks")
	errIat       = refuse(Unauthorized, "the token's iat is not a number of seconds since 1970")
	errFuture    = refuse(Unauthorized, "the token was issued in the future: see its iat, in seconds, not milliseconds, and the clocks")
	errIss       = refuse(Unauthorized, "the token's iss is not one that is taken here, or not a string")
	errAud       = refuse(Unauthorized, "the token's aud does not name this node, or is neither a string nor a list of them")
	errNoAud     = refuse(Unauthorized, "the token has an aud, and this node was not told which audience it is; configure one, or leave aud out")
	errSub       = refuse(Unauthorized, "the token's sub is not a string of 1 to 256 bytes without control characters")
	errJti       = refuse(Unauthorized, "the token's jti is not a string of 1 to 128 bytes without control characters")
	errSubscribe = refuse(Unauthorized, "the token's subscribe is not a list of at most 100 patterns: channel names, with * for any run of characters and {sub} for the subject")
	errPublish   = refuse(Unauthorized, "the token's publish is not a list of at most 100 patterns: channel names, with * for any run of characters and {sub} for the subject")
	errRate      = refuse(Unauthorized, "the token's rate is not a number above 0 and at most 1000000")
	errConns     = refuse(Unauthorized, "the token's connections is not a whole number from 1 to 1000000")
	errHistory   = refuse(Unauthorized, "the token's history is neither true nor false")
	errTrace     = refuse(Unauthorized, "the token's trace is neither true nor false")
	errChannel   = refuse(Unauthorized, "the token's channel is not the name of one channel")
	errBoth      = refuse(Unauthorized, "the token has a channel, which makes it one for a single subscription, and subscribe or publish besides")
)

const (
	maxSubject  = 256
	maxTokenID  = 128
	maxAudience = 100 // entries of aud
	maxNumber   = 1e6 // of rate and connections
)

// payload are the claims of a token as they stand in it.
type payload map[string]json.RawMessage

// readClaims reads claims whose signature was checked. Claims that have no meaning here are left alone: issuers have their own.
func (c *TokensConfig) readClaims(text []byte, now time.Time) (*Claims, error) {
	fields, ok := readObject(text)
	if !ok {
		return nil, errPayload
	}
	p, out := payload(fields), &Claims{}
	for _, read := range []func() *Error{
		func() *Error { return c.times(p, out, now) },
		func() *Error { return c.parties(p) },
		func() *Error { return p.names(out) },
		func() *Error { return p.access(out) },
		func() *Error { return p.limits(out) },
	} {
		switch err := read(); {
		case err == errExpired && p.access(out) == nil:
			return nil, expired(out.Channel)
		case err != nil:
			return nil, err
		}
	}
	return out, nil
}

// expired is the refusal of a token that has expired, and was for one channel; "" is for none.
func expired(channel string) *Error {
	if channel == "" {
		return errExpired
	}
	return errExpired.of(channel)
}

// times reads exp, nbf and iat (RFC 7519 §4.1.4 to §4.1.6).
func (c *TokensConfig) times(p payload, out *Claims, now time.Time) *Error {
	exp, ok := readTime(p["exp"])
	if !ok {
		return errExp
	}
	out.Expires = exp
	from := now.Add(c.Leeway) // of what has no iat
	if raw, there := p["iat"]; there {
		if out.Issued, ok = readTime(raw); !ok {
			return errIat
		}
		if out.Issued.After(now.Add(c.Leeway)) {
			return errFuture
		}
		from = out.Issued
	}
	if raw, there := p["nbf"]; there {
		nbf, ok := readTime(raw)
		if !ok {
			return errNbf
		}
		if nbf.After(now.Add(c.Leeway)) {
			return errEarly
		}
	}
	switch {
	case !now.Before(exp.Add(c.Leeway)):
		return errExpired
	case exp.After(from.Add(c.MaxLifetime)):
		return errLifetime
	}
	return nil
}

// parties checks iss and aud (RFC 7519 §4.1.1, §4.1.3).
func (c *TokensConfig) parties(p payload) *Error {
	if raw, there := p["iss"]; there || len(c.Issuers) > 0 {
		if iss, ok := readString(raw); !ok || len(c.Issuers) > 0 && !slices.Contains(c.Issuers, iss) {
			return errIss
		}
	}
	raw, there := p["aud"]
	switch {
	case !there && len(c.Audiences) == 0:
		return nil
	case len(c.Audiences) == 0:
		return errNoAud
	}
	list, ok := readStrings(raw, maxAudience)
	if one, isString := readString(raw); isString {
		list, ok = []string{one}, true
	}
	if !ok || !slices.ContainsFunc(list, func(a string) bool { return slices.Contains(c.Audiences, a) }) {
		return errAud
	}
	return nil
}

// names reads sub and jti.
func (p payload) names(out *Claims) *Error {
	var ok bool
	if raw, there := p["sub"]; there {
		if out.Subject, ok = readName(raw, maxSubject); !ok {
			return errSub
		}
	}
	if raw, there := p["jti"]; there {
		if out.ID, ok = readName(raw, maxTokenID); !ok {
			return errJti
		}
	}
	return nil
}

// access reads subscribe and publish, or channel.
func (p payload) access(out *Claims) *Error {
	var ok bool
	subscribe, hasSubscribe := p["subscribe"]
	publish, hasPublish := p["publish"]
	if raw, there := p["channel"]; there {
		if out.Channel, ok = readString(raw); !ok || broker.CheckChannel(out.Channel) != nil {
			return errChannel
		}
		if hasSubscribe || hasPublish {
			return errBoth
		}
	}
	if hasSubscribe {
		if out.Subscribe, ok = readPatterns(subscribe, out.Subject); !ok {
			return errSubscribe
		}
	}
	if hasPublish {
		if out.Publish, ok = readPatterns(publish, out.Subject); !ok {
			return errPublish
		}
	}
	return nil
}

// limits reads rate, connections, history and trace.
func (p payload) limits(out *Claims) *Error {
	var ok bool
	if raw, there := p["rate"]; there {
		if out.Rate, ok = readNumber(raw); !ok || out.Rate <= 0 || out.Rate > maxNumber {
			return errRate
		}
	}
	if raw, there := p["connections"]; there {
		n, ok := readNumber(raw)
		if !ok || n < 1 || n > maxNumber || n != math.Trunc(n) {
			return errConns
		}
		out.Connections = int(n)
	}
	if raw, there := p["history"]; there {
		history, ok := readBool(raw)
		if !ok {
			return errHistory
		}
		out.NoHistory = !history
	}
	if raw, there := p["trace"]; there {
		if out.Trace, ok = readBool(raw); !ok {
			return errTrace
		}
	}
	return nil
}

// maxTime is the last second that is read. It is far away, but no sum with it overflows, and what was meant to be milliseconds is
// below, so that those who wrote it are told.
const maxTime = 1e16

// readTime reads a NumericDate (RFC 7519 §2). Fractions of a second are cut off.
func readTime(raw json.RawMessage) (time.Time, bool) {
	f, ok := readNumber(raw)
	if !ok || f < 1 || f > maxTime {
		return time.Time{}, false
	}
	return time.Unix(int64(f), 0), true
}

// readNumber reads a JSON number. A number in a string is none.
func readNumber(raw json.RawMessage) (float64, bool) {
	if len(raw) == 0 || raw[0] != '-' && (raw[0] < '0' || raw[0] > '9') {
		return 0, false
	}
	f, err := strconv.ParseFloat(string(raw), 64)
	return f, err == nil
}

func readBool(raw json.RawMessage) (value, ok bool) {
	switch string(raw) {
	case "true":
		return true, true
	case "false":
		return false, true
	}
	return false, false
}

// readName reads a string that names somebody or something.
func readName(raw json.RawMessage, most int) (string, bool) {
	s, ok := readString(raw)
	return s, ok && s != "" && len(s) <= most && strings.IndexFunc(s, unicode.IsControl) < 0
}

// readStrings reads a list of strings. null is none, nor is a string alone.
func readStrings(raw json.RawMessage, most int) ([]string, bool) {
	if len(raw) == 0 || raw[0] != '[' {
		return nil, false
	}
	var items []json.RawMessage
	if err := json.Unmarshal(raw, &items); err != nil || len(items) > most {
		return nil, false
	}
	out := make([]string, len(items))
	for i, item := range items {
		var ok bool
		if out[i], ok = readString(item); !ok {
			return nil, false
		}
	}
	return out, true
}

// readPatterns reads patterns, and tries them with the subject that they are for; without one, with some.
func readPatterns(raw json.RawMessage, subject string) (Patterns, bool) {
	list, ok := readStrings(raw, MaxPatterns)
	if !ok {
		return nil, false
	}
	_, err := compile(list, cmp.Or(subject, "x"))
	return list, err == nil
}
