package e2e

import (
	"bytes"
	"net"
	"slices"
	"sync"
	"testing"
)

// passage is a network between pages and a node: a port that passes bytes on and knows no protocol. The node behind it can be another one at any
// time, what is open can be lost or cut, and what nobody wants can be refused. Its methods may be called concurrently.
type passage struct {
	listener net.Listener
	work     sync.WaitGroup

	mu       sync.Mutex
	target   string // host:port of the node
	unwanted []string
	open     map[net.Conn]*crossing
	closed   bool
}

// crossing is one connection through it, under the lock of the passage.
type crossing struct {
	near, far net.Conn
	lost      bool // nothing passes any more, though nothing is closed
}

// newPassage opens a passage to the node at target, which is closed when the test ends.
func newPassage(t *testing.T, target string) *passage {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &passage{listener: l, target: target, open: map[net.Conn]*crossing{}}
	p.work.Go(p.accept)
	t.Cleanup(func() {
		l.Close()
		p.mu.Lock()
		p.closed = true
		p.mu.Unlock()
		p.cut()
		p.work.Wait()
	})
	return p
}

func (p *passage) url() string { return "http://" + p.listener.Addr().String() }

// turn leads what comes from now on to another node.
func (p *passage) turn(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = target
}

// lose makes a black hole of all that is open. What comes from now on passes.
func (p *passage) lose() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.open {
		c.lost = true
	}
}

// cut closes all that is open.
func (p *passage) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.open {
		c.near.Close()
		c.far.Close()
	}
}

// refuse closes what begins with one of these from now on, as "GET /ws", and cuts what is open.
func (p *passage) refuse(unwanted ...string) {
	p.mu.Lock()
	p.unwanted = unwanted
	p.mu.Unlock()
	p.cut()
}

func (p *passage) accept() {
	for {
		near, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		target := p.target
		p.mu.Unlock()
		far, err := net.Dial("tcp", target)
		if err != nil { // the node is not there
			near.Close()
			continue
		}
		c := &crossing{near: near, far: far}
		p.mu.Lock()
		if p.closed {
			near.Close()
			far.Close()
		}
		p.open[near] = c
		p.mu.Unlock()
		p.work.Go(func() {
			var both sync.WaitGroup
			both.Go(func() { p.pass(c, far, near) })
			p.pass(c, near, far)
			both.Wait()
			p.mu.Lock()
			delete(p.open, near)
			p.mu.Unlock()
		})
	}
}

// pass copies in one direction until there is an end, which is that of the other one too: but where nothing passes nobody hears of it.
func (p *passage) pass(c *crossing, to, from net.Conn) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		lost, refused := p.state(c, from, buffer[:n])
		if n > 0 && !lost && !refused {
			_, err = to.Write(buffer[:n])
		}
		switch {
		case err == nil && !refused:
			continue
		case !lost:
			to.Close()
		}
		from.Close()
		return
	}
}

// state says what becomes of bytes from one end of c.
func (p *passage) state(c *crossing, from net.Conn, b []byte) (lost, refused bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if from == c.near {
		refused = slices.ContainsFunc(p.unwanted, func(start string) bool { return bytes.HasPrefix(b, []byte(start)) })
	}
	return c.lost, refused
}
