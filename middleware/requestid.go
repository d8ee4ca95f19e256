package middleware

import (
	"encoding/base64"
	"encoding/binary"
	"math/rand/v2"

	"github.com/labstack/echo/v4"
)

// HeaderRequestID carries a request's name, both ways.
const HeaderRequestID = "X-Request-Id"

// maxRequestID is the most characters of an id that is taken over.
const maxRequestID = 64

// RequestIDs returns a middleware that gives each request an id, which its answer, whatever it is, and
// what is logged about it carry. An id that came with the request is taken over if it has 1 to 64 characters
// out of A-Z a-z 0-9 . _ : / + = @ ~ -; otherwise, and for requests with several, one of 16 characters is made.
//
// Anybody's id is taken: it only helps to find the same request in two logs. It proves nothing, and nothing
// may be decided by it.
func RequestIDs() echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			ids := c.Request().Header[HeaderRequestID]
			if len(ids) != 1 || !validRequestID(ids[0]) {
				ids = []string{newRequestID()}
			}
			c.Response().Header()[HeaderRequestID] = ids[:1:1]
			return next(c)
		}
	}
}

// RequestID returns the id of a request that came through RequestIDs, else "".
func RequestID(c echo.Context) string {
	if ids := c.Response().Header()[HeaderRequestID]; len(ids) > 0 {
		return ids[0]
	}
	return ""
}

func validRequestID(id string) bool {
	if len(id) == 0 || len(id) > maxRequestID {
		return false
	}
	for i := range len(id) {
		switch b := id[i]; {
		case 'a' <= b && b <= 'z', 'A' <= b && b <= 'Z', '0' <= b && b <= '9':
		case b == '.', b == '_', b == ':', b == '/', b == '+', b == '=', b == '@', b == '~', b == '-':
		default:
			return false
		}
	}
	return true
}

// newRequestID draws 96 bits. They need not be secret, only rarely the same.
func newRequestID() string {
	var raw [16]byte
	binary.NativeEndian.PutUint64(raw[:], rand.Uint64())
	binary.NativeEndian.PutUint64(raw[8:], rand.Uint64())
	var text [16]byte
	base64.RawURLEncoding.Encode(text[:], raw[:12])
	return string(text[:])
}
