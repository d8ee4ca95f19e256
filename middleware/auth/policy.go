package auth

import (
	"encoding/base64"
	"strings"
	"unicode/utf8"

	"github.com/go-jose/go-jose/v4/json" // case-sensitive, and refuses a name that is there twice
)

// Refusals of what a token looks like. Details are for those who make tokens; they repeat nothing of one.
var (
	errTooLarge   = refuse(Unauthorized, "the token is larger than this node takes")
	errShape      = refuse(Unauthorized, "this is no token: three parts in base64url without padding, with a dot in between, are expected")
	errHeader     = refuse(Unauthorized, "the header of the token is no JSON object, is too large, or has a name twice")
	errAlg        = refuse(Unauthorized, "the token's alg is none of HS256, HS384, HS512, RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA")
	errTyp        = refuse(Unauthorized, "the token's typ is neither JWT nor at+jwt")
	errKID        = refuse(Unauthorized, "the token's kid is not 1 to 256 printable ASCII characters")
	errCritical   = refuse(Unauthorized, "the header of the token has crit, b64, zip, jku, jwk, x5u or x5c, none of which is taken")
	errSignature  = refuse(Unauthorized, "the token's signature is not that of the key that it names")
	errUnknownKey = refuse(Unauthorized, "the token is signed with a key that is not known here")
	errOtherAlg   = refuse(Unauthorized, "the token's alg is not one that its key is for")
	errNoKID      = refuse(Unauthorized, "the token has no kid, and more than one key fits its alg")
)

const (
	maxHeader = 1 << 10 // bytes of a header, as JSON
	maxKID    = 256
)

// header is what counts of a token's header.
type header struct {
	alg algorithm
	kid string // "": it has none
}

// refusedParameters are of RFC 7515 §4.1, RFC 7516 §4.1.3 and RFC 7797: some would have the token bring its own key, or the node
// go and get it; the others change what is signed, or need an understanding that this program does not have.
var refusedParameters = [...]string{"crit", "b64", "zip", "jku", "jwk", "x5u", "x5c"}

// readHeader checks the shape of a token and reads its header. Nothing of it is true before the signature was checked.
func readHeader(token string) (header, error) {
	first, rest, _ := strings.Cut(token, ".")
	second, third, ok := strings.Cut(rest, ".")
	if !ok || !isBase64url(first) || !isBase64url(second) || !isBase64url(third) {
		return header{}, errShape
	}
	if base64.RawURLEncoding.DecodedLen(len(first)) > maxHeader {
		return header{}, errHeader
	}
	text, err := base64.RawURLEncoding.DecodeString(first)
	if err != nil {
		return header{}, errShape
	}
	fields, ok := readObject(text)
	if !ok {
		return header{}, errHeader
	}
	for _, name := range refusedParameters {
		if _, there := fields[name]; there {
			return header{}, errCritical
		}
	}
	var h header
	alg, _ := readString(fields["alg"])
	if h.alg = algorithm(alg); !h.alg.known() {
		return header{}, errAlg
	}
	if raw, there := fields["typ"]; there {
		typ, ok := readString(raw)
		// RFC 7515 §4.1.9: the prefix may be left out.
		if typ = strings.TrimPrefix(strings.ToLower(typ), "application/"); !ok || typ != "jwt" && typ != "at+jwt" {
			return header{}, errTyp
		}
	}
	if raw, there := fields["kid"]; there {
		if h.kid, ok = readString(raw); !ok || !isKID(h.kid) {
			return header{}, errKID
		}
	}
	return h, nil
}

// isBase64url reports whether a part of a token is base64url, and not empty. It is stricter than decoders, which skip line breaks and
// leave bits at the end alone: a token can be written in one way only.
func isBase64url(s string) bool {
	last := byte(0)
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'A' && c <= 'Z':
			last = c - 'A'
		case c >= 'a' && c <= 'z':
			last = c - 'a' + 26
		case c >= '0' && c <= '9':
			last = c - '0' + 52
		case c == '-':
			last = 62
		case c == '_':
			last = 63
		default:
			return false
		}
	}
	switch len(s) % 4 {
	case 1:
		return false
	case 2:
		return last&15 == 0
	case 3:
		return last&3 == 0
	}
	return s != ""
}

func isKID(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return s != "" && len(s) <= maxKID
}

// maxDepth bounds how deep objects and arrays may be in each other; the deepest claim that is read is one in another.
const maxDepth = 16

// readObject reads a JSON object. It refuses what is not UTF-8, has a name twice, or is too deep.
func readObject(text []byte) (map[string]json.RawMessage, bool) {
	if !utf8.Valid(text) || tooDeep(text) {
		return nil, false
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(text, &fields); err != nil || fields == nil {
		return nil, false
	}
	return fields, true
}

// tooDeep reports whether a JSON text is deeper than maxDepth. Of what is no JSON it may say either.
func tooDeep(text []byte) bool {
	depth, quoted := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++ // whatever it is, it does not end the string
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			if depth++; depth > maxDepth {
				return true
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return false
}

// readString reads a JSON string, of a JSON text that was found good. null is none, nor is one with a lone surrogate: decoders make
// U+FFFD of it, and two names one.
func readString(raw json.RawMessage) (string, bool) {
	if len(raw) < 2 || raw[0] != '"' {
		return "", false
	}
	s := string(raw[1 : len(raw)-1])
	if strings.IndexByte(s, '\\') >= 0 {
		if err := json.Unmarshal(raw, &s); err != nil {
			return "", false
		}
	}
	return s, !strings.ContainsRune(s, utf8.RuneError)
}
