package broker_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"sluice/broker"
)

// After a node's restart all its clients come back at once, to a node that remembers nothing. What
// they missed is read once and not once for each of them.
func TestResumeStormCostsAFewReads(t *testing.T) {
	const clients, messages = 5000, 900
	link := newShaky(0)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	var nodes []*broker.Broker
	for i := range 2 {
		b := broker.New(link.node(uint64(i)), broker.Options{})
		nodes = append(nodes, b)
		running.Go(func() { _ = b.Run(ctx) })
	}
	waitForRun(ctx, t, link)
	var at []broker.Position
	for i := range messages {
		r, err := nodes[0].Publish(ctx, &broker.Message{Channel: "c", Data: []byte(fmt.Sprint(i))}, broker.PublishOptions{})
		if err != nil {
			t.Fatal(err)
		}
		at = append(at, r.Position)
	}

	fresh := nodes[1]
	before := fresh.Stats().Reads.Load()
	r := &reader{notices: make(chan struct{}, 1)}
	log := fresh.Open("c")
	defer log.Close()
	log.Listen(r)
	defer log.Unlisten(r)
	subs := make([]broker.Subscription, clients)
	for i := range subs {
		log.Subscribe(&subs[i], at[700+i%100]) // they left off in different places
	}
	for i := range subs {
		next := 700 + i%100 + 1
		for next < messages {
			b := subs[i].Take()
			if b == nil {
				select {
				case <-r.notices:
				case <-ctx.Done():
					t.Fatalf("client %d is stuck before message %d", i, next)
				}
				continue
			}
			for _, m := range b.Messages {
				if string(m.Data) != fmt.Sprint(next) {
					t.Fatalf("client %d: got %s %+v, want %d", i, m.Data, m.Gap, next)
				}
				next++
			}
		}
	}
	if reads := fresh.Stats().Reads.Load() - before; reads > 4 {
		t.Errorf("%d clients cost %d reads of the history, want a few", clients, reads)
	} else {
		t.Logf("%d clients cost %d reads", clients, reads)
	}
}

func BenchmarkResume(b *testing.B) {
	link := newShaky(0)
	node := broker.New(link.node(1), broker.Options{})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- node.Run(ctx) }()
	defer func() { cancel(); <-done }()
	log := node.Open("c")
	defer log.Close()
	r := &reader{notices: make(chan struct{}, 1)}
	log.Listen(r)
	defer log.Unlisten(r)
	var first broker.Subscription
	log.Subscribe(&first, broker.Position{})
	for !first.Started() {
		<-r.notices
	}
	since := first.Position()
	for range 50 {
		if _, err := node.Publish(ctx, &broker.Message{Channel: "c", Data: make([]byte, 128)}, broker.PublishOptions{}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		var s broker.Subscription
		log.Subscribe(&s, since)
		if batch := s.Take(); len(batch.Messages) != 50 {
			b.Fatalf("got %d messages, want 50", len(batch.Messages))
		}
	}
}
