package redis

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"sluice/broker"
	"sluice/broker/redistest"
)

// fcall calls the public function as a stranger would.
func fcall(t *testing.T, s *redistest.Server, channel string, args ...any) (position string, duplicate int64, err error) {
	t.Helper()
	reply, err := s.Client().FCall(t.Context(), "sluice_publish", []string{channel}, args...).Slice()
	if err != nil {
		return "", 0, err
	}
	return reply[0].(string), reply[1].(int64), nil
}

// loaded waits until the public function is there.
func loaded(t *testing.T, s *redistest.Server) {
	t.Helper()
	until(t, "public function loaded", func() bool {
		return s.Client().FCallRO(t.Context(), "sluice_version", nil).Err() == nil
	})
}

func TestPublicFunction(t *testing.T) {
	s := redistest.Start(t)
	b, r := run(t, s, nil)
	join(t, b, r, "news")
	loaded(t, s)
	genesis := read(t, b, broker.Range{Channel: "news"}).Head
	began := time.Now().Add(-time.Second)

	const trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	var positions []string
	for _, args := range [][]any{
		{"plain"},
		{"named", "event", "created", "key", "42", "id", "order-42", "messages", "100", "age", "60000", "traceparent", trace},
		{"upper", "EVENT", "créé €😀", "Live", "0"},
		{[]byte("\x00\xff"), "event", ""},
		{""},
	} {
		position, duplicate, err := fcall(t, s, "news", args...)
		if err != nil || duplicate != 0 {
			t.Fatalf("%q: got %q, %d, %v", args, position, duplicate, err)
		}
		positions = append(positions, position)
	}
	again, duplicate, err := fcall(t, s, "news", "other", "id", "order-42")
	if again != positions[1] || duplicate != 1 || err != nil {
		t.Errorf("the same ID again: got %q, %d, %v, want %q, 1", again, duplicate, err, positions[1])
	}
	live, duplicate, err := fcall(t, s, "news", "live", "live", "1", "event", "e")
	if live != "" || duplicate != 0 || err != nil {
		t.Errorf("live: got %q, %d, %v", live, duplicate, err)
	}

	until(t, "all delivered", func() bool { return len(r.of("news")) == 6 })
	page := read(t, b, broker.Range{Channel: "news", After: genesis, Limit: 10})
	checkChain(t, genesis, page.Messages, page.Head)
	for i, m := range page.Messages {
		got := r.of("news")[i]
		if m.Position.String() != positions[i] || got.Position != m.Position || got.Event != m.Event || string(got.Data) != string(m.Data) {
			t.Errorf("message %d: history %+v, announced %+v, answered %s", i, m, got, positions[i])
		}
		if m.Time.Before(began) || m.Time.After(time.Now().Add(time.Second)) {
			t.Errorf("message %d: time %v, want now by Redis' clock", i, m.Time)
		}
	}
	if m := page.Messages[1]; m.Event != "created" || m.Key != "42" || m.Trace != trace {
		t.Errorf("named options: got %+v", m)
	}
	if got := page.Messages[2].Event; got != "créé €😀" {
		t.Errorf("event %q", got)
	}
	if m := r.of("news")[5]; m.Durable() || m.Event != "e" || string(m.Data) != "live" {
		t.Errorf("live: got %+v", m)
	}
}

func TestPublicFunctionLimits(t *testing.T) {
	s := redistest.Start(t)
	b, _ := run(t, s, nil)
	loaded(t, s)
	for i := range 5 {
		if _, _, err := fcall(t, s, "c", fmt.Sprint(i), "messages", 2, "age", 5000); err != nil {
			t.Fatal(err)
		}
	}
	if got := text(read(t, b, broker.Range{Channel: "c", Newest: true, Limit: 9})); got != "3 4" {
		t.Errorf("kept %q", got)
	}
	if ttl := s.Client().PTTL(t.Context(), "sluice:{c}:s").Val(); ttl > 5*time.Second || ttl < time.Second {
		t.Errorf("the stream expires in %v, want 5s", ttl)
	}
}

