package e2e

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"
)

// handshake is a request for a WebSocket; more are headers, each with its line end.
func handshake(channel, more string) string {
	query := ""
	if channel != "" {
		query = "?channel=" + channel
	}
	return "GET /ws" + query + " HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" + more + "\r\n"
}

// speaksJSON asks for the subprotocol of commands.
const speaksJSON = "Sec-WebSocket-Protocol: " + subprotocol + "\r\n"

// upgrade opens a WebSocket by hand.
func (a *arena) upgrade(t *testing.T, channel, more string) *raw {
	t.Helper()
	c := a.dial(t)
	c.send(handshake(channel, more))
	x, err := c.answer()
	if err != nil || x.status != 101 {
		t.Fatalf("the handshake is answered by %+v, %v", x, err)
	}
	return c
}

// First bytes of frames (RFC 6455 §5.2).
const (
	fin        = 0x80
	opText     = 1
	opBinary   = 2
	opClose    = 8
	opPing     = 9
	opPong     = 10
	closeNone  = 1006 // the connection ended without a close frame
	maskBit    = 0x80
	maskedZero = "\x00\x00\x00\x00"
)

// frame is one frame of a client, with a mask of zeros: the payload stays as it is.
func frame(first byte, payload string) string { return frameOf(first, uint64(len(payload)), payload) }

// frameOf announces a length that need not be the payload's.
func frameOf(first byte, length uint64, payload string) string {
	b := []byte{first}
	switch {
	case length < 126:
		b = append(b, maskBit|byte(length))
	case length < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, maskBit|126), uint16(length))
	default:
		b = binary.BigEndian.AppendUint64(append(b, maskBit|127), length)
	}
	return string(b) + maskedZero + payload
}

// text is a whole text message.
func text(payload string) string { return frame(fin|opText, payload) }

// read reads one frame of the node.
func (c *raw) read() (op byte, payload string, err error) {
	var head [2]byte
	if _, err := io.ReadFull(c.r, head[:]); err != nil {
		return 0, "", ended(err)
	}
	length := uint64(head[1])
	switch length {
	case 126:
		var b [2]byte
		_, err = io.ReadFull(c.r, b[:])
		length = uint64(binary.BigEndian.Uint16(b[:]))
	case 127:
		var b [8]byte
		_, err = io.ReadFull(c.r, b[:])
		length = binary.BigEndian.Uint64(b[:])
	}
	if err != nil {
		return 0, "", ended(err)
	}
	if head[0]&fin == 0 || length > 1<<20 {
		return 0, "", fmt.Errorf("a frame %x of %d bytes", head[0], length)
	}
	b := make([]byte, length)
	if _, err := io.ReadFull(c.r, b); err != nil {
		return 0, "", ended(err)
	}
	return head[0] & 15, string(b), nil
}

// said is what a node says until it closes, or answers what is sent last.
type said struct {
	close int // code; 0: it did not
	codes []string
	texts int
}

// listen reads until the connection ends or the pong comes that has the payload last.
func (c *raw) listen() (s said, err error) {
	for {
		op, payload, err := c.read()
		switch {
		case errors.Is(err, io.EOF):
			s.close = closeNone
			return s, nil
		case err != nil:
			return s, err
		case op == opPong && payload == lastPing:
			return s, nil
		case op == opClose && len(payload) >= 2:
			s.close = int(binary.BigEndian.Uint16([]byte(payload)))
			return s, nil
		case op == opClose:
			s.close = 1005
			return s, nil
		case op == opText:
			s.texts++
			var e body
			switch err := json.Unmarshal([]byte(payload), &e); {
			case err == nil && e.Type == "error":
				s.codes = append(s.codes, e.Code)
			case err == nil && e.Type == "reply" && e.Ref == lastRef:
				return s, nil
			}
		}
	}
}

// What is sent last; the command is answered after all others.
const (
	lastPing    = "are you still there"
	lastRef     = 4711
	lastCommand = `{"type":"ping","ref":4711}`
)

// wsAttack is what a stranger sends on a WebSocket, and what must come of it.
type wsAttack struct {
	name, why string
	json      bool // sluice.v1.json
	send      string
	close     []int  // codes that will do; 0: it is not closed
	code      string // of an error that must come
}

