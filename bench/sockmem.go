package main

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// What sock_diag(7) is made of; x/sys has no names for it.
const (
	sockDiagByFamily  = 20
	inetDiagSKMemInfo = 7
	inetDiagMsgLen    = 72
	inetDiagReqLen    = 56
)

// sockMemory returns what the buffers of a server's TCP sockets take in the kernel, in KiB: those
// on the given local port whose other end is one of the clients. It counts what has been
// received or is to be sent, as the kernel accounts for it, and not the sockets themselves.
func sockMemory(port int, clients map[netip.AddrPort]bool) (kib float64, err error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_INET_DIAG)
	if err != nil {
		return 0, fmt.Errorf("sock_diag: %w", err)
	}
	defer unix.Close(fd)
	// A kernel that does not answer must not stop the tool.
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 2}); err != nil {
		return 0, fmt.Errorf("sock_diag: %w", err)
	}
	req := make([]byte, unix.NLMSG_HDRLEN+inetDiagReqLen)
	binary.NativeEndian.PutUint32(req[0:], uint32(len(req)))
	binary.NativeEndian.PutUint16(req[4:], sockDiagByFamily)
	binary.NativeEndian.PutUint16(req[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	body := req[unix.NLMSG_HDRLEN:]
	body[0], body[1], body[2] = unix.AF_INET, unix.IPPROTO_TCP, 1<<(inetDiagSKMemInfo-1)
	binary.NativeEndian.PutUint32(body[4:], ^uint32(0)) // sockets in all states
	binary.BigEndian.PutUint16(body[8:], uint16(port))
	if err := unix.Sendto(fd, req, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return 0, fmt.Errorf("sock_diag: %w", err)
	}
	buf := make([]byte, 64<<10)
	for {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if err != nil {
			return 0, fmt.Errorf("sock_diag: %w", err)
		}
		for b := buf[:n]; len(b) >= unix.NLMSG_HDRLEN; {
			size := int(binary.NativeEndian.Uint32(b))
			switch binary.NativeEndian.Uint16(b[4:]) {
			case unix.NLMSG_DONE:
				return kib, nil
			case unix.NLMSG_ERROR:
				return 0, fmt.Errorf("sock_diag: refused")
			}
			if size < unix.NLMSG_HDRLEN+inetDiagMsgLen || size > len(b) {
				return 0, fmt.Errorf("sock_diag: message of %d bytes", size)
			}
			msg := b[unix.NLMSG_HDRLEN:size]
			client := netip.AddrPortFrom(netip.AddrFrom4([4]byte(msg[24:28])), binary.BigEndian.Uint16(msg[6:]))
			if clients[client] {
				kib += float64(bufferBytes(msg[inetDiagMsgLen:])) / 1024
			}
			b = b[min((size+3)&^3, len(b)):]
		}
	}
}

// bufferBytes finds the SKMEMINFO attribute and adds up what is in use.
func bufferBytes(attrs []byte) (n uint32) {
	for len(attrs) >= 4 {
		size := int(binary.NativeEndian.Uint16(attrs))
		if size < 4 || size > len(attrs) {
			return 0
		}
		if binary.NativeEndian.Uint16(attrs[2:]) == inetDiagSKMemInfo && size >= 4+8*4 {
			// rmem_alloc, rcvbuf, wmem_alloc, sndbuf, fwd_alloc, wmem_queued, optmem, backlog
			for _, i := range []int{0, 4, 5, 7} {
				n += binary.NativeEndian.Uint32(attrs[4+4*i:])
			}
			return n
		}
		attrs = attrs[min((size+3)&^3, len(attrs)):]
	}
	return 0
}

// localAddr returns a client's own address.
func (c *conn) localAddr() (netip.AddrPort, error) {
	sa, err := unix.Getsockname(c.fd)
	if err != nil {
		return netip.AddrPort{}, err
	}
	a, ok := sa.(*unix.SockaddrInet4)
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("address %T", sa)
	}
	return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port)), nil
}
