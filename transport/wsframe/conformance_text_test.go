package wsframe

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// kosme is Greek, with characters of two and of three bytes.
const kosme = "\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5"

// textCases is group 6: UTF-8.
func textCases() []conformanceCase {
	const german = "Hello-µ@ßöäüàá-UTF-8!!"
	const half = len("Hello-µ@ßöä")
	surrogate := kosme + "\xed\xa0\x80" + "edited"
	cases := []conformanceCase{
		{"6.1.1", "empty text", one(send(textFrame(""))), one(event{"text", ""}), clean()},
		{"6.1.2", "three empty fragments", one(send(spec{OpText, ""}, spec{more, ""}, spec{final, ""})), one(event{"text", ""}), clean()},
		{"6.1.3", "three fragments, only the middle one not empty",
			one(send(spec{OpText, ""}, spec{more, "middle frame payload"}, spec{final, ""})), one(event{"text", "middle frame payload"}), clean()},
		{"6.2.1", "valid text", one(send(textFrame(german))), one(event{"text", german}), clean()},
		{"6.2.2", "valid text, cut between characters", one(send(fragmented(OpText, german, half)...)), one(event{"text", german}), clean()},
		{"6.2.3", "valid text in fragments of one byte", one(send(fragmented(OpText, german, 1)...)), one(event{"text", german}), clean()},
		{"6.2.4", "valid text in fragments of one byte", one(send(fragmented(OpText, kosme, 1)...)), one(event{"text", kosme}), clean()},
		{"6.3.1", "a surrogate in the text", one(send(textFrame(surrogate))), nil, failed(1007)},
		{"6.3.2", "the same in fragments of one byte", one(send(fragmented(OpText, surrogate, 1)...)), nil, failed(1007)},
	}
	cases = append(cases, failFastCases()...)
	for i, group := range textGroups() {
		for j, p := range group.payloads {
			c := conformanceCase{id: fmt.Sprintf("6.%d.%d", i+5, j+1), about: fmt.Sprintf("%s: % x", group.about, p), steps: one(send(textFrame(p)))}
			if utf8.ValidString(p) {
				c.want, c.end = one(event{"text", p}), clean()
			} else {
				c.end = failed(1007)
			}
			cases = append(cases, c)
		}
	}
	return cases
}

// failFastCases is group 6.4: the bytes after the impossible one are never sent, so a server that waits for
// the end of the fragment, frame or message does not pass. Before it, the server must be content.
func failFastCases() []conformanceCase {
	payload := kosme + "\xf4\x90\x80\x80" + "edited" // over U+10FFFF, which is certain at its second byte
	const bad = len(kosme) + 1                       // index of that byte
	const part2 = len(kosme) + 4
	whole := frame(final|OpText, payload)
	const head = 6
	return []conformanceCase{
		{"6.4.1", "valid fragment, invalid fragment", []step{
			send(spec{more | OpText, payload[:len(kosme)]}), quiet(), send(spec{more, payload[len(kosme):part2]})}, nil, failed(1007)},
		{"6.4.2", "valid so far, a fragment of the impossible byte", []step{
			send(spec{more | OpText, payload[:bad]}), quiet(), send(spec{more, payload[bad : bad+1]})}, nil, failed(1007)},
		{"6.4.3", "one frame: valid part, invalid part", []step{
			sendBytes(whole[:head+len(kosme)]), quiet(), sendBytes(whole[head+len(kosme) : head+part2])}, nil, failed(1007)},
		{"6.4.4", "one frame: valid so far, the impossible byte", []step{
			sendBytes(whole[:head+bad]), quiet(), sendBytes(whole[head+bad : head+bad+1])}, nil, failed(1007)},
	}
}

type textGroup struct {
	about    string
	payloads []string
}

