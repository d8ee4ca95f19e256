// The demo page: one channel; the client library, two transports without it, side by side, or the firehose. This file wires the parts together.

import { Chart } from "./demo-chart.js";
import { EdgeView, under } from "./demo-edge.js";
import { SSEFeed, WSFeed } from "./demo-feed.js";
import { messageList, milliseconds, noteList } from "./demo-list.js";
import { Meter } from "./demo-meter.js";
import { burst, now, publish, stamp, unstamp } from "./demo-publish.js";
import { Snippets } from "./demo-snippets.js";
import { Tabs } from "./demo-tabs.js";
import { Firehose } from "./firehose.js";

const $ = (id) => document.getElementById(id);
const CHANNEL = /^[A-Za-z0-9_.:/@~-]{1,200}$/;
const DEFAULT_CHANNEL = "demo";
const still = matchMedia("(prefers-reduced-motion: reduce)");

let channel = "";
let view = "";
let paused = false;
let listened = ""; // the channel that the panels have begun to listen to

/** Panel is one transport's card: it hears a feed and paints once a frame at most. */
class Panel {
  constructor(root, Feed) {
    const part = (name) => root.querySelector(`[data-part=${name}]`);
    this.parts = Object.fromEntries(["badge", "toggle", "count", "rate", "p50", "p99", "reconnects"].map((n) => [n, part(n)]));
    this.messages = messageList(part("messages"));
    this.notes = noteList(part("log"));
    this.feed = new Feed({
      state: (state) => this.setState(state),
      opened: (again) => this.opened(again),
      message: (event, data, bytes) => this.message(event, data, bytes),
      note: (kind, text) => this.note(kind, text),
      ended: () => this.want(false),
    });
    this.wanted = true; // false once the user has disconnected
    this.parts.toggle.addEventListener("click", () => this.toggle());
    this.reset();
  }

  reset() {
    this.meter = new Meter();
    this.reconnects = 0;
    this.last = 0; // when the last message came, by now()
    this.messages.clear();
    this.notes.clear();
    this.parts.reconnects.textContent = "0";
    this.tick(now());
  }

  listen(name) {
    this.reset();
    this.want(true);
    this.feed.listen(name);
  }

  /** rest lets go of the connection while the panel is not shown; wake takes it up again. */
  rest() {
    if (this.wanted) this.feed.disconnect();
  }

  wake() {
    if (this.wanted) this.feed.connect();
  }

  toggle() {
    this.want(!this.wanted);
    if (this.wanted) {
      this.feed.connect();
      return;
    }
    this.feed.disconnect();
    this.note("closed", "by you");
  }

  want(wanted) {
    this.wanted = wanted;
    this.parts.toggle.textContent = wanted ? "Disconnect" : "Connect";
  }

  setState(state) {
    if (this.parts.badge.dataset.state === state) return;
    this.parts.badge.dataset.state = state;
    this.parts.badge.textContent = state;
  }

  opened(again) {
    if (!again) return;
    this.reconnects++;
    this.parts.reconnects.textContent = String(this.reconnects);
  }

  message(event, data, bytes) {
    const ms = now();
    const own = bytes === undefined ? unstamp(data) : null;
    const latency = own ? Math.max(0, ms - own.sent) : undefined;
    this.meter.add(ms, latency);
    this.last = ms;
    this.messages.push({ time: ms, event, data: own ? own.body : data, bytes, latency });
    schedule();
  }

  note(kind, text) {
    this.notes.push({ time: now(), kind, text });
    schedule();
  }

  /** paint writes what came since the last frame and reports whether some is held back. */
  paint(ms) {
    this.parts.count.textContent = this.meter.total.toLocaleString("en");
    const notes = this.notes.flush(ms);
    return paused ? notes : this.messages.flush(ms) || notes;
  }

