package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// demo is the main view of the demo page, in a browser.
type demo struct {
	*browser
	node *node
}

// openDemo opens the demo page of a node whose heartbeat is a second, and waits until it is connected.
func openDemo(t *testing.T) *demo {
	t.Helper()
	d := &demo{startBrowser(t), startNode(t, "A", "--heartbeat", "1s", "--retry", "200ms")}
	d.open(d.node.url() + "/")
	d.state("ws")
	d.more()
	return d
}

// state waits until the connection is in a state.
func (d *demo) state(want string) {
	d.t.Helper()
	d.wait(`(s) => document.querySelector("#edge-state").dataset.edge === s`, want)
}

// fault presses a button of the panel.
func (d *demo) fault(name string) {
	d.t.Helper()
	d.run(`(f) => document.querySelector("[data-fault=" + f + "]").click()`, name, nil)
}

// more waits until some numbered messages have come that were published since.
func (d *demo) more() {
	d.t.Helper()
	d.run(`() => { window.mark = Number(document.querySelector("#edge-received").textContent); }`, nil, nil)
	d.wait(`() => Number(document.querySelector("#edge-received").textContent) >= mark + 6`, nil)
}

// whole fails the test if a numbered message was lost, came twice, or was told to be missing.
func (d *demo) whole(what string) {
	d.t.Helper()
	var got struct{ Received, Lost, Repeated, Gaps, Log string }
	d.run(`() => Object.fromEntries(["received", "lost", "repeated", "gaps", "log"].map((n) => [n, document.querySelector("#edge-" + n).innerText]))`, nil, &got)
	if got.Lost != "0" || got.Repeated != "0" || got.Gaps != "0" {
		d.t.Errorf("%s: %s received, %s lost, %s repeated, %s gaps; want none\n%s", what, got.Received, got.Lost, got.Repeated, got.Gaps, got.Log)
	}
}

// TestBrowserDemoBreaks: whatever is done to the connection, it is there again by what is left, and nothing is lost.
func TestBrowserDemoBreaks(t *testing.T) {
	t.Parallel()
	d := openDemo(t)
	connects := func(n int) {
		t.Helper()
		d.wait(`(n) => Number(document.querySelector("#edge-connects").textContent) >= n`, n)
	}

	d.fault("kill")
	connects(2)
	d.state("ws")
	d.more()
	d.whole("a connection that was cut")

	begin := time.Now()
	d.fault("swallow")
	connects(3)
	if took := time.Since(begin); took > 5*time.Second { // 2.5 heartbeats after the last one, up to 400 ms of jitter, and the time of this test
		t.Errorf("a connection that swallows everything was left after %v, want 2.5 heartbeats of 1s", took)
	}
	d.more()
	d.whole("a connection that swallowed everything")

	d.fault("delay")
	d.more()
	d.whole("a slow connection")

	d.fault("no-ws")
	d.state("sse")
	d.more()
	d.whole("no WebSocket")
	d.shot("demo-sse.png", false, desktop)

	d.fault("no-stream")
	d.state("polling")
	d.more()
	d.whole("no streams")

	d.fault("heal")
	d.state("ws")
	d.more()
	d.whole("healed")
	d.run(`() => { document.querySelector("#break-silent").checked = true; }`, nil, nil)
	d.fault("no-ws")
	d.state("sse")
	d.more()
	d.whole("WebSockets that nobody answers")
	d.fault("heal")
	d.state("ws")
	d.run(`() => {
		window.states = [];
		new MutationObserver(() => states.push(document.querySelector("#edge-state").dataset.edge)).observe(document.querySelector("#edge-state"), { attributes: true });
		window.was = document.querySelector("#edge-session").textContent;
		document.querySelector("#edge-reconnect").click();
	}`, nil, nil)
	d.wait(`() => document.querySelector("#edge-session").textContent !== was`, nil)
	d.more()
	d.whole("another connection")
	var states []string
	d.run(`() => states.filter((s) => s !== "ws")`, nil, &states)
	if len(states) > 0 {
		t.Errorf("the connection was made anew by %q, want one beside the other", states)
	}

	d.wait(`() => document.querySelectorAll("#edge-log [data-kind=resumed]").length >= 2`, nil)
	d.shot("demo-light.png", false, desktop)
	if noise := d.noise(); len(noise) > 0 {
		t.Errorf("the page complained: %q", noise)
	}
}

