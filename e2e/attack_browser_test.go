package e2e

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"
)

// site is a web site of some origin. Its /login sets a cookie with a token, and /echo tells any page which cookies it was sent.
type site struct {
	*httptest.Server
	mu    sync.Mutex
	token string
}

func newSite(t *testing.T) *site {
	s := &site{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/login":
			s.mu.Lock()
			defer s.mu.Unlock()
			http.SetCookie(w, &http.Cookie{Name: fortCookie, Value: s.token, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode})
		case "/echo":
			w.Header().Set("Access-Control-Allow-Origin", r.Header.Get("Origin"))
			w.Header().Set("Access-Control-Allow-Credentials", "true")
			fmt.Fprint(w, r.Header.Get("Cookie"))
		default:
			w.Header().Set("Content-Type", "text/html")
			fmt.Fprint(w, "<!doctype html><title>page</title>")
		}
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *site) issue(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.token = token
}

// attempts are what a page tries on a node, each of which answers how it went.
const attempts = `async ({ node, token }) => {
	const within = (ms, promise) => Promise.race([promise, new Promise((resolve) => setTimeout(() => resolve("nothing"), ms))]);
	const socket = (...how) => within(4000, new Promise((resolve) => {
		const ws = new WebSocket(node.replace("http", "ws") + "/ws?channel=news", ...how);
		ws.onopen = () => resolve("open " + ws.protocol);
		ws.onclose = (e) => resolve("closed " + e.code);
	}));
	const stream = (options) => within(4000, new Promise((resolve) => {
		const source = new EventSource(node + "/sse?channel=news", options);
		source.addEventListener("welcome", () => { source.close(); resolve("welcome"); });
		source.addEventListener("unavailable", () => { source.close(); resolve("unavailable"); });
		source.onerror = () => resolve("error " + source.readyState);
	}));
	const post = (path, options) => fetch(node + path, { method: "POST", credentials: "include", ...options }).then((r) => r.type + " " + r.status, () => "refused");
	const message = JSON.stringify({ channel: "news", data: "forged" });
	const form = (path) => new Promise((resolve) => {
		const frame = document.createElement("iframe");
		frame.name = "f" + Math.random();
		document.body.append(frame);
		const form = document.createElement("form");
		Object.assign(form, { method: "POST", action: node + path, enctype: "text/plain", target: frame.name });
		const input = document.createElement("input");
		Object.assign(input, { name: '{"channel":"news","data":"forged","event":"', value: '"}' });
		form.append(input);
		document.body.append(form);
		frame.onload = () => resolve("loaded");
		setTimeout(() => resolve("not loaded"), 1500);
		form.submit();
	});
	return {
		socket: await socket(),
		json: await socket("sluice.v1.json"),
		withToken: await socket(["sluice.v1.json", "sluice.token." + token]),
		stream: await stream({ withCredentials: true }),
		bare: await stream({}),
		jsonPost: await post("/publish", { body: message, headers: { "Content-Type": "application/json" } }),
		textPost: await post("/publish", { body: message }),
		rawPost: await post("/publish/news", { body: "forged", mode: "no-cors" }),
		beacon: String(navigator.sendBeacon(node + "/publish/news", "forged")),
		form: await form("/publish"),
		rawForm: await form("/publish/news"),
		read: await fetch(node + "/sse?channel=news", { credentials: "include" }).then((r) => "status " + r.status, () => "refused"),
	};
}`

