package redis

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"sluice/broker"
	"sluice/broker/redistest"
)

// modes are the two ways to have Redis execute our functions. What they do must be the same.
var modes = []struct {
	name   string
	adjust func(*Config)
}{
	{"functions", nil},
	{"scripts", func(c *Config) { c.NoFunctions = true }},
}

func TestPublishReachesHistoryAndListeners(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			b, r := run(t, redistest.Start(t), mode.adjust)
			join(t, b, r, "news")
			genesis := read(t, b, broker.Range{Channel: "news"}).Head
			at := time.UnixMicro(1795426843459123)
			m := &broker.Message{
				Channel: "news", Event: "créé", Key: "k 1", Trace: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
				Time: at, Data: []byte("a\x00b\r\n\xff"),
			}
			receipt, err := b.Publish(t.Context(), m, broker.PublishOptions{})
			if err != nil || receipt.Duplicate || receipt.Position.IsZero() {
				t.Fatalf("got %+v, %v", receipt, err)
			}
			publish(t, b, "news", "", broker.PublishOptions{})
			until(t, "both delivered", func() bool { return len(r.of("news")) == 2 })
			page := read(t, b, broker.Range{Channel: "news", After: genesis, Limit: 10})
			checkChain(t, genesis, page.Messages, page.Head)
			for name, got := range map[string]*broker.Message{"announcement": r.of("news")[0], "entry": page.Messages[0]} {
				if got.Channel != "news" || got.Event != m.Event || got.Key != m.Key || got.Trace != m.Trace ||
					!got.Time.Equal(at) || !bytes.Equal(got.Data, m.Data) || got.Position != receipt.Position || got.Previous != genesis {
					t.Errorf("%s: got %+v", name, got)
				}
			}
			for name, got := range map[string]*broker.Message{"announcement": r.of("news")[1], "entry": page.Messages[1]} {
				if got.Event != "" || got.Key != "" || len(got.Data) != 0 || got.Data == nil || got.Position != page.Head {
					t.Errorf("%s of an empty payload: got %+v", name, got)
				}
			}
		})
	}
}

func TestReadRanges(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			b := open(t, redistest.Start(t), mode.adjust)
			genesis := read(t, b, broker.Range{Channel: "c"}).Head
			var p []broker.Position
			for i := range 5 {
				p = append(p, publish(t, b, "c", fmt.Sprint(i), broker.PublishOptions{}).Position)
			}
			for _, tc := range []struct {
				name string
				r    broker.Range
				want string
			}{
				{"head only", broker.Range{}, ""},
				{"after genesis", broker.Range{After: genesis, Limit: 9}, "0 1 2 3 4"},
				{"after includes the entry itself", broker.Range{After: p[2], Limit: 9}, "2 3 4"},
				{"after takes the oldest", broker.Range{After: genesis, Limit: 2}, "0 1"},
				{"after the head", broker.Range{After: p[4], Limit: 9}, "4"},
				{"after something newer", broker.Range{After: broker.Position{MS: p[4].MS + 1}, Limit: 9}, ""},
				{"another tag is the same entry", broker.Range{After: broker.Position{MS: p[3].MS, Seq: p[3].Seq, Tag: ^p[3].Tag}, Limit: 9}, "3 4"},
				{"newest", broker.Range{Newest: true, Limit: 2}, "3 4"},
				{"newest of all", broker.Range{Newest: true, Limit: 9}, "0 1 2 3 4"},
				{"newest before", broker.Range{Newest: true, Before: p[3], Limit: 2}, "1 2"},
				{"newest before the first", broker.Range{Newest: true, Before: p[0], Limit: 2}, ""},
			} {
				tc.r.Channel = "c"
				got := read(t, b, tc.r)
				if text(got) != tc.want || got.Head != p[4] {
					t.Errorf("%s: got %q with head %v, want %q with head %v", tc.name, text(got), got.Head, tc.want, p[4])
				}
			}
		})
	}
}

