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

// TestAttackKeySets: an issuer whose key set is away, or nonsense, or changes under load. It takes half a minute, since a set is not read
// again sooner; what takes less is tried meanwhile.
func TestAttackKeySets(t *testing.T) {
	t.Parallel()
	rotates := newRotation(t)
	ended := make(chan error, 1)
	go func() { ended <- rotates.run() }()
	t.Run("away", keySetAway)
	if err := <-ended; err != nil {
		t.Error(err)
	}
	t.Logf("%d good tokens were taken while the set was bad; the new key counts after %v and %d requests to the issuer", rotates.good, rotates.took, rotates.issuer.count())
}

// keySetAway: a node whose issuer can't be asked for keys lets nobody in by token, and says that it may later; it does as soon as the
// set is there, and not before.
func keySetAway(t *testing.T) {
	for _, tt := range []struct {
		name  string
		first http.HandlerFunc // nil: nobody listens
	}{{"down", nil}, {"slow", hanging}, {"error", failing}} {
		t.Run(tt.name, func(t *testing.T) {
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

// rotation is a node and an issuer that has another key after a while, and answers with nonsense in between.
type rotation struct {
	*node
	issuer    *keyServer
	old, next *forger
	head      claims // of tokens by the new key

	good    int            // tokens that were taken
	refused map[string]int // those by the new key, by code
	took    time.Duration  // until the new key counted
}

func newRotation(t *testing.T) *rotation {
	t.Helper()
	r := &rotation{old: newForger(t), next: newForger(t), head: headEd.with(claims{"kid": "ed-2"}), refused: map[string]int{}}
	r.issuer = newKeyServer(t, anyPort, saying(r.old.set()))
	r.node = startNode(t, "A", "--dev=false", "--jwt-jwks", r.issuer.URL, "--jwt-audiences", fortAudience, "--address-connections", "0")
	waitReady(t, r.node)
	until(t, 5*time.Second, "the set is read", func() bool { return r.issuer.count() == 1 })
	r.issuer.answer(saying("<html>"), saying(""), failing, saying(strings.ReplaceAll(r.next.set(), kidEd, r.head["kid"].(string)))) // from now on
	return r
}

// lastBad is how many requests the issuer answers before the one that brings the new key.
const lastBad = 4

// run has clients connect until the new key counts: while strangers ask for keys that nobody knows and the set is nonsense, those who hold good
// tokens get in, the issuer is asked a few times, and a new key counts when it is there and not before.
func (r *rotation) run() error {
	began := time.Now()
	pace := time.NewTicker(25 * time.Millisecond)
	defer pace.Stop()
	for taken := false; !taken; <-pace.C {
		if r.took = time.Since(began); r.took > time.Minute {
			return fmt.Errorf("the new key is not taken after %v; the issuer was asked %d times, answers were %v", r.took, r.issuer.count(), r.refused)
		}
		for _, line := range []string{"GET /sse?channel=news", "POST /publish/news"} { // each with a token that was not seen before
			s, err := r.show(line, r.old.signed(headEd, r.old.good()))
			switch {
			case err != nil:
				return err
			case s.ok():
				r.good++
			case r.issuer.count() <= lastBad:
				return fmt.Errorf("after %v a good token is refused with %d %s", r.took, s.status, s.code)
			}
		}
		s, err := r.show("GET /ws?channel=news", r.next.signed(r.head, r.next.good()))
		if err != nil {
			return err
		}
		if taken = s.ok(); !taken {
			r.refused[s.code]++
		} else if r.issuer.count() <= lastBad {
			return fmt.Errorf("a key is taken that was not in the set yet, after %d answers", r.issuer.count())
		}
		stranger := r.old.signed(headEd.with(claims{"kid": fmt.Sprint("stranger-", r.good)}), r.old.good())
		if s, err := r.show("GET /ws?channel=news", stranger); err != nil || s.ok() {
			return fmt.Errorf("a stranger's token: %+v, %w", s, err)
		}
	}
	if r.refused["unauthorized"] == 0 || r.refused["unavailable"] == 0 || len(r.refused) > 2 {
		return fmt.Errorf("the new key's tokens were refused with %v, want unauthorized, then unavailable", r.refused)
	}
	if s, err := r.show("GET /sse?channel=news", r.old.signed(headEd, r.old.good())); err != nil || s.code != "unauthorized" {
		return fmt.Errorf("a token by the old key, which is gone: %+v, %w", s, err)
	}
	if n := r.issuer.count(); n > lastBad+1 {
		return fmt.Errorf("the issuer was asked %d times", n)
	}
	return nil
}

// show makes a request with a token.
func (r *rotation) show(line, token string) (*shown, error) {
	head := "Authorization: Bearer " + token + "\r\n"
	if strings.Contains(line, "/ws") {
		head += upgradeHead
	}
	return r.try(line, head, "")
}
