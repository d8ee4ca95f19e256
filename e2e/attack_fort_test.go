package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// What the fort's tokens have to say.
const (
	fortIssuer   = "https://issuer.test"
	fortAudience = "sluice"
	fortOrigin   = "https://app.test"
	fortCookie   = "sid"
)

// fort is an arena that is not open: it takes all ways of credentials, and its witnesses have shown theirs.
type fort struct {
	*arena
	*forger
	t       *testing.T
	key     string      // API key, for all channels
	heard   atomic.Bool // somebody has connected to the forger's ear
	session string      // of alice's stream that is there all the time
}

// fortChannels are the rules of a fort.
const fortChannels = `
channels:
  - match: "public:*"
    access: public
  - match: "room:*"
    access: signed
  - match: "news.talk"
    publish: clients
`

// bearer adds an API key to requests.
type bearer struct {
	http.RoundTripper
	key string
}

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+b.key)
	return b.RoundTripper.RoundTrip(r)
}

// newFort starts a fort. Other flags come last, so that they hold.
func newFort(t *testing.T, flags ...string) *fort {
	t.Helper()
	f := &fort{forger: newForger(t), t: t}
	key, entry := apiKey("backend", "*")
	f.key = key
	f.listen()
	c := httpClient(t, 10*time.Second)
	c.Transport = bearer{c.Transport, key}
	all := append([]string{"--config", settingsFile(t, "api-keys:\n"+entry+fortChannels), "--jwt-keys", f.file(), "--jwt-issuers", fortIssuer, "--jwt-audiences", fortAudience,
		"--jwt-cookie", fortCookie, "--origins", fortOrigin, "--jwt-leeway", "0s", "--access-log", "--log-level", "debug", "--command-rate", "10000", "--command-burst", "10000",
		"--join-timeout", "5s", "--heartbeat", "1s"}, flags...)
	f.arena = &arena{node: f.startGuarded("A", all...), http: c}
	waitReady(t, f.node) // it knows what was revoked
	token := f.signed(headEd, f.good())
	sse, err := openSSE(t.Context(), httpClient(t, 0), f.url()+"/sse?channel=good&access_token="+token, "", false)
	if err != nil {
		t.Fatal(err)
	}
	ws, err := openWS(t.Context(), "ws://"+f.addr+"/ws?channel=good&access_token="+token, true)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []stream{sse, ws} {
		e, err := s.next()
		if err != nil || e.kind != "welcome" {
			t.Fatalf("got %+v, %v, want a welcome", e, err)
		}
		if s == sse {
			f.session = e.body.Session
		}
	}
	f.watch(t, "SSE", sse)
	f.watch(t, "WebSocket", ws)
	f.unharmed(t)
	t.Cleanup(func() { f.wellLogged(t) })
	return f
}

// listen opens the forger's ear.
func (f *fort) listen() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.t.Fatal(err)
	}
	f.ear = l.Addr().String()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			f.heard.Store(true)
			_ = c.Close()
		}
	}()
	f.t.Cleanup(func() { _ = l.Close(); <-ended })
}

// shown is what a node says to somebody who shows a token.
type shown struct {
	status int
	code   string // of a problem, an error or an event unavailable; "": all is well
	header http.Header
	raw    string // all of it
}

// ok reports whether the token was taken.
func (s *shown) ok() bool { return s.status < 300 && s.code == "" }

// ask sends a request by hand and reads the answer; of a stream or WebSocket what comes first. Headers are in lines.
func (n *node) ask(t *testing.T, line, header, body string) *shown {
	t.Helper()
	s, err := n.try(line, header, body)
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	return s
}

// try is ask for goroutines other than the test's.
func (n *node) try(line, header, content string) (*shown, error) {
	conn, err := net.Dial("tcp", n.addr)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(rawTime))
	c := &raw{conn, bufio.NewReader(conn)}
	if content != "" {
		header += fmt.Sprintf("Content-Length: %d\r\n", len(content))
	}
	c.send(line + " HTTP/1.1\r\nHost: " + n.addr + "\r\n" + header + "\r\n" + content)
	x, err := c.answer()
	if err != nil {
		return nil, err
	}
	s := &shown{status: x.status, code: x.code, header: x.header, raw: fmt.Sprint(x.header) + x.body}
	if x.status == http.StatusOK && x.header.Get("Content-Type") == "text/event-stream" {
		e, err := newSSEReader(c.r).next()
		if err != nil {
			return nil, err
		}
		if s.raw += fmt.Sprint(e); e.Type == "unavailable" {
			var why body
			if !fromJSON(e.Data, &why) || why.Code == "" || e.Retry == 0 {
				return nil, fmt.Errorf("event %+v", e)
			}
			s.code = why.Code
		}
	}
	return s, nil
}

// upgradeHead are the headers of a handshake.
const upgradeHead = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"

// command opens a WebSocket without credentials and sends one command.
func (f *fort) command(t *testing.T, command claims) *shown {
	t.Helper()
	c := f.upgrade(t, "", speaksJSON)
	defer c.Close()
	c.send(text(toJSON(t, command.with(claims{"ref": 1}))))
	s := &shown{status: http.StatusOK}
	for {
		op, payload, err := c.read()
		if err != nil {
			t.Fatalf("%v: %v, after %s", command["type"], err, s.raw)
		}
		s.raw += payload
		var e body
		if op == opText && fromJSON(payload, &e) && e.Ref == 1 {
			s.code = e.Code
			return s
		}
	}
}

