// Latency measures how long a message takes from publish to handler, of an edge that is held to one transport.

import "./demo-trust.js";
import { milliseconds } from "./demo-list.js";
import { quantile } from "./demo-meter.js";
import { page } from "./demo-publish.js";
import { connect } from "./sluice.js";

const ROUNDS = 12; // of which the first does not count: it waits for what the browser opens
const PATIENCE = 15_000; // milliseconds for one round, or to connect

/** echo returns the round trips of one transport in milliseconds, sorted. */
export async function echo(transport, channel, tell) {
  const edge = connect(document.baseURI, { transports: [transport], share: false });
  const times = [];
  let arrived;
  try {
    const sub = edge.subscribe(channel, (m) => arrived?.(m.json.n));
    await within(sub.ready);
    for (let n = 0; n < ROUNDS; n++) {
      const begin = performance.now();
      const back = new Promise((done) => { arrived = (got) => got === n && done(); });
      await within(Promise.all([back, edge.publish(channel, { n })]));
      if (n > 0) times.push(performance.now() - begin);
      tell((n + 1) / ROUNDS);
    }
  } finally {
    edge.close();
  }
  return times.sort((a, b) => a - b);
}

function within(promise) {
  return new Promise((done, fail) => {
    const timer = setTimeout(() => fail(new Error("not in time")), PATIENCE);
    promise.then(done, fail).finally(() => clearTimeout(timer));
  });
}

/** height is the part of a bar that a duration fills, by powers of ten from 0.1 ms to 1 s. */
export function height(ms) {
  return Math.min(1, Math.max(0.02, (Math.log10(Math.max(ms, 1e-3)) + 1) / 4));
}

export class Latency {
  /** root has a row for each transport, with data-transport, a progress element and .value; button starts, result tells. */
  constructor(root, button, result) {
    this.rows = [...root.querySelectorAll("[data-transport]")];
    this.result = result;
    button.addEventListener("click", async () => {
      if (button.ariaDisabled === "true") return;
      button.ariaDisabled = "true";
      await this.measure();
      button.ariaDisabled = "false";
    });
  }

  listen(channel) {
    this.channel = channel;
    for (const row of this.rows) this.write(row, 0, "–");
    this.result.textContent = "";
  }

  async measure() {
    const { channel } = this;
    const told = [];
    for (const row of this.rows) {
      const { transport } = row.dataset;
      this.write(row, 0, "…");
      try {
        const times = await echo(transport, `${channel}.${page}.${transport}`, (part) => { row.querySelector(".value").textContent = `${Math.round(part * 100)} %`; });
        const p50 = quantile(times, 0.5);
        this.write(row, height(p50), `${milliseconds(p50)}`, `to ${milliseconds(times.at(-1))}`);
        told.push(`${row.querySelector("dt").textContent} ${milliseconds(p50)}`);
      } catch (e) {
        this.write(row, 0, "none", e.code ?? e.message);
        told.push(`${row.querySelector("dt").textContent}: none`);
      }
    }
    this.result.textContent = told.join(", "); // once, at the end
  }

  write(row, part, value, more = "") {
    row.querySelector("progress").value = part;
    row.querySelector(".value").textContent = value;
    row.querySelector(".hint").textContent = more;
  }
}
