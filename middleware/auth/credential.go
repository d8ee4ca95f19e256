package auth

import (
	"net/http"
	"strings"
)

// SubprotocolPrefix precedes a token among the subprotocols of a WebSocket handshake, since pages can set no header there. The
// server never selects it.
const SubprotocolPrefix = "sluice.token."

// QueryToken and QuerySigned are the parameters that have tokens where Config.Query allows that.
const (
	QueryToken  = "access_token" // RFC 6750 §2.3
	QuerySigned = "signed"       // for one subscription; as often as need be
)

// HeaderSigned has tokens for single subscriptions, separated by commas.
const HeaderSigned = "Sluice-Signed"

// credential is what a request shows: an API key, a token, or nothing.
type credential struct {
	token string
	key   string
}

// credential finds what r shows. More than one explicit credential is an error (RFC 6750 §2): which one counts would be anyone's guess. A cookie,
// which browsers add by themselves, gives way to any of them.
func (g *Guard) credential(r *http.Request, to Purpose) (credential, error) {
	var found []credential
	for _, h := range r.Header["Authorization"] {
		scheme, value, _ := strings.Cut(h, " ")
		if !strings.EqualFold(scheme, "Bearer") || value == "" {
			return credential{}, refuse(Unauthorized, "Authorization has to be Bearer and a token or an API key")
		}
		if strings.HasPrefix(value, keyPrefix) {
			found = append(found, credential{key: value})
		} else {
			found = append(found, credential{token: value})
		}
	}
	if to == Listen {
		for _, list := range r.Header["Sec-Websocket-Protocol"] {
			for p := range strings.SplitSeq(list, ",") {
				if token, ok := strings.CutPrefix(strings.Trim(p, " \t"), SubprotocolPrefix); ok {
					found = append(found, credential{token: token})
				}
			}
		}
	}
	query, err := g.queryTokens(r, QueryToken)
	if err != nil {
		return credential{}, err
	}
	for _, t := range query {
		found = append(found, credential{token: t})
	}
	switch {
	case len(found) > 1:
		return credential{}, refuse(Malformed, "more than one token or key; send one, in one way")
	case len(found) == 1:
		return found[0], nil
	case to == Listen && g.config.Cookie != "":
		return g.cookie(r)
	}
	return credential{}, nil
}

// cookie takes a token from the cookie, if a page that may use it sent r. Others' pages make browsers send it, too (CSRF, and cross-site
// WebSocket hijacking): theirs is an error, so that nobody takes it for an anonymous request.
func (g *Guard) cookie(r *http.Request) (credential, error) {
	cookies := r.CookiesNamed(g.config.Cookie)
	switch {
	case len(cookies) == 0:
		return credential{}, nil
	case len(cookies) > 1: // such as one of a parent domain
		return credential{}, refuse(Malformed, "there is more than one cookie with the token")
	case g.config.Vouched == nil || !g.config.Vouched(r):
		return credential{}, refuse(Forbidden, "the cookie counts only for pages of a listed origin; others send the token in Authorization")
	}
	return credential{token: cookies[0].Value}, nil
}

// queryTokens returns the tokens of a parameter. Where they are not allowed they are refused, not ignored: whoever sends one thinks that it counts.
func (g *Guard) queryTokens(r *http.Request, name string) ([]string, error) {
	if !strings.Contains(r.URL.RawQuery, name) {
		return nil, nil
	}
	values := r.URL.Query()[name]
	if len(values) > 0 && !g.config.Query {
		return nil, refuse(Unauthorized, "tokens in the query are off, since proxies log it; use Authorization: Bearer, or the subprotocol, or set jwt-query")
	}
	return values, nil
}

// SignedTokens returns the tokens for single subscriptions that r shows: of the header Sluice-Signed, and of the query where that is allowed.
func (g *Guard) SignedTokens(r *http.Request) ([]string, error) {
	if g.open {
		return nil, nil
	}
	tokens, err := g.queryTokens(r, QuerySigned)
	if err != nil {
		return nil, err
	}
	for _, list := range r.Header[HeaderSigned] {
		for t := range strings.SplitSeq(list, ",") {
			tokens = append(tokens, strings.Trim(t, " \t"))
		}
	}
	return tokens, nil
}
