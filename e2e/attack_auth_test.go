package e2e

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestAttackTokensTaken: tokens that are right are taken on every way, or the refusals of the other tests would mean nothing.
func TestAttackTokensTaken(t *testing.T) {
	t.Parallel()
	f := newFort(t)
	for _, header := range []claims{headRSA, headEC, headEd, headHS, headEd.with(claims{"typ": "at+jwt"}), headRSA.with(claims{"kid": absent{}}), headEd.with(claims{"cty": "x", "unknown": 1})} {
		for _, w := range ways {
			all := f.good()
			if w.signed {
				all = all.with(claims{"channel": "room:1", "subscribe": absent{}, "publish": absent{}, "sub": absent{}})
			}
			s := w.show(f, t, f.signed(header, all))
			if !s.ok() {
				t.Errorf("%v, %s: got %d %s: %.300s", header, w.name, s.status, s.code, s.raw)
			}
		}
	}
	f.unharmed(t)
}

// attackTokens tries each of the tokens on each way.
func attackTokens(t *testing.T, f *fort, attacks []tokenAttack) {
	for _, tt := range attacks {
		t.Run(tt.name, func(t *testing.T) {
			token := tt.token(f.forger)
			for _, w := range ways {
				if w.header && strings.ContainsFunc(token, func(r rune) bool { return r < ' ' || r > '~' || r == ' ' && !strings.HasPrefix(w.name, "Auth") }) {
					continue // it would be another header, or several
				}
				w.show(f, t, token).refuses(t, w.name+" ("+tt.why+")", token, tt.said())
			}
			f.unharmed(t)
		})
	}
	if f.heard.Load() {
		t.Error("the node has connected to where a token told it to")
	}
	f.alone(t)
}

// TestAttackTokenHeaders: none, confusion of algorithms, keys that a token brings or names.
func TestAttackTokenHeaders(t *testing.T) {
	t.Parallel()
	attackTokens(t, newFort(t), headerAttacks())
}

// TestAttackTokenSignatures: forged signatures, and other shapes than the one that tokens have.
func TestAttackTokenSignatures(t *testing.T) {
	t.Parallel()
	attackTokens(t, newFort(t), signatureAttacks())
}

// TestAttackTokenClaims: claims that are missing, of another type, of another time or somebody else's.
func TestAttackTokenClaims(t *testing.T) {
	t.Parallel()
	attackTokens(t, newFort(t), claimAttacks())
}

// TestAttackTokenSizes: tokens that are larger than what carries them.
func TestAttackTokenSizes(t *testing.T) {
	t.Parallel()
	f := newFort(t)
	patterns := make([]string, 100_000)
	for i := range patterns {
		patterns[i] = "*"
	}
	for _, tt := range []struct {
		name  string
		token string
	}{
		{"1 MiB of nothing", strings.Repeat("A", 1<<20)},
		{"1 MiB of dots", strings.Repeat(".", 1<<20)},
		{"100,000 patterns", f.signed(headEd, f.good().with(claims{"subscribe": patterns}))},
		{"a kid of 64 KiB", f.signed(headEd.with(claims{"kid": strings.Repeat("k", 64<<10)}), f.good())},
		{"10,000 arrays in each other", payload(`{%s,"x":` + strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000) + `}`)(f.forger)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, w := range ways {
				if strings.HasSuffix(w.name, "WebSocket") && strings.HasPrefix(w.name, "refresh") || strings.HasSuffix(w.name, "command") {
					continue // below
				}
				s := w.show(f, t, tt.token)
				if s.status != http.StatusRequestHeaderFieldsTooLarge && s.code != "too_large" && s.code != "unauthorized" || s.ok() {
					t.Errorf("%s: got %d %s %.200s", w.name, s.status, s.code, s.raw)
				}
			}
			c := f.upgrade(t, "", speaksJSON)
			c.send(text(toJSON(t, claims{"type": "refresh", "ref": lastRef, "token": tt.token})) + text(lastCommand))
			if said, err := c.listen(); err != nil || said.close != 1009 && (len(said.codes) != 1 || said.codes[0] != "unauthorized") {
				t.Errorf("refresh on WebSocket: %+v, %v", said, err)
			}
			f.unharmed(t)
		})
	}
	f.alone(t)
}

