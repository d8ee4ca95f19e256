package main

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// state is how far a connection has come.
type state uint8

const (
	unused   state = iota
	dialing        // connect(2) under way
	heading        // waiting for the head of the response
	joining        // head in, waiting for the welcome
	live           // counted as a subscriber
	stalling       // live, but not read
	closed         // closed by the server after it was live
	failed         // never became live
)

// conn is one subscriber.
type conn struct {
	fd       int // -1: none
	index    int
	state    state
	ws       bool
	apart    bool // its latencies are not counted: it is one of those that will stall
	channels []uint32
	windows  []window // one per channel
	token    string   // the latest resume token
	got      int64    // messages since the last reset
	pulse    pulse    // if there are keys
	began    int64    // when the connect began
	chunks   dechunker
	partial  []byte // of an incomplete head, frame or line
}

// window sees duplicates and reordering in one channel of one connection.
type window struct {
	last uint32
	bits uint64 // bit i: message last-i was seen
	warm bool   // the warm-up message was seen
}

// see notes message seq and says what it is.
func (w *window) see(seq uint32) (duplicate, late bool) {
	switch d := int64(seq) - int64(w.last); {
	case d > 0:
		if d < 64 {
			w.bits = w.bits<<uint(d) | 1
		} else {
			w.bits = 1
		}
		w.last = seq
		return false, false
	case d > -64 && w.bits>>uint(-d)&1 == 1:
		return true, false
	default:
		if d > -64 {
			w.bits |= 1 << uint(-d)
		}
		return false, true
	}
}

// window returns the window of a channel that c listens to.
func (c *conn) window(channel uint32) *window {
	for i := range c.channels {
		if c.channels[i] == channel {
			return &c.windows[i]
		}
	}
	return &c.windows[0]
}

// dial starts a connect. The source addresses are 16 of loopback's, so that ephemeral ports are
// not what limits the number of connections.
func (l *loop) dial(c *conn) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		l.fail(c, err)
		return
	}
	c.fd, c.state, c.began = fd, dialing, now()
	c.partial, c.chunks = nil, dechunker{}
	l.dialing++
	err = errorsOf(
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1),
		unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1),
		unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 1, byte(1 + c.index%16)}}),
	)
	if err == nil && c.apart {
		// No auto-tuning: what the client's own kernel takes in while it stalls must not vary.
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 64<<10)
	}
	if err == nil {
		if err = unix.Connect(fd, &l.server); err == unix.EINPROGRESS {
			err = nil
		}
	}
	if err == nil {
		err = l.watch(fd, int32(c.index))
	}
	if err != nil {
		l.fail(c, err)
	}
}

// errorsOf returns the first error.
func errorsOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// fail gives up on a connection that is not live yet.
func (l *loop) fail(c *conn, err error) {
	if l.firstErr == nil {
		l.firstErr = fmt.Errorf("connection %d: %w", c.index, err)
	}
	if c.fd >= 0 {
		l.dialing--
	}
	l.failed++
	c.shut()
	c.state = failed
}

// shut closes the socket with a reset: no TIME_WAIT, no waiting for the other side.
func (c *conn) shut() {
	if c.fd < 0 {
		return
	}
	// If it fails the close is an ordinary one, which does as well.
	_ = unix.SetsockoptLinger(c.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	_ = unix.Close(c.fd)
	c.fd = -1
}

// head handles the head of the response.
func (l *loop) head(c *conn, head string) error {
	want := "HTTP/1.1 200 "
	if c.ws {
		want = "HTTP/1.1 101 "
	}
	if !strings.HasPrefix(head, want) {
		return fmt.Errorf("answered %.300q", head)
	}
	c.chunks.on = strings.Contains(strings.ToLower(head), "transfer-encoding: chunked")
	c.state = joining
	if !l.target.welcome {
		l.join(c)
	}
	return nil
}

// join counts c as a subscriber.
func (l *loop) join(c *conn) {
	c.state = live
	l.dialing--
	l.ready++
	l.connects.add(now() - c.began)
}

// stall stops reading c, as a page does that is suspended.
func (l *loop) stall(c *conn) error {
	c.state = stalling
	return unix.EpollCtl(l.epoll, unix.EPOLL_CTL_DEL, c.fd, nil)
}

// unstall reads on.
func (l *loop) unstall(c *conn) error {
	c.state = live
	return l.watch(c.fd, int32(c.index))
}
