package transport

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"sync"
	"time"

	"sluice/broker"
	"sluice/middleware"
	"sluice/middleware/auth"
)

// command is what a client of sluice.v1.json sends (docs/protocol.md).
type command struct {
	Type     string          `json:"type"`
	Ref      json.RawMessage `json:"ref"`
	Channel  string          `json:"channel"`
	Channels []string        `json:"channels"`
	Since    string          `json:"since"`
	Resume   string          `json:"resume"`
	Rate     string          `json:"rate"`
	Batch    string          `json:"batch"`
	Conflate string          `json:"conflate"`
	Filter   string          `json:"filter"`
	Signed   []string        `json:"signed"` // tokens for single subscriptions
	Token    string          `json:"token"`  // refresh
	message                  // publish
	at       int64           // when it came, of broker.Now
	held     bool            // its bytes are counted as under way
}

// commandQueue makes the commands of a session that have to wait, in order: at most one goroutine,
// and only while there are any.
type commandQueue struct {
	refused int32 // over the rate; owned by the reading side

	mu      sync.Mutex
	bytes   int32 // of waiting; the order of the fields keeps an idle connection small
	waiting []command
	running bool
}

// maxQueued bounds what a session's publishes that wait for the backend may hold.
const maxQueued = 1 << 20

// command has one command done. It must not block: the socket's reader calls it.
func (h wsHandler) command(data []byte) {
	at := broker.Now()
	c, p := decodeCommand(data)
	c.at = at
	if tooFast := h.server.limits.command(h.client(), h.grant(), len(data)); tooFast != nil {
		p = tooFast // those that can't be read count, too
	}
	if p == nil && c.Type == "publish" {
		if c.held = h.server.memory.hold(len(data), len(data)); !c.held {
			p = h.server.limits.full(limitNodeMemory, "bytes of memory")
		}
	}
	if p == nil && !h.ws.queue.add(c, len(data)) {
		h.done(&c, len(data))
		h.server.limits.refused[limitSessionQueue].Add(1)
		p = problem(RateLimited, "too many commands wait for their answers")
	}
	if p != nil {
		h.reply(c.Ref, p)
		return
	}
	if h.ws.queue.begin() {
		h.server.running.Go(h.runCommands)
	}
}

// decodeCommand reads one command. Of one that it refuses, the reference is kept where there is one.
func decodeCommand(data []byte) (c command, p *Problem) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	err := d.Decode(&c)
	if len(c.Ref) > 64 || len(c.Ref) > 0 && c.Ref[0] != '"' && c.Ref[0] != '-' && (c.Ref[0] < '0' || c.Ref[0] > '9') {
		c.Ref = nil
		p = problem(BadRequest, "ref is a string or a number of at most 64 characters")
	}
	if err != nil {
		return c, problem(BadRequest, "not a command: "+plain(err))
	}
	if _, extra := d.Token(); extra != io.EOF {
		return c, problem(BadRequest, "not a command: something follows it")
	}
	if bad := checkJSON(data, 1); bad != "" && p == nil {
		p = problem(BadRequest, "not a command: "+bad)
	}
	return c, p
}

func (q *commandQueue) add(c command, size int) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if int(q.bytes)+size > maxQueued {
		return false
	}
	c.size = size
	q.bytes += int32(size)
	q.waiting = append(q.waiting, c)
	return true
}

// begin reports whether the caller has to start the goroutine.
func (q *commandQueue) begin() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	start := !q.running && len(q.waiting) > 0
	q.running = q.running || start
	return start
}

func (q *commandQueue) next() (c command, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) == 0 {
		q.running, q.waiting = false, nil
		return c, false
	}
	c = q.waiting[0]
	q.waiting = q.waiting[1:]
	q.bytes -= int32(c.size)
	return c, true
}

func (h wsHandler) runCommands() {
	for {
		c, ok := h.ws.queue.next()
		if !ok {
			return
		}
		switch c.Type {
		case "subscribe":
			h.subscribe(c)
		case "unsubscribe":
			h.unsubscribe(c)
		case "publish":
			h.publish(c)
		case "ping":
			h.ping(c)
		case "ack":
			h.ack(c)
		case "refresh":
			h.refresh(c)
		default:
			h.reply(c.Ref, problem(BadRequest, fmt.Sprintf("unknown type %s; there are subscribe, unsubscribe, publish, refresh, ack and ping", quoted(c.Type))))
		}
		h.done(&c, c.size)
	}
}

// done gives back what is held of the memory for a command.
func (h wsHandler) done(c *command, size int) {
	if c.held {
		h.server.memory.free(size)
	}
}

// reply refuses a command. Any goroutine may call it.
func (h wsHandler) reply(ref json.RawMessage, p *Problem) {
	h.writer.post(func() { h.send(h.format.refuse(nil, ref, p)) })
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
	ref     json.RawMessage
	waiting int
	joinedB []byte // the channels that have theirs, as JSON
	failed  bool
}

func (h wsHandler) subscribe(c command) {
	names, err := c.names(h.server.config.MaxChannels)
	var since []broker.Position
	switch {
	case err != nil:
	case c.Since != "" && (c.Resume != "" || len(names) > 1):
		err = problem(BadRequest, "since goes with one channel, resume with any number; not both")
	case c.Since != "":
		var p broker.Position
		p, err = broker.ParsePosition(c.Since)
		since = []broker.Position{p}
	default:
		since, err = resume(c.Resume, names)
	}
	grant := h.grant()
	if err == nil && grant.Who().NoHistory && (c.Since != "" || c.Resume != "") {
		err = problem(Forbidden, "this token gives no history; subscribe without since and resume")
	}
	var admitted []auth.Admission
	if err == nil {
		if admitted, err = grant.Subscribe(h.server.ctx, names, c.Signed); err != nil {
			err = denied(err)
		}
	}
	var t terms
	if err == nil {
		t, err = h.terms(&c, names)
	}
	if err != nil {
		h.reply(c.Ref, problemOf(err))
		return
	}
	h.writer.post(func() { h.writer.subscribe(h.session, &joining{c.Ref, names, since, admitted, &t}) })
}

