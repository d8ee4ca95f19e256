package transport

import (
	"encoding/base64"
	"net/http"
	"strings"
)

// refusal says why a request is not taken for a WebSocket handshake: the status to answer, and a
// sentence for the problem's detail that repeats nothing of the request.
type refusal struct {
	status int
	detail string
}

// setHeader sets what the status obliges to: a 426 names the protocol and its version (RFC 9110
// §15.5.22, RFC 6455 §4.4), a 405 the method. The others close: net/http would else wait for the body
// that was announced, before it answers that it does not want it.
func (f *refusal) setHeader(h http.Header) {
	switch f.status {
	case http.StatusUpgradeRequired:
		h.Set("Upgrade", "websocket")
		h.Set("Connection", "Upgrade")
		h.Set("Sec-WebSocket-Version", "13")
	case http.StatusMethodNotAllowed:
		h.Set("Allow", http.MethodGet)
		h.Set("Connection", "close")
	default:
		h.Set("Connection", "close")
	}
}

// checkHandshake returns nil for an opening handshake as RFC 6455 §4.1 wants it, and otherwise why not.
//
// gorilla's Upgrader looks only at the first of several headers, takes HTTP/1.0, and switches protocols
// with a body pending. Each is a way to make a proxy in front see another conversation than this
// server does; so this is to be asked before Upgrade. The origin is not judged here.
func checkHandshake(r *http.Request) *refusal {
	switch {
	case r.Method != http.MethodGet:
		return &refusal{http.StatusMethodNotAllowed, "a WebSocket handshake is a GET"}
	case r.ContentLength != 0 || len(r.TransferEncoding) > 0:
		return &refusal{http.StatusBadRequest, "a WebSocket handshake has no body"}
	case r.ProtoMajor != 1 || r.ProtoMinor < 1:
		return &refusal{http.StatusUpgradeRequired, "a WebSocket handshake needs HTTP/1.1"}
	case !hasToken(r.Header["Connection"], "upgrade"), !hasToken(r.Header["Upgrade"], "websocket"):
		return &refusal{http.StatusUpgradeRequired, "this is for WebSocket: Connection: Upgrade and Upgrade: websocket are missing"}
	}
	// Canonical in the way of textproto, not as RFC 6455 writes them.
	versions, keys := r.Header["Sec-Websocket-Version"], r.Header["Sec-Websocket-Key"]
	switch {
	case len(versions) > 1:
		return &refusal{http.StatusBadRequest, "more than one Sec-WebSocket-Version"}
	case len(versions) == 0 || versions[0] != "13":
		return &refusal{http.StatusUpgradeRequired, "Sec-WebSocket-Version must be 13"}
	case len(keys) != 1:
		return &refusal{http.StatusBadRequest, "there must be one Sec-WebSocket-Key"}
	case !validKey(keys[0]):
		return &refusal{http.StatusBadRequest, "Sec-WebSocket-Key must be 16 bytes in base64"}
	case r.Host == "" || len(r.Header["Host"]) > 1:
		return &refusal{http.StatusBadRequest, "there must be one Host"}
	case len(r.Header["Origin"]) > 1:
		return &refusal{http.StatusBadRequest, "more than one Origin"}
	}
	return nil
}

// validKey reports whether key is 16 bytes in base64, padded, without stray bits.
func validKey(key string) bool {
	if len(key) != 24 {
		return false
	}
	b, err := base64.StdEncoding.Strict().DecodeString(key)
	return err == nil && len(b) == 16
}

// hasToken reports whether one of the comma-separated lists has the token, in whatever case.
func hasToken(lists []string, token string) bool {
	for _, list := range lists {
		for t := range strings.SplitSeq(list, ",") {
			if strings.EqualFold(strings.Trim(t, " \t"), token) {
				return true
			}
		}
	}
	return false
}
