package broker_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sluice/broker"
	"sluice/broker/memory"
)

// spoilt is a backend of which one channel can't be read as long as bad is set, and which verifies every five seconds.
type spoilt struct {
	broker.Backend
	bad atomic.Bool
}

func (s *spoilt) Read(ctx context.Context, ranges []broker.Range) ([]broker.Page, error) {
	pages, err := s.Backend.Read(ctx, ranges)
	for i, r := range ranges {
		if err == nil && r.Channel == "spoilt" && s.bad.Load() {
			pages[i] = broker.Page{Err: errors.New("not ours")}
		}
	}
	return pages, err
}

func (s *spoilt) Run(ctx context.Context, sink broker.Sink) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		tick := time.NewTicker(5 * time.Second)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				sink.Verify()
			case <-ctx.Done():
				return
			}
		}
	})
	return s.Backend.Run(ctx, sink)
}

// TestUnreadableChannel: a channel whose history can't be read waits, alone, and goes on when it can be.
func TestUnreadableChannel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		backend := &spoilt{Backend: memory.New(memory.DefaultConfig())}
		b := broker.New(backend, broker.Options{RingMessages: 16})
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error, 1)
		go func() { ran <- b.Run(ctx) }()
		var first broker.Position
		for i := range 5 {
			r, err := b.Publish(ctx, &broker.Message{Channel: "spoilt", Data: []byte{byte('a' + i)}}, broker.PublishOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if i == 0 {
				first = r.Position
			}
		}
		backend.bad.Store(true)
		var news, later, good broker.Subscription
		b.Open("spoilt").Subscribe(&news, broker.Position{})
		b.Open("good").Subscribe(&good, broker.Position{})
		time.Sleep(time.Minute)
		if news.Started() || !good.Started() {
			t.Fatalf("started: the spoilt channel %v, the good one %v", news.Started(), good.Started())
		}
		backend.bad.Store(false)
		time.Sleep(6 * time.Second) // one interval
		if !news.Started() {
			t.Fatal("the channel does not go on at the next Verify")
		}

		backend.bad.Store(true)
		b.Open("spoilt").Subscribe(&later, first) // the ring is empty: pages have to be read, by one of four fetchers
		time.Sleep(time.Minute)
		backend.bad.Store(false)
		time.Sleep(2 * time.Second)
		var got string
		for batch := later.Take(); batch != nil; batch = later.Take() {
			for _, m := range batch.Messages {
				if m.Gap != nil {
					t.Errorf("told of a gap: %+v", m.Gap)
				}
				got += string(m.Data)
			}
		}
		if got != "bcde" {
			t.Errorf("got %q, want what came after the first", got)
		}
		time.Sleep(time.Minute)
		cancel()
		if err := <-ran; err != nil {
			t.Error(err)
		}
	})
}
