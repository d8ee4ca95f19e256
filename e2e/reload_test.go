package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"syscall"
	"testing"
	"time"
)

// change puts other rules in force and waits until all nodes have heard of them: what they tell of the
// channel "version" is another window each time.
func (r *rig) change(s *settings, rules map[string]rule) {
	r.Helper()
	s.version++
	version := fmt.Sprintf("%dms", 100+s.version)
	rules = maps.Clone(rules)
	if rules == nil {
		rules = map[string]rule{}
	}
	rules["version"] = rule{wish: wish{batch: version}}
	s.write(r.T, rulesText(rules))
	r.hurry(s)
	for _, n := range r.nodes {
		until(r.T, 15*time.Second, "node "+n.name+" has the changed policies", func() bool {
			return strings.Contains(r.told(n, "version"), version)
		})
	}
}

// hurry has all nodes read their file now, every other time: they find out by themselves as well.
func (r *rig) hurry(s *settings) {
	r.Helper()
	if s.writes++; s.writes%2 == 0 {
		return
	}
	for _, n := range r.nodes {
		n.signal(syscall.SIGHUP)
	}
}

// told returns what node n tells a newcomer of the delivery on channel; "" is nothing, or no answer.
func (r *rig) told(n *node, channel string) string {
	st, err := openSSE(r.ctx, r.http, n.url()+"/sse?channel="+channel, "", false)
	if err != nil {
		return ""
	}
	defer st.close()
	return st.head.Get("Sluice-Deliver")
}

// spoil writes a file that can't be used and waits until all nodes have said so.
func (r *rig) spoil(s *settings, text string) {
	r.Helper()
	before := make([]int, len(r.nodes))
	for i, n := range r.nodes {
		before[i] = n.complaints()
	}
	s.write(r.T, text)
	r.hurry(s)
	for i, n := range r.nodes {
		until(r.T, 15*time.Second, "node "+n.name+" complains of the file", func() bool { return n.complaints() > before[i] })
	}
}

// complaints counts the warnings and errors about the settings file in the log.
func (n *node) complaints() (count int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for line := range strings.Lines(n.log.String()) {
		var l struct{ Level string }
		if strings.Contains(line, "sluice.yaml") && json.Unmarshal([]byte(line), &l) == nil && (l.Level == "WARN" || l.Level == "ERROR") {
			count++
		}
	}
	return count
}

// badFiles can't be used, each for another reason.
var badFiles = []string{
	"channels: [",
	"channels: [{match: orders, deliver: {rate: fast}}]",
	"channels: [{match: orders, deliver: {filter: 'event =='}}]",
	"channels: [{match: orders, deliver: {colour: red}}]",
	"channels: [{match: orders, slow: {ring: 10, then: panic}}]",
}

// TestPoliciesChange: the settings file changes while clients listen. None is cut off, and none loses or
// repeats anything but what the policies drop.
func TestPoliciesChange(t *testing.T) {
	t.Parallel()
	strict := `event == "trade" && data.side == "buy"`
	first := map[string]rule{
		"orders": {wish: wish{rate: "20/s"}},
		"news":   {wish: wish{rate: "10/s", conflate: "key"}},
		"chat:1": {wish: wish{filter: `event != "noise"`}},
	}
	stricter := map[string]rule{
		"orders": {wish: wish{rate: "4/s", batch: "50ms,20"}},
		"news":   {wish: wish{rate: "2/s", conflate: "key"}, slow: "256 conflate"},
		"chat:1": {wish: wish{rate: "5/s", filter: strict}},
	}
	laxer := map[string]rule{
		"orders": {wish: wish{rate: "40/s"}},
		"news":   {wish: wish{batch: "20ms"}},
		"chat:1": {wish: wish{filter: `event != "noise"`}},
	}
	r, s := newDeliveryRig(t, first, nil)
	for i, w := range []wish{{}, {}, {}, {rate: "10/s"}, {batch: "50ms"}, {conflate: "key"}, {filter: `data.side == "buy"`}, {rate: "5/s", conflate: "key"}} {
		k := resumable[i%len(resumable)]
		r.listen(k, w.String(), r.at(i%2)).mayAsk(w)
	}
	moody := r.listen(viaWS, "with moods", r.at(0))
	moody.mayAsk(wish{})
	moody.moods, moody.hop = []wish{{rate: "20/s"}, {batch: "50ms"}, {}, {rate: "50/s", batch: "20ms,5"}}, 40
	r.connect()
	r.publish(4 * pace)
	r.published(100)
	for _, rules := range []map[string]rule{stricter, laxer, nil, stricter} {
		r.change(s, rules)
		r.published(150)
	}
	for _, text := range badFiles {
		r.spoil(s, text)
		if is := r.told(r.nodes[0], "orders"); !strings.Contains(is, `rate="4/s"`) {
			t.Errorf("after the bad file %q, newcomers are told %q, want the rules from before it", text, is)
		}
	}
	r.published(100)
	r.change(s, first)
	r.published(100)
	r.finishWhole(800)
	for _, c := range r.clients {
		if c.connected != 1 {
			t.Errorf("%s has had %d connections, want 1: %v", c.name, c.connected, c.closeErrs)
		}
	}
}

// mayAsk has c ask for w while the policies change: "news" may be conflated by key and "chat:1" may be
// filtered at times.
func (c *client) mayAsk(w wish) {
	c.asks(map[string]rule{
		"news":   {wish: wish{conflate: "key"}},
		"chat:1": {wish: wish{filter: `event == "trade" && data.side == "buy"`}},
	}, w)
	chat := c.terms["chat:1"]
	chat.lenient = true
	c.terms["chat:1"] = chat
}
