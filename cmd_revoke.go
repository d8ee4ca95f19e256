package main

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// defaultAdmin is where revoke looks for the admin API.
const defaultAdmin = "http://127.0.0.1:8081"

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
	var done struct{ Until time.Time }
	c := &call{base: base, path: []string{"admin", "revocations"}, body: body, want: http.StatusCreated, hint: "is a node there with the setting admin?"}
	if err := c.do(ctx, &done); err != nil {
		return err
	}
	fmt.Fprintf(t.out, "revoked until %s\n", done.Until.Format(time.RFC3339))
	return nil
}
