package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"sync"

	"sluice/broker"
	"sluice/middleware"
	"sluice/middleware/auth"
	"sluice/otel"
	"sluice/transport"
)

// guard is who may do what on a node, and what that needs.
type guard struct {
	*auth.Guard
	tokens  *auth.Tokens  // nil: no token can be verified
	webhook *auth.Webhook // nil: nobody is asked
	broker  *broker.Broker
}

// lacks returns what has to be known before tokens are taken; "" is nothing.
func (g *guard) lacks() string {
	if g.tokens == nil || g.broker.RevocationsKnown() {
		return ""
	}
	return "it is not known yet which tokens were taken back"
}

// newGuard makes the guard that the settings ask for. rule returns the rule in force for a channel.
func newGuard(c *Config, log *slog.Logger, rule func(channel string) *ChannelRule, b *broker.Broker) (*guard, error) {
	g := &guard{broker: b}
	if c.Dev {
		g.Guard = auth.Open()
		return g, nil
	}
	var err error
	a := &c.Access
	if g.tokens, err = newTokens(a, log); err != nil {
		return nil, err
	}
	if a.Webhook != "" {
		w := auth.DefaultWebhookConfig()
		w.URL, w.Secret, w.Log = a.Webhook, a.WebhookSecret, log
		w.Timeout, w.Cache, w.Stale, w.Headers = a.WebhookTimeout, a.WebhookCache, a.WebhookStale, a.WebhookHeaders
		if g.webhook, err = auth.NewWebhook(w); err != nil {
			return nil, usagef("webhook: %w", err)
		}
	}
	clients, err := middleware.NewClients(c.Transport.TrustedProxies)
	if err != nil {
		return nil, usagef("trusted-proxies: %w", err)
	}
	origins := middleware.Origins(c.Transport.Origins)
	g.Guard, err = auth.New(auth.Config{
		Tokens: g.tokens, Webhook: g.webhook, Keys: a.APIKeys,
		Cookie: a.Cookie, Query: a.Query, Subscribe: a.Subscribe, Publish: a.Publish,
		Vouched: origins.Vouched, Address: clients.Addr,
		Rules: func(channel string) auth.Rules {
			if r := rule(channel); r != nil {
				return auth.Rules{Access: r.Access, Send: r.Send}
			}
			return auth.Rules{}
		},
		Revoked: b.Revoked, RevocationsKnown: b.RevocationsKnown,
	})
	if err != nil {
		return nil, usagef("access: %w", err)
	}
	return g, nil
}

// newTokens returns what verifies tokens; nil if there is no key that could.
func newTokens(a *AccessConfig, log *slog.Logger) (*auth.Tokens, error) {
	if a.Secret == "" && a.Keys == "" && a.JWKS == "" {
		return nil, nil
	}
	t := auth.DefaultTokensConfig()
	t.Secret, t.JWKS, t.Issuers, t.Audiences, t.Log = a.Secret, a.JWKS, a.Issuers, a.Audiences, log
	t.Leeway, t.MaxLifetime = a.Leeway, a.MaxLifetime
	if a.Keys != "" {
		var err error
		if t.Keys, err = os.ReadFile(a.Keys); err != nil {
			return nil, usagef("jwt-keys: %w; name a file with a JWK set", err)
		}
	}
	tokens, err := auth.NewTokens(t)
	if err != nil {
		return nil, usagef("keys of tokens (jwt-secret, jwt-keys, jwt-jwks): %w", err)
	}
	return tokens, nil
}

// run keeps the guard's keys fresh until ctx ends.
func (g *guard) run(ctx context.Context, running *sync.WaitGroup) {
	if g.tokens != nil {
		running.Go(func() { g.tokens.Run(ctx) })
	}
}

// close gives up what the guard has open.
func (g *guard) close() {
	if g.webhook != nil {
		g.webhook.Close()
	}
}

// status returns what is wrong with it, in sentences.
func (g *guard) status() (list []string) {
	if g.tokens != nil {
		list = append(list, g.tokens.Status())
	}
	if g.webhook != nil {
		list = append(list, g.webhook.Status())
	}
	return slices.DeleteFunc(list, func(s string) bool { return s == "" })
}

// measure tells the guard's numbers.
func (g *guard) measure(r *otel.Readings) {
	r.Value(otel.Revocations, float64(len(g.broker.Revocations())))
	var s auth.WebhookStats
	if g.webhook != nil {
		s = g.webhook.Stats()
	}
	r.Value(otel.WebhookRequests, float64(s.Answered), "answered")
	r.Value(otel.WebhookRequests, float64(s.Failed), "failed")
	r.Value(otel.WebhookDecisions, float64(s.Allowed), "allowed")
	r.Value(otel.WebhookDecisions, float64(s.Denied), "denied")
	r.Value(otel.WebhookDecisions, float64(s.Unavailable), "unavailable")
	r.Value(otel.WebhookReused, float64(s.Cached), "fresh")
	r.Value(otel.WebhookReused, float64(s.Stale), "stale")
	r.Value(otel.WebhookInFlight, float64(s.InFlight))
}

// access is the guard as transports ask it.
type access struct{ guard *auth.Guard }

func (a access) Authorize(r *http.Request, to auth.Purpose) (transport.Grant, error) {
	return granted(a.guard.Authorize(r, to))
}

func (a access) Signed(r *http.Request) ([]string, error) { return a.guard.SignedTokens(r) }

func (a access) Renew(ctx context.Context, old transport.Grant, token string) (transport.Grant, error) {
	was, ok := old.(*auth.Grant)
	if !ok {
		return nil, fmt.Errorf("renew a grant of %T", old) // all come from the guard
	}
	return granted(a.guard.Renew(ctx, was, token))
}

// granted keeps a grant that is nil from looking like one that is not.
func granted(g *auth.Grant, err error) (transport.Grant, error) {
	if err != nil {
		return nil, err
	}
	return g, nil
}
