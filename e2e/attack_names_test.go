package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

// badNames are channel names that nobody may have, wherever they are written.
var badNames = []struct{ name, channel, why string }{
	{"empty", "", ""},
	{"a line feed", "a\nb", "a line of a log, of a stream, of Redis' protocol"},
	{"a carriage return", "a\rb", ""},
	{"CRLF and a command", "a\r\nFLUSHALL\r\n", ""},
	{"NUL", "a\x00b", ""},
	{"escape", "a\x1b[2Jb", ""},
	{"a space", "a b", ""},
	{"U+2028", "a\u2028b", "a line break for JavaScript of old"},
	{"right-to-left", "a\u202eb", "names that look like others"},
	{"Cyrillic", "nеws", "its e is another"},
	{"full width", "ｎｅｗｓ", "NFKC makes news of it"},
	{"composed", "caf\u00e9", "two spellings of one name"},
	{"decomposed", "cafe\u0301", ""},
	{"no UTF-8", "a\xffb", ""},
	{"an overlong slash", "a\xc0\xafb", ""},
	{"star", "news*", "Redis' PSUBSCRIBE, if it came so far"},
	{"question mark", "new?", ""},
	{"brackets", "new[st]", ""},
	{"backslash", `new\s`, ""},
	{"caret", "new^s", ""},
	{"hash tag", "{news}", "it would choose the slot in a Cluster"},
	{"a key of Sluice's own", "sluice:{news}:s", "the stream of the history"},
	{"an announcement", "sluice:{news}:a", "it is believed"},
	{"revocations", "sluice:{!}:r", "they are believed"},
	{"a subject's mark", "user:{sub}", "it is of patterns"},
	{"notifications of Redis", "__keyevent@0__:set", "they tell the keys of all programs"},
	{"notifications of a key", "__keyspace@0__:news", ""},
	{"markup", "<script>alert(1)</script>", ""},
	{"a percent sign", "%6eews", "decoded twice it is another"},
	{"quotes", `a"b'c`, ""},
	{"a comma", "a,b", "lists of channels in headers"},
	{"201 bytes", strings.Repeat("a", 201), ""},
	{"4 KiB", strings.Repeat("a", 4096), ""},
}

