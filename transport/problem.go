package transport

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"sluice/broker"
	"sluice/middleware"
	"sluice/middleware/auth"
)

// Code is the stable name of an error, the same in problem answers and in WebSocket errors.
type Code string

// The codes; docs/protocol.md says what each means.
const (
	BadRequest         Code = "bad_request"
	BadChannel         Code = "bad_channel"
	BadMessage         Code = "bad_message"
	BadToken           Code = "bad_token"
	BadDelivery        Code = "bad_delivery"
	TooManyChannels    Code = "too_many_channels"
	Unauthorized       Code = "unauthorized"
	TokenExpired       Code = "token_expired"
	TokenRevoked       Code = "token_revoked"
	Forbidden          Code = "forbidden"
	OriginForbidden    Code = "origin_forbidden"
	NotFound           Code = "not_found"
	MethodNotAllowed   Code = "method_not_allowed"
	TooLarge           Code = "too_large"
	UnsupportedMedia   Code = "unsupported_media_type"
	UpgradeRequired    Code = "upgrade_required"
	RateLimited        Code = "rate_limited"
	TooManyConnections Code = "too_many_connections"
	SlowConsumer       Code = "slow_consumer"
	Internal           Code = "internal"
	Unavailable        Code = "unavailable"
	AtCapacity         Code = "at_capacity"
	Draining           Code = "draining"
)

// codes is the one table from codes to HTTP status and titles (RFC 9457 §3.1.3).
var codes = map[Code]struct {
	status int
	title  string
}{
	BadRequest:         {400, "The request can't be understood"},
	BadChannel:         {400, "Bad channel name"},
	BadMessage:         {400, "The message can't be delivered as given"},
	BadToken:           {400, "Bad resume token or position"},
	BadDelivery:        {400, "This delivery can't be had"},
	TooManyChannels:    {400, "Too many channels on one connection"},
	Unauthorized:       {401, "Credentials are missing or not valid"},
	TokenExpired:       {401, "The token has expired"},
	TokenRevoked:       {401, "The token was taken back"},
	Forbidden:          {403, "No rule lets you"},
	OriginForbidden:    {403, "This origin is not on the list"},
	NotFound:           {404, "Not found"},
	MethodNotAllowed:   {405, "Method not allowed"},
	TooLarge:           {413, "Too large"},
	UnsupportedMedia:   {415, "Unsupported media type"},
	UpgradeRequired:    {426, "A WebSocket handshake is required"},
	RateLimited:        {429, "Too many requests"},
	TooManyConnections: {429, "Too many connections at once"},
	SlowConsumer:       {0, "The client reads too slowly"}, // only within streams
	Internal:           {500, "Internal error"},
	Unavailable:        {503, "The backend is not available"},
	AtCapacity:         {503, "This node is full"},
	Draining:           {503, "This node is shutting down"},
}

// Problem is an error as its receiver sees it (RFC 9457): a code, and a sentence that says what was
// wrong and what to do. It never has internals in it.
type Problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Code   Code   `json:"code"`
	Detail string `json:"detail,omitempty"`

	// Channel is the one that it is about, and no other; always a legal name. "" is none, or more.
	Channel string `json:"channel,omitempty"`

	// Retry is how long to wait before trying again. It is told in whole seconds by HTTP's Retry-After, and in
	// milliseconds by WebSocket and in the body of answers; 0 is as soon as may be.
	Retry time.Duration `json:"-"`
}

// Error makes a Problem an error.
func (p *Problem) Error() string { return string(p.Code) + ": " + p.Detail }

func problem(c Code, detail string) *Problem {
	row := codes[c]
	return &Problem{Type: "about:blank", Title: row.title, Status: row.status, Code: c, Detail: detail}
}

// of returns p as it is about one channel, which has a legal name; "" is none.
func (p *Problem) of(channel string) *Problem {
	x := *p
	x.Channel = channel
	return &x
}

// maxQuoted is how many bytes of a name that a client has made up are repeated to it: a typing error has fewer, tokens and keys in the wrong
// place have more, and answers end up in logs of clients and proxies.
const maxQuoted = 20

// quoted writes a name for an answer.
func quoted(name string) string {
	if len(name) > maxQuoted {
		return "… (" + strconv.Itoa(len(name)) + " bytes)"
	}
	return strconv.Quote(name)
}

// bodyUnread is the problem of a request whose body could not be read, for err.
func bodyUnread(err error) *Problem {
	if p := problemOf(err); p.Code == TooLarge || p.Code == AtCapacity {
		return p
	}
	return problem(BadRequest, "the body could not be read to its end")
}

// problemOf turns any error into what its receiver may see.
func problemOf(err error) *Problem {
	var p *Problem
	var tooLarge *http.MaxBytesError
	var refused *auth.Error
	var wish *middleware.WishError
	switch {
	case errors.As(err, &p):
		return p
	case errors.As(err, &wish):
		return problem(BadDelivery, wish.Error()).of(wish.Channel)
	case errors.As(err, &refused):
		p = problem(Code(refused.Code), refused.Detail)
		p.Retry, p.Channel = refused.Retry, refused.Channel
		return p
	case errors.Is(err, broker.ErrChannel):
		return problem(BadChannel, err.Error())
	case errors.Is(err, broker.ErrMessage):
		return problem(BadMessage, err.Error())
	case errors.Is(err, broker.ErrToken), errors.Is(err, broker.ErrPosition):
		return problem(BadToken, err.Error())
	case errors.Is(err, broker.ErrTooLarge):
		return problem(TooLarge, err.Error())
	case errors.As(err, &tooLarge):
		return problem(TooLarge, "the body has more than "+strconv.FormatInt(tooLarge.Limit, 10)+" bytes")
	case errors.Is(err, broker.ErrUnavailable), errors.Is(err, context.DeadlineExceeded):
		return problem(Unavailable, "not acknowledged in time; it is safe to publish again with the same id")
	}
	return problem(Internal, "")
}

// wholeSeconds rounds up, and never to 0: who comes back too soon is only refused again.
func wholeSeconds(d time.Duration) int64 { return max(1, int64((d+time.Second-1)/time.Second)) }

// write sends p as application/problem+json.
func (p *Problem) write(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer") // there may be a token in the URL
	told := struct {
		*Problem
		Retry int64 `json:"retry,omitempty"` // ms; pages of other origins and JSON readers see the body more easily than Retry-After
	}{Problem: p}
	if p.Status == http.StatusServiceUnavailable || p.Status == http.StatusTooManyRequests {
		s := wholeSeconds(p.Retry)
		h.Set("Retry-After", strconv.FormatInt(s, 10))
		told.Retry = s * 1000
	}
	if p.Status == http.StatusUnauthorized { // RFC 9110 §15.5.2, RFC 6750 §3
		h.Set("WWW-Authenticate", "Bearer")
	}
	body, err := json.Marshal(told)
	if err != nil {
		body = nil
	}
	w.WriteHeader(p.Status)
	_, _ = w.Write(append(body, '\n'))
}
