package auth

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// newGuard returns a guard that takes the tests' tokens.
func newGuard(t testing.TB, change func(*Config)) *Guard {
	t.Helper()
	c := Config{Tokens: newTokens(t, nil), Cookie: "token", Rules: func(channel string) Rules {
		switch {
		case strings.HasPrefix(channel, "public"):
			return Rules{Access: Public}
		case strings.HasPrefix(channel, "signed"):
			return Rules{Access: Signed}
		case strings.HasPrefix(channel, "chat"):
			return Rules{Send: true}
		}
		return Rules{}
	}}
	if change != nil {
		change(&c)
	}
	g, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// tokenOf is a token of alice's with more claims.
func tokenOf(t testing.TB, more string) string {
	return signHS(t, plainHeader, valid(`"sub":"alice","jti":"1"`+more))
}

// requestOf is a request with headers, names and values in turn.
func requestOf(target string, header ...string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, target, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	return r
}

// TestCredentials: in which ways a token may be shown, to what end, and what comes of two.
func TestCredentials(t *testing.T) {
	token := tokenOf(t, "")
	key, hash, err := MakeAPIKey("backend")
	if err != nil {
		t.Fatal(err)
	}
	vouched := func(r *http.Request) bool { return r.Header.Get("Origin") == "https://app.example" }
	protocol := "Sec-WebSocket-Protocol"
	tests := []struct {
		name    string
		target  string
		header  []string
		to      Purpose
		query   bool
		want    Code
		subject string
		why     string
	}{
		{name: "bearer", header: []string{"Authorization", "Bearer " + token}, subject: "alice"},
		{name: "bearer in lower case", header: []string{"Authorization", "bearer " + token}, subject: "alice", why: "RFC 9110 §11.1: schemes have no case"},
		{name: "bearer to publish", header: []string{"Authorization", "Bearer " + token}, to: Publish, subject: "alice"},
		{name: "basic", header: []string{"Authorization", "Basic aGk6aG8="}, want: Unauthorized},
		{name: "bearer of nothing", header: []string{"Authorization", "Bearer "}, want: Unauthorized},
		{name: "two headers", header: []string{"Authorization", "Bearer " + token, "Authorization", "Bearer " + token}, want: Malformed, why: "which of them counts would be anyone's guess"},
		{name: "API key", header: []string{"Authorization", "Bearer " + key}, to: Publish, subject: "key:backend"},
		{name: "API key, last letter wrong", header: []string{"Authorization", "Bearer " + key[:len(key)-1] + "1"}, to: Publish, want: Unauthorized},
		{name: "API key without a secret", header: []string{"Authorization", "Bearer sluice_backend_"}, to: Publish, want: Unauthorized},
		{name: "API key of nobody", header: []string{"Authorization", "Bearer sluice_nobody_" + key[len("sluice_backend_"):]}, to: Publish, want: Unauthorized},
		{name: "subprotocol", header: []string{protocol, "sluice.v1.json, sluice.token." + token}, subject: "alice"},
		{name: "subprotocol on a line of its own", header: []string{protocol, "sluice.v1.json", protocol, "sluice.token." + token}, subject: "alice"},
		{name: "subprotocol of nothing", header: []string{protocol, "sluice.token."}, subject: "", why: "an empty token is none"},
		{name: "subprotocol twice", header: []string{protocol, "sluice.token." + token + ",sluice.token." + token}, want: Malformed},
		{name: "subprotocol to publish", header: []string{protocol, "sluice.token." + token}, to: Publish, want: Unauthorized},
		{name: "bearer and subprotocol", header: []string{"Authorization", "Bearer " + token, protocol, "sluice.token." + token}, want: Malformed},
		{name: "cookie of a listed page", header: []string{"Cookie", "token=" + token, "Origin", "https://app.example"}, subject: "alice"},
		{name: "cookie of a foreign page", header: []string{"Cookie", "token=" + token, "Origin", "https://evil.example"}, want: Forbidden, why: "browsers send it along whoever asks"},
		{name: "cookie of nobody", header: []string{"Cookie", "token=" + token}, want: Forbidden},
		{name: "cookie twice", header: []string{"Cookie", "token=" + token + "; token=x", "Origin", "https://app.example"}, want: Malformed, why: "one may be of another site below the same domain"},
		{name: "cookie to publish", header: []string{"Cookie", "token=" + token, "Origin", "https://app.example"}, to: Publish, want: Unauthorized, why: "a form of a foreign page would do"},
		{name: "another cookie", header: []string{"Cookie", "session=x"}, subject: ""},
		{name: "bearer before the cookie", header: []string{"Authorization", "Bearer " + token, "Cookie", "token=junk"}, subject: "alice"},
		{name: "query where it is off", target: "/sse?access_token=" + token, want: Unauthorized, why: "who sends it thinks that it counts"},
		{name: "query", target: "/sse?access_token=" + token, query: true, subject: "alice"},
		{name: "query twice", target: "/sse?access_token=" + token + "&access_token=" + token, query: true, want: Malformed},
		{name: "query and bearer", target: "/sse?access_token=" + token, header: []string{"Authorization", "Bearer " + token}, query: true, want: Malformed},
		{name: "nothing", subject: ""},
		{name: "nothing to publish", to: Publish, want: Unauthorized},
		{name: "junk", header: []string{"Authorization", "Bearer junk"}, want: Unauthorized},
		{name: "a token for one subscription", header: []string{"Authorization", "Bearer " + signHS(t, plainHeader, valid(`"channel":"a"`))}, want: Unauthorized, why: "it says nothing about who shows it"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g := newGuard(t, func(c *Config) {
				c.Query, c.Vouched, c.Keys = tt.query, vouched, []APIKey{{ID: "backend", Hash: hash, Publish: Patterns{"news"}}}
			})
			if tt.target == "" {
				tt.target = "/sse"
			}
			grant, err := g.Authorize(requestOf(tt.target, tt.header...), tt.to)
			if e := wantCode(t, err, tt.want); e != nil {
				if s := e.Error(); strings.Contains(s, token) || strings.Contains(s, token[:20]) || strings.Contains(s, key[15:]) {
					t.Errorf("the error repeats the credential: %s", s)
				}
				return
			}
			if err != nil {
				return
			}
			if grant.Subject != tt.subject || grant.Anonymous != (tt.subject == "") {
				t.Errorf("got %+v, want the subject %q: %s", grant.Identity, tt.subject, tt.why)
			}
		})
	}
}