// TestAttackNames: names that nobody may have are refused on all ways, by the same code, and not repeated.
func TestAttackNames(t *testing.T) {
	t.Parallel()
	a := newArena(t)
	ws := a.upgrade(t, "", speaksJSON)
	command := func(c map[string]any) func(t *testing.T, channel string) (string, string) {
		return func(t *testing.T, channel string) (code, detail string) {
			c["channel"], c["channels"] = channel, nil
			if channel == "" {
				c["channel"], c["channels"] = nil, []string{""} // without a name it is another mistake
				if c["type"] == "publish" {
					c["channel"], c["channels"] = "", nil
				}
			}
			time.Sleep(20 * time.Millisecond) // there is a limit to commands
			b, err := json.Marshal(c)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(channel, "\xff") || strings.Contains(channel, "\xc0") {
				return "bad_channel", "" // text that is no text ends the connection, as the table of frames has it
			}
			ws.send(text(string(b)))
			for {
				op, payload, err := ws.read()
				if err != nil {
					t.Fatal(err)
				}
				var e body
				if op == opText && json.Unmarshal([]byte(payload), &e) == nil && (e.Type == "error" || e.Type == "reply") {
					return e.Code, e.Detail
				}
				if op == opPing {
					ws.send(frame(fin|opPong, payload))
				}
			}
		}
	}
	request := func(build func(channel string) string) func(t *testing.T, channel string) (string, string) {
		return func(t *testing.T, channel string) (string, string) {
			c := a.dial(t)
			defer c.Close()
			c.send(build(channel))
			x, err := c.answer()
			if err != nil {
				t.Fatal(err)
			}
			x.check(t)
			if x.status != 400 {
				t.Errorf("got %d %.100q, want 400", x.status, x.body)
			}
			return x.code, x.body
		}
	}
	for _, way := range []struct {
		name string
		ask  func(t *testing.T, channel string) (code, detail string)
	}{
		{"SSE", request(func(ch string) string {
			return "GET /sse?channel=good&channel=" + url.QueryEscape(ch) + " HTTP/1.1\r\nHost: x\r\n\r\n"
		})},
		{"WebSocket", request(func(ch string) string { return handshake("good&channel="+url.QueryEscape(ch), "") })},
		{"publish to a path", request(func(ch string) string {
			return sized("POST /publish/"+url.PathEscape(ch)+" HTTP/1.1\r\nHost: x\r\n", "x")
		})},
		{"publish as JSON", request(func(ch string) string {
			b, _ := json.Marshal(ch) // it makes U+FFFD of what is no UTF-8
			return sized(jsonHead, `{"channel":`+string(b)+`,"data":1}`)
		})},
		{"subscribe", command(map[string]any{"type": "subscribe"})},
		{"unsubscribe", command(map[string]any{"type": "unsubscribe"})},
		{"publish by command", command(map[string]any{"type": "publish", "data": "x"})},
	} {
		t.Run(way.name, func(t *testing.T) {
			defer a.unharmed(t)
			for _, tt := range badNames {
				code, detail := way.ask(t, tt.channel)
				if code != "bad_channel" {
					t.Errorf("%s: got %q %.100q, want bad_channel: %s", tt.name, code, detail, tt.why)
				}
				if len(tt.channel) > 2 && strings.Contains(detail, tt.channel) {
					t.Errorf("%s: it is repeated in %.300q", tt.name, detail)
				}
			}
		})
	}
}

// TestAttackNeighbours: names that are like another's are channels of their own, in Redis as well, where all that Sluice writes has braces.
func TestAttackNeighbours(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	a := newArena(t, "--redis", r.URL())
	like := []string{"GOOD", "Good", "good.", ".good", "good:", "good/", "/good", "good/../good", "..:good", "sluice:good", "sluice:good:s", "__keyspace", "good~", "good:a", strings.Repeat("g", 200)}
	for _, ch := range like {
		a.stayOut(t, ch, func() {
			if _, err := publish(t.Context(), a.http, a.url(), url.PathEscape(ch), "", "for "+ch); err != nil {
				t.Errorf("%s: %v", ch, err)
			}
		})
	}
	for _, key := range strings.Fields(strings.Trim(r.do("KEYS", "*"), "[]")) {
		if !strings.HasPrefix(key, "sluice:{") {
			t.Errorf("key %q", key)
		}
	}
}

// stayOut listens to a channel while the witnesses get a message, and then what do publishes: that must come first.
func (a *arena) stayOut(t *testing.T, channel string, do func()) {
	t.Helper()
	st, err := openSSE(t.Context(), httpClient(t, 0), a.url()+"/sse?channel="+url.QueryEscape(channel), "", false)
	if err != nil {
		t.Fatalf("%s: %v", channel, err)
	}
	defer st.close()
	if e, err := st.next(); err != nil || e.kind != "welcome" {
		t.Fatalf("%s: got %+v, %v", channel, e, err)
	}
	a.unharmed(t)
	do()
	if e, err := st.next(); err != nil || e.data != "for "+channel {
		t.Errorf("%s: got %+v, %v, want what was for it", channel, e, err)
	}
}

