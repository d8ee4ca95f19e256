package transport

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/broker"
	"sluice/middleware"
)

// asked is what a client was answered that asked for a list of subscriptions.
type asked struct {
	code   Code          // all of it was refused; "": it was not
	joined []string      // nil: the answer does not say
	next   func() *frame // what else it is told, in order
}

// ways are all in which a list is asked for; body is its members, without braces.
var ways = []struct {
	name string
	ask  func(n *node, token, body string) *asked
}{
	{"ws", askByWS}, {"sse", askBySSE}, {"poll", askByPoll}, {"posted", askByCommand},
}

func askByWS(n *node, token, body string) *asked {
	c := n.ws("access_token="+token, subprotocolJSON)
	c.want("welcome")
	c.send(`{"type":"subscribe","ref":1,` + body + `}`)
	a := &asked{}
	var before []*frame
	for {
		f := c.want("")
		switch f.Type {
		case "error":
			a.code = Code(f.Code)
			return a
		case "reply":
			a.joined = channelsOf(n.t, f.Channels)
			a.next = func() *frame {
				if len(before) > 0 {
					first := before[0]
					before = before[1:]
					return first
				}
				f := c.want("")
				return &f
			}
			return a
		}
		before = append(before, &f)
	}
}

// channelsOf returns the names in a reply or a welcome.
func channelsOf(t *testing.T, list json.RawMessage) []string {
	t.Helper()
	names := []string{}
	if json.Unmarshal(list, &names) == nil {
		return names
	}
	var each []struct{ Channel string }
	if err := json.Unmarshal(list, &each); err != nil {
		t.Fatalf("%s: %v", list, err)
	}
	names = []string{}
	for _, c := range each {
		names = append(names, c.Channel)
	}
	return names
}

