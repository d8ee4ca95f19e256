package e2e

import (
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// cutter stands between clients and the nodes and cuts each connection after a random number of
// bytes to the client: in the middle of a frame, a line or a head as likely as between two. Before
// that it may stall the connection: then nothing is read from the node, as if the client hung.
type cutter struct {
	mean  int64          // bytes until a connection is cut
	stall time.Duration  // on average, once per connection
	ports []net.Listener // one per node
	cuts  atomic.Int64
	work  sync.WaitGroup

	stopped chan struct{}

	mu   sync.Mutex
	rng  *rand.Rand
	open map[net.Conn]bool
}

// newCutter listens on a port for each of the rig's nodes.
func newCutter(r *rig, mean int64, stall time.Duration) *cutter {
	c := &cutter{mean: mean, stall: stall, rng: rand.New(rand.NewPCG(r.rng.Uint64(), 0)), open: map[net.Conn]bool{}, stopped: make(chan struct{})}
	for _, n := range r.nodes {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			r.Fatal(err)
		}
		c.ports = append(c.ports, l)
		c.work.Go(func() { c.accept(l, n.addr) })
	}
	r.Cleanup(func() {
		close(c.stopped)
		for _, l := range c.ports {
			l.Close()
		}
		c.mu.Lock()
		for conn := range c.open {
			conn.Close()
		}
		c.mu.Unlock()
		c.work.Wait()
	})
	return c
}

// at returns the base of clients that always go to node i.
func (c *cutter) at(i int) func(int) string {
	return func(int) string { return "http://" + c.ports[i].Addr().String() }
}

// alternate returns the base of clients that go to another node each time.
func (c *cutter) alternate(first int) func(int) string {
	return func(attempt int) string { return c.at((first + attempt) % len(c.ports))(attempt) }
}

func (c *cutter) accept(l net.Listener, target string) {
	for {
		client, err := l.Accept()
		if err != nil {
			return
		}
		server, err := narrow.Dial("tcp", target)
		if err != nil {
			client.Close()
			continue
		}
		limit, stall := c.keep(client, server)
		c.work.Go(func() {
			_, _ = io.Copy(server, client)
			c.cut(client, server)
		})
		c.work.Go(func() {
			if stall > 0 {
				_, _ = io.CopyN(client, server, limit/2)
				limit -= limit / 2
				select {
				case <-time.After(stall):
				case <-c.stopped:
				}
			}
			if n, _ := io.CopyN(client, server, limit); n == limit {
				c.cuts.Add(1)
			}
			c.cut(client, server)
		})
	}
}

// narrow dials with the smallest receive buffer, so that a stalled connection is soon felt by the node.
var narrow = net.Dialer{Control: func(_, _ string, raw syscall.RawConn) (err error) {
	return errors.Join(raw.Control(func(fd uintptr) {
		err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 2048)
	}), err)
}}

// keep registers a pair of connections and draws the number of bytes after which it is cut and the
// time for which it stalls before.
func (c *cutter) keep(conns ...net.Conn) (limit int64, stall time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range conns {
		c.open[conn] = true
		select {
		case <-c.stopped:
			conn.Close()
		default:
		}
	}
	return 1 + int64(c.rng.ExpFloat64()*float64(c.mean)), time.Duration(c.rng.ExpFloat64() * float64(c.stall))
}

func (c *cutter) cut(conns ...net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range conns {
		if c.open[conn] {
			if c.rng.IntN(2) == 0 { // as often a reset as an orderly end
				_ = conn.(*net.TCPConn).SetLinger(0)
			}
			conn.Close()
			delete(c.open, conn)
		}
	}
}
