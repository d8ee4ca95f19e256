// Package wsframe reads and writes the frames of RFC 6455, without I/O: bytes in, messages out.
//
// A server that reads with a goroutine per connection pays kilobytes for each idle one. The Decoder
// is pushed instead: whoever has bytes of a connection feeds them, from a buffer that many
// connections share. The handshake is not done here.
//
// What it promises:
//   - The same bytes give the same events and the same error, however they are cut into feeds.
//   - It is strict: what a client must not send is an Error with the close code of RFC 6455 §7.4.1,
//     at the first byte that can't be right (text included: it need not be complete to be refused).
//   - Between messages a Decoder holds no memory but itself. Within a message it holds at most twice
//     what has arrived (or 64 bytes), whatever a header announced, and never more than
//     Limits.MaxMessage plus one control frame.
//   - A small message that arrives whole costs no allocation and no copy.
//
// What it does not do: no extensions (any RSV bit is an error, so compression must not be
// negotiated), no answers (a Handler sends the pong and the close), no rates and no timeouts.
package wsframe

import (
	"encoding/binary"
	"math"
)

// DefaultMaxFragments is how many frames a message may have where Limits says nothing.
const DefaultMaxFragments = 1024

// Limits bound one message. They are given to every Feed, so that many decoders share one.
type Limits struct {
	// MaxMessage is the most bytes of payload in a text or binary message, all its frames together.
	// A header that goes over it ends the connection with 1009 before any of its payload is kept.
	MaxMessage int
	// MaxFragments is the most frames in one message, the empty ones counted: without it a peer could
	// send empty fragments for ever without a message ever ending. 0 is DefaultMaxFragments. Over it: 1009.
	MaxFragments int
}

// Handler gets what a Decoder finds, in the order of the bytes, called from within Feed.
//
// The slices point into the fed bytes or into the Decoder's buffer: they are valid, and may be
// overwritten by the Handler, only until the method returns. An error stops the decoder for good,
// and Feed returns it as it is. Handlers must not call Feed.
type Handler interface {
	// Message is called for each complete message. If text is true, data is valid UTF-8.
	Message(data []byte, text bool) error
	// Ping is called for each ping, also between the fragments of a message. RFC 6455 §5.5.3 wants a
	// pong with the same data.
	Ping(data []byte) error
	// Pong is called for each pong, asked for or not.
	Pong(data []byte) error
	// Close is called once, and nothing after it. Code is CloseNoStatus if the frame had none; reason
	// is valid UTF-8. RFC 6455 §5.5.1 wants a close frame in answer (AppendClose with the same code).
	Close(code uint16, reason []byte) error
}

// Decoder takes the bytes that a client sends apart. The zero value is ready for the first byte after
// the handshake. It is for one connection and must not be fed concurrently.
//
// A server has one per idle connection: mind the size (TestDecoderSize).
type Decoder struct {
	// The message so far, and behind it a control frame that came in pieces: control frames may stand
	// between the fragments of a message, and are so small that they need no buffer of their own.
	buf       []byte
	control   uint8 // how many bytes at the end of buf are the control frame's
	message   byte  // OpText or OpBinary; 0: no message has begun
	text      textState
	ended     bool // closed, or an error was returned
	fragments uint32

	// The frame, from its first byte to its last.
	head    [14]byte // the header as received, so far
	got     uint8    // how many bytes of head are there
	payload bool     // the header is complete
	mask    uint32   // rotated so that its lowest byte is for the next byte of payload
	missing int      // bytes of payload that have not arrived
}

// Pending reports whether a frame or a message has begun and not ended. A peer that stays pending for
// long pins memory.
func (d *Decoder) Pending() bool { return !d.ended && (d.got > 0 || d.message != 0) }

// Held returns how many bytes the Decoder holds besides itself.
func (d *Decoder) Held() int { return cap(d.buf) }

// Stop drops what the Decoder holds; after it, Feed ignores its input.
func (d *Decoder) Stop() { d.ended, d.buf = true, nil }

// Feed decodes b, the next bytes of the connection, however cut, and calls h for everything that is
// complete. It overwrites b (unmasking happens in place) and keeps none of it.
//
// The first error is final: an *Error if the peer broke the protocol or a limit, or what a method of
// h returned. After it, and after a close frame, Feed ignores its input and returns nil.
func (d *Decoder) Feed(b []byte, l Limits, h Handler) error {
	for len(b) > 0 && !d.ended {
		if !d.payload {
			n, err := d.header(b, l)
			if err != nil {
				return d.end(err)
			}
			b = b[n:]
		}
		if !d.payload {
			break // b ends within a header
		}
		n := min(len(b), d.missing)
		if err := d.data(b[:n], l, h); err != nil {
			return d.end(err)
		}
		b = b[n:]
	}
	return nil
}

// end makes err the last thing that d says.
func (d *Decoder) end(err error) error {
	d.Stop()
	return err
}

// header takes the bytes of one frame header from b and returns how many. Each field is checked as
// soon as it is there, so that cutting b elsewhere can't change the outcome.
func (d *Decoder) header(b []byte, l Limits) (int, error) {
	for n, c := range b {
		d.head[d.got] = c
		d.got++
		var err error
		switch size := d.headSize(); {
		case d.got == 1:
			err = d.checkOpcode(c, l)
		case d.got == 2:
			err = d.checkLength7(c)
			if err == nil && size == 2+4 {
				err = d.checkLength(l)
			}
		case d.got == size-4:
			err = d.checkLength(l)
		case d.got == size:
			d.mask = binary.LittleEndian.Uint32(d.head[size-4:])
			d.payload = true
			return n + 1, nil
		}
		if err != nil {
			return n + 1, err
		}
	}
	return len(b), nil
}

