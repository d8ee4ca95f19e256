// Command gohub is the baseline: the hub that chat examples teach. One goroutine owns all
// subscriptions, every client has a buffered channel, a reader and a writer; SSE is net/http with
// Flush. It follows gorilla/websocket's chat example, with channels, Redis and SSE added.
package main

import (
	"context"
	"flag"
	"io"
	"log"
	"net/http"
	"strings"
	"time"

	"github.com/gorilla/websocket"
	"github.com/redis/go-redis/v9"
)

const (
	writeWait = 10 * time.Second
	pongWait  = 60 * time.Second
	pingEvery = 54 * time.Second
	clientBuf = 256 // messages
)

type message struct {
	channel string
	data    []byte
}

type client struct {
	channels []string
	send     chan []byte
}

// hub owns the subscriptions; only run touches subs.
type hub struct {
	subs       map[string]map[*client]struct{}
	register   chan *client
	unregister chan *client
	publish    chan message
}

func main() {
	listen := flag.String("listen", "127.0.0.1:15501", "address to listen on")
	redisAddr := flag.String("redis", "", "take messages from the channels c* of this Redis, too")
	flag.Parse()
	h := &hub{subs: map[string]map[*client]struct{}{}, register: make(chan *client), unregister: make(chan *client), publish: make(chan message, 64)}
	go h.run()
	if *redisAddr != "" {
		go h.feed(redis.NewClient(&redis.Options{Addr: *redisAddr}))
	}
	http.HandleFunc("/pub", h.servePublish)
	http.HandleFunc("/ws", h.serveWS)
	http.HandleFunc("/sse", h.serveSSE)
	log.Fatal(http.ListenAndServe(*listen, nil))
}

func (h *hub) run() {
	for {
		select {
		case c := <-h.register:
			for _, n := range c.channels {
				if h.subs[n] == nil {
					h.subs[n] = map[*client]struct{}{}
				}
				h.subs[n][c] = struct{}{}
			}
		case c := <-h.unregister:
			h.drop(c)
		case m := <-h.publish:
			for c := range h.subs[m.channel] {
				select {
				case c.send <- m.data:
				default: // too slow
					h.drop(c)
				}
			}
		}
	}
}

func (h *hub) drop(c *client) {
	known := false
	for _, n := range c.channels {
		if _, ok := h.subs[n][c]; ok {
			delete(h.subs[n], c)
			known = true
		}
	}
	if known {
		close(c.send)
	}
}

// feed takes messages from Redis for good.
func (h *hub) feed(rdb *redis.Client) {
	sub := rdb.PSubscribe(context.Background(), "c*")
	for m := range sub.Channel(redis.WithChannelSize(10000)) {
		h.publish <- message{m.Channel, []byte(m.Payload)}
	}
}

func newClient(r *http.Request) *client {
	return &client{channels: strings.Split(r.URL.Query().Get("c"), ","), send: make(chan []byte, clientBuf)}
}

func (h *hub) servePublish(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client is gone
	}
	h.publish <- message{r.URL.Query().Get("c"), b}
	w.WriteHeader(http.StatusNoContent)
}

func (h *hub) serveWS(w http.ResponseWriter, r *http.Request) {
	up := websocket.Upgrader{ReadBufferSize: 1024, WriteBufferSize: 1024, CheckOrigin: func(*http.Request) bool { return true }}
	conn, err := up.Upgrade(w, r, nil)
	if err != nil {
		return // Upgrade has answered
	}
	c := newClient(r)
	h.register <- c
	go c.write(conn)
	defer func() { h.unregister <- c; conn.Close() }()
	conn.SetReadLimit(512)
	conn.SetReadDeadline(time.Now().Add(pongWait))
	conn.SetPongHandler(func(string) error { return conn.SetReadDeadline(time.Now().Add(pongWait)) })
	for {
		if _, _, err := conn.ReadMessage(); err != nil {
			return
		}
	}
}

func (c *client) write(conn *websocket.Conn) {
	ticker := time.NewTicker(pingEvery)
	defer func() { ticker.Stop(); conn.Close() }()
	for {
		select {
		case b, ok := <-c.send:
			conn.SetWriteDeadline(time.Now().Add(writeWait))
			if !ok {
				conn.WriteMessage(websocket.CloseMessage, nil)
				return
			}
			if conn.WriteMessage(websocket.TextMessage, b) != nil {
				return
			}
		case <-ticker.C:
			conn.SetWriteDeadline(time.Now().Add(writeWait))
			if conn.WriteMessage(websocket.PingMessage, nil) != nil {
				return
			}
		}
	}
}

func (h *hub) serveSSE(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.WriteHeader(http.StatusOK)
	flush := http.NewResponseController(w).Flush
	c := newClient(r)
	h.register <- c
	defer func() { h.unregister <- c }()
	flush()
	for {
		select {
		case b, ok := <-c.send:
			if !ok {
				return
			}
			io.WriteString(w, "data: ")
			w.Write(b)
			io.WriteString(w, "\n\n")
			flush()
		case <-r.Context().Done():
			return
		}
	}
}
