package e2e

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/e2e/evilproxy"
)

// What a page owes behind a proxy.
const (
	proxiedMessages = 1000
	joinTime        = 5 * time.Second // from connect() until the page listens or has a message
)

// tab is one page behind one front.
type tab struct {
	front   front
	fleet   *fleet
	err     error
	outcome outcome
}

// outcome is what a page has seen.
type outcome struct {
	Got       []int
	Joined    float64 // ms from connect()
	First     float64 // ms from its publish to the page
	Transport string
	Connects  int
	States    []string
	Errors    []string
	Gaps      []string
}

func (v *tab) page() string { return v.front.name }

// join has the page connect and listen, and answers when it listens or when it has waited for far too long.
const join = `async ({ channel, transports }) => {
	const { connect } = await import("/sluice.js");
	const began = performance.now();
	const ms = () => Math.round(performance.now() - began);
	const seen = (window.seen = { Got: [], Joined: 0, First: 0, States: [], Errors: [], Gaps: [] });
	window.edge = connect("/", { transports });
	edge.on("state", (s) => seen.States.push(s + " " + ms()));
	edge.on("error", (e) => seen.Errors.push(e.code + " " + ms()));
	const sub = edge.subscribe(channel, (m) => {
		const { n, t } = m.json;
		if (!seen.Got.length) seen.First = Date.now() - t;
		seen.Got.push(n);
	});
	sub.on("gap", (g) => seen.Gaps.push(g.reason + " " + ms()));
	sub.on("error", (e) => seen.Errors.push(e.code + " " + ms()));
	const late = new Promise((_, fail) => setTimeout(() => fail(new Error("it does not listen: " + seen.States.join(", "))), 20000));
	await Promise.race([sub.ready, late]);
	seen.Joined = ms();
}`

// leave says what the page has seen, once it has everything or nothing more comes.
const leave = `async (want) => {
	const pause = () => new Promise((resolve) => setTimeout(resolve, 100));
	for (let got = -1, since = 0; seen.Got.length < want && (got < seen.Got.length || performance.now() < since + 10000); await pause()) {
		if (got < seen.Got.length) since = performance.now();
		got = seen.Got.length;
	}
	await pause(); // for what is repeated
	const { connects } = await edge.stats();
	return { ...seen, Transport: edge.state === "polling" ? "poll" : edge.state, Connects: connects };
}`

// TestBrowserProxies: a page of the client library gets everything, once and in order, and listens soon, whatever stands between it and the
// node: nginx, HAProxy, Apache and Caddy as they are and as they should be set up, and each mode of the evil proxy.
//
// SLUICE_E2E_FRONT=TEXT has only those with TEXT in their names. SLUICE_UPDATE_DOCS=1 writes what was measured into docs/proxies.md.
func TestBrowserProxies(t *testing.T) {
	nodes := startFrontNodes(t)
	f := newFronts(t, nodes)
	f.startNginx()
	f.startHAProxy()
	f.startApache()
	f.startCaddy()
	f.startEvil()
	some := slices.DeleteFunc(slices.Clone(f.all), func(to front) bool { return !strings.Contains(to.name, os.Getenv("SLUICE_E2E_FRONT")) })
	seen := map[string][]*tab{}
	for _, kind := range []string{"chromium", "firefox"} {
		// One browser after the other: with a hundred pages at once two cores measure little but themselves.
		t.Run(kind, func(t *testing.T) { seen[kind] = visitAll(t, startFleet(t, kind), some, nodes) })
	}
	if len(seen) < 2 || t.Failed() {
		return
	}
	table := proxyTable(seen["chromium"], seen["firefox"])
	t.Logf("\n%s", table)
	if os.Getenv("SLUICE_UPDATE_DOCS") == "1" {
		updateTable(t, "../docs/proxies.md", table)
	}
	checkTable(t, "../docs/proxies.md", f.all)
}

// visitAll opens a page through each front, all at once, publishes, and judges what each has got.
func visitAll(t *testing.T, browser *fleet, to []front, nodes []*node) (tabs []*tab) {
	t.Helper()
	for _, front := range to {
		tabs = append(tabs, &tab{front: front, fleet: browser})
	}
	each(tabs, 8, func(v *tab) error {
		if err := v.fleet.open(v.page(), v.front.url+"/healthz"); err != nil {
			return err
		}
		return v.fleet.run(v.page(), `() => import("/sluice.js").then(() => null)`, nil, nil)
	})
	time.Sleep(evilproxy.Limit + time.Second) // what was kept open since then is dead where idle connections die
	each(tabs, 16, func(v *tab) error { return v.fleet.run(v.page(), join, v.front.wishes(browser.kind), nil) })
	publishProxied(t, browser.kind, nodes)
	each(tabs, len(tabs), func(v *tab) error { return v.fleet.run(v.page(), leave, proxiedMessages, &v.outcome) })
	for _, v := range tabs {
		v.judge(t)
	}
	return tabs
}

