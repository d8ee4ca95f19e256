// The histogram of latencies: for each bucket one bar per transport, whose height is its share of that transport's messages.

import { quantile, seconds, shown, sum } from "./admin-figures.js";
import { svg } from "./admin-spark.js";

const MARGIN = { top: 14, right: 26, bottom: 34, left: 40 };
const LEAST = 9; // buckets
const NAMES = { sse: "SSE", ws: "WebSocket" };

export class Histogram {
  constructor(image) {
    this.image = image;
    this.drawn = null;
    new ResizeObserver(() => this.drawn && this.draw(...this.drawn)).observe(image);
  }

  /** draw shows bucket counts by transport; bounds, in seconds, are where the buckets end. */
  draw(by, bounds) {
    this.drawn = [by, bounds];
    const { clientWidth: width, clientHeight: height } = this.image;
    if (width === 0) return;
    this.image.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const transports = Object.keys(NAMES).filter((name) => by[name]);
    const lists = transports.map((name) => by[name]);
    const [from, to] = shown(lists, LEAST);
    const shares = lists.map((counts) => counts.map((n) => n / (sum(counts) || 1)));
    const top = Math.max(0.1, ...shares.flat());
    const plot = { width: width - MARGIN.left - MARGIN.right, height: height - MARGIN.top - MARGIN.bottom };
    const y = (share) => MARGIN.top + plot.height * (1 - share / top);
    const step = plot.width / (to - from || 1);
    const parts = [];
    for (const share of [0, top / 2, top]) {
      parts.push(svg("line", { class: "grid", x1: MARGIN.left, x2: width - MARGIN.right, y1: y(share), y2: y(share) }));
      parts.push(text(MARGIN.left - 6, y(share) + 4, `${(share * 100).toFixed(0)} %`, "end"));
    }
    const every = Math.ceil(50 / step); // labels that would touch each other are left out
    for (let i = from; i < to; i++) {
      const left = MARGIN.left + step * (i - from);
      const bar = (step * 0.76) / (transports.length || 1);
      transports.forEach((name, t) => {
        const share = shares[t][i];
        if (share === 0) return;
        parts.push(svg("rect", { class: name, x: left + step * 0.12 + bar * t, width: Math.max(1, bar - 1), y: Math.min(y(share), y(0) - 1.5), height: Math.max(1.5, y(0) - y(share)), rx: 1.5 }));
      });
      if ((to - 1 - i) % every === 0) parts.push(text(left + step, height - 17, bounds[i] === undefined ? "more" : seconds(bounds[i]), "middle"));
    }
    parts.push(text(MARGIN.left + plot.width / 2, height - 2, "at most", "middle"));
    this.image.replaceChildren(...parts);
    this.image.setAttribute("aria-label", `Share of messages by the time from publish to write. ${transports.map((name) => inWords(name, by[name], bounds)).join(". ")}`);
  }
}

function text(x, y, content, anchor) {
  const t = svg("text", { x, y, "text-anchor": anchor });
  t.textContent = content;
  return t;
}

function inWords(name, counts, bounds) {
  if (sum(counts) === 0) return `${NAMES[name]}: none`;
  return `${NAMES[name]}: half within ${latency(quantile(counts, bounds, 0.5))}, 99 of 100 within ${latency(quantile(counts, bounds, 0.99))}`;
}

/** latency writes a quantile. */
export function latency(q) {
  if (q === null) return "–";
  return q.beyond ? `> ${seconds(q.value)}` : seconds(q.value);
}
