package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// buffering is a proxy that passes an answer on once it has all of it, as virus scanners and some
// gateways of companies do. A client that hangs up is not noticed by the node.
func buffering(t *testing.T, base string) *httptest.Server {
	t.Helper()
	forward := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 10}}
	ctx, cancel := context.WithCancel(context.Background())
	p := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		out, err := http.NewRequestWithContext(ctx, r.Method, base+r.URL.RequestURI(), r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		out.Header = r.Header.Clone()
		res, err := forward.Do(out)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body) // that is it
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		for name, values := range res.Header {
			w.Header()[name] = values
		}
		w.WriteHeader(res.StatusCode)
		_, _ = w.Write(body)
	}))
	t.Cleanup(func() { cancel(); p.Close(); forward.CloseIdleConnections() })
	return p
}

// TestBufferingProxy: through a proxy that lets no stream through, polls bring everything once and in order. A
// stream that was opened there ends by itself, though nobody tells the node that the browser has gone.
func TestBufferingProxy(t *testing.T) {
	t.Parallel()
	n := startNode(t, "A", "--max-stream-life", "3s", "--heartbeat", "1s")
	p := buffering(t, n.url())
	c := httpClient(t, 30*time.Second)

	hung, stop := context.WithTimeout(t.Context(), 1500*time.Millisecond)
	defer stop()
	if st, err := openSSE(hung, c, p.URL+"/sse?channel=a", "", false); err == nil {
		st.close()
		t.Fatal("a stream came through: this proxy proves nothing")
	} else if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}

	const count = 200
	first, err := poll(t.Context(), c, p.URL, `{"channel":"a"}`)
	if err != nil {
		t.Fatal(err)
	}
	published := make(chan error, 1)
	go func() {
		for i := range count {
			if _, err := publish(t.Context(), c, n.url(), "a", "", fmt.Sprint(i)); err != nil {
				published <- err
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
		published <- nil
	}()
	token, answers := first.Token, 0
	for next := 0; next < count; answers++ {
		a, err := poll(t.Context(), c, p.URL, fmt.Sprintf(`{"channel":"a","resume":%q}`, token))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range a.Messages {
			if m.Type != "message" || m.Data != fmt.Sprint(next) {
				t.Fatalf("got %+v, want message %d", m, next)
			}
			next++
		}
		token = a.Token
	}
	if err := <-published; err != nil {
		t.Fatal(err)
	}
	t.Logf("%d messages in %d answers", count, answers)

	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	begin := time.Now()
	whole, err := openSSE(ctx, c, p.URL+"/sse?channel=a", "", false)
	if err != nil {
		t.Fatal(err)
	}
	defer whole.close()
	last := event{}
	for {
		e, err := whole.next()
		if err != nil {
			break
		}
		last = e
	}
	if age := time.Since(begin); last.kind != "reconnect" || age < 3*time.Second {
		t.Errorf("the stream that came whole after %v ends with %+v, want a reconnect", age, last)
	}
}