  /** tick writes what is counted by the second. */
  tick(ms) {
    this.parts.count.textContent = this.meter.total.toLocaleString("en");
    this.parts.rate.textContent = `${this.meter.at(Math.floor(ms / 1000) - 1).count.toLocaleString("en")}/s`;
    const { p50, p99 } = this.meter.latency(ms);
    this.parts.p50.textContent = p50 === null ? "–" : milliseconds(p50);
    this.parts.p99.textContent = p99 === null ? "–" : milliseconds(p99);
  }
}

const sse = new Panel($("sse"), SSEFeed);
const ws = new Panel($("ws"), WSFeed);
const panels = [sse, ws];
const edge = new EdgeView();
const firehose = new Firehose();
const snippets = new Snippets($("snippets"), $("copy-result"));

const rateChart = new Chart($("rate-chart"), {
  low: 10,
  label: (n) => (n >= 1000 ? `${n / 1000}k` : String(n)),
  series: [
    { color: "--sse", width: 3, fill: 0.12, value: (s) => sse.meter.at(s).count },
    { color: "--ws", width: 1.5, value: (s) => ws.meter.at(s).count },
  ],
});
const latencyChart = new Chart($("latency-chart"), {
  low: 2,
  label: (n) => (n >= 1000 ? `${n / 1000} s` : `${n} ms`),
  series: [
    { color: "--sse", width: 1.5, dash: [4, 3], value: (s) => sse.meter.at(s).p99 },
    { color: "--ws", width: 1.5, dash: [4, 3], value: (s) => ws.meter.at(s).p99 },
    { color: "--sse", width: 3, value: (s) => sse.meter.at(s).p50 },
    { color: "--ws", width: 1.5, value: (s) => ws.meter.at(s).p50 },
  ],
});

// Painting: messages only mark the page dirty; one frame writes whatever came. The charts move on
// their own while there is something to move, and only once a second for those who want no motion.
const CHART_MS = 65000; // a message has left the chart after that
const CHART_INTERVAL = 30; // milliseconds; lines that move a pixel in 200 ms need no 60 frames a second,
const CHART_BUSY = 250; // and even fewer while a firehose needs the time
let scheduled = false;
let drawn = 0;

function schedule() {
  if (scheduled) return;
  scheduled = true;
  requestAnimationFrame(frame);
}

function frame(ms) {
  scheduled = false;
  let more = false;
  for (const panel of panels) more = panel.paint(ms) || more;
  const moving = view === "transports" && !paused && !still.matches && panels.some((p) => now() - p.last < CHART_MS);
  if (moving && ms - drawn >= (more ? CHART_BUSY : CHART_INTERVAL)) {
    drawn = ms;
    drawCharts();
  }
  if (more || moving) schedule();
}

function drawCharts() {
  const ms = still.matches ? Math.floor(now() / 1000) * 1000 : now();
  rateChart.draw(ms);
  latencyChart.draw(ms);
}

function tick() {
  const ms = now();
  for (const panel of panels) panel.tick(ms);
  if (!paused && view === "transports") {
    drawCharts();
    describeCharts();
  }
  setTimeout(tick, 1000 - (now() % 1000) + 5); // just after the second is complete
}

// A canvas says nothing to those who can't see it.
function describeCharts() {
  const text = (name) => panels.map((p, i) => `${["SSE", "WebSocket"][i]} ${p.parts[name].textContent}`).join(", ");
  $("rate-chart").ariaLabel = `Messages per second over the last minute. Now: ${text("rate")}`;
  $("latency-chart").ariaLabel = `Latency from publish to page over the last minute. Median: ${text("p50")}; p99: ${text("p99")}`;
}

// The channel lives in the address, so that a page can be sent to someone.
function channelOfHash() {
  try {
    return decodeURIComponent(location.hash.slice(1));
  } catch {
    return location.hash.slice(1);
  }
}

function listen(name) {
  channel = name;
  document.title = `${name} · Sluice`;
  $("channel").value = name;
  listened = "";
  listenHere();
}

