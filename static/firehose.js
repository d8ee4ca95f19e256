// The firehose: thousands of updates a second over fifty keys, published by this page, and what of them arrives under
// the delivery that its controls ask for. This file wires the parts of that view together.

import { Chart } from "./demo-chart.js";
import { milliseconds } from "./demo-list.js";
import { Meter } from "./demo-meter.js";
import { now, page } from "./demo-publish.js";
import { Gather } from "./firehose-gather.js";
import { Grid } from "./firehose-grid.js";
import { Hose } from "./firehose-hose.js";
import { SYMBOLS } from "./firehose-market.js";
import { Source } from "./firehose-source.js";
import { Trace } from "./firehose-trace.js";
import { WINDOWS, apart, inForce, sample, wish } from "./firehose-wish.js";

const $ = (id) => document.getElementById(id);
const still = matchMedia("(prefers-reduced-motion: reduce)");

const SETTLE = 150; // milliseconds that a slider must rest before its value is asked for
const RECENT = 5; // seconds that lag and largest delivery are of
const CHART_SECONDS = 30;
const CHART_INTERVAL = 40; // milliseconds between two drawings of the charts
const STILL_INTERVAL = 500; // and of the grid, for those who want no motion

export class Firehose {
  constructor() {
    this.shown = false;
    this.paused = false;
    this.channel = "";
    this.frame = 0;
    this.drawn = { grid: 0, charts: 0 };
    this.grid = new Grid($("hose-grid"), SYMBOLS, (key) => this.pick(key));
    this.trace = new Trace($("hose-trace"));
    this.hose = new Hose({
      state: (state) => this.state(state),
      told: (deliver, transport) => this.told(deliver, transport),
      messages: (list, skipped) => this.messages(list, skipped),
      bytes: (n) => this.bytes.add(now(), undefined, n),
      gap: (reason) => this.gap(reason),
      trouble: (text) => { $("hose-trouble").textContent = text; },
    });
    this.source = new Source({
      published: (key, price, ms) => this.published(key, price, ms),
      failed: (text) => { $("hose-failed").textContent = text; },
    });
    this.reset();
    this.chart = new Chart($("hose-rates"), {
      low: 1000,
      log: true,
      seconds: CHART_SECONDS,
      label: (n) => (n >= 1000 ? `${n / 1000}k` : String(n)),
      series: [
        { color: "--muted", width: 1.5, dash: [4, 3], value: (s) => this.sent.at(s).count },
        { color: "--series", width: 2.5, fill: 0.1, value: (s) => this.received.at(s).count },
        { color: "--accent", width: 1.5, value: (s) => this.deliveries.at(s).count },
      ],
    });
    this.controls();
    this.pick(SYMBOLS[0]);
  }

  /** show has the view listen to channel; anew if it did already. */
  show(channel) {
    this.shown = true;
    this.stop();
    this.channel = channel;
    this.reset();
    this.grid.clear();
    this.trace.stale();
    this.hose.listen(channel, this.wishedTransport(), this.wish());
    this.writeControls();
    this.tick();
    this.schedule();
  }

  /** hide ends what costs anything. */
  hide() {
    this.shown = false;
    this.stop();
    clearTimeout(this.ticking);
    this.hose.close();
  }

  /** pause holds grid, counters and charts still; counting goes on. */
  pause(paused) {
    this.paused = paused;
    this.schedule();
  }

  reset() {
    this.sent = new Meter();
    this.received = new Meter();
    this.skipped = new Meter();
    this.deliveries = new Meter(); // their lag
    this.sizes = new Meter();
    this.bytes = new Meter();
    this.gather = new Gather();
    this.gaps = 0;
    this.trace.clear();
    $("hose-gaps").textContent = "";
  }

  // The controls

  controls() {
    for (const id of ["hose-rate", "hose-batch", "hose-filter", "hose-conflate", "hose-transport"]) {
      $(id).addEventListener("input", () => {
        this.writeControls();
        clearTimeout(this.settling);
        this.settling = setTimeout(() => this.ask(), id === "hose-filter" ? 4 * SETTLE : SETTLE);
      });
    }
    $("hose-delivery").addEventListener("submit", (e) => {
      e.preventDefault();
      clearTimeout(this.settling);
      this.ask();
    });
    $("hose-publish").addEventListener("input", () => {
      this.writeControls();
      this.source.setRate($("hose-publish").valueAsNumber);
    });
    $("hose-source").addEventListener("submit", (e) => {
      e.preventDefault();
      if (this.source.running) this.stop();
      else this.start();
    });
  }

  wish() {
    return wish({
      perSecond: $("hose-rate").valueAsNumber,
      window: WINDOWS[$("hose-batch").valueAsNumber],
      conflate: $("hose-conflate").querySelector(":checked").value,
      filter: $("hose-filter").value,
    });
  }

  wishedTransport() {
    return $("hose-transport").querySelector(":checked").value;
  }

  writeControls() {
    const say = (id, text) => {
      $(id).ariaValueText = text;
      $(`${id}-value`).textContent = text;
    };
    const rate = $("hose-rate").valueAsNumber, window = WINDOWS[$("hose-batch").valueAsNumber];
    say("hose-rate", rate > 0 ? `${rate}/s` : "off");
    say("hose-batch", window > 0 ? `${window} ms` : "off");
    say("hose-publish", `${$("hose-publish").valueAsNumber.toLocaleString("en")}/s`);
    $("hose-code").textContent = sample(this.wishedTransport(), this.channel, this.wish());
  }

