package redis

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"sluice/broker"
	"sluice/broker/redistest"
)

// hour is a revocation of a token from now on for an hour.
func hour(value string) broker.Revocation {
	now := time.Now()
	return broker.Revocation{Kind: broker.ByToken, Value: value, At: now, Until: now.Add(time.Hour)}
}

func revoke(t *testing.T, b *Backend, r broker.Revocation) {
	t.Helper()
	if err := b.Revoke(t.Context(), r); err != nil {
		t.Fatal(err)
	}
}

// listed waits for the first list.
func listed(t *testing.T, r *recorder) {
	t.Helper()
	until(t, "the list", func() bool { r.mu.Lock(); defer r.mu.Unlock(); return r.lists > 0 })
}

func TestRevokeReachesOtherNode(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			s := redistest.Start(t)
			// No verification: an announcement alone must do.
			adjust := func(c *Config) {
				c.VerifyInterval = time.Hour
				if mode.adjust != nil {
					mode.adjust(c)
				}
			}
			a, _ := run(t, s, adjust)
			_, other := run(t, s, adjust)
			listed(t, other)
			var took []time.Duration
			for i := range 100 {
				value := "user " + numbered(i)
				began := time.Now()
				revoke(t, a, hour(value))
				until(t, "revoked on the other node", func() bool { return other.knows(broker.ByToken, value) })
				took = append(took, time.Since(began))
			}
			slices.Sort(took)
			t.Logf("until the other node knew: median %v, longest %v (looked every 2 ms)", took[50], took[99])
			if took[99] > time.Second {
				t.Errorf("took %v, want less than a second", took[99])
			}
			for _, key := range []string{"sluice:{!}:u", "sluice:{!}:w"} {
				if d := s.Client().TTL(t.Context(), key).Val(); d < 59*time.Minute || d > 62*time.Minute {
					t.Errorf("%s ends in %v, want with the last revocation", key, d)
				}
			}
		})
	}
}

// TestRevokeUnheard: what was revoked while a node had no connection is known when it is back, and a lost
// announcement costs one interval.
func TestRevokeUnheard(t *testing.T) {
	s := redistest.Start(t)
	a := open(t, s, nil)
	_, r := run(t, s, func(c *Config) { c.VerifyInterval = time.Hour })
	_, verified := run(t, s, func(c *Config) { c.VerifyInterval = 50 * time.Millisecond })
	listed(t, r)
	listed(t, verified)
	if err := a.storeRevocations(t.Context(), "", []broker.Revocation{inMillis(hour("unheard"))}); err != nil {
		t.Fatal(err)
	}
	until(t, "known at the next interval", func() bool { return verified.knows(broker.ByToken, "unheard") })
	if r.knows(broker.ByToken, "unheard") {
		t.Error("it was announced, so this test proves nothing")
	}
	s.Client().ClientKillByFilter(t.Context(), "TYPE", "pubsub")
	until(t, "known after the reconnect", func() bool { return r.knows(broker.ByToken, "unheard") })
}

// TestRevocationsAreReadOnce: the list may be long, so that what was announced must not have it read again.
func TestRevocationsAreReadOnce(t *testing.T) {
	s := redistest.Start(t)
	b, r := run(t, s, func(c *Config) { c.VerifyInterval = 20 * time.Millisecond })
	listed(t, r)
	revoke(t, b, hour("first"))
	until(t, "known", func() bool { return r.knows(broker.ByToken, "first") })
	reads := func() int { return calls(s.Client().Info(t.Context(), "commandstats").Val(), "zrangebyscore") }
	until(t, "in a state that is known", func() bool { n := reads(); <-time.After(100 * time.Millisecond); return reads() == n })
	before := reads()
	for i := range 50 {
		revoke(t, b, hour(numbered(i)))
		<-time.After(5 * time.Millisecond)
	}
	until(t, "known", func() bool { return r.knows(broker.ByToken, numbered(49)) })
	<-time.After(100 * time.Millisecond) // five intervals
	// Each Revoke looks for what has ended, too. An interval may end between what was stored and its announcement.
	n := reads() - before - 50
	t.Logf("the list was read %d times for 50 revocations and some 17 intervals", n)
	if n > 5 {
		t.Errorf("the list was read %d times", n)
	}
}

