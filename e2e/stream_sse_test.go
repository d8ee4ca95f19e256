package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// sseEvent is one event of a stream, as EventSource would dispatch it.
type sseEvent struct {
	Type  string // "message" unless named
	Data  string
	ID    string // the last event ID after it
	Retry int    // milliseconds, if the block had a retry field

	Traceparent string // EventSource ignores it
}

// sseReader reads text/event-stream as WHATWG HTML §9.2.6 says. A block that the end of the stream
// cuts off is never dispatched.
type sseReader struct {
	in      *bufio.Reader
	id      string
	comment int // lines
}

func newSSEReader(r io.Reader) *sseReader { return &sseReader{in: bufio.NewReader(r)} }

// next returns the next event that has data.
func (r *sseReader) next() (sseEvent, error) {
	var e sseEvent
	var data strings.Builder
	for {
		line, err := r.in.ReadString('\n')
		if err != nil {
			return e, err
		}
		line = strings.TrimSuffix(line, "\n")
		if strings.ContainsRune(line, '\r') {
			return e, fmt.Errorf("a carriage return in the line %.80q", line)
		}
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case line == "" && data.Len() == 0:
			e = sseEvent{}
		case line == "":
			e.Data, e.ID = strings.TrimSuffix(data.String(), "\n"), r.id
			if e.Type == "" {
				e.Type = "message"
			}
			return e, nil
		case name == "":
			r.comment++
		case name == "data":
			data.WriteString(value + "\n")
		case name == "event":
			e.Type = value
		case name == "id":
			r.id = value
		case name == "retry":
			if e.Retry, err = strconv.Atoi(value); err != nil {
				return e, fmt.Errorf("retry: %w", err)
			}
		case name == "traceparent":
			e.Traceparent = value
		default:
			return e, fmt.Errorf("unknown field %q", line)
		}
	}
}

// sseStream is GET /sse as a stream.
type sseStream struct {
	*sseReader
	body     io.Closer
	head     http.Header
	envelope bool
}

// openSSE connects and checks the head of the answer.
func openSSE(ctx context.Context, c *http.Client, url, lastEventID string, envelope bool) (*sseStream, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "text/event-stream")
	if lastEventID != "" {
		req.Header.Set("Last-Event-ID", lastEventID)
	}
	res, err := c.Do(req)
	if err != nil {
		return nil, err
	}
	if ct := res.Header.Get("Content-Type"); res.StatusCode != http.StatusOK || ct != "text/event-stream" {
		b, _ := io.ReadAll(io.LimitReader(res.Body, 512))
		res.Body.Close()
		return nil, fmt.Errorf("SSE answered %s, %s: %s", res.Status, ct, b)
	}
	return &sseStream{sseReader: newSSEReader(res.Body), body: res.Body, head: res.Header, envelope: envelope}, nil
}

// next implements stream.
func (s *sseStream) next() (event, error) {
	raw, err := s.sseReader.next()
	if err != nil {
		return event{}, err
	}
	e := event{kind: raw.Type, token: raw.ID, retry: raw.Retry, data: raw.Data}
	switch raw.Type {
	case "welcome", "unavailable", "heartbeat", "gap", "reconnect", "denied", "unsubscribed":
		err = json.Unmarshal([]byte(raw.Data), &e.body)
	default:
		e.kind, e.body.Event, e.body.Traceparent = "message", raw.Type, raw.Traceparent
		if s.envelope {
			err = json.Unmarshal([]byte(raw.Data), &e.body)
			e.data = e.body.payload()
		}
	}
	if err != nil {
		err = fmt.Errorf("event %s with data %.80q: %w", raw.Type, raw.Data, err)
	}
	return e, err
}

func (s *sseStream) close() { s.body.Close() }
