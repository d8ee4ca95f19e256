package wsframe

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"unsafe"
)

// testLimits are small enough that tables can go over them.
var testLimits = Limits{MaxMessage: 1000, MaxFragments: 4}

// testKey masks the frames of the tables; all bytes differ, so that a key applied at the wrong offset shows.
var testKey = [4]byte{0x37, 0xfa, 0x21, 0x3d}

// frame returns a client's frame: first byte (FIN, RSV, opcode) and payload, masked with testKey.
func frame(first byte, payload string) []byte { return appendMasked(nil, testKey, first, payload) }

// appendMasked appends a client's frame to b. It is written as the RFC says it, to check the decoder's way.
func appendMasked(b []byte, key [4]byte, first byte, payload string) []byte {
	b = append(b, first)
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n <= 0xffff:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	b = append(b, key[:]...)
	for i := range len(payload) {
		b = append(b, payload[i]^key[i%4])
	}
	return b
}

// header16 and header64 return a masked header with the length written in that many bits, needed or not.
func header16(first byte, n uint16) []byte {
	return append(binary.BigEndian.AppendUint16([]byte{first, 0x80 | 126}, n), testKey[:]...)
}

func header64(first byte, n uint64) []byte {
	return append(binary.BigEndian.AppendUint64([]byte{first, 0x80 | 127}, n), testKey[:]...)
}

// First bytes of frames; more stands for "FIN not set".
const (
	final = 0x80
	more  = 0x00
)

// recorder is a Handler that writes down what it is told, as "text(…)", "ping(…)" and so on.
type recorder struct {
	events []string
	fail   error // returned from each call
}

func (r *recorder) add(format string, args ...any) error {
	r.events = append(r.events, fmt.Sprintf(format, args...))
	return r.fail
}

func (r *recorder) Message(data []byte, text bool) error {
	if text {
		return r.add("text(%s)", data)
	}
	return r.add("binary(%x)", data)
}

func (r *recorder) Ping(data []byte) error { return r.add("ping(%s)", data) }
func (r *recorder) Pong(data []byte) error { return r.add("pong(%s)", data) }
func (r *recorder) Close(code uint16, reason []byte) error {
	return r.add("close(%d %s)", code, reason)
}

// decode feeds stream in pieces of at most chop bytes, a copy of them each, since Feed overwrites.
func decode(stream []byte, chop int, l Limits) (events []string, err error) {
	var d Decoder
	var r recorder
	for piece := range slices.Chunk(stream, chop) {
		if err = d.Feed(bytes.Clone(piece), l, &r); err != nil {
			break
		}
	}
	return r.events, err
}

// join concatenates frames to a stream.
func join(frames ...[]byte) []byte { return bytes.Join(frames, nil) }

// closePayload is the payload of a close frame.
func closePayload(code uint16, reason string) string {
	return string(binary.BigEndian.AppendUint16(nil, code)) + reason
}

