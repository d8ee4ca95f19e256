package broker_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sluice/broker"
)

// trim gives back what can be given back.
func (r *laneRig) trim() {
	r.t.Helper()
	for before := r.log.Inspect().Bytes; before > 16<<10; before = r.log.Inspect().Bytes {
		if r.broker.Trim(); r.log.Inspect().Bytes > max(before/2, 16<<10) {
			r.t.Fatalf("%d of %d bytes are left", r.log.Inspect().Bytes, before)
		}
	}
}

// A trimmed log is one with a smaller ring: what is durable comes from the history, of what is live a gap is told, and nothing
// comes twice.
func TestTrim(t *testing.T) {
	inLane(t, 1024, func(r *laneRig) {
		held := r.log.Lane(&broker.Policy{ID: "p", Stages: []broker.Stage{every(time.Second)}})
		defer held.Release()
		var quick, slow broker.Subscription
		r.log.Subscribe(&quick, broker.Position{})
		r.log.Subscribe(&slow, broker.Position{})
		paced := r.subscribe(held, broker.Position{})
		for range 200 {
			r.publish("", false)
		}
		take(&quick)
		r.trim()
		if s := r.log.Inspect(); s.Messages == 0 || s.Messages > 64 {
			t.Fatalf("%d messages are left, of 256 bytes at least", s.Messages)
		}
		r.publish("", false)
		time.Sleep(2 * time.Second)
		held.Poll(time.Now())
		for name, s := range map[string]*broker.Subscription{"slow": &slow, "paced": paced, "quick": &quick} {
			got, _ := take(s)
			want := 201
			if s == &quick {
				want = 1
			}
			if len(got) != want || !slices.IsSorted(got) || got[0] != 201-want || got[want-1] != 200 {
				t.Errorf("%s: %d messages: %v", name, len(got), got)
			}
		}
	})
}

// Not even one message is held if it is large and there is no memory.
func TestTrimOfOneMessage(t *testing.T) {
	inLane(t, 16, func(r *laneRig) {
		var quick, slow broker.Subscription
		r.log.Subscribe(&quick, broker.Position{})
		r.log.Subscribe(&slow, broker.Position{})
		m := &broker.Message{Channel: "c", Data: []byte(strings.Repeat("0", 64<<10))}
		if _, err := r.broker.Publish(context.Background(), m, broker.PublishOptions{Live: true}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := quick.Take(); got == nil || len(got.Messages) != 1 {
			t.Fatalf("got %+v", got)
		}
		r.trim()
		if s := r.log.Inspect(); s.Messages != 0 || s.Bytes != 0 {
			t.Fatalf("%d bytes of %d messages are left", s.Bytes, s.Messages)
		}
		r.publish("", true)
		if got, _ := take(&quick); !slices.Equal(got, []int{0}) {
			t.Errorf("who had it got %v", got)
		}
		if got, _ := take(&slow); !slices.Equal(got, []int{-1, 0}) {
			t.Errorf("who did not got %v, want a gap and what is new", got)
		}
	})
}
