package auth

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// backend is a real server that answers questions; answer may be replaced at any time.
type backend struct {
	*httptest.Server
	asked  atomic.Int64
	answer atomic.Pointer[func(http.ResponseWriter, *http.Request, []byte)]
}

func (b *backend) does(f func(w http.ResponseWriter, r *http.Request, body []byte)) {
	b.answer.Store(&f)
}

// says answers with a status and a body.
func (b *backend) says(status int, body string) {
	b.does(func(w http.ResponseWriter, _ *http.Request, _ []byte) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	})
}

// hangs does not answer until the client is gone.
func (b *backend) hangs() {
	b.does(func(_ http.ResponseWriter, r *http.Request, _ []byte) { <-r.Context().Done() })
}

// resets ends the connection without an answer.
func (b *backend) resets() {
	b.does(func(http.ResponseWriter, *http.Request, []byte) { panic(http.ErrAbortHandler) })
}

func newBackend(t testing.TB) *backend {
	t.Helper()
	b := &backend{}
	b.says(200, `{"allow":true}`)
	b.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.asked.Add(1)
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		(*b.answer.Load())(w, r, body)
	}))
	t.Cleanup(b.Close)
	return b
}

// asking returns a webhook that asks b. A second is a long time on a machine that has other things to do, so tests that want a timeout set one.
func asking(t testing.TB, b *backend, change func(*WebhookConfig)) *Webhook {
	t.Helper()
	cfg := DefaultWebhookConfig()
	cfg.URL, cfg.Timeout = b.URL+"/authorize", 10*time.Second
	if change != nil {
		change(&cfg)
	}
	w, err := NewWebhook(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return w
}

func alice() *Caller {
	return &Caller{
		Transport: "ws", Address: netip.MustParseAddr("192.0.2.7"), Origin: "https://app.example", Path: "/ws",
		Header: map[string][]string{"Authorization": {"Bearer abc"}, "Cookie": {"a=1", "b=2"}, "X-Other": {"private"}},
		Who:    Identity{Subject: "alice", TokenID: "t1"},
	}
}

// numbered returns a caller whose questions are equal to nobody else's.
func numbered(i int) *Caller {
	c := alice()
	c.Who.Subject = fmt.Sprint("user", i)
	return c
}

func TestWebhookQuestion(t *testing.T) {
	secret := strings.Repeat("s", 32)
	var got []byte
	var header http.Header
	b := newBackend(t)
	b.does(func(w http.ResponseWriter, r *http.Request, body []byte) {
		got, header = body, r.Header
		if r.Method != http.MethodPost || r.URL.Path != "/authorize" {
			t.Errorf("got %s %s, want POST /authorize", r.Method, r.URL.Path)
		}
		_, _ = io.WriteString(w, `{"allow":true,"expires_in":60}`)
	})
	w := asking(t, b, func(c *WebhookConfig) { c.Secret, c.Headers = secret, []string{"authorization", "cookie", "x-none"} })
	d, err := w.Subscribe(t.Context(), alice(), []string{"news", "chat", "news"})
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"version":1,"action":"subscribe","transport":"ws","address":"192.0.2.7","origin":"https://app.example","path":"/ws",` +
		`"subject":"alice","token_id":"t1","headers":{"Authorization":"Bearer abc","Cookie":"a=1; b=2"},"channels":["chat","news"]}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if want := []string{"news", "chat", "news"}; !slices.Equal(d.Channels, want) {
		t.Errorf("got channels %v, want %v", d.Channels, want)
	}
	if left := time.Until(d.Expires); left < 50*time.Second || left > time.Minute {
		t.Errorf("it expires in %v, want a minute", left)
	}
	var sent int64
	var mac string
	if _, err := fmt.Sscanf(header.Get("Sluice-Signature"), "t=%d,v1=%s", &sent, &mac); err != nil {
		t.Fatalf("signature %q: %v", header.Get("Sluice-Signature"), err)
	}
	h := hmac.New(sha256.New, []byte(secret))
	fmt.Fprintf(h, "%d.%s", sent, want)
	if want := hex.EncodeToString(h.Sum(nil)); mac != want || time.Since(time.Unix(sent, 0)) > time.Minute {
		t.Errorf("got signature %q, want %q", mac, want)
	}
	if header.Get("Content-Type") != "application/json" || header.Get("Authorization") != "" || len(header["Idempotency-Key"]) > 0 {
		t.Errorf("got headers %v", header)
	}
}

