package transport

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"sluice/broker"
	"sluice/middleware"
	"sluice/middleware/auth"
	"sluice/otel"
)

// listenRequest is what a GET /sse, GET /ws or POST /poll asks for.
type listenRequest struct {
	choice
	badToken error    // the resume token can't be used
	rejected *Problem // WebSocket: why the session ends as soon as it has begun
	query    url.Values
	grant    Grant
	connect  *otel.Connect // the request's span; nil: it is not traced
	pinned   bool          // all messages of the session are to be traced
}

// parseListen reads the query of r and asks whether the caller may listen. An error is a *Problem
// or one that problemOf knows.
func (s *Server) parseListen(r *http.Request, params ...string) (*listenRequest, error) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, problem(BadRequest, "the query string is not URL-encoded")
	}
	wished := false
	for name := range q {
		if strings.HasPrefix(name, sinceParam) {
			continue
		}
		if base, _, _ := strings.Cut(name, "["); allowed(base, middleware.WishParams) {
			wished = true
			continue
		}
		// A typing error would be silent otherwise. Names with _ are for those who must make URLs unique.
		if !allowed(name, params) && !allowed(name, credentialParams) && !strings.HasPrefix(name, "_") {
			return nil, problem(BadRequest, fmt.Sprintf("unknown parameter %s; there are %s", quoted(name), strings.Join(append(append(params, "since[CHANNEL]"), middleware.WishParams...), ", ")))
		}
	}
	l := &listenRequest{query: q}
	for _, c := range q["channel"] {
		if err := broker.CheckChannel(c); err != nil {
			return nil, err
		}
		if allowed(c, l.channels) {
			continue // twice is once
		}
		if len(l.channels) == s.config.MaxChannels {
			return nil, problem(TooManyChannels, fmt.Sprintf("more than %d channels", s.config.MaxChannels))
		}
		l.channels = append(l.channels, c)
	}
	if err := s.authorize(r, l); err != nil {
		return nil, err
	}
	if l.pinned, err = s.pin(q.Get("trace"), l.grant); err != nil {
		return nil, err
	}
	var wishes []middleware.Delivery
	if wished {
		if wishes, err = queryWishes(q, l.channels); err != nil {
			return nil, err
		}
	}
	if l.terms, err = s.findTerms(l.channels, wishes); err != nil {
		return nil, err
	}
	own, err := querySince(q, l.channels)
	if err != nil {
		return nil, err
	}
	last := cmp.Or(r.Header.Get("Last-Event-ID"), q.Get("lastEventId")) // the latter is how EventSource polyfills say it
	l.begin(last, q.Get("resume"), own)
	return l, nil
}

// queryWishes returns the wishes of a query, one per channel.
func queryWishes(q url.Values, channels []string) ([]middleware.Delivery, error) {
	wishes, err := middleware.QueryWishes(q, channels)
	if one := (*middleware.WishError)(nil); err == nil || errors.As(err, &one) {
		return wishes, err
	}
	return nil, problem(BadDelivery, err.Error())
}

// resume has l begin where token says; "" is now.
func (l *listenRequest) resume(token string) {
	if l.grant.Who().NoHistory {
		if l.since = make([]broker.Position, len(l.channels)); token != "" {
			l.miss(broker.NoHistory)
		}
		return
	}
	if l.since, l.badToken = resume(token, l.channels); l.badToken != nil {
		l.miss(broker.BadToken)
	}
}

// miss has all of l's channels told that they do not get what they missed.
func (l *listenRequest) miss(why broker.Reason) {
	for _, c := range l.channels {
		l.gaps = append(l.gaps, gapOf(c, why))
	}
}

// credentialParams are the parameters that Access reads.
var credentialParams = []string{auth.QueryToken, auth.QuerySigned}

// authorize asks whether the sender of r may listen to l's channels, and puts in l what comes of it.
func (s *Server) authorize(r *http.Request, l *listenRequest) (err error) {
	if l.grant, err = s.config.Access.Authorize(r, auth.Listen); err != nil {
		return denied(err)
	}
	return s.subscribe(r, l, nil)
}

// subscribe asks l's grant about its channels, with the tokens for single subscriptions that r shows, and some more.
func (s *Server) subscribe(r *http.Request, l *listenRequest, more []string) error {
	signed, err := s.config.Access.Signed(r)
	if err == nil {
		l.admitted, err = l.grant.Subscribe(r.Context(), l.channels, append(signed, more...))
	}
	if err != nil {
		return denied(err)
	}
	return nil
}

// denied makes a *Problem of what Access or a Grant has refused.
func denied(err error) *Problem {
	var refused *auth.Error
	if errors.As(err, &refused) {
		return problemOf(err)
	}
	return problem(Forbidden, err.Error())
}

func allowed(name string, list []string) bool {
	for _, x := range list {
		if x == name {
			return true
		}
	}
	return false
}

// resume finds the channels' positions in a token. Channels that it does not know start now; if it
// knows none of them it is for something else, and is not used.
func resume(token string, channels []string) ([]broker.Position, error) {
	since := make([]broker.Position, len(channels))
	if token == "" {
		return since, nil
	}
	t, err := broker.ParseToken(token)
	if err != nil {
		return since, err
	}
	known := false
	for i, c := range channels {
		since[i] = t.Of(c)
		known = known || !since[i].IsZero()
	}
	if !known && len(channels) > 0 {
		return since, fmt.Errorf("%w for any of these channels", broker.ErrToken)
	}
	return since, nil
}

// tell has the client of ss told, as soon as it is joined, which of l's channels it does not get, and of which not what it missed.
func (s *Server) tell(ss *session, l *listenRequest) {
	for _, r := range l.refused {
		ss.out = ss.format.unsubscribed(ss.out, r.channel, r.problem)
	}
	for _, m := range l.gaps {
		ss.out = ss.format.gap(ss.out, m)
	}
	s.countGaps(ss, l.gaps)
}

// countGaps counts gaps that the client of ss is told.
func (s *Server) countGaps(ss *session, gaps []*broker.Message) {
	for _, m := range gaps {
		if m.Gap.Reason == broker.BadToken {
			s.counts.badTokens.Add(1)
		}
	}
	if ss.ledger != nil {
		ss.ledger.gaps += uint64(len(gaps))
	}
}