func TestReadManyRanges(t *testing.T) {
	b := open(t, redistest.Start(t), nil)
	ranges := make([]broker.Range, 2*readChunk+7)
	for i := range ranges {
		ranges[i] = broker.Range{Channel: "c" + numbered(i), Limit: i % 2 * 10}
		if i%3 == 0 {
			publish(t, b, ranges[i].Channel, ranges[i].Channel, broker.PublishOptions{})
		}
	}
	pages, err := b.Read(t.Context(), ranges)
	if err != nil || len(pages) != len(ranges) {
		t.Fatalf("got %d pages, %v", len(pages), err)
	}
	for i, p := range pages {
		want := ""
		if i%3 == 0 && i%2 == 1 {
			want = ranges[i].Channel
		}
		if text(p) != want || p.Head.IsZero() {
			t.Errorf("range %d: got %q with head %v, want %q", i, text(p), p.Head, want)
		}
	}
}

func TestGenesis(t *testing.T) {
	b := open(t, redistest.Start(t), nil)
	g := read(t, b, broker.Range{Channel: "c"}).Head
	for range 200 { // both ways of reading the head
		if again := read(t, b, broker.Range{Channel: "c"}).Head; g.IsZero() || again != g {
			t.Fatalf("genesis %v, and then %v", g, again)
		}
	}
	publish(t, b, "c", "first", broker.PublishOptions{})
	page := read(t, b, broker.Range{Channel: "c", After: g, Limit: 9})
	checkChain(t, g, page.Messages, page.Head)
}

func TestIdempotency(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			b, r := run(t, redistest.Start(t), mode.adjust)
			join(t, b, r, "c", "d")
			first := publish(t, b, "c", "one", broker.PublishOptions{ID: "order-42"})
			again := publish(t, b, "c", "two", broker.PublishOptions{ID: "order-42"})
			if first.Duplicate || !again.Duplicate || again.Position != first.Position {
				t.Errorf("first %+v, again %+v", first, again)
			}
			if other := publish(t, b, "d", "three", broker.PublishOptions{ID: "order-42"}); other.Duplicate {
				t.Error("an ID counts for its own channel alone")
			}
			live := publish(t, b, "c", "four", broker.PublishOptions{ID: "l", Live: true})
			if twice := publish(t, b, "c", "four", broker.PublishOptions{ID: "l", Live: true}); live.Duplicate || !twice.Duplicate || !twice.Position.IsZero() {
				t.Errorf("live: first %+v, again %+v", live, twice)
			}
			publish(t, b, "c", "end", broker.PublishOptions{})
			until(t, "end", func() bool { return strings.HasSuffix(r.payloads("c"), "end") })
			if got := r.payloads("c"); got != "one four end" {
				t.Errorf("delivered %q, want each once", got)
			}
		})
	}
}

func TestIdempotencyWindow(t *testing.T) {
	s := redistest.Start(t)
	b := open(t, s, func(c *Config) { c.IdempotencyWindow = 50 * time.Millisecond })
	publish(t, b, "c", "one", broker.PublishOptions{ID: "i"})
	until(t, "window over", func() bool { return s.Client().Exists(t.Context(), "sluice:{c}:i:i").Val() == 0 })
	if r := publish(t, b, "c", "two", broker.PublishOptions{ID: "i"}); r.Duplicate {
		t.Error("a duplicate after the window")
	}
}

