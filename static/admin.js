// The page for operators: what the admin API of this node tells, live. It only reads, but for one button.

import { ask, Poll } from "./admin-ask.js";
import { age, bytes, largest, number, Past, quantile, sum } from "./admin-figures.js";
import { Histogram, latency } from "./admin-histogram.js";
import { Share, Spark } from "./admin-spark.js";
import { Channels, Sessions } from "./admin-tables.js";

const $ = (id) => document.getElementById(id);

const past = new Past();
const SHORT = 3; // seconds, over which a rate is told

// What a tile shows: its value, the line below, and what its spark draws of the last minute.
const total = (name) => (stats) => sum(stats[name]);
const perWrite = (then, now) => {
  const writes = sum(now.carrying) - sum(then.carrying);
  return writes > 0 ? (sum(now.deliveries) - sum(then.deliveries)) / writes : null;
};
const tiles = {
  deliveries: { rate: total("deliveries"), more: (s) => `${number(sum(s.deliveries))} in all` },
  writes: { rate: total("writes"), more: (s) => `${number(sum(s.writes))} in all` },
  bytes: { rate: total("bytes"), write: bytes, more: (s) => `${bytes(sum(s.bytes))} in all` },
  publishes: { rate: total("publishes"), more: () => `received ${number(past.rate(total("received"), SHORT))}/s` },
  dropped: { rate: total("dropped"), more: (s) => largest(s.dropped, 2) || "nothing yet" },
};
const levels = { subscriptions: (s) => sum(s.subscriptions), channels: (s) => s.channels, gaps: (s) => sum(s.gaps) };
const sparks = Object.fromEntries([...Object.keys(tiles), ...Object.keys(levels), "density"].map((name) => [name, new Spark($(`${name}-spark`))]));
const share = new Share($("sessions-share"));
const histogram = new Histogram($("latency"));
const sessions = new Sessions($("sessions-body"), { disconnect: askFirst, copy });
const channels = new Channels($("channels-body"));

const polls = [
  new Poll(1000, look),
  new Poll(2000, list),
];

async function look() {
  try {
    past.add(await ask("/admin/stats"));
  } catch (e) {
    stale(e);
    return;
  }
  document.body.classList.remove("stale");
  const s = past.now;
  badge(s);
  counts(s);
  for (const [name, tile] of Object.entries(tiles)) {
    const rate = past.rate(tile.rate, SHORT);
    $(name).textContent = rate === null ? "–" : `${(tile.write ?? number)(rate)}/s`;
    $(`${name}-more`).textContent = tile.more(s);
    sparks[name].draw(past.rates(tile.rate, 60));
  }
  for (const [name, read] of Object.entries(levels)) sparks[name].draw(past.values(read, 60));
  const then = past.before(SHORT);
  $("density").textContent = number(then && perWrite(then, s));
  sparks.density.draw(past.pairs(perWrite, 60));
  drawLatency();
}

// badge tells how the node is, in a word; what is wrong goes below the head.
function badge(s) {
  const state = s.draining ? ["draining", "connecting"] : s.ready ? ["ready", "open"] : ["not ready", "closed"];
  show("ready", state[0]);
  $("ready").dataset.state = state[1];
  $("node").textContent = `${location.host} · ${s.version} · up ${age(s.uptime)}`;
  const wrong = [];
  if (s.draining) wrong.push("This node is shutting down: its clients are being sent to other nodes.");
  else if (!s.ready) wrong.push("A message that was published to the backend did not come back within a second. Clients stay connected; what is stored will come when the backend is back.");
  show("wrong", [...wrong, ...(s.notes ?? [])].join("\n"));
}

function counts(s) {
  const by = (transport) => sum(s.sessions.filter((f) => f.transport === transport).map((f) => f.count));
  const [sse, ws, poll] = [by("sse"), by("ws"), by("poll")];
  $("sessions").textContent = number(sse + ws + poll);
  $("sessions-more").textContent = `SSE ${number(sse)} · WS ${number(ws)}${poll > 0 ? ` · polls ${number(poll)}` : ""}`;
  share.draw(sse, ws);
  $("subscriptions").textContent = number(sum(s.subscriptions));
  $("subscriptions-more").textContent = `SSE ${number(s.subscriptions.sse)} · WS ${number(s.subscriptions.ws)}`;
  $("channels").textContent = number(s.channels);
  $("channels-more").textContent = `room for ${number(s.max_sessions - sse - ws - poll)} sessions`;
  $("gaps").textContent = number(sum(s.gaps));
  $("gaps-more").textContent = largest(s.gaps, 2) || "none told";
  $("closes").textContent = largest(s.closes, 4) || "none";
}

