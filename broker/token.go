package broker

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"strings"
)

// ErrToken says that a text is not a resume token of this version.
var ErrToken = errors.New("not a resume token")

// Place is one channel and where a connection stands in it.
type Place struct {
	Channel  string
	Position Position
}

// A resume token is base64url (RFC 4648 §5, unpadded) of
//
//	0x01 · base ms (6 bytes) · per channel: name hash (3 bytes) · tag (2 bytes) ·
//	uvarint((base-ms)<<1 | seq≠0) · uvarint(seq) if not 0
//
// with base the newest of the positions' times: 18 characters for one channel, 14 or so for each
// further one. Channels are known by 24 bits of FNV-1a, so that a token fits a connection whose list
// of channels has changed; if two channels of one connection share a hash, the first listed one has it.
const (
	tokenVersion = 1
	maxToken     = 4096 // characters; 64 channels need some 900
)

// AppendToken appends the resume token of places to b. Places without a position are left out; if
// none has one, nothing is appended.
func AppendToken(b []byte, places ...Place) []byte {
	var base uint64
	for _, p := range places {
		base = max(base, p.Position.MS)
	}
	if base == 0 {
		return b
	}
	var space [256]byte
	raw := append(space[:0], tokenVersion, byte(base>>40), byte(base>>32), byte(base>>24), byte(base>>16), byte(base>>8), byte(base))
	for _, p := range places {
		if p.Position.IsZero() {
			continue
		}
		h := channelHash(p.Channel)
		raw = append(raw, byte(h>>16), byte(h>>8), byte(h), byte(p.Position.Tag>>8), byte(p.Position.Tag))
		d := (base - p.Position.MS) << 1
		if p.Position.Seq == 0 {
			raw = binary.AppendUvarint(raw, d)
			continue
		}
		raw = binary.AppendUvarint(raw, d|1)
		raw = binary.AppendUvarint(raw, p.Position.Seq)
	}
	return base64.RawURLEncoding.AppendEncode(b, raw)
}

// Token is what ParseToken read: positions by channel hash.
type Token map[uint32]Position

// ParseToken reads what AppendToken wrote. It returns an error that wraps ErrToken for anything else.
func ParseToken(s string) (Token, error) {
	if len(s) > maxToken {
		return nil, fmt.Errorf("%w: %d characters, at most %d", ErrToken, len(s), maxToken)
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || len(raw) < 7 || strings.ContainsAny(s, "\r\n") { // which the decoder skips
		return nil, fmt.Errorf("%w: not base64url of the right length", ErrToken)
	}
	if raw[0] != tokenVersion {
		return nil, fmt.Errorf("%w: version %d, want %d", ErrToken, raw[0], tokenVersion)
	}
	base := uint64(binary.BigEndian.Uint16(raw[1:3]))<<32 | uint64(binary.BigEndian.Uint32(raw[3:7]))
	t := Token{}
	for raw = raw[7:]; len(raw) > 0; {
		if len(raw) < 6 {
			return nil, fmt.Errorf("%w: cut short", ErrToken)
		}
		h := uint32(raw[0])<<16 | uint32(raw[1])<<8 | uint32(raw[2])
		p := Position{Tag: binary.BigEndian.Uint16(raw[3:5])}
		d, n := binary.Uvarint(raw[5:])
		if n <= 0 || d>>1 >= base {
			return nil, fmt.Errorf("%w: a time is out of range", ErrToken)
		}
		raw = raw[5+n:]
		p.MS = base - d>>1
		if d&1 == 1 {
			if p.Seq, n = binary.Uvarint(raw); n <= 0 || p.Seq == 0 {
				return nil, fmt.Errorf("%w: a sequence is out of range", ErrToken)
			}
			raw = raw[n:]
		}
		if _, twice := t[h]; !twice {
			t[h] = p
		}
	}
	if len(t) == 0 {
		return nil, fmt.Errorf("%w: it has no channel", ErrToken)
	}
	return t, nil
}

// Of returns the position of channel in t, the zero Position if t does not know it. A channel can
// share its hash with another one; its position is then not in the channel's history, and resuming
// from it gives a gap, never another channel's messages.
func (t Token) Of(channel string) Position { return t[channelHash(channel)] }

func channelHash(name string) uint32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(name))
	return h.Sum32() & 0xffffff
}
