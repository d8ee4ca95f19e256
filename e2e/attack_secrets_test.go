package e2e

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/broker/redistest"
	"sluice/otel/oteltest"
)

// secrets are what must not be shown, by name.
type secrets map[string]string

// token adds what tells a token: the middle of each of its parts that is nobody else's, and of all of it.
func (s secrets) token(name, token string) {
	for i, piece := range pieces(token) {
		if i != 0 || !strings.Contains(token, ".") { // headers are alike
			s[fmt.Sprintf("%s, piece %d", name, i)] = piece
		}
	}
}

// shown returns the names of those that are in a text.
func (s secrets) shown(text string) (names []string) {
	unescaped, err := url.QueryUnescape(text)
	if err != nil {
		unescaped = text
	}
	for name, secret := range s {
		if strings.Contains(text, secret) || strings.Contains(unescaped, secret) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// TestAttackSecrets: a node that tells all it can, of clients that do all they should not, tells nothing that is secret.
func TestAttackSecrets(t *testing.T) {
	t.Parallel()
	const urlKey = "webhook-key-77a1e93b"
	webhookSecret := strings.Repeat("webhook-secret-", 3)
	r := redistest.StartUser(t, []string{"~*", "&*", "+@all"})
	collector := oteltest.Start(t)
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		switch {
		case strings.Contains(string(body), `"path":"/ws"`) && strings.Contains(string(body), "garbage"):
			_, _ = w.Write(body) // the question itself
		case strings.Contains(string(body), `"action":"connect"`):
			_, _ = io.WriteString(w, `{"allow":true}`)
		default:
			_, _ = io.WriteString(w, `{"allow":false}`)
		}
	}))
	t.Cleanup(hook.Close)

	f := &fort{forger: newForger(t), t: t}
	key, entry := apiKey("backend", "*")
	f.key = key
	hookURL := hook.URL + "/authorize?key=" + urlKey
	env := []string{"SLUICE_JWT_SECRET=" + f.secret, "SLUICE_REDIS=" + r.URL(), "SLUICE_WEBHOOK=" + hookURL,
		"SLUICE_WEBHOOK_SECRET=" + webhookSecret, "OTEL_EXPORTER_OTLP_ENDPOINT=" + collector.HTTP, "OTEL_BSP_SCHEDULE_DELAY=20"}
	flags := []string{"--dev=false", "--jwt-query", "--jwt-keys", f.file(), "--jwt-cookie", fortCookie, "--origins", fortOrigin, "--jwt-audiences", fortAudience,
		"--config", settingsFile(t, "api-keys:\n"+entry+fortChannels), "--log-level", "debug", "--access-log", "--admin", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--jwt-leeway", "0s",
		"--trace-detail", "1000000", "--trace-trust", "parent"}
	f.arena = &arena{node: startNodeIn(t, env, "A", flags...), http: httpClient(t, 10*time.Second)}
	f.http.Transport = bearer{f.http.Transport, key}
	waitReady(t, f.node)

	all := secrets{"Redis' password": redistest.Password, "jwt-secret": f.secret, "webhook-secret": webhookSecret[:30], "webhook's key": urlKey,
		"API key": key[len(key)-20:]}
	good := f.signed(headEd, f.good().with(claims{"trace": true, "jti": "jti-of-all-tokens"}))
	stream := f.guest(t, "sse", good, "news")
	socket := f.guest(t, "ws", good, "news")
	f.session = stream.session
	all.token("good", good)
	said := map[string]string{} // where, and what
	tokens := map[string]string{
		"good again": good,
		"HS256":      f.signed(headHS, f.good()),
		"expired":    in("exp", -time.Hour)(f.forger),
		"bad":        newForger(t).signed(headRSA, f.good()),
		"unknown":    f.signed(headEd.with(claims{"kid": "unknown"}), f.good()),
		"signed":     f.room("alice", "room:1"),
		"poor":       f.signed(headEd, f.good().with(claims{"subscribe": []string{}})),
		"API key":    key,
		"opaque":     "opaque-" + strings.Repeat("0123456789abcdef", 3),
	}
	for name, token := range tokens {
		all.token(name, token)
		for _, w := range ways {
			said[name+" by "+w.name] = w.show(f, t, token).raw
		}
		f.mistakes(t, name, token, said)
	}
	f.post(t, "news", "traced")
	stream.until(t, "message")
	socket.until(t, "message")
	status, _ := adminPost(t, f.node, "/admin/revocations", `{"token":"jti-of-all-tokens"}`)
	if status != http.StatusCreated {
		t.Fatal(status)
	}
	said["revoked"] = f.ask(t, "GET /sse?channel=news", "Authorization: Bearer "+good+"\r\n", "").raw
	f.operators(t, env, flags, said)
	f.spans(collector, said)
	f.node.mu.Lock()
	said["the log"] = f.log.String()
	f.node.mu.Unlock()
	if !strings.Contains(said["the log"], `"path":"/sse"`) {
		t.Error("the log has nothing in it: this test looks at the wrong place")
	}
	for where, text := range said {
		if names := all.shown(text); len(names) > 0 {
			t.Errorf("%s shows %q: %.1000s", where, names, around(text, all[names[0]]))
		}
	}
}