func TestWebhookWithoutSecret(t *testing.T) {
	b := newBackend(t)
	b.does(func(w http.ResponseWriter, r *http.Request, body []byte) {
		if r.Header.Get("Sluice-Signature") != "" {
			t.Error("it is signed without a secret")
		}
		_, _ = io.WriteString(w, `{"allow":true}`)
	})
	if _, err := asking(t, b, nil).Connect(t.Context(), alice()); err != nil {
		t.Error(err)
	}
}

func TestWebhookDecision(t *testing.T) {
	b := newBackend(t)
	b.says(200, `{"version":1,"allow":true,"subject":"bob","subscribe":["news","user:{sub}:*"],"publish":[],"rate":2.5,"connections":3,"history":false,"trace":true,"reason":"x"}`)
	d, err := asking(t, b, nil).Connect(t.Context(), alice())
	if err != nil {
		t.Fatal(err)
	}
	want := Claims{Subject: "bob", Subscribe: Patterns{"news", "user:{sub}:*"}, Publish: Patterns{}, Rate: 2.5, Connections: 3, NoHistory: true, Trace: true}
	if fmt.Sprintf("%#v", d.Claims) != fmt.Sprintf("%#v", want) {
		t.Errorf("got  %#v\nwant %#v", d.Claims, want)
	}
}

