package e2e

import (
	"fmt"
	"syscall"
	"testing"
	"time"
)

// TestDeliveryMix does at random what the other tests of delivery do one by one: clients that ask for
// this and that, change their mind, stall and are cut off; policies that change; nodes and Redis that end.
func TestDeliveryMix(t *testing.T) {
	t.Parallel()
	r, s := newDeliveryRig(t, map[string]rule{"news": {wish: wish{rate: "20/s"}}}, []string{"appendonly", "yes", "appendfsync", "always"},
		"--drain-time", "200ms", "--ring-messages", "400", "--linger", "100ms", "--retry", "100ms",
		"--command-rate", "1000", "--command-burst", "1000") // clients that change their minds every few messages, and catch up
	cut := newCutter(r, batchCut, 50*time.Millisecond)
	kinds := append(resumable, viaAll)
	for i := range 12 {
		base, where := cut.alternate(i), "cut off"
		if r.rng.IntN(3) == 0 {
			base, where = r.elsewhere(i), "elsewhere"
		}
		w := r.anyWish()
		c := r.listen(kinds[r.rng.IntN(len(kinds))], fmt.Sprintf("%s, %v", where, w), base)
		c.hop = 5 + r.rng.IntN(60)
		c.mixed(w)
		if r.rng.IntN(3) == 0 {
			c.moods = []wish{w, {rate: "20/s", filter: w.filter}, {batch: "30ms,10", filter: w.filter}, {filter: w.filter}}
		}
	}
	r.connect()
	r.publish(2 * pace)
	faults := []func(){
		func() { r.redis.do("CLIENT", "KILL", "TYPE", "pubsub") },
		func() { r.redis.Kill(); r.redis.Restart() },
		func() { n := r.nodes[r.rng.IntN(2)]; n.kill(); n.restart() },
		func() {
			n := r.nodes[r.rng.IntN(2)]
			n.signal(syscall.SIGTERM)
			n.wait(15 * time.Second)
			n.restart()
		},
		func() { r.change(s, r.anyRules()) },
		func() { r.spoil(s, badFiles[r.rng.IntN(len(badFiles))]); r.change(s, r.anyRules()) },
	}
	next := 0
	r.during(1200, 2*len(faults), 300*time.Millisecond, func() {
		if next%len(faults) == 0 {
			r.rng.Shuffle(len(faults), func(i, j int) { faults[i], faults[j] = faults[j], faults[i] })
		}
		faults[next%len(faults)]()
		next++
	})
	r.published(200)
	r.finishWhole(1400)
}

// anyWish draws a wish.
func (r *rig) anyWish() wish {
	pick := func(of ...string) string { return of[r.rng.IntN(len(of))] }
	return wish{
		rate:     pick("", "", "5/s", "20/s", "600/m"),
		batch:    pick("", "", "20ms", "100ms,10", "50ms,3"),
		conflate: pick("", "", "none", "key", "latest"),
		filter:   pick("", "", `event != "noise"`, `data.side == "buy"`),
	}
}

// anyRules draws rules that mixed allows for.
func (r *rig) anyRules() map[string]rule {
	rules := map[string]rule{}
	news, chat := r.anyWish(), r.anyWish()
	news.filter, news.conflate = "", ""
	chat.filter, chat.conflate = "", []string{"", "key"}[r.rng.IntN(2)]
	rules["news"] = rule{wish: news, slow: []string{"", "100 history", "300 disconnect"}[r.rng.IntN(3)]}
	rules["chat:1"] = rule{wish: chat, slow: []string{"", "100 conflate", "200 history"}[r.rng.IntN(3)]}
	return rules
}

// mixed has c ask for w while rules are drawn: at times "chat:1" is conflated.
func (c *client) mixed(w wish) {
	c.asks(map[string]rule{"chat:1": {wish: wish{conflate: "key"}}}, w)
}
