// Package evilproxy is a reverse proxy that misbehaves on purpose, for tests: in the ways in which proxies, gateways, firewalls and
// address translators between browsers and servers do, one Mode of it at a time.
//
//   - It misbehaves the same way each time: nothing in it is random.
//   - What a Mode does not name is passed on at once, unchanged.
//   - While it holds an answer back it does not notice that the client has gone, as many don't: the server's stream stays open until
//     the server ends it.
package evilproxy

import (
	"fmt"
	"net"
	"sync"
)

// Proxy is a listener in front of one server.
type Proxy struct {
	mode     Mode
	target   string // host:port
	listener net.Listener
	work     sync.WaitGroup

	mu     sync.Mutex
	closed bool
	open   map[net.Conn]bool
}

// Start listens on addr (host:port, port 0 for a free one) for the server at target (host:port), until Close.
func Start(addr, target string, mode Mode) (*Proxy, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen as %s: %w", mode.Name, err)
	}
	p := &Proxy{mode: mode, target: target, listener: l, open: map[net.Conn]bool{}}
	p.work.Go(p.accept)
	return p, nil
}

// URL is where it listens, http://host:port without a slash at the end.
func (p *Proxy) URL() string { return "http://" + p.listener.Addr().String() }

// Close stops listening, closes all connections and returns when nothing of the proxy runs any more.
func (p *Proxy) Close() {
	p.listener.Close()
	p.mu.Lock()
	p.closed = true
	for c := range p.open {
		c.Close()
	}
	p.mu.Unlock()
	p.work.Wait()
}

func (p *Proxy) accept() {
	for {
		c, err := p.listener.Accept()
		if err != nil {
			return
		}
		if p.keep(c) {
			p.work.Go(func() { newLink(p, c).serve() })
		}
	}
}

// keep registers a connection for Close. It closes it and reports false when that was called already.
func (p *Proxy) keep(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		c.Close()
		return false
	}
	p.open[c] = true
	return true
}

// end closes a connection.
func (p *Proxy) end(c net.Conn) {
	p.mu.Lock()
	delete(p.open, c)
	p.mu.Unlock()
	c.Close()
}
