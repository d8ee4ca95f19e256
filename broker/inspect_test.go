package broker_test

import (
	"context"
	"testing"
	"time"

	"sluice/broker"
)

// What operators are told is what is there: what a policy holds back is nobody's lag.
func TestInspect(t *testing.T) {
	inLane(t, 16, func(r *laneRig) {
		n := r.log.Lane(&broker.Policy{ID: "p", Stages: []broker.Stage{every(time.Second)}})
		defer n.Release()
		var plain broker.Subscription
		r.log.Subscribe(&plain, broker.Position{})
		held := r.subscribe(n, broker.Position{})
		behind := func(s *broker.Subscription, end uint64, messages uint64, history bool) {
			t.Helper()
			if m, h := s.Behind(end); m != messages || h != history {
				t.Errorf("behind by %d, history %v; want %d, %v", m, h, messages, history)
			}
		}
		next := func() uint64 { _, next := r.log.Span(); return next }
		publish := func() { r.publish("", false); n.Poll(time.Now()) }
		publish()
		publish()
		publish()
		behind(&plain, next(), 3, false)
		behind(held, n.Newest(), 1, false)
		take(held)
		take(&plain)
		behind(&plain, next(), 0, false)
		behind(held, n.Newest(), 0, false)
		for range 20 {
			publish()
		}
		behind(&plain, next(), 20, false)
		plain.Take() // the ring has passed it: a page of history is on its way
		behind(&plain, next(), 0, true)
		take(&plain)
		behind(&plain, next(), 0, false)

		s := r.log.Inspect()
		r0, err := r.broker.Publish(context.Background(), &broker.Message{Channel: "c", Data: []byte("0")}, broker.PublishOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if s.State != "live" || s.Messages != 16 || s.Received != 23 || s.Bytes < 16*256 || s.Last.IsZero() || !s.Last.Before(r0.Position) {
			t.Errorf("inspected %+v", s)
		}
		if first, end := r.log.Span(); end-first != 16 {
			t.Errorf("the ring spans %d", end-first)
		}
		if logs := r.broker.Logs(); len(logs) != 1 || logs[0] != r.log {
			t.Errorf("%d logs", len(logs))
		}
	})
	idle := broker.New(nil, broker.Options{}).Open("c")
	if s := idle.Inspect(); s != (broker.LogState{State: "joining"}) {
		t.Errorf("before it is joined: %+v", s)
	}
}