// TestWebhookAnswers: each answer is a decision, a refusal, or, when it can't be used, a refusal for now.
func TestWebhookAnswers(t *testing.T) {
	long := strings.Repeat("x", 201)
	for _, tt := range []struct {
		name   string
		status int
		body   string
		want   Code // "": allowed
		detail string
	}{
		{"allow", 200, `{"allow":true}`, "", ""},
		{"spaces", 200, " {\n\"allow\" : true }\n", "", ""},
		{"all of connect", 200, `{"version":1,"allow":true,"subject":"s","subscribe":["a*"],"publish":["b"],"rate":1,"connections":1,"history":true,"trace":false,"expires_in":1}`, "", ""},
		{"deny", 200, `{"allow":false}`, Forbidden, denied},
		{"deny with a reason", 200, `{"allow":false,"reason":"your plan has ended"}`, Forbidden, "your plan has ended"},
		{"a reason with control characters", 200, `{"allow":false,"reason":"a\u001b[31mb"}`, Forbidden, denied},
		{"a reason with a new line", 200, `{"allow":false,"reason":"a\r\nSet-Cookie: b"}`, Forbidden, denied},
		{"a reason that is too long", 200, `{"allow":false,"reason":"` + long + `"}`, Forbidden, denied},
		{"401", 401, ``, Unauthorized, denied},
		{"401 with a reason", 401, `{"allow":false,"reason":"log in"}`, Unauthorized, "log in"},
		{"401 that allows", 401, `{"allow":true}`, Unauthorized, denied},
		{"403 of a proxy", 403, `<html>no</html>`, Forbidden, denied},

		{"500", 500, `{"allow":true}`, Unavailable, ""},
		{"503", 503, `{"allow":true}`, Unavailable, ""},
		{"201", 201, `{"allow":true}`, Unavailable, ""},
		{"204", 204, ``, Unavailable, ""},
		{"404", 404, `{"allow":true}`, Unavailable, ""},
		{"empty", 200, ``, Unavailable, ""},
		{"HTML", 200, `<!doctype html><title>Log in</title>`, Unavailable, ""},
		{"huge", 200, `{"allow":true,"reason":"` + strings.Repeat("x", maxAnswer) + `"}`, Unavailable, ""},
		{"no object", 200, `true`, Unavailable, ""},
		{"a list", 200, `[{"allow":true}]`, Unavailable, ""},
		{"without allow", 200, `{"subscribe":["*"]}`, Unavailable, ""},
		{"Allow", 200, `{"Allow":true}`, Unavailable, ""},
		{"allow as text", 200, `{"allow":"true"}`, Unavailable, ""},
		{"allow as number", 200, `{"allow":1}`, Unavailable, ""},
		{"allow is null", 200, `{"allow":null}`, Unavailable, ""},
		{"allow twice", 200, `{"allow":false,"allow":true}`, Unavailable, ""},
		{"cut off", 200, `{"allow":true`, Unavailable, ""},
		{"more after it", 200, `{"allow":true}{"allow":false}`, Unavailable, ""},
		{"not UTF-8", 200, "{\"allow\":true,\"subject\":\"\xff\"}", Unavailable, ""},
		{"an unknown name", 200, `{"allow":true,"expire_in":60}`, Unavailable, ""},
		{"version 2", 200, `{"version":2,"allow":true}`, Unavailable, ""},
		{"version as text", 200, `{"version":"1","allow":true}`, Unavailable, ""},
		{"subject empty", 200, `{"allow":true,"subject":""}`, Unavailable, ""},
		{"subject null", 200, `{"allow":true,"subject":null}`, Unavailable, ""},
		{"subject as number", 200, `{"allow":true,"subject":7}`, Unavailable, ""},
		{"subject with a new line", 200, `{"allow":true,"subject":"a\nb"}`, Unavailable, ""},
		{"subject too long", 200, `{"allow":true,"subject":"` + strings.Repeat("x", 257) + `"}`, Unavailable, ""},
		{"subscribe as text", 200, `{"allow":true,"subscribe":"*"}`, Unavailable, ""},
		{"subscribe with a number", 200, `{"allow":true,"subscribe":[1]}`, Unavailable, ""},
		{"subscribe with null", 200, `{"allow":true,"subscribe":["a", null ]}`, Unavailable, ""},
		{"subscribe with a space", 200, `{"allow":true,"subscribe":["a b"]}`, Unavailable, ""},
		{"subscribe too long", 200, `{"allow":true,"subscribe":[` + strings.Repeat(`"a",`, MaxPatterns) + `"a"]}`, Unavailable, ""},
		{"publish as object", 200, `{"allow":true,"publish":{}}`, Unavailable, ""},
		{"publish with an empty one", 200, `{"allow":true,"publish":[""]}`, Unavailable, ""},
		{"rate 0", 200, `{"allow":true,"rate":0}`, Unavailable, ""},
		{"rate below 0", 200, `{"allow":true,"rate":-1}`, Unavailable, ""},
		{"rate 1e999", 200, `{"allow":true,"rate":1e999}`, Unavailable, ""},
		{"connections 0", 200, `{"allow":true,"connections":0}`, Unavailable, ""},
		{"connections 1.5", 200, `{"allow":true,"connections":1.5}`, Unavailable, ""},
		{"history as text", 200, `{"allow":true,"history":"no"}`, Unavailable, ""},
		{"trace as number", 200, `{"allow":true,"trace":1}`, Unavailable, ""},
		{"expires_in 0", 200, `{"allow":true,"expires_in":0}`, Unavailable, ""},
		{"expires_in below 0", 200, `{"allow":true,"expires_in":-5}`, Unavailable, ""},
		{"expires_in as a time", 200, `{"allow":true,"expires_in":"2030-01-01T00:00:00Z"}`, Unavailable, ""},
		{"expires_in overflows", 200, `{"allow":true,"expires_in":9223372036854775807}`, Unavailable, ""},
		{"channels of a connection", 200, `{"allow":true,"channels":[]}`, Unavailable, ""},
		{"deep", 200, `{"allow":true,"subject":` + strings.Repeat("[", 30000) + strings.Repeat("]", 30000) + `}`, Unavailable, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBackend(t)
			b.says(tt.status, tt.body)
			w := asking(t, b, nil)
			d, err := w.Connect(t.Context(), alice())
			e := wantCode(t, err, tt.want)
			if (d != nil) != (tt.want == "") {
				t.Errorf("got decision %v with %q", d, tt.want)
			}
			if e != nil && tt.detail != "" && e.Detail != tt.detail {
				t.Errorf("got detail %q, want %q", e.Detail, tt.detail)
			}
			if tt.want == Unavailable && (e.Retry <= 0 || w.Stats().Failed != 1 || w.Stats().Unavailable != 1) {
				t.Errorf("got retry %v, stats %+v", e.Retry, w.Stats())
			}
		})
	}
}

