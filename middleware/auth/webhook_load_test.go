package auth

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// eventually waits for what goroutines are about to do.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !is(); {
		if time.Now().After(end) {
			t.Fatalf("it never happens: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// held answers as next says, but only when it may.
func (b *backend) held(t *testing.T, status int, body string) (let func()) {
	t.Helper()
	may := make(chan struct{})
	b.does(func(w http.ResponseWriter, r *http.Request, _ []byte) {
		select {
		case <-may:
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body))
		case <-r.Context().Done():
		}
	})
	let = sync.OnceFunc(func() { close(may) })
	t.Cleanup(let)
	return let
}

func TestWebhookAsksOnce(t *testing.T) {
	b := newBackend(t)
	let := b.held(t, 200, `{"allow":true,"subject":"one"}`)
	w := asking(t, b, func(c *WebhookConfig) { c.Cache = time.Minute })
	var all sync.WaitGroup
	var allowed atomic.Int64
	for range 100 {
		all.Go(func() {
			if d, err := w.Connect(t.Context(), alice()); err == nil && d.Subject == "one" {
				allowed.Add(1)
			}
		})
	}
	eventually(t, "the backend is asked", func() bool { return b.asked.Load() > 0 })
	let()
	all.Wait()
	if n := b.asked.Load(); n != 1 || allowed.Load() != 100 {
		t.Errorf("got %d questions and %d allowed, want 1 and 100", n, allowed.Load())
	}
}

// TestWebhookCallerLeaves: who asked first leaves, and the others get the answer to the same request.
func TestWebhookCallerLeaves(t *testing.T) {
	b := newBackend(t)
	let := b.held(t, 200, `{"allow":true}`)
	w := asking(t, b, nil)
	ctx, leave := context.WithCancel(t.Context())
	first, second := make(chan error, 1), make(chan error, 1)
	go func() { _, err := w.Connect(ctx, alice()); first <- err }()
	eventually(t, "the backend is asked", func() bool { return b.asked.Load() == 1 })
	go func() { _, err := w.Connect(t.Context(), alice()); second <- err }()
	leave()
	wantCode(t, <-first, Unavailable)
	let()
	if err := <-second; err != nil {
		t.Error(err)
	}
	if n := b.asked.Load(); n > 2 { // two if the second came after the answer
		t.Errorf("got %d questions", n)
	}
}

func TestWebhookSlow(t *testing.T) {
	b := newBackend(t)
	b.hangs()
	w := asking(t, b, func(c *WebhookConfig) { c.Timeout = 100 * time.Millisecond })
	start := time.Now()
	_, err := w.Connect(t.Context(), alice())
	wantCode(t, err, Unavailable)
	if took := time.Since(start); took < 100*time.Millisecond || took > 2*time.Second {
		t.Errorf("it took %v", took)
	}
}

// TestWebhookDrips: an answer whose bytes come one by one has no longer than others.
func TestWebhookDrips(t *testing.T) {
	b := newBackend(t)
	b.does(func(w http.ResponseWriter, r *http.Request, _ []byte) {
		for r.Context().Err() == nil {
			_, _ = w.Write([]byte(" "))
			_ = http.NewResponseController(w).Flush()
			time.Sleep(5 * time.Millisecond)
		}
	})
	w := asking(t, b, func(c *WebhookConfig) { c.Timeout = 100 * time.Millisecond })
	start := time.Now()
	_, err := w.Connect(t.Context(), alice())
	wantCode(t, err, Unavailable)
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("it took %v", took)
	}
}

// TestWebhookInFlight: the backend never has more than so many questions, and who waits in vain is refused.
func TestWebhookInFlight(t *testing.T) {
	b := newBackend(t)
	let := b.held(t, 200, `{"allow":true}`)
	w := asking(t, b, func(c *WebhookConfig) { c.MaxInFlight = 3 })
	errs := make(chan error, 20)
	for i := range 20 {
		go func() { _, err := w.Connect(t.Context(), numbered(i)); errs <- err }()
	}
	eventually(t, "three are asked and the others wait", func() bool { s := w.Stats(); return s.InFlight == 3 && s.Waiting == 17 })
	if n := b.asked.Load(); n > 3 {
		t.Errorf("the backend has %d questions, want 3", n)
	}
	let()
	for range 20 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if s := w.Stats(); s.InFlight != 0 || s.Waiting != 0 || s.Asked != 20 {
		t.Errorf("got %+v", s)
	}
}

