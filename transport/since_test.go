package transport

import (
	"net/url"
	"slices"
	"strings"
	"testing"

	"sluice/broker"
)

// begins are requests for the channels a and b, each of which has had the messages 1, 2 and 3, and what is had of them. What stands for
// positions and tokens: A1 and A2 of a, B1 and B2 of b, T11 a token behind A1 and B1, TA one that knows only a, OTHER one of other
// channels, XA1 and XB1 what A1 and B1 are in another line of history.
var begins = []struct {
	name, query, last string
	want              []string // of a and b, in order per channel
	gaps              []string // channel reason
	why               string
}{
	{name: "token", query: "resume=T11", want: []string{"a2", "a3", "b2", "b3"}},
	{name: "positions", query: "since[a]=A2&since[b]=B1", want: []string{"a3", "b2", "b3"}},
	{name: "one of them", query: "since[a]=A2", want: []string{"a3"}, why: "b starts now"},
	{name: "before the token", query: "resume=T11&since[a]=A2", want: []string{"a3", "b2", "b3"}, why: "it is the younger one"},
	{name: "older than the token", query: "resume=T22&since[a]=A1", want: []string{"a2", "a3", "b3"}, why: "the client says so"},
	{name: "beside a token of the other", query: "resume=TA&since[b]=B2", want: []string{"a2", "a3", "b3"}},
	{name: "beside a token of others", query: "resume=OTHER&since[a]=A2", want: []string{"a3"}, why: "b is new"},
	{name: "encoded", query: "since%5Ba%5D=A2&since%5Bb%5D=B2", want: []string{"a3", "b3"}},
	{name: "empty", query: "since[a]=&resume=T11", want: []string{"a2", "a3", "b2", "b3"}, why: "as if it were not there"},
	{name: "browser", query: "since[a]=A1&since[b]=B1", last: "T22", want: []string{"a3", "b3"}, why: "it has had more since the URL was made"},
	{name: "browser that knows one", query: "since[a]=A1&since[b]=B1", last: "TA2", want: []string{"a3", "b2", "b3"}},
	{name: "browser with a token in the URL", query: "resume=T11&since[a]=A1", last: "TA2", want: []string{"a3"}, why: "as without since: what the browser does not know starts now"},
	{name: "polyfill", query: "lastEventId=T22&since[a]=A1&resume=T11", want: []string{"a3", "b3"}, why: "what it appends is Last-Event-ID"},
	{name: "browser with nonsense", query: "since[a]=A2", last: "nonsense", want: []string{"a3"}, gaps: []string{"b bad_token"}},
	{name: "bad token", query: "since[a]=A2&resume=nonsense", want: []string{"a3"}, gaps: []string{"b bad_token"}, why: "a says itself where it stood"},
	{name: "bad position", query: "since[a]=nonsense&since[b]=B2", want: []string{"b3"}, gaps: []string{"a bad_token"}},
	{name: "bad position and a token", query: "since[a]=1-2-3&resume=T11", want: []string{"b2", "b3"}, gaps: []string{"a bad_token"}, why: "what the token says may be too old"},
	{name: "of another line", query: "since[a]=XA1&since[b]=XB1", want: []string{"a1", "a2", "a3", "b1", "b2", "b3"}, gaps: []string{"a fork", "b fork"}, why: "only the tags differ"},
	{name: "before the history", query: "since[a]=1-0-abcd&since[b]=B2", want: []string{"a1", "a2", "a3", "b3"}, gaps: []string{"a truncated"}},
}

// newBegun returns a node with the messages of begins, and what stands for their positions.
func newBegun(t *testing.T) (*node, *desk, *strings.Replacer) {
	n, d := newGuarded(t, nil)
	d.issue("some", "alice", 0, "a", "b")
	d.issue("none", "bob", 0, "a", "b")
	d.by["none"].NoHistory = true
	at := map[string]broker.Position{}
	for _, data := range []string{"a1", "b1", "a2", "b2", "a3", "b3"} {
		at[data] = n.put(&broker.Message{Channel: data[:1], Data: []byte(data)}, false)
	}
	token := func(names ...string) string {
		var places []broker.Place
		for _, name := range names {
			places = append(places, broker.Place{Channel: name[:1], Position: at[name]})
		}
		return string(broker.AppendToken(nil, places...))
	}
	elsewhere := func(p broker.Position) string {
		p.Tag++
		return p.String()
	}
	other := broker.AppendToken(nil, broker.Place{Channel: "other", Position: at["a1"]})
	return n, d, strings.NewReplacer("XA1", elsewhere(at["a1"]), "XB1", elsewhere(at["b1"]), "A1", at["a1"].String(), "A2", at["a2"].String(), "B1", at["b1"].String(), "B2", at["b2"].String(),
		"T11", token("a1", "b1"), "T22", token("a2", "b2"), "TA2", token("a2"), "TA", token("a1"), "OTHER", string(other))
}

