package main

import (
	"net"
	"net/netip"
	"testing"
	"time"
)

// What a client does not read must show up as memory of the server's socket.
func TestSockMemory(t *testing.T) {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	client, err := net.Dial("tcp4", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	port := ln.Addr().(*net.TCPAddr).Port
	clients := map[netip.AddrPort]bool{client.LocalAddr().(*net.TCPAddr).AddrPort(): true}

	if kib, err := sockMemory(port, clients); err != nil || kib > 16 {
		t.Fatalf("nothing was written: %.1f KiB, %v; want next to nothing", kib, err)
	}
	if err := server.SetWriteDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	n, err := server.Write(make([]byte, 32<<20)) // more than any kernel takes
	if err == nil {
		t.Fatalf("the kernel took %d bytes", n)
	}
	if kib, err := sockMemory(port, clients); err != nil || kib < 64 {
		t.Errorf("%d bytes were written and not read: %.1f KiB, %v; want at least 64", n, kib, err)
	}
	if kib, err := sockMemory(port, nil); err != nil || kib != 0 {
		t.Errorf("without clients: %.1f KiB, %v; want 0", kib, err)
	}
}
