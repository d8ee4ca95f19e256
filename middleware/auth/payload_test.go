package auth

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestClaimTypes: what each claim may be, one rule a row. It is refused rather than read as something else.
func TestClaimTypes(t *testing.T) {
	list := func(n int) string { return `["` + strings.Repeat(`a","`, n-1) + `a"]` }
	for _, row := range []struct {
		name, claims string
		want         error // or, if it is nil, that
		check        func(c *Claims) bool
	}{
		{"none", ``, nil, func(c *Claims) bool {
			return c.Subject == "" && c.ID == "" && c.Subscribe == nil && c.Publish == nil && c.Rate == 0 && c.Connections == 0 && !c.NoHistory && !c.Trace && c.Channel == ""
		}},
		{"all", `"sub":"alice","jti":"t1","subscribe":["news*"],"publish":["u:{sub}"],"rate":2.5,"connections":3,"history":false,"trace":true`, nil, func(c *Claims) bool {
			return c.Subject == "alice" && c.ID == "t1" && reflect.DeepEqual(c.Subscribe, Patterns{"news*"}) && reflect.DeepEqual(c.Publish, Patterns{"u:{sub}"}) &&
				c.Rate == 2.5 && c.Connections == 3 && c.NoHistory && c.Trace && c.Issued.Unix() == time.Now().Unix() && c.Expires.Equal(c.Issued.Add(time.Hour))
		}},
		{"unknown claims", `"scope":"all","roles":{"a":[1,null]},"Sub":"root","SUBSCRIBE":["*"],"permissions":null`, nil, func(c *Claims) bool {
			return c.Subject == "" && c.Subscribe == nil
		}},
		{"claim twice", `"sub":"alice","sub":"root"`, errPayload, nil},
		{"claim twice by an escape", `"sub":"alice","s\u0075b":"root"`, errPayload, nil},
		{"unknown claim twice", `"x":1,"x":2`, errPayload, nil},
		{"too deep", `"x":` + strings.Repeat(`[`, 3000) + strings.Repeat(`]`, 3000), errPayload, nil},
		{"deep objects", `"x":` + strings.Repeat(`{"a":`, 20) + `1` + strings.Repeat(`}`, 20), errPayload, nil},
		{"not UTF-8", "\"x\":\"\xff\"", errPayload, nil},
		{"huge number somewhere", `"x":1e999`, nil, func(*Claims) bool { return true }},

		{"sub", `"sub":"auth0|42"`, nil, func(c *Claims) bool { return c.Subject == "auth0|42" }},
		{"sub not ASCII", `"sub":"zoë"`, nil, func(c *Claims) bool { return c.Subject == "zoë" }},
		{"sub as long as may be", `"sub":"` + strings.Repeat("s", 256) + `"`, nil, func(c *Claims) bool { return len(c.Subject) == 256 }},
		{"sub too long", `"sub":"` + strings.Repeat("s", 257) + `"`, errSub, nil},
		{"sub too long in bytes", `"sub":"` + strings.Repeat("ë", 129) + `"`, errSub, nil},
		{"sub empty", `"sub":""`, errSub, nil},
		{"sub null", `"sub":null`, errSub, nil},
		{"sub number", `"sub":42`, errSub, nil},
		{"sub list", `"sub":["alice"]`, errSub, nil},
		{"sub with a line break", `"sub":"a\nb"`, errSub, nil},
		{"sub with NUL", `"sub":"a\u0000"`, errSub, nil},
		{"sub with DEL", `"sub":"a\u007f"`, errSub, nil},
		{"sub with C1", `"sub":"a\u009b31m"`, errSub, nil},
		{"sub with half a pair: it would be somebody else's", `"sub":"a\ud800"`, errSub, nil},
		{"sub with what that would become", `"sub":"a\ufffd"`, errSub, nil},
		{"sub with a pair", `"sub":"\ud83d\ude00"`, nil, func(c *Claims) bool { return c.Subject == "😀" }},

		{"jti as long as may be", `"jti":"` + strings.Repeat("j", 128) + `"`, nil, func(c *Claims) bool { return len(c.ID) == 128 }},
		{"jti too long", `"jti":"` + strings.Repeat("j", 129) + `"`, errJti, nil},
		{"jti number", `"jti":7`, errJti, nil},
		{"jti empty", `"jti":""`, errJti, nil},
		{"jti null", `"jti":null`, errJti, nil},
		{"jti with a line break", `"jti":"a\r"`, errJti, nil},

		{"subscribe to nothing", `"subscribe":[]`, nil, func(c *Claims) bool { return len(c.Subscribe) == 0 }},
		{"subscribe to 100", `"subscribe":` + list(100), nil, func(c *Claims) bool { return len(c.Subscribe) == 100 }},
		{"subscribe to 101", `"subscribe":` + list(101), errSubscribe, nil},
		{"subscribe string", `"subscribe":"*"`, errSubscribe, nil},
		{"subscribe null", `"subscribe":null`, errSubscribe, nil},
		{"subscribe true", `"subscribe":true`, errSubscribe, nil},
		{"subscribe number", `"subscribe":1`, errSubscribe, nil},
		{"subscribe object", `"subscribe":{"news":true}`, errSubscribe, nil},
		{"subscribe to numbers", `"subscribe":[1]`, errSubscribe, nil},
		{"subscribe to null", `"subscribe":["a",null]`, errSubscribe, nil},
		{"subscribe to lists", `"subscribe":[["a"]]`, errSubscribe, nil},
		{"subscribe to no name", `"subscribe":[""]`, errSubscribe, nil},
		{"subscribe with a space", `"subscribe":["a b"]`, errSubscribe, nil},
		{"subscribe with another glob", `"subscribe":["news?"]`, errSubscribe, nil},
		{"subscribe with another mark", `"subscribe":["{user}"]`, errSubscribe, nil},
		{"subscribe with a line break", `"subscribe":["a\nb"]`, errSubscribe, nil},
		{"subscribe with a long pattern", `"subscribe":["` + strings.Repeat("*a", 129) + `"]`, errSubscribe, nil},
		{"subscribe with a subject that makes it long", `"sub":"` + strings.Repeat("ë", 100) + `","subscribe":["u:{sub}"]`, errSubscribe, nil},
		{"publish string", `"publish":"*"`, errPublish, nil},
		{"publish null", `"publish":null`, errPublish, nil},
		{"publish to 101", `"publish":` + list(101), errPublish, nil},
		{"publish to numbers", `"publish":[0]`, errPublish, nil},

		{"rate", `"rate":0.5`, nil, func(c *Claims) bool { return c.Rate == 0.5 }},
		{"rate 0: it would be the node's", `"rate":0`, errRate, nil},
		{"rate negative", `"rate":-1`, errRate, nil},
		{"rate string", `"rate":"5"`, errRate, nil},
		{"rate null", `"rate":null`, errRate, nil},
		{"rate huge", `"rate":1e300`, errRate, nil},
		{"rate no number", `"rate":1e999`, errRate, nil},
		{"rate tiny: it would be 0", `"rate":1e-999`, errRate, nil},
		{"connections", `"connections":5`, nil, func(c *Claims) bool { return c.Connections == 5 }},
		{"connections as some languages write it", `"connections":5.0`, nil, func(c *Claims) bool { return c.Connections == 5 }},
		{"connections 0: it would be the node's", `"connections":0`, errConns, nil},
		{"connections negative", `"connections":-5`, errConns, nil},
		{"connections with a fraction", `"connections":1.5`, errConns, nil},
		{"connections huge", `"connections":1e18`, errConns, nil},
		{"connections string", `"connections":"5"`, errConns, nil},
		{"connections null", `"connections":null`, errConns, nil},
		{"history", `"history":true`, nil, func(c *Claims) bool { return !c.NoHistory }},
		{"history string", `"history":"false"`, errHistory, nil},
		{"history number", `"history":0`, errHistory, nil},
		{"history null", `"history":null`, errHistory, nil},
		{"trace", `"trace":false`, nil, func(c *Claims) bool { return !c.Trace }},
		{"trace string", `"trace":"true"`, errTrace, nil},
		{"trace number", `"trace":1`, errTrace, nil},
		{"trace null", `"trace":null`, errTrace, nil},

		{"channel", `"sub":"alice","channel":"room:1"`, nil, func(c *Claims) bool { return c.Channel == "room:1" }},
		{"channel pattern", `"channel":"room:*"`, errChannel, nil},
		{"channel with the mark", `"channel":"room:{sub}"`, errChannel, nil},
		{"channel empty", `"channel":""`, errChannel, nil},
		{"channel null", `"channel":null`, errChannel, nil},
		{"channel list", `"channel":["a"]`, errChannel, nil},
		{"channel and subscribe", `"channel":"a","subscribe":["b"]`, errBoth, nil},
		{"channel and publish of nothing", `"channel":"a","publish":[]`, errBoth, nil},

		{"aud where none is known", `"aud":"somebody"`, errNoAud, nil},
		{"iss where it is not looked at", `"iss":"whoever"`, nil, func(*Claims) bool { return true }},
		{"iss number", `"iss":1`, errIss, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, err := newTokens(t, nil).Verify(t.Context(), signHS(t, plainHeader, valid(row.claims)))
				if err != row.want && row.want != nil || row.want == nil && err != nil {
					t.Fatalf("got %v, want %v", err, row.want)
				}
				if err == nil && !row.check(c) {
					t.Errorf("got %+v", c)
				}
			})
		})
	}
}

