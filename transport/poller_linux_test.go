package transport

import (
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What the kernel keeps for a peer is bounded on every connection, and it gives up when what was sent is not acknowledged: on those that TLS
// is spoken on, and those that are answered, too.
func TestEveryConnectionIsTuned(t *testing.T) {
	n := newNode(t, func(c *Config) { c.WriteTimeout, c.Heartbeat, c.UnsentLimit = 3*time.Second, time.Second, 12345 })
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	peer, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	c, err := (&sockets{Listener: ln, server: n.Server}).Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	raw, err := c.(*tcpSocket).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	_ = raw.Control(func(fd uintptr) {
		if ms, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT); ms != 5000 || err != nil {
			t.Errorf("TCP_USER_TIMEOUT is %d ms, %v, want 5000", ms, err)
		}
		if n, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT); n != 12345 || err != nil {
			t.Errorf("TCP_NOTSENT_LOWAT is %d, %v, want 12345", n, err)
		}
	})
}
