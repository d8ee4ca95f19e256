package redis

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"sluice/broker"
	"sluice/broker/redistest"
)

// victim is a broker over Redis with a follower on the channel that is attacked and one on another.
type victim struct {
	*testing.T
	server          *redistest.Server
	backend         *Backend
	broker          *broker.Broker
	attacked, other *follower
	sent            []string // to other
}

func newVictim(t *testing.T) *victim {
	t.Helper()
	v := &victim{T: t, server: redistest.Start(t)}
	v.backend = open(t, v.server, func(c *Config) { c.VerifyInterval = 100 * time.Millisecond; c.PublishTimeout = time.Second })
	v.broker = broker.New(v.backend, broker.Options{Arrivals: true})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = v.broker.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	v.attacked, v.other = newFollower(v.broker, "attacked"), newFollower(v.broker, "other")
	until(t, "started", func() bool { return v.attacked.sub.Started() && v.other.sub.Started() })
	return v
}

func (v *victim) publish(channel, data string) error {
	_, err := v.broker.Publish(v.Context(), &broker.Message{Channel: channel, Data: []byte(data)}, broker.PublishOptions{})
	return err
}

// lives checks that the other channel goes on: with what is published now, and after a reconnect.
func (v *victim) lives() {
	v.Helper()
	for range 2 {
		data := fmt.Sprint("m", len(v.sent))
		if err := v.publish("other", data); err != nil {
			v.Fatalf("publish to the other channel: %v", err)
		}
		v.sent = append(v.sent, data)
		until(v.T, "the other channel goes on with "+data, func() bool { v.other.take(); return len(v.other.data) >= len(v.sent) })
		up := v.backend.Stats().Reconnects.Load()
		v.server.Client().ClientKillByFilter(v.Context(), "TYPE", "pubsub")
		until(v.T, "connected again", func() bool { return v.backend.Stats().Reconnects.Load() > up && v.backend.Connected() })
	}
	late := newFollower(v.broker, "late"+fmt.Sprint(len(v.sent)))
	until(v.T, "somebody who comes now is let in", late.sub.Started)
	if got := strings.Join(v.other.data, " "); got != strings.Join(v.sent, " ") || len(v.other.gaps) > 0 {
		v.Errorf("the other channel got %q and the gaps %v, want %q", got, v.other.gaps, v.sent)
	}
}

// goesOn checks that a message of the attacked channel comes, after whatever gap.
func (v *victim) goesOn() {
	v.Helper()
	if err := v.publish("attacked", "genuine"); err != nil {
		v.Fatalf("publish to the attacked channel: %v", err)
	}
	v.gets("genuine")
}

func (v *victim) gets(data string) {
	v.Helper()
	until(v.T, "the attacked channel gets "+data, func() bool {
		v.attacked.take()
		n := len(v.attacked.data)
		return n > 0 && v.attacked.data[n-1] == data
	})
}

