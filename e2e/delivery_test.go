package e2e

import (
	"fmt"
	"testing"
	"time"
)

// wishes are the combinations of what a client may ask for that the tests go through.
var wishes = []wish{
	{},
	{rate: "20/s"},
	{rate: "5/s", conflate: "key"},
	{rate: "10/s", conflate: "latest"},
	{batch: "50ms"},
	{batch: "100ms,10"},
	{batch: "50ms", conflate: "key"},
	{conflate: "key", filter: `event != "noise"`},
	{filter: `data.side == "buy"`},
	{rate: "10/s", batch: "50ms,20", conflate: "key", filter: `event == "trade" && data.side == "buy"`},
}

// batchCut is the mean of bytes until a cut. A batch comes whole or not at all: one of 16 KiB of small
// payloads is a frame of 40 KiB, which must have a chance.
const batchCut = 20000

// policies are rules for the rig's channels: one conflates, one holds back, one filters.
func policies() map[string]rule {
	return map[string]rule{
		"orders": {wish: wish{rate: "10/s", conflate: "key"}, slow: "256 conflate"},
		"news":   {wish: wish{rate: "20/s", batch: "50ms,40"}, slow: "256 history"},
		"chat:1": {wish: wish{filter: `event != "noise"`, batch: "50ms"}},
	}
}

// patient has slow clients get everything. With a small ring, one that is conflated because it is slow is rightly told
// a gap where messages without a key have left the ring.
func patient(rules map[string]rule) map[string]rule {
	for ch, r := range rules {
		if r.slow == "256 conflate" {
			r.slow = "256 history"
			rules[ch] = r
		}
	}
	return rules
}

// newDeliveryRig is newRig with publishers of quotes, and the given rules in a settings file that all
// nodes share; nil: there is none.
func newDeliveryRig(t *testing.T, rules map[string]rule, redisConfig []string, flags ...string) (*rig, *settings) {
	t.Helper()
	var s *settings
	if rules != nil {
		s = newSettings(t, rules)
		flags = append(flags, "--config", s.path)
	}
	r := newRig(t, redisConfig, 2, flags...)
	r.write = quotes(r.rng, 0, true)
	return r, s
}

// wishing adds a client of each wish, of all kinds that can resume in turn; base gives each its own base.
func (r *rig) wishing(rules map[string]rule, base func(i int) func(int) string, ws ...wish) {
	kinds := append(resumable, viaAll)
	offset := r.rng.IntN(len(kinds)) // over many runs every wish meets every kind
	for i, w := range ws {
		c := r.listen(kinds[(i+offset)%len(kinds)], w.String(), base(i))
		c.asks(rules, w)
	}
}

// asks has c ask for w of all its channels, which have the given rules.
func (c *client) asks(rules map[string]rule, w wish) {
	c.wish, c.terms = w, map[string]terms{}
	for _, ch := range c.channels {
		c.terms[ch] = termsOf(rules[ch].wish, w)
	}
}

// elsewhere has a client begin at one node and go to the next one whenever it is cut off.
func (r *rig) elsewhere(i int) func(int) string {
	return func(attempt int) string { return r.nodes[(i+attempt)%len(r.nodes)].url() }
}

// TestDeliveryAcrossCuts: whatever is asked for, and however connections end, what a client sees is a
// part of the channel in its order, once, with the newest message of each key; without conflation
// everything that passes its filter.
func TestDeliveryAcrossCuts(t *testing.T) {
	for _, tt := range []struct {
		name  string
		rules map[string]rule
		mean  int64         // bytes until a cut
		stall time.Duration // before it
		away  time.Duration // at most, until the client is back
		flags []string
	}{
		{"as wished", nil, batchCut, 0, 30 * time.Millisecond, nil},
		{"by the channels' policies", policies(), batchCut, 0, 30 * time.Millisecond, nil},
		{"stalled before, next to nothing in memory", patient(policies()), batchCut, 100 * time.Millisecond, 200 * time.Millisecond,
			[]string{"--ring-messages", "300", "--linger", "1ms", "--send-buffer", "4096"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r, _ := newDeliveryRig(t, tt.rules, nil, tt.flags...)
			cut := newCutter(r, tt.mean, tt.stall)
			r.wishing(tt.rules, func(i int) func(int) string {
				if i%3 == 0 {
					return cut.at(0)
				}
				return cut.alternate(i)
			}, wishes...)
			for _, c := range r.clients {
				c.away = tt.away
			}
			r.connect()
			r.publish(pace)
			r.published(2000)
			r.finishWhole(2000)
			if n := cut.cuts.Load(); n < 50 {
				t.Errorf("only %d connections were cut", n)
			}
		})
	}
}