// TestSubscribe: who may listen to which channels.
func TestSubscribe(t *testing.T) {
	g := newGuard(t, func(c *Config) { c.Subscribe = Patterns{"everyone:*", "own:{sub}"} })
	bearer := func(more string) *Grant {
		grant, err := g.Authorize(requestOf("/sse", "Authorization", "Bearer "+tokenOf(t, more)), Listen)
		if err != nil {
			t.Fatal(err)
		}
		return grant
	}
	anonymous, err := g.Authorize(requestOf("/sse"), Listen)
	if err != nil {
		t.Fatal(err)
	}
	alice := bearer(`,"subscribe":["news","chat:*","user:{sub}:*"]`)
	signed := func(claims string) []string { return []string{signHS(t, plainHeader, valid(claims))} }
	tests := []struct {
		name     string
		of       *Grant
		channels string
		tokens   []string
		want     Code
		own      bool
		why      string
	}{
		{"public", anonymous, "public public:1", nil, "", false, ""},
		{"closed", anonymous, "news", nil, Unauthorized, false, "what no rule opens is closed"},
		{"one of two", anonymous, "public news", nil, Unauthorized, false, "all or nothing"},
		{"granted", alice, "news chat:1 chat:1:2", nil, "", false, ""},
		{"public with a token", alice, "public", nil, "", false, ""},
		{"not granted", alice, "other", nil, Forbidden, false, ""},
		{"almost", alice, "newsx", nil, Forbidden, false, "a name without a star is the whole name"},
		{"almost a prefix", alice, "chatx:1", nil, Forbidden, false, ""},
		{"in the middle", alice, "xchat:1", nil, Forbidden, false, "patterns begin at the beginning"},
		{"personal", alice, "user:alice:inbox", nil, "", false, ""},
		{"another's", alice, "user:bob:inbox", nil, Forbidden, false, ""},
		{"the mark itself", alice, "user:sub:inbox", nil, Forbidden, false, ""},
		{"for every token", alice, "everyone:1 own:alice", nil, "", false, ""},
		{"another's own", alice, "own:bob", nil, Forbidden, false, ""},
		{"signed without a token", alice, "signed:1", nil, Unauthorized, false, "no pattern opens it"},
		{"signed", alice, "signed:1", signed(`"channel":"signed:1"`), "", true, ""},
		{"signed for her", alice, "signed:1", signed(`"channel":"signed:1","sub":"alice"`), "", true, ""},
		{"signed for another", alice, "signed:1", signed(`"channel":"signed:1","sub":"bob"`), Forbidden, false, "a token that is passed on is of no use"},
		{"signed for another channel", alice, "signed:1", signed(`"channel":"signed:2"`), Unauthorized, false, ""},
		{"signed, anonymous", anonymous, "signed:1", signed(`"channel":"signed:1"`), "", true, ""},
		{"signed for what is not", anonymous, "news", signed(`"channel":"news"`), "", true, "it is a grant for that channel whatever its rule"},
		{"signed junk", alice, "news", []string{"junk"}, Unauthorized, false, "who sends one thinks that it counts"},
		{"signed by a token for everything", alice, "signed:1", signed(`"sub":"alice","subscribe":["*"]`), Unauthorized, false, ""},
		{"tokens alone", alice, "", signed(`"channel":"signed:1"`), "", false, "a token may be asked about without its channel"},
		{"bad tokens alone", alice, "", []string{"junk"}, Unauthorized, false, ""},
		{"too many", alice, "news", slices.Repeat(signed(`"channel":"a"`), MaxSigned+1), Malformed, false, "each costs a signature"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			admitted, err := tt.of.Subscribe(t.Context(), strings.Fields(tt.channels), tt.tokens)
			wantCode(t, err, tt.want)
			if err == nil && tt.own != (len(admitted) > 0 && admitted[0].Signed && !admitted[0].Until.IsZero()) {
				t.Errorf("admitted %+v, want that it has an end of its own: %v", admitted, tt.own)
			}
		})
	}
}

