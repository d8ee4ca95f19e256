package e2e

import (
	"net/http"
	"slices"
	"strings"
	"testing"
)

// originAttack is what a browser, or who pretends to be one, says of the page that asks.
type originAttack struct {
	name, why string
	origins   []string // headers
	extra     string   // another header, with its line end
	cookie    string   // what comes of the cookie alone: its code; "": it counts
	token     string   // what comes of a token in the request, cookie or not; "": it counts
}

// originAttacks are for a list of fortOrigin alone. {host} is the node's own.
func originAttacks() []originAttack {
	listed := func(name, why string, origins ...string) originAttack {
		return originAttack{name, why, origins, "", "", ""}
	}
	foreign := func(name, why string, origins ...string) originAttack {
		return originAttack{name, why, origins, "", "origin_forbidden", "origin_forbidden"}
	}
	all := []originAttack{
		listed("listed", "or the other rows would mean nothing", fortOrigin),
		listed("listed, upper case", "hosts have no case, and browsers write lower case", "HTTPS://APP.TEST"),
		listed("listed, with its port", "443 is that of https", "https://app.test:443"),
		foreign("foreign", "cross-site WebSocket hijacking", "https://evil.tld"),
		foreign("null", "a sandboxed frame of any page", "null"),
		foreign("Null", "", "Null"),
		foreign("suffix", "only the whole host counts", "https://app.test.evil.tld"),
		foreign("prefix", "", "https://evilapp.test"),
		foreign("below", "whoever has a subdomain is not yet who has the domain", "https://evil.app.test"),
		foreign("above", "", "https://test"),
		foreign("other port", "", "https://app.test:8443"),
		foreign("other port, 80", "", "https://app.test:80"),
		foreign("http", "anyone on the way could have written the page", "http://app.test"),
		foreign("wss", "", "wss://app.test"),
		foreign("trailing dot", "another host to browsers", "https://app.test."),
		foreign("trailing slash", "", "https://app.test/"),
		foreign("path", "", "https://app.test/evil"),
		foreign("user", "", "https://app.test@evil.tld"),
		foreign("user, listed host", "", "https://evil.tld@app.test"),
		foreign("fragment", "", "https://evil.tld#https://app.test"),
		foreign("backslash", "", `https://evil.tld\.app.test`),
		foreign("escape", "", "https://app%2etest"),
		foreign("space", "", "https://app.test https://evil.tld"),
		foreign("comma", "a proxy has joined two", "https://app.test, https://evil.tld"),
		foreign("tab", "", "https://app.test\thttps://evil.tld"),
		foreign("two, listed first", "gorilla reads the first only", fortOrigin, "https://evil.tld"),
		foreign("two, listed last", "", "https://evil.tld", fortOrigin),
		foreign("two that are listed", "", fortOrigin, fortOrigin),
		foreign("the node's own", "it is not on the list: DNS rebinding", "http://{host}"),
		foreign("star", "", "*"),
		foreign("empty", "", ""),
		foreign("not ASCII", "", "https://\u0430pp.test"),
		foreign("a KiB", "", "https://"+strings.Repeat("a.", 500)+"app.test"),
		{"none", "curl sends none; then a cookie is nobody's", nil, "", "forbidden", ""},
	}
	for _, site := range []string{"cross-site", "same-site", "none", "Same-Origin", ""} {
		all = append(all, originAttack{"none, Sec-Fetch-Site: " + site, "a link, or an image", nil, "Sec-Fetch-Site: " + site + "\r\n", "forbidden", ""})
	}
	return append(all,
		originAttack{"none, Sec-Fetch-Site twice", "", nil, "Sec-Fetch-Site: same-origin\r\nSec-Fetch-Site: cross-site\r\n", "forbidden", ""},
		originAttack{"none, same origin", "pages that read from their own origin send no Origin", nil, "Sec-Fetch-Site: same-origin\r\n", "", ""},
		originAttack{"foreign, same origin", "Origin counts, if there is one", []string{"https://evil.tld"}, "Sec-Fetch-Site: same-origin\r\n", "origin_forbidden", "origin_forbidden"},
		originAttack{"old name of Origin", "hybi-00", nil, "Sec-WebSocket-Origin: " + fortOrigin + "\r\n", "forbidden", ""},
		originAttack{"Referer", "it is no word about the origin", nil, "Referer: " + fortOrigin + "/\r\n", "forbidden", ""},
	)
}