// TestWebhookQueueIsBounded: more than may wait are refused at once.
func TestWebhookQueueIsBounded(t *testing.T) {
	b := newBackend(t)
	let := b.held(t, 200, `{"allow":true}`)
	w := asking(t, b, func(c *WebhookConfig) { c.MaxInFlight = 1 })
	errs := make(chan error, waitingPer+1)
	for i := range waitingPer + 1 {
		go func() { _, err := w.Connect(t.Context(), numbered(i)); errs <- err }()
	}
	eventually(t, "the queue is full", func() bool { return w.Stats().Waiting == waitingPer })
	start := time.Now()
	_, err := w.Connect(t.Context(), numbered(-1))
	wantCode(t, err, Unavailable)
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("it took %v to refuse", took)
	}
	let()
	for range waitingPer + 1 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

// TestWebhookDown: after some failures callers do not wait any more, the backend is left alone, and asked again.
func TestWebhookDown(t *testing.T) {
	var logged lockedBuffer
	b := newBackend(t)
	b.hangs()
	w := asking(t, b, func(c *WebhookConfig) {
		c.Timeout = 200 * time.Millisecond
		c.Log = slog.New(slog.NewTextHandler(&logged, nil))
	})
	var all sync.WaitGroup
	for i := range breakAfter {
		all.Go(func() { _, _ = w.Connect(t.Context(), numbered(i)) })
	}
	all.Wait()
	if w.Status() == "" {
		t.Error("it is well")
	}
	asked := b.asked.Load()
	start := time.Now()
	for i := range 1000 {
		_, err := w.Connect(t.Context(), numbered(i))
		if e := wantCode(t, err, Unavailable); e == nil || e.Retry <= 0 {
			t.Fatalf("got %v", e)
		}
	}
	if took := time.Since(start); took > breakFor { // it is asked once more after that
		t.Skipf("this machine takes %v to refuse 1,000", took)
	}
	if n := b.asked.Load() - asked; n != 0 {
		t.Errorf("the backend was asked %d times", n)
	}
	b.says(200, `{"allow":true}`)
	eventually(t, "it is asked again", func() bool { _, err := w.Connect(t.Context(), alice()); return err == nil })
	if s := w.Status(); s != "" {
		t.Error(s)
	}
	if n := strings.Count(logged.String(), "\n"); n != 1 {
		t.Errorf("got %d lines, want 1:\n%s", n, logged.String())
	}
}

// TestWebhookFlaps: each time that the backend is there callers get in, and one question alone fails at a time.
func TestWebhookFlaps(t *testing.T) {
	var logged lockedBuffer
	b := newBackend(t)
	w := asking(t, b, func(c *WebhookConfig) { c.Log = slog.New(slog.NewTextHandler(&logged, nil)) })
	for i := range 50 {
		b.resets()
		_, err := w.Connect(t.Context(), numbered(i))
		wantCode(t, err, Unavailable)
		b.says(200, `{"allow":true}`)
		if _, err := w.Connect(t.Context(), numbered(i)); err != nil {
			t.Fatal(err)
		}
	}
	if n := strings.Count(logged.String(), "\n"); n != 1 {
		t.Errorf("got %d lines, want 1:\n%s", n, logged.String())
	}
}

// TestWebhookOneBadQuestion: a caller who makes the backend fail quickly does not cut the others off.
func TestWebhookOneBadQuestion(t *testing.T) {
	b := newBackend(t)
	w := asking(t, b, nil)
	for _, status := range []int{500, 418, 200} {
		b.says(status, `not JSON`)
		for range 3 * breakAfter {
			_, err := w.Connect(t.Context(), alice())
			wantCode(t, err, Unavailable)
		}
		b.says(200, `{"allow":true}`)
		if _, err := w.Connect(t.Context(), numbered(1)); err != nil {
			t.Errorf("after status %d: %v", status, err)
		}
	}
}

