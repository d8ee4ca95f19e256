package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// keyServer is where an issuer has its key set, and what it answers with.
type keyServer struct {
	*httptest.Server
	mu      sync.Mutex
	answers []http.HandlerFunc // the next ones; the last goes on
	asked   int
}

// anyPort is an address for a server of a test.
const anyPort = "127.0.0.1:0"

func newKeyServer(t *testing.T, address string, answers ...http.HandlerFunc) *keyServer {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	s := &keyServer{answers: answers}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.asked++
		answer := s.answers[0]
		if len(s.answers) > 1 {
			s.answers = s.answers[1:]
		}
		s.mu.Unlock()
		answer(w, r)
	}))
	_ = s.Listener.Close()
	s.Listener = l
	s.Start()
	t.Cleanup(s.Close)
	return s
}

// answer has the server answer so from now on, one after the other.
func (s *keyServer) answer(answers ...http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers = answers
}

func (s *keyServer) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

// Answers of a key server.
func saying(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) }
}

func failing(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }

// hanging does not answer until the client has gone.
func hanging(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

// listeners are the ways that a node without keys is asked by.
func listeners(n *node, token string) map[string]func(t *testing.T) *shown {
	authorization := "Authorization: Bearer " + token + "\r\n"
	return map[string]func(t *testing.T) *shown{
		"SSE":       func(t *testing.T) *shown { return n.ask(t, "GET /sse?channel=news", authorization, "") },
		"WebSocket": func(t *testing.T) *shown { return n.ask(t, "GET /ws?channel=news", upgradeHead+authorization, "") },
		"publish":   func(t *testing.T) *shown { return n.ask(t, "POST /publish/news", authorization, "x") },
	}
}

// waits fails the test unless s says that it can't be decided now, in the way that lets its client come back.
func (s *shown) waits(t *testing.T, what string) {
	t.Helper()
	switch {
	case s.code != "unavailable":
		t.Errorf("%s: got %d %s %.300s, want unavailable", what, s.status, s.code, s.raw)
	case strings.Contains(what, "SSE"):
		if s.status != http.StatusOK { // EventSource would give up for good
			t.Errorf("%s: got %d %v", what, s.status, s.header)
		}
	case s.status != http.StatusServiceUnavailable || s.header.Get("Retry-After") == "":
		t.Errorf("%s: got %d %v", what, s.status, s.header)
	}
}

// TestAttackKeySetAway: a node whose issuer can't be asked for keys lets nobody in by token, and says that it may later; it does as soon as the
// set is there, and not before.
func TestAttackKeySetAway(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		first http.HandlerFunc // nil: nobody listens
	}{{"down", nil}, {"slow", hanging}, {"error", failing}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := newForger(t)
			key, entry := apiKey("backend", "*")
			url, away := local(freePorts(t, 1)[0]), (*keyServer)(nil)
			if tt.first != nil {
				away = newKeyServer(t, anyPort, tt.first, saying("<!doctype html><title>Sign in</title>"), saying(`{"keys":[]}`), saying(f.set()))
				url = away.URL
			}
			n := startNode(t, "A", "--dev=false", "--jwt-jwks", url, "--jwt-audiences", fortAudience, "--config", settingsFile(t, "api-keys:\n"+entry+fortChannels))
			token := f.signed(headEd, f.good())
			forged := newForger(t).signed(headEd, f.good())
			for name, ask := range listeners(n, token) {
				ask(t).waits(t, tt.name+", "+name)
			}
			if status, body := get(t, n.url()+"/readyz"); !strings.Contains(body, "JWK set") || strings.Contains(body, url) {
				t.Errorf("readyz says %d %s", status, body)
			}
			if s := n.ask(t, "GET /sse?channel=public:a", "", ""); !s.ok() {
				t.Errorf("a public channel: got %d %s", s.status, s.code)
			}
			until(t, 10*time.Second, "a key publishes", func() bool {
				return n.ask(t, "POST /publish/news", "Authorization: Bearer "+key+"\r\n", "x").ok()
			})
			if away == nil {
				away = newKeyServer(t, strings.TrimPrefix(url, "http://"), failing, saying(`{}`), saying("null"), saying(f.set()))
			}
			until(t, 30*time.Second, "the set is there", func() bool {
				s := n.ask(t, "GET /sse?channel=news", "Authorization: Bearer "+token+"\r\n", "")
				if !s.ok() {
					s.waits(t, tt.name+", SSE")
				}
				if x := n.ask(t, "GET /ws?channel=news", upgradeHead+"Authorization: Bearer "+forged+"\r\n", ""); x.ok() {
					t.Fatal("a forged token is taken")
				}
				return s.ok() || t.Failed()
			})
			if away.count() < 4 {
				t.Errorf("it was taken after %d answers, of which the first 3 were bad", away.count())
			}
			for name, ask := range listeners(n, token) {
				if s := ask(t); !s.ok() {
					t.Errorf("%s, %s after that: got %d %s", tt.name, name, s.status, s.code)
				}
			}
			for name, ask := range listeners(n, forged) {
				ask(t).refuses(t, name, forged, "unauthorized")
			}
		})
	}
}

