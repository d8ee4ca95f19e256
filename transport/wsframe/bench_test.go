package wsframe

import (
	"strings"
	"testing"
)

// counter is a Handler that does nothing, so that benchmarks measure the decoder.
type counter struct{ messages, controls int }

func (c *counter) Message([]byte, bool) error { c.messages++; return nil }
func (c *counter) Ping([]byte) error          { c.controls++; return nil }
func (c *counter) Pong([]byte) error          { c.controls++; return nil }
func (c *counter) Close(uint16, []byte) error { c.controls++; return nil }
func zeroKey(first byte, payload string) []byte {
	return masked(AppendFrame(nil, first&0x0f, []byte(payload)))
}

// BenchmarkDecoder feeds one frame a time. The key is 0, so that the frame survives being unmasked in
// place and can be fed again; the work is the same for every key.
func BenchmarkDecoder(b *testing.B) {
	benchmarks := []struct {
		name   string
		stream []byte
		chop   int
	}{
		{"text=30B", zeroKey(OpText, `{"type":"ping","ref":12345678}`), 1 << 20},
		{"pong=0B", zeroKey(OpPong, ""), 1 << 20},
		{"text=64KiB", zeroKey(OpText, strings.Repeat("plain ASCII text", 4096)), 1 << 20},
		{"text=64KiB,greek", zeroKey(OpText, strings.Repeat("κόσμε κό", 4370)), 1 << 20},
		{"binary=64KiB", zeroKey(OpBinary, strings.Repeat("x", 1<<16)), 1 << 20},
		{"binary=64KiB,reads=4KiB", zeroKey(OpBinary, strings.Repeat("x", 1<<16)), 4096},
	}
	for _, bb := range benchmarks {
		b.Run(bb.name, func(b *testing.B) {
			var d Decoder
			var c counter
			limits := Limits{MaxMessage: 1 << 20}
			b.SetBytes(int64(len(bb.stream)))
			b.ReportAllocs()
			for b.Loop() {
				for rest := bb.stream; len(rest) > 0; rest = rest[min(bb.chop, len(rest)):] {
					if err := d.Feed(rest[:min(bb.chop, len(rest))], limits, &c); err != nil {
						b.Fatal(err)
					}
				}
			}
			if c.messages+c.controls == 0 {
				b.Fatal("nothing was decoded")
			}
		})
	}
}

// TestDecoderAllocs: what arrives whole costs no allocation.
func TestDecoderAllocs(t *testing.T) {
	stream := join(zeroKey(OpText, "a command"), zeroKey(OpPing, "x"), zeroKey(OpBinary, strings.Repeat("y", 4000)))
	var d Decoder
	var c counter
	limits := Limits{MaxMessage: 1 << 16}
	got := testing.AllocsPerRun(100, func() {
		if err := d.Feed(stream, limits, &c); err != nil {
			t.Fatal(err)
		}
	})
	if got != 0 {
		t.Errorf("%v allocations for complete frames, want 0", got)
	}
}