// TestBrowserDemoTabs: two tabs have one connection, the same numbers and a chat; when one is closed, the other goes on.
func TestBrowserDemoTabs(t *testing.T) {
	t.Parallel()
	d := openDemo(t)
	text := func(id string) (s string) {
		d.run(`(id) => document.querySelector("#" + id).innerText`, id, &s)
		return s
	}
	say := func(name, what string) {
		t.Helper()
		d.run(`([name, text]) => {
			document.querySelector("#chat-name").value = name;
			document.querySelector("#chat-text").value = text;
			document.querySelector("#chat-form").requestSubmit();
		}`, []string{name, what}, nil)
	}
	said := func(all ...string) {
		t.Helper()
		d.wait(`(all) => [...document.querySelectorAll("#chat-list li")].map((li) => li.innerText).join("|") === all`, strings.Join(all, "|"))
	}

	session := ""
	d.wait(`() => document.querySelector("#edge-session").textContent.length > 10`, nil)
	session = text("edge-session")
	d.tab(1)
	d.open(d.node.url() + "/?view=client#demo") // another address of the same
	d.state("ws")
	d.wait(`(s) => document.querySelector("#edge-session").textContent === s`, session)
	d.wait(`() => document.querySelector("#edge-tabs").textContent === "2"`, nil)
	if holder := text("edge-holder"); holder != "a SharedWorker" {
		t.Errorf("the connection is held by %s, want the SharedWorker, which the page's policy has to allow", holder)
	}
	say("Ann", `<img src=x onerror="alert(1)">`)
	said(`Ann <img src=x onerror="alert(1)">`)
	d.tab(0)
	said(`Ann <img src=x onerror="alert(1)">`)
	say("Bob", "hello, Ann")
	said(`Ann <img src=x onerror="alert(1)">`, "Bob hello, Ann")
	d.more()
	d.tab(1)
	said(`Ann <img src=x onerror="alert(1)">`, "Bob hello, Ann")
	d.more()
	d.whole("the second tab")

	// What others publish is shown, read out now and then, and is no number.
	for channel, data := range map[string]string{"demo.chat": "by <b>curl</b>", "demo.numbers": "no number"} {
		if _, err := publish(t.Context(), httpClient(t, browserTime), d.node.url(), channel, "", data); err != nil {
			t.Fatal(err)
		}
	}
	said(`Ann <img src=x onerror="alert(1)">`, "Bob hello, Ann", "Somebody by <b>curl</b>")
	d.wait(`() => document.querySelector("#chat-heard").textContent.endsWith("Somebody: by <b>curl</b>")`, nil)
	if code := text("snippets"); !strings.Contains(code, "/publish/demo.chat'") {
		t.Errorf("snippets are %q, want them to publish to what is shown", code)
	}

	d.run(`() => { document.querySelector("#echo-start").click(); }`, nil, nil)
	d.wait(`() => document.querySelector("#echo-result").textContent.match(/[0-9.]+ ms/g)?.length === 3`, nil)
	d.tab(0)
	d.closeTab()
	d.wait(`() => document.querySelector("#edge-tabs").textContent === "1" && document.querySelector("#edge-source").textContent === "this tab"`, nil)
	d.more()
	d.whole("the tab that is left")
	if got := text("edge-session"); got != session {
		t.Errorf("session %s, want still %s", got, session)
	}
	d.shot("demo-dark.png", true, desktop)
	if noise := d.noise(); len(noise) > 0 {
		t.Errorf("the pages complained: %q", noise)
	}
}

// TestBrowserDemoIsUsable: all views by keyboard, on a phone, in the light and in the dark; everything has a name, and contrast.
func TestBrowserDemoIsUsable(t *testing.T) {
	t.Parallel()
	d := openDemo(t)
	for _, view := range []string{"client", "transports", "firehose"} {
		d.open(d.node.url() + "/?view=" + view)
		d.wait(`(v) => !document.getElementById(v).hidden`, view)
		if view == "client" {
			d.wait(`() => !document.getElementById("break").hidden`, nil)
		}
		// Every control is reached by Tab, in the order of the page, and shows that it has the focus.
		var want, got []string
		d.run(reachable, nil, &want)
		d.run(`() => { document.activeElement.blur(); window.scrollTo(0, 0); }`, nil, nil)
		for range len(want) + 5 {
			d.press("Tab")
			var at struct {
				Name    string
				Visible bool
			}
			d.run(`() => {
				const e = document.activeElement;
				return { name: e === document.body ? "" : e.dataset.walk ?? e.outerHTML.slice(0, 80), visible: e === document.body || getComputedStyle(e).outlineStyle !== "none" || e.type === "radio" };
			}`, nil, &at)
			if at.Name == "" {
				break
			}
			if !at.Visible {
				t.Errorf("%s: %s does not show that it has the focus", view, at.Name)
			}
			got = append(got, at.Name)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: Tab goes by %q, want %q", view, got, want)
		}
		for _, dark := range []bool{false, true} {
			for _, width := range []int{desktop, phone} {
				d.look(dark, width)
				var faults []string
				d.run(audit, nil, &faults)
				for _, f := range faults {
					t.Errorf("%s, dark %v, %d px: %s", view, dark, width, f)
				}
				if view == "client" && width == phone {
					d.shot(fmt.Sprintf("demo-phone-%s.png", map[bool]string{false: "light", true: "dark"}[dark]), dark, phone)
				}
			}
		}
		d.look(false, desktop)
	}
	if noise := d.noise(); len(noise) > 0 {
		t.Errorf("the page complained: %q", noise)
	}
}

