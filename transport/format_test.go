package transport

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
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
	b := &broker.Batch{Messages: samples()}
	one := &session{feeds: make([]*feed, 1), gaps: true}
	for name, f := range map[string]format{"sse.txt": sse{}, "sse-json.txt": sse{envelope: true}, "ws.bin": wsPlain{}, "ws-json.bin": wsJSON{}} {
		t.Run(name, func(t *testing.T) {
			got := f.shared(one, nil, b)
			if got == nil {
				got = f.single(nil, one, nil, b)
			}
			path := filepath.Join("testdata", "golden-"+name)
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
				t.Errorf("got\n%q\nwant\n%q\n(go test ./transport -update writes it anew)", got, want)
			}
		})
	}
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

// FuzzCommand: no text makes the decoder of commands panic, or be answered by anything but an error it names.
func FuzzCommand(f *testing.F) {
	for _, s := range []string{`{"type":"subscribe","ref":1,"channels":["a"],"resume":"AQ"}`, `{"type":"publish","channel":"a","data":{}}`, `[`, `{"ref":{}}`} {
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
