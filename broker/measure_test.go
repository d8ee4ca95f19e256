package broker_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"sluice/broker"
	"sluice/broker/memory"
	"sluice/otel"
)

// TestResumesAreCounted: each subscription that came with a position is counted once, by what it took to serve it.
func TestResumesAreCounted(t *testing.T) {
	const ring, messages, kept = 32, 200, 100
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	backend := memory.New(memory.DefaultConfig())
	b := broker.New(backend, broker.Options{RingMessages: ring})
	ran := make(chan error, 1)
	go func() { ran <- b.Run(ctx) }()
	defer func() { cancel(); <-ran }()

	r := &reader{notices: make(chan struct{}, 1)}
	log := b.Open("a")
	defer log.Close()
	log.Listen(r)
	defer log.Unlisten(r)
	take := func(s *broker.Subscription, until func(*broker.Message) bool) {
		for {
			if batch := s.Take(); batch != nil {
				for _, m := range batch.Messages {
					if until(m) {
						return
					}
				}
				continue
			}
			select {
			case <-r.notices:
			case <-ctx.Done():
				t.Fatal("stuck")
			}
		}
	}
	var first broker.Subscription
	log.Subscribe(&first, broker.Position{})
	for !first.Started() {
		<-r.notices
	}
	var at []broker.Position
	for i := range messages {
		receipt, err := b.Publish(ctx, &broker.Message{Channel: "a", Data: fmt.Append(nil, i)}, broker.PublishOptions{Messages: kept})
		if err != nil {
			t.Fatal(err)
		}
		at = append(at, receipt.Position)
	}
	last := func(m *broker.Message) bool { return string(m.Data) == fmt.Sprint(messages-1) }
	take(&first, last) // which has been lapped, and is told a gap though it never was away
	for _, tt := range []struct {
		since int
		want  string
	}{
		{messages - 1, "memory"}, {messages - ring + 1, "memory"}, {messages - ring - 20, "history"}, {messages - kept + 1, "history"}, {3, "gap"},
	} {
		before := measured(t, b)
		var s broker.Subscription
		log.Subscribe(&s, at[tt.since])
		if tt.since < messages-1 {
			take(&s, last)
		}
		if got := measured(t, b); !strings.Contains(got, tt.want) || got == before {
			t.Errorf("since %d: %q after %q, want one more of %s", tt.since, got, before, tt.want)
		}
	}
	if got, want := measured(t, b), `{result="gap"} 1 {result="history"} 2 {result="memory"} 2 `; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if s := b.Stats(); s.Resumes.Load() != 5 || s.Gaps(broker.Truncated) != 2 || s.Durable.Load() != messages {
		t.Errorf("%d resumes, %d truncated, %d messages", s.Resumes.Load(), s.Gaps(broker.Truncated), s.Durable.Load())
	}
}

// measured returns what the broker tells of resumes.
func measured(t *testing.T, b *broker.Broker) (resumes string) {
	t.Helper()
	body, _, err := otel.NewPage(b.Measure).Render(nil)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(body)) {
		if rest, ok := strings.CutPrefix(line, "sluice_resumes_total"); ok {
			resumes += strings.TrimSpace(rest) + " "
		}
	}
	return resumes
}