// wsAttacks need no credentials.
func wsAttacks() []wsAttack {
	subscribe := func(channels ...string) string {
		b, _ := json.Marshal(map[string]any{"type": "subscribe", "channels": channels})
		return text(string(b))
	}
	var numbered []string
	for i := range 9_000 {
		numbered = append(numbered, fmt.Sprint(i))
	}
	return []wsAttack{
		// Frames (RFC 6455 §5.2). That all of them are refused, however they are cut, is known of the decoder; here it is the whole way.
		{"not masked", "a proxy might take it for a request, §10.3", true, "\x81\x02{}", []int{1002}, ""},
		{"RSV1", "as if it were compressed, which was not agreed", true, frame(fin|0x40|opText, "{}"), []int{1002}, ""},
		{"RSV2 of a ping", "", false, frame(fin|0x20|opPing, ""), []int{1002}, ""},
		{"an unknown opcode", "", false, frame(fin|3, ""), []int{1002}, ""},
		{"an unknown control opcode", "", false, frame(fin|11, ""), []int{1002}, ""},
		{"a ping in fragments", "", false, frame(opPing, "a"), []int{1002}, ""},
		{"a ping of 126 bytes", "", false, frame(fin|opPing, strings.Repeat("a", 126)), []int{1002}, ""},
		{"a fragment of nothing", "", false, frame(fin, "a"), []int{1002}, ""},
		{"a message in a message", "", false, frame(opText, "a") + frame(fin|opText, "b"), []int{1002}, ""},
		{"a close of one byte", "", false, frame(fin|opClose, "a"), []int{1002}, ""},
		{"a close code that is reserved", "", false, frame(fin|opClose, "\x03\xee"), []int{1002}, ""},
		{"a close reason that is no text", "", false, frame(fin|opClose, "\x03\xe8\xff"), []int{1007}, ""},
		{"a length with its top bit", "§5.2: it must be 0", false, frameOf(fin|opText, 1<<63, ""), []int{1002, 1009}, ""},
		{"a length that is too long for it", "§5.2: the shortest form", false, "\x81\xfe\x00\x05" + maskedZero + "hello", []int{1002}, ""},
		{"1 TiB announced", "nothing is kept ready for what was announced", false, frameOf(fin|opText, 1<<40, "a"), []int{1009}, ""},
		{"a byte more than allowed", "", false, frameOf(fin|opText, 64<<10+1, ""), []int{1009}, ""},
		{"a message too large by its fragments", "", false, frame(opText, strings.Repeat("a", 40<<10)) + frame(0, strings.Repeat("a", 40<<10)), []int{1009}, ""},
		{"a million fragments", "a message that never ends costs no bytes", false, frame(opText, "") + strings.Repeat(frame(0, ""), 1_000_000), []int{1009, closeNone}, ""},
		{"text that is no text", "", false, text("a\xff"), []int{1007}, ""},
		{"text that is no text, in fragments", "it is refused before the message is there", false, frame(opText, "a\xff"), []int{1007}, ""},
		{"half a surrogate", "CESU-8", true, text("\"\xed\xa0\x80\""), []int{1007}, ""},
		{"a binary command", "", true, frame(fin|opBinary, "{}"), []int{1003}, ""},
		{"HTTP on the socket", "", false, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", []int{1002}, ""},

		// Floods. Each is told, or closed, and costs no more than reading it.
		{"pings", "each asks for an answer", false, strings.Repeat(frame(fin|opPing, "x"), 20_000), []int{4429, closeNone}, ""},
		{"pongs", "", false, strings.Repeat(frame(fin|opPong, "x"), 20_000), []int{4429, closeNone}, ""},
		{"empty messages", "", false, strings.Repeat(text(""), 20_000), []int{4429, closeNone}, ""},
		{"commands", "", true, strings.Repeat(text(`{"type":"ping"}`), 20_000), []int{4429, closeNone}, ""},
		{"subscribe and unsubscribe", "each could be one at Redis", true, strings.Repeat(text(`{"type":"subscribe","channel":"flap"}`)+text(`{"type":"unsubscribe","channel":"flap"}`), 10_000), []int{4429, closeNone}, ""},
		{"bad commands", "an error is an answer, too", true, strings.Repeat(text(`{`), 20_000), []int{4429, closeNone}, ""},
		{"60 commands", "a few too many are told, and no more", true, strings.Repeat(text(`{"type":"ping"}`), 60), []int{0}, "rate_limited"},

		// Commands.
		{"too many channels", "", true, subscribe(numbered[:9]...), []int{0}, "too_many_channels"},
		{"9,000 channels", "whoever looked for each among the others would look for long", true, subscribe(numbered...), []int{0}, "too_many_channels"},
		{"the same channel 12,000 times", "that is one", true, subscribe(slices.Repeat([]string{"a"}, 12_000)...), []int{0}, ""},
		{"one channel more each time", "", true, subscribe(numbered[:8]...) + subscribe(numbered[8]), []int{0}, "too_many_channels"},
		{"nested deep", "", true, text(strings.Repeat(`{"ref":`, 5_000) + "1" + strings.Repeat("}", 5_000)), []int{0}, "bad_request"},
		{"brackets", "", true, text(strings.Repeat("[", 60_000)), []int{0}, "bad_request"},
		{"a ref that is nested", "refs are sent back", true, text(`{"type":"ping","ref":[[[]]]}`), []int{0}, "bad_request"},
		{"a ref of 60 KB", "", true, text(`{"type":"ping","ref":"` + strings.Repeat("r", 60_000) + `"}`), []int{0}, "bad_request"},
		{"a number beyond all", "a ref is sent back as it is", true, text(`{"type":"ping","ref":1e999}`), []int{0}, ""},
		{"an unknown field", "", true, text(`{"type":"ping","admin":true}`), []int{0}, "bad_request"},
		{"a field twice", "who checks it first may read another than who subscribes", true, text(`{"type":"subscribe","channel":"a","channel":"b"}`), []int{0}, "bad_request"},
		{"a type with markup", "", true, text(`{"type":"<script>"}`), []int{0}, "bad_request"},
		{"two commands in one", "", true, text(`{"type":"ping"}{"type":"ping"}`), []int{0}, "bad_request"},
		{"a filter of 60 KB", "", true, text(`{"type":"subscribe","channel":"a","filter":"` + strings.Repeat("(", 60_000) + `"}`), []int{0}, "bad_delivery"},
		{"a message that is too large", "", true, text(`{"type":"publish","channel":"a","data":"` + strings.Repeat("x", 17_000) + `"}`), []int{0}, "too_large"},
		{"an event of the node's own", "", true, text(`{"type":"publish","channel":"a","data":"x","event":"gap"}`), []int{0}, "bad_message"},
	}
}

// TestAttackWS: whatever frames a stranger sends, the connection is told or closed as expected, and nobody else notices.
func TestAttackWS(t *testing.T) {
	t.Parallel()
	a := newArena(t)
	for _, tt := range wsAttacks() {
		t.Run(tt.name, func(t *testing.T) {
			defer a.unharmed(t)
			channel, more := "a", ""
			if tt.json {
				channel, more = "", speaksJSON
			}
			c := a.upgrade(t, channel, more)
			sent := make(chan struct{})
			go func() {
				defer close(sent)
				c.send(tt.send)
				if slices.Contains(tt.close, 0) {
					calm(tt.send)
					if tt.json {
						c.send(text(lastCommand))
					} else {
						c.send(frame(fin|opPing, lastPing))
					}
				}
			}()
			defer func() { c.Close(); <-sent }()
			began := time.Now()
			s, err := c.listen()
			if err != nil {
				t.Fatalf("%v after %v: %s", err, time.Since(began), tt.why)
			}
			if !slices.Contains(tt.close, s.close) {
				t.Errorf("closed with %d, want %v: %s", s.close, tt.close, tt.why)
			}
			if tt.code != "" && !slices.Contains(s.codes, tt.code) || tt.code == "" && len(s.codes) > 0 && s.close == 0 {
				t.Errorf("got errors %q, want %q: %s", s.codes, tt.code, tt.why)
			}
		})
	}
	a.alone(t)
}

// calm waits until one more frame is allowed, after those that were sent.
func calm(sent string) {
	if strings.Count(sent, maskedZero) > 40 {
		time.Sleep(time.Second)
	}
}

// TestAttackWSManyChannels: a client that asks for a million channels, as many at once as fit into a command and again and again, delays nobody.
func TestAttackWSManyChannels(t *testing.T) {
	t.Parallel()
	a := newArena(t)
	var names []string
	for i := range 8_000 {
		names = append(names, fmt.Sprintf(`"%d"`, i))
	}
	command := text(`{"type":"subscribe","channels":[` + strings.Join(names, ",") + `]}`)
	var sent []chan struct{}
	for range 4 {
		c := a.upgrade(t, "", speaksJSON)
		done := make(chan struct{})
		sent = append(sent, done)
		go func() {
			defer close(done)
			go func() { _, _ = io.Copy(io.Discard, c) }()
			for range 40 {
				c.send(command)
			}
			c.Close()
		}()
	}
	worst := time.Duration(0)
	for _, done := range sent {
		for waiting := true; waiting; {
			began := time.Now()
			a.unharmed(t)
			worst = max(worst, time.Since(began))
			select {
			case <-done:
				waiting = false
			default:
			}
		}
	}
	t.Logf("messages to others took %v at most", worst)
	if worst > 2*time.Second {
		t.Errorf("messages to others took %v, want 2s at most", worst)
	}
	a.alone(t)
}

// TestAttackWSCompression: an extension that is offered is not agreed to, however.
func TestAttackWSCompression(t *testing.T) {
	t.Parallel()
	a := newArena(t)
	for _, offer := range []string{"permessage-deflate", "permessage-deflate; client_max_window_bits; server_no_context_takeover", "x-webkit-deflate-frame", strings.Repeat("permessage-deflate, ", 300) + "x"} {
		c := a.dial(t)
		c.send(handshake("a", "Sec-WebSocket-Extensions: "+offer+"\r\n"))
		x, err := c.answer()
		if err != nil || x.status != 101 || len(x.header["Sec-Websocket-Extensions"]) > 0 {
			t.Errorf("%.50s: got %+v, %v", offer, x, err)
		}
		// 256 KiB that would be 256 MiB.
		c.send(frameOf(fin|0x40|opText, 256<<10, strings.Repeat("\x00", 256)))
		if s, err := c.listen(); err != nil || s.close != 1002 {
			t.Errorf("%.50s: got %+v, %v, want 1002", offer, s, err)
		}
	}
	c := a.dial(t)
	c.send("GET /sse?channel=a HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip, br, zstd, deflate\r\n\r\n")
	if x, err := c.answer(); err != nil || x.status != 200 || x.header.Get("Content-Encoding") != "" {
		t.Errorf("a stream is compressed: %+v, %v", x, err)
	}
	a.unharmed(t)
}