// postSSE opens a stream by POST.
func (n *node) postSSE(token, body string, header ...string) *stream {
	n.t.Helper()
	req, err := http.NewRequestWithContext(n.t.Context(), "POST", n.url("/sse"), strings.NewReader(body))
	if err != nil {
		n.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	return sendStream(n.t, http.DefaultTransport, req)
}

func askBySSE(n *node, token, body string) *asked {
	s := n.postSSE(token, "{"+body+"}")
	if s.resp.StatusCode != 200 {
		return &asked{code: codeOf(n.t, s.r)}
	}
	c := &client{t: n.t}
	c.open(s)
	return &asked{joined: channelsOf(n.t, c.welcome.Channels), next: func() *frame { f := c.read(); return &f }}
}

func askByCommand(n *node, token, body string) *asked {
	c := &client{t: n.t}
	c.open(n.postSSE(token, `{"subscriptions":[]}`))
	status, answer, _ := n.give(c.welcome.Session, token, `{"type":"subscribe","ref":1,`+body+`}`)
	if status != 200 {
		return &asked{code: codeOf(n.t, strings.NewReader(answer))}
	}
	var f frame
	if err := json.Unmarshal([]byte(answer), &f); err != nil {
		n.t.Fatal(err)
	}
	return &asked{joined: channelsOf(n.t, f.Channels), next: func() *frame { f := c.read(); return &f }}
}

func askByPoll(n *node, token, body string) *asked {
	var request map[string]any
	if err := json.Unmarshal([]byte("{"+body+"}"), &request); err != nil {
		n.t.Fatal(err)
	}
	return pollFor(n, token, []byte("{"+body+"}"), request)
}

func pollFor(n *node, token string, body []byte, request map[string]any) *asked {
	status, _, answer, err := n.askAs(token, string(body))
	if err != nil {
		n.t.Fatal(err)
	}
	if status != 200 {
		return &asked{code: codeOf(n.t, strings.NewReader(string(answer)))}
	}
	var waiting []frame
	take := func(answer []byte) {
		var p polled
		if err := json.Unmarshal(answer, &p); err != nil {
			n.t.Fatalf("%s: %v", answer, err)
		}
		for _, f := range p.Messages {
			if f.Type == "unsubscribed" { // it is not asked for again
				request["subscriptions"] = slices.DeleteFunc(request["subscriptions"].([]any), func(e any) bool {
					name, _ := e.(map[string]any)["channel"].(string)
					return name == f.Channel
				})
			}
		}
		for _, e := range request["subscriptions"].([]any) {
			delete(e.(map[string]any), "since")
		}
		request["resume"] = p.Token
		waiting = append(waiting, p.Messages...)
	}
	take(answer)
	return &asked{next: func() *frame {
		for len(waiting) == 0 {
			body, _ := json.Marshal(request)
			status, _, answer, err := n.askAs(token, string(body))
			if status != 200 || err != nil {
				n.t.Fatalf("%s: %d %s (%v)", body, status, answer, err)
			}
			take(answer)
		}
		f := waiting[0]
		waiting = waiting[1:]
		return &f
	}}
}

// codeOf reads the code of a problem.
func codeOf(t *testing.T, body interface{ Read([]byte) (int, error) }) Code {
	t.Helper()
	var p Problem
	if err := json.NewDecoder(body).Decode(&p); err != nil {
		t.Fatal(err)
	}
	return p.Code
}

// choices are lists of subscriptions and what comes of them, whatever the way. The client is alice, who may listen to a, b, c and d; a
// connection may have four channels. AT is the position of a's first message, TOKEN a token for a, OTHER one for other channels.
var choices = []struct {
	name, body string
	by         string   // her token; "": a
	code       Code     // of a refusal of all of it
	joined     []string // sorted
	refused    []string // channel code
	gaps       []string // channel reason
	messages   []string // that were missed
	asks       int32    // how often the grant is asked; 0: whatever
	why        string
}{
	{name: "all", body: `"subscriptions":[{"channel":"a"},{"channel":"b"}]`, joined: []string{"a", "b"}, asks: 1, why: "the usual case costs nothing more"},
	{name: "none", body: `"subscriptions":[]`},
	{name: "twice", body: `"subscriptions":[{"channel":"a"},{"channel":"a"}]`, joined: []string{"a"}, why: "twice is once"},
	{name: "forbidden", body: `"subscriptions":[{"channel":"a"},{"channel":"x"},{"channel":"b"}]`, joined: []string{"a", "b"}, refused: []string{"x forbidden"}, asks: 2, why: "once more about those that are left"},
	{name: "all forbidden", body: `"subscriptions":[{"channel":"x"},{"channel":"y"}]`, refused: []string{"x forbidden", "y forbidden"}},
	{name: "the only one forbidden", body: `"subscriptions":[{"channel":"x"}]`, refused: []string{"x forbidden"}, asks: 1, why: "nothing is asked twice"},
	{name: "bad channel", body: `"subscriptions":[{"channel":"a b"},{"channel":"a"}]`, joined: []string{"a"}, refused: []string{"a b bad_channel"}, asks: 1},
	{name: "bad channel to escape", body: `"subscriptions":[{"channel":"\"\\\n\u0000é\u2028"},{"channel":"a"}]`, joined: []string{"a"}, refused: []string{"\"\\\n\x00é\u2028 bad_channel"}, why: "the client has to know its name again"},
	{name: "no channel", body: `"subscriptions":[{"rate":"5/s"},{"channel":"a"}]`, joined: []string{"a"}, refused: []string{" bad_channel"}},
	{name: "a channel too long to tell", body: `"subscriptions":[{"channel":"a"},{"channel":"` + strings.Repeat("x", 201) + `"}]`, code: BadChannel},
	{name: "a channel that is no text", body: `"subscriptions":[{"channel":"a"},{"channel":"\ud800"}]`, code: BadChannel, why: "it can't be told which"},
	{name: "bad delivery", body: `"subscriptions":[{"channel":"a","rate":"often"},{"channel":"b","filter":"("},{"channel":"c","rate":"5/s"}]`, joined: []string{"c"}, refused: []string{"a bad_delivery", "b bad_delivery"}},
	{name: "too many", body: `"subscriptions":[{"channel":"a"},{"channel":"b"},{"channel":"c"},{"channel":"d"},{"channel":"e"},{"channel":"f"}]`, joined: []string{"a", "b", "c", "d"}, refused: []string{"e too_many_channels", "f too_many_channels"}, asks: 1},
	{name: "too many to tell", body: `"subscriptions":[` + manyNames(500) + `{"channel":"a"}]`, code: TooManyChannels, why: "it would be more than waits for a client"},
	{name: "bad position", body: `"subscriptions":[{"channel":"a","since":"x"},{"channel":"b"}]`, joined: []string{"a", "b"}, gaps: []string{"a bad_token"}},
	{name: "position", body: `"subscriptions":[{"channel":"a","since":"AT"},{"channel":"b"}]`, joined: []string{"a", "b"}, messages: []string{"two"}},
	{name: "token", body: `"subscriptions":[{"channel":"a"},{"channel":"b"}],"resume":"TOKEN"`, joined: []string{"a", "b"}, messages: []string{"two"}, why: "b is new to the connection: it has missed nothing"},
	{name: "token for others", body: `"subscriptions":[{"channel":"a"},{"channel":"b"}],"resume":"OTHER"`, joined: []string{"a", "b"}, why: "they are all new"},
	{name: "bad token", body: `"subscriptions":[{"channel":"a","since":"AT"},{"channel":"b"},{"channel":"c"}],"resume":"nonsense"`, joined: []string{"a", "b", "c"}, gaps: []string{"b bad_token", "c bad_token"}, messages: []string{"two"}, why: "a says itself where it stood"},
	{name: "position before token", body: `"subscriptions":[{"channel":"a","since":"AT"}],"resume":"NOW"`, joined: []string{"a"}, why: "the client has had what came before either: a token also knows what was filtered out"},
	{name: "signed", body: `"subscriptions":[{"channel":"vip","signed":"s"},{"channel":"a"}]`, joined: []string{"a", "vip"}, asks: 1},
	{name: "signed for another", body: `"subscriptions":[{"channel":"x","signed":"s"},{"channel":"a"}]`, joined: []string{"a"}, refused: []string{"x forbidden"}},
	{name: "signed by what has expired", body: `"subscriptions":[{"channel":"vip","signed":"late"},{"channel":"a"},{"channel":"x"}]`, joined: []string{"a"}, refused: []string{"vip token_expired", "x forbidden"}},
	{name: "signed in the list", body: `"subscriptions":[{"channel":"vip"},{"channel":"a"}],"signed":["s"]`, joined: []string{"a", "vip"}},
	{name: "bad and good in the list", body: `"subscriptions":[{"channel":"vip"},{"channel":"a"}],"signed":["late","s"]`, joined: []string{"a", "vip"}, why: "what nobody needs harms nobody"},
	{name: "bad in the list", body: `"subscriptions":[{"channel":"vip"},{"channel":"a"}],"signed":["late"]`, joined: []string{"a"}, refused: []string{"vip token_expired"}, why: "it may have been for that"},
	{name: "nobody for something public", body: `"subscriptions":[{"channel":"public"},{"channel":"a"}]`, by: "-", joined: []string{"public"}, refused: []string{"a unauthorized"}},
	{name: "nobody for nothing public", body: `"subscriptions":[{"channel":"a"},{"channel":"b"}]`, by: "-", code: Unauthorized, why: "that is about who asks"},
	{name: "nobody but for one subscription", body: `"subscriptions":[{"channel":"vip","signed":"late"}]`, by: "-", refused: []string{"vip token_expired"}},
	{name: "other members", body: `"subscriptions":[{"channel":"a"}],"channel":"b"`, code: BadRequest},
	{name: "a member twice", body: `"subscriptions":[{"channel":"a","channel":"b"}]`, code: BadRequest, why: "which one counts?"},
	{name: "a member twice by case", body: `"subscriptions":[{"channel":"a"},{"channel":"b","Channel":"c"}]`, code: BadRequest},
	{name: "the same member in two", body: `"subscriptions":[{"channel":"a","rate":"5/s"},{"channel":"b","rate":"5/s"}]`, joined: []string{"a", "b"}},
	{name: "unknown members", body: `"subscriptions":[{"chanel":"a"}]`, code: BadRequest},
}

func manyNames(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `{"channel":"many.%d"},`, i)
	}
	return b.String()
}