// around returns what stands about a secret.
func around(text, secret string) string {
	i := max(0, strings.Index(text, secret))
	return text[max(0, i-300):min(len(text), i+200)]
}

// mistakes puts a token where it does not belong.
func (f *fort) mistakes(t *testing.T, name, token string, said map[string]string) {
	t.Helper()
	authorized := "Authorization: Bearer " + f.key + "\r\n"
	for _, m := range []struct{ what, line, header, body string }{
		{"an unknown parameter", "GET /sse?channel=news&token=" + token, "", ""},
		{"the name of a parameter", "GET /sse?channel=news&" + token + "=1", "", ""},
		{"the name of a parameter of WebSocket", "GET /ws?channel=news&" + token, upgradeHead, ""},
		{"a channel", "GET /sse?channel=" + token + "%20", "", ""},
		{"a legal channel", "GET /sse?channel=" + token[:min(len(token), 199)], "", ""},
		{"a channel's wish", "GET /sse?channel=news&rate[" + token + "]=1/s", authorized, ""},
		{"a wish", "GET /sse?channel=public:a&rate=" + token, "", ""},
		{"a filter", "GET /sse?channel=public:a&filter=" + token, "", ""},
		{"a filter's text", "GET /sse?channel=public:a&filter=event+%3D%3D+%22" + token + "%22+%26%26", "", ""},
		{"format", "GET /sse?channel=public:a&format=" + token, "", ""},
		{"a resume token", "GET /sse?channel=public:a&resume=" + token, "", ""},
		{"Last-Event-ID", "GET /sse?channel=public:a", "Last-Event-ID: " + token + "\r\n", ""},
		{"a scheme", "GET /sse?channel=news", "Authorization: Token " + token + "\r\n", ""},
		{"no scheme", "GET /sse?channel=news", "Authorization: " + token + "\r\n", ""},
		{"a subprotocol of its own", "GET /ws?channel=public:a", upgradeHead + "Sec-WebSocket-Protocol: " + token + "\r\n", ""},
		{"a cookie of another name", "GET /sse?channel=news", "Cookie: token=" + token + "\r\n", ""},
		{"a cookie of nobody", "GET /sse?channel=news", "Origin: https://evil.tld\r\nCookie: sid=" + token + "\r\n", ""},
		{"Origin", "GET /sse?channel=news", "Origin: https://" + token + "\r\n", ""},
		{"Referer", "GET /sse?channel=news", "Referer: https://x/?access_token=" + token + "\r\n", ""},
		{"User-Agent", "GET /sse?channel=news", "User-Agent: " + token + "\r\n", ""},
		{"baggage", "POST /publish/news", authorized + "Baggage: token=" + token + "\r\nTracestate: a=" + token + "\r\nTraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n", "x"},
		{"traceparent", "POST /publish/news", authorized + "Traceparent: " + token + "\r\n", "x"},
		{"a message", "POST /publish/news", authorized, token},
		{"a message that is refused", "POST /publish/news", "", token},
		{"a JSON message", "POST /publish", authorized + "Content-Type: application/json\r\n", `{"channel":"news","data":"` + token + `"}`},
		{"a field of a message", "POST /publish", authorized + "Content-Type: application/json\r\n", `{"channel":"news","data":"x","` + token + `":1}`},
		{"no JSON", "POST /publish", authorized + "Content-Type: application/json\r\n", token},
		{"a message's channel", "POST /publish", authorized + "Content-Type: application/json\r\n", `{"channel":"` + token + ` ","data":"x"}`},
		{"a message's event", "POST /publish", authorized + "Content-Type: application/json\r\n", `{"channel":"news","data":"x","event":"` + token + `\n"}`},
		{"live", "POST /publish/news?live=" + token, authorized, "x"},
		{"the type of a body", "POST /publish", authorized + "Content-Type: application/" + token + "\r\n", "{}"},
		{"the coding of a body", "POST /publish/news", authorized + "Content-Encoding: " + token + "\r\n", "{}"},
		{"the type of a refresh", "POST /sessions/" + f.session, "", `{"type":"` + token + `"}`},
		{"a field of a refresh", "POST /sessions/" + f.session, "", `{"type":"refresh","token":["` + token + `"]}`},
		{"an acknowledgement", "POST /ack", "", `{"session":"` + token + `","traceparent":"` + token + `"}`},
		{"what fails at the backend", "GET /ws?channel=garbage", upgradeHead + "Cookie: garbage=" + token + "\r\n", ""},
	} {
		said[name+" as "+m.what] = f.ask(t, m.line, m.header, m.body).raw
	}
	for what, command := range map[string]claims{
		"the type of a command": {"type": token}, "a field of a command": {"type": "ping", token: 1}, "a command's channel": {"type": "subscribe", "channel": token + " "},
		"a legal channel of a command": {"type": "subscribe", "channel": token[:min(len(token), 199)]}, "a command's resume": {"type": "subscribe", "channels": []string{"public:a"}, "resume": token},
		"a command's since": {"type": "subscribe", "channel": "public:a", "since": token}, "a command's filter": {"type": "subscribe", "channel": "public:a", "filter": token + " &&"},
		"a command's message": {"type": "publish", "channel": "news", "data": token}, "a command's acknowledgement": {"type": "ack", "traceparent": token},
		"a command's wrong type": {"type": "refresh", "token": []string{token}},
	} {
		s := f.command(t, command)
		said[name+" as "+what] = s.raw
	}
}

