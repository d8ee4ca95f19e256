package evilproxy

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// link is one connection of a client and, while a request of it is served, one to the server.
type link struct {
	p      *Proxy
	mode   Mode
	client net.Conn
	in     *bufio.Reader // of client
	lost   atomic.Bool   // nothing passes any more, though nothing is closed
	idle   *time.Timer   // nil without Idle
	life   *time.Timer   // nil without Life

	mu     sync.Mutex
	server net.Conn // nil between requests
}

func newLink(p *Proxy, client net.Conn) *link {
	return &link{p: p, mode: p.mode, client: client, in: bufio.NewReader(client)}
}

// serve answers the client's requests one after the other.
func (l *link) serve() {
	defer l.p.end(l.client)
	if l.mode.Idle > 0 {
		l.idle = time.AfterFunc(l.mode.Idle, l.tire)
		defer l.idle.Stop()
	}
	if l.mode.Life > 0 {
		l.life = time.AfterFunc(l.mode.Life, func() { l.cut(false) })
		defer l.life.Stop()
	}
	for {
		req, err := http.ReadRequest(l.in)
		if err != nil {
			return
		}
		if l.lost.Load() {
			_, _ = io.Copy(io.Discard, l.in)
			return
		}
		l.touch()
		if !l.exchange(req) {
			return
		}
	}
}

// touch says that something has passed.
func (l *link) touch() {
	if l.idle != nil && !l.lost.Load() {
		l.idle.Reset(l.mode.Idle)
	}
}

// tire ends a connection that has been idle.
func (l *link) tire() {
	if l.mode.IdleEnd == IdleLost {
		l.lost.Store(true)
		return
	}
	l.cut(l.mode.IdleEnd == IdleRST)
}

// cut ends both sides, with a reset or in an orderly way.
func (l *link) cut(reset bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range []net.Conn{l.client, l.server} {
		if tcp, ok := c.(*net.TCPConn); ok {
			if reset {
				_ = tcp.SetLinger(0)
			}
			tcp.Close()
		}
	}
}

// exchange serves one request and reports whether the client may send another one.
func (l *link) exchange(req *http.Request) bool {
	if l.mode.NoWorkers && req.Header.Get("Sec-Fetch-Dest") == "sharedworker" {
		_, _ = io.Copy(io.Discard, l.in)
		return false
	}
	upgrade := strings.EqualFold(req.Header.Get("Upgrade"), "websocket")
	if upgrade && !l.handshake(req) {
		return false
	}
	server, err := net.Dial("tcp", l.p.target)
	if err != nil {
		l.refuse(http.StatusBadGateway)
		return false
	}
	if !l.p.keep(server) {
		return false
	}
	defer l.p.end(server)
	l.mu.Lock()
	l.server = server
	l.mu.Unlock()
	if err := l.forward(server, req); err != nil {
		return false
	}
	from := bufio.NewReader(server)
	res, err := http.ReadResponse(from, req)
	if err != nil {
		return false
	}
	defer res.Body.Close()
	l.touch()
	if res.StatusCode == http.StatusSwitchingProtocols {
		l.tunnel(res, from, server)
		return false
	}
	return l.answer(req, res)
}

// handshake reports whether a WebSocket handshake goes on to the server, perhaps as something else.
func (l *link) handshake(req *http.Request) bool {
	handshake := l.mode.Handshake
	if l.mode.HTTP10 {
		handshake = HandshakeStripped
	}
	switch handshake {
	case HandshakeStripped:
		req.Header.Del("Upgrade")
		req.Header.Del("Connection")
	case HandshakeAnswered:
		l.refuse(l.mode.Status)
		return false
	case HandshakeSwallowed:
		_, _ = io.Copy(io.Discard, l.in)
		return false
	case HandshakeReset:
		l.cut(true)
		return false
	}
	return true
}

// forward sends a request on.
func (l *link) forward(server net.Conn, req *http.Request) error {
	version := "HTTP/1.1"
	if l.mode.HTTP10 {
		version = "HTTP/1.0"
	}
	if l.mode.NoLastEventID {
		req.Header.Del("Last-Event-ID")
	}
	if req.Header.Get("Upgrade") == "" {
		req.Header.Set("Connection", "close") // one request, one connection
	}
	var head bytes.Buffer
	fmt.Fprintf(&head, "%s %s %s\r\nHost: %s\r\n", req.Method, req.URL.RequestURI(), version, req.Host)
	_ = req.Header.Write(&head) // a Buffer takes everything
	head.WriteString("\r\n")
	if _, err := server.Write(head.Bytes()); err != nil {
		return err
	}
	_, err := io.Copy(server, io.LimitReader(req.Body, max(0, req.ContentLength))) // browsers send lengths
	return err
}

// refuse answers in the server's place.
func (l *link) refuse(status int) {
	const page = "<h1>Not here</h1>\n"
	location := ""
	if status == http.StatusFound {
		location = "Location: http://portal.invalid/login\r\n"
	}
	_, _ = fmt.Fprintf(l.client, "HTTP/1.1 %d %s\r\n%sContent-Type: text/html\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
		status, http.StatusText(status), location, len(page), page) // if the client has gone there is nobody to tell
}
