package main

import (
	"bytes"
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// epoch is what all times are counted from. Only differences matter.
var epoch = time.Now()

func now() int64 { return int64(time.Since(epoch)) }

// loop is one epoll instance with all connections, driven by one goroutine.
//
// Its system calls are raw on purpose: none of them waits long, and the runtime's bookkeeping for
// calls that may block keeps its monitor thread waking up on the tool's core.
type loop struct {
	target *Target
	server unix.SockaddrInet4
	nap    time.Duration
	tokens bool // keep every connection's latest resume token

	epoll   int
	conns   []*conn
	pub     *publisher
	buf     []byte
	scratch []byte
	events  []unix.EpollEvent

	ready, failed, dialing int
	firstErr               error
	readAt                 int64 // time of the read under way

	tally
}

// pubBit tells the publisher's connections from the subscribers' in an event.
const pubBit = 1 << 30

func newLoop(t *Target, nap time.Duration) (*loop, error) {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	l := &loop{target: t, nap: nap, epoll: ep, buf: make([]byte, 512<<10), events: make([]unix.EpollEvent, 1024)}
	l.server, err = sockaddr(t.addr)
	return l, err
}

// close shuts all connections.
func (l *loop) close() {
	for _, c := range l.conns {
		c.shut()
	}
	_ = unix.Close(l.epoll)
}

// poll handles what is ready; when nothing is, it rests for at most d nanoseconds and looks again.
func (l *loop) poll(d int64) {
	n := l.wait(0)
	if n == 0 && d > 20_000 {
		if nap := int64(l.nap); nap > 0 {
			ts := unix.NsecToTimespec(min(d, nap))
			unix.RawSyscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&ts)), 0, 0)
			n = l.wait(0)
		} else {
			n = l.wait(d)
		}
	}
	for i := range n {
		ev := &l.events[i]
		if ev.Fd&pubBit != 0 {
			l.pub.event(int(ev.Fd&^pubBit), ev.Events)
			continue
		}
		l.event(l.conns[ev.Fd], ev.Events)
	}
}

// wait returns the number of events; an interrupted wait has none.
func (l *loop) wait(d int64) int {
	ts := unix.NsecToTimespec(d)
	n, _, e := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT2, uintptr(l.epoll), uintptr(unsafe.Pointer(&l.events[0])),
		uintptr(len(l.events)), uintptr(unsafe.Pointer(&ts)), 0, 0)
	if e != 0 {
		return 0
	}
	return int(n)
}

// watch adds a socket, edge-triggered. id is the connection's index, or the publisher's with pubBit.
func (l *loop) watch(fd int, id int32) error {
	return unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{
		Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET&0xffffffff, Fd: id})
}

// while polls until f returns false.
func (l *loop) while(f func() bool) {
	for f() {
		l.poll(1e6)
	}
}

// pause polls for d.
func (l *loop) pause(d time.Duration) {
	for end := now() + int64(d); now() < end; {
		l.poll(min(end-now(), 5e6))
	}
}

// dialAll connects clients, at most concurrency at once, and gives up after the deadline.
func (l *loop) dialAll(clients []*conn, concurrency int, deadline time.Duration) {
	l.ready, l.failed, l.dialing, l.connects = 0, 0, 0, hist{}
	next, end := 0, now()+int64(deadline)
	l.while(func() bool {
		for next < len(clients) && l.dialing < concurrency {
			l.dial(clients[next])
			next++
		}
		return l.ready+l.failed < len(clients) && now() < end
	})
}

func (l *loop) event(c *conn, ev uint32) {
	const bad = unix.EPOLLERR | unix.EPOLLHUP
	switch c.state {
	case dialing:
		if ev&(unix.EPOLLOUT|bad) == 0 {
			return
		}
		if v, _ := unix.GetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_ERROR); v != 0 {
			l.fail(c, unix.Errno(v))
			return
		}
		c.state = heading
		if err := c.send(l.target.request(c.channels, c.token)); err != nil {
			l.fail(c, err)
		}
	case heading, joining, live:
		if ev&(unix.EPOLLIN|unix.EPOLLRDHUP|bad) != 0 {
			l.read(c, ev&(unix.EPOLLRDHUP|bad) != 0)
		}
	}
}

// send is for small writes to a socket that has nothing else to send; a short write is an error.
func (c *conn) send(b []byte) error {
	n, err := rawWrite(c.fd, b)
	if err == nil && n < len(b) {
		err = unix.EAGAIN
	}
	return err
}

func rawWrite(fd int, b []byte) (int, error) {
	n, _, e := unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	if e != 0 {
		return 0, e
	}
	return int(n), nil
}

// read takes what is there; atEnd says that the end of the stream may be in the same event.
func (l *loop) read(c *conn, atEnd bool) {
	for c.fd >= 0 {
		n, wanted, e := l.readSome(c, len(l.buf))
		if e == unix.EAGAIN || e == unix.EINTR || n == 0 || n < wanted && !atEnd {
			return
		}
	}
}

// readSome takes at most limit bytes, and ends c if there are no more. It returns how many came.
func (l *loop) readSome(c *conn, limit int) (n, wanted int, e unix.Errno) {
	kept := copy(l.buf, c.partial)
	free := l.buf[kept:min(kept+limit, len(l.buf))]
	r, _, e := unix.RawSyscall(unix.SYS_READ, uintptr(c.fd), uintptr(unsafe.Pointer(&free[0])), uintptr(len(free)))
	if e == unix.EAGAIN || e == unix.EINTR {
		return 0, len(free), e
	}
	if n = int(r); e != 0 || n == 0 {
		l.ended(c, e)
		return 0, len(free), e
	}
	c.partial = c.partial[:0]
	l.bytes += int64(n)
	l.readAt = now()
	l.feed(c, l.buf[:kept+n], kept)
	return n, len(free), 0
}

// ended notes that the server has closed c.
func (l *loop) ended(c *conn, e unix.Errno) {
	if c.state != live && c.state != stalling {
		err := fmt.Errorf("closed by the server: %.200q", c.partial)
		if e != 0 {
			err = e
		}
		l.fail(c, err)
		return
	}
	l.closed++
	c.shut()
	c.state = closed
}

// feed handles b, whose first old bytes had been kept from earlier reads.
func (l *loop) feed(c *conn, b []byte, old int) {
	if c.state == heading {
		i := bytes.Index(b, []byte("\r\n\r\n"))
		if i < 0 {
			c.partial = append(c.partial, b...)
			return
		}
		if err := l.head(c, string(b[:i+2])); err != nil {
			l.fail(c, err)
			return
		}
		b, old = b[i+4:], 0
	}
	if c.ws {
		b = l.frames(c, b)
	} else {
		b = l.lines(c, c.chunks.strip(b, old))
	}
	if c.fd >= 0 {
		c.partial = append(c.partial, b...)
	}
}
