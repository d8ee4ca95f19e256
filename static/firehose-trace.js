// Trace draws the last seconds of one key: the path of its price as it was published, where this page has
// published it, and the steps that arrived.

const SPAN = 10000; // milliseconds
const MAX_POINTS = 2000; // per line
const MARGIN = { top: 10, right: 8, bottom: 20, left: 52 };

export class Trace {
  constructor(canvas) {
    this.canvas = canvas;
    this.clear();
    this.stale();
    new ResizeObserver(() => this.stale()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.stale());
  }

  /** stale has size and colours read again with the next draw. */
  stale() {
    this.dirty = true;
  }

  clear() {
    this.published = [];
    this.received = [];
  }

  /** sent and got note a price at ms, in order. */
  sent(ms, price) {
    push(this.published, ms, price);
  }

  got(ms, price) {
    push(this.received, ms, price);
  }

  measure() {
    const { clientWidth, clientHeight } = this.canvas;
    this.ratio = window.devicePixelRatio || 1;
    this.canvas.width = Math.round(clientWidth * this.ratio);
    this.canvas.height = Math.round(clientHeight * this.ratio);
    this.width = clientWidth;
    this.height = clientHeight;
    const style = getComputedStyle(this.canvas);
    this.color = Object.fromEntries(["--line", "--muted", "--series"].map((n) => [n, style.getPropertyValue(n).trim()]));
    this.font = `11px ${style.fontFamily}`;
    this.dirty = false;
  }

  /** draw paints the time that ends at ms. */
  draw(ms) {
    if (this.dirty) this.measure();
    const c = this.canvas.getContext("2d");
    c.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    c.clearRect(0, 0, this.width, this.height);
    for (const points of [this.published, this.received]) forget(points, ms - SPAN);
    const prices = [...this.published, ...this.received].map((p) => p.price);
    const [low, high] = prices.length > 0 ? range(prices) : [0, 1];
    const x = (at) => this.width - MARGIN.right - ((ms - at) / SPAN) * (this.width - MARGIN.left - MARGIN.right);
    const y = (price) => MARGIN.top + ((high - price) / (high - low)) * (this.height - MARGIN.top - MARGIN.bottom);
    this.axes(c, prices.length > 0 ? [low, (low + high) / 2, high] : [], x, y, ms);
    c.save();
    c.beginPath();
    c.rect(MARGIN.left, 0, this.width - MARGIN.left - MARGIN.right, this.height);
    c.clip();
    c.lineJoin = "round";
    this.path(c, this.published, x, y);
    this.steps(c, this.received, x, y, ms);
    c.restore();
  }

  axes(c, prices, x, y, ms) {
    c.font = this.font;
    c.lineWidth = 1;
    c.strokeStyle = this.color["--line"];
    c.fillStyle = this.color["--muted"];
    c.textAlign = "right";
    c.textBaseline = "middle";
    for (const price of prices) {
      const at = Math.round(y(price)) + 0.5;
      c.beginPath();
      c.moveTo(MARGIN.left, at);
      c.lineTo(this.width - MARGIN.right, at);
      c.stroke();
      c.fillText(price.toFixed(2), MARGIN.left - 6, at);
    }
    c.textBaseline = "alphabetic";
    for (const [age, text, align] of [[SPAN, `${SPAN / 1000} s`, "left"], [SPAN / 2, `${SPAN / 2000} s`, "center"], [0, "now", "right"]]) {
      c.textAlign = align;
      c.fillText(text, x(ms - age), this.height - 5);
    }
  }

  path(c, points, x, y) {
    c.strokeStyle = this.color["--muted"];
    c.globalAlpha = 0.6;
    c.lineWidth = 1;
    c.beginPath();
    for (const p of points) c.lineTo(x(p.ms), y(p.price));
    c.stroke();
    c.globalAlpha = 1;
  }

  // A price holds until the next one arrives.
  steps(c, points, x, y, ms) {
    c.strokeStyle = c.fillStyle = this.color["--series"];
    c.lineWidth = 2;
    c.beginPath();
    points.forEach((p, i) => {
      if (i > 0) c.lineTo(x(p.ms), y(points[i - 1].price));
      c.lineTo(x(p.ms), y(p.price));
    });
    if (points.length > 0) c.lineTo(x(ms), y(points.at(-1).price));
    c.stroke();
    if (points.length > 120) return; // dots would only thicken the line
    c.beginPath();
    for (const p of points) {
      c.moveTo(x(p.ms), y(p.price));
      c.arc(x(p.ms), y(p.price), 2.5, 0, 2 * Math.PI);
    }
    c.fill();
  }
}

function push(points, ms, price) {
  points.push({ ms, price });
  if (points.length > MAX_POINTS) points.splice(0, MAX_POINTS / 4);
}

// Forgets what is before ms but the newest of it, which still holds where the drawing begins.
function forget(points, ms) {
  const first = points.findIndex((p) => p.ms >= ms);
  points.splice(0, Math.max(0, (first < 0 ? points.length : first) - 1));
}

function range(prices) {
  const low = Math.min(...prices), high = Math.max(...prices);
  const room = Math.max((high - low) * 0.05, 0.05);
  return [low - room, high + room];
}
