package transport

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"sluice/broker"
)

// sinceParam is the query parameter with the position of one channel: since[NAME]=POSITION.
const sinceParam = "since["

// querySince returns the positions that a query has for channels, as they came. A name in brackets that is not among the channels, or a
// parameter that is there twice, is an error.
func querySince(q url.Values, channels []string) (map[string]string, error) {
	var own map[string]string
	for name, values := range q {
		inside, is := strings.CutPrefix(name, sinceParam)
		if !is {
			continue
		}
		channel, closed := strings.CutSuffix(inside, "]")
		switch {
		case !closed:
			return nil, problem(BadRequest, fmt.Sprintf("the parameter %s lacks its ]", quoted(name)))
		case len(values) > 1:
			return nil, problem(BadRequest, fmt.Sprintf("the parameter %s is there twice; give it once", quoted(name)))
		case !slices.Contains(channels, channel):
			return nil, problem(BadRequest, fmt.Sprintf("the parameter %s is for a channel that is not asked for", quoted(name)))
		case values[0] == "":
			continue // as if it were not there
		}
		if own == nil {
			own = map[string]string{}
		}
		own[channel] = values[0]
	}
	return own, nil
}

// begin finds where each of l's channels begins. What the client has had last, as a browser says that reconnects to the same URL, is younger than
// that URL; and there a position of a channel's own is younger than the token, which need not know the channel.
func (l *listenRequest) begin(last, token string, own map[string]string) {
	younger := last != ""
	if younger {
		token = last
	}
	if len(own) == 0 {
		l.resume(token)
		return
	}
	l.since = make([]broker.Position, len(l.channels))
	var places broker.Token
	var unreadable error
	if token != "" {
		places, unreadable = broker.ParseToken(token)
	}
	noHistory := l.grant.Who().NoHistory
	for i, c := range l.channels {
		at, bad := places.Of(c), unreadable
		if text := own[c]; text != "" && !(younger && !at.IsZero()) {
			if at, bad = broker.ParsePosition(text); bad != nil {
				bad = problemOf(bad).of(c)
			}
		}
		switch {
		case noHistory && (bad != nil || !at.IsZero()):
			l.gaps = append(l.gaps, gapOf(c, broker.NoHistory))
		case bad != nil:
			l.badToken = bad
			l.gaps = append(l.gaps, gapOf(c, broker.BadToken))
		default:
			l.since[i] = at
		}
	}
}