function drawLatency() {
  const s = past.now;
  const window = Number(document.querySelector("input[name=window]:checked").value);
  const { by } = past.histogram("publish_to_write", window);
  histogram.draw(by, s.bounds);
  const queue = past.histogram("queue", window).by;
  for (const transport of ["sse", "ws"]) {
    const [ages, waits] = [by[transport] ?? [], queue[transport] ?? []];
    $(`${transport}-n`).textContent = number(sum(ages));
    $(`${transport}-p50`).textContent = latency(quantile(ages, s.bounds, 0.5));
    $(`${transport}-p99`).textContent = latency(quantile(ages, s.bounds, 0.99));
    $(`${transport}-queue`).textContent = latency(quantile(waits, s.bounds, 0.99));
  }
  $("unmeasured").hidden = s.measured;
}

async function list() {
  const sort = $("sort").value;
  const transport = $("transport").value;
  try {
    const query = new URLSearchParams({ limit: 20, sort, ...(transport && { transport }) });
    const found = await ask(`/admin/sessions?${query}`);
    sessions.show(found.sessions, Date.now());
    $("sessions-shown").textContent = found.total === 0 ? "" : `${found.sessions.length} of ${number(found.total)}`;
    $("sessions-none").hidden = found.total > 0;
    const busiest = await ask("/admin/channels?limit=15");
    channels.show(busiest.channels, Date.now());
    $("channels-shown").textContent = busiest.total === 0 ? "" : `${busiest.channels.length} of ${number(busiest.total)}`;
    $("channels-none").hidden = busiest.total > 0;
  } catch (e) {
    stale(e);
  }
}

// stale marks what is on the page as old: the node does not answer.
function stale(e) {
  document.body.classList.add("stale");
  show("ready", "no answer");
  $("ready").dataset.state = "closed";
  show("wrong", `The node does not answer: ${e.message}. What you see is what it said last.`);
}

// show changes a text that screen readers announce only if it is another.
function show(id, text) {
  const element = $(id);
  if (element.textContent !== text) element.textContent = text;
  if (id === "wrong") element.hidden = text === "";
}

// Disconnecting asks first: rows move, and it is somebody's connection.
let doomed = null;
let asker = null;

function askFirst(session) {
  doomed = session;
  asker = document.activeElement;
  $("ask-id").textContent = session.id;
  $("ask-remote").textContent = [session.subject, session.remote].filter(Boolean).join(" at ") || "unknown";
  $("ask-channels").textContent = session.channels.map((c) => c.channel).join(", ") || "none";
  $("ask").showModal();
}

$("ask-cancel").addEventListener("click", () => $("ask").close());
$("ask").addEventListener("close", () => asker?.isConnected && asker.focus());
$("ask-go").addEventListener("click", async () => {
  const session = doomed;
  $("ask").close();
  try {
    await ask(`/admin/sessions/${encodeURIComponent(session.id)}`, "DELETE");
    tell(`Session ${session.id} was told to come back later.`);
  } catch (e) {
    tell(`Session ${session.id} was not disconnected: ${e.message}.`);
  }
  polls[1].wake();
});

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    tell("Trace id copied.");
  } catch { // not over plain HTTP from elsewhere
    tell("Select the trace id and copy it: the browser does not let this page.");
  }
}

let telling;
function tell(text) {
  clearTimeout(telling);
  $("told").textContent = text;
  telling = setTimeout(() => { $("told").textContent = ""; }, 6000);
}

$("pause").addEventListener("click", () => {
  const paused = $("pause").getAttribute("aria-pressed") !== "true";
  $("pause").setAttribute("aria-pressed", String(paused));
  for (const p of polls) p.pause(paused);
});
for (const id of ["sort", "transport"]) $(id).addEventListener("change", () => polls[1].wake());
for (const input of document.querySelectorAll("input[name=window]")) input.addEventListener("change", () => past.now && drawLatency());
for (const p of polls) p.wake();