// TestAttackKeySetRotates: while strangers ask for keys that nobody knows and the set turns into nonsense, those who hold good tokens get in, the
// issuer is asked a few times, and a new key counts when it is there. It takes half a minute, since a set is not read again sooner.
func TestAttackKeySetRotates(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	old, next := newForger(t), newForger(t)
	next.n = 1000
	newHead := headEd.with(claims{"kid": "ed-2"})
	set := strings.ReplaceAll(next.set(), kidEd, "ed-2")
	issuer := newKeyServer(t, anyPort, saying(old.set()))
	_, entry := apiKey("backend", "*")
	n := startNode(t, "A", "--dev=false", "--jwt-jwks", issuer.URL, "--jwt-audiences", fortAudience, "--address-connections", "0", "--config", settingsFile(t, "api-keys:\n"+entry))
	waitReady(t, n)
	until(t, 5*time.Second, "the set is read", func() bool { return issuer.count() == 1 })
	began := time.Now()
	issuer.answer(saying("<html>"), saying(""), failing, saying(set)) // from now on
	pace := time.NewTicker(25 * time.Millisecond)
	defer pace.Stop()
	good, refused := 0, map[string]int{}
	for taken := false; !taken; <-pace.C {
		if time.Since(began) > 60*time.Second {
			t.Fatalf("the new key is not taken after %v; the issuer was asked %d times, answers were %v", time.Since(began), issuer.count(), refused)
		}
		rotated := issuer.count() >= 5
		for _, line := range []string{"GET /sse?channel=news", "POST /publish/news"} { // each with a token that was not seen before
			s := n.ask(t, line, "Authorization: Bearer "+old.signed(headEd, old.good())+"\r\n", "")
			if s.ok() {
				good++
			} else if !rotated && issuer.count() < 5 {
				t.Fatalf("after %v a good token is refused with %d %s", time.Since(began), s.status, s.code)
			}
		}
		s := n.ask(t, "GET /ws?channel=news", upgradeHead+"Authorization: Bearer "+next.signed(newHead, next.good())+"\r\n", "")
		if taken = s.ok(); taken && !rotated && issuer.count() < 5 {
			t.Fatalf("a key is taken that was not in the set yet, after %d answers", issuer.count())
		} else if !taken {
			refused[s.code]++
		}
		stranger := old.signed(headEd.with(claims{"kid": fmt.Sprint("stranger-", good)}), old.good())
		if s := n.ask(t, "GET /ws?channel=news", upgradeHead+"Authorization: Bearer "+stranger+"\r\n", ""); s.ok() {
			t.Fatal("a stranger's token is taken")
		}
	}
	if refused["unauthorized"] == 0 || refused["unavailable"] == 0 || len(refused) > 2 {
		t.Errorf("the new key's tokens were refused with %v, want unauthorized, then unavailable", refused)
	}
	if s := n.ask(t, "GET /sse?channel=news", "Authorization: Bearer "+old.signed(headEd, old.good())+"\r\n", ""); s.code != "unauthorized" {
		t.Errorf("the old key's token: got %d %s", s.status, s.code)
	}
	t.Logf("%d good tokens while the set was bad; the new key counts after %v and %d requests to the issuer", good, time.Since(began), issuer.count())
}