// TestRefusedChannel: a refusal names the channel that it is about, and none if it is about who asks.
func TestRefusedChannel(t *testing.T) {
	g := newGuard(t, func(c *Config) {
		c.Revoked = func(id, _ string, _ time.Time) bool { return id == "gone" }
	})
	grant := func(header ...string) *Grant {
		grant, err := g.Authorize(requestOf("/sse", header...), Listen)
		if err != nil {
			t.Fatal(err)
		}
		return grant
	}
	alice, anonymous := grant("Authorization", "Bearer "+tokenOf(t, `,"subscribe":["news","b"],"publish":["news"]`)), grant()
	late := func(more string) string {
		return signHS(t, plainHeader, fmt.Sprintf(`{"exp":%d,%s}`, time.Now().Add(-time.Hour).Unix(), more))
	}
	for _, row := range []struct {
		name     string
		of       *Grant
		channels string
		token    string
		code     Code
		want     string
		why      string
	}{
		{"not granted", alice, "news other b more", "", Forbidden, "other", "the first of them"},
		{"signed", alice, "news signed:1", "", Unauthorized, "signed:1", ""},
		{"nobody", anonymous, "public news", "", Unauthorized, "", "credentials would help with all of them"},
		{"nobody, signed", anonymous, "signed:1", "", Unauthorized, "signed:1", "only a token for it would"},
		{"signed for another", alice, "signed:1", signHS(t, plainHeader, valid(`"channel":"signed:1","sub":"bob"`)), Forbidden, "signed:1", ""},
		{"expired", alice, "signed:1 signed:2", late(`"channel":"signed:2"`), TokenExpired, "signed:2", ""},
		{"expired, of a bad channel", alice, "signed:1", late(`"channel":"*"`), TokenExpired, "", "names come from tokens only if they are legal"},
		{"expired, for everything", alice, "signed:1", late(`"sub":"alice"`), TokenExpired, "", ""},
		{"revoked", alice, "signed:1", signHS(t, plainHeader, valid(`"channel":"signed:1","jti":"gone"`)), TokenRevoked, "signed:1", ""},
		{"junk", alice, "signed:1", "junk", Unauthorized, "", "nobody knows what it was for"},
	} {
		t.Run(row.name, func(t *testing.T) {
			var tokens []string
			if row.token != "" {
				tokens = append(tokens, row.token)
			}
			_, err := row.of.Subscribe(t.Context(), strings.Fields(row.channels), tokens)
			wantChannel(t, err, row.code, row.want)
			if row.token == "" {
				return
			}
			_, err = g.Authorize(requestOf("/sse", "Authorization", "Bearer "+row.token), Listen)
			wantChannel(t, err, "", "") // it was not shown for a channel
		})
	}
	wantChannel(t, alice.Publish("other"), Forbidden, "other")
	wantChannel(t, alice.Send("news"), Forbidden, "news")
	wantChannel(t, anonymous.Publish("news"), Unauthorized, "")

	// One that expires while it is remembered.
	synctest.Test(t, func(t *testing.T) {
		g := newGuard(t, nil)
		token := signHS(t, plainHeader, fmt.Sprintf(`{"exp":%d,"channel":"signed:1"}`, time.Now().Add(time.Minute).Unix()))
		grant, err := g.Authorize(requestOf("/sse"), Listen)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := grant.Subscribe(t.Context(), []string{"signed:1"}, []string{token}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		_, err = grant.Subscribe(t.Context(), []string{"signed:1"}, []string{token})
		wantChannel(t, err, TokenExpired, "signed:1")
	})
}

// wantChannel checks a refusal; the code "" is any.
func wantChannel(t *testing.T, err error, code Code, channel string) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || code != "" && e.Code != code || e.Channel != channel {
		t.Errorf("got %+v, want %s about %q", e, code, channel)
	}
}

