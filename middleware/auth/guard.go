package auth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"sluice/broker"
)

// Access says who may listen to a channel.
type Access uint8

// The kinds of access. The zero value is the default.
const (
	ByToken Access = iota // who has a grant for it
	Public                // everyone
	Signed                // who has a token for this very subscription
)

// Rules are the rules of one channel.
type Rules struct {
	Access Access
	Send   bool // messages from connections are taken, of those who may publish
}

// Purpose is what a request is for.
type Purpose uint8

// The purposes.
const (
	Listen  Purpose = iota // to open or to rule a stream or WebSocket
	Publish                // to publish: neither cookies nor the webhook count
)

// Config is what a Guard is made with. The zero value lets nobody in, but to channels that are public.
type Config struct {
	Tokens  *Tokens                        // verifies tokens; nil: there are none
	Webhook *Webhook                       // is asked where grants don't say enough; nil: there is none
	Keys    []APIKey                       // of backends; see Guard.SetKeys
	Rules   func(channel string) Rules     // nil: the zero Rules for all. Called concurrently
	Cookie  string                         // the name of the cookie that has a token; "": none
	Query   bool                           // access_token and signed are taken from the query, where they end up in logs of proxies
	Vouched func(*http.Request) bool       // whether a browser says that r is from a page that may use a user's cookies; nil: it never does
	Address func(*http.Request) netip.Addr // of the client; nil: unknown

	// What every token grants besides its claims.
	Subscribe Patterns
	Publish   Patterns

	// Revoked reports whether a token was taken back; nil: none ever is. RevocationsKnown reports whether that can be told yet; nil: it always can.
	Revoked          func(tokenID, subject string, issued time.Time) bool
	RevocationsKnown func() bool
}

// Guard is the one place where it is asked who may do what. All methods may be called concurrently.
type Guard struct {
	config  Config
	open    bool
	keys    atomic.Pointer[apiKeys]
	granted *lru.Cache[*Claims, *Grant] // of tokens, which come again and again
}

// maxGranted bounds the grants that are remembered.
const maxGranted = 10_000

// New returns a guard. Errors are the ends of sentences about settings.
func New(c Config) (*Guard, error) {
	g := &Guard{config: c}
	if err := errors.Join(CheckPatterns(c.Subscribe), CheckPatterns(c.Publish)); err != nil {
		return nil, err
	}
	if err := g.SetKeys(c.Keys); err != nil {
		return nil, err
	}
	var err error
	g.granted, err = lru.New[*Claims, *Grant](maxGranted)
	return g, err
}

// Open returns a guard that lets everyone do everything: for development.
func Open() *Guard {
	return &Guard{open: true}
}

// openGrant is everyone's where everything is open. It is nobody in particular, and not asked for more.
var openGrant = Grant{open: true}

// SetKeys puts other API keys in force. It changes nothing if one of them can't be used.
func (g *Guard) SetKeys(list []APIKey) error {
	keys, err := newAPIKeys(list)
	if err != nil {
		return err
	}
	g.keys.Store(&keys)
	return nil
}

// Authorize returns what the sender of r may do. Without credentials that is what is public, of which Subscribe knows; to
// publish some are needed. It may ask the webhook, and takes as long as that. Errors are *Error.
func (g *Guard) Authorize(r *http.Request, to Purpose) (*Grant, error) {
	if g.open {
		return &openGrant, nil
	}
	cred, err := g.credential(r, to)
	if err != nil {
		return nil, err
	}
	grant, err := g.grant(r.Context(), cred)
	switch {
	case err != nil:
		return nil, err
	case to == Publish && grant.Anonymous:
		return nil, errNoCredentials
	case to == Publish || g.config.Webhook == nil || grant.key != "":
		return grant, nil
	}
	return g.consult(r.Context(), grant, g.caller(r, grant))
}

// Renew returns what the holder of old may do by another token, presented on a live connection.
func (g *Guard) Renew(ctx context.Context, old *Grant, token string) (*Grant, error) {
	if g.open {
		return old, nil
	}
	if token == "" {
		return nil, errNoCredentials
	}
	grant, err := g.grant(ctx, credential{token: token})
	if err != nil {
		return nil, err
	}
	if g.config.Webhook == nil || old.caller == nil {
		return grant, nil
	}
	c := *old.caller
	c.Who = grant.Identity
	return g.consult(ctx, grant, &c)
}

