// The main view: one connection of the client library, what it goes through, and what comes by it. This file wires the parts together.

import "./demo-trust.js";
import { Break } from "./demo-break.js";
import { Chart } from "./demo-chart.js";
import { Chat } from "./demo-chat.js";
import { seconds } from "./demo-feed.js";
import { parse } from "./demo-feed.js";
import { Latency } from "./demo-latency.js";
import { Ledger } from "./demo-ledger.js";
import { milliseconds, noteList } from "./demo-list.js";
import { Meter } from "./demo-meter.js";
import { now, page } from "./demo-publish.js";
import { Source } from "./demo-source.js";
import { connect } from "./sluice.js";

const $ = (id) => document.getElementById(id);
const TAB = "sluice-demo-tab"; // the lock that each tab shares, to be counted by
const STATES = { ws: "WebSocket", sse: "Server-Sent Events" }; // others by their own name
const UP = new Set(["ws", "sse", "polling"]);
const HOLDERS = { worker: "a SharedWorker", leader: "this tab", follower: "another tab", "": "this tab, for itself" };

/** under returns the channel of a part of the view; what the parts add fits into the 200 characters of a name. */
export function under(channel, part) {
  return `${channel.slice(0, 160)}.${part}`;
}

export class EdgeView {
  constructor() {
    this.shown = false;
    this.paused = false;
    this.notes = noteList($("edge-log"));
    this.chat = new Chat({ form: $("chat-form"), name: $("chat-name"), text: $("chat-text"), list: $("chat-list"), heard: $("chat-heard"), result: $("chat-result") });
    this.source = new Source((on) => { $("edge-source").textContent = on ? "this tab" : "another tab"; });
    this.latency = new Latency($("echo"), $("echo-start"), $("echo-result"));
    this.break = new Break($("break"), $("break-result"), $("break-silent"), (kind, text) => this.note(kind, text));
    this.chart = new Chart($("edge-chart"), {
      low: 100,
      label: String,
      series: [{ color: "--accent", width: 2.5, fill: 0.1, value: (s) => this.values.at(s).p50 }],
    });
    $("edge-reconnect").addEventListener("click", () => {
      this.note("reconnect", "by you");
      this.edge.reconnect();
    });
    this.reset();
    navigator.locks?.request(TAB, { mode: "shared" }, () => new Promise(() => {})); // until the tab goes
    this.ask();
  }

  /** ask learns whether this node can be broken. */
  async ask() {
    try {
      const about = await (await fetch(new URL("demo.json", document.baseURI))).json();
      $("break").hidden = !about.break;
    } catch {
      // it is away; then there is nothing to break
    }
  }

  /** show connects and listens; anew if the channel is another one. */
  show(channel) {
    this.hide();
    this.shown = true;
    this.reset();
    this.edge = connect(new URL(".", document.baseURI)); // without view and channel: all tabs are to name the same connection
    this.edge.on("state", (s) => this.state(s));
    this.edge.on("error", (e) => this.note("waiting", `${e.code}${e.message && e.message !== e.code ? `: ${e.message}` : ""}`));
    this.numbers = this.edge.subscribe(under(channel, "numbers"), (m) => this.number(m));
    this.numbers.on("gap", (g) => {
      this.ledger.gap();
      this.note("gap", g.reason);
    });
    this.chat.join(this.edge, under(channel, "chat"));
    this.latency.listen(under(channel, "echo"));
    this.break.use(this.edge);
    this.source.start(under(channel, "numbers"));
    this.state(this.edge.state);
    this.tick();
    this.schedule();
  }

  /** hide lets go of the connection. */
  hide() {
    this.shown = false;
    clearTimeout(this.ticking);
    this.source.stop();
    this.edge?.close();
    this.edge = undefined;
  }

  pause(paused) {
    this.paused = paused;
    this.schedule();
  }

  reset() {
    this.ledger = new Ledger();
    this.values = new Meter(); // by the second of their publish time, so that all tabs draw the same
    this.lags = new Meter();
    this.last = 0; // when the last number came, by now()
    this.away = null; // {since, back, missed}: since there was no connection, since there is one again, and what came late
    this.session = undefined;
    this.notes.clear();
  }

  note(kind, text) {
    this.notes.push({ time: now(), kind, text });
    this.schedule();
  }