// newChoosing returns a node with the tokens and messages of choices, and what stands for them.
func newChoosing(t *testing.T) (*node, *desk, *strings.Replacer) {
	n, d := newGuarded(t, func(c *Config) { c.MaxChannels, c.PollWait = 4, 500*time.Millisecond })
	d.issue("a", "alice", 0, "a", "b", "c", "d", "e", "f")
	d.issue("none", "bob", 0, "a", "b", "c")
	d.by["none"].NoHistory = true
	d.sign("s", time.Hour, "vip")
	d.sign("late", -time.Hour, "vip")
	at := n.put(&broker.Message{Channel: "a", Data: []byte("one")}, false)
	other := n.put(&broker.Message{Channel: "other", Data: []byte("one")}, false)
	now := n.put(&broker.Message{Channel: "a", Data: []byte("two")}, false)
	token := func(channel string, p broker.Position) string {
		return string(broker.AppendToken(nil, broker.Place{Channel: channel, Position: p}))
	}
	return n, d, strings.NewReplacer("AT", at.String(), "TOKEN", token("a", at), "OTHER", token("other", other), "NOW", token("a", now))
}

// TestChoices: a list of subscriptions is had as far as may be, and the same on all ways.
func TestChoices(t *testing.T) {
	for _, way := range ways {
		for _, tt := range choices {
			t.Run(way.name+"/"+tt.name, func(t *testing.T) {
				t.Parallel()
				n, d, names := newChoosing(t)
				token := map[string]string{"": "a", "-": ""}[tt.by]
				d.asked.Store(0)
				a := way.ask(n, token, names.Replace(tt.body))
				if a.code != tt.code {
					t.Fatalf("refused with %q, want %q: %s", a.code, tt.code, tt.why)
				}
				if tt.code != "" {
					return
				}
				if got := d.asked.Load(); tt.asks != 0 && got != tt.asks {
					t.Errorf("the grant was asked %d times, want %d: %s", got, tt.asks, tt.why)
				}
				a.check(t, way.name, tt.joined, tt.refused, tt.gaps, tt.messages)
				if len(tt.joined) > 0 { // and nothing else came
					n.say(tt.joined[0], "end")
					if f := a.next(); f.Type != "message" || f.Data != "end" {
						t.Errorf("got %+v, want nothing else: %s", f, tt.why)
					}
				}
			})
		}
	}
}