// TestAttackSeveralCredentials: which of two counts would be anyone's guess, so none does.
func TestAttackSeveralCredentials(t *testing.T) {
	t.Parallel()
	f := newFort(t)
	good, expired := f.signed(headEd, f.good()), in("exp", -time.Hour)(f.forger)
	for _, tt := range []struct {
		name, line, header, code string
	}{
		{"two headers", "GET /sse?channel=news", "Authorization: Bearer " + good + "\r\nAuthorization: Bearer " + good + "\r\n", "bad_request"},
		{"header and query", "GET /sse?channel=news&access_token=" + good, "Authorization: Bearer " + good + "\r\n", "bad_request"},
		{"query twice", "GET /sse?channel=news&access_token=" + good + "&access_token=" + good, "", "bad_request"},
		{"header and subprotocol", "GET /ws?channel=news", upgradeHead + "Authorization: Bearer " + good + "\r\nSec-WebSocket-Protocol: sluice.v1.json, sluice.token." + good + "\r\n", "bad_request"},
		{"two subprotocols", "GET /ws?channel=news", upgradeHead + "Sec-WebSocket-Protocol: sluice.token." + good + ", sluice.v1.json, sluice.token." + expired + "\r\n", "bad_request"},
		{"two cookies", "GET /sse?channel=news", "Origin: " + fortOrigin + "\r\nCookie: sid=" + good + "; sid=" + good + "\r\n", "bad_request"},
		{"two cookie headers", "GET /sse?channel=news", "Origin: " + fortOrigin + "\r\nCookie: sid=" + good + "\r\nCookie: sid=" + good + "\r\n", "bad_request"},
		{"a key and a token", "POST /publish/news", "Authorization: Bearer " + good + "\r\nAuthorization: Bearer " + f.key + "\r\n", "bad_request"},
		{"a bad header and a good cookie", "GET /sse?channel=news", "Origin: " + fortOrigin + "\r\nAuthorization: Bearer " + expired + "\r\nCookie: sid=" + good + "\r\n", "token_expired"},
		{"Basic", "GET /sse?channel=news", "Authorization: Basic YWxpY2U6c2VjcmV0\r\n", "unauthorized"},
		{"no scheme", "GET /sse?channel=news", "Authorization: " + good + "\r\n", "unauthorized"},
		{"a scheme and nothing", "GET /sse?channel=public:a", "Authorization: Bearer\r\n", "unauthorized"},
		{"a scheme and a space", "GET /sse?channel=public:a", "Authorization: Bearer \r\n", "unauthorized"},
		{"a bad token where none is needed", "GET /sse?channel=public:a", "Authorization: Bearer " + expired + "\r\n", "token_expired"},
		{"an empty token in the query", "GET /sse?channel=news&access_token=", "", "unauthorized"},
		{"an empty token as subprotocol", "GET /ws?channel=news", upgradeHead + "Sec-WebSocket-Protocol: sluice.token., sluice.v1.json\r\n", "unauthorized"},
		{"an empty cookie", "GET /sse?channel=news", "Origin: " + fortOrigin + "\r\nCookie: sid=\r\n", "unauthorized"},
		{"a cookie for publishing", "POST /publish/news", "Origin: " + fortOrigin + "\r\nCookie: sid=" + good + "\r\n", "unauthorized"},
		{"a subprotocol for publishing", "POST /publish/news", "Sec-WebSocket-Protocol: sluice.token." + good + "\r\n", "unauthorized"},
		{"a key for listening", "GET /sse?channel=news", "Authorization: Bearer " + f.key + "\r\n", "forbidden"},
		{"a key in the query", "POST /publish/news?access_token=" + f.key, "", "unauthorized"},
		{"a key as subprotocol", "GET /ws?channel=news", upgradeHead + "Sec-WebSocket-Protocol: sluice.v1.json, sluice.token." + f.key + "\r\n", "unauthorized"},
		{"a key in the cookie", "GET /sse?channel=news", "Origin: " + fortOrigin + "\r\nCookie: sid=" + f.key + "\r\n", "unauthorized"},
		{"a key for a subscription", "GET /sse?channel=room:1", "Sluice-Signed: " + f.key + "\r\n", "unauthorized"},
		{"a connection's token for a subscription", "GET /sse?channel=room:1", "Sluice-Signed: " + good + "\r\n", "unauthorized"},
		{"another's token for a subscription", "GET /sse?channel=room:1", "Authorization: Bearer " + good + "\r\nSluice-Signed: " + f.room("mallory", "room:1") + "\r\n", "forbidden"},
		{"a subscription's token for another channel", "GET /sse?channel=room:2", "Authorization: Bearer " + good + "\r\nSluice-Signed: " + f.room("alice", "room:1") + "\r\n", "unauthorized"},
		{"a subscription's token for a channel beside", "GET /sse?channel=room:1&channel=secret", "Sluice-Signed: " + f.room("", "room:1") + "\r\n", "unauthorized"},
		{"a subscription's token for a connection", "GET /sse?channel=room:1", "Authorization: Bearer " + f.room("alice", "room:1") + "\r\n", "unauthorized"},
		{"a subscription's token for publishing", "POST /publish/room:1", "Authorization: Bearer " + f.room("alice", "room:1") + "\r\n", "unauthorized"},
		{"100 tokens for subscriptions", "GET /sse?channel=room:1", "Sluice-Signed: " + strings.Repeat("a,", 99) + "a\r\n", "bad_request"},
		{"one token of two that is good", "GET /sse?channel=room:1&channel=room:2", "Sluice-Signed: " + f.room("", "room:1") + "," + expired + "\r\n", "token_expired"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f.ask(t, tt.line, tt.header, "").refuses(t, tt.line[:8], tt.header[strings.LastIndexAny(tt.header, " =.")+1:], tt.code)
		})
	}
	f.unharmed(t)
	f.alone(t)
}

// room returns a token for one subscription.
func (f *fort) room(subject, channel string) string {
	all := f.good().with(claims{"subscribe": absent{}, "publish": absent{}, "channel": channel, "sub": absent{}})
	if subject != "" {
		all["sub"] = subject
	}
	return f.signed(headEd, all)
}

// TestAttackKeyOracle: what is said to a key does not depend on what is wrong with it, so nobody finds out which keys there are.
func TestAttackKeyOracle(t *testing.T) {
	t.Parallel()
	f := newFort(t)
	var first string
	for _, key := range []string{"sluice_backend_" + strings.Repeat("A", 26), "sluice_nobody_" + strings.Repeat("A", 26), f.key[:len(f.key)-1] + "0", f.key + "A", "sluice_backend_", "sluice__", "sluice_", "sluice_a_b_c", f.key[:len(f.key)-1]} {
		s := f.ask(t, "POST /publish/news", "Authorization: Bearer "+key+"\r\n", "x")
		s.refuses(t, key, key, "unauthorized")
		body := s.raw[strings.Index(s.raw, "]{")+1:]
		if first == "" {
			first = body
		}
		if body != first {
			t.Errorf("%s: %s, and %s for others", key, body, first)
		}
	}
	f.unharmed(t)
}