func TestWebhookSubscribeAnswers(t *testing.T) {
	for _, tt := range []struct {
		name, body string
		want       Code
		channels   []string
	}{
		{"all", `{"allow":true}`, "", []string{"b", "a", "c"}},
		{"some", `{"allow":true,"channels":["c","b"]}`, "", []string{"b", "c"}},
		{"none", `{"allow":true,"channels":[]}`, "", nil},
		{"denied", `{"allow":false,"channels":["a"]}`, Forbidden, nil},
		{"one that was not asked", `{"allow":true,"channels":["a","secret"]}`, Unavailable, nil},
		{"a pattern", `{"allow":true,"channels":["*"]}`, Unavailable, nil},
		{"as text", `{"allow":true,"channels":"a"}`, Unavailable, nil},
		{"null", `{"allow":true,"channels":null}`, Unavailable, nil},
		{"null within", `{"allow":true,"channels":[null]}`, Unavailable, nil},
		{"patterns", `{"allow":true,"subscribe":["*"]}`, Unavailable, nil},
		{"a subject", `{"allow":true,"subject":"root"}`, Unavailable, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBackend(t)
			b.says(200, tt.body)
			d, err := asking(t, b, nil).Subscribe(t.Context(), alice(), []string{"b", "a", "c"})
			wantCode(t, err, tt.want)
			if tt.want == "" && !slices.Equal(d.Channels, tt.channels) {
				t.Errorf("got %v, want %v", d.Channels, tt.channels)
			}
		})
	}
	b := newBackend(t)
	if d, err := asking(t, b, nil).Subscribe(t.Context(), alice(), nil); err != nil || len(d.Channels) != 0 || b.asked.Load() != 0 {
		t.Errorf("no channels: got %v, %v and %d questions", d, err, b.asked.Load())
	}
}

func TestWebhookFollowsNoRedirect(t *testing.T) {
	elsewhere := newBackend(t)
	b := newBackend(t)
	for _, status := range []int{301, 302, 303, 307, 308} {
		b.does(func(w http.ResponseWriter, r *http.Request, _ []byte) { http.Redirect(w, r, elsewhere.URL, status) })
		_, err := asking(t, b, nil).Connect(t.Context(), alice())
		wantCode(t, err, Unavailable)
	}
	if n := elsewhere.asked.Load(); n != 0 {
		t.Errorf("credentials went elsewhere %d times", n)
	}
}