func TestWebhookCache(t *testing.T) {
	for _, tt := range []struct {
		name, answer string
		cache, later time.Duration
		want         int64 // questions for two equal ones
	}{
		{"no cache", `{"allow":true}`, 0, 0, 2},
		{"cached", `{"allow":true}`, time.Minute, 0, 1},
		{"too old", `{"allow":true}`, 20 * time.Millisecond, 30 * time.Millisecond, 2},
		{"no longer than it holds", `{"allow":true,"expires_in":1}`, time.Minute, 1100 * time.Millisecond, 2},
		{"a refusal for a moment", `{"allow":false}`, 0, 0, 1},
		{"and no longer", `{"allow":false}`, time.Minute, keepRefusals + 100*time.Millisecond, 2},
		{"not what can't be used", `{"allow":1}`, time.Minute, 0, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := newBackend(t)
			b.says(200, tt.answer)
			w := asking(t, b, func(c *WebhookConfig) { c.Cache = tt.cache })
			first, err1 := w.Connect(t.Context(), alice())
			time.Sleep(tt.later)
			second, err2 := w.Connect(t.Context(), alice())
			if (err1 == nil) != (err2 == nil) {
				t.Errorf("got %v, then %v", err1, err2)
			}
			if n := b.asked.Load(); n != tt.want {
				t.Errorf("got %d questions, want %d", n, tt.want)
			}
			if tt.want == 1 && err1 == nil && !first.Expires.Equal(second.Expires) {
				t.Errorf("it expires at %v, then %v", first.Expires, second.Expires)
			}
		})
	}
}

// TestWebhookCacheTellsApart: an answer is only for those about whom exactly the same was asked.
func TestWebhookCacheTellsApart(t *testing.T) {
	b := newBackend(t)
	w := asking(t, b, func(c *WebhookConfig) { c.Cache = time.Minute })
	callers := map[string]func(c *Caller){
		"the same":  func(*Caller) {},
		"transport": func(c *Caller) { c.Transport = "sse" },
		"address":   func(c *Caller) { c.Address = c.Address.Next() },
		"origin":    func(c *Caller) { c.Origin = "https://other.example" },
		"path":      func(c *Caller) { c.Path = "/sse" },
		"subject":   func(c *Caller) { c.Who.Subject = "bob" },
		"token":     func(c *Caller) { c.Who.TokenID = "t2" },
		"header":    func(c *Caller) { c.Header["Authorization"] = []string{"Bearer other"} },
		"no header": func(c *Caller) { delete(c.Header, "Authorization") },
	}
	for name, change := range callers {
		before := b.asked.Load()
		c := alice()
		change(c)
		if _, err := w.Connect(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		if n := b.asked.Load() - before; n != 1 {
			t.Errorf("%s: got %d questions, want 1", name, n)
		}
	}
	before := b.asked.Load()
	for _, channels := range [][]string{{"a"}, {"a", "b"}, {"b", "a"}, {"a", "b", "a"}} {
		if _, err := w.Subscribe(t.Context(), alice(), channels); err != nil {
			t.Fatal(err)
		}
	}
	if n := b.asked.Load() - before; n != 2 {
		t.Errorf("channels: got %d questions, want 2", n)
	}
}

func TestWebhookStale(t *testing.T) {
	away := map[string]func(b *backend){
		"reset": (*backend).resets,
		"hangs": (*backend).hangs,
		"500":   func(b *backend) { b.says(500, "") },
		"503":   func(b *backend) { b.says(503, "") },
	}
	for name, fail := range away {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBackend(t)
			w := asking(t, b, func(c *WebhookConfig) { c.Stale, c.Timeout = time.Minute, 300*time.Millisecond })
			eventually(t, "it is allowed", func() bool { _, err := w.Connect(t.Context(), alice()); return err == nil })
			fail(b)
			for range 2 * breakAfter { // with the backend left alone, too
				if _, err := w.Connect(t.Context(), alice()); err != nil {
					t.Fatalf("got %v, want the old answer", err)
				}
			}
			_, err := w.Connect(t.Context(), numbered(2))
			wantCode(t, err, Unavailable)
			if s := w.Stats(); s.Stale != 2*breakAfter {
				t.Errorf("got %+v", s)
			}
		})
	}
}