// TestPayload: claims that are no object.
func TestPayload(t *testing.T) {
	tokens := newTokens(t, nil)
	for _, claims := range []string{`null`, `[]`, `"exp"`, `1`, `{`, `{"exp":1}x`, `{"exp":1,}`, "\ufeff" + valid(""), "{\"exp\":1,\"a\xff\":2}"} {
		want := errPayload
		if _, err := tokens.Verify(t.Context(), signHS(t, plainHeader, claims)); err != want {
			t.Errorf("%q: got %v, want %v", claims, err, want)
		}
	}
}

// TestTimes: exp, nbf and iat, in a bubble where time stands still.
func TestTimes(t *testing.T) {
	for _, row := range []struct {
		name, claims string // NOW±N is a number of seconds
		want         error
	}{
		{"one hour", `"exp":NOW+3600`, nil},
		{"no exp", `"iat":NOW`, errExp},
		{"exp string", `"exp":"NOW+3600"`, errExp},
		{"exp null", `"exp":null`, errExp},
		{"exp object", `"exp":{}`, errExp},
		{"exp date", `"exp":"2000-01-01T01:00:00Z"`, errExp},
		{"exp 0", `"exp":0`, errExp},
		{"exp negative", `"exp":-NOW`, errExp},
		{"exp 1e300", `"exp":1e300`, errExp},
		{"exp 1e999", `"exp":1e999`, errExp},
		{"exp past the end of int64", `"exp":9223372036854775808`, errExp},
		{"exp in milliseconds", `"exp":NOW000`, errLifetime},
		{"exp with a fraction", `"exp":NOW.5,"iat":NOW`, nil},
		{"exp with an exponent", `"exp":9.46688400e8`, nil},
		{"expired", `"exp":NOW-3600`, errExpired},
		{"expired within the leeway", `"exp":NOW-9`, nil},
		{"expired just beyond it", `"exp":NOW-10`, errExpired},
		{"expired, in the right order", `"exp":NOW-3600,"iat":NOW-7200`, errExpired},
		{"a day", `"exp":NOW+86400,"iat":NOW`, nil},
		{"a day and a second", `"exp":NOW+86401,"iat":NOW`, errLifetime},
		{"a day and the leeway without iat", `"exp":NOW+86410`, nil},
		{"more than that without iat", `"exp":NOW+86411`, errLifetime},
		{"what is left of a long life", `"exp":NOW+10,"iat":NOW-86400`, errLifetime},
		{"iat string", `"exp":NOW+60,"iat":"NOW"`, errIat},
		{"iat null", `"exp":NOW+60,"iat":null`, errIat},
		{"iat in the future within the leeway", `"exp":NOW+60,"iat":NOW+10`, nil},
		{"iat in the future", `"exp":NOW+60,"iat":NOW+11`, errFuture},
		{"iat in milliseconds", `"exp":NOW+60,"iat":NOW000`, errFuture},
		{"iat in the future and a later exp: not a way to live longer", `"exp":NOW+172800,"iat":NOW+86400`, errFuture},
		{"nbf", `"exp":NOW+60,"nbf":NOW`, nil},
		{"nbf within the leeway", `"exp":NOW+60,"nbf":NOW+10`, nil},
		{"nbf later", `"exp":NOW+60,"nbf":NOW+11`, errEarly},
		{"nbf string", `"exp":NOW+60,"nbf":"NOW"`, errNbf},
		{"nbf null", `"exp":NOW+60,"nbf":null`, errNbf},
		{"nbf far later: no overflow", `"exp":NOW+60,"nbf":253402300799`, errEarly},
		{"nbf past all", `"exp":NOW+60,"nbf":1e18`, errNbf},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				now := time.Now().Unix()
				claims := row.claims
				for _, d := range []int64{-86400, -7200, -3600, -10, -9, 10, 11, 60, 3600, 86400, 86401, 86410, 86411, 172800} {
					// Longer ones are before those that they begin with.
					claims = replaceTerm(claims, fmt.Sprintf("NOW%+d", d), fmt.Sprint(now+d))
				}
				claims = strings.ReplaceAll(claims, "NOW", fmt.Sprint(now))
				if _, err := newTokens(t, nil).Verify(t.Context(), signHS(t, plainHeader, "{"+claims+"}")); err != row.want && (err != nil || row.want != nil) {
					t.Errorf("{%s}: got %v, want %v", claims, err, row.want)
				}
			})
		})
	}
}