// way is how a token is shown. The channel is one that good tokens are for.
type way struct {
	name   string
	header bool // it stands in a header, so there are bytes that can't
	signed bool // it is for one subscription
	show   func(f *fort, t *testing.T, token string) *shown
}

// ways are all of them.
var ways = []way{
	{"Authorization, SSE", true, false, func(f *fort, t *testing.T, token string) *shown {
		return f.ask(t, "GET /sse?channel=news", "Authorization: Bearer "+token+"\r\n", "")
	}},
	{"Authorization, WebSocket", true, false, func(f *fort, t *testing.T, token string) *shown {
		return f.ask(t, "GET /ws?channel=news", upgradeHead+"Authorization: Bearer "+token+"\r\n", "")
	}},
	{"subprotocol", true, false, func(f *fort, t *testing.T, token string) *shown {
		s := f.ask(t, "GET /ws?channel=news", upgradeHead+"Sec-WebSocket-Protocol: "+subprotocol+", sluice.token."+token+"\r\n", "")
		if got := s.header.Get("Sec-WebSocket-Protocol"); got != subprotocol && got != "" {
			t.Errorf("the subprotocol that is selected is %q", got)
		}
		return s
	}},
	{"cookie, SSE", true, false, func(f *fort, t *testing.T, token string) *shown {
		return f.ask(t, "GET /sse?channel=news", "Origin: "+fortOrigin+"\r\nCookie: "+fortCookie+"="+token+"\r\n", "")
	}},
	{"cookie, WebSocket", true, false, func(f *fort, t *testing.T, token string) *shown {
		return f.ask(t, "GET /ws?channel=news", upgradeHead+"Origin: "+fortOrigin+"\r\nCookie: a=b; "+fortCookie+"="+token+"\r\n", "")
	}},
	{"query", false, false, func(f *fort, t *testing.T, token string) *shown {
		return f.ask(t, "GET /sse?channel=news&access_token="+escape(token), "", "")
	}},
	{"publish", true, false, func(f *fort, t *testing.T, token string) *shown {
		return f.ask(t, "POST /publish", "Content-Type: application/json\r\nAuthorization: Bearer "+token+"\r\n", `{"channel":"news","data":"forged"}`)
	}},
	{"publish a body", true, false, func(f *fort, t *testing.T, token string) *shown {
		return f.ask(t, "POST /publish/news", "Authorization: Bearer "+token+"\r\n", "forged")
	}},
	{"publish, query", false, false, func(f *fort, t *testing.T, token string) *shown {
		return f.ask(t, "POST /publish/news?access_token="+escape(token), "", "forged")
	}},
	{"refresh, WebSocket", false, false, func(f *fort, t *testing.T, token string) *shown {
		return f.command(t, claims{"type": "refresh", "token": token})
	}},
	{"refresh, SSE", false, false, func(f *fort, t *testing.T, token string) *shown {
		return f.ask(t, "POST /sessions/"+f.session, "Content-Type: application/json\r\n", toJSON(t, claims{"type": "refresh", "token": token}))
	}},
	{"refresh of SSE, Authorization", true, false, func(f *fort, t *testing.T, token string) *shown {
		return f.ask(t, "POST /sessions/"+f.session, "Authorization: Bearer "+token+"\r\n", `{"type":"refresh"}`)
	}},
	{"signed, header", true, true, func(f *fort, t *testing.T, token string) *shown {
		return f.ask(t, "GET /sse?channel=room:1", "Sluice-Signed: "+token+"\r\n", "")
	}},
	{"signed, query", false, true, func(f *fort, t *testing.T, token string) *shown {
		return f.ask(t, "GET /ws?channel=room:1&signed="+escape(token), upgradeHead, "")
	}},
	{"signed, command", false, true, func(f *fort, t *testing.T, token string) *shown {
		return f.command(t, claims{"type": "subscribe", "channel": "room:1", "signed": []string{token}})
	}},
}

// statusOf is the status that goes with a code; docs/protocol.md has the table.
var statusOf = map[string]int{"unauthorized": 401, "token_expired": 401, "token_revoked": 401, "forbidden": 403, "bad_request": 400, "origin_forbidden": 403, "unavailable": 503}

// refuses fails the test unless s is a refusal with one of these codes, which repeats nothing of the secret.
func (s *shown) refuses(t *testing.T, what, secret string, codes ...string) {
	t.Helper()
	fits := false
	for _, code := range codes {
		fits = fits || s.code == code && (s.status == statusOf[code] || s.status == http.StatusOK && strings.Contains(s.raw, `"error"`))
	}
	if !fits {
		t.Errorf("%s: got %d %s, want %v: %.300s", what, s.status, s.code, codes, s.raw)
	}
	if s.status == http.StatusUnauthorized && s.header.Get("WWW-Authenticate") != "Bearer" {
		t.Errorf("%s: 401 without WWW-Authenticate: %v", what, s.header)
	}
	for _, piece := range pieces(secret) {
		if strings.Contains(s.raw, piece) {
			t.Errorf("%s: the answer repeats %q: %.500s", what, piece, s.raw)
		}
	}
}

// pieces are what tells a token: the middle of it, and of each of its parts.
func pieces(token string) (all []string) {
	for _, part := range append(strings.Split(token, "."), token) {
		if len(part) >= 20 {
			all = append(all, part[len(part)/2-10:len(part)/2+10])
		}
	}
	return all
}

// drain reads what is left of a stream for a while, for who looks for what must not come.
func drain(r io.Reader) string {
	b, _ := io.ReadAll(r) // until the deadline
	return string(b)
}
