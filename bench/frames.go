package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// WebSocket opcodes.
const (
	opText  = 1
	opClose = 8
	opPing  = 9
	opPong  = 10
)

// frames handles the complete WebSocket frames in b and returns what is left over.
func (l *loop) frames(c *conn, b []byte) []byte {
	for len(b) >= 2 {
		size, head := int(b[1]&0x7f), 2
		switch {
		case size == 126 && len(b) >= 4:
			size, head = int(binary.BigEndian.Uint16(b[2:])), 4
		case size == 127 && len(b) >= 10:
			size, head = int(binary.BigEndian.Uint64(b[2:])), 10
		case size >= 126:
			return b
		}
		if len(b) < head+size {
			return b
		}
		payload := b[head : head+size]
		switch b[0] & 0x0f {
		case opClose:
			l.closeFrame(c, payload)
			return nil
		case opPing:
			l.scratch = appendFrame(l.scratch[:0], opPong, payload)
			if err := c.send(l.scratch); err != nil {
				return nil // the read that follows meets the end of the connection
			}
		case opPong:
		default:
			l.framesSeen++
			l.message(c, payload)
		}
		b = b[head+size:]
	}
	return b
}

func (l *loop) closeFrame(c *conn, payload []byte) {
	if c.state != live && c.state != stalling {
		l.fail(c, fmt.Errorf("close frame %.100q", payload))
		return
	}
	l.closed++
	c.shut()
	c.state = closed
}

// appendFrame adds one client frame. The mask is all zeros, which leaves the payload as it is.
func appendFrame(b []byte, op byte, payload []byte) []byte {
	b = append(b, 0x80|op)
	if len(payload) < 126 {
		b = append(b, 0x80|byte(len(payload)))
	} else {
		b = append(b, 0x80|126, byte(len(payload)>>8), byte(len(payload)))
	}
	b = append(b, 0, 0, 0, 0)
	return append(b, payload...)
}

// lines handles the complete lines of an event stream in b and returns what is left over.
func (l *loop) lines(c *conn, b []byte) []byte {
	for {
		i := bytes.IndexByte(b, '\n')
		if i < 0 {
			return b
		}
		line := b[:i]
		b = b[i+1:]
		switch {
		case bytes.HasPrefix(line, []byte("data:")):
			l.framesSeen++
			l.message(c, line[5:])
		case bytes.HasPrefix(line, []byte("id:")):
			if l.tokens {
				c.token = string(bytes.TrimSpace(line[3:]))
			}
		case c.state == joining:
			l.message(c, line)
		}
	}
}

// dechunker strips the chunked transfer coding.
type dechunker struct {
	on    bool
	place uint8 // 0 in the size, 1 in the data, 2 after the data
	left  int   // bytes of the chunk, or the digits of its size so far
}

// strip works in place and returns the plain bytes; b[:old] is plain already.
func (d *dechunker) strip(b []byte, old int) []byte {
	if !d.on {
		return b
	}
	w := old
	for i := old; i < len(b); {
		switch d.place {
		case 0:
			switch ch := b[i]; {
			case ch == '\n':
				d.place = 1
			case ch != '\r':
				d.left = d.left<<4 | int(hexValue([]byte{ch | 0x20}))
			}
			i++
		case 1:
			n := min(d.left, len(b)-i)
			copy(b[w:], b[i:i+n])
			w, i, d.left = w+n, i+n, d.left-n
			if d.left == 0 {
				d.place = 2
			}
		case 2:
			if b[i] == '\n' {
				d.place = 0
			}
			i++
		}
	}
	return b[:w]
}