func TestRedisLosesRevocations(t *testing.T) {
	for _, tt := range []struct {
		name string
		lose func(*testing.T, *redistest.Server)
	}{
		{"killed without persistence", func(_ *testing.T, s *redistest.Server) { s.Kill(); s.Restart() }},
		{"flushed", func(t *testing.T, s *redistest.Server) { s.Client().FlushAll(t.Context()) }},
		{"one key deleted", func(t *testing.T, s *redistest.Server) { s.Client().Del(t.Context(), "sluice:{!}:u") }},
		{"the other key deleted", func(t *testing.T, s *redistest.Server) { s.Client().Del(t.Context(), "sluice:{!}:w") }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := redistest.Start(t)
			quick := func(c *Config) { c.VerifyInterval = 100 * time.Millisecond }
			const n = 1200 // more than one batch
			nodes, told := make([]*Backend, 3), make([]*recorder, 3)
			for i := range nodes {
				nodes[i], told[i] = run(t, s, quick)
				listed(t, told[i])
			}
			list := make([]broker.Revocation, n)
			for i := range list {
				list[i] = inMillis(hour(numbered(i)))
			}
			if err := nodes[0].storeRevocations(t.Context(), "", list); err != nil {
				t.Fatal(err)
			}
			revoke(t, nodes[0], hour("last"))
			for _, r := range told {
				until(t, "all know", func() bool { return r.knows(broker.ByToken, numbered(n-1)) && r.knows(broker.ByToken, "last") })
			}
			tt.lose(t, s)
			listen := s.Client().Subscribe(t.Context(), "sluice:{!}:r")
			defer listen.Close()
			size := func() int64 { return s.Client().ZCard(t.Context(), "sluice:{!}:u").Val() }
			until(t, "written again", func() bool { return size() == n+1 })
			_, fresh := run(t, s, quick)
			until(t, "known to a node that starts now", func() bool {
				return fresh.knows(broker.ByToken, "last") && fresh.knows(broker.ByToken, numbered(n-1))
			})

			// Nothing goes on after it.
			writes := func() int {
				info := s.Client().Info(t.Context(), "commandstats").Val()
				return calls(info, "zadd") + calls(info, "hset")
			}
			<-time.After(restorePause + 200*time.Millisecond) // whoever paused has looked again
			settled := writes()
			<-time.After(500 * time.Millisecond)
			if again := writes(); again != settled {
				t.Errorf("%d writes in five intervals in which nothing happened", again-settled)
			}
			t.Logf("%d writes of %d revocations by %d nodes", settled, n+1, len(nodes))
			for {
				received, err := listen.ReceiveTimeout(t.Context(), 50*time.Millisecond)
				if err != nil {
					break
				}
				if m, ok := received.(*goredis.Message); ok {
					t.Errorf("announced again: %s", m.Payload)
				}
			}
		})
	}
}

func TestRevocationsAreBounded(t *testing.T) {
	s := redistest.Start(t)
	b, r := run(t, s, nil)
	listed(t, r)
	list := make([]broker.Revocation, broker.MaxRevocations-1)
	for i := range list {
		list[i] = inMillis(hour("user-" + numbered(i) + "@example.com"))
	}
	list[0].Until = time.UnixMilli(1000) // long over: it takes no room
	began := time.Now()
	if err := b.storeRevocations(t.Context(), "", list); err != nil {
		t.Fatal(err)
	}
	stored := time.Since(began)
	revoke(t, b, hour("a"))
	revoke(t, b, hour("b"))
	if err := b.Revoke(t.Context(), hour("c")); !errors.Is(err, broker.ErrRevocationsFull) || isUnavailable(err) {
		t.Errorf("one too many: got %v", err)
	}
	revoke(t, b, hour("a"))
	began = time.Now()
	_, _, all, err := b.askRevocations(t.Context(), "", nil)
	if err != nil || len(all) != broker.MaxRevocations {
		t.Errorf("got %d, %v", len(all), err)
	}
	t.Logf("%d stored in %v, read in %v, %d bytes in Redis", len(all), stored, time.Since(began),
		s.Client().MemoryUsage(t.Context(), "sluice:{!}:u", 0).Val()+s.Client().MemoryUsage(t.Context(), "sluice:{!}:w", 0).Val())
}