func TestLimits(t *testing.T) {
	s := redistest.Start(t)
	b := open(t, s, nil)
	g := read(t, b, broker.Range{Channel: "c"}).Head
	for i := range 250 {
		publish(t, b, "c", fmt.Sprint(i), broker.PublishOptions{Messages: 3})
	}
	page := read(t, b, broker.Range{Channel: "c", After: g, Limit: 500})
	if text(page) != "247 248 249" {
		t.Errorf("kept %q, want exactly the last 3", text(page))
	}
	if !g.Before(page.Messages[0].Previous) {
		t.Error("the oldest entry must show that something before it is gone")
	}

	publish(t, b, "c", "brief", broker.PublishOptions{Age: 30 * time.Millisecond})
	until(t, "stream expired", func() bool { return text(read(t, b, broker.Range{Channel: "c", After: g, Limit: 500})) == "" })
	head := read(t, b, broker.Range{Channel: "c"}).Head
	publish(t, b, "c", "next", broker.PublishOptions{})
	page = read(t, b, broker.Range{Channel: "c", After: head, Limit: 9})
	checkChain(t, head, page.Messages, page.Head)

	for age, want := range map[time.Duration]time.Duration{0: broker.DefaultHistoryAge, time.Hour: time.Hour, 100 * time.Hour: 100 * time.Hour} {
		publish(t, b, "d", "x", broker.PublishOptions{Age: age})
		ttl := s.Client().PTTL(t.Context(), "sluice:{d}:s").Val()
		if ttl > want || ttl < want-10*time.Second {
			t.Errorf("age %v: the stream expires in %v", age, ttl)
		}
		if meta := s.Client().PTTL(t.Context(), "sluice:{d}:m").Val(); meta <= ttl {
			t.Errorf("age %v: meta expires in %v, before the stream", age, meta)
		}
	}
}

// TestClockBack puts a channel's last position into the future, which is what a clock that goes back looks like.
func TestClockBack(t *testing.T) {
	for _, mode := range modes {
		for _, stream := range []string{"expired", "there"} {
			t.Run(mode.name+"/stream "+stream, func(t *testing.T) {
				s := redistest.Start(t)
				b := open(t, s, mode.adjust)
				future := broker.Position{MS: uint64(time.Now().Add(time.Minute).UnixMilli()), Seq: 9, Tag: 0xabcd}
				if stream == "there" {
					if err := s.Client().Do(t.Context(), "XADD", "sluice:{c}:s", future.StreamID(), "p", "1-0-0000", "x", "abcd", "t", "1", "d", "old").Err(); err != nil {
						t.Fatal(err)
					}
				}
				if err := s.Client().Set(t.Context(), "sluice:{c}:m", future.String(), 0).Err(); err != nil {
					t.Fatal(err)
				}
				for i := range 3 {
					publish(t, b, "c", fmt.Sprint(i), broker.PublishOptions{})
				}
				page := read(t, b, broker.Range{Channel: "c", After: broker.Position{MS: future.MS, Seq: 10}, Limit: 9})
				if text(page) != "0 1 2" {
					t.Errorf("got %q", text(page))
				}
				checkChain(t, future, page.Messages, page.Head)
			})
		}
	}
}

func TestMetaEvicted(t *testing.T) {
	s := redistest.Start(t)
	b := open(t, s, nil)
	one := publish(t, b, "c", "one", broker.PublishOptions{}).Position
	s.Client().Del(t.Context(), "sluice:{c}:m")
	if head := read(t, b, broker.Range{Channel: "c"}).Head; head != one {
		t.Errorf("read: head %v, want that of the stream, %v", head, one)
	}
	s.Client().Del(t.Context(), "sluice:{c}:m")
	publish(t, b, "c", "two", broker.PublishOptions{})
	page := read(t, b, broker.Range{Channel: "c", After: broker.Position{MS: one.MS, Seq: one.Seq + 1}, Limit: 9})
	checkChain(t, one, page.Messages, page.Head)
}

