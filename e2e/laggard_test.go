package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// laggardFlows are how the laggards of a channel read until they recover, one each.
var laggardFlows = []flow{stalled, stalled, crawling, crawling}

// TestLaggards: readers that stall or crawl cost their neighbours nothing, and when they recover they
// get what the channel's policy says. Two in four use each transport.
func TestLaggards(t *testing.T) {
	for _, tt := range []struct {
		then    string
		keyless bool   // some messages have no key
		ring    string // messages in the node's memory; slow is who is 300 behind
		check   func(*testing.T, *client, verdict)
	}{
		{"conflate", false, "400", checkConflated}, // the newest of each key are kept beyond it
		{"conflate", true, "2000", checkConflated},
		{"conflate", true, "400", checkConflatedGap}, // those without a key are not
		{"gap", true, "500", checkGap},
		{"history", true, "400", checkHistory},
		{"disconnect", true, "400", checkDisconnected},
	} {
		t.Run(fmt.Sprintf("%s, %s in memory, keyless %t", tt.then, tt.ring, tt.keyless), func(t *testing.T) {
			t.Parallel()
			rules := map[string]rule{"lag": {slow: "300 " + tt.then}}
			r, _ := newDeliveryRig(t, rules, nil, "--ring-messages", tt.ring, "--ring-bytes", "4MiB", "--retry", "100ms")
			r.channels, r.write = []string{"lag"}, quotes(r.rng, 1000, tt.keyless)
			var slow, healthy []*client
			var valves []*valve
			for i, f := range laggardFlows {
				k := []kind{viaSSEJSON, viaWS}[i%2]
				v := newValve()
				c := r.listen(k, []string{"crawling", "stalled"}[f-crawling], r.at(0))
				v.on(c)
				if tt.then == "conflate" {
					c.terms = map[string]terms{"lag": {conflate: "key"}}
				}
				slow, valves = append(slow, c), append(valves, v)
				healthy = append(healthy, r.listen(k, fmt.Sprintf("healthy %d", i), r.at(0)))
			}
			r.lagAndRecover(slow, valves, healthy)
			verdicts := r.finish()
			for _, c := range healthy {
				if v := verdicts[c]; v.lost+v.duplicated+v.misordered+v.foreign+len(v.gaps) > 0 || c.connected != 1 {
					t.Errorf("%s: %s (%+v, %d connections)", c.name, v.first, v, c.connected)
				}
			}
			for _, c := range slow {
				v := verdicts[c]
				if v.silent+v.duplicated+v.misordered+v.foreign > 0 {
					t.Errorf("%s: %s (%+v)", c.name, v.first, v)
				}
				tt.check(t, c, v)
			}
		})
	}
}

// lagAndRecover has the slow clients lag while everything reaches the healthy ones, and recover: from then
// on they get every message, too.
func (r *rig) lagAndRecover(slow []*client, valves []*valve, healthy []*client) {
	r.Helper()
	r.connect()
	for i, f := range laggardFlows {
		valves[i].turn(f)
	}
	r.publish(4 * pace)
	r.published(700)
	for _, c := range healthy {
		total := r.ledger.total()
		until(r.T, 10*time.Second, c.name+" has what was published", func() bool { return c.count() >= total })
	}
	for i, c := range slow {
		if n := c.count(); n > 300 {
			r.Fatalf("%s has %d messages already: it does not lag", c.name, n)
		}
		valves[i].turn(flowing)
	}
	// Whoever has something that was published after it recovered has caught up.
	recovered := r.ledger.total()
	r.published(20)
	recent := r.ledger.since("lag", recovered)
	for _, c := range slow {
		until(r.T, 20*time.Second, c.name+" has caught up", func() bool { return c.hasAny(recent) })
	}
	caughtUp := r.ledger.total()
	r.published(100)
	recent = r.ledger.since("lag", caughtUp)
	for _, c := range slow {
		until(r.T, 10*time.Second, c.name+" has every message since it had caught up", func() bool { return c.hasAll(recent) })
	}
}

// since returns the payloads of a channel that were acknowledged after the first n.
func (l *ledger) since(channel string, n int) map[string]bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	recent := map[string]bool{}
	for _, e := range l.channels[channel][n:] {
		recent[e.data] = true
	}
	return recent
}

// hasAny reports whether one of the payloads has come, hasAll whether all have.
func (c *client) hasAny(of map[string]bool) bool { return c.common(of) > 0 }
func (c *client) hasAll(of map[string]bool) bool { return c.common(of) == len(of) }

func (c *client) common(of map[string]bool) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.got {
		if of[m.data] {
			n++
		}
	}
	return n
}

// checkConflated: it has the newest of each key, and was spared the others.
func checkConflated(t *testing.T, c *client, v verdict) {
	if v.lost+len(v.gaps) > 0 || c.connected != 1 {
		t.Errorf("%s: %s (%+v, %d connections)", c.name, v.first, v, c.connected)
	}
	if v.superseded < 200 {
		t.Errorf("%s was spared %d messages, want 200 at least", c.name, v.superseded)
	}
	skipped := 0
	for _, m := range c.got {
		skipped += m.skipped
	}
	if skipped != v.superseded {
		t.Errorf("%s was told that %d were skipped, want %d", c.name, skipped, v.superseded)
	}
}

// checkConflatedGap: the same, but for messages without a key that were too many for the node's memory; it was told.
func checkConflatedGap(t *testing.T, c *client, v verdict) {
	if v.lost == 0 || v.gaps["lapped"] != 1 || c.connected != 1 {
		t.Errorf("%s: %s (%+v, %d connections), want one gap", c.name, v.first, v, c.connected)
	}
}

// checkGap: it was told, and went on.
func checkGap(t *testing.T, c *client, v verdict) {
	if v.gaps["lapped"] == 0 || len(v.gaps) != 1 || v.lost < 200 || c.connected != 1 {
		t.Errorf("%s: gaps %v, %d messages lost, %d connections; want gaps %q for 200 at least", c.name, v.gaps, v.lost, c.connected, "lapped")
	}
}

// checkHistory: it has everything.
func checkHistory(t *testing.T, c *client, v verdict) {
	if v.lost+len(v.gaps) > 0 || c.connected != 1 {
		t.Errorf("%s: %s (%+v, %d connections)", c.name, v.first, v, c.connected)
	}
}

// checkDisconnected: it was sent away with a reason, has come back, and has everything.
func checkDisconnected(t *testing.T, c *client, v verdict) {
	if v.lost+len(v.gaps) > 0 || c.connected < 2 {
		t.Errorf("%s: %s (%+v, %d connections)", c.name, v.first, v, c.connected)
	}
	told := false
	for _, e := range c.reconnects {
		told = told || e.body.Code == "slow_consumer" && e.body.Delay >= 100 && e.retry == e.body.Delay
	}
	for _, err := range c.closeErrs {
		told = told || websocket.IsCloseError(err, websocket.ClosePolicyViolation) && strings.Contains(err.Error(), "slow_consumer")
	}
	if !told {
		t.Errorf("%s was not told why it was sent away: %v, %v", c.name, c.reconnects, c.closeErrs)
	}
}