// TestHostilePublish: whatever anybody sends by PUBLISH is delivered or dropped and counted, and does no harm to what follows.
func TestHostilePublish(t *testing.T) {
	v := newVictim(t)
	if err := v.publish("attacked", "first"); err != nil {
		t.Fatal(err)
	}
	v.gets("first")
	head := read(t, v.backend, broker.Range{Channel: "attacked"}).Head
	after := func(n uint64) broker.Position { return broker.Position{MS: head.MS + n, Seq: 7, Tag: 1} }
	at := func(previous, position any, rest string) string {
		return fmt.Sprintf("1 %v %v %s", previous, position, rest)
	}
	const raw, announcement = "attacked", "sluice:{attacked}:a"
	huge := strings.Repeat("x", 10<<20)
	for _, tt := range []struct {
		name, channel, payload string
		delivered              string // "" means dropped
	}{
		{"binary", raw, "\x00\x01\xfe\xff\r\n\r\ndata: x", "\x00\x01\xfe\xff\r\n\r\ndata: x"},
		{"not UTF-8", raw, "a\xc0\xafb\xed\xa0\x80", "a\xc0\xafb\xed\xa0\x80"},
		{"looks like RESP", raw, "*3\r\n$7\r\nmessage\r\n", "*3\r\n$7\r\nmessage\r\n"},
		{"looks like an announcement", raw, "1 - - 0 0 0 0 x", "1 - - 0 0 0 0 x"},
		{"10 MiB", raw, huge, ""},
		{"10 MiB, announced", announcement, "1 - - 0 0 0 0 " + huge, ""},
		{"10 MiB of an event", announcement, "1 - - 0 10485760 0 0 " + huge, ""},
		{"10 MiB without a header", announcement, huge, ""},
		{"one byte too large", announcement, "1 - - 0 0 0 0 " + huge[:1<<20+1], ""},
		{"just not too large", announcement, "1 - - 0 0 0 0 " + huge[:1<<20], huge[:1<<20]},
		{"announced binary", announcement, "1 - - 0 0 0 0 \x00\xff", "\x00\xff"},
		{"no announcement", announcement, "hello", ""},
		{"binary, not announced", announcement, "\x00\xff\xfe", ""},
		{"a later version", announcement, "2 - - 0 0 0 0 x", ""},
		{"a much later version", announcement, "99999999999999999999 - - 0 0 0 0 x", ""},
		{"an event with a new line", announcement, "1 - - 0 4 0 0 a\n\nbx", ""},
		{"an event that begins another field", announcement, "1 - - 0 9 0 0 a\rdata: xx", ""},
		{"a key with a new line", announcement, "1 - - 0 0 3 0 a\nbx", ""},
		{"a key with a NUL", announcement, "1 - - 0 0 1 0 \x00x", ""},
		{"Sluice's own event", announcement, "1 - - 0 7 0 0 welcomex", ""},
		{"a trace with a new line", announcement, "1 - - 0 0 0 3 a\nbx", ""},
		{"a trace that is none", announcement, "1 - - 0 0 0 5 00-zzforged trace", "forged trace"},
		{"a trace of zeros", announcement, "1 - - 0 0 0 55 00-" + strings.Repeat("0", 32) + "-" + strings.Repeat("0", 16) + "-01no trace", "no trace"},
		{"a time in 2262", announcement, "1 - - 9223372036854775 0 0 0 of 2262", "of 2262"},
		{"negative lengths", announcement, "1 - - 0 -1 -1 -1 x", ""},
		{"lengths that overflow", announcement, "1 - - 0 9223372036854775807 9223372036854775807 9223372036854775807 x", ""},
		{"its own predecessor", announcement, at(head, head, "0 0 0 0 x"), ""},
		{"a position that goes backwards", announcement, at(after(5), after(4), "0 0 0 0 x"), ""},
		{"one position", announcement, at("-", after(5), "0 0 0 0 x"), ""},
		{"a position out of range", announcement, at(head, "18446744073709551616-0-0000", "0 0 0 0 x"), ""},
	} {
		dropped := func() int64 {
			return v.backend.Stats().DroppedMalformed.Load() + v.backend.Stats().DroppedTooLarge.Load()
		}
		before := dropped()
		if err := v.server.Client().Publish(t.Context(), tt.channel, tt.payload).Err(); err != nil {
			t.Fatal(err)
		}
		if tt.delivered != "" {
			v.gets(tt.delivered)
		} else {
			until(t, tt.name+": dropped and counted", func() bool { return dropped() == before+1 })
		}
	}
	v.goesOn()
	if n := len(v.attacked.gaps); n > 0 {
		t.Errorf("%d gaps were told: %v", n, v.attacked.gaps)
	}
	v.lives()
}

// TestForgedLine: announcements that fit, of messages that nobody has stored. Who may send them may send any message; what
// is genuine comes nevertheless, each message once.
func TestForgedLine(t *testing.T) {
	for _, tt := range []struct {
		name   string
		forged func(head broker.Position) (previous, position broker.Position)
	}{
		{"the next one", func(h broker.Position) (p, q broker.Position) { return h, broker.Position{MS: h.MS, Seq: h.Seq + 1} }},
		{"from the end of time", func(h broker.Position) (p, q broker.Position) {
			return h, broker.Position{MS: 1<<48 - 1, Seq: 1<<64 - 1}
		}},
		{"after something unknown", func(h broker.Position) (p, q broker.Position) {
			return broker.Position{MS: h.MS + 1}, broker.Position{MS: h.MS + 2}
		}},
		{"from the past", func(h broker.Position) (p, q broker.Position) {
			return broker.Position{MS: 1}, broker.Position{MS: 2, Tag: 9}
		}},
		{"the known one with another tag", func(h broker.Position) (p, q broker.Position) {
			return broker.Position{MS: 1}, broker.Position{MS: h.MS, Seq: h.Seq, Tag: ^h.Tag}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := newVictim(t)
			for _, data := range []string{"one", "two"} {
				if err := v.publish("attacked", data); err != nil {
					t.Fatal(err)
				}
			}
			v.gets("two")
			previous, position := tt.forged(read(t, v.backend, broker.Range{Channel: "attacked"}).Head)
			v.server.Client().Publish(t.Context(), "sluice:{attacked}:a", fmt.Sprintf("1 %s %s 0 0 0 0 forged", previous, position))
			for i := range 3 {
				v.goesOn()
				until(t, "each once", func() bool {
					v.attacked.take()
					return strings.Count(strings.Join(v.attacked.data, " "), "genuine") == i+1
				})
			}
			got := strings.ReplaceAll(strings.Join(v.attacked.data, " "), " forged", "")
			if got != "one two genuine genuine genuine" {
				t.Errorf("got %q", v.attacked.data)
			}
			t.Logf("%q, gaps %v", v.attacked.data, v.attacked.gaps)
			v.lives()
		})
	}
}

