// A spark is a small line of what a number was over the last minute. What it says in numbers stands beside it.

const NS = "http://www.w3.org/2000/svg";
const WIDTH = 100;
const HEIGHT = 28;

/** svg makes an element of an SVG image. */
export function svg(name, attributes = {}) {
  const element = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

export class Spark {
  /** The image becomes a child of the given element; points is how many values are from the left to the right end. */
  constructor(parent, points = 60) {
    this.points = points;
    this.area = svg("path", { class: "area" });
    this.line = svg("path", { class: "line" });
    const image = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" });
    image.append(this.area, this.line);
    parent.replaceChildren(image);
  }

  /** draw shows values, the newest last. Those that are null are not known. */
  draw(values) {
    const top = Math.max(...values.map((v) => v ?? 0), 1e-9) * 1.1;
    const x = (i) => (WIDTH * (this.points - values.length + i)) / (this.points - 1);
    const y = (v) => (HEIGHT - 1) * (1 - v / top) + 0.5;
    const known = values.map((v, i) => [i, v]).filter(([, v]) => v !== null);
    const line = known.map(([i, v], n) => `${n === 0 ? "M" : "L"}${x(i).toFixed(1)} ${y(v).toFixed(1)}`).join("");
    this.line.setAttribute("d", line);
    this.area.setAttribute("d", known.length < 2 ? "" : `${line}L${x(known.at(-1)[0]).toFixed(1)} ${HEIGHT}L${x(known[0][0]).toFixed(1)} ${HEIGHT}Z`);
  }
}

/** Share is a bar that two numbers share. */
export class Share {
  constructor(parent) {
    this.parts = ["sse", "ws"].map((name) => svg("rect", { class: name, y: 0, height: 6 }));
    const image = svg("svg", { viewBox: "0 0 100 6", preserveAspectRatio: "none", "aria-hidden": "true" });
    image.append(svg("rect", { class: "none", width: 100, height: 6 }), ...this.parts);
    parent.replaceChildren(image);
  }

  draw(...numbers) {
    const total = numbers.reduce((a, b) => a + b, 0) || 1;
    let at = 0;
    numbers.forEach((n, i) => {
      this.parts[i].setAttribute("x", at);
      this.parts[i].setAttribute("width", (100 * n) / total);
      at += (100 * n) / total;
    });
  }
}
