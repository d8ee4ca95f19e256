package wsframe

import (
	"fmt"
	"strings"
	"testing"
)

// limitCases is group 9, large messages and many round trips, and group 10. Unlike the suite it compares
// what comes back, not only its length.
func limitCases() []conformanceCase {
	const ki, mi = 1 << 10, 1 << 20
	text := strings.Repeat("BAsd7&jh23", 16*mi/10+1)
	binary := strings.Repeat("\x00\xfe\x23\xfa\xf0", 16*mi/5+1)
	stars, bytes := strings.Repeat("*", 4*mi), strings.Repeat("\xfe", 4*mi)
	var cases []conformanceCase
	add := func(group, i int, about string, s step, want ...event) {
		cases = append(cases, conformanceCase{fmt.Sprintf("9.%d.%d", group, i+1), about, one(s), want, clean()})
	}
	for i, n := range []int{64 * ki, 256 * ki, mi, 4 * mi, 8 * mi, 16 * mi} {
		about := fmt.Sprintf("message of %d bytes", n)
		add(1, i, about, send(textFrame(text[:n])), event{"text", text[:n]})
		add(2, i, about, send(binaryFrame(binary[:n])), event{"binary", binary[:n]})
	}
	for i, n := range []int{64, 256, ki, 4 * ki, 16 * ki, 64 * ki, 256 * ki, mi, 4 * mi} {
		about := fmt.Sprintf("4 MiB in fragments of %d", n)
		add(3, i, about, sendFragments(OpText, stars, n), event{"text", stars})
		add(4, i, about, sendFragments(OpBinary, bytes, n), event{"binary", bytes})
	}
	for i, n := range []int{64, 128, 256, 512, ki, 2 * ki} {
		about := fmt.Sprintf("1 MiB in writes of %d", n)
		add(5, i, about, sendChopped(n, textFrame(text[:mi])), event{"text", text[:mi]})
		add(6, i, about, sendChopped(n, binaryFrame(binary[:mi])), event{"binary", binary[:mi]})
	}
	for i, n := range []int{0, 16, 64, 256, ki, 4 * ki} {
		about := fmt.Sprintf("1000 round trips of %d bytes", n)
		add(7, i, about, roundTrips(1000, textFrame(stars[:n]), event{"text", stars[:n]}))
		add(8, i, about, roundTrips(1000, binaryFrame(bytes[:n]), event{"binary", bytes[:n]}))
	}
	return append(cases, conformanceCase{"10.1.1", "64 KiB, cut into fragments of 1300 by the client",
		one(sendFragments(OpText, stars[:64*ki], 1300)), one(event{"text", stars[:64*ki]}), clean()})
}

// sendFragments sends a message in fragments of size bytes. They are cut when they are sent: the table of
// all cases would be large otherwise.
func sendFragments(opcode byte, payload string, size int) step {
	return func(t *testing.T, p *peer) { send(fragmented(opcode, payload, size)...)(t, p) }
}

// roundTrips sends a frame when the one before has come back.
func roundTrips(count int, f spec, want event) step {
	return func(t *testing.T, p *peer) {
		for range count {
			p.write(t, p.encode(one(f)), 1<<30)
			p.expect(t, one(want))
		}
	}
}
