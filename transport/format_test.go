package transport

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"sluice/broker"
)

var update = flag.Bool("update", false, "write the golden files anew")

// samples are one of each thing that formats encode; clients in other languages test against the golden files.
func samples() []*broker.Message {
	at := func(n uint64) broker.Position { return broker.Position{MS: 1795426843459, Seq: n, Tag: 0x9f3c} }
	when := time.UnixMilli(1795426843459)
	return []*broker.Message{
		{Channel: "news", Position: at(0), Data: []byte(`{"a":1}`), Time: when},
		{Channel: "news", Position: at(1), Event: "created", Key: "k", Data: []byte("two\nlines"), Time: when},
		{Channel: "news", Data: []byte("live")},
		{Channel: "news", Position: at(2), Data: []byte{}},
		{Channel: "news", Position: at(3), Data: []byte("not UTF-8: \xff")},
		{Channel: "news", Position: at(4), Data: []byte("NUL: \x00, quote: \", slash: \\, tab: \t, é, \u2028")},
		{Channel: "news", Position: at(5), Event: "gap", Data: []byte("a reserved name from a foreign publisher")},
		{Channel: "news", Gap: &broker.Gap{From: at(5), To: at(9), Reason: broker.Truncated}},
		{Channel: "news", Gap: &broker.Gap{Reason: broker.Interrupted}},
	}
}

func TestGolden(t *testing.T) {
	one := &session{feeds: make([]*feed, 1), gaps: true}
	for name, f := range map[string]format{"sse.txt": sse{}, "sse-json.txt": sse{envelope: true}, "ws.bin": wsPlain{}, "ws-json.bin": wsJSON{}, "poll.txt": &poll{}} {
		t.Run(name, func(t *testing.T) {
			golden(t, "golden-"+name, encode(f, one, &broker.Batch{Messages: samples()}))
			golden(t, "golden-paced-"+name, encode(f, one, pacedSamples()))
		})
	}
}

// pacedSamples are some of samples as policies make them: some were skipped before its first message, and more after its last.
func pacedSamples() *broker.Batch {
	ms := samples()
	return &broker.Batch{Messages: append(samples()[:5], ms[8], ms[5]), Skipped: 3, Array: true, Last: broker.Position{MS: 1795426843459, Seq: 12, Tag: 0x9f3c}}
}

func encode(f format, s *session, b *broker.Batch) []byte {
	if got := f.shared(s, nil, b); got != nil {
		return got
	}
	return f.single(nil, s, nil, b)
}

// golden compares got with a file of testdata, or writes that with -update.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s: got\n%q\nwant\n%q\n(go test ./transport -update writes it anew)", name, got, want)
	}
}

