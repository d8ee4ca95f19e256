package auth

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"sluice/broker"
)

// FuzzVerify: what is not, to the byte, what a key has signed is refused.
func FuzzVerify(f *testing.F) {
	tokens := newTokens(f, nil)
	var good []string
	for _, name := range []string{"oct", "rsa", "p256", "ed25519"} {
		good = append(good, by(f, name))
	}
	good = append(good, signHS(f, plainHeader, valid(`"sub":"alice"`)))
	for which := range good {
		f.Add(which, 0, 0, "")
		f.Add(which, 10, 1, "A")
		f.Add(which, 60, 0, "\n")
		f.Add(which, len(good[which])-1, 1, "")
		f.Add(which, len(good[which]), 0, "=")
	}
	f.Add(0, 0, 1000, `{"alg":"none"}`)
	f.Add(4, 0, 36, b64(`{"alg":"none"}`))
	f.Fuzz(func(t *testing.T, which, at, cut int, insert string) {
		token := good[uint(which)%uint(len(good))]
		from := int(uint(at) % uint(len(token)+1))
		to := from + int(uint(cut)%uint(len(token)-from+1))
		changed := token[:from] + insert + token[to:]
		c, err := tokens.Verify(t.Context(), changed)
		if err != nil {
			var e *Error
			if e, _ = err.(*Error); e == nil || c != nil {
				t.Fatalf("got %v, %v", c, err)
			}
			return
		}
		// Of an ECDSA signature there is another form for those who have one; what it signs is the same.
		if changed[:strings.LastIndexByte(changed, '.')] != token[:strings.LastIndexByte(token, '.')] {
			t.Errorf("%q is taken, and was not signed", changed)
		}
	})
}

// FuzzHeader: no header makes a panic, and what is taken has a known algorithm.
func FuzzHeader(f *testing.F) {
	for _, h := range []string{plainHeader, `{"alg":"none"}`, `{"alg":"ES256","kid":"k","typ":"at+jwt"}`, `{"alg":"HS256","crit":[]}`, `{"alg":"HS256","Crit":[1]}`, `[`} {
		f.Add(h)
	}
	f.Fuzz(func(t *testing.T, text string) {
		h, err := readHeader(b64(text) + ".AA.AA")
		if err != nil {
			return
		}
		var plain map[string]any
		if err := json.Unmarshal([]byte(text), &plain); err != nil {
			t.Fatalf("%q is taken, and is no JSON: %v", text, err)
		}
		kid, _ := plain["kid"].(string)
		if plain["alg"] != string(h.alg) || kid != h.kid || !h.alg.known() || plain["crit"] != nil || plain["b64"] != nil || plain["jwk"] != nil {
			t.Errorf("%q is read as %+v", text, h)
		}
	})
}

