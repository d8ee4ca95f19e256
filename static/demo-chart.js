// Chart draws the last minute, or less, as lines on a canvas. The newest complete second starts one step beyond
// the right edge and slides in, so that the lines glide instead of jumping.

import { niceMax, SECONDS } from "./demo-meter.js";

const MARGIN = { top: 10, right: 8, bottom: 20, left: 52 };

export class Chart {
  /**
   * series is a list of {color, value, width, dash, fill}: color a custom property of the page,
   * value(second) a number or null. low is the least upper end of the scale, label(n) writes a tick, seconds is how
   * far it goes back. log draws each power of ten as high as the other, and zero at the bottom.
   */
  constructor(canvas, { series, low, label, seconds = SECONDS, log = false }) {
    this.canvas = canvas;
    this.series = series;
    this.low = low;
    this.label = label;
    this.seconds = seconds;
    this.log = log;
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

  /** draw paints the time that ends at ms. */
  draw(ms) {
    if (this.dirty) this.measure();
    const now = ms / 1000 - 2;
    const last = Math.floor(now) + 1;
    const first = last - this.seconds - 1;
    const lines = this.series.map((s) => Array.from({ length: last - first + 1 }, (_, i) => s.value(first + i)));
    const top = Math.max(0, ...lines.flat().filter((v) => v !== null));
    this.max = this.log ? 10 ** Math.ceil(Math.log10(Math.max(this.low, top))) : niceMax(top, this.low);

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
    for (const value of this.ticks()) {
      const y = Math.round(this.y(value)) + 0.5;
      c.beginPath();
      c.moveTo(MARGIN.left, y);
      c.lineTo(this.width - MARGIN.right, y);
      c.stroke();
      c.fillText(this.label(value), MARGIN.left - 6, y);
    }
    c.textBaseline = "alphabetic";
    const all = this.seconds;
    for (const [age, text, align] of [[all, `${all} s`, "left"], [all / 2, `${all / 2} s`, "center"], [0, "now", "right"]]) {
      c.textAlign = align;
      c.fillText(text, this.x(age), this.height - 5);
    }
  }

  ticks() {
    if (!this.log) return [0, this.max / 2, this.max];
    return [0, ...Array.from({ length: Math.round(Math.log10(this.max)) + 1 }, (_, i) => 10 ** i)];
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
    return this.width - MARGIN.right - (age / this.seconds) * this.plotWidth();
  }

  y(value) {
    const part = this.log ? Math.log10(1 + value) / Math.log10(1 + this.max) : value / this.max;
    return MARGIN.top + (1 - part) * (this.height - MARGIN.top - MARGIN.bottom);
  }
}