// What stands where in a batch with gaps: the number of skipped messages is told once, and the position after
// the batch with its last event.
func TestBatchFormats(t *testing.T) {
	at := func(n uint64) broker.Position { return broker.Position{MS: 1795426843459, Seq: n, Tag: 1} }
	m := func(n uint64) *broker.Message {
		return &broker.Message{Channel: "c", Position: at(n), Data: []byte("x")}
	}
	live := &broker.Message{Channel: "c", Data: []byte("x")}
	gap := &broker.Message{Channel: "c", Gap: &broker.Gap{Reason: broker.Interrupted}}
	one := &session{feeds: make([]*feed, 1)}
	for _, tt := range []struct {
		name   string
		batch  *broker.Batch
		frames string // type:messages:skipped of each, with an array and without
		ids    []broker.Position
	}{
		{"nothing special", &broker.Batch{Messages: []*broker.Message{m(1), m(2)}, Last: at(2)}, "batch:2:0 | message:0:0 message:0:0", []broker.Position{at(1), at(2)}},
		{"skipped before", &broker.Batch{Messages: []*broker.Message{m(3), m(4)}, Last: at(4), Skipped: 2}, "batch:2:2 | message:0:2 message:0:0", []broker.Position{at(3), at(4)}},
		{"skipped behind", &broker.Batch{Messages: []*broker.Message{m(1), m(2)}, Last: at(9), Skipped: 7}, "batch:2:7 | message:0:7 message:0:0", []broker.Position{at(1), at(9)}},
		{"live at the end", &broker.Batch{Messages: []*broker.Message{m(1), live}, Last: at(1)}, "batch:2:0 | message:0:0 message:0:0", []broker.Position{at(1), {}}},
		{"live at the end, skipped behind", &broker.Batch{Messages: []*broker.Message{m(1), live}, Last: at(5), Skipped: 1}, "batch:2:1 | message:0:1 message:0:0", []broker.Position{at(1), at(5)}},
		{"only live", &broker.Batch{Messages: []*broker.Message{live}}, "batch:1:0 | message:0:0", []broker.Position{{}}},
		{"only live, skipped behind", &broker.Batch{Messages: []*broker.Message{live}, Last: at(3), Skipped: 1}, "batch:1:1 | message:0:1", []broker.Position{at(3)}},
		{"a gap first", &broker.Batch{Messages: []*broker.Message{gap, m(1), m(2)}, Last: at(2), Skipped: 1}, "gap:0:0 batch:2:1 | gap:0:0 message:0:1 message:0:0", []broker.Position{{}, at(1), at(2)}},
		{"a gap between", &broker.Batch{Messages: []*broker.Message{m(1), gap, m(2)}, Last: at(2), Skipped: 1}, "batch:1:1 gap:0:0 batch:1:0 | message:0:1 gap:0:0 message:0:0", []broker.Position{at(1), {}, at(2)}},
		{"nothing but a gap", &broker.Batch{Messages: []*broker.Message{gap}, Last: at(4), Skipped: 3}, "gap:0:3 | gap:0:3", []broker.Position{at(4)}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			array := &broker.Batch{Messages: tt.batch.Messages, Last: tt.batch.Last, Skipped: tt.batch.Skipped, Array: true}
			got := frames(t, wsJSON{}.shared(one, nil, array)) + " | " + frames(t, wsJSON{}.shared(one, nil, tt.batch))
			if got != tt.frames {
				t.Errorf("frames %s, want %s", got, tt.frames)
			}
			s := &stream{t: t, r: bufio.NewReader(bytes.NewReader(sse{}.shared(one, nil, tt.batch)))}
			for i, want := range tt.ids {
				id := ""
				if !want.IsZero() {
					id = string(broker.AppendToken(nil, broker.Place{Channel: "c", Position: want}))
				}
				if e, err := s.next(); err != nil || e.id != id {
					t.Errorf("event %d has id %q, want %q for %v (%v)", i, e.id, id, want, err)
				}
			}
		})
	}
}

// frames reads WebSocket frames of envelopes and says what they are.
func frames(t *testing.T, wire []byte) string {
	var all []string
	for _, text := range payloads(wire) {
		var f frame
		if err := json.Unmarshal(text, &f); err != nil {
			t.Fatalf("%v: %q", err, text)
		}
		all = append(all, fmt.Sprintf("%s:%d:%d", f.Type, len(f.Messages), f.Skipped))
	}
	return strings.Join(all, " ")
}

// payloads cuts WebSocket frames of a server.
func payloads(wire []byte) (all []json.RawMessage) {
	for len(wire) > 0 {
		head, size := 2, int(wire[1])
		switch size {
		case 126:
			head, size = 4, int(binary.BigEndian.Uint16(wire[2:]))
		case 127:
			head, size = 10, int(binary.BigEndian.Uint64(wire[2:]))
		}
		all = append(all, wire[head:head+size])
		wire = wire[head+size:]
	}
	return all
}

// FuzzSSEData: whatever the payload, EventSource sees one event with its lines and nothing else.
func FuzzSSEData(f *testing.F) {
	for _, s := range []string{"", "a", "a\rid: 1\r\nb\n\n", "data: x\n\nevent: y", ":\n", "\ufeff", " "} {
		f.Add([]byte(s), "e")
	}
	f.Fuzz(func(t *testing.T, data []byte, event string) {
		m := &broker.Message{Channel: "c", Event: event, Data: data}
		wire := append(sse{}.body(m), '\n')
		s := &stream{t: t, r: bufio.NewReader(bytes.NewReader(wire))}
		e, err := s.next()
		if err != nil {
			t.Fatalf("%q: %v", wire, err)
		}
		want := strings.ReplaceAll(strings.ReplaceAll(string(data), "\r\n", "\n"), "\r", "\n")
		if plain := utf8.Valid(data) && !bytes.Contains(data, []byte{0}); plain && e.data != want {
			t.Fatalf("%q arrives as %q, want %q", data, e.data, want)
		} else if !plain && !strings.HasPrefix(e.data, "data:application/octet-stream;base64,") {
			t.Fatalf("%q arrives as %q, want a data URL", data, e.data)
		}
		if e.id != "" || e.retry != "" {
			t.Fatalf("%q sets %+v", data, e)
		}
		if rest, err := s.next(); err == nil {
			t.Fatalf("%q makes a second event %+v", data, rest)
		}
	})
}