var decoderTests = []struct {
	name   string
	why    string
	stream []byte
	events []string
	code   uint16 // of the Error; 0: none
}{
	{"empty text", "a message may have no payload", frame(final|OpText, ""), []string{"text()"}, 0},
	{"text", "", frame(final|OpText, "Hello"), []string{"text(Hello)"}, 0},
	{"binary", "binary is not checked as UTF-8", frame(final|OpBinary, "\xff\x00"), []string{"binary(ff00)"}, 0},
	{"two in one read", "a read may end anywhere, also after several frames",
		join(frame(final|OpText, "a"), frame(final|OpText, "b")), []string{"text(a)", "text(b)"}, 0},
	{"16-bit length", "126 is the first that needs it", frame(final|OpText, strings.Repeat("x", 126)),
		[]string{"text(" + strings.Repeat("x", 126) + ")"}, 0},
	{"fragments", "", join(frame(more|OpText, "a"), frame(more|OpContinuation, "b"), frame(final|OpContinuation, "c")),
		[]string{"text(abc)"}, 0},
	{"empty fragments", "they count as fragments but not as payload",
		join(frame(more|OpText, ""), frame(more|OpContinuation, ""), frame(final|OpContinuation, "")), []string{"text()"}, 0},
	{"control within message", "§5.4: control frames may stand between fragments",
		join(frame(more|OpText, "a"), frame(final|OpPing, "p"), frame(final|OpPong, "q"), frame(final|OpContinuation, "b")),
		[]string{"ping(p)", "pong(q)", "text(ab)"}, 0},
	{"message after message", "what the first one left must not leak into the second",
		join(frame(more|OpText, "€"), frame(final|OpContinuation, "uro"), frame(final|OpBinary, "x")),
		[]string{"text(€uro)", "binary(78)"}, 0},
	{"character over fragments", "§5.6: only the whole message must be UTF-8",
		join(frame(more|OpText, "\xe2"), frame(more|OpContinuation, "\x82"), frame(final|OpContinuation, "\xac")),
		[]string{"text(€)"}, 0},
	{"ping within character", "a control frame's payload is no part of the text",
		join(frame(more|OpText, "\xe2"), frame(final|OpPing, "\xff"), frame(final|OpContinuation, "\x82\xac")),
		[]string{"ping(\xff)", "text(€)"}, 0},
	{"longest ping", "", frame(final|OpPing, strings.Repeat("p", 125)), []string{"ping(" + strings.Repeat("p", 125) + ")"}, 0},
	{"as large as allowed", "MaxMessage is inclusive", frame(final|OpBinary, strings.Repeat("x", 1000)),
		[]string{"binary(" + strings.Repeat("78", 1000) + ")"}, 0},
	{"as many fragments as allowed", "MaxFragments is inclusive",
		join(frame(more|OpText, "a"), frame(0, "b"), frame(0, "c"), frame(final, "d")), []string{"text(abcd)"}, 0},

	{"close", "", frame(final|OpClose, closePayload(1000, "bye")), []string{"close(1000 bye)"}, 0},
	{"close without code", "1005 is how the API says it, never the wire", frame(final|OpClose, ""), []string{"close(1005 )"}, 0},
	{"frames after close", "§5.5.1: nothing counts after a close",
		join(frame(final|OpClose, ""), frame(final|OpText, "x"), []byte{0xff, 0xff}), []string{"close(1005 )"}, 0},
	{"close within message", "the message is given up",
		join(frame(more|OpText, "a"), frame(final|OpClose, ""), frame(final, "b")), []string{"close(1005 )"}, 0},
	{"longest reason", "123 bytes", frame(final|OpClose, closePayload(4999, strings.Repeat("r", 123))),
		[]string{"close(4999 " + strings.Repeat("r", 123) + ")"}, 0},

	{"not masked", "§5.1: a server must close", []byte{final | OpText, 5}, nil, 1002},
	{"RSV1", "no extension defines it here", frame(final|0x40|OpText, "x"), nil, 1002},
	{"RSV2", "", frame(final|0x20|OpText, "x"), nil, 1002},
	{"RSV3 on ping", "control frames too", frame(final|0x10|OpPing, "x"), nil, 1002},
	{"RSV1 on continuation", "gorilla lets it through", join(frame(more|OpText, "x"), frame(final|0x40, "y")), nil, 1002},
	{"opcode 3", "reserved", frame(final|3, ""), nil, 1002},
	{"opcode 7", "reserved", frame(final|7, ""), nil, 1002},
	{"opcode 11", "reserved", frame(final|11, ""), nil, 1002},
	{"opcode 15", "reserved", frame(final|15, ""), nil, 1002},
	{"fragmented ping", "§5.5", frame(more|OpPing, "x"), nil, 1002},
	{"fragmented close", "§5.5", frame(more|OpClose, ""), nil, 1002},
	{"long ping", "§5.5: 125 at most", frame(final|OpPing, strings.Repeat("p", 126)), nil, 1002},
	{"ping with 64-bit length", "§5.5", header64(final|OpPing, 1<<40), nil, 1002},
	{"continuation first", "there is nothing to continue", frame(final|OpContinuation, "x"), nil, 1002},
	{"continuation after message", "the message has ended",
		join(frame(more|OpText, "a"), frame(final, "b"), frame(final, "c")), []string{"text(ab)"}, 1002},
	{"text within message", "§5.4: only continuations may follow",
		join(frame(more|OpText, "a"), frame(final|OpText, "b")), nil, 1002},
	{"16 bits for 125", "§5.2: the minimal number of bytes MUST be used", header16(final|OpText, 125), nil, 1002},
	{"16 bits for 0", "", header16(final|OpText, 0), nil, 1002},
	{"64 bits for 65535", "", header64(final|OpText, 65535), nil, 1002},
	{"top bit of the length", "§5.2: MUST be 0", header64(final|OpText, 1<<63), nil, 1002},
	{"all bits of the length", "", header64(final|OpText, math.MaxUint64), nil, 1002},

	{"close of one byte", "half a code", frame(final|OpClose, "\x03"), nil, 1002},
	{"close reason not UTF-8", "§5.5.1", frame(final|OpClose, closePayload(1000, "\xff")), nil, 1007},
	{"close reason cut off", "", frame(final|OpClose, closePayload(1000, "\xe2\x82")), nil, 1007},

	{"over the limit", "§7.4.1", header16(final|OpText, 1001), nil, 1009},
	{"1 TiB announced", "refused by its header", header64(final|OpBinary, 1<<40), nil, 1009},
	{"largest length announced", "must not overflow", header64(final|OpBinary, math.MaxInt64), nil, 1009},
	{"over the limit in sum", "the limit is the message's, not the frame's",
		join(frame(more|OpText, strings.Repeat("x", 600)), header16(final, 401)), nil, 1009},
	{"largest length in sum", "must not overflow",
		join(frame(more|OpText, "x"), header64(final, math.MaxInt64)), nil, 1009},
	{"too many fragments", "else empty ones would go on for ever",
		join(frame(more|OpText, ""), frame(0, ""), frame(0, ""), frame(0, ""), frame(0, "")), nil, 1009},

	{"not UTF-8", "", frame(final|OpText, "a\xffb"), nil, 1007},
	{"cut off at the end", "the character never ends", frame(final|OpText, "\xe2\x82"), nil, 1007},
	{"cut off by empty fragment", "", join(frame(more|OpText, "\xe2\x82"), frame(final, "")), nil, 1007},
	{"impossible over fragments", "E2 82 28 can't be", join(frame(more|OpText, "\xe2\x82"), frame(more, "\x28")), nil, 1007},
	{"not UTF-8, not complete", "refused before the message is there (fail fast)",
		join(header16(more|OpText, 900), []byte{0xff ^ testKey[0]}), nil, 1007},
}