func TestRevocationsAreForgotten(t *testing.T) {
	s := redistest.Start(t)
	b := open(t, s, nil)
	old := hour("old")
	revoke(t, b, old)
	// As if two hours had gone by.
	s.Client().ZAdd(t.Context(), "sluice:{!}:u", goredis.Z{Score: float64(time.Now().Add(-time.Hour).UnixMilli()), Member: "1 old"})
	if _, _, list, err := b.askRevocations(t.Context(), "", nil); err != nil || len(list) > 0 {
		t.Errorf("got %v, %v", list, err)
	}
	revoke(t, b, hour("new"))
	if n := s.Client().ZCard(t.Context(), "sluice:{!}:u").Val(); n != 1 {
		t.Errorf("%d are stored, want 1: what is over goes with the next write", n)
	}
	if s.Client().HExists(t.Context(), "sluice:{!}:w", "1 old").Val() {
		t.Error("the hash still has what is over")
	}
}

// TestForgedRevocations: who may PUBLISH can revoke nothing, and what somebody has written into the keys
// costs nobody else's revocation.
func TestForgedRevocations(t *testing.T) {
	s := redistest.Start(t)
	b, r := run(t, s, func(c *Config) { c.VerifyInterval = 50 * time.Millisecond })
	listed(t, r)
	revoke(t, b, hour("good"))
	for _, payload := range []string{
		"", "1", "1 ", "1 - A", "1 - A ", "1 - A 1", "1 - A 1 ", "2 - A 1 alice", "1 - A 0 alice", "1 - A 4 alice", "1 - A 1 a\nb", "1 - A 1 \xff",
		"1 - a 1 alice", "1  A 1 alice", "1 A  1 alice", "1 - " + strings.Repeat("A", 41) + " 1 alice",
		"1 - A 1 " + strings.Repeat("x", 513), strings.Repeat("1", 10<<20),
	} {
		before := b.Stats().DroppedMalformed.Load()
		s.Client().Publish(t.Context(), "sluice:{!}:r", payload)
		until(t, "dropped and counted: "+payload[:min(len(payload), 20)], func() bool { return b.Stats().DroppedMalformed.Load() > before })
	}
	for range 3 * maxRevoked { // more than are looked up
		s.Client().Publish(t.Context(), "sluice:{!}:r", "1 A B 2 alice")
	}
	ctx, now := t.Context(), float64(time.Now().Add(time.Hour).UnixMilli())
	big := strings.Repeat("x", 1<<20)
	for _, z := range []goredis.Z{
		{Score: now, Member: ""}, {Score: now, Member: "alice"}, {Score: now, Member: "9 alice"}, {Score: now, Member: "1 " + big},
		{Score: now, Member: "1 no time"}, {Score: now, Member: "1 words"}, {Score: now, Member: "1 huge time"}, {Score: now + 0.5, Member: "1 half"},
		{Score: 1e300, Member: "1 never"},
	} {
		s.Client().ZAdd(ctx, "sluice:{!}:u", z)
	}
	s.Client().HSet(ctx, "sluice:{!}:w", "", big, "1 words", "yesterday", "1 huge time", big, "1 half", "1", "1 never", "1", "1 "+big, "1")
	before := b.Stats().DroppedMalformed.Load()
	until(t, "dropped and counted", func() bool { return b.Stats().DroppedMalformed.Load() >= before+9 })
	revoke(t, b, hour("another"))
	until(t, "the others go on", func() bool { return r.knows(broker.ByToken, "good") && r.knows(broker.ByToken, "another") })
	r.mu.Lock()
	if len(r.revoked) != 2 {
		t.Errorf("%d revocations were told, want 2", len(r.revoked))
	}
	r.mu.Unlock()

	// The wrong type: nothing can be read or written until somebody deletes it, and the node goes on.
	s.Client().Set(ctx, "sluice:{!}:u", "x", 0)
	if err := b.Revoke(ctx, hour("x")); err == nil {
		t.Error("revoked into a string")
	}
	s.Client().Del(ctx, "sluice:{!}:u")
	revoke(t, b, hour("after"))
	until(t, "known again", func() bool { return r.knows(broker.ByToken, "after") })
	until(t, "restored", func() bool { return s.Client().ZCard(ctx, "sluice:{!}:u").Val() == 3 })
}

