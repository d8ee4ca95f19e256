// Chat is a channel that tabs talk on, both ways by the client's connection.

import { page } from "./demo-publish.js";

const KEPT = 100; // rows
const SHOWN = 500; // characters of a message
const SPOKEN = 3000; // milliseconds between two things that screen readers are told

export class Chat {
  /** parts are {form, name, text, list, heard, result}: elements of the page. */
  constructor(parts) {
    this.parts = parts;
    this.waiting = []; // for the next frame
    this.count = 0; // since screen readers were told
    parts.name.value = sessionStorage.getItem("sluice-demo-name") ?? `Guest ${page.slice(0, 3)}`;
    parts.name.addEventListener("change", () => sessionStorage.setItem("sluice-demo-name", parts.name.value));
    parts.form.addEventListener("submit", (e) => {
      e.preventDefault();
      this.send();
    });
  }

  join(edge, channel) {
    this.edge = edge;
    this.channel = channel;
    this.parts.list.replaceChildren();
    this.waiting = [];
    this.subscription = edge.subscribe(channel, (m) => this.received(m));
  }

  received(m) {
    const said = read(m.data);
    if (!said) return;
    if (this.waiting.push(said) > KEPT) this.waiting.shift();
    this.count++;
    this.frame ||= requestAnimationFrame(() => this.paint());
  }

  /** paint writes what came since the last frame: a publisher may send more than anybody reads. */
  paint() {
    this.frame = 0;
    const { list } = this.parts;
    const { parentElement: box } = list;
    const low = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
    list.append(...this.waiting.map(row));
    while (list.childElementCount > KEPT) list.firstElementChild.remove();
    if (low) box.scrollTop = box.scrollHeight;
    this.newest = this.waiting.findLast((said) => said.page !== page) ?? this.newest;
    this.waiting = [];
    this.timer ||= setTimeout(() => this.tell(), SPOKEN);
  }

  /** tell has screen readers say the newest that others have said, and how much that was not said. */
  tell() {
    this.timer = 0;
    const { newest, count } = this;
    if (newest) this.parts.heard.textContent = `${count > 1 ? `${count} messages, the last from ` : ""}${newest.name}: ${newest.text}`;
    this.newest = undefined;
    this.count = 0;
  }

  async send() {
    const { name, text, result } = this.parts;
    const body = text.value.trim();
    if (!body) return;
    text.value = "";
    say(result, "", "On its way …");
    try {
      const { position } = await this.edge.publish(this.channel, { page, name: name.value.trim() || "Nobody", text: body });
      say(result, "ok", `Stored at ${position}`);
    } catch (e) {
      say(result, "bad", `${e.code}: ${e.message}`);
      text.value ||= body;
    }
  }
}

function say(output, kind, text) {
  output.dataset.kind = kind;
  output.textContent = text;
}

/** read returns what was said: by this page in another tab, or by anything that publishes text. It is null for bytes. */
export function read(data) {
  if (typeof data !== "string") return null;
  let said;
  try {
    said = JSON.parse(data);
  } catch {
    // just text
  }
  const { page, name, text } = said ?? {};
  if (typeof name !== "string" || typeof text !== "string") return { name: "Somebody", text: data.slice(0, SHOWN) };
  return { page, name: name.slice(0, 40), text: text.slice(0, SHOWN) };
}

function row(said) {
  const li = document.createElement("li");
  const name = document.createElement("b");
  const text = document.createElement("span");
  name.textContent = said.name;
  text.textContent = said.text;
  li.append(name, " ", text);
  li.classList.toggle("own", said.page === page);
  return li;
}
