package e2e

import (
	"slices"
	"testing"
)

// TestBrowserFirehose: the firehose of the demo page, judged by a socket beside it that gets everything. Whatever
// its controls are set to, and by whatever transport, the grid ends at the last values; and where nothing
// is dropped on purpose, each message has come once.
func TestBrowserFirehose(t *testing.T) {
	t.Parallel()
	b := startBrowser(t)
	n := startNode(t, "A")
	b.open(n.url() + "/#prices")
	b.run(watchFirehose, "prices", nil)
	b.run(`() => {
		const tab = document.querySelector("#transports-tab");
		tab.focus();
		tab.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight", bubbles: true }));
	}`, nil, nil)
	told := func(what string) { t.Helper(); b.wait(`(what) => test.told() === what`, what) }
	set := func(control, value string) {
		t.Helper()
		b.run(`(args) => test.set(...args)`, []string{control, value}, nil)
	}
	startStop := func() { t.Helper(); b.run(`() => document.querySelector("#hose-start").click()`, nil, nil) }
	told("SSE: conflate key · rate 5/s")
	var view struct{ Search, Focus, Other string }
	b.run(`() => ({ search: location.search, focus: document.activeElement.id, other: document.querySelector("#sse [data-part=badge]").dataset.state })`, nil, &view)
	if view.Search != "?view=firehose" || view.Focus != "firehose-tab" || view.Other != "closed" {
		t.Errorf("got %+v, want the firehose, its tab with the focus, and the other view disconnected", view)
	}

	startStop()
	b.wait(`() => test.number("hose-received-more") >= 500 && test.number("hose-skipped-more") >= 500`, nil)
	var largest int
	b.run(`() => test.number("hose-deliveries-more")`, nil, &largest)
	if largest < 1 || largest > 50 {
		t.Errorf("conflated by 50 keys, and the largest delivery had %d messages", largest)
	}
	b.shot("firehose-light.png", false, desktop)
	b.shot("firehose-dark.png", true, desktop)
	b.shot("firehose-phone-light.png", false, phone)
	b.shot("firehose-phone-dark.png", true, phone)
	startStop()
	b.wait(`() => test.wrong().length === 0`, nil)

	// Each of these changes is made while messages are held back, and nothing comes after it: what is lost then stays lost.
	set("hose-publish", "600")
	more := func() {
		t.Helper()
		b.run(`() => { test.mark = all.count; }`, nil, nil)
		b.wait(`() => all.count >= test.mark + 100`, nil)
	}
	for _, c := range []struct{ control, value, told string }{
		{"hose-rate", "2", "SSE: conflate key · rate 2/s"},
		{"hose-batch", "4", "SSE: conflate key · rate 2/s · batch 100ms"},
		{"transport", "ws", "WebSocket: conflate key · rate 2/s · batch 100ms"},
		{"hose-rate", "4", "WebSocket: conflate key · rate 4/s · batch 100ms"},
		{"hose-batch", "0", "WebSocket: conflate key · rate 4/s"},
		{"conflate", "none", "WebSocket: rate 4/s"},
		{"conflate", "key", "WebSocket: conflate key · rate 4/s"},
		{"transport", "sse", "SSE: conflate key · rate 4/s"},
		{"conflate", "none", "SSE: rate 4/s"},
	} {
		startStop()
		more()
		b.run(`(args) => { test.set(...args); document.querySelector("#hose-start").click(); }`, []string{c.control, c.value}, nil)
		told(c.told)
		b.wait(`() => test.wrong().length === 0`, nil)
	}

	// These are made while it runs on, and stored messages are among the live ones.
	b.run(`() => { document.querySelector("#channel-form").requestSubmit(); all.count = 0; }`, nil, nil) // count anew
	told("SSE: rate 4/s")
	for _, c := range []struct{ control, value, told string }{
		{"hose-rate", "3", "SSE: rate 3/s"},
		{"hose-batch", "6", "SSE: rate 3/s · batch 500ms"},
		{"hose-rate", "0", "SSE: batch 500ms"},
		{"transport", "ws", "WebSocket: batch 500ms"},
		{"hose-rate", "3", "WebSocket: rate 3/s · batch 500ms"},
		{"hose-batch", "0", "WebSocket: rate 3/s"},
		{"hose-rate", "0", "WebSocket: everything, as it comes"},
		{"transport", "sse", "SSE: everything, as it comes"},
		{"hose-batch", "4", "SSE: batch 100ms"},
		{"hose-filter", "data.price >= 0", "SSE: filter data.price >= 0 · batch 100ms"}, // true for all
		{"hose-filter", "", "SSE: batch 100ms"},
	} {
		startStop()
		more()
		b.run(`(args) => test.store().then(() => { test.set(...args); test.store(); })`, []string{c.control, c.value}, nil)
		told(c.told)
		more()
		startStop()
		b.wait(`() => test.number("hose-received-more") === all.count && test.wrong().length === 0`, nil)
	}

	set("transport", "ws")
	told("WebSocket: batch 100ms")
	set("hose-filter", "data.price >")
	b.wait(`() => document.querySelector("#hose-trouble").textContent.startsWith("bad_delivery")`, nil)
	told("WebSocket: batch 100ms")
	set("hose-filter", `key == "AARE"`)
	told(`WebSocket: filter key == "AARE" · batch 100ms`)
	b.wait(`() => document.querySelector("#hose-trouble").textContent === ""`, nil)

	b.run(`() => document.querySelector("#transports-tab").click()`, nil, nil)
	for _, transport := range []string{"sse", "ws"} {
		b.wait(`(id) => document.querySelector("#" + id + " [data-part=badge]").dataset.state === "open"`, transport)
	}
	b.run(`() => history.back()`, nil, nil)
	told(`WebSocket: filter key == "AARE" · batch 100ms`)
	if noise := b.noise(); len(noise) > 0 {
		t.Errorf("the page complained: %q", noise)
	}
}