func TestNewWebhook(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*WebhookConfig)
		ok     bool
	}{
		{"https", func(c *WebhookConfig) { c.URL = "https://auth.example/x?y=z" }, true},
		{"http here", func(c *WebhookConfig) { c.URL = "http://127.0.0.1:1/" }, true},
		{"http here, IPv6", func(c *WebhookConfig) { c.URL = "http://[::1]:1/" }, true},
		{"http localhost", func(c *WebhookConfig) { c.URL = "http://localhost/" }, true},
		{"http elsewhere", func(c *WebhookConfig) { c.URL = "http://auth.internal/" }, false},
		{"http, a name that starts so", func(c *WebhookConfig) { c.URL = "http://localhost.evil.example/" }, false},
		{"none", func(c *WebhookConfig) { c.URL = "" }, false},
		{"no host", func(c *WebhookConfig) { c.URL = "https:///x" }, false},
		{"a file", func(c *WebhookConfig) { c.URL = "file:///etc/passwd" }, false},
		{"a user", func(c *WebhookConfig) { c.URL = "https://u:hunter2@auth.example/" }, false},
		{"not a URL", func(c *WebhookConfig) { c.URL = "https://u:hunter2@auth.example:port/" }, false},
		{"a short secret", func(c *WebhookConfig) { c.Secret = "hunter2" }, false},
		{"a timeout below 0", func(c *WebhookConfig) { c.Timeout = -1 }, false},
		{"a long timeout", func(c *WebhookConfig) { c.Timeout = time.Hour }, false},
		{"a cache below 0", func(c *WebhookConfig) { c.Cache = -1 }, false},
		{"a long stale", func(c *WebhookConfig) { c.Stale = 25 * time.Hour }, false},
		{"nothing in flight", func(c *WebhookConfig) { c.MaxInFlight = -1 }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := WebhookConfig{URL: "https://auth.example/"}
			tt.change(&cfg)
			w, err := NewWebhook(cfg)
			if (err == nil) != tt.ok {
				t.Errorf("got %v, want ok %v", err, tt.ok)
			}
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Errorf("a secret is in %q", err)
			}
			if w != nil {
				w.Close()
			}
		})
	}
}

// TestWebhookHidesSecrets: neither errors nor the log have credentials in them, nor the URL, whose query may be one.
func TestWebhookHidesSecrets(t *testing.T) {
	var logged lockedBuffer
	b := newBackend(t)
	b.Close()
	w := asking(t, b, func(c *WebhookConfig) {
		c.URL += "?key=hunter2"
		c.Log = slog.New(slog.NewTextHandler(&logged, nil))
	})
	_, err := w.Connect(t.Context(), alice())
	wantCode(t, err, Unavailable)
	if out := logged.String(); out == "" || strings.Contains(out, "hunter2") || strings.Contains(out, "abc") {
		t.Errorf("got log %q", out)
	}
}

