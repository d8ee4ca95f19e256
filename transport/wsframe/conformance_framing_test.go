package wsframe

import (
	"fmt"
	"slices"
	"strings"
)

const hello = "Hello, world!"

// framingCases is group 1: messages of every kind of length.
func framingCases() []conformanceCase {
	var cases []conformanceCase
	lengths := []int{0, 125, 126, 127, 128, 65535, 65536, 65536}
	for i, n := range lengths {
		text, binary := strings.Repeat("*", n), strings.Repeat("\xfe", n)
		chop := 1 << 30
		if i == len(lengths)-1 {
			chop = 997
		}
		cases = append(cases,
			conformanceCase{fmt.Sprintf("1.1.%d", i+1), fmt.Sprintf("text of %d bytes, in writes of %d", n, chop),
				one(sendChopped(chop, textFrame(text))), one(event{"text", text}), clean()},
			conformanceCase{fmt.Sprintf("1.2.%d", i+1), fmt.Sprintf("binary of %d bytes, in writes of %d", n, chop),
				one(sendChopped(chop, binaryFrame(binary))), one(event{"binary", binary}), clean()})
	}
	return cases
}

// pingCases is group 2: pings, and pongs that nobody asked for.
func pingCases() []conformanceCase {
	odd, long := "\x00\xff\xfe\xfd\xfc\xfb\x00\xff", strings.Repeat("\xfe", 125)
	unsolicited := "unsolicited pong payload"
	var pings []spec
	var pongs []event
	for i := range 10 {
		payload := fmt.Sprintf("payload-%d", i)
		pings, pongs = append(pings, pingFrame(payload)), append(pongs, event{"pong", payload})
	}
	return []conformanceCase{
		{"2.1", "ping without payload", one(send(pingFrame(""))), one(event{"pong", ""}), clean()},
		{"2.2", "ping with text", one(send(pingFrame(hello))), one(event{"pong", hello}), clean()},
		{"2.3", "ping with bytes that are no text", one(send(pingFrame(odd))), one(event{"pong", odd}), clean()},
		{"2.4", "ping of 125 bytes", one(send(pingFrame(long))), one(event{"pong", long}), clean()},
		{"2.5", "ping of 126 bytes", one(send(pingFrame(long + "\xfe"))), nil, failed(1002)},
		{"2.6", "ping of 125 bytes, byte by byte", one(sendChopped(1, pingFrame(long))), one(event{"pong", long}), clean()},
		{"2.7", "pong without payload, then close: no answer to the pong",
			one(send(pongFrame(""), closeFrame(1000, ""))), nil, answered(1000)},
		{"2.8", "pong with payload, then close: no answer to the pong",
			one(send(pongFrame(unsolicited), closeFrame(1000, ""))), nil, answered(1000)},
		{"2.9", "pong, then ping: only the ping is answered",
			one(send(pongFrame(unsolicited), pingFrame("ping payload"))), one(event{"pong", "ping payload"}), clean()},
		{"2.10", "ten pings: a pong for each, in order", one(sendEach(pings...)), pongs, clean()},
		{"2.11", "ten pings, byte by byte", one(sendChopped(1, pings...)), pongs, clean()},
	}
}

// reservedCases is group 3: RSV bits. What was sent before the bad frame is echoed, nothing after it.
func reservedCases() []conformanceCase {
	odd := "\x00\xff\xfe\xfd\xfc\xfb\x00\xff"
	rsv := func(n byte, f spec) spec { return spec{f.first | n<<4, f.payload} }
	echoed := one(event{"text", hello})
	bad := func(n byte) []spec { return []spec{textFrame(hello), rsv(n, textFrame(hello)), pingFrame("")} }
	return []conformanceCase{
		{"3.1", "text with RSV 1", one(send(rsv(1, textFrame(hello)))), nil, failed(1002)},
		{"3.2", "good text, text with RSV 2, ping", one(send(bad(2)...)), echoed, failed(1002)},
		{"3.3", "the same with RSV 3, frame by frame", one(sendEach(bad(3)...)), echoed, failed(1002)},
		{"3.4", "the same with RSV 4, byte by byte", one(sendChopped(1, bad(4)...)), echoed, failed(1002)},
		{"3.5", "binary with RSV 5", one(send(rsv(5, binaryFrame(odd)))), nil, failed(1002)},
		{"3.6", "ping with RSV 6", one(send(rsv(6, pingFrame(hello)))), nil, failed(1002)},
		{"3.7", "close with RSV 7", one(send(rsv(7, spec{final | OpClose, ""}))), nil, failed(1002)},
	}
}

