package evilproxy

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// behind starts a server that is as it should be, and a proxy in front of it. Of the server:
//
//	/ws      greets with "welcome" and echoes
//	/stream  events without end, one of 200 bytes each 10 ms; /stream?quiet=1 only one
//	/poll    a whole answer, after 20 ms: what was posted, and the Last-Event-ID of the request
func behind(t *testing.T, mode Mode) *Proxy {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/ws":
			echo(w, r)
		case "/stream":
			stream(w, r)
		case "/poll":
			time.Sleep(20 * time.Millisecond)
			body, _ := io.ReadAll(r.Body)
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprintf(w, `[%q,%q,%q]`, body, r.Header.Get("Last-Event-ID"), r.Proto)
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(s.Close)
	p, err := Start("127.0.0.1:0", s.Listener.Addr().String(), mode)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func echo(w http.ResponseWriter, r *http.Request) {
	if !websocket.IsWebSocketUpgrade(r) {
		http.Error(w, "no handshake", http.StatusUpgradeRequired)
		return
	}
	c, err := new(websocket.Upgrader).Upgrade(w, r, nil)
	if err != nil {
		return
	}
	defer c.Close()
	for say := []byte("welcome"); ; {
		if c.WriteMessage(websocket.TextMessage, say) != nil {
			return
		}
		if _, say, err = c.ReadMessage(); err != nil {
			return
		}
	}
}

func stream(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", r.FormValue("cache"))
	every := time.NewTicker(10 * time.Millisecond)
	defer every.Stop()
	for {
		if _, err := io.WriteString(w, "data: "+strings.Repeat("x", 192)+"\n\n"); err != nil {
			return
		}
		w.(http.Flusher).Flush()
		for again := true; again; again = r.FormValue("quiet") != "" {
			select {
			case <-every.C:
			case <-r.Context().Done():
				return
			}
		}
	}
}