// FuzzClaims: no claims make a panic, and what is taken is what a plain reader sees, and within its bounds.
func FuzzClaims(f *testing.F) {
	for _, c := range []string{
		`{"exp":1000000060}`, `{"exp":1000000060,"sub":"alice","subscribe":["news*","u:{sub}"],"publish":[]}`, `{"exp":1e9,"iat":1000000000.5}`,
		`{"exp":1000000060,"rate":1.5,"connections":2,"history":false,"trace":true,"jti":"x"}`, `{"exp":1000000060,"channel":"a"}`,
		`{"exp":1000000060,"subscribe":"*"}`, `{"exp":1000000060,"subscribe":null,"subscribe":["*"]}`, `{"exp":"1000000060"}`, `null`, `{"exp":1000000060,"aud":["x"]}`,
	} {
		f.Add(c)
	}
	config := DefaultTokensConfig()
	config.Secret = secretText
	if err := config.check(); err != nil {
		f.Fatal(err)
	}
	now := time.Unix(1_000_000_000, 0)
	f.Fuzz(func(t *testing.T, text string) {
		c, err := config.readClaims([]byte(text), now)
		if err != nil {
			return
		}
		var plain map[string]any
		if err := json.Unmarshal([]byte(text), &plain); err != nil && !strings.Contains(err.Error(), "number") { // 1e999 in a claim that is not read
			t.Fatalf("%q is taken, and is no JSON: %v", text, err)
		} else if err != nil {
			return
		}
		if exp, ok := plain["exp"].(float64); !ok || c.Expires.Unix() != int64(exp) || c.Expires.Add(config.Leeway).Before(now) || c.Expires.After(now.Add(config.MaxLifetime+config.Leeway)) && plain["iat"] == nil {
			t.Errorf("%q: exp is read as %s", text, c.Expires)
		}
		for name, s := range map[string]string{"sub": c.Subject, "jti": c.ID, "channel": c.Channel} {
			v, there := plain[name]
			if there && v != s || !there && s != "" || len(s) > 256 || !utf8.ValidString(s) || strings.IndexFunc(s, unicode.IsControl) >= 0 {
				t.Errorf("%q: %s is read as %q", text, name, s)
			}
		}
		for name, list := range map[string]Patterns{"subscribe": c.Subscribe, "publish": c.Publish} {
			items, _ := plain[name].([]any)
			if len(items) != len(list) || len(list) > MaxPatterns || len(list) > 0 && c.Channel != "" {
				t.Fatalf("%q: %s is read as %q", text, name, list)
			}
			for i, item := range items {
				if item != list[i] {
					t.Errorf("%q: %s is read as %q", text, name, list)
				}
			}
			if _, err := compile(list, c.Subject); err != nil {
				t.Errorf("%q: %s can't be used: %v", text, name, err)
			}
		}
		for name, got := range map[string]any{"rate": c.Rate, "connections": float64(c.Connections), "history": !c.NoHistory, "trace": c.Trace} {
			want, there := plain[name]
			if !there {
				want = map[string]any{"rate": 0., "connections": 0., "history": true, "trace": false}[name]
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%q: %s is read as %v", text, name, got)
			}
		}
		if !(c.Rate >= 0) || math.IsInf(c.Rate, 0) || c.Connections < 0 {
			t.Errorf("%q: limits %v, %d", text, c.Rate, c.Connections)
		}
	})
}

// FuzzPatterns: what a list of patterns lets a subject do is what a regular expression says.
func FuzzPatterns(f *testing.F) {
	f.Add("news*", "u:{sub}", "alice", "news:1")
	f.Add("{sub}", "*:{sub}:*", "a*b", "a~2Ab")
	f.Add("*", "{sub}{sub}", "", "x")
	f.Add("a*b*c", "**", "s", "aXbYc")
	f.Add("{sub", "}", "{sub}", "~7Bsub~7D")
	f.Fuzz(func(t *testing.T, first, second, subject, name string) {
		list := Patterns{first, second}
		patterns, err := compile(list, subject)
		if checked := CheckPatterns(list); checked != nil || err != nil {
			if checked == nil && subject != "" && len(EscapeSubject(subject)) < 8 && len(first)+len(second) < 20 {
				t.Errorf("%q are patterns, and not for %q: %v", list, subject, err)
			}
			return
		}
		if broker.CheckChannel(name) != nil {
			return // nobody gets to ask
		}
		want := false
		for _, p := range list {
			if strings.Contains(p, subjectMark) && subject == "" {
				continue
			}
			p = strings.ReplaceAll(p, subjectMark, EscapeSubject(subject))
			p = strings.ReplaceAll(regexp.QuoteMeta(p), `\*`, `.*`)
			want = want || regexp.MustCompile(`\A(?:`+p+`)\z`).MatchString(name)
		}
		if got := matchesAny(patterns, name); got != want {
			t.Errorf("%q of %q and %q: got %v, want %v", list, subject, name, got, want)
		}
	})
}

// FuzzEscapeSubject: two subjects never share a personal channel.
func FuzzEscapeSubject(f *testing.F) {
	f.Add("alice", "bob", "x")
	f.Add("a*", "ab", "b")
	f.Add("a:b", "a", "b")
	f.Add("a~3Ab", "a:b", "")
	f.Add("\x00", "~00", "")
	f.Add("A", "a", "")
	f.Add("a.b", "a", "b")
	f.Fuzz(func(t *testing.T, one, other, rest string) {
		if one == "" || other == "" || one == other || strings.ContainsAny(rest, separators) {
			return
		}
		for _, template := range []Patterns{{"{sub}"}, {"user:{sub}"}, {"user.{sub}"}, {"user:{sub}:*"}, {"user/{sub}/*"}, {"user.{sub}.*"}, {"*:{sub}"}, {"dm:{sub}:{sub}"}, {"{sub}:*"}} {
			mine, err := compile(template, one)
			if err != nil {
				continue
			}
			theirs, err := compile(template, other)
			if err != nil {
				continue
			}
			channel := strings.ReplaceAll(strings.ReplaceAll(template[0], subjectMark, EscapeSubject(one)), "*", rest)
			if broker.CheckChannel(channel) != nil {
				continue
			}
			if !matchesAny(mine, channel) {
				t.Errorf("%q has no access to %q by %q", one, channel, template)
			}
			if matchesAny(theirs, channel) {
				t.Errorf("%q has access to %q of %q by %q", other, channel, one, template)
			}
		}
	})
}

