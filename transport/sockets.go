package transport

import (
	"net"
	"sync/atomic"

	"sluice/middleware"
)

// sockets is a listener that bounds how many connections there are at once, in all and of an address, whatever they are for:
// handshakes, idle ones, those that say nothing, and sessions. It closes the newest, before TLS and before anything is read.
// Trusted proxies carry others: of theirs only the sum counts.
type sockets struct {
	net.Listener
	server *Server
	open   atomic.Int64
	of     crowd // by address
}

const (
	spareSockets   = 1024 // besides sessions, if Config.MaxSockets does not say
	addressSockets = 16   // besides twice its sessions: what a browser opens ahead, and what waits to be used again
	scarceSockets  = 256  // that are no sessions, while there is no memory: health checks must get through
)

// maxSockets returns how many there may be at once.
func (c *Config) maxSockets() int {
	if c.MaxSockets > 0 {
		return c.MaxSockets
	}
	return c.MaxSessions + spareSockets
}

// Accept returns the next connection that is within the limits.
func (l *sockets) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		seat, over := l.enter(c.RemoteAddr())
		if over < limitKinds {
			l.server.limits.refused[over].Add(1)
			if tcp, ok := c.(*net.TCPConn); ok {
				_ = tcp.SetLinger(0) // nothing is left of it here, not even TIME-WAIT
			}
			_ = c.Close()
			continue
		}
		if tcp, ok := c.(*net.TCPConn); ok {
			l.server.tune(tcp)
			return &tcpSocket{TCPConn: tcp, seat: seat}, nil
		}
		return &otherSocket{Conn: c, seat: seat}, nil
	}
}

// enter counts a connection in, or returns the limit that it is over; limitKinds: none.
func (l *sockets) enter(from net.Addr) (seat, limitKind) {
	s := l.server
	n := l.open.Add(1)
	switch {
	case n > int64(s.config.maxSockets()):
		l.open.Add(-1)
		return seat{}, limitNodeSockets
	case s.memory.isFull(newConnection) && n-s.sessions.Load() > scarceSockets:
		l.open.Add(-1)
		return seat{}, limitNodeMemory
	}
	t := seat{sockets: l}
	tcp, ok := from.(*net.TCPAddr)
	if !ok || s.limits.perAddress == 0 {
		return t, limitKinds
	}
	a := tcp.AddrPort().Addr().Unmap().WithZone("")
	if s.limits.clients.Trusts(a) {
		return t, limitKinds
	}
	address := s.limits.clients.AddrKey(a)
	if !s.limits.counted(address) {
		return t, limitKinds
	}
	t.address = address
	if !l.of.enter(t.address, 2*s.limits.perAddress+addressSockets) {
		l.open.Add(-1)
		return seat{}, limitAddressSockets
	}
	return t, limitKinds
}

// seat is the place of one connection among the sockets.
type seat struct {
	sockets *sockets       // nil: none is taken
	address middleware.Key // 0: it is not counted for its address
}

// leave gives the place up. It is for one caller at a time, who may call it again.
func (t *seat) leave() {
	l := t.sockets
	if l == nil {
		return
	}
	t.sockets = nil
	l.open.Add(-1)
	if t.address != 0 {
		l.of.leave(t.address)
	}
}

// tcpSocket is a TCP connection that has a place. It has all methods of the connection, which net/http looks for.
type tcpSocket struct {
	*net.TCPConn
	seat   seat
	closed atomic.Bool
}

// Close closes the connection and gives up its place.
func (c *tcpSocket) Close() error {
	err := c.TCPConn.Close()
	if !c.closed.Swap(true) {
		c.seat.leave()
	}
	return err
}

// detach hands the place over: whoever has it gives it up, and Close does not.
func (c *tcpSocket) detach() seat {
	if c.closed.Swap(true) {
		return seat{}
	}
	return c.seat
}

// otherSocket is any other connection that has a place.
type otherSocket struct {
	net.Conn
	seat   seat
	closed atomic.Bool
}

// Close closes the connection and gives up its place.
func (c *otherSocket) Close() error {
	err := c.Conn.Close()
	if !c.closed.Swap(true) {
		c.seat.leave()
	}
	return err
}
