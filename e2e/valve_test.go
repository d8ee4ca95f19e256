package e2e

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"
)

// valve stands in the connections of one client and decides how fast it reads. Nothing is taken from the
// socket beyond that, so the node feels it as soon as the small receive buffer is full.
type valve struct {
	mu     sync.Mutex
	turned chan struct{} // closed when the flow changes
	flow   flow
}

// flow is how fast a client reads.
type flow int

const (
	flowing  flow = iota // as fast as it can
	crawling             // crawlBytes, then nothing for crawlTime
	stalled              // not at all
)

const (
	crawlBytes = 128
	crawlTime  = 125 * time.Millisecond // 1 KiB/s
)

func newValve() *valve { return &valve{turned: make(chan struct{})} }

// turn changes the flow.
func (v *valve) turn(f flow) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.flow = f
	close(v.turned)
	v.turned = make(chan struct{})
}

func (v *valve) now() (flow, <-chan struct{}) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.flow, v.turned
}

// dial is a dialFunc.
func (v *valve) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := narrow.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &valveConn{Conn: conn, valve: v, closed: make(chan struct{})}, nil
}

// on has all connections of c go through v.
func (v *valve) on(c *client) {
	c.dial = v.dial
	c.http.Transport.(*http.Transport).DialContext = v.dial
}

type valveConn struct {
	net.Conn
	valve *valve
	once  sync.Once

	closed chan struct{}
}

// Read waits until the valve lets something through.
func (c *valveConn) Read(b []byte) (int, error) {
	for {
		flow, turned := c.valve.now()
		switch flow {
		case flowing:
			return c.Conn.Read(b)
		case crawling:
			n, err := c.Conn.Read(b[:min(len(b), crawlBytes)])
			if err != nil {
				return n, err
			}
			pause := time.NewTimer(crawlTime)
			defer pause.Stop()
			select {
			case <-pause.C:
			case <-turned:
			case <-c.closed:
			}
			return n, nil
		}
		select {
		case <-turned:
		case <-c.closed:
			return 0, net.ErrClosed
		}
	}
}

func (c *valveConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}
