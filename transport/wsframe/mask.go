package wsframe

import (
	"encoding/binary"
	"math/bits"
)

// unmask applies the masking key (RFC 6455 §5.3) to b in place, eight bytes at a time, and returns the
// key as it is to be applied to the byte after b. The lowest byte of key is for b[0].
func unmask(b []byte, key uint32) uint32 {
	key64 := uint64(key)<<32 | uint64(key)
	for len(b) >= 32 {
		b32 := b[:32]
		binary.LittleEndian.PutUint64(b32[0:], binary.LittleEndian.Uint64(b32[0:])^key64)
		binary.LittleEndian.PutUint64(b32[8:], binary.LittleEndian.Uint64(b32[8:])^key64)
		binary.LittleEndian.PutUint64(b32[16:], binary.LittleEndian.Uint64(b32[16:])^key64)
		binary.LittleEndian.PutUint64(b32[24:], binary.LittleEndian.Uint64(b32[24:])^key64)
		b = b[32:]
	}
	for len(b) >= 8 {
		binary.LittleEndian.PutUint64(b, binary.LittleEndian.Uint64(b)^key64)
		b = b[8:]
	}
	for i := range b {
		b[i] ^= byte(key)
		key = bits.RotateLeft32(key, -8)
	}
	return key
}
