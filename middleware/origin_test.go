package middleware_test

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/labstack/echo/v4"

	"sluice/middleware"
)

func TestAllowed(t *testing.T) {
	app := []string{"https://app.example"}
	dev := []string{"http://localhost:3000", "https://app.example:8443", "http://[::1]:8080"}
	for _, row := range []struct {
		name    string
		list    []string
		host    string // default app.example
		tls     bool
		origins []string // Origin headers; default none
		sites   []string // Sec-Fetch-Site headers; default none
		want    bool
		why     string
	}{
		{name: "no Origin, own", want: true, why: "curl and back ends send none"},
		{name: "no Origin, listed", list: app, want: true, why: "curl and back ends send none"},

		{name: "own", origins: []string{"https://app.example"}, want: true, why: "a proxy may speak TLS for us"},
		{name: "own, plain", origins: []string{"http://app.example"}, want: true, why: "the same scheme"},
		{name: "own, TLS", tls: true, origins: []string{"https://app.example"}, want: true, why: "the same scheme"},
		{name: "own, downgraded", tls: true, origins: []string{"http://app.example"}, why: "a page over http may be written by anyone on the way"},
		{name: "own, upper case", host: "APP.example", origins: []string{"https://App.Example"}, want: true, why: "host names have no case"},
		{name: "own, port", host: "app.example:8080", origins: []string{"http://app.example:8080"}, want: true, why: "the same port"},
		{name: "own, default port in Host", host: "app.example:443", origins: []string{"https://app.example"}, want: true, why: "443 is the default of https"},
		{name: "own, default port in Origin", origins: []string{"http://app.example:80"}, want: true, why: "80 is the default of http"},
		{name: "own, the other's default port", host: "app.example:80", origins: []string{"https://app.example"}, why: "80 is not the port of https"},
		{name: "own, other port", host: "app.example:8080", origins: []string{"http://app.example:8081"}, why: "a port is part of the origin"},
		{name: "own, no port", host: "app.example:8080", origins: []string{"http://app.example"}, why: "a port is part of the origin"},
		{name: "own, IPv6", host: "[::1]:8080", origins: []string{"http://[::1]:8080"}, want: true, why: "the same address"},
		{name: "own, IPv6 default port", host: "[::1]", origins: []string{"http://[::1]"}, want: true, why: "the same address"},
		{name: "own, no Host", host: "-", origins: []string{"http://app.example"}, why: "nothing to compare with"},
		{name: "own, Host changed", host: "node-7:8080", origins: []string{"https://app.example"}, sites: []string{"same-origin"}, want: true, why: "the browser says so, and a proxy has changed Host"},
		{name: "same site, Host changed", host: "node-7:8080", origins: []string{"https://x.app.example"}, sites: []string{"same-site"}, why: "another origin"},
		{name: "foreign, Host changed", host: "node-7:8080", origins: []string{"https://evil.test"}, sites: []string{"cross-site"}, why: "another origin"},
		{name: "two sites, Host changed", host: "node-7:8080", origins: []string{"https://app.example"}, sites: []string{"same-origin", "cross-site"}, why: "no browser sends two"},
		{name: "null, same origin", origins: []string{"null"}, sites: []string{"same-origin"}, why: "sandboxed frames of any page are null"},
		{name: "own, two Origins, same origin", origins: []string{"https://app.example", "https://app.example"}, sites: []string{"same-origin"}, why: "no browser sends two"},
		{name: "not listed, same origin", list: app, host: "evil.test", origins: []string{"http://evil.test"}, sites: []string{"same-origin"}, why: "DNS rebinding: the browser is deceived as well"},
		{name: "foreign", origins: []string{"https://evil.test"}, why: "cross-site WebSocket hijacking"},
		{name: "null", origins: []string{"null"}, why: "sandboxed frames of any page are null"},
		{name: "null, host null", host: "null", origins: []string{"null"}, why: "null is no host"},

		{name: "listed", list: app, host: "node-7:8080", origins: []string{"https://app.example"}, want: true, why: "it is on the list"},
		{name: "listed, default port", list: app, origins: []string{"https://app.example:443"}, want: true, why: "443 is the default of https"},
		{name: "listed with default port", list: []string{"https://app.example:443"}, origins: []string{"https://app.example"}, want: true, why: "443 is the default of https"},
		{name: "listed in upper case", list: []string{"HTTPS://App.Example"}, origins: []string{"https://app.example"}, want: true, why: "neither has case"},
		{name: "listed, upper case", list: app, origins: []string{"HTTPS://APP.EXAMPLE"}, want: true, why: "neither has case"},
		{name: "one of several", list: dev, origins: []string{"http://localhost:3000"}, want: true, why: "it is on the list"},
		{name: "another of several", list: dev, origins: []string{"https://app.example:8443"}, want: true, why: "it is on the list"},
		{name: "IPv6 listed", list: dev, origins: []string{"http://[::1]:8080"}, want: true, why: "it is on the list"},
		{name: "own, but not listed", list: app, host: "evil.test", origins: []string{"http://evil.test"}, why: "DNS rebinding: Host and Origin agree"},
		{name: "null, not listed", list: app, origins: []string{"null"}, why: "sandboxed frames of any page are null"},
		{name: "null, listed", list: []string{"null"}, origins: []string{"null"}, want: true, why: "the operator wants files and frames"},
		{name: "only null listed", list: []string{"null"}, origins: []string{"https://app.example"}, why: "not on the list"},
		{name: "list of mistakes", list: []string{"app.example", ""}, origins: []string{"https://app.example"}, why: "a mistake must not open anything, nor mean that the list is empty"},

		{name: "suffix attack", list: app, origins: []string{"https://app.example.evil.test"}, why: "only the whole host counts"},
		{name: "prefix attack", list: app, origins: []string{"https://evilapp.example"}, why: "only the whole host counts"},
		{name: "subdomain", list: app, origins: []string{"https://x.app.example"}, why: "only the whole host counts"},
		{name: "parent", list: app, origins: []string{"https://example"}, why: "only the whole host counts"},
		{name: "other scheme", list: app, origins: []string{"http://app.example"}, why: "the scheme is part of the origin"},
		{name: "WebSocket scheme", list: app, origins: []string{"wss://app.example"}, why: "pages have https"},
		{name: "other port", list: app, origins: []string{"https://app.example:8443"}, why: "the port is part of the origin"},
		{name: "trailing dot", list: app, origins: []string{"https://app.example."}, why: "another host to browsers"},
		{name: "trailing slash", list: app, origins: []string{"https://app.example/"}, why: "no browser writes that"},
		{name: "path", list: app, origins: []string{"https://app.example/x"}, why: "no browser writes that"},
		{name: "query", list: app, origins: []string{"https://app.example?"}, why: "no browser writes that"},
		{name: "fragment", list: app, origins: []string{"https://app.example#"}, why: "no browser writes that"},
		{name: "user", list: app, origins: []string{"https://app.example@evil.test"}, why: "the host is evil.test"},
		{name: "user, listed host", list: app, origins: []string{"https://evil@app.example"}, why: "no browser writes that"},
		{name: "backslash", list: app, origins: []string{`https://app.example\.evil.test`}, why: "parsers differ on it"},
		{name: "escape", list: app, origins: []string{"https://app%2eexample"}, why: "parsers differ on it"},
		{name: "empty port", list: app, origins: []string{"https://app.example:"}, why: "no browser writes that"},
		{name: "port with zero", list: app, origins: []string{"https://app.example:0443"}, why: "no browser writes that"},
		{name: "huge port", list: app, origins: []string{"https://app.example:65979"}, why: "443 modulo 65536"},
		{name: "two in one", list: app, origins: []string{"https://app.example https://evil.test"}, why: "RFC 6454 allows lists; browsers never send one"},
		{name: "two with a comma", list: app, origins: []string{"https://app.example, https://evil.test"}, why: "a proxy joined two headers"},
		{name: "two with a comma, no space", list: app, origins: []string{"https://app.example,https://evil.test"}, why: "a proxy joined two headers"},
		{name: "two headers", list: app, origins: []string{"https://app.example", "https://evil.test"}, why: "proxies and servers pick different ones"},
		{name: "two equal headers", list: app, origins: []string{"https://app.example", "https://app.example"}, why: "no browser sends two"},
		{name: "two headers, all allowed", list: []string{"*"}, origins: []string{"https://a.example", "https://b.example"}, why: "no browser sends two"},
		{name: "empty", list: app, origins: []string{""}, why: "no browser writes that"},
		{name: "blank", list: app, origins: []string{" "}, why: "no browser writes that"},
		{name: "star", list: app, origins: []string{"*"}, why: "no browser writes that"},
		{name: "star for star", list: []string{"*"}, origins: []string{"*"}, why: "no browser writes that"},
		{name: "Null", list: []string{"null"}, origins: []string{"NULL"}, why: "browsers write null"},
		{name: "host only", list: app, origins: []string{"app.example"}, why: "no scheme"},
		{name: "no scheme", list: app, origins: []string{"//app.example"}, why: "no scheme"},
		{name: "no host", list: app, origins: []string{"https://"}, why: "no host"},
		{name: "script", list: app, origins: []string{"javascript:alert(1)"}, why: "no origin"},
		{name: "file", list: app, origins: []string{"file://"}, why: "browsers write null for files"},
		{name: "Kelvin sign", list: []string{"https://k.example"}, origins: []string{"https://\u212a.example"}, why: "it folds to k in Unicode, and is another host"},
		{name: "Punycode", list: []string{"https://xn--bcher-kva.example"}, origins: []string{"https://xn--bcher-kva.example"}, want: true, why: "as browsers write it"},
		{name: "pattern is no pattern", list: []string{"https://*.example"}, origins: []string{"https://app.example"}, why: "only exact origins are compared"},
		{name: "pattern for itself", list: []string{"https://*.example"}, origins: []string{"https://*.example"}, why: "no browser writes that"},
		{name: "extension", list: []string{"chrome-extension://abcdefgh"}, origins: []string{"chrome-extension://abcdefgh"}, want: true, why: "extensions have origins too"},
		{name: "all", list: []string{"*"}, origins: []string{"https://evil.test"}, want: true, why: "the operator said so"},
		{name: "all, null", list: []string{"*"}, origins: []string{"null"}, want: true, why: "whoever may use any origin may use none"},
		{name: "all among others", list: []string{"https://app.example", "*"}, origins: []string{"https://evil.test"}, want: true, why: "the operator said so"},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodGet, "/sse?channel=a", nil)
			r.Host = "app.example"
			switch row.host {
			case "":
			case "-":
				r.Host = ""
			default:
				r.Host = row.host
			}
			if row.tls {
				r.TLS = &tls.ConnectionState{}
			}
			if row.origins != nil {
				r.Header["Origin"] = row.origins
			}
			if row.sites != nil {
				r.Header["Sec-Fetch-Site"] = row.sites
			}
			if got := middleware.Origins(row.list).Allowed(r); got != row.want {
				t.Errorf("list %q, Host %q, Origin %q: got %v, want %v: %s", row.list, r.Host, row.origins, got, row.want, row.why)
			}
		})
	}
}

