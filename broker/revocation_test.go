package broker_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sluice/broker"
	"sluice/broker/memory"
)

func TestRevocationCheck(t *testing.T) {
	at := time.Unix(1_800_000_000, 0)
	good := broker.Revocation{Kind: broker.BySubject, Value: "Zoë <zoe@example.com>", At: at, Until: at.Add(time.Hour)}
	for _, tt := range []struct {
		name   string
		change func(*broker.Revocation)
		bad    bool
	}{
		{"good", func(*broker.Revocation) {}, false},
		{"the longest value", func(r *broker.Revocation) { r.Value = strings.Repeat("x", 512) }, false},
		{"a longer one", func(r *broker.Revocation) { r.Value = strings.Repeat("x", 513) }, true},
		{"no value", func(r *broker.Revocation) { r.Value = "" }, true},
		{"no kind", func(r *broker.Revocation) { r.Kind = 0 }, true},
		{"an unknown kind", func(r *broker.Revocation) { r.Kind = 4 }, true},
		{"a line break", func(r *broker.Revocation) { r.Value = "a\nb" }, true},
		{"a Unicode line break", func(r *broker.Revocation) { r.Value = "a\u2028b" }, true},
		{"an escape sequence", func(r *broker.Revocation) { r.Value = "\x1b[2J" }, true},
		{"a character that turns text around", func(r *broker.Revocation) { r.Value = "a\u202eb" }, true},
		{"not UTF-8", func(r *broker.Revocation) { r.Value = "\xff" }, true},
		{"no times", func(r *broker.Revocation) { r.At, r.Until = time.Time{}, time.Time{} }, true},
		{"no end", func(r *broker.Revocation) { r.Until = time.Time{} }, true},
		{"an end at its beginning", func(r *broker.Revocation) { r.Until = r.At }, true},
		{"beyond what is stored", func(r *broker.Revocation) { r.Until = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) }, true},
	} {
		r := good
		tt.change(&r)
		err := r.Check()
		if (err != nil) != tt.bad || err != nil && !errors.Is(err, broker.ErrRevocation) {
			t.Errorf("%s: got %v", tt.name, err)
		}
		if err != nil && r.Value != "" && strings.Contains(err.Error(), r.Value) {
			t.Errorf("%s: the error repeats the value: %v", tt.name, err)
		}
	}
}

func TestRevocationSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s broker.RevocationSet
		now := time.Now()
		r := broker.Revocation{Kind: broker.BySubject, Value: "x", At: now, Until: now.Add(time.Hour)}
		for _, tt := range []struct {
			name      string
			at, until time.Duration
			fresh     bool
			wantAt    time.Duration
			wantUntil time.Duration
		}{
			{"new", 0, time.Hour, true, 0, time.Hour},
			{"the same", 0, time.Hour, false, 0, time.Hour},
			{"longer", 0, 2 * time.Hour, false, 0, 2 * time.Hour},
			{"shorter, and later", time.Minute, time.Hour, true, time.Minute, 2 * time.Hour},
			{"earlier", 0, time.Hour, false, time.Minute, 2 * time.Hour},
			{"over already", time.Hour, 0, false, time.Minute, 2 * time.Hour},
		} {
			r.At, r.Until = now.Add(tt.at), now.Add(tt.until)
			fresh, err := s.Add(r)
			got, found := s.Find(r.Kind, r.Value)
			if err != nil || !found || (len(fresh) == 1) != tt.fresh || !got.At.Equal(now.Add(tt.wantAt)) || !got.Until.Equal(now.Add(tt.wantUntil)) {
				t.Errorf("%s: got %+v, fresh %v, %v", tt.name, got, fresh, err)
			}
			if len(fresh) == 1 && fresh[0] != got {
				t.Errorf("%s: told as fresh: %+v, want what holds now: %+v", tt.name, fresh[0], got)
			}
		}
		if _, found := s.Find(broker.ByToken, "x"); found {
			t.Error("a subject revokes the token of the same name")
		}
		time.Sleep(2*time.Hour - time.Nanosecond)
		if len(s.All()) != 1 {
			t.Error("forgotten before its end")
		}
		time.Sleep(time.Nanosecond)
		if _, found := s.Find(r.Kind, r.Value); found || len(s.All()) > 0 {
			t.Error("remembered beyond its end")
		}
		r.At, r.Until = now, time.Now().Add(time.Hour)
		if fresh, _ := s.Add(r); len(fresh) != 1 {
			t.Error("what is revoked again after its end is not new")
		}
	})
}

func TestRevocationSetIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s broker.RevocationSet
		now := time.Now()
		list := make([]broker.Revocation, broker.MaxRevocations)
		for i := range list {
			list[i] = broker.Revocation{Kind: broker.ByToken, Value: fmt.Sprint(i), At: now, Until: now.Add(time.Hour)}
		}
		list[7].Until = now.Add(time.Minute)
		if _, err := s.Add(list...); err != nil {
			t.Fatal(err)
		}
		more := broker.Revocation{Kind: broker.ByToken, Value: "more", At: now, Until: now.Add(time.Hour)}
		known := list[0]
		known.Until = now.Add(2 * time.Hour)
		if _, err := s.Add(more, known); !errors.Is(err, broker.ErrRevocationsFull) {
			t.Errorf("one more: got %v", err)
		}
		if r, _ := s.Find(broker.ByToken, "0"); !r.Until.Equal(known.Until) {
			t.Error("what is known is not prolonged when the set is full")
		}
		time.Sleep(time.Minute)
		if _, err := s.Add(more); err != nil {
			t.Errorf("one more when one has ended: %v", err)
		}
		if n := len(s.All()); n != broker.MaxRevocations {
			t.Errorf("holds %d", n)
		}
	})
}

// told keeps what Options.OnRevoke was called with.
type told struct {
	sync.Mutex
	list []broker.Revocation
}

func (o *told) add(list []broker.Revocation) {
	o.Lock()
	defer o.Unlock()
	o.list = append(o.list, list...)
}

func (o *told) values() (values []string) {
	o.Lock()
	defer o.Unlock()
	for _, r := range o.list {
		values = append(values, r.Kind.String()+" "+r.Value)
	}
	return values
}

func TestBrokerRevoke(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen told
		b := broker.New(memory.New(memory.DefaultConfig()), broker.Options{OnRevoke: seen.add})
		if b.RevocationsKnown() {
			t.Error("the list is known before anything has been read")
		}
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error, 1)
		go func() { ran <- b.Run(ctx) }()
		synctest.Wait()
		if !b.RevocationsKnown() {
			t.Error("the list of a memory backend is not known at once")
		}
		now := time.Now()
		revoke := func(kind broker.RevocationKind, value string) {
			t.Helper()
			if err := b.Revoke(ctx, broker.Revocation{Kind: kind, Value: value, Until: now.Add(time.Hour)}); err != nil {
				t.Fatal(err)
			}
		}
		revoke(broker.BySubject, "alice")
		revoke(broker.ByToken, "t1")
		revoke(broker.ByToken, "t1")
		synctest.Wait()
		if got, want := seen.values(), []string{"subject alice", "token t1"}; !slices.Equal(got, want) {
			t.Errorf("OnRevoke was called with %v, want %v: each once", got, want)
		}
		for _, tt := range []struct {
			name, jti, subject string
			issued             time.Time
			want               bool
		}{
			{"nothing", "", "", now, false},
			{"the token", "t1", "", now.Add(time.Hour), true},
			{"the token of whomever", "t1", "bob", now.Add(time.Hour), true},
			{"another token", "t2", "bob", now, false},
			{"a token named as the subject", "alice", "", now, false},
			{"the subject, before", "t2", "alice", now.Add(-time.Minute), true},
			{"the subject, in that second", "t2", "alice", now.Truncate(time.Second).Add(999 * time.Millisecond), true},
			{"the subject, in the next second", "t2", "alice", now.Truncate(time.Second).Add(time.Second), false},
			{"the subject, without a time", "", "alice", time.Time{}, true},
			{"a subject named as the token", "", "t1", time.Time{}, false},
		} {
			if got := b.Revoked(tt.jti, tt.subject, tt.issued); got != tt.want {
				t.Errorf("%s: got %v", tt.name, got)
			}
		}
		if list := b.Revocations(); len(list) != 2 || list[0].Kind != broker.ByToken || !list[0].At.Equal(now) {
			t.Errorf("in force: %v", list)
		}
		if err := b.Revoke(ctx, broker.Revocation{Kind: broker.ByToken, Until: now.Add(time.Hour)}); !errors.Is(err, broker.ErrRevocation) {
			t.Errorf("a revocation of nothing: got %v", err)
		}
		time.Sleep(time.Hour)
		if b.Revoked("t1", "alice", now) || len(b.Revocations()) > 0 {
			t.Error("still revoked after the end")
		}
		cancel()
		if err := <-ran; err != nil {
			t.Error(err)
		}
	})
}

func BenchmarkRevoked(bench *testing.B) {
	b := broker.New(memory.New(memory.DefaultConfig()), broker.Options{})
	now := time.Now()
	for i := range 10_000 {
		if err := b.Revoke(bench.Context(), broker.Revocation{Kind: broker.ByToken, Value: fmt.Sprint(i), Until: now.Add(time.Hour)}); err != nil {
			bench.Fatal(err)
		}
	}
	bench.ReportAllocs()
	for bench.Loop() {
		if b.Revoked("none", "nobody", now) {
			bench.Fatal("revoked")
		}
	}
}
