package transport

import (
	"maps"
	"slices"
	"strings"
	"time"

	"sluice/broker"
	"sluice/middleware"
)

// term is what a client wishes of one channel's delivery, and what is in force because of that.
type term struct {
	wish      *middleware.Delivery // nil: nothing
	effective middleware.Effective
}

// terms are those of a list of channels.
type terms struct {
	list    []term // one per channel; nil: all of them deliver everything as it comes
	version uint32 // Server.reloads when they were found
}

func (t *terms) at(i int) term {
	if t.list == nil {
		return term{}
	}
	return t.list[i]
}

// findTerms asks the policies what is in force for channels. wishes has one for each of them, or is nil.
func (s *Server) findTerms(channels []string, wishes []middleware.Delivery) (terms, error) {
	t := terms{version: s.reloads.Load()}
	if s.config.Policies == nil && wishes == nil {
		return t, nil
	}
	for i, c := range channels {
		var wish middleware.Delivery
		if wishes != nil {
			wish = wishes[i]
			wish.Filter = strings.Clone(wish.Filter) // of the query, all of which it would keep
		}
		e, err := s.policies.For(c, wish)
		if err != nil {
			return t, problem(BadDelivery, err.Error()).of(c)
		}
		wished := wish != middleware.Delivery{}
		if t.list == nil {
			if !wished && e.IsZero() {
				continue
			}
			t.list = make([]term, len(channels))
		}
		t.list[i].effective = e
		if wished {
			t.list[i].wish = &wish
		}
	}
	return t, nil
}

// renew finds t anew if the policies have changed since.
func (s *Server) renew(t *terms, channels []string) {
	if t.version == s.reloads.Load() {
		return
	}
	wishes := make([]middleware.Delivery, len(channels))
	for i := range channels {
		if w := t.at(i).wish; w != nil {
			wishes[i] = *w
		}
	}
	if now, err := s.findTerms(channels, wishes); err == nil {
		*t = now
	}
}

// deliverHeader is the response header that tells what is in force.
const (
	deliverHeader    = "Sluice-Deliver"
	maxDeliverHeader = 4 << 10 // bytes; a longer one is left out: proxies refuse long heads
)

// header returns the value of deliverHeader; "" if there is nothing to tell, or too much.
func (t *terms) header(channels []string) string {
	var b []byte
	for i := range t.list {
		e := &t.list[i].effective
		if e.IsZero() {
			continue
		}
		if len(b) > 0 {
			b = append(b, ", "...)
		}
		if b = e.AppendHeader(b, channels[i]); len(b) > maxDeliverHeader {
			return ""
		}
	}
	return string(b)
}

// Reload has the policies, which the caller has changed, take hold of those who are connected, too. Nothing
// is lost or repeated by that. It returns at once and may be called concurrently.
func (s *Server) Reload() {
	s.reloads.Add(1)
	for _, w := range s.writers {
		w.post(func() { w.reload(slices.Collect(maps.Values(w.fans))) })
	}
}

// reloadTime bounds for how long a writer reloads before it looks after its sessions again.
const reloadTime = 2 * time.Millisecond

func (w *writer) reload(fans []*fan) {
	for begin := time.Now(); len(fans) > 0 && time.Since(begin) < reloadTime; fans = fans[1:] {
		if f := fans[0]; w.fans[f.log.Channel()] == f { // it is still there
			f.reload()
		}
	}
	if len(fans) > 0 {
		w.post(func() { w.reload(fans) })
	}
}

func (fan *fan) reload() {
	feeds := slices.Clone(fan.plain.feeds)
	if fan.paced != nil {
		for _, g := range fan.paced.groups {
			feeds = append(feeds, g.feeds...)
		}
	}
	s := fan.writer.server
	for _, f := range feeds {
		var wish middleware.Delivery
		if f.wish != nil {
			wish = *f.wish
		}
		e, err := s.policies.For(fan.log.Channel(), wish)
		if err != nil { // what was allowed when it was wished stays as it is
			s.log.Debug("a delivery can't be had any more", "channel", fan.log.Channel(), "err", err)
			continue
		}
		f.move(&e)
	}
}

// appendDeliver appends the member that tells what is in force on the channels of a welcome, if anything is.
func appendDeliver(dst []byte, s *session) []byte {
	if !s.paced {
		return dst
	}
	begin := len(dst)
	for _, f := range s.feeds {
		d := f.deliver()
		if d == "" || f.reply != nil {
			continue
		}
		if len(dst) == begin {
			dst = append(dst, `,"deliver":{`...)
		} else {
			dst = append(dst, ',')
		}
		dst = append(appendString(dst, f.Channel()), ':')
		dst = append(dst, d...)
	}
	if len(dst) > begin {
		dst = append(dst, '}')
	}
	return dst
}

// goOn looks at a feed that is under a policy after its Take. It reports whether it is to go on: the
// session may have been ended because it reads too slowly.
func (s *session) goOn(f *feed, b *broker.Batch) bool {
	if f.TooSlow() {
		s.writer.endSlow(s)
		return false
	}
	if b == nil {
		f.loosen()
		return true
	}
	// What was filtered out behind its last message is not in that message's position, which is all that
	// a client without ids gets.
	if n := len(b.Messages); s.ws != nil && s.tokens() && !b.Last.IsZero() && b.Last != b.Messages[n-1].After() {
		s.untold = true
	}
	return true
}

// tokens reports whether the client of s gets resume tokens.
func (s *session) tokens() bool { return s.ws == nil || s.ws.commands }

// advance moves over what has been filtered out, so that the client can be told a newer token.
func (s *session) advance() {
	if !s.paced || !s.tokens() {
		return
	}
	for _, f := range s.feeds {
		if f.group.pace != nil && f.Advance() {
			s.untold = true
		}
	}
}