// TestWebhookStaleEnds: an old answer is not used after its time, nor after a refusal, nor for one that can't be used.
func TestWebhookStaleEnds(t *testing.T) {
	for _, tt := range []struct {
		name  string
		stale time.Duration
		first string
		then  func(t *testing.T, b *backend, w *Webhook)
	}{
		{"too old", 50 * time.Millisecond, `{"allow":true}`, func(_ *testing.T, b *backend, _ *Webhook) {
			time.Sleep(60 * time.Millisecond)
			b.resets()
		}},
		{"expired", time.Minute, `{"allow":true,"expires_in":1}`, func(_ *testing.T, b *backend, _ *Webhook) {
			time.Sleep(1100 * time.Millisecond)
			b.resets()
		}},
		{"refused since", time.Minute, `{"allow":true}`, func(t *testing.T, b *backend, w *Webhook) {
			b.says(403, "")
			_, err := w.Connect(t.Context(), alice())
			wantCode(t, err, Forbidden)
			time.Sleep(keepRefusals + 50*time.Millisecond)
			b.resets()
		}},
		{"nonsense", time.Minute, `{"allow":true}`, func(_ *testing.T, b *backend, _ *Webhook) { b.says(200, "nonsense") }},
		{"a redirect", time.Minute, `{"allow":true}`, func(_ *testing.T, b *backend, _ *Webhook) { b.says(302, "") }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := newBackend(t)
			b.says(200, tt.first)
			w := asking(t, b, func(c *WebhookConfig) { c.Stale = tt.stale })
			if _, err := w.Connect(t.Context(), alice()); err != nil {
				t.Fatal(err)
			}
			tt.then(t, b, w)
			_, err := w.Connect(t.Context(), alice())
			wantCode(t, err, Unavailable)
		})
	}
}

// TestWebhookMemory: what strangers ask is kept within bounds, of number and of bytes.
func TestWebhookMemory(t *testing.T) {
	for _, tt := range []struct {
		name string
		size int
	}{{"small", 20}, {"large", maxAnswer}} {
		m := newMemory(time.Hour, 0)
		for i := range maxKept + 500 {
			var k questionKey
			k[0], k[1] = byte(i), byte(i>>8)
			m.keep(k, &answer{size: tt.size, asked: time.Now()})
			m.keep(k, &answer{size: tt.size, asked: time.Now()}) // again
		}
		if n := m.answers.Len(); n > maxKept || m.bytes > maxKeptBytes || m.bytes != n*(tt.size+keptOverhead) {
			t.Errorf("%s: it keeps %d answers, %d bytes", tt.name, n, m.bytes)
		}
		for m.answers.Len() > 0 {
			m.answers.RemoveOldest()
		}
		if m.bytes != 0 {
			t.Errorf("%s: %d bytes of nothing", tt.name, m.bytes)
		}
	}
}

// TestWebhookClose: whoever waits is refused, also if an old answer would do; nothing is left; later callers are refused.
func TestWebhookClose(t *testing.T) {
	b := newBackend(t)
	w := asking(t, b, func(c *WebhookConfig) { c.Stale, c.MaxInFlight = time.Minute, 1 })
	if _, err := w.Connect(t.Context(), alice()); err != nil {
		t.Fatal(err)
	}
	b.hangs()
	errs := make(chan error, 2)
	go func() { _, err := w.Connect(t.Context(), alice()); errs <- err }()
	go func() { _, err := w.Connect(t.Context(), numbered(1)); errs <- err }()
	eventually(t, "one is asked and one waits", func() bool { s := w.Stats(); return s.InFlight == 1 && s.Waiting == 1 })
	w.Close()
	w.Close()
	for range 2 {
		wantCode(t, <-errs, Unavailable)
	}
	if s := w.Stats(); s.InFlight != 0 || s.Waiting != 0 || s.Failed != 0 {
		t.Errorf("got %+v", s)
	}
	_, err := w.Connect(t.Context(), alice())
	wantCode(t, err, Unavailable)
}
