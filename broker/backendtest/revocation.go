package backendtest

import (
	"context"
	"fmt"
	"time"

	"sluice/broker"
)

var revocation = []contract{
	{
		name: "revoked everywhere",
		why:  "who is thrown out on one node must not go on through another",
		run: func(e *env) {
			other := e.another()
			defer other.stop()
			e.listed()
			other.listed()
			for i, kind := range []broker.RevocationKind{broker.ByToken, broker.BySubject, broker.BySession} {
				r := e.revoke(kind, fmt.Sprintf("%d of ünser user@example.com", i), time.Now(), time.Hour)
				for node, told := range map[string]*env{"this node": e, "the other": other} {
					if got := told.revoked(r); !got.At.Equal(r.At) || !got.Until.Equal(r.Until) {
						e.Errorf("%s was told %v to %v, want %v to %v", node, got.At, got.Until, r.At, r.Until)
					}
				}
			}
		},
	},
	{
		name: "revoked before the start",
		why:  "a node that starts must know what was revoked while it was not there",
		run: func(e *env) {
			var want []broker.Revocation
			late := e.before(func(b broker.Backend) {
				for i := range 20 {
					want = append(want, e.revokeOn(b, broker.ByToken, fmt.Sprint("early ", i), time.Now(), time.Hour))
				}
			})
			defer late.stop()
			late.listed()
			late.sink.mu.Lock()
			defer late.sink.mu.Unlock()
			for _, r := range want {
				if _, found := late.sink.list[name(r)]; !found {
					e.Errorf("%s is not in the list that came first", r.Value)
				}
			}
		},
	},
	{
		name: "forgotten",
		why:  "what need not be remembered any more must not fill the memory, and must not be put in force again",
		run: func(e *env) {
			var short, long broker.Revocation
			late := e.before(func(b broker.Backend) {
				short = e.revokeOn(b, broker.ByToken, "short", time.Now(), 100*time.Millisecond)
				long = e.revokeOn(b, broker.ByToken, "long", time.Now(), time.Hour)
				<-time.After(time.Until(short.Until) + 5*time.Millisecond)
			})
			defer late.stop()
			late.revoked(long)
			late.sink.mu.Lock()
			if r, found := late.sink.list[name(short)]; found {
				e.Errorf("told of a revocation until %v", r.Until)
			}
			late.sink.mu.Unlock()
			again := e.revokeOn(late.backend, broker.ByToken, short.Value[len(e.prefix):], time.Now(), time.Hour)
			late.revoked(again)
		},
	},
	{
		name: "the longest counts",
		why:  "nobody may shorten what somebody else has revoked for longer",
		run: func(e *env) {
			var long broker.Revocation
			late := e.before(func(b broker.Backend) {
				at := time.Now()
				e.revokeOn(b, broker.ByToken, "x", at, time.Minute)
				long = e.revokeOn(b, broker.ByToken, "x", at, time.Hour)
				e.revokeOn(b, broker.ByToken, "x", at, time.Second)
			})
			defer late.stop()
			if got := late.revoked(long); !got.Until.Equal(long.Until) {
				e.Errorf("in force until %v, want %v", got.Until, long.Until)
			}
		},
	},
	{
		name: "the latest counts",
		why:  "a subject's tokens of this morning are not revoked by what was made yesterday, and an old request that comes late must not bring them back",
		run: func(e *env) {
			var latest broker.Revocation
			at := time.Now()
			late := e.before(func(b broker.Backend) {
				e.revokeOn(b, broker.BySubject, "x", at.Add(-time.Hour), 2*time.Hour)
				latest = e.revokeOn(b, broker.BySubject, "x", at, 2*time.Hour)
				e.revokeOn(b, broker.BySubject, "x", at.Add(-time.Minute), 2*time.Hour)
			})
			defer late.stop()
			if got := late.revoked(latest); !got.At.Equal(latest.At) {
				e.Errorf("made at %v, want %v", got.At, latest.At)
			}
			next := e.revokeOn(late.backend, broker.BySubject, "x", at.Add(time.Second), time.Hour)
			late.await("the later time", func() bool { return late.sink.list[name(next)].At.Equal(next.At) })
		},
	},
	{
		name: "revoke after the end of the context",
		why:  "who has stopped waiting must be told that it did not work, not that it did",
		run: func(e *env) {
			ctx, cancel := context.WithCancel(e.ctx)
			cancel()
			now := time.Now()
			r := broker.Revocation{Kind: broker.ByToken, Value: e.prefix, At: now, Until: now.Add(time.Hour)}
			if err := e.backend.Revoke(ctx, r); !unavailable(err) {
				e.Errorf("got %v, want an error that wraps ErrUnavailable", err)
			}
		},
	},
}

// another starts another node on the same store, or returns e if a store has one node only.
func (e *env) another() *env {
	e.Helper()
	if e.peer == nil {
		return e
	}
	return start(e.T, e.peer(e.T), nil, nil)
}

// before starts a node after revoke has been called with a backend of its store.
func (e *env) before(revoke func(broker.Backend)) *env {
	e.Helper()
	if e.peer != nil {
		revoke(e.backend)
		return e.another()
	}
	b := e.open(e.T)
	revoke(b)
	return start(e.T, b, nil, nil)
}

func (e *env) revoke(kind broker.RevocationKind, value string, at time.Time, d time.Duration) broker.Revocation {
	e.Helper()
	return e.revokeOn(e.backend, kind, value, at, d)
}

// revokeOn revokes a value that nobody else has, in whole milliseconds.
func (e *env) revokeOn(b broker.Backend, kind broker.RevocationKind, value string, at time.Time, d time.Duration) broker.Revocation {
	e.Helper()
	at = at.Truncate(time.Millisecond)
	r := broker.Revocation{Kind: kind, Value: e.prefix + value, At: at, Until: at.Add(d)}
	if err := b.Revoke(e.ctx, r); err != nil {
		e.Fatalf("revoke: %v", err)
	}
	return r
}

// listed waits for the first list.
func (e *env) listed() {
	e.Helper()
	e.await("the list of revocations", func() bool { return e.sink.lists > 0 })
}

// revoked waits until the sink has been told of what r names, and returns it.
func (e *env) revoked(r broker.Revocation) broker.Revocation {
	e.Helper()
	e.await("a revocation", func() bool { _, found := e.sink.list[name(r)]; return found })
	e.sink.mu.Lock()
	defer e.sink.mu.Unlock()
	return e.sink.list[name(r)]
}

func name(r broker.Revocation) string { return r.Kind.String() + " " + r.Value }
