package transport

import (
	"context"
	"fmt"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"sluice/broker"
	"sluice/broker/memory"
)

// BenchmarkSurvey is one GET /admin/sessions over so many sessions of one writer, on one channel, or each on one of its own.
// step-ms is how long the writer is kept from its sessions at a time: 99 of 100 steps are not longer.
func BenchmarkSurvey(b *testing.B) {
	for _, sessions := range []int{10_000, 100_000} {
		for _, channels := range []int{1, sessions} {
			for _, limit := range []int{20, maxListed} {
				b.Run(fmt.Sprintf("sessions=%d/channels=%d/limit=%d", sessions, channels, limit), func(b *testing.B) {
					benchSurvey(b, sessions, channels, fmt.Sprintf("/admin/sessions?limit=%d", limit))
				})
			}
		}
	}
	b.Run("channels of 100000", func(b *testing.B) { benchSurvey(b, 100_000, 100_000, "/admin/channels?limit=20") })
}

func benchSurvey(b *testing.B, sessions, channels int, path string) {
	c := DefaultConfig()
	c.Access, c.Writers, c.Admin = everyone{}, 1, true
	br := broker.New(memory.New(memory.DefaultConfig()), broker.Options{})
	ctx, stop := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- br.Run(ctx) }()
	defer func() { stop(); <-ran }()
	s, err := New(br, c, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = s.poller.file.Close() }()
	w := s.writers[0]
	for i := range sessions {
		ss := s.newSession(everyone{}, overSSE)
		ss.format, ss.link, ss.ledger = sse{}, nowhere{}, &ledger{since: time.Now().UnixMilli()}
		w.start(ss, &listenRequest{choice: choice{channels: []string{fmt.Sprint("channel ", i%channels)}, since: make([]broker.Position, 1)}, grant: everyone{}})
	}
	h := s.Admin()
	r := httptest.NewRequest("GET", path, nil)
	var steps []time.Duration
	b.ReportAllocs()
	for b.Loop() {
		answered := make(chan int, 1)
		go func() {
			rec := httptest.NewRecorder()
			h.ServeHTTP(rec, r)
			answered <- rec.Code
		}()
		for code := 0; code == 0; {
			select {
			case code = <-answered:
				if code != 200 {
					b.Fatal(code)
				}
			case <-w.wake:
				w.mu.Lock()
				posts := w.posts
				w.posts = nil
				w.mu.Unlock()
				begin := time.Now()
				for _, f := range posts {
					f()
				}
				steps = append(steps, time.Since(begin))
			}
		}
	}
	slices.Sort(steps)
	b.ReportMetric(float64(steps[len(steps)*99/100].Microseconds())/1000, "step-ms")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*sessions), "ns/session")
}
