package transport

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	"sluice/broker"
	"sluice/middleware"
)

// command is what a client of sluice.v1.json sends, and what is posted for a stream (docs/protocol.md).
type command struct {
	Type     string          `json:"type"`
	Ref      json.RawMessage `json:"ref"`
	Channel  string          `json:"channel"`
	Channels []string        `json:"channels"`
	Since    string          `json:"since"`
	Rate     string          `json:"rate"`
	Batch    string          `json:"batch"`
	Conflate string          `json:"conflate"`
	Filter   string          `json:"filter"`
	Token    string          `json:"token"` // refresh
	wanted
	message                // publish
	at      int64          // when it came, of broker.Now
	held    bool           // its bytes are counted as under way
	grant   Grant          // refresh: what was shown besides, instead of a token; nil: nothing
	post    chan<- outcome // with room for one: who waits for the answer; nil: it goes out on the connection
}

// decodeCommand reads one command. Of one that it refuses, the reference is kept where there is one.
func decodeCommand(data []byte) (c command, p *Problem) {
	bad := decodeOnly(data, &c)
	if len(c.Ref) > 64 || len(c.Ref) > 0 && c.Ref[0] != '"' && c.Ref[0] != '-' && (c.Ref[0] < '0' || c.Ref[0] > '9') {
		c.Ref = nil
		p = problem(BadRequest, "ref is a string or a number of at most 64 characters")
	}
	if bad != "" {
		return c, problem(BadRequest, "not a command: "+bad)
	}
	if bad := checkJSON(data, 1); bad != "" && p == nil {
		p = problem(BadRequest, "not a command: "+bad)
	}
	return c, p
}

// names returns the channels that c is about, each once. Who names more than a connection may have is refused here, before anybody
// looks for each of them: a command has room for thousands.
func (c *command) names(most int) ([]string, error) {
	names := c.Channels
	if c.Channel != "" {
		names = append([]string{c.Channel}, names...)
	}
	if len(names) == 0 {
		return nil, problem(BadRequest, "channel or channels is missing")
	}
	seen := make(map[string]bool, min(len(names), most))
	each := names[:0]
	for _, n := range names {
		if err := broker.CheckChannel(n); err != nil {
			return nil, err
		}
		if seen[n] {
			continue
		}
		if len(each) == most {
			return nil, problem(TooManyChannels, fmt.Sprintf("more than %d channels", most))
		}
		seen[n] = true
		each = append(each, n)
	}
	return each, nil
}

// reply is a subscribe command on its way: it is answered when all its channels have their places.
type reply struct {
	asker   asker
	waiting int
	joinedB []byte            // the channels that have theirs, as JSON
	gaps    []*broker.Message // of those: each is told before the first message of its channel
	failed  bool
}

// subscribe has the channels of c joined.
func (s *session) subscribe(c command) {
	var chosen *choice
	var err error
	if c.Subscriptions != nil {
		chosen, err = s.chooseBy(&c)
	} else {
		chosen, err = s.allOf(&c)
	}
	if err != nil {
		s.refuse(c.asker(), problemOf(err))
		return
	}
	s.still(c.asker(), func() { s.writer.subscribe(s, &joining{c.asker(), chosen, c.Subscriptions != nil}) })
}

// chooseBy returns what has come of the list in c.
func (s *session) chooseBy(c *command) (*choice, error) {
	if c.Channel != "" || c.Channels != nil || c.Since != "" || c.Rate != "" || c.Batch != "" || c.Conflate != "" || c.Filter != "" {
		return nil, problem(BadRequest, "with subscriptions there is nothing else than resume and signed")
	}
	return s.server.choose(s.server.ctx, s.grant(), &c.wanted)
}