// check reads what the client is told and compares it.
func (a *asked) check(t *testing.T, way string, joined, refused, gaps, messages []string) {
	t.Helper()
	slices.Sort(a.joined) // a reply has them as they were joined
	if way != "poll" && !slices.Equal(a.joined, joined) {
		t.Errorf("joined %q, want %q", a.joined, joined)
	}
	for _, want := range refused {
		if f := a.next(); f.Type != "unsubscribed" || f.Channel+" "+f.Code != want || f.Detail == "" {
			t.Fatalf("got %+v, want %q refused", f, want)
		}
	}
	var told, missed []string // of different channels they come in any order
	for range len(gaps) + len(messages) {
		switch f := a.next(); f.Type {
		case "gap":
			told = append(told, f.Channel+" "+f.Reason)
		case "message":
			missed = append(missed, f.Data)
		default:
			t.Fatalf("got %+v", f)
		}
	}
	if slices.Sort(told); !slices.Equal(told, gaps) || !slices.Equal(missed, messages) {
		t.Errorf("gaps %q and messages %q, want %q and %q", told, missed, gaps, messages)
	}
}

// TestChoiceNoHistory: whose token gives no history is told of each channel of which there may be some; polls are nothing but that.
func TestChoiceNoHistory(t *testing.T) {
	for _, way := range ways {
		for _, tt := range []struct {
			name, body string
			gaps       []string
		}{
			{"position", `"subscriptions":[{"channel":"a","since":"AT"},{"channel":"b"}]`, []string{"a no_history"}},
			{"token", `"subscriptions":[{"channel":"a"},{"channel":"b"}],"resume":"TOKEN"`, []string{"a no_history"}},
			{"bad token", `"subscriptions":[{"channel":"a"},{"channel":"b"}],"resume":"nonsense"`, []string{"a no_history", "b no_history"}},
			{"now", `"subscriptions":[{"channel":"a"},{"channel":"b"}]`, nil},
		} {
			t.Run(way.name+"/"+tt.name, func(t *testing.T) {
				t.Parallel()
				n, _, names := newChoosing(t)
				a := way.ask(n, "none", names.Replace(tt.body))
				if way.name == "poll" {
					if a.code != Forbidden {
						t.Errorf("got %q, want %s", a.code, Forbidden)
					}
					return
				}
				if a.code != "" {
					t.Fatalf("refused with %s", a.code)
				}
				a.check(t, way.name, []string{"a", "b"}, nil, tt.gaps, nil)
				n.say("b", "new")
				if f := a.next(); f.Data != "new" {
					t.Errorf("got %+v, want nothing else", f)
				}
			})
		}
	}
}