// begun reads what a client is given up to the messages that end each channel.
func (c *client) begun(n *node) (messages, gaps []string) {
	c.t.Helper()
	n.put(&broker.Message{Channel: "a", Data: []byte("a9")}, false)
	n.put(&broker.Message{Channel: "b", Data: []byte("b9")}, false)
	for ends := 0; ends < 2; {
		switch f := c.next(); {
		case f.Type == "gap":
			gaps = append(gaps, f.Channel+" "+f.Reason)
		case f.Type != "message":
			c.t.Fatalf("got %+v", f)
		case strings.HasSuffix(f.Data, "9"):
			ends++
		default:
			messages = append(messages, f.Data)
		}
	}
	slices.SortStableFunc(messages, func(x, y string) int { return strings.Compare(x[:1], y[:1]) }) // by channel; within it as they came
	slices.Sort(gaps)
	return messages, gaps
}

func TestSince(t *testing.T) {
	for _, over := range transports {
		for _, tt := range begins {
			t.Run(over+"/"+tt.name, func(t *testing.T) {
				t.Parallel()
				n, _, names := newBegun(t)
				query := names.Replace("channel=a&channel=b&access_token=some&" + tt.query)
				var c *client
				if over == "sse" {
					c = &client{t: t}
					c.open(n.sse(query+"&format=json", "Last-Event-ID", names.Replace(tt.last)))
				} else {
					if tt.last != "" { // no browser sends it there
						query += "&lastEventId=" + names.Replace(tt.last)
					}
					if slices.ContainsFunc(tt.gaps, func(g string) bool { return strings.HasSuffix(g, "bad_token") }) {
						ws := n.ws(query, subprotocolJSON)
						if f := ws.want("error"); f.Code != string(BadToken) {
							t.Errorf("got %+v, want %s", f, BadToken)
						}
						return
					}
					c = n.listen("ws", query)
				}
				if got, gaps := c.begun(n); !slices.Equal(got, tt.want) || !slices.Equal(gaps, tt.gaps) {
					t.Errorf("got %q and gaps %q, want %q and %q: %s", got, gaps, tt.want, tt.gaps, tt.why)
				}
			})
		}
	}
}

func TestSinceNoHistory(t *testing.T) {
	for _, over := range transports {
		n, _, names := newBegun(t)
		c := n.listen(over, names.Replace("channel=a&channel=b&access_token=none&since[a]=A1"))
		if got, gaps := c.begun(n); got != nil || !slices.Equal(gaps, []string{"a no_history"}) {
			t.Errorf("%s: got %q and gaps %q, want none and that a has a history", over, got, gaps)
		}
	}
}

func TestSinceRefusals(t *testing.T) {
	n := newNode(t, nil)
	for _, tt := range []struct{ name, query, why string }{
		{"not asked for", "channel=a&since[b]=1-0-abcd", "a typing error would go unnoticed"},
		{"twice", "channel=a&since[a]=1-0-abcd&since[a]=2-0-abcd", "which one counts?"},
		{"twice the same", "channel=a&since[a]=1-0-abcd&since[a]=1-0-abcd", ""},
		{"no end", "channel=a&since[a=1-0-abcd", ""},
		{"no channel", "channel=a&since=1-0-abcd", "of which?"},
		{"two names", "channel=a&since[a][b]=1-0-abcd", ""},
		{"in the list's way", "channel=a&since[]=1-0-abcd", ""},
	} {
		for _, path := range []string{"/sse", "/ws"} {
			h := []string{"Connection", "Upgrade", "Upgrade", "websocket", "Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA=="}
			if path == "/sse" {
				h = nil
			}
			status, _, body := get(t, n.url(path+"?"+tt.query), h...)
			if status != 400 || !strings.Contains(body, `"code":"bad_request"`) {
				t.Errorf("%s %s: got %d %s, want %s: %s", path, tt.name, status, body, BadRequest, tt.why)
			}
		}
	}
}

// FuzzQuerySince: whatever the query, a position is had only for a channel that is asked for, and what is refused is a bad request.
func FuzzQuerySince(f *testing.F) {
	for _, s := range []string{"since[a]=1-0-abcd", "since[b]=", "since[a=1", "since[a]=1&since[a]=2", "since[]=x", "since%5Ba%5D=1", "since[a]]=1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, query string) {
		q, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		own, err := querySince(q, []string{"a", "b.c"})
		if err != nil {
			if p := problemOf(err); p.Code != BadRequest {
				t.Errorf("%q: %v, want %s", query, err, BadRequest)
			}
			return
		}
		for c, text := range own {
			if v := q["since["+c+"]"]; c != "a" && c != "b.c" || len(v) != 1 || v[0] != text || text == "" {
				t.Errorf("%q: %q is for %q", query, text, c)
			}
		}
	})
}