// TestNoLeeway: where clocks are known to be right there is none.
func TestNoLeeway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(t, func(c *TokensConfig) { c.Leeway = 0 })
		now := time.Now().Unix()
		for claims, want := range map[string]error{
			fmt.Sprintf(`{"exp":%d,"iat":%d,"nbf":%d}`, now+1, now, now): nil,
			fmt.Sprintf(`{"exp":%d}`, now):                               errExpired,
			fmt.Sprintf(`{"exp":%d,"iat":%d}`, now+60, now+1):            errFuture,
			fmt.Sprintf(`{"exp":%d,"nbf":%d}`, now+60, now+1):            errEarly,
		} {
			if _, err := tokens.Verify(t.Context(), signHS(t, plainHeader, claims)); err != want && (err != nil || want != nil) {
				t.Errorf("%s: got %v, want %v", claims, err, want)
			}
		}
	})
}

// replaceTerm replaces a term where no digit follows.
func replaceTerm(s, term, by string) string {
	for at := 0; ; {
		i := strings.Index(s[at:], term)
		if i < 0 {
			return s
		}
		end := at + i + len(term)
		if end == len(s) || s[end] < '0' || s[end] > '9' {
			s = s[:at+i] + by + s[end:]
		}
		at += i + 1
	}
}

// TestParties: iss and aud where a node knows what they should be.
func TestParties(t *testing.T) {
	tokens := newTokens(t, func(c *TokensConfig) {
		c.Issuers, c.Audiences = []string{"https://issuer.example", "backend"}, []string{"sluice", "edge"}
	})
	many := `"` + strings.Repeat(`x","`, 99) + `sluice"`
	for _, row := range []struct {
		claims string
		want   error
	}{
		{`"iss":"https://issuer.example","aud":"sluice"`, nil},
		{`"iss":"backend","aud":["other","edge"]`, nil},
		{`"iss":"backend","aud":[` + many + `]`, nil},
		{`"iss":"backend","aud":["x",` + many + `]`, errAud},
		{`"aud":"sluice"`, errIss},
		{`"iss":"https://issuer.example.evil.example","aud":"sluice"`, errIss},
		{`"iss":"https://issuer.example/","aud":"sluice"`, errIss},
		{`"iss":"HTTPS://issuer.example","aud":"sluice"`, errIss},
		{`"iss":["backend"],"aud":"sluice"`, errIss},
		{`"iss":null,"aud":"sluice"`, errIss},
		{`"iss":"backend"`, errAud},
		{`"iss":"backend","aud":"other"`, errAud},
		{`"iss":"backend","aud":""`, errAud},
		{`"iss":"backend","aud":[]`, errAud},
		{`"iss":"backend","aud":["Sluice"]`, errAud},
		{`"iss":"backend","aud":["sluice",1]`, errAud},
		{`"iss":"backend","aud":["sluice",null]`, errAud},
		{`"iss":"backend","aud":{"sluice":true}`, errAud},
		{`"iss":"backend","aud":null`, errAud},
		{`"iss":"backend","aud":[["sluice"]]`, errAud},
	} {
		if _, err := tokens.Verify(t.Context(), signHS(t, plainHeader, valid(row.claims))); err != row.want && (err != nil || row.want != nil) {
			t.Errorf("%.80s: got %v, want %v", row.claims, err, row.want)
		}
	}
}