// allOf returns the channels that c names, of which all are joined or none.
func (s *session) allOf(c *command) (*choice, error) {
	names, err := c.names(s.server.config.MaxChannels)
	var since []broker.Position
	switch {
	case err != nil:
	case c.Since != "" && (c.Resume != "" || len(names) > 1):
		err = problem(BadRequest, "since goes with one channel, resume with any number; not both")
	case c.Since != "":
		var p broker.Position
		if p, err = broker.ParsePosition(c.Since); err != nil {
			err = problemOf(err).of(names[0])
		}
		since = []broker.Position{p}
	default:
		since, err = resume(c.Resume, names)
	}
	grant := s.grant()
	if err == nil && grant.Who().NoHistory && (c.Since != "" || c.Resume != "") {
		err = problem(Forbidden, "this token gives no history; subscribe without since and resume")
	}
	if err != nil {
		return nil, err
	}
	admitted, err := grant.Subscribe(s.server.ctx, names, c.Signed)
	if err != nil {
		return nil, denied(err)
	}
	t, err := s.server.wished(c, names)
	return &choice{channels: names, since: since, admitted: admitted, terms: t}, err
}

// wished reads what c wishes for all of its channels.
func (s *Server) wished(c *command, names []string) (terms, error) {
	if c.Rate == "" && c.Batch == "" && c.Conflate == "" && c.Filter == "" {
		return s.findTerms(names, nil)
	}
	wish, err := middleware.ParseWish(c.Rate, c.Batch, c.Conflate, c.Filter)
	if err != nil {
		p := problem(BadDelivery, err.Error())
		if len(names) == 1 {
			p = p.of(names[0])
		}
		return terms{}, p
	}
	return s.findTerms(names, slices.Repeat([]middleware.Delivery{wish}, len(names)))
}

// joining is a subscribe command that may be done.
type joining struct {
	asker asker
	*choice
	each bool // what is too much is refused, and not all
}

// bound notes when the subscriptions end. One that was there before is allowed by what was shown last.
func (j *joining) bound(w *writer, s *session) {
	for i, c := range j.channels {
		if f := s.feed(c); f != nil {
			w.admit(f, j.admitted, i)
		}
	}
}

// subscribe joins the channels that s does not have yet, and changes the delivery of the others. The
// answer goes out when all are there.
func (w *writer) subscribe(s *session, j *joining) {
	names, t := j.channels, &j.terms
	add := make([]int, 0, len(names))
	for i, n := range names {
		if s.feed(n) == nil {
			add = append(add, i)
		}
	}
	if room := w.server.config.MaxChannels - len(s.feeds) + j.leaving(s); len(add) > room {
		p := problem(TooManyChannels, fmt.Sprintf("it would be %d channels on this connection, at most %d", len(s.feeds)+len(add), w.server.config.MaxChannels))
		if !j.each {
			s.give(j.asker, outcome{problem: p})
			return
		}
		for _, i := range add[room:] {
			j.refuse(names[i], p)
		}
		add = add[:room]
	}
	if len(add) > 0 {
		if p := w.server.spareFor(s, len(add)); p != nil {
			s.give(j.asker, outcome{problem: p})
			return
		}
	}
	if w.turnAway(s, j.refused); s.state == closed {
		return
	}
	w.server.renew(t, names)
	r := &reply{asker: j.asker, waiting: len(add)}
	defer j.bound(w, s)
	for i, n := range names {
		if f := s.feed(n); f != nil {
			term := t.at(i)
			f.wish = term.wish
			f.move(&term.effective)
			r.add(f)
		}
	}
	for _, i := range add {
		for _, m := range j.gaps {
			if m.Channel == names[i] { // those that were there have missed nothing
				r.gaps = append(r.gaps, m)
			}
		}
		w.join(s, names[i], j.since[i], t.at(i)).reply = r
	}
	if len(add) == 0 {
		s.give(r.asker, outcome{object: r.object()})
		return
	}
	if s.wait == 0 {
		s.wait = w.server.now() + w.server.config.JoinTimeout.Milliseconds()
	}
	w.schedule(s)
}

// leaving is how many channels of s are refused now.
func (j *joining) leaving(s *session) (n int) {
	for _, r := range j.refused {
		if s.feed(r.channel) != nil {
			n++
		}
	}
	return n
}