  state(s) {
    if (!this.edge) return; // closed by hide
    const up = UP.has(s);
    const badge = $("edge-state");
    badge.dataset.edge = s;
    badge.dataset.state = up ? "open" : s === "connecting" || s === "idle" ? "connecting" : "closed";
    badge.textContent = STATES[s] ?? s;
    for (const way of $("edge-ladder").children) way.ariaCurrent = way.dataset.state === s ? "true" : null;
    if (up) this.connected(s);
    else if (s !== "idle") {
      this.away ??= { since: now(), missed: 0 };
      this.note(s, "");
    }
    this.write();
  }

  connected(s) {
    const { session } = this.edge.stats();
    this.session = session;
    this.note(s, session ? `session ${session}` : "no session: one request after the other");
    if (this.away) this.away.back ??= now();
  }

  number(m) {
    const { by, n, value, sent } = parse(m.data);
    if (typeof by !== "string" || ![n, value, sent].every(Number.isFinite)) return; // somebody else's, who may publish here as well
    const ms = now();
    const missing = this.ledger.add(by, n);
    if (missing > 0) this.note("lost", `${missing} before number ${n}`);
    if (missing < 0) return this.note("repeated", `number ${n}`);
    this.values.add(m.time ?? sent, value);
    if (by === page) this.lags.add(ms, Math.max(0, ms - sent));
    else this.source.follow(value);
    this.last = ms;
    this.resumed(m.time ?? sent);
    this.schedule();
  }

  /** resumed tells what a connection that has come back has brought from meanwhile. */
  resumed(published) {
    const { away } = this;
    if (!away?.back) return;
    if (published < away.back) away.missed++;
    else {
      this.away = null;
      if (away.missed) this.note("resumed", `${away.missed} messages of ${seconds(away.back - away.since)} away`);
    }
  }

  // Painting: what comes only marks the view; a frame writes it.

  schedule() {
    if (this.frame || !this.shown) return;
    this.frame = requestAnimationFrame((ms) => {
      this.frame = 0;
      const more = this.notes.flush(ms);
      if (!this.paused && !still.matches) this.draw(now());
      this.write();
      if (more || (!this.paused && !still.matches && now() - this.last < 65000)) setTimeout(() => this.schedule(), 40);
    });
  }

  draw(ms) {
    this.chart.draw(ms);
  }

  write() {
    const { received, lost, repeated, told } = this.ledger;
    $("edge-received").textContent = received.toLocaleString("en");
    $("edge-lost").textContent = String(lost);
    $("edge-repeated").textContent = String(repeated);
    $("edge-gaps").textContent = String(told);
    $("edge-lost").dataset.kind = lost ? "bad" : "ok";
    $("edge-repeated").dataset.kind = repeated ? "bad" : "ok";
  }

  /** tick writes what changes by the second. */
  async tick() {
    const { edge } = this;
    const ms = now();
    const [stats, count] = await Promise.all([edge?.stats(), tabs()]);
    if (!edge || edge !== this.edge) return; // hidden, or shown anew
    const { p50 } = this.lags.latency(ms, 10);
    $("edge-session").textContent = stats.session ?? "–";
    $("edge-holder").textContent = HOLDERS[stats.shared] ?? stats.shared;
    $("edge-connects").textContent = String(stats.connects ?? 0);
    $("edge-duplicates").textContent = String(stats.duplicates ?? 0);
    $("edge-rtt").textContent = p50 === null ? "–" : milliseconds(p50);
    $("edge-last").textContent = this.last ? `${seconds(ms - this.last)} ago` : "–";
    $("edge-tabs").textContent = String(count);
    this.break.follow(stats);
    if (stats.session && this.session !== stats.session) this.connected(stats.state); // by the same transport as before
    if (still.matches && !this.paused) this.draw(Math.floor(ms / 1000) * 1000);
    const v = this.values.at(Math.floor(ms / 1000) - 1).p50;
    $("edge-chart").ariaLabel = `Numbers of the last minute, the same in all tabs. Now: ${v ?? "none"}`;
    this.ticking = setTimeout(() => this.tick(), 500);
  }
}

const still = matchMedia("(prefers-reduced-motion: reduce)");

/** tabs returns how many tabs have this page open. */
async function tabs() {
  if (!navigator.locks) return 1; // not a secure context
  const { held } = await navigator.locks.query();
  return held.filter((l) => l.name === TAB).length;
}
