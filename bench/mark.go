package main

import (
	"bytes"
	"fmt"
	"strings"
)

// mark is what every payload carries. In the payload it is "~~" and three hex numbers of fixed
// width, which survives any text framing, JSON strings included.
type mark struct {
	at      int64  // when it was due, in nanoseconds since the start of the tool
	seq     uint32 // counts the channel's messages from 1; 0: not counted (warm-up, prefill)
	channel uint32
}

const markLen = 2 + 16 + 8 + 6

// newPayload returns a JSON object of the given size with room for a mark at markAt.
func newPayload(size int) []byte {
	const head, tail = `{"d":"`, `"}`
	fill := max(size-len(head)-len(tail), markLen)
	return []byte(head + strings.Repeat("x", fill) + tail)
}

const markAt = len(`{"d":"`)

// put writes m to the front of b.
func (m mark) put(b []byte) {
	b[0], b[1] = '~', '~'
	putHex(b[2:18], uint64(m.at))
	putHex(b[18:26], uint64(m.seq))
	putHex(b[26:32], uint64(m.channel))
}

// nextMark finds the first mark in b and returns what follows it.
func nextMark(b []byte) (m mark, rest []byte, ok bool) {
	for {
		i := bytes.IndexByte(b, '~')
		if i < 0 || len(b)-i < markLen {
			return mark{}, nil, false
		}
		if b[i+1] != '~' {
			b = b[i+1:]
			continue
		}
		b = b[i:]
		m = mark{at: int64(hexValue(b[2:18])), seq: uint32(hexValue(b[18:26])), channel: uint32(hexValue(b[26:32]))}
		return m, b[markLen:], true
	}
}

func putHex(b []byte, v uint64) {
	for i := len(b) - 1; i >= 0; i-- {
		b[i] = "0123456789abcdef"[v&15]
		v >>= 4
	}
}

func hexValue(b []byte) (v uint64) {
	for _, c := range b {
		if c >= 'a' {
			c -= 'a' - '0' - 10
		}
		v = v<<4 | uint64(c-'0')
	}
	return v
}

func channelName(i uint32) string { return fmt.Sprintf("c%05d", i) }
