package redis

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"sluice/broker"
)

func TestParseAnnouncement(t *testing.T) {
	const link = "1795426843459-0-9f3c 1795426843460-1-0001"
	for _, tc := range []struct {
		name string
		in   string
		want *broker.Message // nil: refused
	}{
		{"durable", "1 " + link + " 1795426843459123 2 1 3 evktr a b", &broker.Message{Event: "ev", Key: "k", Trace: "tr ", Data: []byte("a b")}},
		{"live", "1 - - 1795426843459123 0 0 0 x", &broker.Message{Data: []byte("x")}},
		{"no time, no payload", "1 - - 0 0 0 0 ", &broker.Message{Data: []byte{}}},
		{"empty", "", nil},
		{"another version", "2 - - 0 0 0 0 ", nil},
		{"cut off", "1 " + link + " 0 0 0 0", nil},
		{"one position alone", "1 - 1795426843460-1-0001 0 0 0 0 x", nil},
		{"positions the wrong way round", "1 1795426843460-1-0001 1795426843459-0-9f3c 0 0 0 0 x", nil},
		{"its own predecessor", "1 1795426843459-0-9f3c 1795426843459-0-9f3d 0 0 0 0 x", nil},
		{"a length beyond the end", "1 - - 0 2 0 0 x", nil},
		{"a negative length", "1 - - 0 -1 0 0 x", nil},
		{"a signed length", "1 - - 0 +1 0 0 x", nil},
		{"a huge length", "1 - - 0 99999999999999999999 0 0 x", nil},
		{"an event over the limit", "1 - - 0 201 0 0 " + strings.Repeat("e", 201), nil},
		{"a reserved event", "1 - - 0 3 0 0 gap", nil},
		{"a line break in the event", "1 - - 0 3 0 0 a\nb", nil},
		{"a key that is not UTF-8", "1 - - 0 0 1 0 \xff", nil},
		{"a time out of range", "1 - - 9223372036854776 0 0 0 x", nil},
		{"a time with too many digits", "1 - - 00000000000000001 0 0 0 x", nil},
		{"two spaces", "1 - -  0 0 0 0 x", nil},
	} {
		got, ok := parseAnnouncement("c", tc.in)
		if ok != (tc.want != nil) {
			t.Errorf("%s: accepted %v", tc.name, ok)
			continue
		}
		if ok && (got.Channel != "c" || got.Event != tc.want.Event || got.Key != tc.want.Key || got.Trace != tc.want.Trace || !bytes.Equal(got.Data, tc.want.Data)) {
			t.Errorf("%s: got %+v, want %+v", tc.name, got, tc.want)
		}
	}
	m, _ := parseAnnouncement("c", "1 "+link+" 1795426843459123 0 0 0 x")
	if m.Previous.String()+" "+m.Position.String() != link || m.Time.UnixMicro() != 1795426843459123 {
		t.Errorf("got %v after %v at %v", m.Position, m.Previous, m.Time)
	}
}

func FuzzAnnouncement(f *testing.F) {
	f.Add("1 1795426843459-0-9f3c 1795426843460-1-0001 1795426843459123 2 1 3 evktr a b")
	f.Add("1 - - 0 0 0 0 ")
	f.Add("1 - - 0 200 200 200 ")
	f.Fuzz(func(t *testing.T, s string) {
		m, ok := parseAnnouncement("c", s)
		if !ok {
			return
		}
		checkForeign(t, m)
		if m.Durable() {
			return
		}
		again, ok := parseAnnouncement("c", string(appendLive(nil, m, m.Trace)))
		if !ok || again.Event != m.Event || again.Key != m.Key || again.Trace != m.Trace || !again.Time.Equal(m.Time) || !bytes.Equal(again.Data, m.Data) {
			t.Errorf("written and read again: got %+v, want %+v", again, m)
		}
	})
}

func FuzzEntry(f *testing.F) {
	f.Add("1795426843460-1", "p", "1795426843459-0-9f3c", "x", "0001", "t", "1795426843459123", "payload", "created")
	f.Add("", "p", "-", "x", "", "t", "0", "", "")
	f.Fuzz(func(t *testing.T, id, f1, v1, f2, v2, f3, v3, data, event string) {
		m, ok := parseEntry("c", []any{id, []any{f1, v1, f2, v2, f3, v3, "d", data, "e", event}})
		if !ok {
			return
		}
		checkForeign(t, m)
		if !m.Durable() {
			t.Errorf("an entry without a position: %+v", m)
		}
	})
}

func TestParseEntryRefuses(t *testing.T) {
	good := []any{"p", "1795426843459-0-9f3c", "x", "0001", "t", "0", "d", ""}
	if _, ok := parseEntry("c", []any{"1795426843460-1", append(good, "later", "version")}); !ok {
		t.Error("an unknown field makes an entry unreadable")
	}
	for name, entry := range map[string]any{
		"nil":          nil,
		"no list":      "x",
		"short":        []any{"1795426843460-1"},
		"no fields":    []any{"1795426843460-1", nil},
		"odd":          []any{"1795426843460-1", good[:7]},
		"no payload":   []any{"1795426843460-1", good[:6]},
		"not text":     []any{"1795426843460-1", append(good[2:6:6], "d", int64(1))},
		"no tag":       []any{"1795426843460-1", append(good[:2:2], "d", "")},
		"id before p":  []any{"1795426843458-1", good},
		"somebody's":   []any{"1795426843460-1", []any{"temperature", "21"}},
		"wrong number": []any{int64(5), good},
	} {
		if _, ok := parseEntry("c", entry); ok {
			t.Errorf("%s: accepted", name)
		}
	}
}

// checkForeign checks what must hold for every message that comes from outside.
func checkForeign(t *testing.T, m *broker.Message) {
	t.Helper()
	if m.Channel != "c" || m.Data == nil || m.Gap != nil || broker.Reserved(m.Event) ||
		!cleanText(m.Event) || !cleanText(m.Key) || !cleanText(m.Trace) {
		t.Errorf("not deliverable: %+v", m)
	}
	if m.Durable() != !m.Previous.IsZero() || m.Durable() && !m.Previous.Before(m.Position) {
		t.Errorf("%v after %v", m.Position, m.Previous)
	}
	if !m.Time.IsZero() && (m.Time.Before(time.UnixMicro(0)) || m.Time.UnixMicro() > maxTime) {
		t.Errorf("time %v", m.Time)
	}
}

func TestKeys(t *testing.T) {
	k := keys{prefix: "sluice", channel: "live:"}
	for name, want := range map[string]string{
		"sluice:{news}:a": "news", "sluice:{news}:s": "", "sluice:{news:a": "", "live:news": "", "other:{news}:a": "", "sluice": "",
	} {
		if got, ok := k.announced(name); ok != (want != "") || ok && got != want {
			t.Errorf("%s: got %q, %v, want %q", name, got, ok, want)
		}
	}
	for p, want := range map[broker.Position]string{
		{MS: 5, Seq: 3}: "5-2", {MS: 5}: "4-18446744073709551615",
	} {
		if got := before(p).StreamID(); got != want {
			t.Errorf("before %v: got %s, want %s", p, got, want)
		}
	}
	if got := tagText(0x00af); got != "00af" {
		t.Errorf("tag %s", got)
	}
}