  ask() {
    if (this.shown) this.hose.change(this.wishedTransport(), this.wish());
  }

  start() {
    this.source.start(this.channel, $("hose-publish").valueAsNumber);
    $("hose-start").textContent = "Stop";
    $("hose-failed").textContent = "";
  }

  stop() {
    this.source.stop();
    $("hose-start").textContent = "Start";
  }

  pick(key) {
    this.picked = key;
    this.trace.clear();
    $("hose-trace-key").textContent = key;
    $("hose-trace").ariaLabel = `Price of ${key} over the last ten seconds, as published and as it arrived`;
    this.schedule();
  }

  // What comes

  state(state) {
    $("hose-state").dataset.state = $("hose-state").textContent = state;
  }

  told(deliver, transport) {
    this.gather.expect(apart(deliver));
    $("hose-told").textContent = `${transport === "ws" ? "WebSocket" : "SSE"}: ${inForce(deliver)}`;
    $("firehose").classList.toggle("sse", transport === "sse");
    $("firehose").classList.toggle("ws", transport === "ws");
    this.trace.stale();
    this.chart.dirty = true;
  }

  published(key, price, ms) {
    this.sent.add(now()); // when it was taken: what is on its way is not published yet
    if (key === this.picked) this.trace.sent(ms, price);
    this.schedule();
  }

  messages(list, skipped) {
    const ms = now();
    if (skipped > 0) this.skipped.add(ms, undefined, skipped);
    if (list.length === 0) return;
    this.received.add(ms, undefined, list.length);
    for (const { key, price } of list) {
      if (price === undefined) continue;
      this.grid.set(key, price);
      if (key === this.picked) this.trace.got(ms, price);
    }
    if (this.gather.begins(list.length, skipped)) this.book();
    if (this.gather.add(ms, list)) this.outwait(this.gather);
    this.schedule();
  }

  // Waits until no more of a delivery comes.
  outwait(gather) {
    if (gather !== this.gather || gather.messages.length === 0) return;
    const wait = gather.wait(now());
    if (wait > 0) setTimeout(() => this.outwait(gather), wait);
    else this.book();
  }

  // Books what has come as one delivery.
  book() {
    const at = this.gather.last;
    const list = this.gather.take();
    if (list.length === 0) return;
    const newest = list.at(-1);
    const born = newest.page === page ? newest.sent : newest.time; // another page's clock may be wrong
    this.deliveries.add(at, born === undefined ? undefined : Math.max(0, at - born));
    this.sizes.add(at, list.length, 1);
  }

  gap(reason) {
    this.gaps++;
    $("hose-gaps").textContent = `${this.gaps} ${this.gaps === 1 ? "gap" : "gaps"}, the last: ${reason}`;
  }

  // Drawing

  schedule() {
    if (!this.shown || this.frame) return;
    this.frame = requestAnimationFrame((ms) => {
      this.frame = 0;
      this.draw(ms);
    });
  }

  draw(ms) {
    if (!this.shown || this.paused) return;
    if (!still.matches || ms - this.drawn.grid >= STILL_INTERVAL) {
      this.drawn.grid = ms;
      this.grid.draw(ms);
    }
    if (still.matches) return; // the rest is for tick
    if (ms - this.drawn.charts >= CHART_INTERVAL) {
      this.drawn.charts = ms;
      this.drawCharts();
    }
    if (now() - Math.max(this.received.newest, this.sent.newest) < CHART_SECONDS * 1000) this.schedule();
  }

  drawCharts() {
    const ms = now();
    this.chart.draw(still.matches ? Math.floor(ms / 1000) * 1000 : ms);
    this.trace.draw(ms);
  }

  tick() {
    clearTimeout(this.ticking);
    this.ticking = setTimeout(() => this.tick(), 1000 - (now() % 1000) + 5); // just after the second is complete
    if (this.paused) return;
    const ms = now();
    const second = Math.floor(ms / 1000) - 1;
    const number = (n) => n.toLocaleString("en");
    const write = (name, main, more) => {
      $(`hose-${name}`).textContent = main;
      $(`hose-${name}-more`).textContent = more;
    };
    for (const [name, meter] of [["sent", this.sent], ["received", this.received], ["skipped", this.skipped]]) {
      write(name, `${number(meter.at(second).count)}/s`, number(meter.total));
    }
    const lag = this.deliveries.latency(ms, RECENT), size = this.sizes.latency(ms, RECENT).max;
    write("deliveries", `${number(this.deliveries.at(second).count)}/s`, size === null ? "–" : number(size));
    write("lag", lag.p50 === null ? "–" : milliseconds(lag.p50), lag.p99 === null ? "–" : milliseconds(lag.p99));
    write("bytes", `${kilobytes(this.bytes.at(second).count)}/s`, kilobytes(this.bytes.total));
    $("hose-rates").ariaLabel = `Per second, over the last ${CHART_SECONDS} seconds. Now: published ${$("hose-sent").textContent}, ` +
      `received ${$("hose-received").textContent}, deliveries ${$("hose-deliveries").textContent}`;
    this.drawCharts();
    if (still.matches) this.grid.draw(performance.now());
  }
}

function kilobytes(n) {
  if (n < 1000) return `${n} B`;
  return n < 1e6 ? `${(n / 1000).toFixed(n < 1e5 ? 1 : 0)} kB` : `${(n / 1e6).toFixed(1)} MB`;
}
