package redis

import (
	"errors"
	"os"
	"strings"
	"testing"

	goredis "github.com/redis/go-redis/v9"

	"sluice/broker"
	"sluice/broker/backendtest"
	"sluice/broker/redistest"
)

// documentedRules are those of the ACL SETUSER in docs/operating.md, so that what is written there is what is tested.
func documentedRules(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile("../../docs/operating.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), "redis-cli ACL SETUSER sluice reset on '>secret' ")
	line, _, closed := strings.Cut(rest, "\n```")
	if !found || !closed {
		t.Fatal("docs/operating.md has no ACL SETUSER for a node")
	}
	return strings.Fields(strings.NewReplacer("\\\n", " ", "'", "").Replace(line))
}

// TestBackendWithLeastRights runs the whole contract as the user that the manual describes.
func TestBackendWithLeastRights(t *testing.T) {
	rules := strings.Join(documentedRules(t), " ")
	replace := func(pairs ...string) []string {
		for i := 0; i < len(pairs); i += 2 {
			if !strings.Contains(rules, pairs[i]) {
				t.Fatalf("the manual's rules have no %q", pairs[i])
			}
		}
		return strings.Fields(strings.NewReplacer(pairs...).Replace(rules))
	}
	for _, tt := range []struct {
		name   string
		rules  []string
		adjust func(*Config)
	}{
		{"functions", replace(), nil},
		{"scripts", replace("+fcall +fcall_ro +function|load", "+evalsha +script|load +script|exists"), func(c *Config) { c.NoFunctions = true }},
		{"channel prefix", replace("&*", "&sluice:* &live:*"), func(c *Config) { c.ChannelPrefix = "live:" }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := redistest.StartUser(t, tt.rules)
			peer := func(t *testing.T) broker.Backend { return open(t, s, tt.adjust) }
			backendtest.Run(t, func(t *testing.T) broker.Backend {
				if err := s.Client().FlushAll(t.Context()).Err(); err != nil {
					t.Fatal(err)
				}
				return peer(t)
			}, peer)
			if denied := s.Client().Do(t.Context(), "ACL", "LOG").Val(); len(denied.([]any)) > 0 {
				t.Errorf("Redis has denied something: %v", denied)
			}
		})
	}
}

// TestLeastRightsAreLeast: who steals a node's password gets Sluice's keys, and no more.
func TestLeastRightsAreLeast(t *testing.T) {
	s := redistest.StartUser(t, documentedRules(t))
	b := open(t, s, nil)
	publish(t, b, "news", "x", broker.PublishOptions{}) // loads the functions
	if err := s.Client().Set(t.Context(), "other", "theirs", 0).Err(); err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{
		"KEYS *", "SCAN 0", "RANDOMKEY", "DBSIZE", "FLUSHALL", "FLUSHDB", "CONFIG GET requirepass", "CONFIG SET dir /tmp", "SHUTDOWN NOSAVE",
		"SAVE", "REPLICAOF NO ONE", "MODULE LIST", "MONITOR", "INFO", "ACL LIST", "ACL SETUSER sluice allcommands", "CLIENT LIST", "CLIENT KILL TYPE normal",
		"FUNCTION FLUSH", "FUNCTION DELETE sluice", "SCRIPT FLUSH", "EVAL return(1) 0", "EVALSHA x 0", "PSUBSCRIBE *", "SELECT 1", "MIGRATE h 1 k 0 1",
		"GET other", "SET other x", "DEL other", "XADD other * a b", "XRANGE other - +", "ZADD other 1 a", "HSET other a b", "PEXPIRE other 1",
		"GET sluicex", "COPY sluice:x other", "RENAME sluice:x other", "FCALL sluice_publish_2 2 other other2 x PUBLISH 0000 0 1 1 1 1 e k t 0",
		"FCALL sluice_revoke_1 2 other other2 PUBLISH c S 10 1\x00a 1 99999999999999",
	} {
		args := []any{}
		for _, word := range strings.Fields(command) {
			args = append(args, strings.ReplaceAll(word, "\x00", " "))
		}
		err := b.client.Do(t.Context(), args...).Err()
		var reply goredis.Error
		if !errors.As(err, &reply) || !strings.Contains(err.Error(), "NOPERM") && !strings.Contains(err.Error(), "can't access") &&
			!strings.Contains(err.Error(), "ACL failure") && !strings.Contains(err.Error(), "No permissions") {
			t.Errorf("%s: got %v, want to be denied", command, err)
		}
	}
	anonymous := goredis.NewClient(&goredis.Options{Addr: s.Addr(), Protocol: 2, DisableIdentity: true, MaxRetries: -1})
	defer anonymous.Close()
	if err := anonymous.Ping(t.Context()).Err(); err == nil || !strings.HasPrefix(err.Error(), "NOAUTH") {
		t.Errorf("without a password: got %v, want NOAUTH", err)
	}
	if got := s.Client().Get(t.Context(), "other").Val(); got != "theirs" {
		t.Errorf("somebody else's key is %q now", got)
	}
}
