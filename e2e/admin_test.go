package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// admin returns where the admin API of n is, which it says in its log.
func (n *node) admin() string {
	n.t.Helper()
	address := ""
	until(n.t, startTime, "the admin API is open", func() bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		for line := range strings.Lines(n.log.String()) {
			var l struct{ Msg, Address string }
			if json.Unmarshal([]byte(line), &l) == nil && l.Msg == "admin API is open" {
				address = l.Address
			}
		}
		return address != ""
	})
	return "http://" + address
}

// crowd is those whom the page for operators shows: clients that read all they get, one that reads nothing, and a publisher.
type crowd struct {
	*testing.T
	ctx  context.Context
	node *node
	http *http.Client
	wg   sync.WaitGroup
}

// listen opens a stream from an address, and reads it to its end.
func (c *crowd) listen(address, query string) {
	c.Helper()
	req, err := http.NewRequestWithContext(c.ctx, http.MethodGet, c.node.url()+"/sse?"+query, nil)
	if err != nil {
		c.Fatal(err)
	}
	req.Header.Set("X-Forwarded-For", address)
	res, err := c.http.Do(req)
	if err != nil {
		c.Fatal(err)
	}
	c.wg.Go(func() {
		defer res.Body.Close()
		_, _ = io.Copy(io.Discard, res.Body)
	})
}

// socket opens a WebSocket, and reads it to its end.
func (c *crowd) socket(query string, envelope bool) {
	c.Helper()
	s, err := openWS(c.ctx, strings.Replace(c.node.url(), "http", "ws", 1)+"/ws?"+query, envelope)
	if err != nil {
		c.Fatal(err)
	}
	c.wg.Go(func() {
		defer context.AfterFunc(c.ctx, s.close)()
		for {
			if _, err := s.next(); err != nil {
				return
			}
		}
	})
}

// stall opens a stream, reads its welcome and nothing after that, and returns its session's id.
func (c *crowd) stall(address, query string) (id string) {
	c.Helper()
	conn, err := net.Dial("tcp", c.node.addr)
	if err != nil {
		c.Fatal(err)
	}
	c.Cleanup(func() { conn.Close() })
	if err := conn.(*net.TCPConn).SetReadBuffer(16 << 10); err != nil {
		c.Fatal(err)
	}
	fmt.Fprintf(conn, "GET /sse?%s HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: %s\r\n\r\n", query, address)
	res, err := http.ReadResponse(bufio.NewReaderSize(conn, 1<<10), nil)
	if err != nil {
		c.Fatal(err)
	}
	e, err := newSSEReader(res.Body).next()
	if err != nil {
		c.Fatal(err)
	}
	var welcome struct{ Session string }
	if err := json.Unmarshal([]byte(e.Data), &welcome); err != nil {
		c.Fatal(err)
	}
	return welcome.Session
}