// reachable marks what Tab has to reach, and returns the marks in the order of the page. Of the tabs and of each group of radio buttons
// it is the chosen one.
const reachable = `() => {
	const all = [...document.querySelectorAll("button, input, textarea, [tabindex]")].filter((e) => {
		if (!e.checkVisibility() || e.tabIndex < 0 || e.disabled) return false;
		return e.type !== "radio" || e.checked;
	});
	return all.map((e, i) => (e.dataset.walk = i + " " + (e.id || e.dataset.fault || e.ariaLabel || e.textContent.trim().slice(0, 30))));
}`

// audit looks for what keeps people out: controls without a name, text without contrast (WCAG 2.2 §1.4.3), a page that is wider than the
// window.
const audit = `() => {
	const faults = [];
	const shown = (e) => e.checkVisibility() && e.getClientRects().length > 0;
	if (document.documentElement.scrollWidth > innerWidth) faults.push("it is " + document.documentElement.scrollWidth + " px wide");
	for (const e of document.querySelectorAll("button, input, textarea, progress, canvas, [role=region], [role=log], [role=group], [role=tabpanel], section")) {
		if (!shown(e) || e.ariaHidden === "true") continue;
		const by = e.getAttribute("aria-labelledby");
		const name = e.ariaLabel || (by && document.getElementById(by)?.textContent) || e.labels?.[0]?.textContent || (e.tagName === "BUTTON" && e.textContent);
		if (!name?.trim()) faults.push(e.outerHTML.slice(0, 80) + " has no name");
	}
	const rgb = (text) => {
		const [r, g, b, a = 1] = text.match(/[0-9.]+/g).map(Number);
		return { r, g, b, a };
	};
	const light = ({ r, g, b }) => {
		const [x, y, z] = [r, g, b].map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
		return 0.2126 * x + 0.7152 * y + 0.0722 * z;
	};
	const ground = (e) => {
		for (; e; e = e.parentElement) {
			const c = rgb(getComputedStyle(e).backgroundColor);
			if (c.a === 1) return c;
		}
		return { r: 255, g: 255, b: 255 };
	};
	const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
	for (let node; (node = walker.nextNode()); ) {
		const e = node.parentElement;
		if (!node.data.trim() || !shown(e) || e.closest(".unseen, script, noscript, :disabled, [aria-disabled=true], .cells")) continue;
		const s = getComputedStyle(e);
		const [a, b] = [light(rgb(s.color)), light(ground(e))].sort((x, y) => y - x);
		const ratio = (a + 0.05) / (b + 0.05);
		const large = parseFloat(s.fontSize) >= 24 || (parseFloat(s.fontSize) >= 18.66 && s.fontWeight >= 700);
		if (ratio < (large ? 3 : 4.5)) faults.push("contrast " + ratio.toFixed(2) + " of " + JSON.stringify(node.data.trim().slice(0, 40)));
	}
	return faults;
}`

// TestBrowserDemoAlone: a node that is not for development has the page without what breaks it.
func TestBrowserDemoAlone(t *testing.T) {
	t.Parallel()
	b := startBrowser(t)
	n := startNode(t, "A", "--dev=false", "--demo", "--jwt-secret", strings.Repeat("s", 32))
	b.open(n.url() + "/")
	b.wait(`() => document.querySelector("#edge-log").innerText.includes("unauthorized")`, nil)
	var hidden bool
	b.run(`() => document.querySelector("#break").hidden`, nil, &hidden)
	if !hidden {
		t.Error("the page offers to break a node that can't be broken")
	}
}
