package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// gate is a backend that is asked who may connect and subscribe. Who asks says a number, of which it makes its decision; and it remembers whom
// it let in.
type gate struct {
	*httptest.Server
	mode  atomic.Value // of type string: see answer
	asked atomic.Int64
	next  atomic.Int64

	mu      sync.Mutex
	allowed map[int64]bool // numbers of those who may listen to news
}

// gateTimeout is webhook-timeout of nodes that ask a gate.
const gateTimeout = 400 * time.Millisecond

func newGate(t *testing.T) *gate {
	g := &gate{allowed: map[int64]bool{}}
	g.mode.Store("well")
	g.Server = httptest.NewServer(g)
	t.Cleanup(g.Close)
	return g
}

// wants is what the gate thinks of number n: whether it may connect, whether that says already that it may listen, and whether it may listen.
func wants(n int64) (connect, atOnce, listen bool) {
	switch n % 4 {
	case 0:
		return true, true, true
	case 1:
		return true, false, true
	case 2:
		return false, false, false
	}
	return true, false, false
}

// ServeHTTP answers in the mode that is on.
func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.asked.Add(1)
	body, _ := io.ReadAll(r.Body)
	var q struct {
		Action  string
		Headers map[string]string
	}
	_ = json.Unmarshal(body, &q)
	number, err := strconv.ParseInt(strings.TrimPrefix(q.Headers["Cookie"], "n="), 10, 64)
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	connect, atOnce, listen := wants(number)
	switch mode := g.mode.Load().(string); mode {
	case "well":
		answer := map[string]any{"allow": connect}
		if q.Action == "subscribe" {
			answer["allow"] = listen
		} else if atOnce {
			answer["subscribe"] = []string{"news"}
		}
		if answer["allow"] == true && (atOnce || q.Action == "subscribe") {
			g.mu.Lock()
			g.allowed[number] = true
			g.mu.Unlock()
		}
		_ = json.NewEncoder(w).Encode(answer)
	case "down":
		panic(http.ErrAbortHandler)
	case "slow":
		select {
		case <-time.After(3 * gateTimeout):
		case <-r.Context().Done():
		}
		_, _ = io.WriteString(w, `{"allow":true,"subscribe":["news"]}`)
	default:
		if status, text, ok := strings.Cut(mode, " "); ok && len(status) == 3 && status[0] >= '1' && status[0] <= '9' {
			code, _ := strconv.Atoi(status)
			w.Header().Set("Location", g.URL+"/elsewhere")
			w.WriteHeader(code)
			mode = text
		}
		_, _ = io.WriteString(w, mode)
	}
}

// has reports whether number n was let in.
func (g *gate) has(n int64) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.allowed[n]
}

// knock has one more client try to listen to news, over one transport or the other.
func (g *gate) knock(n *node, number int64) (*shown, error) {
	head := fmt.Sprintf("Cookie: n=%d\r\n", number)
	if number%8 < 4 {
		return n.try("GET /sse?channel=news", head, "")
	}
	return n.try("GET /ws?channel=news", upgradeHead+head, "")
}