func TestRawPublish(t *testing.T) {
	s := redistest.Start(t)
	b, r := run(t, s, nil)
	join(t, b, r, "news")
	big := make([]byte, 1<<20)
	for i := range big {
		big[i] = byte(rand.Uint32())
	}
	var want [][]byte
	for _, p := range []string{"hello", `{"a":1}`, "", "\x00\xff\r\n", "1 - - 0 0 0 0 ", string(big)} {
		want = append(want, []byte(p))
		if n := s.Client().Publish(t.Context(), "news", p).Val(); n != 1 {
			t.Fatalf("PUBLISH reached %d subscribers", n)
		}
	}
	s.Client().Publish(t.Context(), "news", string(big)+"x")
	s.Client().Publish(t.Context(), "news", "end")
	want = append(want, []byte("end"))
	until(t, "all there", func() bool { return len(r.of("news")) == len(want) })
	for i, m := range r.of("news") {
		if !bytes.Equal(m.Data, want[i]) || m.Durable() || m.Channel != "news" {
			t.Errorf("message %d: %d bytes, durable %v, channel %s; want %d live bytes", i, len(m.Data), m.Durable(), m.Channel, len(want[i]))
		}
	}
	if n := b.Stats().DroppedTooLarge.Load(); n != 1 {
		t.Errorf("%d dropped as too large, want 1", n)
	}
}

func TestRawAndStoredKeepTheirOrder(t *testing.T) {
	s := redistest.Start(t)
	b, r := run(t, s, func(c *Config) { c.ChannelPrefix = "live:" })
	join(t, b, r, "c")
	var want []string
	for i := range 300 {
		want = append(want, numbered(i))
		switch i % 3 {
		case 0:
			s.Client().Publish(t.Context(), "live:c", numbered(i))
		case 1:
			publish(t, b, "c", numbered(i), broker.PublishOptions{})
		case 2:
			publish(t, b, "c", numbered(i), broker.PublishOptions{Live: true})
		}
	}
	until(t, "all there", func() bool { return len(r.of("c")) == len(want) })
	if got := r.payloads("c"); got != strings.Join(want, " ") {
		t.Errorf("got %s", got)
	}
}

func TestLiveKeepsItsFields(t *testing.T) {
	b, r := run(t, redistest.Start(t), nil)
	join(t, b, r, "c")
	m := &broker.Message{Channel: "c", Event: "moved", Key: "42", Trace: "00-t", Time: time.UnixMicro(1795426843459123), Data: []byte("x y")}
	for _, id := range []string{"", "i"} {
		if receipt, err := b.Publish(t.Context(), m, broker.PublishOptions{Live: true, ID: id}); err != nil || receipt != (broker.Receipt{}) {
			t.Fatalf("got %+v, %v", receipt, err)
		}
	}
	until(t, "both there", func() bool { return len(r.of("c")) == 2 })
	for i, got := range r.of("c") {
		if got.Durable() || got.Event != m.Event || got.Key != m.Key || got.Trace != m.Trace || !got.Time.Equal(m.Time) || string(got.Data) != "x y" {
			t.Errorf("%d: got %+v", i, got)
		}
	}
	if page := read(t, b, broker.Range{Channel: "c", Newest: true, Limit: 9}); len(page.Messages) != 0 {
		t.Errorf("live messages are in the history: %q", text(page))
	}
}

func TestProbe(t *testing.T) {
	s := redistest.Start(t)
	b, _ := run(t, s, func(c *Config) { c.ChannelsPerConn = 1 })
	b.Join("a", "b", "c")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := b.Probe(ctx); err != nil {
		t.Errorf("a healthy backend: %v", err)
	}
	if !b.Connected() || b.Stats().Connections.Load() != 3 {
		t.Errorf("connected %v with %d connections, want 3", b.Connected(), b.Stats().Connections.Load())
	}
	s.Kill()
	ctx, cancel = context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := b.Probe(ctx); !errors.Is(err, broker.ErrUnavailable) {
		t.Errorf("no Redis: got %v, want ErrUnavailable", err)
	}
}

func TestConfigRefused(t *testing.T) {
	for name, c := range map[string]Config{
		"scheme":         {URL: "http://localhost"},
		"prefix":         {Prefix: "a{b}"},
		"channel prefix": {ChannelPrefix: "sluice:{"},
		"timeouts":       {PingInterval: time.Second, LinkTimeout: time.Second},
	} {
		if b, err := New(c); err == nil {
			t.Errorf("%s: accepted", name)
			_ = b.Close()
		}
	}
}
