package auth

import (
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"
	"github.com/go-jose/go-jose/v4/jwt"
)

// TestLibrary holds what the policy takes from the library, and what it had to do itself since the library doesn't. A row that
// fails after an update says that the policy has to be looked at.
func TestLibrary(t *testing.T) {
	decodes := func(text string, into any) bool { return json.Unmarshal([]byte(text), into) == nil }
	parse := func(token string) error {
		_, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.HS256})
		return err
	}
	verify := func(token string, secret any) error {
		signed, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.HS256, jose.EdDSA})
		if err == nil {
			_, err = signed.Verify(secret)
		}
		return err
	}
	good := signHS(t, plainHeader, valid(""))
	var fields map[string]json.RawMessage
	var claims struct {
		Sub string `json:"sub"`
	}
	var date struct {
		Exp *jwt.NumericDate `json:"exp"`
	}
	for _, row := range []struct {
		name      string
		got, want bool
		why       string
	}{
		{"names are case-sensitive", decodes(`{"SUB":"a","Sub":"b"}`, &claims) && claims.Sub == "", true, "encoding/json would take both for sub"},
		{"a name twice", decodes(`{"a":1,"a":2}`, &fields), false, "two readers would read two things"},
		{"a name twice by an escape", decodes(`{"a":1,"\u0061":2}`, &fields), false, "it is the same name"},
		{"bytes that are no UTF-8 are taken", decodes("{\"sub\":\"\xff\"}", &claims) && claims.Sub == "\ufffd", true, "so readObject looks first"},
		{"half a pair is taken", decodes(`{"sub":"\ud800"}`, &claims) && claims.Sub == "\ufffd", true, "so readString looks afterwards"},
		{"deep arrays are taken", decodes(`{"a":`+strings.Repeat("[", 9000)+strings.Repeat("]", 9000)+`}`, &fields), true, "so readObject looks first"},
		{"deeper ones are not", decodes(`{"a":`+strings.Repeat("[", 20000)+strings.Repeat("]", 20000)+`}`, &fields), false, "the stack is safe in any case"},
		{"a date is a number", decodes(`{"exp":"946684800"}`, &date), false, "no string is one"},
		{"a date may be null", decodes(`{"exp":null}`, &date) && date.Exp == nil, true, "so readTime doesn't leave it to the library"},
		{"a date may be in milliseconds", decodes(`{"exp":946684800000}`, &date), true, "so MaxLifetime looks"},
		{"a token", verify(good, []byte(secretText)) == nil, true, "or nothing here means anything"},
		{"crit is known", verify(signHS(t, `{"alg":"HS256","crit":["exp"],"exp":1}`, "{}"), []byte(secretText)) == nil, false, "RFC 7515 §4.1.11"},
		{"an empty crit is taken", verify(signHS(t, `{"alg":"HS256","crit":[]}`, "{}"), []byte(secretText)) == nil, true, "so readHeader refuses it"},
		{"an alg that was not asked for", parse(signHS(t, `{"alg":"HS512"}`, "{}")) == nil, false, "algorithms are pinned"},
		{"none", parse(b64(`{"alg":"none"}`)+"."+b64("{}")+".") == nil, false, "it is never asked for"},
		{"line breaks are taken", parse(good[:5]+"\r\n"+good[5:]) == nil, true, "so isBase64url refuses them"},
		{"other bits at the end are taken", verify(good[:strings.LastIndex(good, ".")+1]+otherBits(good[strings.LastIndex(good, ".")+1:]), []byte(secretText)) == nil, true, "so isBase64url refuses them"},
		{"a short secret", verify(sign(t, "HS256", []byte("short"), b64(plainHeader)+"."+b64("{}")), []byte("short")) == nil, false, "RFC 7518 §3.2"},
		{"an RSA key under 2048 bits is taken", decodes(`{"kty":"RSA","e":"AQAB","n":"`+strings.Repeat("_", 171)+`"}`, new(jose.JSONWebKey)), true, "so newKey looks"},
		{"key_ops are not known", decodes(`{"kty":"oct","k":"AAAA","key_ops":["sign"]}`, new(jose.JSONWebKey)), true, "so readKey looks"},
	} {
		if row.got != row.want {
			t.Errorf("%s: got %v, want %v: %s", row.name, row.got, row.want, row.why)
		}
	}
}
