package transport

import (
	"context"
	"crypto/tls"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"sluice/middleware/auth"
)

// shown is what the sender of a command shows of himself. It goes to the node that has the session, which trusts nobody else with
// looking at it.
type shown struct {
	Host    string              `json:"host"`
	TLS     bool                `json:"tls"`
	Address string              `json:"address"` // of the client, as the first node sees it
	Tokens  []string            `json:"tokens"`  // of the query
	Header  map[string][]string `json:"header"`
}

// shownHeaders are those by which anybody is let in, or a cookie counts. Config.PassHeaders come besides.
var shownHeaders = []string{"Authorization", "Cookie", "Origin", "Sec-Fetch-Site"}

// passed are the names of the headers that go along.
func (s *Server) passed() []string {
	names := slices.Clone(shownHeaders)
	for _, h := range s.config.PassHeaders {
		names = append(names, http.CanonicalHeaderKey(h))
	}
	return names
}

// shownBy returns what r shows.
func (s *Server) shownBy(r *http.Request) shown {
	x := shown{Host: r.Host, TLS: r.TLS != nil, Header: map[string][]string{}}
	if a := s.limits.clients.Addr(r); a.IsValid() {
		x.Address = a.String()
	}
	if strings.Contains(r.URL.RawQuery, auth.QueryToken) {
		x.Tokens = r.URL.Query()[auth.QueryToken]
	}
	for _, h := range s.passed() {
		if v := r.Header[h]; len(v) > 0 {
			x.Header[h] = v
		}
	}
	return x
}

// request returns a request that shows x, as one for a stream would: that is what it has to be good for.
func (x *shown) request(ctx context.Context) *http.Request {
	u := &url.URL{Path: "/sse"}
	if len(x.Tokens) > 0 {
		u.RawQuery = url.Values{auth.QueryToken: x.Tokens}.Encode()
	}
	r := &http.Request{Method: http.MethodPost, URL: u, Host: x.Host, RemoteAddr: x.Address, Header: x.Header,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Body: http.NoBody}
	if x.TLS {
		r.TLS = new(tls.ConnectionState)
	}
	return r.WithContext(ctx)
}

// bearing returns a request that shows nothing but a token.
func (x *shown) bearing(ctx context.Context, token string) *http.Request {
	only := shown{Host: x.Host, TLS: x.TLS, Address: x.Address, Header: map[string][]string{"Authorization": {"Bearer " + token}}}
	return only.request(ctx)
}

// check reports whether a request could have shown x, and leaves out what is not among the headers that go along here.
func (x *shown) check(names []string) bool {
	if x.Address != "" {
		if _, err := netip.ParseAddr(x.Address); err != nil {
			return false
		}
	}
	if len(x.Host) > maxHost || !printable(x.Host) {
		return false
	}
	if x.Header == nil {
		x.Header = map[string][]string{}
	}
	for name, values := range x.Header {
		if !slices.Contains(names, name) {
			delete(x.Header, name)
		}
		if slices.ContainsFunc(values, func(v string) bool { return !printable(v) }) {
			return false
		}
	}
	return true
}

const maxHost = 512

// printable reports whether s could be the value of a header (RFC 9110 §5.5).
func printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' && s[i] != '\t' || s[i] == 0x7f {
			return false
		}
	}
	return true
}
