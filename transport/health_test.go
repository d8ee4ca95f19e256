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

// TestReadyLacks: a node that delivers and does not know yet whom to refuse is not ready, wherever it is asked.
func TestReadyLacks(t *testing.T) {
	var what atomic.Value
	what.Store("it is not known yet who was thrown out")
	n := newNode(t, func(c *Config) { c.Lacks = func() string { return what.Load().(string) } })
	for _, want := range []int{503, 200} {
		status, body, _ := ask(t, "GET", n.url(""), "/readyz", "")
		var r ready
		if err := json.Unmarshal([]byte(body), &r); err != nil || status != want || r.Ready != (want == 200) || r.Why != what.Load() {
			t.Errorf("got %d %s %v, want %d", status, body, err, want)
		}
		what.Store("")
	}
}
