package e2e

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// TestBrowserComesBack: a native EventSource, with no library and no code of its own for it, misses
// and repeats nothing while its node is killed, stopped and started again.
func TestBrowserComesBack(t *testing.T) {
	t.Parallel()
	b := startBrowser(t)
	r := newRig(t, nil, 1, "--retry", "200ms", "--drain-time", "100ms")
	n := r.nodes[0]
	b.open(n.url() + "/healthz")
	b.run(`() => {
		window.got = [];
		window.opened = 0;
		window.source = new EventSource("/sse?channel=news");
		source.addEventListener("open", () => opened++);
		source.addEventListener("message", (e) => got.push(e.data));
		source.addEventListener("gap", (e) => got.push("gap " + e.data));
		return new Promise((resolve) => source.addEventListener("welcome", () => resolve(), { once: true }));
	}`, nil, nil)
	var want []string
	send := func(count int) {
		for range count {
			data := fmt.Sprintf("m%d", len(want))
			if _, err := r.redis.fcall(r.ctx, "news", "", data); err != nil {
				t.Fatal(err)
			}
			want = append(want, data)
		}
	}
	all := func() { t.Helper(); b.wait(`(n) => got.length >= n`, len(want)) }
	for _, stop := range []func(){
		n.kill,
		func() { n.signal(syscall.SIGTERM); n.wait(10e9) },
		n.kill,
	} {
		send(20)
		all()
		stop()
		send(50) // nobody is there
		n.restart()
		all()
	}
	send(5)
	all()
	var got []string
	b.run(`() => got`, nil, &got)
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	var opened, state int
	b.run(`() => opened`, nil, &opened)
	b.run(`() => source.readyState`, nil, &state)
	if opened < 4 || state != 1 {
		t.Errorf("the stream was opened %d times and is in state %d, want 4 and 1", opened, state)
	}
}