// textGroups are the groups 6.5 to 6.23, after Markus Kuhn's UTF-8 decoder stress test. Whether a payload
// is valid is utf8.Valid's to say.
func textGroups() []textGroup {
	prefixes := make([]string, len(kosme))
	for i := range prefixes {
		prefixes[i] = kosme[:i+1]
	}
	cutOff := []string{"\xc0", "\xe0\x80", "\xf0\x80\x80", "\xf8\x80\x80\x80", "\xfc\x80\x80\x80\x80",
		"\xdf", "\xef\xbf", "\xf7\xbf\xbf", "\xfb\xbf\xbf\xbf", "\xfd\xbf\xbf\xbf\xbf"}
	return []textGroup{
		{"valid sequences", []string{"hello\x24world", "hello\xc2\xa2world", "hello\xe2\x82\xacworld", "hello\xf0\xa4\xad\xa2world", kosme}},
		{"prefixes of a valid text", prefixes},
		{"first possible sequence of a length", []string{"\x00", "\xc2\x80", "\xe0\xa0\x80", "\xf0\x90\x80\x80"}},
		{"first possible sequence of length 5 and 6", []string{"\xf8\x88\x80\x80\x80", "\xfc\x84\x80\x80\x80\x80"}},
		{"last possible sequence of a length", []string{"\x7f", "\xdf\xbf", "\xef\xbf\xbf", "\xf4\x8f\xbf\xbf"}},
		{"last possible sequence of length 4, 5 and 6", []string{"\xf7\xbf\xbf\xbf", "\xfb\xbf\xbf\xbf\xbf", "\xfd\xbf\xbf\xbf\xbf\xbf"}},
		{"other boundaries", []string{"\xed\x9f\xbf", "\xee\x80\x80", "\xef\xbf\xbd", "\xf4\x8f\xbf\xbf", "\xf4\x90\x80\x80"}},
		{"unexpected continuation bytes", []string{"\x80", "\xbf", "\x80\xbf", "\x80\xbf\x80", "\x80\xbf\x80\xbf", "\x80\xbf\x80\xbf\x80",
			"\x80\xbf\x80\xbf\x80\xbf", byteRange(0x80, 0xbf, "")}},
		{"lonely first bytes", []string{byteRange(0xc0, 0xdf, " "), byteRange(0xe0, 0xef, " "), byteRange(0xf0, 0xf7, " "),
			byteRange(0xf8, 0xfb, " "), byteRange(0xfc, 0xfd, " ")}},
		{"last continuation byte missing", cutOff},
		{"incomplete sequences joined", []string{strings.Join(cutOff, "")}},
		{"impossible bytes", []string{"\xfe", "\xff", "\xfe\xfe\xff\xff"}},
		{"overlong ASCII", []string{"\xc0\xaf", "\xe0\x80\xaf", "\xf0\x80\x80\xaf", "\xf8\x80\x80\x80\xaf", "\xfc\x80\x80\x80\x80\xaf"}},
		{"largest overlong", []string{"\xc1\xbf", "\xe0\x9f\xbf", "\xf0\x8f\xbf\xbf", "\xf8\x87\xbf\xbf\xbf", "\xfc\x83\xbf\xbf\xbf\xbf"}},
		{"overlong NUL", []string{"\xc0\x80", "\xe0\x80\x80", "\xf0\x80\x80\x80", "\xf8\x80\x80\x80\x80", "\xfc\x80\x80\x80\x80\x80"}},
		{"surrogates", []string{"\xed\xa0\x80", "\xed\xad\xbf", "\xed\xae\x80", "\xed\xaf\xbf", "\xed\xb0\x80", "\xed\xbe\x80", "\xed\xbf\xbf"}},
		{"pairs of surrogates", []string{"\xed\xa0\x80\xed\xb0\x80", "\xed\xa0\x80\xed\xbf\xbf", "\xed\xad\xbf\xed\xb0\x80", "\xed\xad\xbf\xed\xbf\xbf",
			"\xed\xae\x80\xed\xb0\x80", "\xed\xae\x80\xed\xbf\xbf", "\xed\xaf\xbf\xed\xb0\x80", "\xed\xaf\xbf\xed\xbf\xbf"}},
		{"non-characters, which are valid", nonCharacters()},
		{"specials", []string{"\xef\xbf\xb9", "\xef\xbf\xba", "\xef\xbf\xbb", "\xef\xbf\xbc", "\xef\xbf\xbd", "\xef\xbf\xbe", "\xef\xbf\xbf"}},
	}
}

// byteRange returns the bytes from first to the one before end, each followed by sep. (The suite leaves
// the last one out, too.)
func byteRange(first, end byte, sep string) string {
	var b strings.Builder
	for c := first; c < end; c++ {
		b.WriteByte(c)
		b.WriteString(sep)
	}
	return b.String()
}

// nonCharacters returns U+FFFE and U+FFFF, and of the other planes those that the suite asks for.
func nonCharacters() []string {
	payloads := []string{"\xef\xbf\xbe", "\xef\xbf\xbf"}
	for _, first := range []byte{0xf0, 0xf1, 0xf2, 0xf3, 0xf4} {
		for _, second := range []byte{0x8f, 0x9f, 0xaf, 0xbf} {
			for _, last := range []byte{0xbe, 0xbf} {
				if p := string([]byte{first, second, 0xbf, last}); utf8.ValidString(p) {
					payloads = append(payloads, p)
				}
			}
		}
	}
	return payloads
}
