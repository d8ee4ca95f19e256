// Command goideal shows how little a Go server needs if it does nothing but deliver: shared
// frames, one descriptor per connection, one goroutine that writes. It is a measuring aid and not
// a server: it never notices that a client is gone, and a partial write breaks the stream.
package main

import (
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
)

// channel holds what is to be written and to whom.
type channel struct {
	mu             sync.Mutex
	ws, sse        []int // descriptors
	frames, events []byte
	dirty          bool // queued for the writer
}

type server struct {
	mu       sync.RWMutex
	channels map[string]*channel
	work     chan *channel
}

func main() {
	listen := flag.String("listen", "127.0.0.1:15502", "address to listen on")
	flag.Parse()
	s := &server{channels: map[string]*channel{}, work: make(chan *channel, 1<<16)}
	go s.write()
	http.HandleFunc("/pub", s.servePublish)
	http.HandleFunc("/ws", s.serveStream)
	http.HandleFunc("/sse", s.serveStream)
	log.Fatal(http.ListenAndServe(*listen, nil))
}

func (s *server) channel(name string) *channel {
	s.mu.RLock()
	c := s.channels[name]
	s.mu.RUnlock()
	if c != nil {
		return c
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if c = s.channels[name]; c == nil {
		c = &channel{}
		s.channels[name] = c
	}
	return c
}

func (s *server) write() {
	for c := range s.work {
		c.mu.Lock()
		frames, events, ws, sse := c.frames, c.events, c.ws, c.sse
		c.frames, c.events, c.dirty = nil, nil, false
		c.mu.Unlock()
		for _, fd := range ws {
			syscall.Write(fd, frames)
		}
		for _, fd := range sse {
			syscall.Write(fd, events)
		}
	}
}

func (s *server) servePublish(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	c := s.channel(r.URL.Query().Get("c"))
	c.mu.Lock()
	if len(b) < 126 {
		c.frames = append(c.frames, 0x81, byte(len(b)))
	} else {
		c.frames = binary.BigEndian.AppendUint16(append(c.frames, 0x81, 126), uint16(len(b)))
	}
	c.frames = append(c.frames, b...)
	c.events = append(append(append(c.events, "data: "...), b...), "\n\n"...)
	queued := c.dirty
	c.dirty = true
	c.mu.Unlock()
	if !queued {
		s.work <- c
	}
	w.WriteHeader(http.StatusNoContent)
}

func (s *server) serveStream(w http.ResponseWriter, r *http.Request) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	key := r.Header.Get("Sec-WebSocket-Key")
	if key != "" {
		sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
		fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
			base64.StdEncoding.EncodeToString(sum[:]))
	} else {
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\n\r\n")
	}
	fd, err := keep(conn)
	if err != nil {
		log.Print(err)
		return
	}
	for _, name := range strings.Split(r.URL.Query().Get("c"), ",") {
		c := s.channel(name)
		c.mu.Lock()
		if key != "" {
			c.ws = append(c.ws, fd)
		} else {
			c.sse = append(c.sse, fd)
		}
		c.mu.Unlock()
	}
}

// keep takes the descriptor out of conn and lets go of everything else.
func keep(conn net.Conn) (fd int, err error) {
	defer conn.Close()
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		return 0, err
	}
	if e := raw.Control(func(f uintptr) { fd, err = syscall.Dup(int(f)) }); e != nil {
		return 0, e
	}
	return fd, err
}