// turnAway tells the client of s which channels it does not get. It does not keep them either.
func (w *writer) turnAway(s *session, list []refusedChannel) {
	for _, r := range list {
		if f := s.feed(r.channel); f != nil {
			if f.reply != nil {
				f.reply.fail(s, r.problem.of(r.channel))
			}
			w.leave(f)
		}
		s.send(s.format.unsubscribed(nil, r.channel, r.problem))
	}
}

func (r *reply) add(f *feed) {
	if len(r.joinedB) > 0 {
		r.joinedB = append(r.joinedB, ',')
	}
	r.joinedB = appendString(append(r.joinedB, `{"channel":`...), f.Channel())
	if p := f.Position(); !p.IsZero() {
		r.joinedB = append(p.Append(append(r.joinedB, `,"position":"`...)), '"')
	}
	if d := f.deliver(); d != "" {
		r.joinedB = append(append(r.joinedB, `,"deliver":`...), d...)
	}
	r.joinedB = append(r.joinedB, '}')
}

func (r *reply) object() []byte {
	return append(append(append(r.asker.begin(), `,"channels":[`...), r.joinedB...), "]}"...)
}

// joined notes that one more channel has its place. The session's writer calls it, while composing.
func (r *reply) joined(f *feed) {
	r.add(f)
	s := f.session
	for i := range r.gaps {
		if r.gaps[i].Channel == f.Channel() {
			s.out = s.format.gap(s.out, r.gaps[i])
			s.server.countGaps(s, r.gaps[i:i+1])
		}
	}
	if r.waiting--; r.waiting == 0 && !r.failed {
		s.wait = 0
		s.out = append(s.out, r.asker.take(s, outcome{object: r.object()})...)
		s.untold = s.untold || s.ws == nil // it was not told on the stream, whose next event brings a token with the channel in it
	}
}

// fail answers a subscribe with an error, once.
func (r *reply) fail(s *session, p *Problem) {
	if !r.failed {
		r.failed = true
		s.give(r.asker, outcome{problem: p})
	}
}

// feed returns the session's feed of a channel, or nil.
func (s *session) feed(channel string) *feed {
	for _, f := range s.feeds {
		if f.Channel() == channel {
			return f
		}
	}
	return nil
}

func (s *session) unsubscribe(c command) {
	names, err := c.names(s.server.config.MaxChannels)
	if err != nil {
		s.refuse(c.asker(), problemOf(err))
		return
	}
	s.still(c.asker(), func() {
		for _, n := range names {
			if f := s.feed(n); f != nil {
				if f.reply != nil {
					f.reply.fail(s, problem(BadRequest, "unsubscribed before it was joined").of(n))
				}
				s.writer.leave(f)
			}
		}
		s.give(c.asker(), outcome{object: append(c.asker().begin(), '}')})
	})
}

// publish is done while the session's later commands wait, so that its messages keep their order.
func (s *session) publish(c command) {
	over := overHTTP
	if s.ws != nil {
		over = overWS
	}
	counted := s.server.counts.publishes[over]
	if p := s.server.limits.publish(s.client()); p != nil {
		counted.add(p.Code)
		s.refuse(c.asker(), p)
		return
	}
	ctx, cancel := context.WithTimeout(s.server.ctx, s.server.config.PublishWait)
	defer cancel()
	c.message.Channel = c.Channel
	r, p := s.server.publish(ctx, s.grant().Send, &c.message, over)
	if p != nil {
		counted.add(p.Code)
		s.refuse(c.asker(), p)
		return
	}
	b := c.asker().begin()
	if !r.Position.IsZero() {
		b = append(r.Position.Append(append(b, `,"position":"`...)), '"')
	}
	b = strconv.AppendBool(append(b, `,"duplicate":`...), r.Duplicate)
	s.reply(c.asker(), append(b, '}'))
}

func (s *session) ping(c command) {
	s.still(c.asker(), func() {
		b := strconv.AppendInt(append(c.asker().begin(), `,"time":`...), time.Now().UnixMilli(), 10)
		s.advance()
		s.give(c.asker(), outcome{object: append(s.appendToken(b), '}')})
	})
}
