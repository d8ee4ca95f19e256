package auth

import (
	"encoding/json"
	"slices"
	"strings"
)

// webhookVersion is that of questions and answers.
const webhookVersion = 1

// question is what a backend is asked, as JSON. The time is not in it, so equal questions have equal bodies, by which answers are
// kept: a decision may depend on all that was sent, and on nothing else.
type question struct {
	Version   int               `json:"version"`
	Action    string            `json:"action"`
	Transport string            `json:"transport"`
	Address   string            `json:"address"`
	Origin    string            `json:"origin"`
	Path      string            `json:"path"`
	Subject   string            `json:"subject"`
	TokenID   string            `json:"token_id"`
	Headers   map[string]string `json:"headers"`
	Channels  []string          `json:"channels,omitempty"` // sorted, each once
}

func (w *Webhook) question(action string, c *Caller, channels []string) *question {
	q := &question{
		Version: webhookVersion, Action: action, Transport: c.Transport, Origin: c.Origin, Path: c.Path,
		Subject: c.Who.Subject, TokenID: c.Who.TokenID, Headers: map[string]string{},
	}
	if c.Address.IsValid() {
		q.Address = c.Address.Unmap().String()
	}
	for _, h := range w.headers {
		if v := c.Header[h]; len(v) > 0 {
			separator := ", " // RFC 9110 §5.3
			if h == "Cookie" {
				separator = "; " // RFC 9113 §8.2.3
			}
			q.Headers[h] = strings.Join(v, separator)
		}
	}
	if len(channels) > 0 {
		q.Channels = slices.Clone(channels)
		slices.Sort(q.Channels)
		q.Channels = slices.Compact(q.Channels)
	}
	return q
}

func (q *question) encode() []byte {
	body, err := json.Marshal(q)
	if err != nil {
		panic(err) // it has only strings in it
	}
	return body
}