// grant returns what a credential alone gives.
func (g *Guard) grant(ctx context.Context, cred credential) (*Grant, error) {
	switch {
	case cred.key != "":
		id, k, err := (*g.keys.Load()).find(cred.key)
		if err != nil {
			return nil, err
		}
		return &Grant{Identity: Identity{Subject: "key:" + id}, guard: g, key: id, publish: k.publish}, nil
	case cred.token == "":
		return &Grant{Identity: Identity{Anonymous: true}, guard: g}, nil
	}
	claims, err := g.verify(ctx, cred.token)
	if refused := (*Error)(nil); errors.As(err, &refused) {
		return nil, refused.of("") // it was shown for everything
	}
	if err != nil {
		return nil, err
	}
	if claims.Channel != "" {
		return nil, refuse(Unauthorized, "this token is for one subscription; send it with that (signed), not as who you are")
	}
	return g.granting(claims)
}

// verify returns the claims of a token that holds and was not taken back.
func (g *Guard) verify(ctx context.Context, token string) (*Claims, error) {
	if g.config.Tokens == nil {
		return nil, refuse(Unauthorized, "this node takes no tokens: no key is set up that could verify one")
	}
	claims, err := g.config.Tokens.Verify(ctx, token)
	if err != nil || g.config.Revoked == nil {
		return claims, err
	}
	switch {
	case g.config.Revoked(claims.ID, claims.Subject, claims.Issued):
		return nil, refuse(TokenRevoked, "this token was taken back; get another one").of(claims.Channel)
	case g.config.RevocationsKnown != nil && !g.config.RevocationsKnown():
		return nil, &Error{Code: Unavailable, Detail: "it is not known yet which tokens were taken back; try again", Retry: time.Second}
	}
	return claims, nil
}

// granting returns the grant of claims, the same for all who show that token.
func (g *Guard) granting(c *Claims) (*Grant, error) {
	if grant, ok := g.granted.Get(c); ok {
		return grant, nil
	}
	subscribe, err := compile(append(c.Subscribe[:len(c.Subscribe):len(c.Subscribe)], g.config.Subscribe...), c.Subject)
	if err != nil {
		return nil, err
	}
	publish, err := compile(append(c.Publish[:len(c.Publish):len(c.Publish)], g.config.Publish...), c.Subject)
	if err != nil {
		return nil, err
	}
	grant := &Grant{Identity: c.identity(), guard: g, trace: c.Trace, subscribe: subscribe, publish: publish}
	g.granted.Add(c, grant)
	return grant, nil
}

// identity is who c is about.
func (c *Claims) identity() Identity {
	return Identity{
		Subject: c.Subject, TokenID: c.ID, Issued: c.Issued, Expires: c.Expires,
		Rate: c.Rate, Connections: c.Connections, NoHistory: c.NoHistory,
	}
}

// caller describes who asks to connect.
func (g *Guard) caller(r *http.Request, grant *Grant) *Caller {
	c := &Caller{Transport: "sse", Origin: r.Header.Get("Origin"), Path: r.URL.Path, Who: grant.Identity}
	switch {
	case strings.HasSuffix(r.URL.Path, "/poll"):
		c.Transport = "poll"
	case len(r.Header["Upgrade"]) > 0:
		c.Transport = "ws"
	}
	if g.config.Address != nil {
		c.Address = g.config.Address(r)
	}
	c.Header = g.config.Webhook.pick(r.Header)
	return c
}