// TestChoiceAgain: a channel that is refused when it is asked for again is not kept, and what is too much is what is new.
func TestChoiceAgain(t *testing.T) {
	n, _, _ := newChoosing(t)
	c := n.listen("ws", "access_token=a")
	ask := func(list string) (joined []string, refused []string) {
		t.Helper()
		c.ws.send(`{"type":"subscribe","subscriptions":[` + list + `]}`)
		for {
			switch f := c.ws.want(""); f.Type {
			case "unsubscribed":
				refused = append(refused, f.Channel+" "+f.Code)
			case "reply":
				return channelsOf(t, f.Channels), refused
			default:
				t.Fatalf("got %+v", f)
			}
		}
	}
	for _, tt := range []struct {
		name, list      string
		joined, refused []string
	}{
		{"three", `{"channel":"a"},{"channel":"b"},{"channel":"c"}`, []string{"a", "b", "c"}, nil},
		{"more than there is room for", `{"channel":"a"},{"channel":"d"},{"channel":"e"}`, []string{"a", "d"}, []string{"e too_many_channels"}},
		{"one of them badly", `{"channel":"a","rate":"often"}`, []string{}, []string{"a bad_delivery"}},
		{"which makes room", `{"channel":"e"}`, []string{"e"}, nil},
		{"at once", `{"channel":"e","rate":"often"},{"channel":"f"}`, []string{"f"}, []string{"e bad_delivery"}},
	} {
		joined, refused := ask(tt.list)
		if !slices.Equal(joined, tt.joined) || !slices.Equal(refused, tt.refused) {
			t.Errorf("%s: joined %q and refused %q, want %q and %q", tt.name, joined, refused, tt.joined, tt.refused)
		}
	}
	n.say("a", "nobody listens")
	n.say("e", "nobody listens")
	n.say("b", "end")
	if f := c.next(); f.Data != "end" {
		t.Errorf("got %+v of a channel that was refused", f)
	}
}

// TestChoicePoll: who asks for nothing but what it can't have is told at once, and not to ask at once again.
func TestChoicePoll(t *testing.T) {
	n := newNode(t, nil)
	begin := time.Now()
	p := n.poll(`{"subscriptions":[{"channel":"secret"}],"resume":"` + n.poll(`{"channel":"a"}`).Token + `"}`)
	if len(p.Messages) != 1 || p.Messages[0].Type != "unsubscribed" || p.Token != "" || p.Retry < 250 || time.Since(begin) > 5*time.Second {
		t.Errorf("got %+v after %v", p, time.Since(begin))
	}
}

// TestChoiceUnnamed: where a grant does not say what its refusal is about, it is asked one by one.
func TestChoiceUnnamed(t *testing.T) {
	n := newNode(t, nil)
	a := askBySSE(n, "", `"subscriptions":[{"channel":"secret.1"},{"channel":"a"},{"channel":"b"},{"channel":"secret.2"}]`)
	a.check(t, "sse", []string{"a", "b"}, []string{"secret.1 forbidden", "secret.2 forbidden"}, nil, nil)
}

// FuzzChoice: whatever a client asks for, each channel is had or refused, once, and what it is told can be read.
func FuzzChoice(f *testing.F) {
	for _, row := range choices {
		f.Add([]byte("{" + row.body + "}"))
	}
	s := &Server{config: DefaultConfig(), policies: new(middleware.Policies)}
	s.config.MaxChannels = 4
	f.Fuzz(func(t *testing.T, body []byte) {
		var in wanted
		if decodeBody(body, &in, "a list") != nil {
			return
		}
		c, err := s.choose(t.Context(), everyone{}, &in)
		if err != nil {
			if p := problemOf(err); p.Code == Internal {
				t.Errorf("%q: %v", body, err)
			}
			return
		}
		seen := map[string]bool{}
		for _, name := range c.channels {
			if seen[name] || broker.CheckChannel(name) != nil || strings.HasPrefix(name, "secret") {
				t.Errorf("%q: %q is had", body, name)
			}
			seen[name] = true
		}
		for _, r := range c.refused {
			var told frame
			if err := json.Unmarshal(append(appendUnsubscribed([]byte{'{'}, r.channel, r.problem), '}'), &told); err != nil || told.Channel != r.channel || seen[r.channel] {
				t.Errorf("%q: %q is told as %+v (%v)", body, r.channel, told, err)
			}
			seen[r.channel] = true
		}
		for _, e := range in.Subscriptions {
			if !seen[e.Channel] {
				t.Errorf("%q: nothing is said of %q", body, e.Channel)
			}
		}
		if len(c.since) != len(c.channels) || c.admitted != nil && len(c.admitted) != len(c.channels) || c.terms.list != nil && len(c.terms.list) != len(c.channels) {
			t.Errorf("%q: %+v", body, c)
		}
	})
}