// The middleware as it stands in front of the transports, on a real server.
func TestMiddleware(t *testing.T) {
	e := echo.New()
	cors := middleware.Origins([]string{"https://app.example", "https://Other.example:443"}).Middleware(func(c echo.Context) error {
		return c.String(http.StatusForbidden, "refused")
	})
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodOptions} {
		e.Add(method, "/publish", func(c echo.Context) error { return c.String(http.StatusOK, "served") }, cors)
	}
	server := httptest.NewServer(e)
	defer server.Close()

	preflight := map[string]string{"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type,idempotency-key"}
	for _, row := range []struct {
		name, method, origin string
		header               map[string]string
		status               int
		body, allow          string
		vary                 []string
	}{
		{name: "no origin", method: "GET", status: 200, body: "served", vary: []string{"Origin"}},
		{name: "allowed", method: "GET", origin: "https://app.example", status: 200, body: "served", allow: "https://app.example", vary: []string{"Origin"}},
		{name: "allowed, as the browser wrote it", method: "POST", origin: "https://other.example", status: 200, body: "served", allow: "https://other.example", vary: []string{"Origin"}},
		{name: "refused", method: "GET", origin: "https://evil.test", status: 403, body: "refused", vary: []string{"Origin"}},
		{name: "refused form", method: "POST", origin: "null", header: map[string]string{"Content-Type": "text/plain"}, status: 403, body: "refused", vary: []string{"Origin"}},
		{name: "refused with a cookie", method: "GET", origin: "https://app.example.evil.test", header: map[string]string{"Cookie": "session=1"}, status: 403, body: "refused", vary: []string{"Origin"}},
		{name: "preflight", method: "OPTIONS", origin: "https://app.example", header: preflight, status: 204, allow: "https://app.example",
			vary: []string{"Origin", "Access-Control-Request-Method, Access-Control-Request-Headers"}},
		{name: "refused preflight", method: "OPTIONS", origin: "https://evil.test", header: preflight, status: 403, body: "refused", vary: []string{"Origin"}},
		{name: "OPTIONS that is no preflight", method: "OPTIONS", origin: "https://app.example", status: 200, body: "served", allow: "https://app.example", vary: []string{"Origin"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			r, err := http.NewRequestWithContext(t.Context(), row.method, server.URL+"/publish", nil)
			if err != nil {
				t.Fatal(err)
			}
			for name, value := range row.header {
				r.Header.Set(name, value)
			}
			if row.origin != "" {
				r.Header.Set("Origin", row.origin)
			}
			res, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			var body strings.Builder
			if err := res.Write(&body); err != nil {
				t.Fatal(err)
			}
			h := res.Header
			if res.StatusCode != row.status || !strings.HasSuffix(body.String(), row.body) {
				t.Errorf("got %q, want status %d and body %q", body.String(), row.status, row.body)
			}
			if got := h.Values("Access-Control-Allow-Origin"); fmt.Sprint(got) != fmt.Sprint(values(row.allow)) {
				t.Errorf("Access-Control-Allow-Origin: got %q, want %q", got, row.allow)
			}
			if got := h.Values("Vary"); !slices.Equal(got, row.vary) {
				t.Errorf("Vary: got %q, want %q", got, row.vary)
			}
			if got := h.Get("Access-Control-Allow-Credentials"); (got == "true") != (row.allow != "") || got != "true" && got != "" {
				t.Errorf("Access-Control-Allow-Credentials: got %q for the origin %q", got, row.allow)
			}
			methods, headers := h.Get("Access-Control-Allow-Methods"), h.Get("Access-Control-Allow-Headers")
			if (res.StatusCode == 204) != strings.Contains(methods, "POST") || (res.StatusCode == 204) != strings.Contains(headers, "Idempotency-Key") {
				t.Errorf("the answer allows methods %q and headers %q; only preflights are answered so", methods, headers)
			}
		})
	}
}