// publish sends prices, twenty at a time, until the context ends.
func (c *crowd) publish() {
	body := func(n int) string {
		var list []map[string]any
		for i := range 20 {
			list = append(list, map[string]any{"channel": []string{"prices.eur", "prices.usd"}[i%2], "key": fmt.Sprintf("K%02d", (n+i)%40), "live": i%4 == 0,
				"data": map[string]any{"price": n + i, "note": strings.Repeat("x", 600)}})
		}
		b, err := json.Marshal(append(list, map[string]any{"channel": "news", "data": n}))
		if err != nil {
			c.Error(err)
		}
		return string(b)
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for n := 0; ; n += 20 {
		res, err := c.http.Post(c.node.url()+"/publish", "application/json", strings.NewReader(body(n)))
		if err == nil {
			_, _ = io.Copy(io.Discard, res.Body)
			res.Body.Close()
		}
		select {
		case <-tick.C:
		case <-c.ctx.Done():
			return
		}
	}
}

// hostile is what a stranger may have a page say to whom it trusts: a filter is any text.
const hostile = `<img src=x onerror=document.title=1>`

// gather starts a node with an admin API and its crowd of so many clients, and returns the one that reads nothing.
func gather(t *testing.T) (c *crowd, clients int, stalledID string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "sluice.yaml")
	rules := "channels:\n  - match: \"prices.*\"\n    deliver: {conflate: key, rate: 20/s}\n"
	if err := os.WriteFile(file, []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	n := startNode(t, "A", "--config", file, "--admin", "127.0.0.1:0", "--trusted-proxies", "127.0.0.1", "--send-buffer", "8KiB", "--max-lag", "10m", "--write-timeout", "5m")
	ctx, stop := context.WithCancel(context.Background())
	c = &crowd{T: t, ctx: ctx, node: n, http: httpClient(t, 0)}
	t.Cleanup(func() { stop(); c.wg.Wait() })
	for i := range 12 {
		c.listen(fmt.Sprintf("203.0.113.%d", i+1), []string{"channel=prices.eur&channel=news", "channel=news", "channel=prices.usd&rate=5/s"}[i%3])
		c.socket([]string{"channel=prices.eur", "channel=news&channel=prices.usd"}[i%2], i%3 > 0)
	}
	c.listen("2001:db8:7::42", "channel=news&filter="+url.QueryEscape(`key == "`+hostile+`"`))
	stalledID = c.stall("198.51.100.7", "channel=raw")
	big := strings.Repeat("x", 8<<10)
	hc := httpClient(t, browserTime)
	for range 40 {
		if _, err := publish(ctx, hc, n.url(), "raw", "", big); err != nil {
			t.Fatal(err)
		}
	}
	c.wg.Go(c.publish)
	return c, 26, stalledID
}

// TestBrowserAdmin: the page for operators shows what happens while it happens, and who is slow; and sends a client away once that
// has been confirmed.
func TestBrowserAdmin(t *testing.T) {
	t.Parallel()
	b := startBrowser(t)
	c, clients, slow := gather(t)
	b.open(c.node.admin() + "/")
	b.run(`() => {
		const $ = (id) => document.getElementById(id);
		window.test = {
			text: (id) => $(id).textContent,
			number: (id) => Number.parseFloat($(id).textContent.replaceAll(",", "")),
			first: () => document.querySelector("#sessions-body tr"),
			button: (id) => [...document.querySelectorAll("#sessions-body tr")].find((row) => row.textContent.includes(id))?.querySelector(".danger"),
		};
	}`, nil, nil)
	b.wait(`(n) => test.text("ready") === "ready" && test.number("sessions") === n && test.text("sessions-more") === "SSE 14 · WS 12"`, clients)
	for _, id := range []string{"deliveries", "writes", "bytes", "publishes", "dropped", "density", "subscriptions", "channels"} {
		b.wait(`(id) => test.number(id) > 0`, id)
	}
	for _, id := range []string{"sse-p50", "sse-p99", "ws-p50", "ws-p99", "ws-queue"} {
		b.wait(`(id) => /^[0-9.]+ (µs|ms|s)$/.test(test.text(id))`, id)
	}
	b.wait(`() => document.querySelectorAll("#latency rect.sse").length > 0 && document.querySelectorAll("#latency rect.ws").length > 0`, nil)
	b.wait(`(id) => test.first()?.textContent.includes(id) && test.first().textContent.includes("198.51.100.7") && test.first().textContent.includes("blocked")`, slow)
	b.wait(`() => document.querySelectorAll("#channels-body tr").length === 4 && [...document.querySelectorAll("#channels-body tr")].some((row) => row.textContent.includes("prices.*") && row.textContent.includes("rate 20/s · conflate key"))`, nil)
	b.wait(`(text) => test.text("channels-body").includes(text)`, hostile)
	b.wait(`() => document.querySelectorAll("#deliveries-spark .line")[0].getAttribute("d").split("L").length > 5`, nil) // some seconds of it
	b.shot("admin-light.png", false, desktop)
	b.shot("admin-dark.png", true, desktop)
	b.shot("admin-phone-light.png", false, phone)
	b.shot("admin-phone-dark.png", true, phone)

	var asked struct{ ID, Focus string }
	b.run(`(id) => { test.button(id).focus(); test.button(id).click(); return { id: test.text("ask-id"), focus: document.activeElement.id }; }`, slow, &asked)
	if asked.ID != slow || asked.Focus != "ask-cancel" {
		t.Errorf("asked about %q with the focus on %q, want %q and the button that does nothing", asked.ID, asked.Focus, slow)
	}
	b.shot("admin-ask.png", false, desktop)
	b.run(`() => document.getElementById("ask-cancel").click()`, nil, nil)
	b.wait(`(id) => document.activeElement === test.button(id)`, slow)
	b.run(`(id) => { test.button(id).click(); document.getElementById("ask-go").click(); }`, slow, nil)
	b.wait(`(id) => test.text("told") === "Session " + id + " was told to come back later."`, slow)
	b.wait(`(n) => test.number("sessions") === n`, clients-1)
	b.wait(`(id) => !test.button(id)`, slow)

	b.run(`() => document.getElementById("pause").click()`, nil, nil)
	var title string
	if b.run(`() => document.title`, nil, &title); title != "Sluice: node" {
		t.Errorf("the title is %q", title)
	}
	if noise := b.noise(); len(noise) > 0 {
		t.Errorf("the page complained: %q", noise)
	}
}

// TestBrowserAdminLosesItsNode: a page whose node has gone says so, and goes on when it is back.
func TestBrowserAdminLosesItsNode(t *testing.T) {
	t.Parallel()
	b := startBrowser(t)
	n := startNode(t, "A", "--admin", "127.0.0.1:0")
	admin := n.admin()
	b.open(admin + "/")
	ready := func(text string) {
		t.Helper()
		b.wait(`(text) => document.getElementById("ready").textContent === text`, text)
	}
	ready("ready")
	b.wait(`() => !document.getElementById("sessions-none").hidden`, nil)
	b.noise()
	n.kill()
	ready("no answer")
	b.wait(`() => document.getElementById("wrong").textContent.startsWith("The node does not answer: ")`, nil)
	n.flags = []string{"--admin", strings.TrimPrefix(admin, "http://")}
	n.restart()
	ready("ready")
	b.wait(`() => document.getElementById("wrong").hidden && !document.body.classList.contains("stale")`, nil)
}