// TestPublishRights: who may publish, by HTTP and from a connection.
func TestPublishRights(t *testing.T) {
	_, hash, err := MakeAPIKey("x")
	if err != nil {
		t.Fatal(err)
	}
	g := newGuard(t, func(c *Config) { c.Keys = []APIKey{{ID: "x", Hash: hash, Publish: Patterns{"a*"}}} })
	grant, err := g.Authorize(requestOf("/", "Authorization", "Bearer "+tokenOf(t, `,"subscribe":["*"],"publish":["news","chat:{sub}"]`)), Publish)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		channel       string
		publish, send Code
		why           string
	}{
		{"news", "", Forbidden, "the channel takes nothing from connections"},
		{"chat:alice", "", "", "both consent"},
		{"chat:bob", Forbidden, Forbidden, "the channel does, and the token does not"},
		{"other", Forbidden, Forbidden, "listening is not publishing"},
	} {
		wantCode(t, grant.Publish(row.channel), row.publish)
		wantCode(t, grant.Send(row.channel), row.send)
	}
}

// TestClosed: a guard that knows of nothing lets nobody in.
func TestClosed(t *testing.T) {
	g, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = g.Authorize(requestOf("/sse", "Authorization", "Bearer "+tokenOf(t, "")), Listen)
	wantCode(t, err, Unauthorized)
	_, err = g.Authorize(requestOf("/sse", "Authorization", "Bearer sluice_a_b"), Publish)
	wantCode(t, err, Unauthorized)
	grant, err := g.Authorize(requestOf("/sse"), Listen)
	if err != nil {
		t.Fatal(err)
	}
	_, err = grant.Subscribe(t.Context(), []string{"a"}, nil)
	wantCode(t, err, Unauthorized)
	wantCode(t, grant.Publish("a"), Unauthorized)
	wantCode(t, grant.Send("a"), Unauthorized)
	wantCode(t, grant.Trace(), Forbidden)
}

func TestOpen(t *testing.T) {
	g := Open()
	grant, err := g.Authorize(requestOf("/sse?access_token=x", "Authorization", "Bearer junk"), Listen)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := grant.Subscribe(t.Context(), []string{"a"}, nil); err != nil || grant.Publish("a") != nil || grant.Send("a") != nil || grant.Trace() != nil {
		t.Errorf("something is closed: %v", err)
	}
	if again, err := g.Renew(t.Context(), grant, "x"); err != nil || again != grant {
		t.Errorf("renewed: %v %v", again, err)
	}
}

