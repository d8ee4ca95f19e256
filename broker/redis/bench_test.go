package redis

import (
	"context"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"sluice/broker"
	"sluice/broker/redistest"
)

// BenchmarkPublish is 64 publishers at once, on 100 channels, 128 bytes a message.
func BenchmarkPublish(b *testing.B) {
	for _, kind := range []struct {
		name string
		o    broker.PublishOptions
	}{{"durable", broker.PublishOptions{}}, {"live", broker.PublishOptions{Live: true}}} {
		b.Run(kind.name, func(b *testing.B) {
			s := redistest.Start(b)
			backend, err := New(Config{URL: s.URL()})
			if err != nil {
				b.Fatal(err)
			}
			defer backend.Close()
			data := make([]byte, 128)
			var n atomic.Int64
			b.ReportAllocs()
			b.SetParallelism(32)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					m := &broker.Message{Channel: "room:" + numbered(int(n.Add(1)%100)), Data: data}
					if _, err := backend.Publish(context.Background(), m, kind.o); err != nil {
						b.Error(err)
						return
					}
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
			b.ReportMetric(redisTime(b, s, "fcall")+redisTime(b, s, "publish"), "redis-µs/op")
		})
	}
}

// redisTime returns the microseconds that Redis needed for one call of a command.
func redisTime(b *testing.B, s *redistest.Server, command string) float64 {
	stats, err := s.Client().Info(b.Context(), "commandstats").Result()
	if err != nil {
		b.Fatal(err)
	}
	_, stats, ok := strings.Cut(stats, "cmdstat_"+command+":")
	if !ok {
		return 0
	}
	_, stats, _ = strings.Cut(stats, "usec_per_call=")
	number, _, _ := strings.Cut(stats, ",")
	us, err := strconv.ParseFloat(number, 64)
	if err != nil {
		b.Fatal(err)
	}
	return us
}

// BenchmarkParseAnnouncement is what a node does for every durable message before it is delivered.
func BenchmarkParseAnnouncement(b *testing.B) {
	s := "1 1795426843459-0-9f3c 1795426843460-1-0001 1795426843459123 7 2 0 createdk1" + string(make([]byte, 128))
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := parseAnnouncement("news", s); !ok {
			b.Fatal("refused")
		}
	}
}