// TestDecoder feeds each stream whole, byte by byte, and in every size between: the cut must not matter.
func TestDecoder(t *testing.T) {
	for _, tt := range decoderTests {
		t.Run(tt.name, func(t *testing.T) {
			for chop := 1; chop <= len(tt.stream); chop++ {
				events, err := decode(tt.stream, chop, testLimits)
				var e *Error
				var code uint16
				if errors.As(err, &e) {
					code = e.Code
				} else if err != nil {
					t.Fatalf("chop %d: error %v is no *Error", chop, err)
				}
				if !slices.Equal(events, tt.events) || code != tt.code {
					t.Fatalf("chop %d: got %q and %v, want %q and %d: %s", chop, events, err, tt.events, tt.code, tt.why)
				}
			}
		})
	}
}

func TestDecoderCloseCodes(t *testing.T) {
	valid := func(c int) bool { // RFC 6455 §7.4 and the IANA registry, written another way than the code
		if c >= 3000 {
			return c < 5000
		}
		return slices.Contains([]int{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014}, c)
	}
	for c := range 1 << 16 {
		events, err := decode(frame(final|OpClose, closePayload(uint16(c), "")), 1<<10, testLimits)
		if got := err == nil && len(events) == 1; got != valid(c) {
			t.Errorf("code %d: accepted is %v, want %v", c, got, valid(c))
		}
	}
}