// TestDeliveryNodeKilled: what a node that is killed held back is delivered by the other one.
func TestDeliveryNodeKilled(t *testing.T) {
	t.Parallel()
	rules := policies()
	r, _ := newDeliveryRig(t, rules, nil)
	r.wishing(rules, r.elsewhere, wishes...)
	r.connect()
	r.publish(2 * pace)
	for i := range 4 {
		r.published(200)
		r.nodes[i%2].kill()
		r.published(60)
		r.nodes[i%2].restart()
	}
	r.published(200)
	r.finishWhole(1000)
}

// TestDeliveryRedisKilled: what is held back while Redis is away, or repaired when it is back, is
// delivered like everything else. Nobody is cut off.
func TestDeliveryRedisKilled(t *testing.T) {
	t.Parallel()
	rules := policies()
	r, _ := newDeliveryRig(t, rules, []string{"appendonly", "yes", "appendfsync", "always"})
	r.wishing(rules, func(i int) func(int) string { return r.at(i % 2) }, wishes...)
	r.connect()
	r.publish(2 * pace)
	for range 2 {
		r.published(300)
		r.redis.Kill()
		r.redis.Restart()
	}
	r.published(300)
	r.finishWhole(900)
	for _, c := range r.clients {
		if c.kind != viaAll && c.connected != 1 {
			t.Errorf("%s has had %d connections, want 1: %v", c.name, c.connected, c.closeErrs)
		}
	}
}

// TestSkippedIsExact: over one connection, what came and what was told to be skipped is all that was
// published, live messages included.
func TestSkippedIsExact(t *testing.T) {
	t.Parallel()
	r, _ := newDeliveryRig(t, nil, nil)
	for i, w := range wishes {
		for _, k := range []kind{viaSSEJSON, viaWS} {
			r.listen(k, w.String(), r.at(i%2)).asks(nil, w)
		}
	}
	r.connect()
	began := time.Now()
	r.publish(2 * pace)
	live := map[string]int{}
	for i := range 200 {
		ch := r.channels[i%len(r.channels)]
		m := r.write(ch, fmt.Sprintf("live|%d", i))
		if _, err := r.redis.Client().FCall(r.ctx, "sluice_publish", []string{ch}, m.data, "live", 1, "key", "live", "event", m.event).Result(); err != nil {
			t.Fatal(err)
		}
		live[ch]++
	}
	r.published(800)
	r.end()
	took := time.Since(began)
	for _, c := range r.clients {
		if c.connected != 1 {
			t.Errorf("%s has had %d connections, want 1: %v", c.name, c.connected, c.closeErrs)
		}
		came, skipped := map[string]int{}, map[string]int{}
		for _, m := range c.got {
			if m.gap != nil {
				t.Errorf("%s: a gap %+v", c.name, m.gap)
				continue
			}
			came[m.channel]++
			skipped[m.channel] += m.skipped
		}
		for _, ch := range r.channels {
			if want := len(r.ledger.channels[ch]) + live[ch]; came[ch]+skipped[ch] != want {
				t.Errorf("%s: %s: %d came and %d were told to be skipped, together %d, want %d", c.name, ch, came[ch], skipped[ch], came[ch]+skipped[ch], want)
			}
			if c.wish.conflate == "" && c.wish.filter == "" && skipped[ch] > 0 {
				t.Errorf("%s: %s: %d skipped, want none", c.name, ch, skipped[ch])
			}
			if at := int(10*took.Seconds()) + 2; c.wish.rate == "10/s" && c.wish.conflate == "latest" && came[ch] > at {
				t.Errorf("%s: %s: %d messages in %v, want at most %d", c.name, ch, came[ch], took, at)
			}
		}
	}
}
