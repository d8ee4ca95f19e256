package transport

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"sluice/broker"
)

// told is what a client is told by the golden frames of the formats with envelopes: a message or a gap. golden-messages.json has them; the
// tests of the client library read it, too.
type told struct {
	Gap      bool    `json:"gap,omitempty"`
	Channel  string  `json:"channel"`
	Position string  `json:"position,omitempty"`
	Event    string  `json:"event,omitempty"`
	Key      string  `json:"key,omitempty"`
	Time     int64   `json:"time,omitempty"`
	Data     *string `json:"data,omitempty"`
	Data64   string  `json:"data64,omitempty"`
	Skipped  int     `json:"skipped,omitempty"`
	From     string  `json:"from,omitempty"`
	To       string  `json:"to,omitempty"`
	Reason   string  `json:"reason,omitempty"`
}

// toldOf says what b is to a client, by other code than the formats'.
func toldOf(b *broker.Batch) (all []told) {
	place := func(p broker.Position) string {
		if p.IsZero() {
			return ""
		}
		return p.String()
	}
	skipped := b.Skipped
	for _, m := range b.Messages {
		if m.Gap != nil {
			all = append(all, told{Gap: true, Channel: m.Channel, From: place(m.Gap.From), To: place(m.Gap.To), Reason: string(m.Gap.Reason)})
			continue
		}
		e := told{Channel: m.Channel, Position: place(m.Position), Event: m.Event, Key: m.Key, Skipped: skipped}
		skipped = 0
		if !m.Time.IsZero() {
			e.Time = m.Time.UnixMilli()
		}
		if utf8.Valid(m.Data) {
			text := string(m.Data)
			e.Data = &text
		} else {
			e.Data64 = base64.StdEncoding.EncodeToString(m.Data)
		}
		all = append(all, e)
	}
	return all
}

// toldBy reads frames, as envelopes of the JSON formats.
func toldBy(t *testing.T, channel string, envelopes ...json.RawMessage) (all []told) {
	t.Helper()
	for _, text := range envelopes {
		var e struct {
			Type     string
			Messages []told
			told
		}
		if err := json.Unmarshal(text, &e); err != nil {
			t.Fatalf("%v: %q", err, text)
		}
		if e.Type == "batch" {
			for i := range e.Messages {
				e.Messages[i].Channel = channel
			}
			e.Messages[0].Skipped = e.Skipped
			all = append(all, e.Messages...)
			continue
		}
		e.told.Gap = e.Type == "gap" || e.Type == "" && e.Reason != ""
		all = append(all, e.told)
	}
	return all
}

// TestGoldenMessages: what the golden frames say is what clients in other languages are tested against.
func TestGoldenMessages(t *testing.T) {
	want := map[string][]told{"golden": toldOf(&broker.Batch{Messages: samples()}), "golden-paced": toldOf(pacedSamples())}
	text, err := json.MarshalIndent(want, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "golden-messages.json", append(text, '\n'))
	for name, list := range want {
		read := func(format string) []byte {
			b, err := os.ReadFile(filepath.Join("testdata", name+format))
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
		var sse []json.RawMessage
		for s := (&stream{t: t, r: bufio.NewReader(bytes.NewReader(read("-sse-json.txt")))}); ; {
			e, err := s.next()
			if err != nil {
				break
			}
			sse = append(sse, json.RawMessage(e.data))
		}
		var polls []json.RawMessage
		if err := json.Unmarshal([]byte("["+strings.TrimSuffix(string(read("-poll.txt")), ",")+"]"), &polls); err != nil {
			t.Fatal(err)
		}
		for format, envelopes := range map[string][]json.RawMessage{"sse": sse, "ws": payloads(read("-ws-json.bin")), "poll": polls} {
			got, err := json.Marshal(toldBy(t, "news", envelopes...))
			if err != nil {
				t.Fatal(err)
			}
			if want, _ := json.Marshal(list); !bytes.Equal(got, want) {
				t.Errorf("%s over %s: got\n%s\nwant\n%s", name, format, got, want)
			}
		}
	}
}
