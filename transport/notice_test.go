package transport

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"sluice/broker"
)

// TestNotices: what is said of channels and connections, byte for byte, as clients in other languages read it.
func TestNotices(t *testing.T) {
	p := problem(BadChannel, "bad")
	for _, tt := range []struct {
		name string
		say  func(f format) []byte
		want [3]string // WebSocket, SSE, poll
	}{
		{"unsubscribed", func(f format) []byte { return f.unsubscribed(nil, "a \"b\"\n", p) }, [3]string{
			`{"type":"unsubscribed","channel":"a \"b\"\n","code":"bad_channel","detail":"bad"}`,
			"event: unsubscribed\ndata: {\"channel\":\"a \\\"b\\\"\\n\",\"code\":\"bad_channel\",\"detail\":\"bad\"}\n\n",
			`{"type":"unsubscribed","channel":"a \"b\"\n","code":"bad_channel","detail":"bad"},`,
		}},
		{"gap", func(f format) []byte { return f.gap(nil, gapOf("a", broker.BadToken)) }, [3]string{
			`{"type":"gap","channel":"a","reason":"bad_token"}`,
			"event: gap\ndata: {\"channel\":\"a\",\"reason\":\"bad_token\"}\n\n",
			`{"type":"gap","channel":"a","reason":"bad_token"},`,
		}},
		{"unavailable", func(f format) []byte { return f.unavailable(nil, 1500*time.Millisecond) }, [3]string{
			`{"type":"error","code":"unavailable","detail":"the channels could not be joined in time; connect again later","retry":1501}`,
			"event: unavailable\nretry: 1500\ndata: {\"code\":\"unavailable\",\"detail\":\"the channels could not be joined in time; the stream ends and may be opened again\",\"retry\":1500}\n\n",
			``,
		}},
		{"reconnect", func(f format) []byte { return f.reconnect(nil, 1500*time.Millisecond) }, [3]string{
			`{"type":"reconnect","delay":1500}`,
			"event: reconnect\nretry: 1500\ndata: {\"delay\":1500}\n\n",
			``,
		}},
	} {
		for i, f := range []format{wsJSON{}, sse{envelope: true}, &poll{}} {
			got := tt.say(f)
			if i == 0 {
				got = got[bytes.Index(got, []byte(`{"type"`)):] // without the head of the frame
			}
			if string(got) != tt.want[i] {
				t.Errorf("%s by %T: got\n%s\nwant\n%s", tt.name, f, got, strings.TrimSpace(tt.want[i]))
			}
		}
	}
}