func TestPublicFunctionRefuses(t *testing.T) {
	s := redistest.Start(t)
	_, _ = run(t, s, nil)
	loaded(t, s)
	for _, tc := range []struct {
		name string
		keys []string
		args []any
		want string
	}{
		{"no key", nil, []any{"x"}, "want 1 key"},
		{"two keys", []string{"a", "a"}, []any{"x"}, "want 1 key"},
		{"empty channel", []string{""}, []any{"x"}, "bad channel name"},
		{"braces", []string{"a{b}"}, []any{"x"}, "bad channel name"},
		{"NUL in the channel", []string{"a\x00"}, []any{"x"}, "bad channel name"},
		{"line break", []string{"a\n"}, []any{"x"}, "bad channel name"},
		{"long channel", []string{strings.Repeat("a", 201)}, []any{"x"}, "bad channel name"},
		{"no payload", []string{"a"}, nil, "payload is missing"},
		{"odd", []string{"a"}, []any{"x", "event"}, "option event has no value"},
		{"unknown", []string{"a"}, []any{"x", "evnet", "e"}, "unknown option evnet"},
		{"unknown, with a line break", []string{"a"}, []any{"x", "e\r\n+OK", "e"}, "unknown option e??+OK"},
		{"twice", []string{"a"}, []any{"x", "key", "a", "KEY", "b"}, "option key is given twice"},
		{"NUL in the event", []string{"a"}, []any{"x", "event", "a\x00b"}, "event is not UTF-8 without control characters (byte 2)"},
		{"line break in the key", []string{"a"}, []any{"x", "key", "a\nb"}, "key is not"},
		{"Latin-1 in the ID", []string{"a"}, []any{"x", "id", "caf\xe9"}, "id is not"},
		{"long event", []string{"a"}, []any{"x", "event", strings.Repeat("e", 201)}, "event has 201 bytes"},
		{"reserved event", []string{"a"}, []any{"x", "event", "gap"}, "event is reserved"},
		{"live", []string{"a"}, []any{"x", "live", "yes"}, "live must be 1 or 0"},
		{"messages", []string{"a"}, []any{"x", "messages", "0"}, "messages must be"},
		{"messages", []string{"a"}, []any{"x", "messages", "1e3"}, "messages must be"},
		{"age", []string{"a"}, []any{"x", "age", "-5"}, "age must be"},
		{"age", []string{"a"}, []any{"x", "age", "99999999999"}, "age must be"},
		{"control character in the traceparent", []string{"a"}, []any{"x", "traceparent", "\x7f"}, "traceparent is not"},
	} {
		err := s.Client().FCall(t.Context(), "sluice_publish", tc.keys, tc.args...).Err()
		if err == nil || !strings.HasPrefix(err.Error(), "ERR sluice_publish: ") || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want an error with %q", tc.name, err, tc.want)
		}
	}
	if n := s.Client().DBSize(t.Context()).Val(); n != 0 {
		t.Errorf("%d keys were written by refused calls", n)
	}
}

// TestTextRule compares the rule for event, key and ID in Lua with the one in Go: what one lets
// through and the other does not would be stored and never delivered.
func TestTextRule(t *testing.T) {
	s := redistest.Start(t)
	_, _ = run(t, s, nil)
	loaded(t, s)
	var texts []string
	for _, r := range []rune{0x1f, 0x20, 0x7e, 0x7f, 0x80, 0x9f, 0xa0, 0x7ff, 0x800, 0x2027, 0x2028, 0x2029, 0x202a, 0xd7ff, 0xe000, 0xffff, 0x10000, 0x10ffff} {
		texts = append(texts, string(r), "a"+string(r)+"b")
	}
	texts = append(texts, "\xc0\x80", "\xc1\xbf", "\xe0\x9f\xbf", "\xed\xa0\x80", "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xc3", "\xe2\x82", "\xf0\x9f\x98")
	interesting := []byte{0x00, 0x41, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xa8, 0xbf, 0xc1, 0xc2, 0xdf, 0xe0, 0xe2, 0xed, 0xef, 0xf0, 0xf4, 0xf5, 0xff}
	for range 4000 {
		b := make([]byte, 1+rand.IntN(4))
		for i := range b {
			b[i] = interesting[rand.IntN(len(interesting))]
		}
		texts = append(texts, string(b))
	}
	p := s.Client().Pipeline()
	cmds := make([]*goredis.Cmd, len(texts))
	for i, x := range texts {
		cmds[i] = p.FCall(t.Context(), "sluice_publish", []string{"c"}, "", "live", "1", "key", x)
	}
	_, _ = p.Exec(t.Context())
	for i, x := range texts {
		if lua, want := cmds[i].Err() == nil, cleanText(x); lua != want {
			t.Errorf("%q: Lua takes it: %v, Go: %v (%v)", x, lua, want, cmds[i].Err())
		}
	}
}