// terms reads what c wishes for all of its channels.
func (h wsHandler) terms(c *command, names []string) (terms, error) {
	if c.Rate == "" && c.Batch == "" && c.Conflate == "" && c.Filter == "" {
		return h.server.findTerms(names, nil)
	}
	wish, err := middleware.ParseWish(c.Rate, c.Batch, c.Conflate, c.Filter)
	if err != nil {
		return terms{}, problem(BadDelivery, err.Error())
	}
	return h.server.findTerms(names, slices.Repeat([]middleware.Delivery{wish}, len(names)))
}

// joining is a subscribe command that may be done.
type joining struct {
	ref      json.RawMessage
	names    []string
	since    []broker.Position
	admitted []auth.Admission
	terms    *terms
}

// bound notes when the subscriptions end. One that was there before is allowed by what was shown last.
func (j *joining) bound(w *writer, s *session) {
	for i, c := range j.names {
		if f := s.feed(c); f != nil {
			w.admit(f, j.admitted, i)
		}
	}
}

// subscribe joins the channels that s does not have yet, and changes the delivery of the others. The
// answer goes out when all are there.
func (w *writer) subscribe(s *session, j *joining) {
	ref, names, t := j.ref, j.names, j.terms
	if s.state == closed || s.ending {
		return
	}
	add := make([]int, 0, len(names))
	for i, n := range names {
		if s.feed(n) == nil {
			add = append(add, i)
		}
	}
	if len(s.feeds)+len(add) > w.server.config.MaxChannels {
		s.send(s.format.refuse(nil, ref, problem(TooManyChannels, fmt.Sprintf("it would be %d channels on this connection, at most %d", len(s.feeds)+len(add), w.server.config.MaxChannels))))
		return
	}
	if len(add) > 0 {
		if p := w.server.spareFor(s, len(add)); p != nil {
			s.send(s.format.refuse(nil, ref, p))
			return
		}
	}
	w.server.renew(t, names)
	r := &reply{ref: ref, waiting: len(add)}
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
		w.join(s, names[i], j.since[i], t.at(i)).reply = r
	}
	if len(add) == 0 {
		s.send(r.frame())
		return
	}
	if s.wait == 0 {
		s.wait = w.server.now() + w.server.config.JoinTimeout.Milliseconds()
	}
	w.schedule(s)
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

func (r *reply) frame() []byte {
	b := appendRef([]byte(`{"type":"reply"`), r.ref)
	b = append(append(append(b, `,"channels":[`...), r.joinedB...), "]}"...)
	return appendText(nil, b)
}

// joined notes that one more channel has its place. The session's writer calls it, while composing.
func (r *reply) joined(f *feed) {
	r.add(f)
	if r.waiting--; r.waiting == 0 && !r.failed {
		f.session.wait = 0
		f.session.out = append(f.session.out, r.frame()...)
	}
}

// fail answers a subscribe with an error, once.
func (r *reply) fail(s *session, p *Problem) {
	if !r.failed {
		r.failed = true
		s.send(s.format.refuse(nil, r.ref, p))
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

func (h wsHandler) unsubscribe(c command) {
	names, err := c.names(h.server.config.MaxChannels)
	if err != nil {
		h.reply(c.Ref, problemOf(err))
		return
	}
	h.writer.post(func() {
		if h.state == closed {
			return
		}
		for _, n := range names {
			if f := h.feed(n); f != nil {
				if f.reply != nil {
					f.reply.fail(h.session, problem(BadRequest, "unsubscribed before it was joined"))
				}
				h.writer.leave(f)
			}
		}
		h.send(appendText(nil, append(appendRef([]byte(`{"type":"reply"`), c.Ref), '}')))
	})
}

// publish is done while the session's later commands wait, so that its messages keep their order.
func (h wsHandler) publish(c command) {
	counted := h.server.counts.publishes[overWS]
	if p := h.server.limits.publish(h.client()); p != nil {
		counted.add(p.Code)
		h.reply(c.Ref, p)
		return
	}
	ctx, cancel := context.WithTimeout(h.server.ctx, h.server.config.PublishWait)
	defer cancel()
	c.message.Channel = c.Channel
	r, p := h.server.publish(ctx, h.grant().Send, &c.message, overWS)
	if p != nil {
		counted.add(p.Code)
		h.reply(c.Ref, p)
		return
	}
	b := appendRef([]byte(`{"type":"reply"`), c.Ref)
	if !r.Position.IsZero() {
		b = append(r.Position.Append(append(b, `,"position":"`...)), '"')
	}
	b = strconv.AppendBool(append(b, `,"duplicate":`...), r.Duplicate)
	h.writer.post(func() { h.send(appendText(nil, append(b, '}'))) })
}

func (h wsHandler) ping(c command) {
	h.writer.post(func() {
		if h.state == closed {
			return
		}
		b := appendRef([]byte(`{"type":"reply"`), c.Ref)
		b = strconv.AppendInt(append(b, `,"time":`...), time.Now().UnixMilli(), 10)
		h.advance()
		b = h.appendToken(b)
		h.send(appendText(nil, append(b, '}')))
	})
}