// TestBrowserFirehoseAtItsLimit: a node that takes few commands refuses some of a slider's; what is tried again is
// the newest wish, never one that it has replaced.
func TestBrowserFirehoseAtItsLimit(t *testing.T) {
	t.Parallel()
	b := startBrowser(t)
	n := startNode(t, "A", "--client-command-rate", "1", "--client-command-burst", "2")
	b.open(n.url() + "/?view=firehose#prices")
	b.run(watchFirehose, "prices", nil)
	b.run(`() => {
		window.asked = [];
		const send = WebSocket.prototype.send;
		WebSocket.prototype.send = function (text) {
			asked.push(JSON.parse(text).rate);
			send.call(this, text);
		};
		test.set("transport", "ws");
	}`, nil, nil)
	told := func(what string) { t.Helper(); b.wait(`(what) => test.told() === what`, what) }
	told("WebSocket: conflate key · rate 5/s")
	for _, rate := range []string{"1", "2", "3", "4", "6", "7", "8"} {
		b.run(`(rate) => test.set("hose-rate", rate)`, rate, nil)
		b.wait(`(rate) => asked.includes(rate)`, rate+"/s") // a slider that rests for a moment
	}
	told("WebSocket: conflate key · rate 8/s")
	var asked []string
	b.run(`() => asked`, nil, &asked)
	if newest := asked[slices.Index(asked, "8/s"):]; slices.ContainsFunc(newest, func(rate string) bool { return rate != "8/s" }) {
		t.Errorf("asked for %q: what was asked for before 8/s came after it", asked)
	}
	if len(asked) == 8 {
		t.Errorf("asked for %q: nothing was refused, so nothing was tried again", asked)
	}
	if noise := b.noise(); len(noise) > 0 {
		t.Errorf("the page complained: %q", noise)
	}
}

// watchFirehose listens to a channel beside the page: all has the number of messages, and the last price of each
// key. test reads the page and works its controls as a person would.
const watchFirehose = `(channel) => {
	const $ = (id) => document.getElementById(id);
	window.all = { count: 0, last: new Map() };
	window.test = {
		told: () => ($("hose-state").dataset.state === "open" ? $("hose-told").textContent : ""),
		number: (id) => Number($(id).textContent.replaceAll(",", "")),
		wrong: () => [...all.last].filter(([key, price]) => $("hose-grid").querySelector("[data-key=" + key + "] .price").textContent !== price),
		set: (name, value) => {
			const control = $(name) ?? document.querySelector("input[name=" + name + "][value=" + value + "]");
			if (control.type === "radio") {
				control.click();
				return;
			}
			control.value = value;
			control.dispatchEvent(new Event("input", { bubbles: true }));
		},
		store: () => fetch("/publish", {
			method: "POST",
			headers: { "Content-Type": "application/json" },
			body: JSON.stringify(Array.from({ length: 20 }, (_, i) => ({ channel, key: "AARE", data: { price: i } }))),
		}).then(() => null),
	};
	const socket = new WebSocket(location.origin.replace("http", "ws") + "/ws?channel=" + channel, "sluice.v1.json");
	return new Promise((resolve) => {
		socket.onmessage = (e) => {
			const m = JSON.parse(e.data);
			if (m.type === "welcome") resolve();
			if (m.type !== "message") return;
			all.count++;
			all.last.set(m.key, JSON.parse(m.data).price.toFixed(2));
		};
	});
}`