// wishes is what its page asks for.
func (f front) wishes(channel string) map[string]any {
	w := map[string]any{"channel": channel}
	if strings.HasSuffix(f.name, alone) {
		w["transports"] = []string{"sse"}
	}
	return w
}

// each does something with all tabs that have not failed so far, at most limit at once.
func each(tabs []*tab, limit int, do func(*tab) error) {
	var all sync.WaitGroup
	places := make(chan struct{}, limit)
	for _, v := range tabs {
		if v.err != nil {
			continue
		}
		places <- struct{}{}
		all.Go(func() {
			v.err = do(v)
			<-places
		})
	}
	all.Wait()
}

// publishProxied publishes the numbers from 0 at all nodes, past the proxies: one, a burst, one by one, and after a silence that is longer
// than the limits of proxies again a burst, and one by one.
func publishProxied(t *testing.T, channel string, nodes []*node) {
	t.Helper()
	c := httpClient(t, 5*time.Second)
	next := 0
	send := func(n int, pace time.Duration) {
		t.Helper()
		for range n {
			data := fmt.Sprintf(`{"n":%d,"t":%d}`, next, time.Now().UnixMilli())
			for _, to := range nodes {
				if err := publishNumber(t.Context(), c, to, channel, next, data); err != nil {
					t.Fatal(err)
				}
			}
			next++
			time.Sleep(pace)
		}
	}
	send(1, 500*time.Millisecond)
	send(199, 0)
	send(300, 8*time.Millisecond)
	time.Sleep(evilproxy.Limit + 500*time.Millisecond)
	send(200, 0)
	send(proxiedMessages-next, 8*time.Millisecond)
}

func publishNumber(ctx context.Context, c *http.Client, to *node, channel string, n int, data string) error {
	_, err := publish(ctx, c, to.url(), channel, fmt.Sprintf("id=n%d", n), data)
	return err
}

// judge fails the test if the page has not got what it should.
func (v *tab) judge(t *testing.T) {
	t.Helper()
	o := &v.outcome
	complain := func(format string, args ...any) {
		t.Helper()
		t.Errorf("%s, %s: %s\n\tstates %q, errors %q", v.front.name, v.fleet.kind, fmt.Sprintf(format, args...), o.States, o.Errors)
	}
	if v.err != nil {
		complain("%v", v.err)
		return
	}
	for i, n := range o.Got {
		if n != i {
			complain("got %d as number %d of %d", n, i, len(o.Got))
			break
		}
	}
	if len(o.Got) != proxiedMessages {
		complain("got %d messages, want %d", len(o.Got), proxiedMessages)
	}
	if len(o.Gaps) > 0 {
		complain("gaps %q, want none", o.Gaps)
	}
	if o.Joined > float64(joinTime.Milliseconds()) {
		complain("it listened after %v ms, want %v at most", o.Joined, joinTime)
	}
}

// proxyTable is one row for each front, of both browsers.
func proxyTable(chromium, firefox []*tab) string {
	var b strings.Builder
	b.WriteString("| between page and node | transport | ms until it listens | ms of the first message | reconnects |\n| --- | --- | --- | --- | --- |\n")
	for i, c := range chromium {
		c, f := &c.outcome, &firefox[i].outcome
		fmt.Fprintf(&b, "| %s | %s / %s | %v / %v | %v / %v | %d / %d |\n", chromium[i].front.name,
			c.Transport, f.Transport, c.Joined, f.Joined, c.First, f.First, c.Connects-1, f.Connects-1)
	}
	return b.String()
}

// The table in the manual is between these lines.
const (
	tableBegin = "<!-- Measured by: SLUICE_UPDATE_DOCS=1 go test -run TestBrowserProxies ./e2e -->\n"
	tableEnd   = "<!-- end of what was measured -->\n"
)

// tableIn returns what is before, between and after the two lines of a page of the manual.
func tableIn(t *testing.T, path string) (before, table, after string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, begun := strings.Cut(string(b), tableBegin)
	table, after, ended := strings.Cut(rest, tableEnd)
	if !begun || !ended {
		t.Fatalf("%s does not have the lines %q and %q", path, tableBegin, tableEnd)
	}
	return before, table, after
}

func updateTable(t *testing.T, path, table string) {
	t.Helper()
	before, _, after := tableIn(t, path)
	if err := os.WriteFile(path, []byte(before+tableBegin+table+tableEnd+after), 0o644); err != nil {
		t.Fatal(err)
	}
}

// checkTable fails if the manual has not one row for each front. What is in it is as it was when it was measured.
func checkTable(t *testing.T, path string, fronts []front) {
	t.Helper()
	_, table, _ := tableIn(t, path)
	if got, want := strings.Count(table, "\n")-2, len(fronts); got != want {
		t.Errorf("the table in %s has %d rows, want %d", path, got, want)
	}
	for _, f := range fronts {
		if !strings.Contains(table, "\n| "+f.name+" |") {
			t.Errorf("the table in %s has no row for %s", path, f.name)
		}
	}
}