// TestAttackTokens: a resume token that is nonsense, or another channel's, gives no data that was not asked for, on no way.
func TestAttackTokens(t *testing.T) {
	t.Parallel()
	a := newArena(t)
	var position string
	for i := range 5 {
		p, err := publish(t.Context(), a.http, a.url(), "secret", "", fmt.Sprint("secret ", i))
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			position = p.Position
		}
	}
	st, err := openSSE(t.Context(), httpClient(t, 0), a.url()+"/sse?channel=secret", "", false)
	if err != nil {
		t.Fatal(err)
	}
	welcome, err := st.next()
	st.close()
	if err != nil || welcome.token == "" {
		t.Fatalf("got %+v, %v", welcome, err)
	}
	tokens := []struct{ name, token string }{
		{"another channel's", welcome.token}, {"a position", position}, {"0", "0"}, {"0-0", "0-0"}, {"below 0", "-1"}, {"Redis' newest", "$"}, {"Redis' first", "-"},
		{"Redis' last", "+"}, {"a float", "1.5"}, {"beyond all", strings.Repeat("9", 60)}, {"base64", "AAAAAAAAAAAAAAAA"}, {"URL alphabet", "____________________"},
		{"cut off", welcome.token[:len(welcome.token)-1]}, {"longer", welcome.token + "A"}, {"twice", welcome.token + welcome.token}, {"5,000 bytes", strings.Repeat("A", 5000)},
		{"markup", "<script>"}, {"a path", "../../secret"}, {"no UTF-8", "\xff\xfe"}, {"a key", "sluice:{secret}:s"}, {"U+2028", "a\u2028"},
	}
	for _, tt := range tokens {
		t.Run(tt.name, func(t *testing.T) {
			defer a.unharmed(t)
			for _, way := range []struct{ name, request string }{
				{"header", "GET /sse?channel=mine HTTP/1.1\r\nHost: x\r\nLast-Event-ID: " + tt.token + "\r\n\r\n"},
				{"resume", "GET /sse?channel=mine&resume=" + url.QueryEscape(tt.token) + " HTTP/1.1\r\nHost: x\r\n\r\n"},
				{"lastEventId", "GET /sse?channel=mine&lastEventId=" + url.QueryEscape(tt.token) + " HTTP/1.1\r\nHost: x\r\n\r\n"},
			} {
				c := a.dial(t)
				c.send(way.request)
				x, err := c.answer()
				if err != nil {
					t.Fatalf("%s: %v", way.name, err)
				}
				if x.status != http.StatusOK {
					if x.status != 400 || way.name != "header" { // a header that HTTP does not allow
						t.Errorf("%s: got %d %.200q", way.name, x.status, x.body)
					}
					continue
				}
				_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
				got, err := untilGap(c)
				if err != nil || !strings.Contains(got, `"reason":"bad_token"`) || strings.Contains(got, "secret") {
					t.Errorf("%s: got %.300q, %v, want a gap for a bad token", way.name, got, err)
				}
				c.Close()
			}
			for _, more := range []string{"", speaksJSON} {
				c := a.upgrade(t, "mine&resume="+url.QueryEscape(tt.token), more)
				if s, err := c.listen(); err != nil || s.close != 4400 {
					t.Errorf("WebSocket: got %+v, %v, want 4400", s, err)
				}
				c.Close()
			}
			c := a.upgrade(t, "", speaksJSON)
			defer c.Close()
			for _, field := range []string{"resume", "since"} {
				if field == "since" && tt.token == position {
					continue // it may be one of this channel
				}
				b, err := json.Marshal(map[string]any{"type": "subscribe", "channel": "mine", field: tt.token})
				if err != nil {
					t.Fatal(err)
				}
				c.send(text(string(b)) + text(lastCommand))
				if s, err := c.listen(); err != nil || s.close != 0 || !slices.Contains(s.codes, "bad_token") {
					t.Errorf("%s by command: got %+v, %v, want bad_token", field, s, err)
				}
			}
		})
	}
}

// untilGap reads a stream to its first gap.
func untilGap(c *raw) (string, error) {
	var got strings.Builder
	for !strings.Contains(got.String(), "event: gap") || !strings.HasSuffix(got.String(), "\n\n") {
		line, err := c.r.ReadString('\n')
		got.WriteString(line)
		if err != nil {
			return got.String(), err
		}
	}
	return got.String(), nil
}

