package e2e

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"time"
)

// tokenAttack is a token that is wrong, and what must be said to it on every way.
type tokenAttack struct {
	name, why string
	token     func(f *forger) string
	code      string // "": unauthorized
}

// said returns the code.
func (a *tokenAttack) said() string {
	if a.code == "" {
		return "unauthorized"
	}
	return a.code
}

// claim returns a token that is right but for one claim.
func claim(name string, value any) func(*forger) string {
	return func(f *forger) string { return f.signed(headEd, f.good().with(claims{name: value})) }
}

// in returns a token that is right but for a claim that is so far from now, in seconds.
func in(name string, d time.Duration) func(*forger) string {
	return func(f *forger) string { return claim(name, time.Now().Add(d).Unix())(f) }
}

// head returns a token that is right but for parameters of its header.
func head(base, more claims) func(*forger) string {
	return func(f *forger) string { return f.signed(base.with(more), f.good()) }
}

// mangled returns a good token after do.
func mangled(base claims, do func(token string) string) func(*forger) string {
	return func(f *forger) string { return do(f.signed(base, f.good())) }
}

// payload returns a token whose claims are written by hand; %s stands for those that are good, without braces.
func payload(format string) func(*forger) string {
	return func(f *forger) string {
		good := strings.Trim(toJSON(f.t, f.good()), "{}")
		return f.raw(toJSON(f.t, headEd), strings.ReplaceAll(format, "%s", good), f.eddsa)
	}
}

// by returns a good payload under a header, with a signature that sign makes.
func by(header claims, sign func(f *forger) func([]byte) []byte) func(*forger) string {
	return func(f *forger) string { return f.raw(toJSON(f.t, header), toJSON(f.t, f.good()), sign(f)) }
}

// hmacWith signs by HMAC with a secret that everyone has.
func hmacWith(header claims, secret func(f *forger) string) func(*forger) string {
	return by(header, func(f *forger) func([]byte) []byte { return f.hs(secret(f)) })
}