// BenchmarkVerify is what a connection costs before it is one: warm, a token that was seen before; cold, one that was not.
func BenchmarkVerify(b *testing.B) {
	tokens := newTokens(b, func(c *TokensConfig) { c.MaxBytes = 2048 })
	claims := valid(`"sub":"user-4711","jti":"b5e2a1c0","iss":"https://issuer.example","subscribe":["news*","chat:{sub}","room:*"],"publish":["room:*"]`)
	for _, of := range []struct{ alg, name string }{{"HS256", "oct"}, {"RS256", "rsa"}, {"ES256", "p256"}, {"EdDSA", "ed25519"}} {
		token := sign(b, of.alg, signers()[of.name], b64(fmt.Sprintf(`{"alg":%q,"typ":"JWT","kid":%q}`, of.alg, of.name))+"."+b64(claims))
		for _, cold := range []bool{false, true} {
			b.Run(map[bool]string{false: "warm/", true: "cold/"}[cold]+of.alg, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, err := tokens.Verify(b.Context(), token); err != nil {
						b.Fatal(err)
					}
					if cold {
						tokens.verified.Purge()
					}
				}
			})
		}
	}
}

// FuzzCredentials: whatever is in the headers and the query of a request, it is somebody's only with that somebody's token.
func FuzzCredentials(f *testing.F) {
	secret := rand.Text() + rand.Text() // of this run only: what fuzzers remember of others is no token here
	tokens := newTokens(f, func(c *TokensConfig) { c.Secret = secret })
	g := newGuard(f, func(c *Config) { c.Tokens, c.Query, c.Vouched = tokens, true, func(*http.Request) bool { return true } })
	token := sign(f, "HS256", []byte(secret), b64(plainHeader)+"."+b64(valid(`"sub":"alice","jti":"1"`)))
	const mark = "TOKEN" // stands for it
	f.Add("Bearer TOKEN", "sluice.v1.json", "token=x", "access_token=")
	f.Add("", "sluice.v1.json,sluice.token.TOKEN", "", "")
	f.Add("bearer  TOKEN", "", "", "")
	f.Add("", "", "token=TOKEN", "")
	f.Add("", "", "", "access_token=TOKEN")
	f.Add("Bearer sluice_a_b", "", "", "signed=a&signed=b")
	f.Add("Bearer TOKEN ", "sluice.token.", "token=\"TOKEN\"", "access_token=%")
	f.Fuzz(func(t *testing.T, authorization, protocol, cookie, query string) {
		for _, x := range []*string{&authorization, &protocol, &cookie, &query} {
			*x = strings.ReplaceAll(*x, mark, token)
		}
		r := requestOf("/sse", "Authorization", authorization, "Sec-Websocket-Protocol", protocol, "Cookie", cookie)
		if authorization == "" {
			r.Header.Del("Authorization")
		}
		r.URL.RawQuery = query
		for _, to := range []Purpose{Listen, Publish} {
			grant, err := g.Authorize(r, to)
			if err != nil {
				var refused *Error
				if !errors.As(err, &refused) {
					t.Fatalf("%v is no refusal", err)
				}
				continue
			}
			shown := strings.Contains(authorization+protocol+cookie, token) || r.URL.Query().Get(QueryToken) == token
			if !grant.Anonymous && (grant.Subject != "alice" || !shown) || grant.Anonymous && to == Publish {
				t.Errorf("%q %q %q %q: got %+v", authorization, protocol, cookie, query, grant.Identity)
			}
		}
	})
}
