package e2e

import (
	"slices"
	"testing"
	"time"
)

// resumable are the kinds of clients that can be cut off and lose nothing.
var resumable = []kind{viaSSE, viaSSEJSON, viaWS}

// resumers are those, and those whose answers come as a whole or not at all: they get nowhere over connections that are cut every few thousand bytes.
var resumers = append(slices.Clip(resumable), viaPoll)

// everyKind adds those that can't resume, for faults that leave the clients' connections alone.
var everyKind = []kind{viaSSE, viaSSEJSON, viaWS, viaWSPlain}

const pace = 4 * time.Millisecond

func TestRedisKillsSubscribers(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, 2)
	r.listenEverywhere(everyKind...)
	r.connect()
	r.publish(pace)
	kills := 0
	r.during(2500, 10, 400*time.Millisecond, func() {
		if r.redis.do("CLIENT", "KILL", "TYPE", "pubsub") != "0" {
			kills++
		}
	})
	if kills < 4 {
		t.Errorf("only %d of the kills met a subscriber", kills)
	}
	r.finishWhole(2500)
}

func TestRedisPaused(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, 2)
	r.listenEverywhere(everyKind...)
	r.connect()
	r.publish(pace)
	r.published(1000)
	r.redis.Pause()
	r.pause(3 * time.Second)
	r.redis.Resume()
	r.published(1500)
	r.finishWhole(2500)
}

func TestRedisKilledWithAOF(t *testing.T) {
	t.Parallel()
	r := newRig(t, []string{"appendonly", "yes", "appendfsync", "always"}, 2)
	r.listenEverywhere(everyKind...)
	r.connect()
	r.publish(pace)
	for range 2 {
		r.published(800)
		r.redis.Kill()
		r.redis.Restart()
	}
	r.published(800)
	r.finishWhole(2400)
}

// TestRedisForgets: what Redis loses can't be delivered to those who were away, and must not be
// passed over in silence; those who were there have it once and in order as ever.
func TestRedisForgets(t *testing.T) {
	for _, tt := range []struct {
		name   string
		forget func(*redisServer)
	}{
		{"FLUSHALL", func(s *redisServer) { s.do("FLUSHALL") }},
		{"restart without persistence", func(s *redisServer) { s.Kill(); s.Restart() }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, []string{"appendonly", "no", "save", ""}, 2)
			r.listenEverywhere(everyKind...)
			cut := newCutter(r, 12000, 0)
			for i, k := range resumable { // away half of the time, and never back where they were
				r.listen(k, "either, cut off", cut.alternate(i))
			}
			r.connect()
			r.publish(pace)
			for range 3 {
				r.published(500)
				tt.forget(r.redis)
			}
			r.published(500)
			for c, v := range r.finish() {
				if c.kind == viaWSPlain {
					v.silent = 0 // bare payloads can't tell of gaps
				}
				if v.silent+v.duplicated+v.misordered+v.foreign > 0 {
					t.Errorf("%s: %s (silently lost %d, duplicated %d, misordered %d, foreign %d)",
						c.name, v.first, v.silent, v.duplicated, v.misordered, v.foreign)
				}
			}
		})
	}
}
