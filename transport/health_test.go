package transport

import (
	"encoding/json"
	"slices"
	"sync/atomic"
	"testing"
)

// TestReadyNotes: what is wrong with a node that delivers is told, and does not take it out of service.
func TestReadyNotes(t *testing.T) {
	var notes atomic.Pointer[[]string]
	n := newNode(t, func(c *Config) {
		c.Status = func() []string {
			if p := notes.Load(); p != nil {
				return *p
			}
			return nil
		}
	})
	for _, want := range [][]string{nil, {"the file is bad", "something else"}, nil} {
		notes.Store(&want)
		status, body, _ := ask(t, "GET", n.url(""), "/readyz", "")
		var r struct {
			Ready bool
			Notes []string
		}
		if err := json.Unmarshal([]byte(body), &r); err != nil || status != 200 || !r.Ready || !slices.Equal(r.Notes, want) {
			t.Errorf("got %d %s %v, want ready and the notes %q", status, body, err, want)
		}
	}
}