// TestAttackBrowser: a page of a foreign origin, in a browser that has the victim's cookie and sends it along, gets nothing; the
// victim's own page gets everything. Both are of one site (127.0.0.1), so that SameSite does not hide what the node does.
func TestAttackBrowser(t *testing.T) {
	t.Parallel()
	b := startBrowser(t)
	app, evil := newSite(t), newSite(t)
	f := newFort(t, "--origins", app.URL)
	token := f.signed(headEd, f.good())
	app.issue(token)
	b.open(app.URL + "/")
	b.run(`() => fetch("/login").then(() => null)`, nil, nil)

	witness := f.guest(t, "sse", token, "news")
	var got map[string]string
	b.run(attempts, map[string]string{"node": f.url(), "token": token}, &got)
	for what, want := range map[string]string{"socket": "open ", "json": "open sluice.v1.json", "withToken": "open sluice.v1.json", "stream": "welcome", "read": "status 200",
		"bare": "error 2", "jsonPost": "cors 401", "textPost": "cors 415", "rawPost": "opaque 0"} {
		if got[what] != want {
			t.Errorf("the app's page, %s: got %q, want %q", what, got[what], want)
		}
	}

	b.open(evil.URL + "/")
	var cookies string
	b.run(`(url) => fetch(url, { credentials: "include" }).then((r) => r.text())`, app.URL+"/echo", &cookies)
	if cookies != fortCookie+"="+token {
		t.Fatalf("the browser sends %q for a foreign page, and no cookie: this test shows nothing", cookies)
	}
	b.run(attempts, map[string]string{"node": f.url(), "token": token}, &got)
	for what, want := range map[string]string{"socket": "closed 1006", "json": "closed 1006", "withToken": "closed 1006", "stream": "error 2", "bare": "error 2",
		"jsonPost": "refused", "textPost": "refused", "rawPost": "opaque 0", "read": "refused"} {
		if got[what] != want {
			t.Errorf("a foreign page, %s: got %q, want %q", what, got[what], want)
		}
	}
	f.post(t, "news", "genuine")
	if e := witness.until(t, "message"); e.data != "genuine" {
		t.Errorf("got %+v: a page has published", e)
	}
	f.unharmed(t)
}

// TestAttackBrowserRenewal: the token in the cookie lives for some seconds and the page has a new one set in time; its native EventSource comes
// back by itself when the old one has ended, and misses and repeats nothing.
func TestAttackBrowserRenewal(t *testing.T) {
	t.Parallel()
	b := startBrowser(t)
	app := newSite(t)
	f := newFort(t, "--origins", app.URL, "--retry", "100ms")
	renew := func() {
		app.issue(f.signed(headEd, f.good().with(claims{"exp": time.Now().Add(4 * time.Second).Unix()})))
		b.run(`() => fetch("/login").then(() => null)`, nil, nil)
	}
	b.open(app.URL + "/")
	renew()
	b.run(`(node) => {
		window.got = [];
		window.welcomes = 0;
		window.denied = [];
		window.source = new EventSource(node + "/sse?channel=news", { withCredentials: true });
		source.addEventListener("message", (e) => got.push(e.data));
		source.addEventListener("gap", (e) => got.push("gap " + e.data));
		source.addEventListener("denied", (e) => denied.push(JSON.parse(e.data).code));
		source.addEventListener("welcome", () => welcomes++);
		return new Promise((resolve) => source.addEventListener("welcome", () => resolve(null), { once: true }));
	}`, f.url(), nil)
	var want []string
	pace := time.NewTicker(10 * time.Millisecond)
	defer pace.Stop()
	next := time.Now().Add(time.Second)
	for end := time.Now().Add(9 * time.Second); time.Now().Before(end); {
		data := fmt.Sprintf("m%d", len(want))
		f.post(t, "news", data)
		want = append(want, data)
		if time.Now().After(next) {
			next = time.Now().Add(time.Second)
			renew()
		}
		<-pace.C
	}
	b.wait(`(n) => got.length >= n`, len(want))
	var got, denied []string
	var welcomes int
	b.run(`() => got`, nil, &got)
	b.run(`() => denied`, nil, &denied)
	b.run(`() => welcomes`, nil, &welcomes)
	if !slices.Equal(got, want) {
		t.Errorf("got %d messages, want %d: %.300q", len(got), len(want), got)
	}
	if welcomes < 3 || len(denied) < 2 || slices.ContainsFunc(denied, func(code string) bool { return code != "token_expired" }) {
		t.Errorf("%d welcomes, denied %q: the token has not ended as it should", welcomes, denied)
	}
	t.Logf("%d messages, %d connections", len(got), welcomes)
}
