package transport

import (
	"context"
	"fmt"
	"testing"
	"time"

	"sluice/broker"
	"sluice/broker/memory"
	"sluice/middleware/auth"
)

// nowhere is a link that takes everything at once.
type nowhere struct{}

func (nowhere) write(b []byte, _ bool) (int, bool, error) { return len(b), false, nil }
func (nowhere) pinned() int                               { return 0 }
func (nowhere) unread() bool                              { return false }
func (nowhere) finish()                                   {}
func (nowhere) close()                                    {}

// BenchmarkFanout is one message, or a batch of 32, for 1,000 sessions of one writer, with everything but the sockets: what
// measuring adds shows here, and would not beside 5 µs of write(2).
func BenchmarkFanout(b *testing.B) {
	for _, metrics := range []bool{false, true} {
		for _, messages := range []int{1, 32} {
			for over, f := range []format{sse{}, wsJSON{}} {
				b.Run(fmt.Sprintf("metrics=%v/messages=%d/%s", metrics, messages, transports[over]), func(b *testing.B) {
					benchFanout(b, everyone{}, metrics, messages, f, carrier(over))
				})
			}
		}
	}
}

// BenchmarkFanoutAccess is the same for sessions that may listen as long as they like, and for those whose token and subscription end in an
// hour: a delivery asks nobody.
func BenchmarkFanoutAccess(b *testing.B) {
	token := &pass{Identity: auth.Identity{Subject: "alice", TokenID: "t1", Issued: time.Now(), Expires: time.Now().Add(time.Hour)}, channels: []string{"a"}}
	for _, who := range []struct {
		name  string
		grant Grant
	}{{"open", everyone{}}, {"token", token}} {
		for over, f := range []format{sse{}, wsJSON{}} {
			b.Run(fmt.Sprintf("access=%s/%s", who.name, transports[over]), func(b *testing.B) {
				benchFanout(b, who.grant, false, 1, f, carrier(over))
			})
		}
	}
}

func benchFanout(b *testing.B, grant Grant, metrics bool, messages int, f format, over carrier) {
	const sessions = 1000
	c := DefaultConfig()
	c.Access, c.Writers, c.Metrics = everyone{}, 1, metrics
	br := broker.New(memory.New(memory.DefaultConfig()), broker.Options{Arrivals: metrics})
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
	var admitted []auth.Admission
	if end := grant.Who().Expires; !end.IsZero() {
		admitted = []auth.Admission{{Until: end, Signed: true}}
	}
	for range sessions {
		ss := s.newSession(grant, over)
		ss.format, ss.link = f, nowhere{}
		if over == overWS {
			ss.ws = &wsInput{}
		}
		w.start(ss, &listenRequest{choice: choice{channels: []string{"a"}, since: make([]broker.Position, 1), admitted: admitted}, grant: grant})
	}
	for w.sessions[sessions-1].state != open {
		<-w.wake
		w.pass()
	}
	log := w.fans["a"].log
	end := broker.Subscription{}
	log.Subscribe(&end, broker.Position{})
	data := []byte("a payload of some bytes, as they are")
	b.ReportAllocs()
	for b.Loop() {
		for range messages {
			if _, err := br.Publish(ctx, &broker.Message{Channel: "a", Data: data}, broker.PublishOptions{Live: true}); err != nil {
				b.Fatal(err)
			}
		}
		for got := 0; got < messages; {
			if batch := end.Take(); batch != nil {
				got += len(batch.Messages)
				continue
			}
			<-w.wake
		}
		w.pass()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*sessions*messages), "ns/delivery")
}