// headSize returns how long the header is, by its second byte: 2, 4 or 10 bytes, and the mask.
func (d *Decoder) headSize() uint8 {
	switch d.head[1] & 0x7f {
	case 126:
		return 2 + 2 + 4
	case 127:
		return 2 + 8 + 4
	}
	return 2 + 4
}

// checkOpcode checks the first byte of a header, and begins a message if it says so.
func (d *Decoder) checkOpcode(c byte, l Limits) error {
	d.head[1] = 0 // the last frame's length is none of this one's
	if c&0x70 != 0 {
		return protocolError("RSV bit set without an extension")
	}
	opcode, fin := c&0x0f, c&0x80 != 0
	switch opcode {
	case OpContinuation:
		if d.message == 0 {
			return protocolError("continuation without a message")
		}
		if d.fragments++; int64(d.fragments) > int64(l.maxFragments()) {
			return tooBig("message in too many fragments")
		}
	case OpText, OpBinary:
		if d.message != 0 {
			return protocolError("new message within a message")
		}
		d.message, d.fragments = opcode, 1
	case OpClose, OpPing, OpPong:
		if !fin {
			return protocolError("fragmented control frame")
		}
	default:
		return protocolError("reserved opcode")
	}
	return nil
}

// checkLength7 checks the second byte of a header.
func (d *Decoder) checkLength7(c byte) error {
	length := c & 0x7f
	switch {
	case c&0x80 == 0:
		return protocolError("frame is not masked")
	case d.isControl() && length > maxControl:
		return protocolError("control frame over 125 bytes")
	case d.opcode() == OpClose && length == 1:
		return protocolError("close frame of 1 byte")
	}
	return nil
}

// checkLength reads the whole length, once it is there, into missing.
func (d *Decoder) checkLength(l Limits) error {
	length := uint64(d.head[1] & 0x7f)
	switch length {
	case 126:
		if length = uint64(binary.BigEndian.Uint16(d.head[2:])); length < 126 {
			return protocolError("length not in its shortest form")
		}
	case 127:
		if length = binary.BigEndian.Uint64(d.head[2:]); length <= 0xffff {
			return protocolError("length not in its shortest form")
		}
		if length>>63 != 0 {
			return protocolError("top bit of the length set")
		}
	}
	// Compared without adding: the sum of a hostile length and len(buf) would overflow.
	if !d.isControl() && length > uint64(max(0, l.MaxMessage-len(d.buf))) {
		return tooBig("message too big")
	}
	d.missing = int(length)
	return nil
}

func (d *Decoder) opcode() byte    { return d.head[0] & 0x0f }
func (d *Decoder) isControl() bool { return d.opcode()&0x08 != 0 }
func (d *Decoder) isFinal() bool   { return d.head[0]&0x80 != 0 }

func (l Limits) maxFragments() int {
	if l.MaxFragments == 0 {
		return DefaultMaxFragments
	}
	return l.MaxFragments
}

// data takes p, the next bytes of the frame's payload; len(p) ≤ missing.
func (d *Decoder) data(p []byte, l Limits, h Handler) error {
	d.mask = unmask(p, d.mask)
	d.missing -= len(p)
	done := d.missing == 0
	if d.isControl() {
		return d.controlData(p, done, l, h)
	}
	if d.message == OpText && !d.text.advance(p) {
		return &Error{CloseInvalidPayload, "text is not valid UTF-8"}
	}
	if done {
		d.payload, d.got = false, 0
	}
	if !done || !d.isFinal() {
		d.keep(p, l)
		return nil
	}
	text := d.message == OpText
	if text && !d.text.complete() {
		return &Error{CloseInvalidPayload, "text ends within a character"}
	}
	if len(d.buf) > 0 {
		d.keep(p, l)
		p = d.buf
	}
	d.message, d.buf = 0, nil
	return h.Message(p, text)
}

// controlData is data for control frames.
func (d *Decoder) controlData(p []byte, done bool, l Limits, h Handler) error {
	if !done || d.control > 0 {
		d.keep(p, l)
		d.control += uint8(len(p))
	}
	if !done {
		return nil
	}
	if d.control > 0 {
		kept := len(d.buf) - int(d.control)
		p, d.buf = d.buf[kept:], d.buf[:kept]
		if kept == 0 {
			d.buf = nil
		}
		d.control = 0
	}
	d.payload, d.got = false, 0
	switch d.opcode() {
	case OpPing:
		return h.Ping(p)
	case OpPong:
		return h.Pong(p)
	}
	code, reason, err := parseClose(p)
	if err != nil {
		return err
	}
	d.ended, d.buf = true, nil
	return h.Close(code, reason)
}

// minBuffer is the least that is allocated for a payload that comes in pieces.
const minBuffer = 64

// keep appends p to buf. It grows buf by doubling what has arrived, and not by what the header
// announced: an idle connection that announced a megabyte must not cost one. The announced end only
// keeps the last step small.
func (d *Decoder) keep(p []byte, l Limits) {
	size := len(d.buf) + len(p)
	if size > cap(d.buf) {
		most := min(l.MaxMessage, math.MaxInt-maxControl) + maxControl
		if !d.isControl() && d.isFinal() {
			most = size + d.missing
		}
		grown := make([]byte, len(d.buf), max(size, min(max(2*cap(d.buf), minBuffer), most)))
		copy(grown, d.buf)
		d.buf = grown
	}
	d.buf = append(d.buf, p...)
}