// TestVersionsSideBySide runs an older and a newer Sluice on one Redis: the nodes' libraries don't
// touch each other, and the public one is replaced only by a newer one.
func TestVersionsSideBySide(t *testing.T) {
	s := redistest.Start(t)
	ctx := t.Context()
	b := open(t, s, nil)
	version := func() int {
		n, err := s.Client().FCallRO(ctx, "sluice_version", nil).Int()
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	next := strings.NewReplacer("sluice_publish_2", "sluice_publish_3", "sluice_read_2", "sluice_read_3", "sluice_ready_2", "sluice_ready_3", "name=sluice_2", "name=sluice_3").Replace(nodeLibrarySource())
	if err := s.Client().FunctionLoad(ctx, next).Err(); err != nil {
		t.Fatal(err)
	}
	publish(t, b, "c", "one", broker.PublishOptions{})
	if n := version(); n != publicVersion {
		t.Errorf("public library has version %d, want %d", n, publicVersion)
	}
	for _, step := range []struct{ load, want int }{
		{publicVersion, publicVersion}, {publicVersion + 5, publicVersion + 5}, {publicVersion, publicVersion + 5}, {publicVersion + 6, publicVersion + 6},
	} {
		if err := b.loadPublic(ctx, step.load); err != nil {
			t.Fatal(err)
		}
		if got := version(); got != step.want {
			t.Errorf("after loading version %d: %d, want %d", step.load, got, step.want)
		}
	}
	if err := b.load(ctx); err != nil {
		t.Fatal(err)
	}
	libraries, err := s.Client().FunctionList(ctx, goredis.FunctionListQuery{}).Result()
	if err != nil || len(libraries) != 3 {
		t.Errorf("got %d libraries, %v, want sluice, sluice_2 and sluice_3", len(libraries), err)
	}
	// Both versions and the public function write one line of history.
	publish(t, b, "c", "two", broker.PublishOptions{})
	if _, _, err := fcall(t, s, "c", "three"); err != nil {
		t.Fatal(err)
	}
	err = s.Client().FCall(ctx, "sluice_publish_3", []string{"sluice:{c}:s", "sluice:{c}:m"},
		"four", "PUBLISH", "beef", 1, 1000, 300000, 86400000, 300000, "", "", "", "0").Err()
	if err != nil {
		t.Fatal(err)
	}
	page := read(t, b, broker.Range{Channel: "c", Newest: true, Limit: 9})
	if text(page) != "one two three four" {
		t.Errorf("got %q", text(page))
	}
	checkChain(t, page.Messages[0].Previous, page.Messages, page.Head)
}

// TestLibraryOfNobody: something called sluice without a version is there already.
func TestLibraryOfNobody(t *testing.T) {
	s := redistest.Start(t)
	old := "#!lua name=sluice\nredis.register_function('sluice_publish', function() return 'old' end)"
	if err := s.Client().FunctionLoad(t.Context(), old).Err(); err != nil {
		t.Fatal(err)
	}
	_, _ = run(t, s, nil)
	loaded(t, s)
	if _, _, err := fcall(t, s, "c", "x"); err != nil {
		t.Error(err)
	}
}

// TestNoFunctionsRecognised hides the FUNCTION and FCALL commands, as a Redis 6 would not know them.
func TestNoFunctionsRecognised(t *testing.T) {
	s := redistest.Start(t, "--rename-command", "FUNCTION", "", "--rename-command", "FCALL", "", "--rename-command", "FCALL_RO", "")
	b, r := run(t, s, nil)
	join(t, b, r, "c")
	first := publish(t, b, "c", "one", broker.PublishOptions{ID: "i"})
	if again := publish(t, b, "c", "one", broker.PublishOptions{ID: "i"}); !again.Duplicate || again.Position != first.Position {
		t.Errorf("first %+v, again %+v", first, again)
	}
	if got := text(read(t, b, broker.Range{Channel: "c", Newest: true, Limit: 9})); got != "one" {
		t.Errorf("history %q", got)
	}
	until(t, "delivered", func() bool { return r.payloads("c") == "one" })
	reply, err := s.Client().EvalSha(t.Context(), publicFunction.sha, []string{"c"}, "by a stranger", "event", "e").Slice()
	if err != nil || reply[1].(int64) != 0 {
		t.Errorf("the public script: %v, %v", reply, err)
	}
	if _, err := s.Client().EvalSha(t.Context(), publicFunction.sha, []string{"c"}, "x", "event", "error").Slice(); err == nil || !strings.Contains(err.Error(), "reserved") {
		t.Errorf("the public script took a reserved event: %v", err)
	}
	until(t, "delivered", func() bool { return r.payloads("c") == "one by a stranger" })
	if err := s.Client().ScriptFlush(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	publish(t, b, "c", "two", broker.PublishOptions{})
}

func TestEverythingFlushed(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			s := redistest.Start(t)
			ctx := context.Background()
			b, r := run(t, s, func(c *Config) {
				c.VerifyInterval = 50 * time.Millisecond
				if mode.adjust != nil {
					mode.adjust(c)
				}
			})
			join(t, b, r, "c")
			old := publish(t, b, "c", "before", broker.PublishOptions{}).Position
			flush := func() {
				for _, err := range []error{s.Client().FlushAll(ctx).Err(), s.Client().FunctionFlush(ctx).Err(), s.Client().ScriptFlush(ctx).Err()} {
					if err != nil {
						t.Fatal(err)
					}
				}
			}
			flush()
			if p := publish(t, b, "c", "after", broker.PublishOptions{}).Position; !old.Before(p) {
				t.Errorf("position %v after %v went back", p, old)
			}
			flush()
			page := read(t, b, broker.Range{Channel: "c", After: old, Limit: 9})
			if len(page.Messages) != 0 || !old.Before(page.Head) {
				t.Errorf("a flushed channel: %q, head %v; want a genesis after %v", text(page), page.Head, old)
			}
			flush()
			publish(t, b, "c", "end", broker.PublishOptions{Live: true})
			until(t, "end", func() bool { return r.payloads("c") == "before after end" })
			if mode.name == "functions" {
				loaded(t, s) // though nobody has called it
			}
		})
	}
}