// endpoint is what pages ask.
type endpoint struct {
	name, line, header, body string
	cookies                  bool // they count there
}

var endpoints = []endpoint{
	{"SSE", "GET /sse?channel=news", "", "", true},
	{"WebSocket", "GET /ws?channel=news", upgradeHead + speaksJSON, "", true},
	{"publish", "POST /publish", "Content-Type: application/json\r\n", `{"channel":"news","data":"by a page"}`, false},
	{"publish a body", "POST /publish/news", "Content-Type: text/plain\r\n", "by a page", false},
	{"refresh", "POST /sessions/{session}", "Content-Type: text/plain\r\n", `{"type":"refresh"}`, true},
}

// page sends the request of a page to an endpoint.
func (f *fort) page(t *testing.T, e *endpoint, a *originAttack, credential string) *shown {
	t.Helper()
	header := e.header + a.extra + credential
	for _, o := range a.origins {
		header += "Origin: " + strings.ReplaceAll(o, "{host}", f.addr) + "\r\n"
	}
	return f.ask(t, strings.ReplaceAll(e.line, "{session}", f.session), header, e.body)
}

// TestAttackOrigins: only pages of listed origins use what their visitors have, whatever the request says and wherever it goes.
func TestAttackOrigins(t *testing.T) {
	t.Parallel()
	f := newFort(t)
	token := f.signed(headEd, f.good())
	for _, tt := range originAttacks() {
		t.Run(tt.name, func(t *testing.T) {
			for i := range endpoints {
				e := &endpoints[i]
				for _, by := range []struct{ what, header, code string }{
					{"cookie", "Cookie: " + fortCookie + "=" + token + "\r\n", tt.cookie},
					{"token", "Authorization: Bearer " + token + "\r\n", tt.token},
				} {
					if by.what == "cookie" && !e.cookies && by.code != "origin_forbidden" {
						by.code = "unauthorized" // as if it were not there
					}
					code := []string{by.code}
					if len(tt.origins) > 1 && e.name == "WebSocket" {
						code = append(code, "bad_request")
					}
					s := f.page(t, e, &tt, by.header)
					what := e.name + " by " + by.what + " (" + tt.why + ")"
					if by.code != "" {
						s.refuses(t, what, token, code...)
					} else if !s.ok() {
						t.Errorf("%s: got %d %s %.200s", what, s.status, s.code, s.raw)
					}
					s.checkCORS(t, what, &tt)
				}
			}
			f.unharmed(t)
		})
	}
	f.alone(t)
}

// checkCORS fails the test unless the answer lets those read it who may, and no cache give it to others.
func (s *shown) checkCORS(t *testing.T, what string, a *originAttack) {
	t.Helper()
	if s.status == http.StatusSwitchingProtocols {
		return // CORS is none of it, and nobody keeps it
	}
	if !slices.Contains(s.header["Vary"], "Origin") {
		t.Errorf("%s: %d without Vary: Origin: %v", what, s.status, s.header)
	}
	if !strings.Contains(s.header.Get("Cache-Control"), "no-store") {
		t.Errorf("%s: a cache may keep %d: %v", what, s.status, s.header)
	}
	origin, credentials := s.header["Access-Control-Allow-Origin"], s.header["Access-Control-Allow-Credentials"]
	if a.token == "" && len(a.origins) == 1 {
		if len(origin) != 1 || origin[0] != a.origins[0] || len(credentials) != 1 || credentials[0] != "true" {
			t.Errorf("%s: the page can't read %d: %v", what, s.status, s.header)
		}
		return
	}
	for name := range s.header {
		if strings.HasPrefix(name, "Access-Control-") {
			t.Errorf("%s: %d has %s: %v", what, s.status, name, s.header)
		}
	}
}

