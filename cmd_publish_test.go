package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"sluice/broker"
)

func TestPublish(t *testing.T) {
	n := startNode(t, "--dev", "--max-message=1KiB")
	closed := startNode(t)
	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	away := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", "2")
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = w.Write([]byte(`{"code":"unavailable","detail":"the backend did not answer in time."}`)) // the client reports it
	}))
	defer away.Close()
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	tests := []struct {
		name  string
		url   string
		in    string
		args  []string
		code  int
		quiet bool   // no position
		err   string // contained in standard error
	}{
		{"argument", n.base, "", []string{"news", "hello"}, 0, false, ""},
		{"empty argument", n.base, "", []string{"news", ""}, 0, false, ""},
		{"dash", n.base, "hello", []string{"news", "-"}, 0, false, ""},
		{"without argument", n.base, "hello", []string{"news"}, 0, false, ""},
		{"argument like a flag", n.base, "", []string{"news", "--", "--hello"}, 0, false, ""},
		{"control characters to the limit", n.base, strings.Repeat("\x01", 1024), []string{"news"}, 0, false, ""},
		{"bytes to the limit", n.base, strings.Repeat("\xff", 1024), []string{"news"}, 0, false, ""},
		{"all that goes along", n.base, "", []string{"news", "x", "--event=e", "--key=k", "--id=i"}, 0, false, ""},
		{"the same id again", n.base, "", []string{"news", "x", "--id=i"}, 0, false, "published before with this id; nothing was sent"},
		{"live", n.base, "", []string{"news", "x", "--live"}, 0, true, ""},
		{"too large", n.base, strings.Repeat("x", 1025), []string{"news"}, 1, true, "sluice: too_large (413): "},
		{"channel", n.base, "", []string{"no channel", "x"}, 2, true, "sluice: bad channel name: "},
		{"no channel", n.base, "", nil, 2, true, "sluice publish takes a channel and its data, not 0 arguments"},
		{"unquoted", n.base, "", []string{"news", "hello", "world"}, 2, true, "not 3 arguments; write sluice publish CHANNEL 'DATA'"},
		{"forbidden", closed.base, "", []string{"news", "x"}, 1, true, "sluice: unauthorized (401): credentials are needed"},
		{"not a node", other.URL, "", []string{"news", "x"}, 1, true, "unexpected answer 404 Not Found; is a node of Sluice at this URL?"},
		{"away", away.URL, "", []string{"news", "x"}, 1, true, "sluice: unavailable (503): the backend did not answer in time; try again in 2 s\n"},
		{"gone", gone.URL, "", []string{"news", "x"}, 1, true, ": connect: connection refused; sluice --dev starts a node"},
		{"no URL", "localhost:8080", "", []string{"news", "x"}, 2, true, "is not the URL of a node; write it like http://127.0.0.1:8080"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out, errs, code := shell(t, tt.in, append([]string{"publish", "--url", tt.url}, tt.args...)...)
			if code != tt.code || !strings.Contains(errs, tt.err) || tt.err == "" && errs != "" {
				t.Errorf("exit code %d, standard error %q; want %d, %q", code, errs, tt.code, tt.err)
			}
			_, err := broker.ParsePosition(strings.TrimSuffix(out, "\n"))
			if tt.quiet && out != "" || !tt.quiet && err != nil {
				t.Errorf("standard output %q, want a position: %v", out, !tt.quiet)
			}
		})
	}
}

// TestPublicationHold: what is put into JSON is what was given, and not much longer.
func TestPublicationHold(t *testing.T) {
	for _, payload := range []string{"", "hello", "grüße", `{"a":"<b>&c"}`, "a\nb", "\x01\x02\x03\x04", "\xff\xfe", "\u2028", "a\xffb"} {
		var p publication
		p.hold([]byte(payload))
		text, err := json.Marshal(&p)
		if err != nil {
			t.Fatal(err)
		}
		var back struct {
			Data   *string
			Data64 []byte
		}
		if err := json.Unmarshal(text, &back); err != nil {
			t.Fatal(err)
		}
		if back.Data != nil == (back.Data64 != nil) {
			t.Errorf("%q: want one of data and data64 in %s", payload, text)
		}
		got := back.Data64
		if back.Data != nil {
			got = []byte(*back.Data)
		}
		if !bytes.Equal(got, []byte(payload)) {
			t.Errorf("%q comes back as %q", payload, got)
		}
		if most := len(`{"channel":"","data64":""}`) + 6 + len(payload)*3/2; len(text) > most {
			t.Errorf("%q takes %d bytes, want at most %d", payload, len(text), most)
		}
	}
}