// TestAttackStream: what a publisher writes is data of one event, whatever he writes: no field, no other event, no id, for listeners of all kinds; of
// Redis' own PUBLISH too.
func TestAttackStream(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	a := newArena(t, "--redis", r.URL())
	payloads := []string{
		"a\nid: evil\n\nevent: welcome\ndata: owned\n\n", "a\rid: evil\r\revent: reconnect\rdata: owned\r\r", "a\r\nretry: 1\r\n\r\n", "\n\n\n", "\r", ":\n", "data: x\n\ndata: y",
		"\ufeffid: evil", "id: evil\u2028event: evil", strings.Repeat("\n", 10_000), "\x00\nid: evil\n\n", "\xff\nid: evil\n\n", `"},{"type":"close"}`, `{"type":"reconnect","delay":0}`, "\x88\x02\x03\xe8",
	}
	type listener struct {
		name string
		stream
	}
	var all []listener
	for _, format := range []string{"plain", "json"} {
		st, err := openSSE(t.Context(), httpClient(t, 0), a.url()+"/sse?channel=evil&format="+format, "", format == "json")
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, listener{"SSE " + format, st})
	}
	ws, err := openWS(t.Context(), "ws://"+a.addr+"/ws?channel=evil", true)
	if err != nil {
		t.Fatal(err)
	}
	all = append(all, listener{"WebSocket", ws})
	for _, l := range all {
		defer l.close()
		if e, err := l.next(); err != nil || e.kind != "welcome" {
			t.Fatalf("%s: got %+v, %v", l.name, e, err)
		}
	}
	for _, way := range []string{"HTTP", "Redis"} {
		for _, p := range payloads {
			if way == "Redis" {
				r.do("PUBLISH", "evil", p)
			} else if _, err := publish(t.Context(), a.http, a.url(), "evil", "", p); err != nil {
				t.Fatal(err)
			}
			for _, l := range all {
				var e event
				for e.kind == "" || e.kind == "heartbeat" {
					if e, err = l.next(); err != nil {
						t.Fatalf("%s: %.40q by %s: %v", l.name, p, way, err)
					}
				}
				if e.kind != "message" || strings.Contains(e.token, "evil") || e.retry != 0 || e.body.Event != "message" && e.body.Event != "" {
					t.Errorf("%s: %.40q by %s becomes %+.200v", l.name, p, way, e)
				}
			}
		}
		a.unharmed(t)
	}
}

// TestAttackIdempotency: an id that was used counts for its channel only, and a second message under it is not published.
func TestAttackIdempotency(t *testing.T) {
	t.Parallel()
	a := newArena(t)
	first, err := publish(t.Context(), a.http, a.url(), "a", "id=one", "first")
	if err != nil {
		t.Fatal(err)
	}
	second, err := publish(t.Context(), a.http, a.url(), "a", "id=one", "another body")
	if err != nil || !second.Duplicate || second.Position != first.Position {
		t.Errorf("the same id: got %+v, %v", second, err)
	}
	if other, err := publish(t.Context(), a.http, a.url(), "b", "id=one", "x"); err != nil || other.Duplicate {
		t.Errorf("the same id on another channel: got %+v, %v", other, err)
	}
	a.unharmed(t)
	c := a.dial(t)
	c.send("GET /sse?channel=a HTTP/1.1\r\nHost: x\r\nLast-Event-ID: \r\n\r\n")
	if x, err := c.answer(); err != nil || x.status != 200 {
		t.Errorf("an empty token: %+v, %v", x, err)
	}
	if b, err := io.ReadAll(io.LimitReader(c.r, 100)); err != nil && !errors.Is(err, io.EOF) || strings.Contains(string(b), "gap") {
		t.Errorf("an empty token: %q, %v", b, err)
	}
}
