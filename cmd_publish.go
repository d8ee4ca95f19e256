package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"unicode/utf8"

	"sluice/broker"
)

// defaultURL is where publish and tail look for a node.
const defaultURL = "http://127.0.0.1:8080"

// maxInput bounds what is read from standard input; the node's max-message is below it.
const maxInput = 64 << 20

// publication is the body of POST /publish: the payload as Data or as Data64.
type publication struct {
	Channel string          `json:"channel"`
	Data    json.RawMessage `json:"data,omitempty"`
	Data64  []byte          `json:"data64,omitempty"`
	Event   string          `json:"event,omitempty"`
	Key     string          `json:"key,omitempty"`
	ID      string          `json:"id,omitempty"`
	Live    bool            `json:"live,omitempty"`
}

// hold takes the payload: as a JSON string where that says the same and is no longer than base64,
// which keeps a payload full of control characters from outgrowing the node's limit.
func (p *publication) hold(payload []byte) {
	quoted, err := json.Marshal(string(payload))
	if err == nil && utf8.Valid(payload) && len(quoted) <= 2+base64.StdEncoding.EncodedLen(len(payload)) {
		p.Data = quoted
		return
	}
	p.Data64 = payload
}

func publishCommand() *command {
	flags, p := newFlags("publish"), &publication{}
	base := flags.String("url", defaultURL, "`URL` of a node")
	token := addBearer(flags)
	flags.StringVar(&p.Event, "event", "", "event `name` that pages listen for")
	flags.StringVar(&p.Key, "key", "", "conflation `key`: a newer message with the same key may replace this one")
	flags.StringVar(&p.ID, "id", "", "idempotency `key`: the same one within five minutes is not published again")
	flags.BoolVar(&p.Live, "live", false, "send without storing")
	return &command{"publish", "CHANNEL [DATA|-]", "publish a message; its data comes from standard input without DATA", flags,
		func(ctx context.Context, t *terminal, args []string) error {
			if len(args) < 1 || len(args) > 2 {
				return usagef("sluice publish takes a channel and its data, not %d arguments; write sluice publish CHANNEL 'DATA'", len(args))
			}
			p.Channel = args[0]
			if err := broker.CheckChannel(p.Channel); err != nil {
				return &usageError{err}
			}
			data := []byte(args[len(args)-1])
			if len(args) == 1 || args[1] == "-" {
				var err error
				if data, err = io.ReadAll(io.LimitReader(t.in, maxInput+1)); err != nil {
					return fmt.Errorf("read standard input: %w", err)
				}
				if len(data) > maxInput {
					return fmt.Errorf("standard input is over %s: too large for a message", formatBytes(maxInput))
				}
			}
			return p.send(ctx, t, *base, token.or(t.env), data)
		}}
}

// send publishes data and prints its position.
func (p *publication) send(ctx context.Context, t *terminal, base string, token bearer, data []byte) error {
	p.hold(data)
	var receipt struct {
		Position  string
		Duplicate bool
	}
	c := &call{base: base, path: []string{"publish"}, token: token, body: p, want: http.StatusOK, hint: "sluice --dev starts a node"}
	if err := c.do(ctx, &receipt); err != nil {
		return err
	}
	if receipt.Position != "" {
		fmt.Fprintln(t.out, receipt.Position)
	}
	if receipt.Duplicate {
		fmt.Fprintln(t.err, "published before with this id; nothing was sent")
	}
	return nil
}

// problem words an answer that is not 200: the problem's code and detail where there are any.
func problem(res *http.Response, body []byte) error {
	var p struct{ Code, Detail string }
	err := fmt.Errorf("unexpected answer %s; is a node of Sluice at this URL?", res.Status)
	if json.Unmarshal(body, &p) == nil && p.Code != "" {
		err = fmt.Errorf("%s (%d): %s", p.Code, res.StatusCode, strings.TrimSuffix(p.Detail, "."))
	}
	if after := res.Header.Get("Retry-After"); after != "" {
		err = fmt.Errorf("%w; try again in %s s", err, after)
	}
	return &refusal{err, res.StatusCode < 500 && res.StatusCode != http.StatusTooManyRequests}
}

// refusal is an error that a node answered, or one that ends the conversation with it.
type refusal struct {
	err   error
	final bool // asking again can't help
}

func (r *refusal) Error() string { return r.err.Error() }
func (r *refusal) Unwrap() error { return r.err }

// final reports whether asking again can't help.
func final(err error) bool {
	var r *refusal
	var usage *usageError
	return errors.As(err, &r) && r.final || errors.As(err, &usage)
}