// FuzzEnvelope: envelopes are JSON that says what went in.
func FuzzEnvelope(f *testing.F) {
	f.Add([]byte("a\"\\\n\x00\x1f"), "event", "key")
	f.Fuzz(func(t *testing.T, data []byte, event, key string) {
		if !utf8.ValidString(event) || !utf8.ValidString(key) {
			return // backends refuse them
		}
		wire := appendEnvelope(nil, &broker.Message{Channel: "c", Event: event, Key: key, Data: data})
		var got struct {
			Type, Channel, Event, Key, Data string
			Data64                          []byte
		}
		if err := json.Unmarshal(wire, &got); err != nil {
			t.Fatalf("%q: %v", wire, err)
		}
		if got.Event != event || got.Key != key || string(got.Data64)+got.Data != string(data) {
			t.Fatalf("%q %q %q arrives as %+v", data, event, key, got)
		}
	})
}

// FuzzBatch: an array says what went in, whatever the lengths of its frames.
func FuzzBatch(f *testing.F) {
	f.Add([]byte("a"), []byte{}, "event", 0)
	for _, n := range []int{30, 60, 61, 62, 63, 120, 125, 126, 65000, 65400, 65535, 70000} { // around the lengths of frames' heads
		f.Add(bytes.Repeat([]byte("{"), n), []byte("\xff"), "", n)
	}
	f.Fuzz(func(t *testing.T, a, b []byte, event string, skipped int) {
		if !utf8.ValidString(event) || skipped < 0 {
			return
		}
		batch := &broker.Batch{Array: true, Skipped: skipped, Messages: []*broker.Message{
			{Channel: "c", Data: a, Event: event}, {Channel: "c", Data: b, Position: broker.Position{MS: 1}}}}
		wire := wsJSON{}.shared(nil, nil, batch)
		text := wire[bytes.Index(wire, []byte(`{"type"`)):]
		var got frame
		if err := json.Unmarshal(text, &got); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if got.Type != "batch" || got.Channel != "c" || got.Skipped != skipped || len(got.Messages) != 2 || got.Messages[0].Event != event || got.Messages[1].Position != "1-0-0000" {
			t.Fatalf("%q arrives as %+v", text, got)
		}
		for i, want := range [][]byte{a, b} {
			data, err := base64.StdEncoding.DecodeString(got.Messages[i].Data64)
			if err != nil || got.Messages[i].Data+string(data) != string(want) {
				t.Fatalf("message %d: %q arrives as %+v", i, want, got.Messages[i])
			}
		}
	})
}

// FuzzCommand: no text makes the decoder of commands panic, or be answered by anything but an error it names.
func FuzzCommand(f *testing.F) {
	for _, s := range []string{`{"type":"subscribe","ref":1,"channels":["a"],"resume":"AQ"}`, `{"type":"publish","channel":"a","data":{}}`,
		`{"type":"subscribe","ref":2,"subscriptions":[{"channel":"a","since":"1-0-abcd","rate":"5/s","signed":"x"},{"channel":"b"}],"resume":"AQ"}`,
		`{"type":"subscribe","subscriptions":[{"channel":"a","Channel":"b"}]}`, `{"subscriptions":[null,[],{}]}`, `[`, `{"ref":{}}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, p := decodeCommand(data)
		if p != nil {
			if p.Code != BadRequest || p.Detail == "" {
				t.Fatalf("%q: %+v", data, p)
			}
			return
		}
		if len(c.Ref) > 64 {
			t.Fatalf("%q: a reference of %d bytes", data, len(c.Ref))
		}
	})
}
