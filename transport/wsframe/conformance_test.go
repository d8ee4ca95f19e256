package wsframe

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// The conformance suite: the cases of the Autobahn|Testsuite (crossbar.io, Apache License 2.0) that
// concern a server which has negotiated no extension, under the suite's numbers, sent over real sockets to an
// echo server made of a Decoder. Expectations are the suite's where it knows one right answer. Where it
// takes several (NON-STRICT, INFORMATIONAL, "or drop TCP"), only the strict one passes here: fail at
// the first byte, send a close frame with the right code, echo the code of the peer's.
//
// Groups 12 and 13 are about permessage-deflate, which is not negotiated.

// conformanceCounts is how many cases each group of the suite has.
var conformanceCounts = map[string]int{"1": 16, "2": 11, "3": 7, "4": 10, "5": 20, "6": 145, "7": 37, "9": 54, "10": 1}

// conformanceCase is one case: what to send, what must come back, and how the connection must end.
type conformanceCase struct {
	id    string
	about string
	steps []step
	want  []event // what must come after the steps, in order, and nothing else
	end   ending
}

// ending says how a connection ends: with a close frame of the server's, and then the end of the stream.
type ending struct {
	code uint16 // of the server's close frame; CloseNoStatus: it is empty
	ask  bool   // the client asks for it, after everything wanted has come, by sending close 1000
}

// clean: all was well, and the client closes. failed: the server closes by itself, with this code.
// answered: the steps contain the client's close frame, and the server answers it with this code.
func clean() ending               { return ending{CloseNormal, true} }
func failed(code uint16) ending   { return ending{code, false} }
func answered(code uint16) ending { return ending{code, false} }

// spec is a frame to send: first byte (FIN, RSV, opcode) and payload.
type spec struct {
	first   byte
	payload string
}

func textFrame(payload string) spec   { return spec{final | OpText, payload} }
func binaryFrame(payload string) spec { return spec{final | OpBinary, payload} }
func pingFrame(payload string) spec   { return spec{final | OpPing, payload} }
func pongFrame(payload string) spec   { return spec{final | OpPong, payload} }
func closeFrame(code uint16, reason string) spec {
	return spec{final | OpClose, closePayload(code, reason)}
}

// fragmented cuts a message into frames of size bytes.
func fragmented(opcode byte, payload string, size int) []spec {
	var frames []spec
	for len(payload) > size {
		frames = append(frames, spec{more | opcode, payload[:size]})
		opcode, payload = OpContinuation, payload[size:]
	}
	return append(frames, spec{final | opcode, payload})
}

// event is what comes back: "text", "binary", "ping", "pong" or "close" (where data is code and reason).
type event struct {
	kind string
	data string
}

func (e event) String() string {
	if len(e.data) > 40 {
		return fmt.Sprintf("%s(%q… %d bytes)", e.kind, e.data[:40], len(e.data))
	}
	return fmt.Sprintf("%s(%q)", e.kind, e.data)
}

// step is one act of the client; it stops the test if the server does something else than it should.
type step func(t *testing.T, p *peer)

// send sends the frames in one write, sendEach each in its own, sendChopped in writes of n bytes.
func send(frames ...spec) step {
	return func(t *testing.T, p *peer) { p.write(t, p.encode(frames), 1<<30) }
}

func sendEach(frames ...spec) step {
	return func(t *testing.T, p *peer) {
		for _, f := range frames {
			p.write(t, p.encode([]spec{f}), 1<<30)
		}
	}
}

func sendChopped(n int, frames ...spec) step {
	return func(t *testing.T, p *peer) { p.write(t, p.encode(frames), n) }
}

// sendBytes sends what is encoded already, or a part of it.
func sendBytes(b []byte) step {
	return func(t *testing.T, p *peer) { p.write(t, b, 1<<30) }
}

// expect waits for what must come now, before the next step.
func expect(events ...event) step {
	return func(t *testing.T, p *peer) { p.expect(t, events) }
}

// quiet makes sure that the server has not failed the connection.
func quiet() step { return func(t *testing.T, p *peer) { p.quiet(t) } }

// one is a list of one step or event.
func one[T any](x T) []T { return []T{x} }

func TestConformance(t *testing.T) {
	url := startEcho(t)
	cases := slices.Concat(framingCases(), pingCases(), reservedCases(), opcodeCases(), fragmentCases(),
		textCases(), closeCases(), limitCases())
	counts, seen := map[string]int{}, map[string]bool{}
	passed := 0
	for _, c := range cases {
		if seen[c.id] {
			t.Errorf("case %s is there twice", c.id)
		}
		seen[c.id] = true
		group, _, _ := strings.Cut(c.id, ".")
		counts[group]++
		if t.Run(c.id, func(t *testing.T) { runCase(t, url, c) }) {
			passed++
		}
	}
	for group, want := range conformanceCounts {
		if counts[group] != want {
			t.Errorf("group %s has %d cases, want %d", group, counts[group], want)
		}
	}
	t.Logf("conformance: %d of %d cases passed (groups 1-7, 9 and 10; 12 and 13 need compression)", passed, len(cases))
}

func runCase(t *testing.T, url string, c conformanceCase) {
	t.Helper()
	defer func() {
		if t.Failed() {
			t.Logf("%s: %s", c.id, c.about)
		}
	}()
	p := dial(t, url)
	for _, s := range c.steps {
		s(t, p)
	}
	p.expect(t, c.want)
	if c.end.ask {
		p.write(t, p.encode(one(closeFrame(CloseNormal, ""))), 1<<30)
	}
	p.expectEnd(t, c.end.code)
}
