package transport

import (
	"context"
	"net/http"

	"sluice/middleware/auth"
)

// Access is the one place where it is asked who may do what: once per request or handshake, before a session
// exists, and again for each token that a session shows later. Errors are *auth.Error; any other is answered with the code
// forbidden (403) and its text. Implementations are called concurrently and must not keep the request.
type Access interface {
	// Authorize returns what the sender of r may do.
	Authorize(r *http.Request, to auth.Purpose) (Grant, error)
	// Signed returns the tokens for single subscriptions that r shows.
	Signed(r *http.Request) ([]string, error)
	// Renew returns what the holder of old may do by another token.
	Renew(ctx context.Context, old Grant, token string) (Grant, error)
}

// Grant is what one caller may do; a session has one as long as it lives, and asks it again for every channel. A nil
// error lets the caller in. Methods are called concurrently; auth.Grant says what they do.
type Grant interface {
	Who() *auth.Identity
	Subscribe(ctx context.Context, channels, tokens []string) ([]auth.Admission, error) // of no channels: whether the tokens hold
	Publish(channel string) error                                                       // by the publish API
	Send(channel string) error                                                          // from a session
	Trace() error                                                                       // have all messages of a session traced
}

// holder is what a session keeps its grant in, which may be replaced while commands ask it.
type holder struct{ Grant }

// grant returns what the session may do now.
func (s *session) grant() Grant { return s.holder.Load().Grant }