// TestRevokedTokens: a token that was taken back is refused wherever it is shown, and so are all while nobody knows which.
func TestRevokedTokens(t *testing.T) {
	known := false
	g := newGuard(t, func(c *Config) {
		c.Revoked = func(id, subject string, issued time.Time) bool {
			return id == "1" && subject == "alice" && !issued.IsZero()
		}
		c.RevocationsKnown = func() bool { return known }
	})
	bad, good := tokenOf(t, ""), signHS(t, plainHeader, valid(`"sub":"bob","jti":"2"`))
	authorize := func(token string) error {
		_, err := g.Authorize(requestOf("/", "Authorization", "Bearer "+token), Listen)
		return err
	}
	wantCode(t, authorize(bad), TokenRevoked)
	wantCode(t, authorize(good), Unavailable)
	known = true
	wantCode(t, authorize(bad), TokenRevoked)
	wantCode(t, authorize(good), "")
	grant, err := g.Authorize(requestOf("/", "Authorization", "Bearer "+good), Listen)
	if err != nil {
		t.Fatal(err)
	}
	_, err = g.Renew(t.Context(), grant, bad)
	wantCode(t, err, TokenRevoked)
	_, err = g.Renew(t.Context(), grant, "")
	wantCode(t, err, Unauthorized)
}

// TestGrantIsShared: who shows the same token has the same grant, so that a thousand tabs cost the memory of one.
func TestGrantIsShared(t *testing.T) {
	g := newGuard(t, nil)
	token := tokenOf(t, `,"subscribe":["news"],"rate":5,"connections":3,"history":false,"trace":true`)
	var seen *Grant
	for range 3 {
		grant, err := g.Authorize(requestOf("/", "Authorization", "Bearer "+token), Listen)
		if err != nil {
			t.Fatal(err)
		}
		if seen != nil && grant != seen {
			t.Error("another grant for the same token")
		}
		seen = grant
	}
	who := seen.Who()
	if who.Rate != 5 || who.Connections != 3 || !who.NoHistory || seen.Trace() != nil || who.Expires.IsZero() || who.TokenID != "1" {
		t.Errorf("got %+v", who)
	}
}

// TestErrorsMatchByCode: callers ask for the code.
func TestErrorsMatchByCode(t *testing.T) {
	if err := error(refuse(Forbidden, "a")); !errors.Is(err, refuse(Forbidden, "b")) || errors.Is(err, refuse(Unauthorized, "a")) {
		t.Error("errors.Is does not go by the code")
	}
}

// BenchmarkAuthorize is what access costs a connect with a token that is known.
func BenchmarkAuthorize(b *testing.B) {
	g := newGuard(b, nil)
	r := requestOf("/sse", "Authorization", "Bearer "+tokenOf(b, `,"subscribe":["news","chat:*","user:{sub}:*"]`))
	b.ReportAllocs()
	for b.Loop() {
		grant, err := g.Authorize(r, Listen)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := grant.Subscribe(b.Context(), []string{"user:alice:inbox"}, nil); err != nil {
			b.Fatal(err)
		}
	}
}

// TestSubjectPatterns: where {sub} may stand, and what it stands for.
func TestSubjectPatterns(t *testing.T) {
	for _, row := range []struct {
		pattern, subject string
		yes, no          string // channels
		refused          bool
	}{
		{"user:{sub}", "alice", "user:alice", "user:alice2", false},
		{"{sub}.*", "a.b", "a~2Eb.x", "a.b.x", false},
		{"user:{sub}:*", "auth0|7", "user:auth0~7C7:in", "user:auth0|7:in", false},
		{"user:{sub}:*", "*", "user:~2A:in", "user:bob:in", false},
		{"dm/{sub}/{sub}", "a", "dm/a/a", "dm/a/b", false},
		{"user-{sub}-*", "a", "", "", true},
		{"user{sub}", "a", "", "", true},
		{"{sub}*", "a", "", "", true},
		{"*{sub}", "a", "", "", true},
		{"{sub}{sub}", "a", "", "", true},
		{"{SUB}", "a", "", "", true},
		{"{sub", "a", "", "", true},
	} {
		ps, err := compile(Patterns{row.pattern}, row.subject)
		if row.refused {
			wantCode(t, err, Unauthorized)
			continue
		}
		if err != nil || !matchesAny(ps, row.yes) || matchesAny(ps, row.no) {
			t.Errorf("%s of %q: %v; %s: %v, want true; %s: %v, want false", row.pattern, row.subject, err, row.yes, matchesAny(ps, row.yes), row.no, matchesAny(ps, row.no))
		}
	}
	if ps, err := compile(Patterns{"user:{sub}", "news"}, ""); err != nil || len(ps) != 1 {
		t.Errorf("of nobody: %v %v, want news alone", ps, err)
	}
}