// TestWebhookNeverOpen: whatever a backend does at random, callers get what it has said about them, or nothing.
func TestWebhookNeverOpen(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 1))
	var mu sync.Mutex
	gave := map[string]bool{} // "caller channel" that the backend has allowed
	b := newBackend(t)
	b.does(func(w http.ResponseWriter, _ *http.Request, body []byte) {
		var q question
		if err := json.Unmarshal(body, &q); err != nil {
			t.Error(err)
		}
		mu.Lock()
		fault, allow := r.IntN(12), r.IntN(2) == 0
		some := q.Channels[:r.IntN(len(q.Channels)+1)]
		if fault > 7 && allow {
			for _, ch := range some {
				gave[q.Subject+" "+ch] = true
			}
		}
		mu.Unlock()
		list, _ := json.Marshal(some)
		good := fmt.Sprintf(`{"allow":%v,"channels":%s}`, allow, list)
		switch fault {
		case 0:
			panic(http.ErrAbortHandler)
		case 1:
			w.WriteHeader(500)
		case 2:
			w.WriteHeader([]int{201, 302, 401, 403, 404}[len(some)%5])
			_, _ = io.WriteString(w, `{"allow":true}`)
			return
		case 3:
			good = good[:len(good)-1]
		case 4:
			good = strings.Replace(good, "allow", "Allow", 1)
		case 5:
			good = `{"allow":true,"channels":["other"]}`
		case 6:
			w.Header().Set("Content-Length", "1000")
		case 7:
			time.Sleep(60 * time.Millisecond)
		}
		_, _ = io.WriteString(w, good)
	})
	w := asking(t, b, func(c *WebhookConfig) {
		c.Timeout, c.Cache, c.Stale = 50*time.Millisecond, 5*time.Millisecond, 50*time.Millisecond
	})
	var allowed, refused atomic.Int64
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for j := range 100 {
				c := numbered((i + j) % 5)
				ask := []string{"a", "b", fmt.Sprint("c", j%7)}
				d, err := w.Subscribe(t.Context(), c, ask)
				if (d == nil) == (err == nil) {
					t.Errorf("seed %d: got %v, %v", seed, d, err)
				}
				if err != nil {
					refused.Add(1)
					continue
				}
				mu.Lock()
				for _, ch := range d.Channels {
					allowed.Add(1)
					if !gave[c.Who.Subject+" "+ch] {
						t.Errorf("seed %d: %s got %s, which the backend did not give", seed, c.Who.Subject, ch)
					}
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
	if s := w.Stats(); s.Failed == 0 || s.Denied == 0 || allowed.Load() == 0 || refused.Load() == 0 {
		t.Errorf("seed %d: it tests nothing: %+v", seed, s)
	}
}

// FuzzWebhookAnswer: what is allowed was said in so many words, and has nothing in it that was not.
func FuzzWebhookAnswer(f *testing.F) {
	for _, s := range []string{
		`{"allow":true}`, `{"allow":false,"reason":"no"}`, `{"allow":true,"channels":["a"]}`, `{"allow":true,"subscribe":["a*"],"rate":1}`,
		`{"allow":true,"expires_in":5,"subject":"x"}`, `{"Allow":true}`, `{"allow":true}{}`, `{"allow":null}`, "\xef\xbb\xbf{}", `{"allow":true,"allow":false}`,
	} {
		f.Add(s, true, uint16(200))
		f.Add(s, false, uint16(401))
	}
	f.Fuzz(func(t *testing.T, text string, connect bool, status uint16) {
		q := &question{Action: "subscribe", Channels: []string{"a", "b"}}
		if connect {
			q = &question{Action: "connect"}
		}
		now := time.Now()
		a, err := readAnswer(int(status), []byte(text), q, now)
		if err != nil {
			if a != nil {
				t.Fatal("an answer and an error")
			}
			return
		}
		if a.refusal != nil {
			if d := a.refusal.Detail; d == "" || len(d) > 4*maxReason || strings.ContainsAny(d, "\r\n\x00\x1b") {
				t.Fatalf("got reason %q", d)
			}
			return
		}
		var said map[string]any
		if err := json.Unmarshal([]byte(text), &said); err != nil || said["allow"] != true || status != 200 {
			t.Fatalf("%q with %d allows", text, status)
		}
		d := a.decision()
		if connect && len(a.channels) > 0 || !connect && (d.Subscribe != nil || d.Publish != nil || d.Subject != "") {
			t.Fatalf("%q gives %+v, channels %v", text, d, a.channels)
		}
		for _, ch := range a.channels {
			if !slices.Contains(q.Channels, ch) {
				t.Fatalf("%q gives %q", text, ch)
			}
		}
		if CheckPatterns(d.Subscribe) != nil || CheckPatterns(d.Publish) != nil || d.Rate < 0 || d.Connections < 0 {
			t.Fatalf("%q gives %+v", text, d)
		}
		if _, ends := said["expires_in"]; ends != d.Expires.After(now) {
			t.Fatalf("%q ends at %v", text, d.Expires)
		}
		known := []string{"version", "allow", "reason", "subject", "subscribe", "publish", "rate", "connections", "history", "trace", "expires_in", "channels"}
		for name := range maps.Keys(said) {
			if !slices.Contains(known, name) {
				t.Fatalf("%q has %q, which means nothing", text, name)
			}
		}
	})
}

func BenchmarkWebhookCached(b *testing.B) {
	back := newBackend(b)
	w := asking(b, back, func(c *WebhookConfig) { c.Cache = time.Hour })
	c := alice()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := w.Connect(context.Background(), c); err != nil {
			b.Fatal(err)
		}
	}
	if back.asked.Load() != 1 {
		b.Error(errors.New("it was asked again"))
	}
}