// Only what is shown has connections: browsers grant few of them, and the firehose would drown the lists.
function listenHere() {
  snippets.write(view === "client" ? under(channel, "chat") : channel); // so that it is seen here
  if (view === "firehose") return firehose.show(channel);
  if (view === "client") return edge.show(channel);
  if (listened !== channel) for (const panel of panels) panel.listen(channel);
  else for (const panel of panels) panel.wake();
  listened = channel;
}

function show(name) {
  if (view === "firehose") firehose.hide();
  else if (view === "client") edge.hide();
  else if (view) for (const panel of panels) panel.rest();
  view = name;
  $("snippets").hidden = view === "firehose"; // which has its own
  if (channel) listenHere();
}

function followHash() {
  const name = channelOfHash();
  if (channel && name === channel) return;
  if (CHANNEL.test(name)) {
    listen(name);
    return;
  }
  history.replaceState(null, "", `#${channel || DEFAULT_CHANNEL}`);
  if (!channel) listen(DEFAULT_CHANNEL);
}

$("channel-form").addEventListener("submit", (e) => {
  e.preventDefault();
  const name = $("channel").value;
  if (name === channel) listen(name);
  else location.hash = name; // followHash does the rest
});
window.addEventListener("hashchange", followHash);

$("pause").addEventListener("click", () => {
  paused = !paused;
  $("pause").setAttribute("aria-pressed", String(paused));
  edge.pause(paused);
  firehose.pause(paused);
  schedule();
});

// Publishing
function options() {
  return { event: $("event").value.trim(), live: $("live").checked };
}

function say(output, kind, ...parts) {
  output.dataset.kind = kind;
  output.replaceChildren(...parts);
}

function code(text) {
  const c = document.createElement("code");
  c.textContent = text;
  return c;
}

$("event").addEventListener("change", () => sse.feed.hear(options().event));

$("publish-form").addEventListener("submit", async (e) => {
  e.preventDefault();
  const text = $("payload").value;
  const o = options();
  const output = $("publish-result");
  sse.feed.hear(o.event);
  $("publish").disabled = true;
  const start = performance.now();
  try {
    const { position, duplicate } = await publish(channel, $("stamp").checked ? stamp(text) : text, o);
    const took = ` in ${milliseconds(performance.now() - start)}`;
    if (position) say(output, "ok", duplicate ? "Known already, at " : "Stored at ", code(position), took);
    else say(output, "ok", `Sent live${took}; no position`);
  } catch (err) {
    say(output, "bad", err.message);
  }
  $("publish").disabled = false;
});

$("payload").addEventListener("keydown", (e) => {
  if (e.key !== "Enter" || !(e.ctrlKey || e.metaKey)) return;
  e.preventDefault();
  if (!$("publish").disabled) $("publish-form").requestSubmit();
});

let running = null; // the AbortController of the burst that runs

$("burst-form").addEventListener("submit", async (e) => {
  e.preventDefault();
  if (running) {
    running.abort();
    return;
  }
  running = new AbortController();
  const o = { ...options(), rate: $("burst-rate").valueAsNumber, seconds: $("burst-seconds").valueAsNumber, signal: running.signal };
  const output = $("burst-result");
  let done = 0;
  sse.feed.hear(o.event);
  $("burst").textContent = "Stop";
  $("burst-progress").value = 0;
  say(output, "", `${o.rate * o.seconds} messages in ${o.seconds} s …`);
  try {
    let errors = 0, error;
    await burst(channel, o, (sent, failed, total, problem) => {
      done = sent;
      errors = failed;
      error = problem ?? error;
      $("burst-progress").value = sent / total;
    });
    if (errors) say(output, "bad", `${errors} of ${done} failed; the last with ${error.code}: ${error.detail}`);
    else say(output, "ok", `${done.toLocaleString("en")} published`);
  } catch (err) {
    if (err.name === "AbortError") say(output, "", `Stopped after ${done}`);
    else say(output, "bad", err.message);
  }
  running = null;
  $("burst").textContent = "Start";
});

new Tabs($("tabs"), show).follow();
followHash();
tick();
