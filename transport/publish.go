package transport

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/labstack/echo/v4"

	"sluice/broker"
	"sluice/middleware/auth"
	"sluice/otel"
)

// message is a message as JSON publishers write it.
type message struct {
	Channel     string          `json:"-"` // the owner's own field, next to others
	Data        json.RawMessage `json:"data"`
	Data64      []byte          `json:"data64"`
	Event       string          `json:"event"`
	Key         string          `json:"key"`
	ID          string          `json:"id"`
	Live        bool            `json:"live"`
	Traceparent string          `json:"traceparent"`
	caller      string          // traceparent of the request, which its span has taken if there is one
	size        int
}

// published is what a publisher is answered.
type published struct {
	Channel   string  `json:"channel"`
	Position  string  `json:"position,omitempty"`
	Duplicate bool    `json:"duplicate"`
	Error     *failed `json:"error,omitempty"`
}

type failed struct {
	Code   Code   `json:"code"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`
}

// payload returns the bytes to publish: the text of a JSON string, the JSON of any other value, or
// what data64 decodes to.
func (m *message) payload() ([]byte, error) {
	switch {
	case m.Data != nil && m.Data64 != nil:
		return nil, problem(BadRequest, "data and data64 are both there; give one")
	case m.Data64 != nil:
		return m.Data64, nil
	case m.Data == nil:
		return nil, problem(BadRequest, "data is missing; an empty message has data \"\"")
	case m.Data[0] != '"':
		return m.Data, nil
	}
	var s string
	if err := json.Unmarshal(m.Data, &s); err != nil {
		return nil, problem(BadRequest, "data is not JSON")
	}
	return []byte(s), nil
}

// publish is where all messages of all clients come through. It counts those that are acknowledged; who answers a client counts the
// others.
func (s *Server) publish(ctx context.Context, may func(channel string) error, m *message, over carrier) (broker.Receipt, *Problem) {
	if err := broker.CheckChannel(m.Channel); err != nil {
		return broker.Receipt{}, problemOf(err)
	}
	if err := may(m.Channel); err != nil {
		return broker.Receipt{}, denied(err)
	}
	data, err := m.payload()
	if err != nil {
		return broker.Receipt{}, problemOf(err)
	}
	bm := &broker.Message{Channel: m.Channel, Event: m.Event, Key: m.Key, Data: data}
	switch { // W3C: what can't be parsed is ignored
	case s.config.Tracer != nil:
		bm.Trace = m.Traceparent // the broker makes a span, and knows whom to trust
	case s.config.TraceTrust == otel.TrustParent:
		if c, ok := otel.ParseContext(cmp.Or(m.Traceparent, m.caller)); ok {
			bm.Trace = c.String()
		}
	}
	var begin int64
	if s.config.Measured() {
		begin = broker.Now()
	}
	r, err := s.broker.Publish(ctx, bm, broker.PublishOptions{ID: m.ID, Live: m.Live})
	if err != nil {
		p := problemOf(err)
		if p.Code == Unavailable || p.Code == Internal {
			s.failures.Do(func() { s.log.WarnContext(ctx, "publish failed", "err", err) })
		}
		return r, p
	}
	if s.config.Measured() {
		s.publishTime[over].Observe(broker.Now() - begin)
	}
	s.counts.publishes[over].add(resultOK)
	return r, nil
}

// servePublishRaw answers POST /publish/{channel}: the body is the payload.
func (s *Server) servePublishRaw(c echo.Context) error {
	r := c.Request()
	grant, body, err := s.readPublish(c, s.config.MaxMessage)
	if err != nil {
		return err
	}
	if p := s.limits.settle(limitPublish, r, grant, 1); p != nil {
		return p
	}
	channel := c.Param("*")
	if r.URL.RawPath != "" { // echo has matched that, else the path, which is decoded; twice would make another name of %256e
		if channel, err = url.PathUnescape(channel); err != nil {
			return problem(BadChannel, "the channel in the path is not URL-encoded")
		}
	}
	q := r.URL.Query()
	pick := func(query, header string) string {
		if v := q.Get(query); v != "" {
			return v
		}
		return r.Header.Get(header)
	}
	m := &message{
		Channel: channel, Data64: body, Event: pick("event", "Sluice-Event"), Key: pick("key", "Sluice-Key"),
		ID: pick("id", "Idempotency-Key"), caller: r.Header.Get("Traceparent"),
	}
	switch live := pick("live", "Sluice-Live"); live {
	case "", "0", "false":
	case "1", "true":
		m.Live = true
	default:
		return problem(BadRequest, "live is true or false")
	}
	ctx, cancel := context.WithTimeout(r.Context(), s.config.PublishWait)
	defer cancel()
	receipt, p := s.publish(ctx, grant.Publish, m, overHTTP)
	if p != nil {
		return p
	}
	return answer(c, m.Channel, receipt)
}

// answer writes the result of one publish; by hand, since this is the publishers' hot path.
func answer(c echo.Context, channel string, r broker.Receipt) error {
	b := appendString(append(make([]byte, 0, 128), `{"channel":`...), channel)
	if !r.Position.IsZero() {
		b = append(r.Position.Append(append(b, `,"position":"`...)), '"')
	}
	b = strconv.AppendBool(append(b, `,"duplicate":`...), r.Duplicate)
	h := c.Response().Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	_, err := c.Response().Write(append(b, "}\n"...))
	return err
}

