package wsframe

import (
	"encoding/binary"
	"strings"
	"unicode/utf8"
)

// Opcodes of RFC 6455 §5.2. The others are reserved.
const (
	OpContinuation byte = 0x0
	OpText         byte = 0x1
	OpBinary       byte = 0x2
	OpClose        byte = 0x8
	OpPing         byte = 0x9
	OpPong         byte = 0xa
)

const (
	maxControl = 125            // bytes of payload in a control frame, RFC 6455 §5.5
	maxReason  = maxControl - 2 // bytes of a close reason
)

// MaxHeader is the longest header that AppendHeader writes.
const MaxHeader = 10

// AppendHeader appends the header of a server's frame: final, not masked, n bytes of payload to follow.
func AppendHeader(dst []byte, opcode byte, n int) []byte {
	dst = append(dst, 0x80|opcode)
	switch {
	case n < 126:
		return append(dst, byte(n))
	case n <= 0xffff:
		return binary.BigEndian.AppendUint16(append(dst, 126), uint16(n))
	default:
		return binary.BigEndian.AppendUint64(append(dst, 127), uint64(n))
	}
}

// AppendFrame appends a server's frame with the given payload. A ping or pong has at most 125 bytes.
func AppendFrame(dst []byte, opcode byte, payload []byte) []byte {
	return append(AppendHeader(dst, opcode, len(payload)), payload...)
}

// AppendClose appends a server's close frame. CloseNoStatus makes one without code and reason. The
// reason is cut to the 123 bytes that there is room for, at the end of a character; bytes that are
// not UTF-8 are replaced, since a browser would take the frame for a protocol error.
func AppendClose(dst []byte, code uint16, reason string) []byte {
	if code == CloseNoStatus {
		return AppendHeader(dst, OpClose, 0)
	}
	reason = strings.ToValidUTF8(reason, "\uFFFD")
	if len(reason) > maxReason {
		cut := maxReason
		for !utf8.RuneStart(reason[cut]) {
			cut--
		}
		reason = reason[:cut]
	}
	dst = AppendHeader(dst, OpClose, 2+len(reason))
	dst = binary.BigEndian.AppendUint16(dst, code)
	return append(dst, reason...)
}

// parseClose takes the payload of a close frame apart. A payload of 1 byte was refused with its header.
func parseClose(p []byte) (code uint16, reason []byte, err error) {
	if len(p) == 0 {
		return CloseNoStatus, nil, nil
	}
	code, reason = binary.BigEndian.Uint16(p), p[2:]
	if !validCloseCode(code) {
		return 0, nil, protocolError("close code that must not be sent")
	}
	if !utf8.Valid(reason) {
		return 0, nil, &Error{CloseInvalidPayload, "close reason is not valid UTF-8"}
	}
	return code, reason, nil
}
