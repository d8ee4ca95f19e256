// Chart draws the last minute as lines on a canvas. The newest complete second starts one step beyond
// the right edge and slides in, so that the lines glide instead of jumping.

import { niceMax, SECONDS } from "./demo-meter.js";

const MARGIN = { top: 10, right: 8, bottom: 20, left: 52 };

export class Chart {
  /**
   * series is a list of {color, value, width, dash, fill}: color a custom property of the page,
   * value(second) a number or null. low is the least upper end of the scale, label(n) writes a tick.
   */
  constructor(canvas, { series, low, label }) {
    this.canvas = canvas;
    this.series = series;
    this.low = low;
    this.label = label;
    this.max = low;
    this.dirty = true;
    const stale = () => { this.dirty = true; };
    new ResizeObserver(stale).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", stale);
  }

  // Reads size and colours again; asking for them in every frame would force a layout.
  measure() {
    const { clientWidth, clientHeight } = this.canvas;
    const ratio = window.devicePixelRatio || 1;
    this.canvas.width = Math.round(clientWidth * ratio);
    this.canvas.height = Math.round(clientHeight * ratio);
    this.ratio = ratio;
    this.width = clientWidth;
    this.height = clientHeight;
    const style = getComputedStyle(this.canvas);
    this.colors = Object.fromEntries(
      ["--line", "--muted", ...this.series.map((s) => s.color)].map((name) => [name, style.getPropertyValue(name).trim()]),
    );
    this.font = `11px ${style.fontFamily}`;
    this.dirty = false;
  }

  /** draw paints the minute that ends at ms. */
  draw(ms) {
    if (this.dirty) this.measure();
    const now = ms / 1000 - 2;
    const last = Math.floor(now) + 1;
    const first = last - SECONDS - 1;
    const lines = this.series.map((s) => Array.from({ length: last - first + 1 }, (_, i) => s.value(first + i)));
    this.max = niceMax(Math.max(0, ...lines.flat().filter((v) => v !== null)), this.low);

    const c = this.canvas.getContext("2d");
    c.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    c.clearRect(0, 0, this.width, this.height);
    this.axes(c);
    c.save();
    c.beginPath();
    c.rect(MARGIN.left, 0, this.plotWidth(), this.height);
    c.clip();
    this.series.forEach((s, i) => this.line(c, s, lines[i], (j) => this.x(now - (first + j))));
    c.restore();
  }

  axes(c) {
    c.font = this.font;
    c.lineWidth = 1;
    c.strokeStyle = this.colors["--line"];
    c.fillStyle = this.colors["--muted"];
    c.textAlign = "right";
    c.textBaseline = "middle";
    for (const part of [0, 0.5, 1]) {
      const y = Math.round(this.y(this.max * part)) + 0.5;
      c.beginPath();
      c.moveTo(MARGIN.left, y);
      c.lineTo(this.width - MARGIN.right, y);
      c.stroke();
      c.fillText(this.label(this.max * part), MARGIN.left - 6, y);
    }
    c.textBaseline = "alphabetic";
    for (const [age, text, align] of [[SECONDS, "60 s", "left"], [SECONDS / 2, "30 s", "center"], [0, "now", "right"]]) {
      c.textAlign = align;
      c.fillText(text, this.x(age), this.height - 5);
    }
  }

  // Draws each run of measured seconds as a line, and a run of one as a dot.
  line(c, s, values, x) {
    c.strokeStyle = c.fillStyle = this.colors[s.color];
    c.lineWidth = s.width;
    c.lineJoin = "round";
    c.lineCap = s.dash ? "butt" : "round";
    c.setLineDash(s.dash ?? []);
    for (let i = 0; i < values.length; i++) {
      if (values[i] === null) continue;
      const from = i;
      c.beginPath();
      for (; i < values.length && values[i] !== null; i++) c.lineTo(x(i), this.y(values[i]));
      if (i - from === 1) {
        c.arc(x(from), this.y(values[from]), s.width, 0, 2 * Math.PI);
        c.fill();
        continue;
      }
      c.stroke();
      if (s.fill) {
        c.lineTo(x(i - 1), this.y(0));
        c.lineTo(x(from), this.y(0));
        c.globalAlpha = s.fill;
        c.fill();
        c.globalAlpha = 1;
      }
    }
    c.setLineDash([]);
  }

  plotWidth() {
    return this.width - MARGIN.left - MARGIN.right;
  }

  x(age) {
    return this.width - MARGIN.right - (age / SECONDS) * this.plotWidth();
  }

  y(value) {
    return MARGIN.top + (1 - value / this.max) * (this.height - MARGIN.top - MARGIN.bottom);
  }
}