// TestForgedEntries: what others XADD to a history is left out or delivered safely.
func TestForgedEntries(t *testing.T) {
	v := newVictim(t)
	if err := v.publish("attacked", "first"); err != nil {
		t.Fatal(err)
	}
	v.gets("first")
	genesis := read(t, v.backend, broker.Range{Channel: "attacked", Newest: true, Limit: 1}).Messages[0].Previous
	p, huge := genesis.String(), strings.Repeat("x", 10<<20)
	forged := [][]any{
		{"temperature", "21"},
		{"p", p, "x", "0001", "t", "0"},
		{"p", p, "x", "0001", "t", "yesterday", "d", "x"},
		{"p", p, "x", "0001", "t", "-1", "d", "x"},
		{"p", p, "x", "0001", "t", "99999999999999999999", "d", "x"},
		{"p", "one-two-three", "x", "0001", "t", "0", "d", "x"},
		{"p", "-", "x", "0001", "t", "0", "d", "x"},
		{"p", p, "x", "tag", "t", "0", "d", "x"},
		{"p", p, "x", "", "t", "0", "d", "x"},
		{"p", "281474976710655-0-0000", "x", "0001", "t", "0", "d", "backwards"},
		{"p", p, "x", "0001", "t", "0", "d", "x", "e", "a\nb"},
		{"p", p, "x", "0001", "t", "0", "d", "x", "k", "\xff"},
		{"p", p, "x", "0001", "t", "0", "d", "x", "e", "reconnect"},
		{"p", p, "x", "0001", "t", "0", "d", huge},
		{"p", p, "x", "0001", "t", "0", "d", "x", "e", huge},
		{"p", p, "x", "0001", "t", huge, "d", "x"},
		{huge, huge},
	}
	for _, values := range forged {
		if err := v.server.Client().XAdd(t.Context(), addArgs("sluice:{attacked}:s", values...)).Err(); err != nil {
			t.Fatal(err)
		}
	}
	s := v.backend.Stats()
	before := s.DroppedMalformed.Load() + s.DroppedTooLarge.Load()
	page := read(t, v.backend, broker.Range{Channel: "attacked", After: genesis, Limit: 100})
	if got := text(page); got != "first" {
		t.Errorf("read %.100q, want the first alone", got)
	}
	if n := s.DroppedMalformed.Load() + s.DroppedTooLarge.Load() - before; n != int64(len(forged)) {
		t.Errorf("%d dropped, want %d", n, len(forged))
	}
	v.goesOn()
	v.lives()
}

// TestForgedKeys: what somebody else writes over a channel's keys is the end of that channel until it is gone, and of no other.
func TestForgedKeys(t *testing.T) {
	for _, tt := range []struct {
		name string
		hurt func(ctx context.Context, c *goredis.Client)
	}{
		{"no position", func(ctx context.Context, c *goredis.Client) { c.Set(ctx, "sluice:{attacked}:m", "x", 0) }},
		{"10 MiB for a position", func(ctx context.Context, c *goredis.Client) {
			c.Set(ctx, "sluice:{attacked}:m", strings.Repeat("1", 10<<20), 0)
		}},
		{"a list for a position", func(ctx context.Context, c *goredis.Client) {
			c.Del(ctx, "sluice:{attacked}:m")
			c.RPush(ctx, "sluice:{attacked}:m", "x")
		}},
		{"a text for a history", func(ctx context.Context, c *goredis.Client) { c.Set(ctx, "sluice:{attacked}:s", "x", 0) }},
		{"the last ID that there is", func(ctx context.Context, c *goredis.Client) {
			c.XAdd(ctx, &goredis.XAddArgs{Stream: "sluice:{attacked}:s", ID: "18446744073709551615-18446744073709551615", Values: []any{"a", "b"}})
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := newVictim(t)
			if err := v.publish("attacked", "first"); err != nil {
				t.Fatal(err)
			}
			v.gets("first")
			tt.hurt(t.Context(), v.server.Client())
			if err := v.publish("attacked", "x"); err == nil {
				t.Error("publishing there answered no error: what does this case hurt?")
			}
			v.lives()
			v.server.Client().Del(t.Context(), "sluice:{attacked}:m", "sluice:{attacked}:s")
			v.goesOn()
			v.lives()
		})
	}
}

// TestBulkLimit: this is what keeps 10 MiB from reaching a node at all, which has to read them to drop them.
func TestBulkLimit(t *testing.T) {
	s := redistest.Start(t, "--proto-max-bulk-len", "2mb")
	b, r := run(t, s, nil)
	join(t, b, r, "news")
	client := goredis.NewClient(&goredis.Options{Addr: s.Addr(), Protocol: 2, DisableIdentity: true, MaxRetries: -1})
	defer client.Close()
	if err := client.Publish(t.Context(), "news", strings.Repeat("x", 10<<20)).Err(); err == nil {
		t.Error("Redis took 10 MiB")
	}
	publish(t, b, "news", strings.Repeat("y", 1<<20), broker.PublishOptions{})
	until(t, "the largest payload", func() bool { return len(r.of("news")) == 1 })
	if n := b.Stats().DroppedTooLarge.Load(); n != 0 {
		t.Errorf("%d reached the node", n)
	}
}
