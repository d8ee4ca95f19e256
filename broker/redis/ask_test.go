package redis

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"sluice/broker"
	"sluice/broker/redistest"
)

// TestForgedAsking: what is no question or no answer is dropped and counted, and genuine ones go on.
func TestForgedAsking(t *testing.T) {
	s := redistest.Start(t)
	a, _ := run(t, s, nil)
	b, told := run(t, s, nil)
	until(t, "up", func() bool { return a.Connected() && b.Connected() })
	control := b.keys.control(b.node + "/0")
	for _, tt := range []struct{ name, channel, payload string }{
		{"empty", "sluice:{!}:q", ""},
		{"another version", "sluice:{!}:q", "2 A B x"},
		{"no node", "sluice:{!}:q", "1  B x"},
		{"no id", "sluice:{!}:q", "1 A  x"},
		{"no text", "sluice:{!}:q", "1 A B"},
		{"a node that would be another channel", "sluice:{!}:q", "1 A/0}:n B x"},
		{"a long node", "sluice:{!}:q", "1 " + strings.Repeat("A", 41) + " B x"},
		{"lower case", "sluice:{!}:q", "1 a B x"},
		{"binary", "sluice:{!}:q", "\x00\xff"},
		{"too large", "sluice:{!}:q", "1 A B " + strings.Repeat("x", broker.MaxQuestion+1)},
		{"unreadable for the sink", "sluice:{!}:q", "1 A B unreadable"},
		{"an answer without an id", control, "a  x"},
		{"an answer without a text", control, "a A"},
		{"no answer", control, "b A x"},
		{"an echo that is no number", control, "-1"},
		{"an answer that is too large", control, "a A " + strings.Repeat("x", broker.MaxAnswer+1)},
	} {
		before := b.Stats().DroppedMalformed.Load()
		s.Client().Publish(t.Context(), tt.channel, tt.payload)
		until(t, tt.name+": dropped and counted", func() bool { return b.Stats().DroppedMalformed.Load() == before+1 })
	}
	before := b.Stats().DroppedMalformed.Load()
	s.Client().Publish(t.Context(), control, "a A nobody has asked")
	s.Client().Publish(t.Context(), "sluice:{!}:q", "1 A B good")
	until(t, "the good one", func() bool { told.mu.Lock(); defer told.mu.Unlock(); return len(told.asked) == 2 }) // and the unreadable one
	if n := b.Stats().DroppedMalformed.Load() - before; n != 0 {
		t.Errorf("%d were counted that are no nonsense", n)
	}
	asked := make(chan error, 1)
	go func() { _, err := a.Ask(t.Context(), []byte("genuine")); asked <- err }()
	until(t, "asked", func() bool { told.mu.Lock(); defer told.mu.Unlock(); return len(told.asked) == 3 })
	told.mu.Lock()
	q := told.asked[2]
	told.mu.Unlock()
	if err := q.Answer(t.Context(), []byte("yes")); err != nil || string(q.Text) != "genuine" {
		t.Errorf("%q: %v", q.Text, err)
	}
	if err := <-asked; err != nil {
		t.Error(err)
	}
}

// TestAskAlone: a node that is alone knows at once that nobody answers.
func TestAskAlone(t *testing.T) {
	s := redistest.Start(t)
	b, _ := run(t, s, nil)
	until(t, "up", b.Connected)
	began := time.Now()
	if _, err := b.Ask(t.Context(), []byte("x")); !errors.Is(err, broker.ErrNoAnswer) {
		t.Errorf("got %v, want ErrNoAnswer", err)
	}
	if took := time.Since(began); took > b.config.AskTimeout/2 {
		t.Errorf("took %v", took)
	}
}

// TestAskWithoutRedis: it says so, and does not wait.
func TestAskWithoutRedis(t *testing.T) {
	s := redistest.Start(t)
	b, _ := run(t, s, nil)
	if _, err := open(t, s, nil).Ask(t.Context(), []byte("x")); !isUnavailable(err) {
		t.Errorf("before Run: got %v", err)
	}
	until(t, "up", b.Connected)
	s.Kill()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := b.Ask(ctx, []byte("x")); !isUnavailable(err) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
}

// TestAsksAreBounded: questions that wait hold memory.
func TestAsksAreBounded(t *testing.T) {
	a := asks{waiting: map[string]chan string{}}
	for i := range maxAsks {
		if a.add(fmt.Sprint(i)) == nil {
			t.Fatalf("only %d", i)
		}
	}
	if a.add("one more") != nil {
		t.Error("one more than may be was taken")
	}
	a.remove("0")
	came := a.add("one more")
	for range 100 {
		a.answered("one more", "x")
	}
	if came == nil || len(came) > 2 {
		t.Errorf("%d answers wait", len(came))
	}
}

func FuzzAsk(f *testing.F) {
	f.Add("1 NODE ID some text")
	f.Add("a ID some text")
	f.Add("17")
	f.Fuzz(func(t *testing.T, payload string) {
		if node, id, text, ok := parseQuestion(payload); ok {
			if payload != "1 "+node+" "+id+" "+text || strings.ContainsAny(node+id, " {}/") || len(text) > broker.MaxQuestion {
				t.Errorf("%q was read as %q, %q, %q", payload, node, id, text)
			}
		}
		id, text, ok := parseAnswer(payload)
		if ok && (payload != "a "+id+" "+text || len(text) > broker.MaxAnswer) {
			t.Errorf("%q was read as %q, %q", payload, id, text)
		}
		e := newEchoes()
		if ok && e.came(payload) {
			t.Errorf("%q is an answer and an echo", payload)
		}
	})
}
