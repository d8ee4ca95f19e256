package wsframe

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestAppendHeader(t *testing.T) {
	tests := []struct {
		opcode byte
		n      int
		want   string
		why    string
	}{
		{OpText, 0, "8100", ""},
		{OpText, 125, "817d", "largest in 7 bits"},
		{OpBinary, 126, "827e007e", "smallest in 16 bits"},
		{OpBinary, 65535, "827effff", "largest in 16 bits"},
		{OpText, 65536, "817f0000000000010000", "smallest in 64 bits"},
		{OpPong, 5, "8a05", ""},
	}
	for _, tt := range tests {
		if got := hex.EncodeToString(AppendHeader(nil, tt.opcode, tt.n)); got != tt.want {
			t.Errorf("opcode %d, length %d: got %s, want %s: %s", tt.opcode, tt.n, got, tt.want, tt.why)
		}
	}
	if got := len(AppendHeader(nil, OpText, 1<<20)); got != MaxHeader {
		t.Errorf("the longest header has %d bytes, want MaxHeader", got)
	}
}

func TestAppendFrame(t *testing.T) {
	got := AppendFrame([]byte("before"), OpText, []byte("Hello")) // RFC 6455 §5.7
	if want := "before\x81\x05Hello"; string(got) != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestAppendClose(t *testing.T) {
	tests := []struct {
		code   uint16
		reason string
		want   string // reason on the wire
		why    string
	}{
		{1000, "", "", ""},
		{4400, "bad command", "bad command", ""},
		{1001, strings.Repeat("x", 123), strings.Repeat("x", 123), "all that there is room for"},
		{1001, strings.Repeat("x", 124), strings.Repeat("x", 123), "a control frame has 125 bytes"},
		{1001, strings.Repeat("x", 122) + "é", strings.Repeat("x", 122), "half a character is no UTF-8"},
		{1001, strings.Repeat("x", 120) + "🙂", strings.Repeat("x", 120), "three quarters of one neither"},
		{1001, strings.Repeat("€", 50), strings.Repeat("€", 41), "41 × 3 = 123"},
		{1001, "a\xffb", "a\uFFFDb", "browsers drop the connection over it"},
		{1001, strings.Repeat("\xff", 200), "\uFFFD", "a run of bad bytes becomes one replacement"},
	}
	for _, tt := range tests {
		got := AppendClose(nil, tt.code, tt.reason)
		want := AppendFrame(nil, OpClose, []byte(closePayload(tt.code, tt.want)))
		if !bytes.Equal(got, want) || !utf8.Valid(got[4:]) {
			t.Errorf("%d %q: got %x, want %x: %s", tt.code, tt.reason, got, want, tt.why)
		}
	}
	if got := AppendClose(nil, CloseNoStatus, "never sent"); !bytes.Equal(got, []byte{0x88, 0}) {
		t.Errorf("no status: got %x, want an empty close frame: 1005 must not be on the wire", got)
	}
}

func TestError(t *testing.T) {
	_, err := decode(frame(final|OpText, "\xff"), 100, testLimits)
	if want := "websocket: text is not valid UTF-8 (1007)"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %q", err, want)
	}
}