// TestDecoderHandlerError: what a handler returns comes out of Feed, and nothing is decoded after it.
func TestDecoderHandlerError(t *testing.T) {
	stop := errors.New("stop")
	for _, first := range [][]byte{frame(final|OpText, "a"), frame(final|OpPing, ""), frame(final|OpPong, ""), frame(final|OpClose, "")} {
		var d Decoder
		r := recorder{fail: stop}
		if err := d.Feed(join(first, frame(final|OpText, "b")), testLimits, &r); err != stop {
			t.Errorf("opcode %d: got %v, want the handler's error", first[0]&15, err)
		}
		if err := d.Feed(frame(final|OpText, "c"), testLimits, &r); err != nil || len(r.events) != 1 {
			t.Errorf("opcode %d: after the error got %v and %q, want silence", first[0]&15, err, r.events)
		}
	}
}

// TestDecoderSize: an idle connection costs one Decoder, so its size is part of the contract.
func TestDecoderSize(t *testing.T) {
	if size := unsafe.Sizeof(Decoder{}); size > 64 {
		t.Errorf("a Decoder has %d bytes, want at most 64", size)
	}
}

// TestDecoderPending follows a stream byte by byte: pending within messages and frames, and nothing
// held where not.
func TestDecoderPending(t *testing.T) {
	stream := join(frame(more|OpText, "a"), frame(final|OpPing, "p"), frame(final, "b"), frame(final|OpPing, "q"))
	idle := []int{len(stream), len(stream) - len(frame(final|OpPing, "q"))} // bytes fed when nothing is pending
	var d Decoder
	var r recorder
	for i := range stream {
		if err := d.Feed(stream[i:i+1:i+1], testLimits, &r); err != nil {
			t.Fatal(err)
		}
		want := !slices.Contains(idle, i+1)
		if d.Pending() != want {
			t.Errorf("after byte %d: pending is %v, want %v", i+1, d.Pending(), want)
		}
		if !want && d.buf != nil {
			t.Errorf("after byte %d: an idle decoder holds %d bytes", i+1, cap(d.buf))
		}
	}
}

// TestDecoderMemory: the buffer follows what has arrived and not what was announced.
func TestDecoderMemory(t *testing.T) {
	const announced = 1 << 20
	limits := Limits{MaxMessage: announced}
	var d Decoder
	var r recorder
	if err := d.Feed(header64(final|OpBinary, announced), limits, &r); err != nil {
		t.Fatal(err)
	}
	if d.buf != nil {
		t.Errorf("%d bytes are held for a header alone", cap(d.buf))
	}
	for arrived := 0; arrived < announced-1; {
		n := min(1000, announced-1-arrived)
		if err := d.Feed(make([]byte, n), limits, &r); err != nil {
			t.Fatal(err)
		}
		arrived += n
		if most := max(2*arrived, 1000); cap(d.buf) > most {
			t.Fatalf("%d bytes are held for %d that arrived", cap(d.buf), arrived)
		}
	}
	if cap(d.buf) > announced {
		t.Errorf("%d bytes are held for a message of %d", cap(d.buf), announced)
	}
	if err := d.Feed(make([]byte, 1), limits, &r); err != nil || len(r.events) != 1 {
		t.Fatalf("got %v and %d events, want the message", err, len(r.events))
	}
	if d.buf != nil {
		t.Error("the buffer is kept after the message")
	}
}

// TestDecoderControlCost: pings in pieces within a large message must not copy the message each time.
func TestDecoderControlCost(t *testing.T) {
	limits := Limits{MaxMessage: 1 << 16}
	var d Decoder
	var r recorder
	if err := d.Feed(frame(more|OpBinary, strings.Repeat("x", 1<<16)), limits, &r); err != nil {
		t.Fatal(err)
	}
	moved, last := 0, unsafe.SliceData(d.buf)
	for range 100 {
		for _, c := range frame(final|OpPing, strings.Repeat("p", 125)) {
			if err := d.Feed([]byte{c}, limits, &r); err != nil {
				t.Fatal(err)
			}
			if now := unsafe.SliceData(d.buf); now != last {
				moved, last = moved+1, now
			}
		}
	}
	if moved > 1 || len(r.events) != 100 {
		t.Errorf("the message was copied %d times for %d pings, want at most once for 100", moved, len(r.events))
	}
}
