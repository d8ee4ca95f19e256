package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"
)

// callTimeout bounds a request of a command, to the end of its answer; the node gives up long before.
const callTimeout = 30 * time.Second

// call is a POST of JSON to a node, by which a command does its work.
type call struct {
	base  string
	path  []string
	token bearer
	body  any
	want  int    // the status of success
	hint  string // what to do where nobody answers
}

// do makes the call and reads its answer into into. What the node refuses is a *refusal.
func (c *call) do(ctx context.Context, into any) error {
	u, err := parseBase(c.base)
	if err != nil {
		return err
	}
	body, err := json.Marshal(c.body)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.JoinPath(c.path...).String(), bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	c.token.show(req.Header)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("%w; %s", unreachable(c.base, err), c.hint)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		return unreachable(c.base, err)
	}
	if res.StatusCode != c.want {
		return problem(res, answer)
	}
	if err := json.Unmarshal(answer, into); err != nil {
		return fmt.Errorf("%s answers what a node of Sluice does not: %w", c.base, err)
	}
	return nil
}
