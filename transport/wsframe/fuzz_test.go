package wsframe

import (
	"bytes"
	"errors"
	"slices"
	"testing"
	"unicode/utf8"
)

// FuzzDecoder feeds arbitrary bytes, cut at arbitrary points (each byte of cuts is a length), and
// wants: no panic, the same events and error as without cuts, bounded memory, and text that is text.
func FuzzDecoder(f *testing.F) {
	for _, tt := range decoderTests {
		f.Add(tt.stream, []byte{1, 2, 0, 7})
	}
	f.Fuzz(func(t *testing.T, stream, cuts []byte) {
		whole, wholeErr := decode(stream, max(1, len(stream)), testLimits)
		var d Decoder
		var r recorder
		var err error
		for rest := stream; len(rest) > 0 && err == nil; {
			n := len(rest)
			if len(cuts) > 0 {
				n, cuts = min(n, int(cuts[0])), cuts[1:]
			}
			err = d.Feed(bytes.Clone(rest[:n]), testLimits, &r)
			rest = rest[n:]
			// Twice what has arrived of a message and one control frame, and never over the limit.
			if most := testLimits.MaxMessage + maxControl; cap(d.buf) > most {
				t.Fatalf("%d bytes are held, want at most %d", cap(d.buf), most)
			}
			if arrived := len(stream) - len(rest); cap(d.buf) > max(minBuffer, 2*arrived) {
				t.Fatalf("%d bytes are held after %d arrived", cap(d.buf), arrived)
			}
			if !d.Pending() && d.buf != nil {
				t.Fatalf("%d bytes are held with nothing pending", cap(d.buf))
			}
		}
		if !slices.Equal(r.events, whole) {
			t.Errorf("in pieces %q, whole %q", r.events, whole)
		}
		if !sameError(err, wholeErr) {
			t.Errorf("in pieces %v, whole %v", err, wholeErr)
		}
		for _, e := range whole {
			if bytes.HasPrefix([]byte(e), []byte("text(")) && !utf8.ValidString(e) {
				t.Errorf("%q was taken for text", e)
			}
		}
	})
}

// sameError reports whether a and b close the connection alike.
func sameError(a, b error) bool {
	var x, y *Error
	if !errors.As(a, &x) || !errors.As(b, &y) {
		return a == nil && b == nil
	}
	return *x == *y && (x.Code == CloseProtocolError || x.Code == CloseInvalidPayload || x.Code == CloseTooBig)
}

// FuzzAppendFrame reads back what the encoders write, masked as a client would.
func FuzzAppendFrame(f *testing.F) {
	f.Add([]byte("payload"), uint16(1000), "reason")
	f.Fuzz(func(t *testing.T, payload []byte, code uint16, reason string) {
		limits := Limits{MaxMessage: len(payload)}
		events, err := decode(masked(AppendFrame(nil, OpBinary, payload)), 7, limits)
		var want recorder
		want.Message(payload, false)
		if err != nil || !slices.Equal(events, want.events) {
			t.Errorf("got %q and %v, want %q", events, err, want.events)
		}
		b := AppendClose(nil, code, reason)
		if len(b) > 2+maxControl {
			t.Errorf("a close frame of %d bytes", len(b))
		}
		if _, err := decode(masked(b), 7, limits); err != nil && validCloseCode(code) {
			t.Errorf("close %d %q: %v", code, reason, err)
		}
	})
}

// masked returns a server's frame as a client's, with the key 0, which changes no payload.
func masked(b []byte) []byte {
	size := 2
	switch b[1] {
	case 126:
		size = 4
	case 127:
		size = 10
	}
	b = slices.Insert(b, size, 0, 0, 0, 0)
	b[1] |= 0x80
	return b
}
