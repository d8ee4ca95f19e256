package transport

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/broker"
	"sluice/broker/memory"
	"sluice/middleware/auth"
)

// desk is an Access that hands out grants itself: what a token says is written down here. Its methods may be called concurrently.
type desk struct {
	t  *testing.T
	mu sync.Mutex
	by map[string]*pass

	asked atomic.Int32 // about subscriptions
}

// pass is the Grant of a token.
type pass struct {
	auth.Identity
	channels []string // may be listened and published to
	signed   bool     // it is for single subscriptions
	desk     *desk
}

func newDesk(t *testing.T) *desk { return &desk{t: t, by: map[string]*pass{}} }

// issue makes a token for channels, which ends after so long; 0 is never.
func (d *desk) issue(token, subject string, ends time.Duration, channels ...string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := &pass{Identity: auth.Identity{Subject: subject, TokenID: "id of " + token, Issued: time.Now()}, channels: channels, desk: d}
	if ends != 0 {
		p.Expires = time.Now().Add(ends)
	}
	d.by[token] = p
	return "access_token=" + token
}

// sign makes a token for one subscription.
func (d *desk) sign(token string, ends time.Duration, channel string) string {
	d.issue(token, "", ends, channel)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.by[token].signed = true
	return token
}

func (d *desk) find(token string) (*pass, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.by[token]
	switch {
	case p == nil:
		return nil, &auth.Error{Code: auth.Unauthorized, Detail: "the token is not known"}
	case !p.Expires.IsZero() && time.Now().After(p.Expires):
		return nil, &auth.Error{Code: auth.TokenExpired, Detail: "the token has expired"}
	}
	return p, nil
}

func (d *desk) Authorize(r *http.Request, _ auth.Purpose) (Grant, error) {
	token := r.URL.Query().Get("access_token")
	if h, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		token = h
	}
	if token == "" {
		return &pass{Identity: auth.Identity{Anonymous: true}, channels: []string{"public"}, desk: d}, nil
	}
	return d.grant(token)
}

func (d *desk) grant(token string) (Grant, error) {
	p, err := d.find(token)
	if err != nil {
		return nil, err
	}
	return p, nil
}

func (d *desk) Signed(r *http.Request) ([]string, error)                      { return r.URL.Query()["signed"], nil }
func (d *desk) Renew(_ context.Context, _ Grant, token string) (Grant, error) { return d.grant(token) }

func (p *pass) Who() *auth.Identity { return &p.Identity }
func (p *pass) Trace() error        { return nil }

func (p *pass) Publish(channel string) error {
	if !slices.Contains(p.channels, channel) {
		return &auth.Error{Code: auth.Forbidden, Detail: "not for this token", Channel: channel}
	}
	return nil
}

func (p *pass) Send(channel string) error { return p.Publish(channel) }

func (p *pass) Subscribe(_ context.Context, channels, tokens []string) ([]auth.Admission, error) {
	if len(channels) > 0 {
		p.desk.asked.Add(1)
	}
	for _, token := range tokens {
		if _, err := p.desk.find(token); err != nil {
			return nil, err
		}
	}
	var refused []string
	out := make([]auth.Admission, len(channels))
	for i, c := range channels {
		if p.Publish(c) == nil {
			continue
		}
		for _, token := range tokens {
			own, err := p.desk.find(token)
			if err != nil {
				return nil, err
			}
			if own.signed && own.Publish(c) == nil {
				out[i] = auth.Admission{Until: own.Expires, Signed: true}
			}
		}
		if !out[i].Signed {
			refused = append(refused, c)
		}
	}
	switch {
	case len(refused) == 0:
		return out, nil
	case p.Anonymous && len(tokens) == 0:
		return nil, &auth.Error{Code: auth.Unauthorized, Detail: "a token is needed", Channel: refused[0], Channels: refused}
	}
	return nil, &auth.Error{Code: auth.Forbidden, Detail: "not for this token", Channel: refused[0], Channels: refused}
}

// newGuarded returns a node to which a desk hands out the grants.
func newGuarded(t *testing.T, change func(*Config)) (*node, *desk) {
	t.Helper()
	d := newDesk(t)
	n := newNodeOver(t, memory.New(memory.DefaultConfig()), func(c *Config) {
		c.Access, c.Admin = d, true
		if change != nil {
			change(c)
		}
	})
	return n, d
}

// revoke takes something back, as an operator would.
func (n *node) revoke(kind broker.RevocationKind, value string) {
	n.t.Helper()
	now := time.Now()
	if err := n.broker.Revoke(n.t.Context(), broker.Revocation{Kind: kind, Value: value, At: now, Until: now.Add(time.Hour)}); err != nil {
		n.t.Fatal(err)
	}
}

// say publishes as a backend with the right to.
func (n *node) say(channel, data string) {
	n.t.Helper()
	n.put(&broker.Message{Channel: channel, Data: []byte(data)}, false)
}