func TestRevokeWithoutRedis(t *testing.T) {
	s := redistest.Start(t)
	b := open(t, s, func(c *Config) { c.PublishTimeout = 200 * time.Millisecond })
	s.Kill()
	if err := b.Revoke(t.Context(), hour("x")); !isUnavailable(err) {
		t.Errorf("got %v", err)
	}
}

func TestParseRevocation(t *testing.T) {
	for _, tt := range []struct {
		name            string
		in, made, until string
		ok              bool
	}{
		{"token", "1 a", "1", "2", true},
		{"a subject with spaces", "2 a b  c", "1795426843459", "1795426843460", true},
		{"session", "3 é", "1795426843459", "253402300799000", true},
		{"empty", "", "", "", false},
		{"no value", "1 ", "1", "2", false},
		{"no kind", " a", "1", "2", false},
		{"kind 0", "0 a", "1", "2", false},
		{"kind 4", "4 a", "1", "2", false},
		{"two digits", "11 a", "1", "2", false},
		{"not a digit", "x a", "1", "2", false},
		{"ends before it was made", "1 a", "2", "1", false},
		{"ends when it was made", "1 a", "2", "2", false},
		{"a fraction", "1 a", "1", "2.5", false},
		{"an exponent", "1 a", "1", "1e+20", false},
		{"infinite", "1 a", "1", "inf", false},
		{"negative", "1 a", "-1", "2", false},
		{"year 10000", "1 a", "1", "253402300800000", false},
		{"no time", "1 a", "", "2", false},
		{"a line break", "1 a\n", "1", "2", false},
	} {
		if r, ok := parseRevocation(tt.in, tt.made, tt.until); ok != tt.ok {
			t.Errorf("%s: got %+v, %v", tt.name, r, ok)
		}
	}
}

func FuzzRevocation(f *testing.F) {
	f.Add("1 - STATE2 1 token", "1795426843459", "1795426843460")
	f.Add("1 STATE2 STATE3 2 some body", "0", "253402300799999")
	f.Fuzz(func(t *testing.T, payload, at, until string) {
		n, ok := parseRevoked(payload)
		if ok && (payload != "1 "+n.from+" "+n.to+" "+n.name || len(payload) > 2+2*41+2+broker.MaxRevocationValue) {
			t.Errorf("%q was read as %+v", payload, n)
		}
		r, ok2 := parseRevocation(n.name, at, until)
		if !ok2 {
			return
		}
		if !ok || r.Check() != nil || revokedName(r) != n.name {
			t.Errorf("%q, %q, %q was read as %+v", payload, at, until, r)
		}
		again, ok := parseRevocation(revokedName(r), fmt.Sprint(r.At.UnixMilli()), fmt.Sprint(r.Until.UnixMilli()))
		if !ok || again != r || inMillis(r) != r {
			t.Errorf("written and read again: got %+v, want %+v", again, r)
		}
	})
}