// consult asks the webhook about a connection, and adds what it says to grant. It can't make somebody of another subject of who has shown a token.
func (g *Guard) consult(ctx context.Context, grant *Grant, c *Caller) (*Grant, error) {
	d, err := g.config.Webhook.Connect(ctx, c)
	if err != nil {
		return nil, err
	}
	out := *grant
	if d.Subject != "" {
		if grant.Subject != "" && grant.Subject != d.Subject {
			return nil, refuse(Forbidden, "the token is another subject's than the backend says")
		}
		out.Subject, out.Anonymous = d.Subject, false
		if out.Issued.IsZero() {
			out.Issued = time.Now()
		}
	}
	subscribe, err := compile(d.Claims.Subscribe, out.Subject)
	if err != nil {
		return nil, err
	}
	publish, err := compile(d.Claims.Publish, out.Subject)
	if err != nil {
		return nil, err
	}
	out.subscribe = append(subscribe, grant.subscribe...)
	out.publish = append(publish, grant.publish...)
	out.trace = grant.trace || d.Trace
	out.NoHistory = grant.NoHistory || d.NoHistory
	out.Expires = sooner(grant.Expires, d.Expires)
	out.Rate = stricter(grant.Rate, d.Rate)
	out.Connections = stricter(grant.Connections, d.Connections)
	who := *c
	who.Who = out.Identity
	out.caller = &who
	return &out, nil
}

// sooner returns the earlier of two times, of which the zero one is never.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// stricter returns the lower of two limits, of which 0 is none.
func stricter[T int | float64](a, b T) T {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// rules returns the rules of a channel.
func (g *Guard) rules(channel string) Rules {
	if g.config.Rules == nil {
		return Rules{}
	}
	return g.config.Rules(channel)
}

// subscribe is Grant.Subscribe for those to whom not everything is open.
func (g *Guard) subscribe(ctx context.Context, of *Grant, channels, tokens []string) ([]Admission, error) {
	own, err := g.signed(ctx, of, tokens)
	if err != nil {
		return nil, err
	}
	admitted := make([]Admission, len(channels))
	var ask []int
	var why *Error // of the first that is refused
	var out []string
	for i, c := range channels {
		if end, ok := own[c]; ok {
			admitted[i] = Admission{end, true}
			continue
		}
		open, err := g.opens(of, c)
		switch {
		case open:
		case err == nil:
			ask = append(ask, i)
		case why == nil || why == err:
			why, out = err, append(out, c)
		}
	}
	switch {
	case why != nil:
		return nil, why.about(out)
	case len(ask) == 0:
		return admitted, nil
	}
	names := make([]string, len(ask))
	for i, at := range ask {
		names[i] = channels[at]
	}
	d, err := g.config.Webhook.Subscribe(ctx, of.caller, names)
	if err != nil {
		return nil, err
	}
	if len(d.Channels) < len(names) { // of those that were asked for, each once
		return nil, errBackend.about(slices.DeleteFunc(names, func(c string) bool { return slices.Contains(d.Channels, c) }))
	}
	for _, at := range ask {
		admitted[at].Until = d.Expires
	}
	return admitted, nil
}

// opens reports whether of is enough to listen to a channel. If not, the error says why; nil: the webhook is to be asked.
func (g *Guard) opens(of *Grant, channel string) (bool, *Error) {
	switch access := g.rules(channel).Access; {
	case access == Public:
		return true, nil
	case access == Signed:
		return false, errOwnToken
	case matchesAny(of.subscribe, channel):
		return true, nil
	case g.config.Webhook != nil && of.caller != nil:
		return false, nil
	case of.Anonymous:
		return false, errNoCredentials
	}
	return false, errNotGranted
}

// MaxSigned bounds the tokens for single subscriptions of one request.
const MaxSigned = 64

// signed returns the channels that tokens are for, and until when.
func (g *Guard) signed(ctx context.Context, of *Grant, tokens []string) (map[string]time.Time, error) {
	if len(tokens) == 0 {
		return nil, nil
	}
	if len(tokens) > MaxSigned {
		return nil, refuse(Malformed, fmt.Sprintf("at most %d tokens for subscriptions at once", MaxSigned))
	}
	own := make(map[string]time.Time, len(tokens))
	for _, t := range tokens {
		c, err := g.verify(ctx, t)
		switch {
		case err != nil:
			return nil, err
		case c.Channel == "":
			return nil, refuse(Unauthorized, "a token that was sent for a subscription names no channel")
		case broker.CheckChannel(c.Channel) != nil:
			return nil, refuse(Unauthorized, "a token that was sent for a subscription names no legal channel")
		case c.Subject != "" && c.Subject != of.Subject:
			return nil, refuse(Forbidden, "a token that was sent for a subscription is another subject's").of(c.Channel)
		}
		own[c.Channel] = c.Expires
	}
	return own, nil
}
