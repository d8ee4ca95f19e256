// BoundedList shows the newest rows of a stream, newest first, and never costs more than the screen:
// what arrives between two frames waits in a ring of LIMIT rows, and rows on the page are used again.

/** The rows that a list keeps, waiting and shown. */
export const LIMIT = 50;

// Nobody reads 50 new rows 60 times a second: under load a list is painted this often, in milliseconds.
const BUSY_INTERVAL = 250;
const BUSY_ROWS = 10;

export class BoundedList {
  /** make creates an empty row, fill(row, item, fresh) writes an item into it (by textContent only). */
  constructor(element, make, fill) {
    this.element = element;
    this.make = make;
    this.fill = fill;
    this.waiting = [];
    this.painted = 0;
  }

  push(item) {
    if (this.waiting.length >= LIMIT) this.waiting.shift();
    this.waiting.push(item);
  }

  clear() {
    this.waiting = [];
    this.element.replaceChildren();
  }

  /** flush paints what waits and reports whether anything still does. ms is the frame's time. */
  flush(ms) {
    const busy = this.waiting.length > BUSY_ROWS;
    if (this.waiting.length === 0) return false;
    if (busy && ms - this.painted < BUSY_INTERVAL) return true;
    this.painted = ms;
    const rows = document.createDocumentFragment();
    for (const item of this.waiting.reverse()) {
      const full = this.element.childElementCount + rows.childElementCount >= LIMIT;
      const row = full && this.element.lastElementChild ? this.element.lastElementChild : this.make();
      this.fill(row, item, !busy);
      rows.append(row); // takes a used row out of the list
    }
    this.element.prepend(rows);
    this.waiting = [];
    return false;
  }
}

// A payload may have a MiB; a row shows its beginning.
const SHOWN = 400;

/** messageList lists {time, event, data, bytes, latency}; bytes is set where the payload was binary. */
export function messageList(element) {
  const make = () => {
    const row = document.createElement("li");
    row.append(document.createElement("time"), node("div", "data"), node("span", "latency"));
    row.children[1].append(node("span", "event"), document.createTextNode(""));
    return row;
  };
  const fill = (row, m, fresh) => {
    const [time, data, latency] = row.children;
    time.textContent = clock(new Date(m.time));
    data.className = m.bytes === undefined ? "data" : "data binary";
    data.firstChild.textContent = m.event;
    data.firstChild.hidden = m.event === "message";
    data.lastChild.data = m.data.length > SHOWN ? m.data.slice(0, SHOWN) + " …" : m.data;
    latency.textContent = m.latency === undefined ? "" : milliseconds(m.latency);
    row.classList.toggle("fresh", fresh);
  };
  return new BoundedList(element, make, fill);
}

/** noteList lists {time, kind, text}: what happened to the connection. */
export function noteList(element) {
  const make = () => {
    const row = document.createElement("li");
    row.append(document.createElement("time"), document.createElement("span"));
    row.lastChild.append(document.createElement("b"), document.createTextNode(""));
    return row;
  };
  const fill = (row, n) => {
    row.dataset.kind = n.kind;
    row.firstChild.textContent = clock(new Date(n.time));
    row.lastChild.firstChild.textContent = n.kind;
    row.lastChild.lastChild.data = n.text;
  };
  return new BoundedList(element, make, fill);
}

/** milliseconds writes a duration in three digits or so. */
export function milliseconds(ms) {
  if (ms >= 10000) return `${(ms / 1000).toFixed(1)} s`;
  return `${ms >= 100 ? ms.toFixed(0) : ms >= 10 ? ms.toFixed(1) : ms.toFixed(2)} ms`;
}

function clock(date) {
  const two = (n) => String(n).padStart(2, "0");
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}.${String(date.getMilliseconds()).padStart(3, "0")}`;
}

function node(tag, className) {
  const n = document.createElement(tag);
  n.className = className;
  return n;
}
