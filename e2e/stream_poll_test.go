package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
)

// pollAnswer is the answer to POST /poll.
type pollAnswer struct {
	Messages []body
	Token    string
	More     bool
	Retry    int
}

func poll(ctx context.Context, c *http.Client, base, request string) (*pollAnswer, error) {
	r, err := http.NewRequestWithContext(ctx, "POST", base+"/poll", bytes.NewReader([]byte(request)))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	res, err := c.Do(r)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, err
	}
	a := new(pollAnswer)
	if err := json.Unmarshal(b, a); err != nil || res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s %.200s: %v", res.Status, b, err)
	}
	return a, nil
}

// pollStream is polls as a stream. A token comes with the last event of an answer.
type pollStream struct {
	ctx     context.Context
	stop    context.CancelFunc
	http    *http.Client
	base    string
	request map[string]any
	waiting []event
	begun   bool
}

func openPoll(ctx context.Context, c *http.Client, base, token string, request map[string]any) *pollStream {
	if token != "" {
		request["resume"] = token
	}
	ctx, stop := context.WithCancel(ctx)
	return &pollStream{ctx: ctx, stop: stop, http: c, base: base, request: request}
}

// next implements stream.
func (s *pollStream) next() (event, error) {
	for len(s.waiting) == 0 {
		request, err := json.Marshal(s.request)
		if err != nil {
			return event{}, err
		}
		a, err := poll(s.ctx, s.http, s.base, string(request))
		if err != nil {
			return event{}, err
		}
		if !s.begun {
			s.begun = true
			s.waiting = append(s.waiting, event{kind: "welcome"})
		}
		for _, m := range a.Messages {
			s.waiting = append(s.waiting, event{kind: m.Type, data: m.payload(), body: m})
		}
		if len(s.waiting) == 0 {
			s.waiting = append(s.waiting, event{kind: "heartbeat"})
		}
		s.waiting[len(s.waiting)-1].token = a.Token
		s.request["resume"] = a.Token
	}
	e := s.waiting[0]
	s.waiting = s.waiting[1:]
	return e, nil
}

func (s *pollStream) close() { s.stop() }