// opcodeCases is group 4: the reserved opcodes 3 to 7 and 11 to 15, alone or after a good message.
func opcodeCases() []conformanceCase {
	var cases []conformanceCase
	for group, base := range []byte{3, 11} {
		for i := range byte(5) {
			bad := spec{final | (base + i), ""}
			if i == 1 || i == 3 || i == 4 {
				bad.payload = "reserved opcode payload"
			}
			c := conformanceCase{id: fmt.Sprintf("4.%d.%d", group+1, i+1), end: failed(1002)}
			switch frames := []spec{textFrame(hello), bad, pingFrame("")}; {
			case i < 2:
				c.about, c.steps = fmt.Sprintf("opcode %d", base+i), one(send(bad))
			case i < 4:
				c.about, c.steps = fmt.Sprintf("text, opcode %d, ping", base+i), one(send(frames...))
			default:
				c.about, c.steps = fmt.Sprintf("text, opcode %d, ping, byte by byte", base+i), one(sendChopped(1, frames...))
			}
			if i >= 2 {
				c.want = one(event{"text", hello})
			}
			cases = append(cases, c)
		}
	}
	return cases
}

// fragmentCases is group 5: messages in fragments, with control frames between them, and what is none.
func fragmentCases() []conformanceCase {
	first, last := spec{more | OpText, "fragment1"}, spec{final, "fragment2"}
	message := one(event{"text", "fragment1fragment2"})
	pinged := []event{{"pong", "ping payload"}, message[0]}
	between := []spec{first, pingFrame("ping payload"), last}
	orphan, orphanMore := spec{final, "non-continuation payload"}, spec{more, "non-continuation payload"}
	five := fragmented(OpText, "fragment1fragment2fragment3fragment4fragment5", len("fragment1"))
	begin := slices.Concat(five[:2], one(pingFrame("pongme 1!")))
	end := slices.Concat(five[2:4], one(pingFrame("pongme 2!")), five[4:])
	whole := []event{{"pong", "pongme 2!"}, {"text", "fragment1fragment2fragment3fragment4fragment5"}}
	answer := expect(event{"pong", "pongme 1!"})
	return []conformanceCase{
		{"5.1", "ping in two fragments", one(send(spec{more | OpPing, "fragment1"}, last)), nil, failed(1002)},
		{"5.2", "pong in two fragments", one(send(spec{more | OpPong, "fragment1"}, last)), nil, failed(1002)},
		{"5.3", "text in two fragments", one(send(first, last)), message, clean()},
		{"5.4", "the same, frame by frame", one(sendEach(first, last)), message, clean()},
		{"5.5", "the same, byte by byte", one(sendChopped(1, first, last)), message, clean()},
		{"5.6", "a ping between two fragments", one(send(between...)), pinged, clean()},
		{"5.7", "the same, frame by frame", one(sendEach(between...)), pinged, clean()},
		{"5.8", "the same, byte by byte", one(sendChopped(1, between...)), pinged, clean()},
		{"5.9", "a last fragment of nothing, then text", one(send(orphan, textFrame(hello))), nil, failed(1002)},
		{"5.10", "the same, frame by frame", one(sendEach(orphan, textFrame(hello))), nil, failed(1002)},
		{"5.11", "the same, byte by byte", one(sendChopped(1, orphan, textFrame(hello))), nil, failed(1002)},
		{"5.12", "a middle fragment of nothing, then text", one(send(orphanMore, textFrame(hello))), nil, failed(1002)},
		{"5.13", "the same, frame by frame", one(sendEach(orphanMore, textFrame(hello))), nil, failed(1002)},
		{"5.14", "the same, byte by byte", one(sendChopped(1, orphanMore, textFrame(hello))), nil, failed(1002)},
		{"5.15", "text in two fragments, a middle fragment of nothing, text",
			one(send(first, last, spec{more, "fragment3"}, textFrame("fragment4"))), message, failed(1002)},
		{"5.16", "twice: a middle fragment of nothing, then text in two",
			one(send(slices.Repeat([]spec{{more, "fragment1"}, {more | OpText, "fragment2"}, {final, "fragment3"}}, 2)...)), nil, failed(1002)},
		{"5.17", "twice: a last fragment of nothing, then text in two",
			one(send(slices.Repeat([]spec{{final, "fragment1"}, {more | OpText, "fragment2"}, {final, "fragment3"}}, 2)...)), nil, failed(1002)},
		{"5.18", "text in two fragments that both say text", one(send(first, textFrame("fragment2"))), nil, failed(1002)},
		{"5.19", "five fragments with two pings: the first is answered before the rest is sent",
			[]step{send(begin...), answer, send(end...)}, whole, clean()},
		{"5.20", "the same, frame by frame", []step{sendEach(begin...), answer, sendEach(end...)}, whole, clean()},
	}
}
