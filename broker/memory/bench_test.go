package memory_test

import (
	"context"
	"fmt"
	"runtime"
	"testing"

	"sluice/broker"
	"sluice/broker/memory"
)

func BenchmarkPublish(b *testing.B) {
	payload := make([]byte, 128)
	for _, row := range []struct {
		name     string
		channels int
		joined   bool
		id       bool
		live     bool
	}{
		{name: "one", channels: 1},
		{name: "one/joined", channels: 1, joined: true},
		{name: "one/live", channels: 1, joined: true, live: true},
		{name: "one/id", channels: 1, id: true},
		{name: "1000", channels: 1000},
	} {
		b.Run(row.name, func(b *testing.B) {
			backend := memory.New(memory.Config{MaxBytes: 4 << 30})
			names := make([]string, row.channels)
			for i := range names {
				names[i] = fmt.Sprint("channel-", i)
			}
			ctx, cancel := context.WithCancel(b.Context())
			joined, ran := make(chan struct{}), make(chan error, 1)
			go func() { ran <- backend.Run(ctx, sink{joined: func([]string) { close(joined) }}) }()
			if row.joined {
				backend.Join(names...)
				<-joined
			}
			o := broker.PublishOptions{Live: row.live}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if row.id {
					o.ID = fmt.Sprint(i)
				}
				m := broker.Message{Channel: names[i%len(names)], Data: payload}
				if _, err := backend.Publish(ctx, &m, o); err != nil {
					b.Fatal(err)
				}
			}
			cancel()
			<-ran
		})
	}
}

func BenchmarkPublishParallel(b *testing.B) {
	backend := memory.New(memory.Config{})
	payload := make([]byte, 128)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := backend.Publish(b.Context(), &broker.Message{Channel: "one", Data: payload}, broker.PublishOptions{}); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// BenchmarkIdleChannel reports what a channel costs that was touched once.
func BenchmarkIdleChannel(b *testing.B) {
	const n = 100_000
	for b.Loop() {
		names := make([]broker.Range, n)
		for i := range names {
			names[i].Channel = fmt.Sprintf("user-%08d", i)
		}
		before := heap()
		backend := memory.New(memory.Config{})
		for i := range n {
			if _, err := backend.Read(b.Context(), names[i:i+1]); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(heap()-before)/n, "B/channel")
		runtime.KeepAlive(backend)
		runtime.KeepAlive(names)
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
