// The tables of sessions and channels. Rows are kept and changed in place, so that whoever is at a button or selects text is not
// thrown off every two seconds. What clients and publishers have chosen goes in as text only.

import { age, bytes, deliver, number } from "./admin-figures.js";

/** el makes an element with this text. */
export function el(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

/** Rows are the rows of a table body, by key. */
class Rows {
  constructor(body) {
    this.body = body;
    this.rows = new Map();
  }

  /** show makes the body's rows those of list, in its order; make makes a row, change fills it in. */
  show(list, key, make, change) {
    const focused = document.activeElement;
    const gone = new Set(this.rows.keys());
    let at = this.body.firstElementChild;
    for (const item of list) {
      const k = key(item);
      gone.delete(k);
      let row = this.rows.get(k);
      if (!row) {
        row = make(item);
        this.rows.set(k, row);
      }
      change(row, item);
      if (row.line === at) at = at.nextElementSibling;
      else this.body.insertBefore(row.line, at);
    }
    for (const k of gone) {
      this.rows.get(k).line.remove();
      this.rows.delete(k);
    }
    if (focused !== document.activeElement && this.body.contains(focused)) focused.focus({ preventScroll: true });
  }
}

// line makes a row whose cells are known by name.
function line(columns) {
  const cells = {};
  const tr = el("tr", { role: "row" });
  columns.forEach(([name, label, kind], i) => {
    cells[name] = el(i === 0 ? "th" : "td", { role: i === 0 ? "rowheader" : "cell", "data-label": label, class: kind ?? "", ...(i === 0 && { scope: "row" }) });
    tr.append(cells[name]);
  });
  return { line: tr, cells };
}

function put(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

// count puts a number; one that is 0 is not what anybody looks for.
function count(cell, n, write = number) {
  put(cell, write(n));
  cell.classList.toggle("zero", n === 0);
}

const sessionColumns = [
  ["id", "Session", "mono"], ["transport", "Transport"], ["remote", "Client", "mono client"], ["channels", "Channels", "wide"],
  ["lag", "Lag", "n"], ["owed", "Owed", "n"], ["bytes", "Bytes", "n"], ["messages", "Messages", "n"], ["conflated", "Conflated", "n"], ["dropped", "Dropped", "n"],
  ["since", "Since", "n"], ["trace", "Trace", "mono"], ["act", "", "act"],
];

/** Sessions is the table of sessions. disconnect(session) is called when somebody wants that, copy(text) to copy a trace id. */
export class Sessions {
  constructor(body, { disconnect, copy }) {
    this.rows = new Rows(body);
    this.disconnect = disconnect;
    this.copy = copy;
  }

  show(list, now) {
    this.rows.show(list, (s) => s.id, () => this.make(), (row, s) => this.change(row, s, now));
  }

  make() {
    const row = line(sessionColumns);
    const { cells } = row;
    row.name = el("code");
    row.state = el("span", { class: "tag", hidden: "" });
    cells.id.append(row.name, row.state);
    row.way = el("span", { class: "way" });
    row.format = el("span", { class: "aside" });
    cells.transport.append(row.way, " ", row.format);
    row.deliver = el("span", { class: "hint" });
    row.first = el("span", { class: "mono" });
    cells.channels.append(row.first, row.deliver);
    row.waits = el("span", { class: "hint" });
    row.owed = el("span");
    cells.owed.append(row.owed, row.waits);
    row.trace = el("code", { class: "trace" });
    row.copy = el("button", { type: "button", class: "small" }, "Copy");
    row.copy.addEventListener("click", () => this.copy(row.trace.textContent));
    cells.trace.append(row.trace, row.copy);
    const button = el("button", { type: "button", class: "small danger" }, "Disconnect");
    button.addEventListener("click", () => this.disconnect(row.session));
    row.button = button;
    cells.act.append(button);
    return row;
  }

  change(row, s, now) {
    const { cells } = row;
    row.session = s;
    put(row.name, s.id);
    const state = s.state !== "open" ? s.state : s.busy ? "blocked" : "";
    put(row.state, state);
    row.state.hidden = state === "";
    put(row.way, s.transport === "ws" ? "WS" : "SSE");
    row.way.className = `way ${s.transport}`;
    put(row.format, s.format === "sluice.v1.json" ? "v1.json" : s.format);
    put(cells.remote, who(s));
    const [first] = s.channels;
    put(row.first, first ? first.channel + (s.subscriptions > 1 ? ` and ${number(s.subscriptions - 1)} more` : "") : "none");
    put(row.deliver, first?.deliver ? deliver(first.deliver) : "");
    count(cells.lag, s.lag, (n) => (s.history ? `≥ ${number(n)}` : number(n)));
    cells.lag.classList.toggle("much", s.lag > 0 && s.busy);
    count(row.owed, s.owed, (n) => (n > 0 ? bytes(n) : "0"));
    put(row.waits, s.owed_ms > 0 ? `for ${s.owed_ms < 1000 ? `${s.owed_ms} ms` : age(s.owed_ms / 1000)}` : "");
    put(cells.bytes, bytes(s.bytes));
    count(cells.messages, s.messages);
    count(cells.conflated, s.conflated);
    count(cells.dropped, s.filtered + s.lapped);
    put(cells.since, s.since ? age((now - Date.parse(s.since)) / 1000) : "");
    cells.since.title = s.since ?? "";
    put(row.trace, s.trace ?? "");
    row.copy.hidden = !s.trace;
    row.copy.setAttribute("aria-label", `Copy trace ${s.trace ?? ""}`);
    cells.trace.classList.toggle("none", !s.trace);
    row.button.disabled = s.state === "closing";
    row.button.setAttribute("aria-label", `Disconnect session ${s.id} of ${who(s) || "an unknown address"}`);
  }
}

// who is at the other end: the subject of its token, if it has one, and its address.
const who = (s) => [s.subject, s.remote].filter(Boolean).join(" at ");

const channelColumns = [
  ["channel", "Channel", "mono"], ["state", "State"], ["listeners", "Subscribers", "n"], ["rate", "Received", "n"], ["messages", "In memory", "n"],
  ["pattern", "Rule", "mono"], ["policies", "In force", "wide"], ["position", "Position", "mono"],
];

/** Channels is the table of channels. */
export class Channels {
  constructor(body) {
    this.rows = new Rows(body);
    this.before = new Map();
  }

  /** show takes a list and when it was made, in milliseconds: rates are since the one before. */
  show(list, now) {
    const before = this.before;
    const seconds = (now - this.at) / 1000;
    this.at = now;
    this.before = new Map(list.map((c) => [c.channel, c.received]));
    this.rows.show(list, (c) => c.channel, () => this.make(), (row, c) => {
      const was = before.get(c.channel);
      this.change(row, c, was === undefined || was > c.received ? null : (c.received - was) / seconds);
    });
  }

  make() {
    const row = line(channelColumns);
    row.total = el("span");
    row.split = el("span", { class: "hint" });
    row.cells.listeners.append(row.total, row.split);
    row.kept = el("span");
    row.size = el("span", { class: "hint" });
    row.cells.messages.append(row.kept, row.size);
    row.tag = el("span", { class: "tag" });
    row.cells.state.append(row.tag);
    return row;
  }

  change(row, c, rate) {
    const { cells } = row;
    put(cells.channel, c.channel);
    put(row.tag, c.state);
    row.tag.className = `tag ${c.state}`;
    put(row.total, number(c.subscribers.sse + c.subscribers.ws));
    put(row.split, `SSE ${number(c.subscribers.sse)} · WS ${number(c.subscribers.ws)}`);
    count(cells.rate, rate, (n) => (n === null ? "–" : `${number(n)}/s`));
    put(row.kept, number(c.messages));
    put(row.size, bytes(c.bytes));
    put(cells.pattern, c.pattern || "none");
    cells.pattern.classList.toggle("hint", !c.pattern);
    put(cells.policies, c.policies.map((p) => (c.policies.length > 1 ? `${number(p.subscribers)} × ` : "") + deliver(p.deliver)).join("\n") || "–");
    put(cells.position, c.position ?? "");
  }
}