// TestCallerTransport: the webhook is told by what a client listens, not by what it asks.
func TestCallerTransport(t *testing.T) {
	g := newGuard(t, func(c *Config) { c.Webhook = new(Webhook) })
	for _, tt := range []struct{ method, target, upgrade, want, why string }{
		{"GET", "/sse?channel=a", "", "sse", ""},
		{"POST", "/sse", "", "sse", "the request is in the body"},
		{"POST", "/poll", "", "poll", ""},
		{"POST", "/live/poll", "", "poll", "a proxy may leave a prefix"},
		{"GET", "/ws", "websocket", "ws", ""},
	} {
		r := httptest.NewRequest(tt.method, tt.target, nil)
		if tt.upgrade != "" {
			r.Header.Set("Upgrade", tt.upgrade)
		}
		if got := g.caller(r, &Grant{}).Transport; got != tt.want {
			t.Errorf("%s %s: got %s, want %s %s", tt.method, tt.target, got, tt.want, tt.why)
		}
	}
}

// TestRefusedChannels: a refusal says which channels it is about, so that the others may be asked for without them.
func TestRefusedChannels(t *testing.T) {
	b := newBackend(t)
	b.does(func(w http.ResponseWriter, _ *http.Request, body []byte) {
		if strings.Contains(string(body), `"connect"`) {
			_, _ = io.WriteString(w, `{"allow":true}`)
			return
		}
		_, _ = io.WriteString(w, `{"allow":true,"channels":["asked:1"]}`)
	})
	bare, hooked := newGuard(t, nil), newGuard(t, func(c *Config) { c.Webhook = asking(t, b, nil) })
	for _, tt := range []struct {
		name     string
		of       *Guard
		token    string // "": nobody
		channels string
		want     Code
		named    string
	}{
		{"not granted", bare, `,"subscribe":["news"]`, "other news signed:1 more", Forbidden, "other more"},
		{"of its own", bare, `,"subscribe":["news"]`, "news signed:1 signed:2", Unauthorized, "signed:1 signed:2"},
		{"which comes first", bare, `,"subscribe":["news"]`, "signed:1 other", Unauthorized, "signed:1"},
		{"nobody", bare, "", "public news", Unauthorized, "news"},
		{"by the backend", hooked, `,"subscribe":["news"]`, "news asked:1 asked:2 asked:3", Forbidden, "asked:2 asked:3"},
		{"not asked for nothing", hooked, `,"subscribe":["news"]`, "signed:1 asked:2", Unauthorized, "signed:1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := requestOf("/sse")
			if tt.token != "" {
				r = requestOf("/sse", "Authorization", "Bearer "+tokenOf(t, tt.token))
			}
			grant, err := tt.of.Authorize(r, Listen)
			if err != nil {
				t.Fatal(err)
			}
			_, err = grant.Subscribe(t.Context(), strings.Fields(tt.channels), nil)
			wantCode(t, err, tt.want)
			if e, ok := errors.AsType[*Error](err); !ok || strings.Join(e.Channels, " ") != tt.named {
				t.Errorf("it is about %q, want %s", e.Channels, tt.named)
			}
			rest := slices.DeleteFunc(strings.Fields(tt.channels), func(c string) bool { return strings.Contains(" "+tt.named+" ", " "+c+" ") })
			if _, err := grant.Subscribe(t.Context(), rest, nil); err != nil && tt.want == err.(*Error).Code {
				t.Errorf("the rest %q is refused with %v", rest, err)
			}
		})
	}
	if errNoCredentials.Channels != nil || errOwnToken.Channels != nil {
		t.Error("what is shared was written to")
	}
}
