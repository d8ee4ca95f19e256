package evilproxy

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
)

// tunnel passes on a WebSocket that both sides have agreed to.
func (l *link) tunnel(res *http.Response, from io.Reader, server net.Conn) {
	var head bytes.Buffer
	fmt.Fprintf(&head, "HTTP/1.1 %d %s\r\n", res.StatusCode, http.StatusText(res.StatusCode))
	_ = res.Header.Write(&head) // a Buffer takes everything
	head.WriteString("\r\n")
	if _, err := l.client.Write(head.Bytes()); err != nil || l.mode.Tunnel == TunnelEnded {
		return
	}
	t := l.mode.Tunnel
	var both sync.WaitGroup
	both.Go(func() { l.pump(server, l.in, t == TunnelLost || t == TunnelUpLost) })
	both.Go(func() { l.pump(l.client, from, t == TunnelLost || t == TunnelDownLost) })
	both.Wait()
}

// pump copies one direction. If that is lost, its end is as well: the other side never learns of it.
func (l *link) pump(to io.Writer, from io.Reader, lost bool) {
	b := make([]byte, 32<<10)
	for first := true; ; first = false {
		n, err := from.Read(b)
		gone := lost || l.lost.Load()
		if n > 0 && !gone {
			l.touch()
			if l.mode.Tunnel == TunnelAltered && !first {
				b[0] ^= 0x70 // of a frame's head: bits that nobody has agreed to, so that no browser takes it for something else
			}
			if _, werr := to.Write(b[:n]); werr != nil {
				err = werr
			}
		}
		if err != nil {
			if !gone {
				l.cut(false)
			}
			return
		}
	}
}