// TestBrowserPayloads: what a page sees of payloads that break naive servers (docs/protocol.md).
func TestBrowserPayloads(t *testing.T) {
	t.Parallel()
	b := startBrowser(t)
	n := startNode(t, "A")
	c := httpClient(t, browserTime)
	payloads := []struct{ name, data string }{
		{"empty", ""},
		{"one space", " "},
		{"leading space", " x"},
		{"leading colon", ": x"},
		{"LF", "a\nb"},
		{"CR", "a\rb"},
		{"CR LF", "a\r\nb"},
		{"LF CR", "a\n\rb"},
		{"ends in CR LF", "a\r\n"},
		{"only line ends", "\n\r\r\n\n"},
		{"blank line inside", "a\n\nb"},
		{"data field", "data: x\ndata:y\n\nevent: z"},
		{"id field", "id: 1\nid: forged\n\n"},
		{"id after CR", "a\rid: forged\r\rb"},
		{"retry field", "x\nretry: 1"},
		{"BOM", "\ufeffx"},
		{"BOM inside", "a\n\ufeffb"},
		{"U+2028 and U+2029", "a\u2028b\u2029c"},
		{"U+0085 and VT", "a\u0085b\vc\fd"},
		{"NUL", "a\x00b"},
		{"controls", "\x01\x02\x1b[31m\x7f"},
		{"beyond the BMP", "😀𝕏"},
		{"noncharacter", "\uffff\U0010ffff"},
		{"truncated UTF-8", "ab\xe2\x82"},
		{"surrogate as UTF-8", "\xed\xa0\x80"},
		{"overlong", "\xc0\xaf"},
		{"every byte", everyByte()},
		{"quotes and HTML", `"\</script><!--`},
		{"1 MiB", strings.Repeat("0123456789abcdef", 1<<16)},
		{"1 MiB of lines", strings.Repeat("0123456789abcd\r\n", 1<<16)},
	}
	b.open(n.url() + "/healthz")
	b.run(`() => {
		window.sse = [];
		window.plain = [];
		window.json = [];
		const base64 = (bytes) => btoa(Array.from(bytes, (x) => String.fromCharCode(x)).join(""));
		const source = new EventSource("/sse?channel=c");
		source.addEventListener("message", (e) => sse.push(e.data));
		const bare = new WebSocket(location.origin.replace("http", "ws") + "/ws?channel=c");
		bare.binaryType = "arraybuffer";
		bare.onmessage = (e) => plain.push(typeof e.data === "string" ? ["text", e.data] : ["binary", base64(new Uint8Array(e.data))]);
		bare.onclose = (e) => plain.push(["closed", e.code + " " + e.reason]);
		const full = new WebSocket(location.origin.replace("http", "ws") + "/ws?channel=c", "sluice.v1.json");
		full.onclose = (e) => json.push(["closed", e.code + " " + e.reason]);
		return Promise.all([
			new Promise((resolve) => source.addEventListener("welcome", resolve, { once: true })),
			new Promise((resolve) => bare.addEventListener("open", resolve, { once: true })),
			new Promise((resolve) => {
				full.onmessage = (e) => {
					const m = JSON.parse(e.data);
					if (m.type === "welcome") resolve();
					if (m.type === "message") json.push("data64" in m ? ["binary", m.data64] : ["text", m.data]);
				};
			}),
		]).then(() => null);
	}`, nil, nil)
	send := func(data string) {
		t.Helper()
		if _, err := publish(t.Context(), c, n.url(), "c", "", data); err != nil {
			t.Fatal(err)
		}
	}
	// Nothing tells when a plain WebSocket has joined, so it is asked again until it has.
	for joined := false; !joined; b.run(`() => plain.length > 0`, nil, &joined) {
		send("probe")
	}
	send("start")
	for _, list := range []string{"sse", "plain", "json"} {
		b.wait(`(list) => window[list].some((x) => x === "start" || x[1] === "start")`, list)
		b.run(`(list) => { window[list].length = 0; }`, list, nil)
	}
	for i, p := range payloads {
		send(p.data)
		var got struct {
			SSE         string
			Plain, JSON []string
		}
		b.wait(`(n) => sse.length >= n && plain.length >= n && json.length >= n`, i+1)
		b.run(`(i) => ({ sse: sse[i], plain: plain[i], json: json[i] })`, i, &got)
		if want := throughEventSource(p.data); got.SSE != want {
			t.Errorf("%s: EventSource got %.80q (%d bytes), want %.80q (%d bytes)", p.name, got.SSE, len(got.SSE), want, len(want))
		}
		want := []string{"text", p.data}
		if strings.ToValidUTF8(p.data, "") != p.data {
			want = []string{"binary", base64.StdEncoding.EncodeToString([]byte(p.data))}
		}
		if !slices.Equal(got.Plain, want) {
			t.Errorf("%s: plain WebSocket got %.80q, want %.80q", p.name, got.Plain, want)
		}
		if !slices.Equal(got.JSON, want) {
			t.Errorf("%s: %s got %.80q, want %.80q", p.name, subprotocol, got.JSON, want)
		}
		if strings.HasPrefix(got.SSE, "data:application/octet-stream") {
			var back string
			b.run(`(url) => fetch(url).then((r) => r.arrayBuffer()).then((a) => Array.from(new Uint8Array(a), (x) => x.toString(16).padStart(2, "0")).join(""))`, got.SSE, &back)
			if want := fmt.Sprintf("%x", p.data); back != want {
				t.Errorf("%s: fetch() of the data URL gave %s, want %s", p.name, back, want)
			}
		}
	}
	if noise := b.noise(); len(noise) > 0 {
		t.Errorf("the page complained: %q", noise)
	}
}

func everyByte() string {
	b := make([]byte, 256)
	for i := range b {
		b[i] = byte(i)
	}
	return string(b)
}

// TestBrowserDemoPage publishes from the demo page and sees it come back by both transports, without a library.
func TestBrowserDemoPage(t *testing.T) {
	t.Parallel()
	b := startBrowser(t)
	n := startNode(t, "A")
	b.open(n.url() + "/?view=transports")
	for _, transport := range []string{"sse", "ws"} {
		b.wait(`(id) => document.querySelector("#" + id + " [data-part=badge]").dataset.state === "open"`, transport)
	}
	for i, data := range []string{"Hello, both of you", `<img src=x onerror="alert(1)">`, "two\nlines"} {
		b.run(`(text) => {
			document.querySelector("#payload").value = text;
			document.querySelector("#publish").click();
		}`, data, nil)
		for _, transport := range []string{"sse", "ws"} {
			b.wait(`({ id, text, n }) => {
				const rows = document.querySelectorAll("#" + id + " [data-part=messages] li");
				return rows.length === n && rows[0].textContent.includes(text);
			}`, map[string]any{"id": transport, "text": data, "n": i + 1})
		}
	}
	b.run(`() => {
		document.querySelector("#burst-rate").value = 100;
		document.querySelector("#burst-seconds").value = 3;
		document.querySelector("#burst-form").requestSubmit();
	}`, nil, nil)
	for _, transport := range []string{"sse", "ws"} {
		b.wait(`(id) => document.querySelector("#" + id + " [data-part=count]").textContent === "303"`, transport)
	}
	b.shot("plain-light.png", false, desktop)
	b.shot("plain-dark.png", true, desktop)
	if noise := b.noise(); len(noise) > 0 {
		t.Errorf("the page complained: %q", noise)
	}
}
