package wsframe

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

// TestUnmask compares with the definition (RFC 6455 §5.3: octet i with key octet i mod 4), for all small
// lengths and alignments, in one piece and in two.
func TestUnmask(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	key := []byte{1, 0x20, 0x3f, 0xc8}
	for length := range 100 {
		for offset := range 8 {
			data := make([]byte, offset+length)[offset:]
			for i := range data {
				data[i] = byte(random.Uint32())
			}
			want := make([]byte, length)
			for i, c := range data {
				want[i] = c ^ key[i%4]
			}
			for cut := range length + 1 {
				got := bytes.Clone(data)
				next := unmask(got[:cut], binary.LittleEndian.Uint32(key))
				unmask(got[cut:], next)
				if !bytes.Equal(got, want) {
					t.Fatalf("length %d, offset %d, cut at %d: got %x, want %x", length, offset, cut, got, want)
				}
			}
		}
	}
}
