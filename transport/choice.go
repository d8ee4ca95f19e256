package transport

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"sluice/broker"
	"sluice/middleware"
	"sluice/middleware/auth"
)

// wanted is a list of subscriptions as clients ask for it on all transports (docs/protocol.md).
type wanted struct {
	Subscriptions []entry  `json:"subscriptions"`
	Resume        string   `json:"resume"` // a token
	Signed        []string `json:"signed"` // tokens for single subscriptions
}

// entry is one of those.
type entry struct {
	Channel  string `json:"channel"`
	Since    string `json:"since"` // a position; "": as the token says
	Rate     string `json:"rate"`
	Batch    string `json:"batch"`
	Conflate string `json:"conflate"`
	Filter   string `json:"filter"`
	Signed   string `json:"signed"` // a token for this subscription
}

// UnmarshalJSON implements json.Unmarshaler: an entry is as strict as what it stands in.
func (e *entry) UnmarshalJSON(b []byte) error {
	if bad := checkJSON(b, 1); bad != "" {
		return errors.New(bad)
	}
	type fields entry
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	return d.Decode((*fields)(e))
}

// choice is what has come of a list of subscriptions, which is had as far as may be: one that is refused does not take the others
// with it. The first four have one item for each channel that is to be joined.
type choice struct {
	channels []string
	since    []broker.Position // zero: from now on
	terms    terms
	admitted []auth.Admission  // nil: all with the grant
	gaps     []*broker.Message // of those that do not get what they missed
	refused  []refusedChannel
}

// refusedChannel is a subscription that can't be had, and why.
type refusedChannel struct {
	channel string
	problem *Problem
}

// candidate is a subscription that may still be had.
type candidate struct {
	*entry
	wish     middleware.Delivery
	admitted auth.Admission
}

// choose finds out which of the subscriptions the holder of g gets, and how. An error is about all of them.
func (s *Server) choose(ctx context.Context, g Grant, in *wanted) (*choice, error) {
	c := &choice{}
	list, err := c.read(in.Subscriptions, s.config.MaxChannels)
	if err != nil {
		return nil, err
	}
	if list, err = c.ask(ctx, s, newAsking(g, list, in.Signed), list); err != nil {
		return nil, err
	}
	list = c.deliver(s, list)
	c.begin(list, in.Resume, g.Who().NoHistory)
	for i := range list {
		c.channels = append(c.channels, list[i].Channel)
		if list[i].admitted != (auth.Admission{}) {
			if c.admitted == nil {
				c.admitted = make([]auth.Admission, len(list))
			}
			c.admitted[i] = list[i].admitted
		}
	}
	return c, c.tellable()
}

// maxRefused bounds what a client is told of channels that it does not get, in bytes: half of what may wait for one that does not read.
const maxRefused = maxOut / 2

// tellable returns an error if that is more.
func (c *choice) tellable() error {
	n := 0
	for _, r := range c.refused {
		n += len(appendUnsubscribed(nil, r.channel, r.problem))
	}
	if n > maxRefused {
		p := c.refused[0].problem
		return problem(p.Code, fmt.Sprintf("%d of these subscriptions can't be had, too many to tell each; the first: %s", len(c.refused), p.Detail))
	}
	return nil
}

func (c *choice) refuse(channel string, p *Problem) {
	c.refused = append(c.refused, refusedChannel{channel, p})
}

// read returns those of all that can be read, at most so many.
func (c *choice) read(all []entry, most int) ([]candidate, error) {
	list := make([]candidate, 0, min(len(all), most))
	seen := make(map[string]bool, min(len(all), most))
	for i := range all {
		e := &all[i]
		if seen[e.Channel] {
			continue // twice is once
		}
		seen[e.Channel] = true
		if err := broker.CheckChannel(e.Channel); err != nil {
			if len(e.Channel) > broker.MaxChannel || strings.ContainsRune(e.Channel, utf8.RuneError) {
				return nil, err // it can't be told which one
			}
			c.refuse(e.Channel, problemOf(err))
			continue
		}
		wish, err := middleware.ParseWish(e.Rate, e.Batch, e.Conflate, e.Filter)
		switch {
		case err != nil:
			c.refuse(e.Channel, problem(BadDelivery, err.Error()))
		case len(list) == most:
			c.refuse(e.Channel, problem(TooManyChannels, fmt.Sprintf("more than %d channels", most)))
		default:
			list = append(list, candidate{entry: e, wish: wish})
		}
	}
	return list, nil
}

// deliver finds the terms of list, and returns those that have some.
func (c *choice) deliver(s *Server, list []candidate) []candidate {
	names := make([]string, len(list))
	var wishes []middleware.Delivery
	for i := range list {
		names[i] = list[i].Channel
		if list[i].wish != (middleware.Delivery{}) && wishes == nil {
			wishes = make([]middleware.Delivery, len(list))
		}
		if wishes != nil {
			wishes[i] = list[i].wish
		}
	}
	t, err := s.findTerms(names, wishes)
	if err == nil {
		c.terms = t
		return list
	}
	kept := make([]candidate, 0, len(list))
	for i := range list {
		if _, err := s.findTerms(names[i:i+1], []middleware.Delivery{list[i].wish}); err != nil {
			c.refuse(names[i], problemOf(err))
			continue
		}
		kept = append(kept, list[i])
	}
	return c.deliver(s, kept) // the policies may have changed in between
}

// begin finds where each of list begins: after its own position, else where token says, which need not know all of them.
func (c *choice) begin(list []candidate, token string, noHistory bool) {
	c.since = make([]broker.Position, len(list))
	var places broker.Token
	var err error
	if token != "" {
		places, err = broker.ParseToken(token)
	}
	for i := range list {
		e := &list[i]
		at, bad := places.Of(e.Channel), err
		if e.Since != "" {
			// The later place counts: a token also knows of what was filtered out behind the last message.
			if p, unread := broker.ParsePosition(e.Since); unread != nil || err != nil || !p.Before(at) {
				at, bad = p, unread
			}
		}
		switch {
		case noHistory && (bad != nil || !at.IsZero()):
			c.gaps = append(c.gaps, gapOf(e.Channel, broker.NoHistory))
		case bad != nil:
			c.gaps = append(c.gaps, gapOf(e.Channel, broker.BadToken))
		default:
			c.since[i] = at
		}
	}
}

func gapOf(channel string, why broker.Reason) *broker.Message {
	return &broker.Message{Channel: channel, Gap: &broker.Gap{Reason: why}}
}
