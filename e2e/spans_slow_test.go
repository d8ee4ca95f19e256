package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// So many messages of so many bytes are more than the kernel takes for a client that reads nothing, and less than a node holds of a channel.
const stalling, stallingBytes = 10, 40 << 10

// stallingData is the payload of the i-th of them.
func stallingData(i int) string { return fmt.Sprintf("%d|%s", i, strings.Repeat("x", stallingBytes)) }

// stalls returns a listener that reads nothing after its welcome, until the valve is turned.
func (r *traced) stalls(over string, i int, channel string) (*listener, *valve) {
	r.Helper()
	v := newValve()
	l := r.hearBy(v.dial, over, i, channel, "")
	v.turn(stalled)
	return l, v
}

// slowTime is what the search asks for. Healthy deliveries stay well below it, however busy the machine is.
const slowTime = time.Second

// TestJaegerFindsStalledClient: the search for slow deliveries finds what a client got late that had stalled, and nothing
// else, whether all messages are sampled or none is.
func TestJaegerFindsStalledClient(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ sampler, over, sampled, picked string }{
		{"always_on", "ws", "head", "hash"},
		{"always_off", "sse", "slow", "slow"},
	} {
		t.Run(tt.sampler, func(t *testing.T) {
			t.Parallel()
			j := startJaeger(t, 0)
			r := newTraced(t, j, 2, map[string]rule{"feed.*": {}}, []string{"OTEL_TRACES_SAMPLER=" + tt.sampler}, "--trace-slow", slowTime.String())
			late := r.lateOne(tt.over)
			slow := search{service: service, operation: "deliver feed.*", min: slowTime}
			j.awaitSearch(slow, 1)
			r.stopAll()
			found := j.search(slow)
			for _, tr := range found {
				r.wantsLate(tr, late, tt.over, tt.sampled, tt.picked)
			}
			all := j.search(search{service: service, limit: 1000})
			t.Logf("%d of %d traces have a slow delivery", len(found), len(all))
			switch {
			case len(found) > stalling:
				t.Errorf("%d traces are found, and %d messages could be late", len(found), stalling)
			case tt.sampler == "always_off" && len(all) != len(found):
				t.Errorf("%d traces are there, want those %d that are slow: %v", len(all), len(found), all)
			case tt.sampler == "always_on" && len(all) < 50:
				t.Errorf("only %d traces are there", len(all))
			}
		})
	}
}

// lateOne has messages come to healthy clients of several channels and nodes, while one client reads nothing for longer than slowTime.
// It returns the positions of the messages that it got late.
func (r *traced) lateOne(over string) (late []string) {
	r.Helper()
	var healthy []*listener
	for i := range 4 {
		healthy = append(healthy, r.hear([]string{"ws", "sse"}[i/2], i%2, fmt.Sprintf("feed.%d", i), ""))
	}
	neighbour := r.hear("ws", 1, "feed.stuck", "")
	stuck, valve := r.stalls(over, 1, "feed.stuck")
	for i := range stalling {
		late = append(late, r.put(0, "feed.stuck", "", stallingData(i)))
		neighbour.want(stallingData(i))
	}
	begin := time.Now()
	for n := 0; time.Since(begin) < slowTime*3/2; n++ { // while it waits
		for i, l := range healthy {
			data := fmt.Sprintf("%d of feed.%d", n, i)
			r.put(1-l.node, fmt.Sprintf("feed.%d", i), "", data)
			l.want(data)
		}
	}
	valve.turn(flowing)
	for i := range stalling {
		stuck.want(stallingData(i))
	}
	return late
}

// wantsLate fails the test if tr is not the trace of a message that came late, or does not say to whom.
func (r *traced) wantsLate(tr *trace, late []string, over, sampled, picked string) {
	r.Helper()
	found := 0
	for _, d := range tr.named("deliver feed.*") {
		if d.took() < slowTime {
			continue
		}
		found++
		d.wants("consumer", map[string]string{"messaging.destination.name": "feed.stuck", "sluice.sampled": sampled})
		if !slices.Contains(late, d.tag("messaging.message.id")) {
			r.Errorf("the message %s was not late", d.tag("messaging.message.id"))
		}
		slow := 0
		for _, push := range d.children() {
			if !strings.HasPrefix(push.Name, "push ") || push.took() < slowTime/2 {
				continue
			}
			slow++
			push.wants("internal", map[string]string{"sluice.transport": over, "sluice.picked": picked})
		}
		if slow != 1 {
			r.Errorf("%d clients were late, want one:\n%v", slow, tr)
		}
	}
	if found != 1 {
		r.Errorf("%d slow deliveries are found:\n%v", found, tr)
	}
}