// publicPEM is the RSA key as its owner publishes it.
func publicPEM(f *forger) string {
	der, err := x509.MarshalPKIXPublicKey(&f.rsa.PublicKey)
	if err != nil {
		f.t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

// headerAttacks are wrong by what stands in the header.
func headerAttacks() []tokenAttack {
	hsRSA := headRSA.with(claims{"alg": "HS256"})
	all := []tokenAttack{
		{"alg none", "nothing is signed", by(headRSA.with(claims{"alg": "none"}), func(*forger) func([]byte) []byte { return always(nil) }), ""},
		{"alg none with a signature", "", head(headRSA, claims{"alg": "none"}), ""},
		{"HS256 by the RSA key as PEM", "a public key is no secret", hmacWith(hsRSA, publicPEM), ""},
		{"HS256 by the RSA key as PEM, trimmed", "", hmacWith(hsRSA, func(f *forger) string { return strings.TrimSpace(publicPEM(f)) }), ""},
		{"HS256 by the RSA key as PEM, without kid", "then it is of jwt-secret", hmacWith(headHS, publicPEM), ""},
		{"HS256 by the RSA key as DER", "", hmacWith(hsRSA, func(f *forger) string { return string(x509.MarshalPKCS1PublicKey(&f.rsa.PublicKey)) }), ""},
		{"HS256 by the modulus", "", hmacWith(hsRSA, func(f *forger) string { return string(f.rsa.N.Bytes()) }), ""},
		{"HS256 by the modulus in base64url", "as it stands in the set", hmacWith(hsRSA, func(f *forger) string { return b64(f.rsa.N.Bytes()) }), ""},
		{"HS256 by the Ed25519 key", "", hmacWith(headEd.with(claims{"alg": "HS256"}), func(f *forger) string { return string(f.ed[32:]) }), ""},
		{"HS256 by the whole set", "", hmacWith(headHS, (*forger).set), ""},
		{"HS256 by nothing", "", hmacWith(headHS, func(*forger) string { return "" }), ""},
		{"HS256 by zeros", "", hmacWith(headHS, func(*forger) string { return strings.Repeat("\x00", 32) }), ""},
		{"HS256 by the secret and a line break", "the file had one", hmacWith(headHS, func(f *forger) string { return f.secret + "\n" }), ""},
		{"HS256 by the secret with a kid", "jwt-secret has no name", head(headHS, claims{"kid": "default"}), ""},
		{"PS256 by a key for RS256", "its alg is pinned", by(headRSA.with(claims{"alg": "PS256"}), func(f *forger) func([]byte) []byte { return f.ps }), ""},
		{"RS256 under the kid of ES256", "", by(headRSA.with(claims{"kid": kidEC}), func(f *forger) func([]byte) []byte { return f.rs }), ""},
		{"ES256 under the kid of RS256", "", by(headEC.with(claims{"kid": kidRSA}), func(f *forger) func([]byte) []byte { return f.es }), ""},
		{"a kid of nobody", "", head(headRSA, claims{"kid": "rsa-2"}), ""},
		{"a kid in other case", "", head(headRSA, claims{"kid": "RSA-1"}), ""},
		{"a kid with a space", "", head(headRSA, claims{"kid": "rsa-1 "}), ""},
		{"typ of something else", "RFC 8725 §3.11", head(headRSA, claims{"typ": "dpop+jwt"}), ""},
		{"crit that is unknown", "RFC 7515 §4.1.11", head(headRSA, claims{"crit": []string{"x"}, "x": 1}), ""},
		{"crit of nothing", "", head(headRSA, claims{"crit": []string{}}), ""},
		{"b64 false", "RFC 7797: the payload is not what it seems", head(headRSA, claims{"b64": false, "crit": []string{"b64"}}), ""},
		{"compressed", "", head(headRSA, claims{"zip": "DEF"}), ""},
		{"a header of 2 KiB", "", head(headRSA, claims{"x": strings.Repeat("x", 2<<10)}), ""},
		{"a header twice in a name", "", func(f *forger) string {
			return f.raw(`{"alg":"none","alg":"EdDSA","kid":"ed-1"}`, toJSON(f.t, f.good()), f.eddsa)
		}, ""},
		{"a header that is a list", "", func(f *forger) string { return f.raw(`["EdDSA"]`, toJSON(f.t, f.good()), f.eddsa) }, ""},
		{"a header that is null", "", func(f *forger) string { return f.raw(`null`, toJSON(f.t, f.good()), f.eddsa) }, ""},
		{"alg in other case of the name", "", func(f *forger) string {
			return f.raw(`{"ALG":"EdDSA","kid":"ed-1"}`, toJSON(f.t, f.good()), f.eddsa)
		}, ""},
	}
	for _, alg := range []any{"None", "nOnE", "NONE", "", " ", nil, absent{}, 0, []string{"RS256"}, "rs256", "RS256 ", "RS257", "ES512", "HS1", "RSA-OAEP", "dir"} {
		all = append(all, tokenAttack{fmt.Sprintf("alg %q", fmt.Sprint(alg)), "algorithms are a list of names", by(headRSA.with(claims{"alg": alg}), func(f *forger) func([]byte) []byte { return f.rs }), ""})
	}
	for name, kid := range map[string]any{
		"traversal": "../../../../../../dev/null", "file": "/dev/null", "SQL": "x' UNION SELECT 'secretsecretsecretsecret' -- ", "command": "|/bin/sleep 10", "CRLF and a command": "x\r\nFLUSHALL\r\n", "NUL": "rsa-1\x00",
		"1,000 bytes": strings.Repeat("k", 1000), "empty": "", "null": nil, "number": 1, "list": []string{kidRSA}, "object": claims{"kid": kidRSA}, "true": true, "format": "%s%n%x", "template": "${jndi:ldap://127.0.0.1/a}",
	} {
		all = append(all,
			tokenAttack{"kid: " + name, "it is compared, and nothing else", by(headHS.with(claims{"kid": kid}), func(f *forger) func([]byte) []byte { return f.hs("") }), ""},
			tokenAttack{"kid of RS256: " + name, "", by(headRSA.with(claims{"kid": kid}), func(f *forger) func([]byte) []byte { return f.hs("secretsecretsecretsecret") }), ""})
	}
	for _, parameter := range []string{"jku", "x5u", "kid", "iss", "jwk", "x5c"} {
		all = append(all, tokenAttack{parameter + " with a URL", "a token has nothing fetched", func(f *forger) string {
			return f.signed(headRSA.with(claims{parameter: "http://" + f.ear + "/" + parameter}), f.good().with(claims{"sub": "mallory", "iss": "http://" + f.ear}))
		}, ""})
	}
	return append(all, tokenAttack{"a jwk of its own", "a token does not bring its key", func(f *forger) string {
		own := newForger(f.t)
		var set struct{ Keys []claims }
		fromJSON(own.set(), &set)
		return own.signed(headRSA.with(claims{"jwk": set.Keys[0]}), f.good())
	}, ""})
}

// signatureAttacks are wrong by their signature or their shape.
func signatureAttacks() []tokenAttack {
	parts := func(do func(p []string) []string) func(string) string {
		return func(token string) string { return strings.Join(do(strings.Split(token, ".")), ".") }
	}
	es := func(name, why string, sig func(f *forger) func([]byte) []byte) tokenAttack {
		return tokenAttack{name, why, by(headEC, sig), ""}
	}
	zero := big.NewInt(0)
	all := []tokenAttack{
		es("r and s are 0", "CVE-2022-21449", func(*forger) func([]byte) []byte { return always(pair(zero, zero)) }),
		es("r is n", "", func(f *forger) func([]byte) []byte { return always(pair(f.ec.Params().N, big.NewInt(1))) }),
		es("r and s are n", "", func(f *forger) func([]byte) []byte { return always(pair(f.ec.Params().N, f.ec.Params().N)) }),
		es("r and s are 1", "", func(*forger) func([]byte) []byte { return always(pair(big.NewInt(1), big.NewInt(1))) }),
		es("DER", "RFC 7518 §3.4 has 64 bytes", func(f *forger) func([]byte) []byte { return f.der }),
		es("s before r", "", func(f *forger) func([]byte) []byte {
			return func(signed []byte) []byte { sig := f.es(signed); return append(sig[32:], sig[:32]...) }
		}),
		es("r and s with a zero before them", "", func(f *forger) func([]byte) []byte {
			return func(signed []byte) []byte {
				sig := f.es(signed)
				return append(append([]byte{0}, sig[:32]...), append([]byte{0}, sig[32:]...)...)
			}
		}),
		{"a signature of zeros, Ed25519", "", by(headEd, func(*forger) func([]byte) []byte { return always(make([]byte, 64)) }), ""},
		{"a signature of zeros, RSA", "", by(headRSA, func(*forger) func([]byte) []byte { return always(make([]byte, 256)) }), ""},
		{"a signature of one, RSA", "", by(headRSA, func(*forger) func([]byte) []byte { return always(append(make([]byte, 255), 1)) }), ""},
		{"another key of the same kind", "", func(f *forger) string { return newForger(f.t).signed(headEC, f.good()) }, ""},
		{"another secret", "", func(f *forger) string { return newForger(f.t).signed(headHS, f.good()) }, ""},
		{"the payload of another token", "", func(f *forger) string {
			a, b := strings.Split(f.signed(headEd, f.good()), "."), strings.Split(f.signed(headEd, f.good().with(claims{"subscribe": []string{"*"}})), ".")
			return a[0] + "." + b[1] + "." + a[2]
		}, ""},
		{"the header of another token", "", func(f *forger) string {
			a, b := strings.Split(f.signed(headEd, f.good()), "."), strings.Split(f.signed(headRSA, f.good()), ".")
			return b[0] + "." + a[1] + "." + a[2]
		}, ""},
		{"the signature of another token", "", func(f *forger) string {
			a, b := strings.Split(f.signed(headEd, f.good()), "."), strings.Split(f.signed(headEd, f.good()), ".")
			return a[0] + "." + a[1] + "." + b[2]
		}, ""},
		{"encrypted", "a JWE has five parts", mangled(headEd, func(t string) string { return t + ".YWFhYQ.YWFhYQ" }), ""},
		{"a line break within", "decoders skip it: then a token could be written in many ways", mangled(headEd, func(t string) string { return t[:20] + "\r\n" + t[20:] }), ""},
		{"a line break at the end", "", mangled(headEd, func(t string) string { return t + "\r\n" }), ""},
		{"a NUL", "", mangled(headEd, func(t string) string { return t + "\x00" }), ""},
		{"a space", "", mangled(headEd, func(t string) string { return t[:20] + " " + t[20:] }), ""},
		{"not ASCII", "", mangled(headEd, func(t string) string { return t + "é" }), ""},
		{"Bearer twice", "", mangled(headEd, func(t string) string { return "Bearer." + t }), ""},
		{"9 KiB", "it is refused before it is looked at", mangled(headEd, func(t string) string { return t + strings.Repeat("A", 9<<10-len(t)) }), ""},
		{"other bits at the end", "", mangled(headEd, func(t string) string {
			return t[:len(t)-1] + string("BCDEFGHIJKLMNOP"[strings.IndexByte("AQgw", t[len(t)-1])%4])
		}), ""},
		{"a word", "", func(*forger) string { return "letmein-letmein-letmein-letmein" }, ""},
		{"dots", "", func(*forger) string { return ".." }, ""},
		{"an API key that is none", "", func(*forger) string { return "sluice_backend_AAAAAAAAAAAAAAAAAAAAAAAAAA" }, ""},
		{"an API key of nobody", "", func(*forger) string { return "sluice_nobody_AAAAAAAAAAAAAAAAAAAAAAAAAA" }, ""},
		{"an API key without a secret", "", func(*forger) string { return "sluice_backend_" }, ""},
		{"an API key's ID", "", func(*forger) string { return "sluice_backend" }, ""},
	}
	for name, do := range map[string]func(p []string) []string{
		"one part":           func(p []string) []string { return p[:1] },
		"two parts":          func(p []string) []string { return p[:2] },
		"four parts":         func(p []string) []string { return append(p, "AAAA") },
		"no signature":       func(p []string) []string { return []string{p[0], p[1], ""} },
		"no payload":         func(p []string) []string { return []string{p[0], "", p[2]} },
		"no header":          func(p []string) []string { return []string{"", p[1], p[2]} },
		"half a signature":   func(p []string) []string { return []string{p[0], p[1], p[2][:len(p[2])/2]} },
		"a longer signature": func(p []string) []string { return []string{p[0], p[1], p[2] + "AAAA"} },
		"padding":            func(p []string) []string { return []string{p[0], p[1], p[2] + "=="} },
		"plain base64": func(p []string) []string {
			b, _ := base64.RawURLEncoding.DecodeString(p[2])
			b[0] = 0xff
			return []string{p[0], p[1], base64.RawStdEncoding.EncodeToString(b)}
		},
	} {
		all = append(all, tokenAttack{name, "the compact form, RFC 7515 §7.1", mangled(headEd, parts(do)), ""})
	}
	return all
}

// claimAttacks are signed by an issuer that is mistaken, or has lent its key.
func claimAttacks() []tokenAttack {
	deep := strings.Repeat("[", 2000) + strings.Repeat("]", 2000)
	all := []tokenAttack{
		{"expired", "", in("exp", -time.Hour), "token_expired"},
		{"expired just now", "jwt-leeway is 0", in("exp", -2*time.Second), "token_expired"},
		{"exp in milliseconds", "such a token would never end", claim("exp", time.Now().Add(time.Hour).UnixMilli()), ""},
		{"exp after the longest lifetime", "", in("exp", 25*time.Hour), ""},
		{"not valid yet", "", in("nbf", time.Hour), ""},
		{"issued in the future", "", in("iat", time.Hour), ""},
		{"exp twice", "which of them counts?", payload(`{%s,"exp":9999999999}`), ""},
		{"sub twice by an escape", "", payload(`{%s,"s\u0075b":"root"}`), ""},
		{"subscribe twice", "", payload(`{"subscribe":["*"],%s}`), ""},
		{"EXP beside exp", "names have a case", payload(`{"EXP":9999999999,"sub":"alice"}`), ""},
		{"a payload that is a list", "", payload(`[{%s}]`), ""},
		{"a payload that is a string", "", payload(`"alice"`), ""},
		{"no payload in it", "", payload(``), ""},
		{"null for a payload", "", payload(`null`), ""},
		{"something after the payload", "", payload(`{%s}{}`), ""},
		{"a comment", "", payload(`{%s/* */}`), ""},
		{"bytes that are no UTF-8", "", payload("{%s,\"x\":\"\xff\"}"), ""},
		{"nested deep", "a stack", payload(`{%s,"x":` + deep + `}`), ""},
		{"nested deep in subscribe", "", payload(`{"sub":"a","exp":1,"subscribe":` + deep + `}`), ""},
		{"a pattern of 300 bytes", "", claim("subscribe", []string{strings.Repeat("a", 300)}), ""},
		{"101 patterns", "", claim("subscribe", strings.Fields(strings.Repeat("* ", 101))), ""},
		{"{sub} without separators", "of a it would have those of a-b", claim("subscribe", []string{"user-{sub}-*"}), ""},
		{"a channel and subscribe", "", claim("channel", "news"), ""},
	}
	row := func(name string, values ...any) {
		for _, v := range values {
			all = append(all, tokenAttack{fmt.Sprintf("%s: %.40s", name, fmt.Sprintf("%#v", v)), "a claim that is wrong never means nothing, or everything", claim(name, v), ""})
		}
	}
	row("exp", absent{}, nil, "1999999999", "never", true, []int{1999999999}, claims{"at": 1999999999}, 1e300, 1e19, -1, 0)
	row("nbf", nil, "0", claims{}, 1e300)
	row("iat", nil, "0", []int{0}, 1e300, -1)
	row("aud", absent{}, nil, "", "sluice2", "Sluice", "sluice ", "*", 1, true, []string{}, []string{"other"}, []any{"sluice", 1}, []any{[]string{"sluice"}}, claims{"sluice": true})
	row("iss", absent{}, nil, "", "https://issuer.test.evil.tld", "https://issuer.test/", "HTTPS://ISSUER.TEST", "https://issuer.test@evil.tld", []string{fortIssuer}, 1)
	row("sub", nil, "", 1, true, []string{"alice"}, claims{"sub": "alice"}, "a\nb", "a\x00", strings.Repeat("s", 257))
	row("jti", nil, "", 1, strings.Repeat("j", 129), "a\r\nDEL x")
	for _, name := range []string{"subscribe", "publish"} {
		row(name, nil, "*", "news", 1, true, claims{"news": true}, claims{}, []any{nil}, []any{1}, []any{"*", nil}, []any{[]string{"*"}}, []string{""}, []string{"a b"}, []string{"news", "**\n"}, []string{"[a-z]"}, []string{"{sub}{sub}"})
	}
	row("rate", nil, 0, -1, "10", 1e9)
	row("connections", nil, 0, -1, 1.5, "1")
	row("history", nil, "false", 0, []bool{false})
	row("trace", nil, "true", 1)
	return all
}
