package auth

import (
	"errors"
	"time"
)

// Code is the stable name of a refusal; transports have the same codes in their table (docs/protocol.md).
type Code string

// The codes of refusals.
const (
	Unauthorized Code = "unauthorized"  // no credentials, or some that are not valid: 401
	TokenExpired Code = "token_expired" // they were valid once: 401
	TokenRevoked Code = "token_revoked" // they were taken back: 401
	Forbidden    Code = "forbidden"     // valid, and not enough: 403
	Malformed    Code = "bad_request"   // such as two credentials in one request: 400
	Unavailable  Code = "unavailable"   // it can't be decided now: 503
)

// Error is a refusal. Its text is for the one who is refused: it says what to do, and has nothing of the credentials in it.
type Error struct {
	Code   Code
	Detail string
	Retry  time.Duration // of Unavailable: when it may be worth another try

	// Channel is what the refusal is about, the first of several; "": it is about who asks, or nobody knows.
	Channel string

	// Channels are those of a subscription that are refused with this code; others may be so with another. nil: it is not about some of them.
	Channels []string
}

// of returns e as it is about one channel; "" is none.
func (e *Error) of(channel string) *Error {
	x := *e
	x.Channel = channel
	return &x
}

// about returns e as it is about some channels of a subscription. Credentials that are missing might help with all of them.
func (e *Error) about(channels []string) *Error {
	x := *e
	if x.Channels = channels; e != errNoCredentials {
		x.Channel = channels[0]
	}
	return &x
}

// Error implements error.
func (e *Error) Error() string { return string(e.Code) + ": " + e.Detail }

// Is reports whether target is a refusal with the same code.
func (e *Error) Is(target error) bool {
	var t *Error
	return errors.As(target, &t) && t.Code == e.Code
}

func refuse(c Code, detail string) *Error { return &Error{Code: c, Detail: detail} }

// What is said of channels.
var (
	errOwnToken   = refuse(Unauthorized, "a channel among these takes only subscriptions with a token of their own (signed)")
	errNotGranted = refuse(Forbidden, "this token does not let you listen to all of these channels")
	errBackend    = refuse(Forbidden, "the backend does not let you listen to all of these channels")
)

// errNoCredentials is what those are told who show none and need some.
var errNoCredentials = refuse(Unauthorized, "credentials are needed: a token or API key in Authorization: Bearer, a token as the subprotocol sluice.token.TOKEN, or in the cookie if one is set up")
