package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
)

// defaultAdmin is where revoke looks for the admin API.
const defaultAdmin = "http://127.0.0.1:8081"

// revokeTimeout bounds the whole of a revocation from the terminal.
const revokeTimeout = 30 * time.Second

// revocables are what can be revoked.
var revocables = []string{"token", "subject", "session"}

func revokeCommand() *command {
	flags := newFlags("revoke")
	base := flags.String("url", defaultAdmin, "`URL` of the admin API of any node")
	long := flags.Duration("for", 0, "remember it for this `duration`; by default as long as a token may hold")
	return &command{"revoke", "token JTI | subject SUB | session ID", "take back a token, all tokens of a subject issued until now, or a connection; on all nodes", flags,
		func(ctx context.Context, t *terminal, args []string) error {
			if len(args) != 2 || !slices.Contains(revocables, args[0]) {
				return usagef("sluice revoke takes %s, and which; write sluice revoke subject alice", strings.Join(revocables, " or "))
			}
			body := map[string]string{args[0]: args[1]}
			if *long != 0 {
				body["for"] = long.String()
			}
			return revoke(ctx, t, *base, body)
		}}
}

// revoke posts body to an admin API and prints how long it is remembered.
func revoke(ctx context.Context, t *terminal, base string, body map[string]string) error {
	u, err := parseBase(base)
	if err != nil {
		return err
	}
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, revokeTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.JoinPath("admin", "revocations").String(), bytes.NewReader(text))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("%w; is a node there with the setting admin?", unreachable(base, err))
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, 1<<16))
	if err != nil {
		return unreachable(base, err)
	}
	if res.StatusCode != http.StatusCreated {
		return problem(res, answer)
	}
	var done struct{ Until time.Time }
	if err := json.Unmarshal(answer, &done); err != nil {
		return fmt.Errorf("%s answers what a node of Sluice does not: %w", base, err)
	}
	fmt.Fprintf(t.out, "revoked until %s\n", done.Until.Format(time.RFC3339))
	return nil
}