// TestAttackPreflight: a preflight is answered with rights for listed origins only, and is no request itself.
func TestAttackPreflight(t *testing.T) {
	t.Parallel()
	f := newFort(t)
	for _, tt := range originAttacks() {
		for _, path := range []string{"/sse", "/publish", "/publish/news", "/sessions/x", "/ack"} {
			e := endpoint{line: "OPTIONS " + path, header: "Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: authorization,content-type\r\n"}
			s := f.page(t, &e, &tt, "")
			allowed := tt.token == "" && len(tt.origins) == 1
			if got := s.header.Get("Access-Control-Allow-Origin") != "" && s.header.Get("Access-Control-Allow-Credentials") == "true" &&
				s.header.Get("Access-Control-Allow-Methods") != ""; got != allowed || allowed && s.status != http.StatusNoContent {
				t.Errorf("%s, %s: got %d %v", tt.name, path, s.status, s.header)
			}
			if !slices.Contains(s.header["Vary"], "Origin") && path != "/healthz" {
				t.Errorf("%s, %s: no Vary: Origin in %v", tt.name, path, s.header)
			}
		}
	}
	f.unharmed(t)
}

// TestAttackAnyOrigin: where all pages may connect, none of them gets what a cookie allows.
func TestAttackAnyOrigin(t *testing.T) {
	t.Parallel()
	f := newFort(t, "--origins", "*")
	token := f.signed(headEd, f.good())
	for _, origin := range []string{"https://evil.tld", "null", fortOrigin} {
		a := originAttack{origins: []string{origin}}
		for i := range endpoints {
			e := &endpoints[i]
			code := map[bool]string{true: "forbidden", false: "unauthorized"}[e.cookies]
			s := f.page(t, e, &a, "Cookie: "+fortCookie+"="+token+"\r\n")
			s.refuses(t, origin+" by cookie on "+e.name, token, code)
			if s.header.Get("Access-Control-Allow-Credentials") != "" {
				t.Errorf("%s on %s: credentials are allowed: %v", origin, e.name, s.header)
			}
			if s := f.page(t, e, &a, "Authorization: Bearer "+token+"\r\n"); !s.ok() || s.header.Get("Access-Control-Allow-Credentials") != "" {
				t.Errorf("%s by token on %s: got %d %s %.300s", origin, e.name, s.status, s.code, s.raw)
			}
		}
	}
	f.unharmed(t)
}

// TestAttackForms: what a form of a foreign page can send, which browsers send without a preflight, with all cookies.
func TestAttackForms(t *testing.T) {
	t.Parallel()
	f := newFort(t)
	token := f.signed(headEd, f.good())
	message := `{"channel":"good","data":"forged","x":"=`
	for _, path := range []string{"/publish", "/publish/good", "/sessions/" + f.session, "/ack"} {
		for _, kind := range []string{"text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain; charset=application/json", "application/json-seq", ""} {
			for _, origin := range []string{"https://evil.tld", "null", fortOrigin, ""} {
				header := "Cookie: " + fortCookie + "=" + token + "\r\n"
				if kind != "" {
					header += "Content-Type: " + kind + "\r\n"
				}
				if origin != "" {
					header += "Origin: " + origin + "\r\n"
				}
				s := f.ask(t, "POST "+path, header, message)
				if s.ok() || s.status < 400 || s.status >= 500 {
					t.Errorf("%s as %q of %q: got %d %s %.200s", path, kind, origin, s.status, s.code, s.raw)
				}
			}
		}
	}
	for _, w := range f.witnesses {
		select {
		case m := <-w.got:
			t.Errorf("%s got %q", w.name, m)
		default:
		}
	}
	f.unharmed(t)
}