// readPublish reads the body of a publish within its limits.
func (s *Server) readPublish(c echo.Context, limit int) (Grant, []byte, error) {
	r := c.Request()
	if s.draining.Load() {
		return nil, nil, problem(Draining, "publish to another node")
	}
	grant, err := s.config.Access.Authorize(r, auth.Publish)
	if err != nil {
		return nil, nil, denied(err)
	}
	if r.Header.Get("Content-Encoding") != "" {
		return nil, nil, problem(UnsupportedMedia, "send the body without Content-Encoding")
	}
	if r.ContentLength > int64(limit) {
		return nil, nil, problem(TooLarge, "the body has more than "+strconv.Itoa(limit)+" bytes")
	}
	if r.ContentLength > 0 { // before it is read
		if p := s.limits.sent(r, grant, int(r.ContentLength)); p != nil {
			return nil, nil, p
		}
	}
	r.Body = http.MaxBytesReader(c.Response(), r.Body, int64(limit))
	body, err := readBody(r)
	if err != nil {
		return nil, nil, bodyUnread(err)
	}
	if r.ContentLength < 0 {
		if p := s.limits.sent(r, grant, len(body)); p != nil {
			return nil, nil, p
		}
	}
	return grant, body, nil
}

// servePublish answers POST /publish: one message or an array, as JSON.
func (s *Server) servePublish(c echo.Context) error {
	if t, _, err := mime.ParseMediaType(c.Request().Header.Get("Content-Type")); err != nil || t != "application/json" {
		return problem(UnsupportedMedia, "Content-Type must be application/json; POST /publish/{channel} takes anything")
	}
	// A payload can double in JSON and grow by a third in base64; an array has room for some of the largest.
	grant, body, err := s.readPublish(c, 4*s.config.MaxMessage+64<<10)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.Request().Context(), s.config.PublishWait)
	defer cancel()
	if body = bytes.TrimLeft(body, " \t\r\n"); len(body) == 0 || body[0] != '[' {
		if p := s.limits.settle(limitPublish, c.Request(), grant, 1); p != nil {
			return p
		}
		m, err := decodeMessage(body, c.Request())
		if err != nil {
			return err
		}
		r, p := s.publish(ctx, grant.Publish, m, overHTTP)
		if p != nil {
			return p
		}
		return answer(c, m.Channel, r)
	}
	if bad := checkJSON(body, 0); bad != "" {
		return problem(BadRequest, "not messages: "+bad)
	}
	var all []json.RawMessage
	if err := json.Unmarshal(body, &all); err != nil {
		return problem(BadRequest, "not JSON: "+plain(err))
	}
	if len(all) > s.config.MaxBatch {
		return problem(TooLarge, strconv.Itoa(len(all))+" messages, at most "+strconv.Itoa(s.config.MaxBatch))
	}
	// All or nothing: of an array that was published in part the publisher would have to find the rest.
	if p := s.limits.settle(limitPublish, c.Request(), grant, len(all)); p != nil {
		return p
	}
	results, ok := s.publishAll(ctx, grant, all, c.Request())
	status := http.StatusOK
	if !ok {
		status = http.StatusMultiStatus
	}
	c.Response().Header().Set("Cache-Control", "no-store")
	return c.JSON(status, map[string]any{"results": results})
}

// publishAll publishes in order per channel; channels go side by side, since each waits for the backend.
func (s *Server) publishAll(ctx context.Context, g Grant, all []json.RawMessage, r *http.Request) ([]published, bool) {
	results := make([]published, len(all))
	lanes := map[string][]func(){}
	var order []string
	for i, raw := range all {
		m, err := decodeMessage(raw, r)
		if err != nil {
			results[i].fail(problemOf(err))
			continue
		}
		if lanes[m.Channel] == nil {
			order = append(order, m.Channel)
		}
		lanes[m.Channel] = append(lanes[m.Channel], func() {
			results[i].Channel = m.Channel
			receipt, p := s.publish(ctx, g.Publish, m, overHTTP)
			if p != nil {
				results[i].fail(p)
				return
			}
			results[i].Position, results[i].Duplicate = receipt.Position.String(), receipt.Duplicate
		})
	}
	s.side(len(order), func(i int) {
		for _, publish := range lanes[order[i]] {
			publish()
		}
	})
	ok := true
	for i := range results {
		if e := results[i].Error; e != nil {
			ok = false
			s.counts.publishes[overHTTP].add(e.Code)
		}
	}
	return results, ok
}

func (p *published) fail(why *Problem) {
	p.Error = &failed{Code: why.Code, Status: why.Status, Detail: why.Detail}
}

// decodeMessage reads one message. Unknown fields are refused: a typing error would lose something.
func decodeMessage(raw []byte, r *http.Request) (*message, error) {
	var in struct {
		Channel string `json:"channel"`
		message
	}
	if bad := checkJSON(raw, 1); bad != "" {
		return nil, problem(BadRequest, "not a message: "+bad)
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&in); err != nil {
		return nil, problem(BadRequest, "not a message: "+plain(err))
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, problem(BadRequest, "something follows the message")
	}
	in.message.Channel = in.Channel
	in.caller = r.Header.Get("Traceparent")
	return &in.message, nil
}

// plain makes an error of encoding/json fit for strangers: no Go types in it.
func plain(err error) string {
	var t *json.UnmarshalTypeError
	if errors.As(err, &t) {
		return "the field " + strconv.Quote(t.Field) + " has the wrong type, a " + t.Value
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return "it ends too early"
	}
	text := strings.TrimPrefix(err.Error(), "json: ")
	if name, is := strings.CutPrefix(text, "unknown field "); is {
		if name, err := strconv.Unquote(name); err == nil {
			return "unknown field " + quoted(name)
		}
	}
	return text
}