func values(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

// Whatever strangers send: no panic, nothing allowed that is not listed, and no two spellings of a
// host that the list takes for one but for case and the default port.
func FuzzAllowed(f *testing.F) {
	for _, s := range []string{"https://app.example", "null", "", "https://app.example:443", "https://app.example@evil", "https://[::1]:1", "%", "https://app.example\\"} {
		f.Add(s)
	}
	list := middleware.Origins([]string{"https://app.example"})
	f.Fuzz(func(t *testing.T, origin string) {
		r := &http.Request{Method: http.MethodGet, Host: "node.example", Header: http.Header{"Origin": {origin}}}
		if list.Allowed(r) && strings.TrimSuffix(strings.ToLower(origin), ":443") != "https://app.example" {
			t.Errorf("%q is allowed", origin)
		}
	})
}

// Cookies are for pages of listed origins, and for nobody that merely may connect.
func TestVouched(t *testing.T) {
	app := []string{"https://app.example"}
	for _, row := range []struct {
		name   string
		list   []string
		header map[string][]string
		want   bool
		cors   string // Access-Control-Allow-Credentials
		why    string
	}{
		{"listed", app, map[string][]string{"Origin": {"https://app.example"}}, true, "true", ""},
		{"foreign", app, map[string][]string{"Origin": {"https://evil.test"}}, false, "", ""},
		{"none", app, nil, false, "", "what is no page has no business with cookies"},
		{"two", app, map[string][]string{"Origin": {"https://app.example", "https://app.example"}}, false, "", "no browser writes that"},
		{"own, read", app, map[string][]string{"Sec-Fetch-Site": {"same-origin"}}, true, "", "browsers send no Origin with reads from their own"},
		{"same site, read", app, map[string][]string{"Sec-Fetch-Site": {"same-site"}}, false, "", "another host of the domain is another page"},
		{"cross site, read", app, map[string][]string{"Sec-Fetch-Site": {"cross-site"}}, false, "", ""},
		{"typed in", app, map[string][]string{"Sec-Fetch-Site": {"none"}}, false, "", "nobody reads a stream so"},
		{"both, foreign", app, map[string][]string{"Origin": {"https://evil.test"}, "Sec-Fetch-Site": {"same-origin"}}, false, "", "Origin counts"},
		{"all", []string{"*"}, map[string][]string{"Origin": {"https://evil.test"}}, false, "", "all pages may connect, and none has its user's rights"},
		{"all, own", []string{"*"}, map[string][]string{"Origin": {"https://node.example"}}, true, "", "the node's own page"},
		{"all, null", []string{"*"}, map[string][]string{"Origin": {"null"}}, false, "", ""},
		{"null listed", []string{"null"}, map[string][]string{"Origin": {"null"}}, false, "", "every sandboxed frame is null"},
		{"no list, own", nil, map[string][]string{"Origin": {"https://node.example"}}, true, "true", ""},
		{"no list, foreign", nil, map[string][]string{"Origin": {"https://evil.test"}}, false, "", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodGet, "/sse", nil)
			r.Host = "node.example"
			for name, values := range row.header {
				r.Header[name] = values
			}
			l := middleware.Origins(row.list)
			if got := l.Vouched(r); got != row.want {
				t.Errorf("got %v, want %v: %s", got, row.want, row.why)
			}
			w := httptest.NewRecorder()
			pass := func(c echo.Context) error { return c.NoContent(http.StatusOK) }
			if err := l.Middleware(pass)(pass)(echo.New().NewContext(r, w)); err != nil {
				t.Fatal(err)
			}
			if got := w.Header().Get("Access-Control-Allow-Credentials"); got != row.cors {
				t.Errorf("Access-Control-Allow-Credentials: got %q, want %q", got, row.cors)
			}
		})
	}
}
