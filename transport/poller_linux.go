package transport

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// poller waits for all plain TCP sessions at once (epoll(7)), so that an idle connection costs no
// goroutine and no buffer. What it reads goes to the sessions from its one goroutine.
type poller struct {
	fd   int
	file *os.File // the same descriptor: Go's own poller wakes us, no thread is parked
	raw  syscall.RawConn

	mu    sync.RWMutex
	links map[int]*fdLink
}

func newPoller() (*poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll_create1: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("set epoll non-blocking: %w", err)
	}
	p := &poller{fd: fd, file: os.NewFile(uintptr(fd), "epoll"), links: map[int]*fdLink{}}
	if p.raw, err = p.file.SyscallConn(); err != nil {
		_ = p.file.Close()
		return nil, fmt.Errorf("poll epoll: %w", err)
	}
	return p, nil
}

// run hands what arrives to the sessions until ctx ends; then it closes the epoll descriptor.
func (p *poller) run(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() { _ = p.file.Close() })
	defer stop()
	events := make([]unix.EpollEvent, 256)
	buf := make([]byte, 64<<10)
	for {
		var n int
		err := p.raw.Read(func(fd uintptr) bool {
			n, _ = unix.EpollWait(int(fd), events, 0)
			return n > 0
		})
		if err != nil {
			return
		}
		for _, e := range events[:n] {
			p.mu.RLock()
			l := p.links[int(e.Fd)]
			p.mu.RUnlock()
			if l != nil {
				l.ready(e.Events, buf)
			}
		}
	}
}

// fdLink is a plain TCP socket taken out of Go's net package: 0.1 KiB instead of 2.7.
type fdLink struct {
	session *session
	poller  *poller

	seat seat // among the sockets; given up when it is closed

	mu    sync.Mutex // held only around non-blocking system calls, so that none of them meets a reused descriptor
	fd    int        // -1 once closed
	waits bool       // for room to write
}

// detach takes the socket out of c and closes c. It returns false if c is not plain TCP.
func (p *poller) detach(c net.Conn, s *session) (*fdLink, bool) {
	place, counted := c.(*tcpSocket)
	tcp, ok := c.(*net.TCPConn)
	if counted {
		tcp = place.TCPConn
	} else if !ok {
		return nil, false
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil, false
	}
	fd := -1
	cerr := raw.Control(func(old uintptr) { fd, err = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) })
	if cerr != nil || err != nil {
		return nil, false
	}
	l := &fdLink{session: s, poller: p, fd: fd}
	if counted {
		l.seat = place.detach()
	}
	_ = c.Close() // the duplicate keeps the connection
	return l, true
}

// tune bounds what the kernel keeps for a peer that does not read: without it 4 MB are swallowed before a write blocks, and what is
// owed can't be conflated any more. And it has the kernel give up on one that vanished without a word, by what stays unacknowledged;
// else it tries for a quarter of an hour. It is for all connections, those that stay in Go's net package too.
func (s *Server) tune(c *net.TCPConn) {
	raw, err := c.SyscallConn()
	if err != nil {
		return // it is closed
	}
	_ = raw.Control(func(handle uintptr) {
		fd := int(handle)
		if n := s.config.UnsentLimit; n > 0 {
			_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, n)
		}
		if n := s.config.SendBuffer; n > 0 {
			_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, n)
		}
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int((s.config.WriteTimeout+2*s.config.Heartbeat)/time.Millisecond))
	})
}

// start makes the poller watch the socket, unless the writer has given it up already.
func (l *fdLink) start() error {
	l.poller.mu.Lock()
	defer l.poller.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fd < 0 {
		return nil
	}
	l.poller.links[l.fd] = l
	return unix.EpollCtl(l.poller.fd, unix.EPOLL_CTL_ADD, l.fd, &unix.EpollEvent{Events: l.interest(), Fd: int32(l.fd)})
}

// interest is what the poller waits for. l.mu is held.
func (l *fdLink) interest() uint32 {
	if l.waits {
		return unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLOUT
	}
	return unix.EPOLLIN | unix.EPOLLRDHUP
}

// ready is called by the poller. An event may be an old one of a closed socket with the same
// descriptor, so nothing is believed but what read(2) says.
func (l *fdLink) ready(events uint32, buf []byte) {
	if events&unix.EPOLLOUT != 0 && l.unwait() {
		l.session.wrote(nil, 0)
	}
	if events&^unix.EPOLLOUT == 0 {
		return
	}
	l.mu.Lock()
	if l.fd < 0 {
		l.mu.Unlock()
		return
	}
	n, err := unix.Read(l.fd, buf)
	if n == 0 || err != nil && !temporary(err) {
		_ = unix.EpollCtl(l.poller.fd, unix.EPOLL_CTL_DEL, l.fd, nil) // the writer closes it; until then it must not wake us
	}
	l.mu.Unlock()
	switch {
	case n > 0:
		l.session.received(buf[:n])
	case n == 0 || !temporary(err):
		l.session.gone()
	}
}

func temporary(err error) bool {
	return errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR)
}

// write uses a raw system call: the socket never blocks, so the scheduler need not know.
func (l *fdLink) write(b []byte, _ bool) (int, bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fd < 0 {
		return 0, false, net.ErrClosed
	}
	n, err := rawWrite(l.fd, b)
	if err != nil && !temporary(err) {
		return 0, false, os.NewSyscallError("write", err)
	}
	n = max(n, 0)
	if n < len(b) {
		l.waits = true
		return n, true, l.watch()
	}
	return n, false, nil
}

// pinned is nothing: what the socket does not take, the session keeps.
func (l *fdLink) pinned() int { return 0 }

func (l *fdLink) unread() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fd < 0 {
		return false
	}
	n, err := unix.IoctlGetInt(l.fd, unix.TIOCINQ)
	return err == nil && n > 0
}

func (l *fdLink) unwait() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.waits || l.fd < 0 {
		return false
	}
	l.waits = false
	return l.watch() == nil
}

// watch tells the poller what is waited for now. A socket that it does not have yet will be added
// with that; one that it has no more has hung up, and gone has been posted.
func (l *fdLink) watch() error {
	err := unix.EpollCtl(l.poller.fd, unix.EPOLL_CTL_MOD, l.fd, &unix.EpollEvent{Events: l.interest(), Fd: int32(l.fd)})
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

func (l *fdLink) finish() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fd >= 0 {
		_ = unix.Shutdown(l.fd, unix.SHUT_WR)
	}
}

func (l *fdLink) close() {
	l.poller.mu.Lock()
	defer l.poller.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fd >= 0 {
		delete(l.poller.links, l.fd)
		_ = unix.Close(l.fd)
		l.fd = -1
		l.seat.leave()
	}
}