// TestRefusals maps what Redis says when it does not want to write now.
func TestRefusals(t *testing.T) {
	s := redistest.Start(t)
	b := open(t, s, nil)
	publish(t, b, "c", "x", broker.PublishOptions{})
	for _, tc := range []struct {
		name     string
		on, off  []any
		reading  bool // reading must still work
		channel  string
		wantText string
	}{
		{name: "OOM", on: []any{"CONFIG", "SET", "maxmemory", "1"}, off: []any{"CONFIG", "SET", "maxmemory", "0"}, reading: true, wantText: "OOM"},
		{name: "NOREPLICAS", on: []any{"CONFIG", "SET", "min-replicas-to-write", "1"}, off: []any{"CONFIG", "SET", "min-replicas-to-write", "0"}, wantText: "NOREPLICAS"},
	} {
		if err := s.Client().Do(t.Context(), tc.on...).Err(); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		_, err := b.Publish(t.Context(), &broker.Message{Channel: "c", Data: []byte("y")}, broker.PublishOptions{})
		if !isUnavailable(err) || !strings.Contains(err.Error(), tc.wantText) || time.Since(began) > 2*time.Second {
			t.Errorf("%s: got %v after %v, want ErrUnavailable at once", tc.name, err, time.Since(began))
		}
		if tc.reading {
			if got := text(read(t, b, broker.Range{Channel: "c", Newest: true, Limit: 9})); got != "x" {
				t.Errorf("%s: history %q", tc.name, got)
			}
			read(t, b, broker.Range{Channel: "new", Newest: true, Limit: 9})
		}
		if err := s.Client().Do(t.Context(), tc.off...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	s.Client().Set(t.Context(), "sluice:{wrong}:s", "not a stream", 0)
	if _, err := b.Publish(t.Context(), &broker.Message{Channel: "wrong"}, broker.PublishOptions{}); err == nil || isUnavailable(err) {
		t.Errorf("a key of another type: got %v, want an error that no retry mends", err)
	}
}