// operators asks for everything that operators may see.
func (f *fort) operators(t *testing.T, env, flags []string, said map[string]string) {
	t.Helper()
	for _, path := range []string{"/admin/stats", "/admin/channels", "/admin/sessions", "/admin/revocations", "/admin/policy?channel=news", "/admin/drops", "/admin/sessions/" + f.session, "/admin"} {
		_, said[path] = get(t, f.admin()+path)
	}
	for _, path := range []string{"/metrics", "/"} {
		_, said[path] = get(t, "http://"+f.address("metrics are open")+path)
	}
	for _, path := range []string{"/readyz", "/healthz"} {
		_, said[path] = get(t, f.url()+path)
	}
	for _, args := range [][]string{{"config"}, {"config", "--channel", "news"}, {"help", "settings"}, {"serve", "--max-channels", "none"}, {"serve", "--webhook-timeout", "never"}} {
		cmd := exec.Command(program, append(args, flags...)...)
		cmd.Env = append(outside(), env...)
		out, _ := cmd.CombinedOutput()
		said["sluice "+strings.Join(args, " ")] = string(out)
	}
	if !strings.Contains(said["sluice config"], "***") {
		t.Errorf("sluice config masks nothing: %s", said["sluice config"])
	}
}

// spans waits for those of the last publish, and adds all that were exported.
func (f *fort) spans(c *oteltest.Collector, said map[string]string) {
	until(f.t, 10*time.Second, "the spans of a publish and of a connection come", func() bool {
		all := c.Spans()
		return slices.ContainsFunc(all, func(s oteltest.Span) bool { return strings.HasPrefix(s.GetName(), "push ") }) &&
			slices.ContainsFunc(all, func(s oteltest.Span) bool {
				return strings.Contains(s.GetName(), "/ws") || strings.Contains(s.GetName(), "connect")
			})
	})
	for i, s := range c.Spans() {
		said[fmt.Sprintf("span %d", i)] = fmt.Sprint(s.Span.String(), s.Resource, s.Scope)
	}
	for i, m := range c.Metrics() {
		said[fmt.Sprintf("metric %d", i)] = fmt.Sprint(m.String(), m.Resource, m.Scope)
	}
}
