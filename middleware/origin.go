package middleware

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/labstack/echo/v4"
)

// OriginList decides which pages may use this node. Browsers name a page's origin truthfully in the
// Origin header (RFC 6454 §7, Fetch §3.1), so this keeps foreign pages from riding on a user's
// cookies or network; it is no protection from clients that are not browsers.
//
// It is immutable; all methods may be called concurrently.
type OriginList struct {
	any    bool     // "*" is listed
	listed []string // as canonicalOrigin writes them; a handful, so no map
}

// Origins returns the list of the origins that may connect: exact ones such as
// "https://app.example" or "http://localhost:3000", "null" for pages that have none (sandboxed
// frames, files), or "*" for all. An item that is no origin matches nothing.
//
// An empty list allows pages of the node's own origin only: that of the Host header, or what a browser itself calls the same origin
// (Sec-Fetch-Site), since many proxies put another Host into requests. A list that is not empty replaces that:
// the own origin then has to be listed as well. So an operator who writes a list is also safe from
// pages that make their own host name point here (DNS rebinding), whose Host and Origin agree.
func Origins(list []string) *OriginList {
	l := &OriginList{}
	for _, s := range list {
		if s == "*" {
			l.any = true
			continue
		}
		// What is not an origin still counts: a list of nothing but mistakes must not mean "own origin".
		origin, _ := canonicalOrigin(s)
		l.listed = append(l.listed, origin)
	}
	return l
}

// Allowed reports whether the page that sent r may. A request without Origin is no cross-origin
// request of a page's script, and is allowed: its rights are for the access rules to judge. One with
// several Origin headers, or with one that no browser would write, is refused whatever the list says.
func (l *OriginList) Allowed(r *http.Request) bool {
	values := r.Header["Origin"]
	if len(values) == 0 {
		return true
	}
	origin, ok := canonicalOrigin(values[0])
	switch {
	case !ok || len(values) > 1:
		return false
	case l.any:
		return true
	case len(l.listed) > 0:
		return slices.Contains(l.listed, origin)
	}
	return sameOrigin(origin, r) || origin != "null" && fromSameOrigin(r)
}

// Vouched reports whether a browser says that r is from a page that may use its user's cookies: one of a listed origin, or of the node's
// own where none is listed. Browsers send cookies along whoever asks, so without that word they are nobody's.
//
// Pages that read from their own origin send no Origin; newer browsers say so by Sec-Fetch-Site (Fetch Metadata §2.2), which scripts can't set.
func (l *OriginList) Vouched(r *http.Request) bool {
	if len(r.Header["Origin"]) > 0 {
		origin, _ := canonicalOrigin(r.Header.Get("Origin"))
		// All origins are no list of those that are trusted, and "null" is everyone's who writes a sandboxed frame.
		return l.Allowed(r) && origin != "null" && (!l.any || sameOrigin(origin, r))
	}
	return fromSameOrigin(r)
}

// fromSameOrigin reports whether a browser says that the page that sent r is of the origin that it has sent it to: it compares before any
// proxy changes Host. Scripts can't set the header (Fetch Metadata §2.2).
func fromSameOrigin(r *http.Request) bool {
	site := r.Header["Sec-Fetch-Site"]
	return len(site) == 1 && site[0] == "same-origin"
}

// What pages may send across origins (Fetch §3.2). Everything else that they need is safelisted.
const (
	corsMethods = "GET, POST"
	corsHeaders = "Authorization, Content-Type, Idempotency-Key, Last-Event-ID, Sluice-Event, Sluice-Key, Sluice-Live, Sluice-Signed, Traceparent"
	corsExposed = "Retry-After, Sluice-Deliver, X-Request-Id"
	corsMaxAge  = "600" // seconds; a changed list takes that long to reach browsers that asked before
)

// Middleware returns a middleware that hands requests of pages that are not allowed to refuse, which
// answers them, and lets all others pass. It sets the CORS headers that let an allowed page read the
// answer, and answers preflights itself with 204. Every answer varies by Origin, refusals too, since
// a shared cache would else give one page's answer to another.
//
// Pages of origins that are listed by name may send their user's cookies along; with "*" nobody may.
func (l *OriginList) Middleware(refuse echo.HandlerFunc) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			r, h := c.Request(), c.Response().Header()
			h.Add("Vary", "Origin")
			if !l.Allowed(r) {
				return refuse(c)
			}
			origin := r.Header.Get("Origin")
			if origin == "" {
				return next(c)
			}
			// Never "*": it is wrong as soon as credentials are involved, and hides which page was meant.
			h.Set("Access-Control-Allow-Origin", origin)
			if !l.any && origin != "null" {
				h.Set("Access-Control-Allow-Credentials", "true")
			}
			if r.Method != http.MethodOptions || r.Header.Get("Access-Control-Request-Method") == "" {
				h.Set("Access-Control-Expose-Headers", corsExposed)
				return next(c)
			}
			h.Add("Vary", "Access-Control-Request-Method, Access-Control-Request-Headers")
			h.Set("Access-Control-Allow-Methods", corsMethods)
			h.Set("Access-Control-Allow-Headers", corsHeaders)
			h.Set("Access-Control-Max-Age", corsMaxAge)
			return c.NoContent(http.StatusNoContent)
		}
	}
}

// sameOrigin reports whether origin, which is canonical, is that of the URL that r was sent to. A
// node can't see whether a proxy in front of it speaks TLS, so without TLS of its own it takes either
// scheme; with it an http page is a stranger, since anyone on the way could have written it.
func sameOrigin(origin string, r *http.Request) bool {
	scheme, host, ok := strings.Cut(origin, "://")
	if !ok || r.TLS != nil && scheme != "https" {
		return false
	}
	own, ok := canonicalOrigin(scheme + "://" + r.Host)
	return ok && own == scheme+"://"+host
}

// canonicalOrigin writes an origin the one way that can be compared: scheme and host in lower case,
// without the scheme's default port. It reports false, and answers "", for what is not exactly
// scheme://host[:port] or null.
//
// Prefixes, suffixes and patterns are never compared: https://app.example.evil.example has one of
// the first kind, https://evilapp.example one of the second.
func canonicalOrigin(s string) (string, bool) {
	if s == "null" {
		return s, true
	}
	for i := range len(s) {
		// Browsers write Punycode. Unicode would fold in surprising ways: the Kelvin sign is a k.
		if s[i] <= ' ' || s[i] >= 0x7f {
			return "", false
		}
	}
	u, err := url.Parse(s)
	if err != nil || u.Hostname() == "" || !strings.EqualFold(s, u.Scheme+"://"+u.Host) {
		return "", false // a path, a query, a user, an escape, or nothing of a URL
	}
	if strings.ContainsAny(u.Host, "*\\,;'\"`()<>{}|^!$&+=") {
		return "", false
	}
	scheme, host, port := strings.ToLower(u.Scheme), strings.ToLower(u.Host), u.Port()
	switch {
	case strings.HasSuffix(host, ":"):
		return "", false
	case port == "":
		return scheme + "://" + host, true
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || strconv.FormatUint(n, 10) != port {
		return "", false
	}
	if scheme == "http" && n == 80 || scheme == "https" && n == 443 {
		host = strings.TrimSuffix(host, ":"+port)
	}
	return scheme + "://" + host, true
}
