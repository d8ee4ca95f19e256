package auth

import (
	"context"
	"time"

	"sluice/broker"
)

// Identity is who holds a grant, and for how long. It is immutable.
type Identity struct {
	Subject     string    // a stable name, the same for all credentials of a user or service; "": nobody in particular
	TokenID     string    // jti of the token; "": it has none
	Issued      time.Time // of the token; zero: unknown
	Expires     time.Time // when the grant ends; zero: never
	Rate        float64   // messages published and commands a second; 0: what the node's settings say
	Connections int       // at once, of the subject; 0: what the node's settings say
	NoHistory   bool      // only what is published from now on
	Anonymous   bool      // no credentials were shown
}

// Grant is what one caller may do, as it was decided once. It is immutable; all methods may be called concurrently. Errors are *Error.
type Grant struct {
	Identity
	guard     *Guard
	open      bool // everything: development
	trace     bool
	key       string // ID of the API key; "": it is none
	subscribe []broker.Pattern
	publish   []broker.Pattern
	caller    *Caller // who asks, for the webhook; nil: there is none
}

// Who returns who holds the grant.
func (g *Grant) Who() *Identity { return &g.Identity }

// Publish returns nil if the holder may publish to channel by the publish API.
func (g *Grant) Publish(channel string) error {
	switch {
	case g.open || matchesAny(g.publish, channel):
		return nil
	case g.Anonymous:
		return errNoCredentials
	}
	return refuse(Forbidden, "this token or key does not let you publish there").of(channel)
}

// Send returns nil if the holder may publish to channel from a connection: the channel must consent, too.
func (g *Grant) Send(channel string) error {
	if err := g.Publish(channel); err != nil || g.open {
		return err
	}
	if !g.guard.rules(channel).Send {
		return refuse(Forbidden, "this channel takes no messages from connections; publish by HTTP, or set publish: clients for it").of(channel)
	}
	return nil
}

// Trace returns nil if sessions of the holder may ask for traces of all their messages.
func (g *Grant) Trace() error {
	if g.open || g.trace {
		return nil
	}
	return refuse(Forbidden, "traces of a session need a token with trace: true")
}

// Admission is how a subscription was let in.
type Admission struct {
	Until  time.Time // when it ends; zero: with the grant
	Signed bool      // by a token of its own, whoever the session's grant is for
}

// Subscribe returns nil if the holder may listen to all of the channels, and how each was let in; a nil list is: as long as the
// grant holds. tokens are for single subscriptions; with no channels it is about them alone. It may ask the webhook, and takes as long as that.
func (g *Grant) Subscribe(ctx context.Context, channels, tokens []string) (admitted []Admission, err error) {
	if g.open {
		return nil, nil
	}
	return g.guard.subscribe(ctx, g, channels, tokens)
}

func matchesAny(ps []broker.Pattern, channel string) bool {
	for i := range ps {
		if ps[i].Match(channel) {
			return true
		}
	}
	return false
}