// gateModes are states of a backend in which it lets nobody in; each of the answers would be a yes to who does not look well.
func gateModes() []string {
	return append([]string{"down", "slow", "", " ", "null", "true", `"allow"`, "<!doctype html><title>Sign in</title>", `[{"allow":true}]`, `{"allow":true`, `{"allow":true}{}`, `{"allow":true} x`,
		`{}`, `{"allow":null}`, `{"allow":1}`, `{"allow":"true"}`, `{"allow":[true]}`, `{"Allow":true}`, `{"allow":true,"allow":true}`, `{"allow":false,"allow":true}`, `{"allow":true,"Allow":true}`,
		`{"allow":true,"expire_in":60}`, `{"allow":true,"expires_in":0}`, `{"allow":true,"expires_in":-1}`, `{"allow":true,"expires_in":1e30}`, `{"allow":true,"expires_in":"60"}`,
		`{"allow":true,"subscribe":["news","a b"]}`, `{"allow":true,"subscribe":"news"}`, `{"allow":true,"subscribe":[null,"news"]}`, `{"allow":true,"subscribe":null}`, `{"allow":true,"channels":["other"]}`,
		`{"allow":true,"version":2}`, `{"allow":true,"subject":""}`, `{"allow":true,"subject":"a\nb"}`, `{"allow":true,"rate":0}`, `{"allow":true,"history":"no"}`, "\ufeff" + `{"allow":true}`,
		"{\"allow\":true,\"reason\":\"\xff\"}", `{"allow":true,"reason":"` + strings.Repeat("x", 70<<10) + `"}`,
	}, func() (all []string) {
		for _, status := range []int{201, 202, 206, 300, 301, 302, 307, 308, 400, 404, 418, 429, 500, 502, 503, 504} {
			all = append(all, fmt.Sprint(status, ` {"allow":true,"subscribe":["news"]}`))
		}
		return all
	}()...)
}

// TestAttackWebhook: whatever state the backend is in, the node lets in whom it has let in, and nobody else; the others are told to come back, or
// why not.
func TestAttackWebhook(t *testing.T) {
	t.Parallel()
	g := newGate(t)
	key, entry := apiKey("backend", "*")
	n := startNode(t, "A", "--dev=false", "--webhook", g.URL+"/ask", "--webhook-timeout", gateTimeout.String(), "--address-connections", "0",
		"--config", settingsFile(t, "api-keys:\n"+entry))
	waitReady(t, n)
	well := func(mode string) {
		t.Helper()
		g.mode.Store("well")
		until(t, 10*time.Second, "after "+mode+" the backend is asked again", func() bool { s, err := g.knock(n, g.next.Add(4)&^3); return err == nil && s.ok() })
		for range 8 {
			number := g.next.Add(1)
			s, err := g.knock(n, number)
			if err != nil {
				t.Fatal(err)
			}
			if _, _, listen := wants(number); s.ok() != listen || g.has(number) != listen {
				t.Errorf("well, after %.80s: number %d got %d %s", mode, number, s.status, s.code)
			} else if !listen {
				s.refuses(t, "well", "", "forbidden")
			}
		}
	}
	well("nothing")
	for _, mode := range gateModes() {
		g.mode.Store(mode)
		before := g.asked.Load()
		for range 4 {
			number := g.next.Add(1)
			s, err := g.knock(n, number)
			if err != nil {
				t.Fatal(err)
			}
			over := map[bool]string{true: "SSE", false: "WebSocket"}[number%8 < 4]
			s.waits(t, fmt.Sprintf("%.80s, %s", mode, over))
			if g.has(number) {
				t.Fatal("the gate has let somebody in")
			}
		}
		if s := n.ask(t, "POST /publish/news", "Authorization: Bearer "+key+"\r\n", "x"); !s.ok() {
			t.Errorf("%.80s: a key can't publish: %d %s", mode, s.status, s.code)
		}
		if g.asked.Load() == before {
			t.Errorf("%.80s: nobody has asked, so this shows nothing", mode)
		}
		if mode == "down" || mode == "slow" || mode == "null" || mode[:min(1, len(mode))] > "3" && mode[:1] <= "9" { // it may be left alone for a while
			well(mode)
		}
	}
	well("all")
	t.Logf("%d clients, %d questions", g.next.Load(), g.asked.Load())
}

// TestAttackWebhookFlaps: many clients at once, and a backend that is well and ill in turn, many times a second.
func TestAttackWebhookFlaps(t *testing.T) {
	t.Parallel()
	g := newGate(t)
	n := startNode(t, "A", "--dev=false", "--webhook", g.URL, "--webhook-timeout", gateTimeout.String(), "--address-connections", "0")
	waitReady(t, n)
	end := time.Now().Add(4 * time.Second)
	var clients sync.WaitGroup
	var admitted, refused, forbidden atomic.Int64
	for range 6 {
		clients.Go(func() {
			pace := time.NewTicker(4 * time.Millisecond)
			defer pace.Stop()
			for time.Now().Before(end) {
				<-pace.C
				number := g.next.Add(1)
				s, err := g.knock(n, number)
				_, _, listen := wants(number)
				switch {
				case err != nil:
					t.Errorf("number %d: %v", number, err)
					return
				case s.ok() && !g.has(number):
					t.Errorf("number %d is in, and was not let in", number)
				case s.ok():
					admitted.Add(1)
				case s.code == "forbidden" && !listen:
					forbidden.Add(1)
				case s.code == "unavailable":
					refused.Add(1)
				default:
					t.Errorf("number %d: got %d %s", number, s.status, s.code)
				}
			}
		})
	}
	modes := append(gateModes(), "down", "down")
	for time.Now().Before(end) {
		g.mode.Store("well")
		time.Sleep(rand.N(60 * time.Millisecond)) // the pace at which the backend changes its mind
		g.mode.Store(modes[rand.IntN(len(modes))])
		time.Sleep(rand.N(20 * time.Millisecond))
	}
	clients.Wait()
	g.mu.Lock()
	defer g.mu.Unlock()
	if admitted.Load() > int64(len(g.allowed)) || admitted.Load() == 0 || refused.Load() == 0 || forbidden.Load() == 0 {
		t.Errorf("%d are in and %d were let in; %d are told to come back, %d that they may not", admitted.Load(), len(g.allowed), refused.Load(), forbidden.Load())
	}
	t.Logf("%d clients: %d in of %d who were let in, %d are told to come back, %d that they may not", g.next.Load(), admitted.Load(), len(g.allowed), refused.Load(), forbidden.Load())
}

// TestAttackWebhookRefresh: what a backend does not allow, or does not answer, gives a live connection no more than it has, and takes nothing
// from it; its own end comes all the same.
func TestAttackWebhookRefresh(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	var says atomic.Value
	says.Store(`{"allow":true}`)
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if text := says.Load().(string); text != "" {
			_, _ = io.WriteString(w, text)
			return
		}
		panic(http.ErrAbortHandler)
	}))
	t.Cleanup(hook.Close)
	key, entry := apiKey("backend", "*")
	n := i.startGuarded("A", "--webhook", hook.URL, "--webhook-timeout", gateTimeout.String(), "--jwt-leeway", "0s", "--config", settingsFile(t, "api-keys:\n"+entry))
	waitReady(t, n)
	for _, over := range []string{"sse", "ws"} {
		says.Store(`{"allow":true}`)
		end := time.Now().Add(3 * time.Second).Truncate(time.Second)
		g := welcome(t, n, over, i.token(over, time.Hour, claims{"exp": end.Unix()}), "")
		more := i.token(over, time.Hour, claims{"subscribe": []string{"*"}})
		for _, tt := range []struct{ says, code string }{{"", "unavailable"}, {"<html>", "unavailable"}, {`{"allow":false}`, "forbidden"}, {`{"allow":true,"subject":"another"}`, "forbidden"}} {
			says.Store(tt.says)
			if code := n.renew(t, g, more); code != tt.code {
				t.Errorf("%s, the backend says %q: got %q, want %s", over, tt.says, code, tt.code)
			}
		}
		if s := n.ask(t, "POST /publish/news", "Authorization: Bearer "+key+"\r\n", "still"); !s.ok() {
			t.Fatalf("got %d %s", s.status, s.code)
		}
		if e := g.until(t, "message"); e.data != "still" {
			t.Errorf("%s: got %+v", over, e)
		}
		go g.linger()
		if e := <-g.ended; e.body.Code != "token_expired" || time.Since(end).Abs() > time.Second {
			t.Errorf("%s: gone %v after the end, with %+v", over, time.Since(end), e)
		}
	}
}
