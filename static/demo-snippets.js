// Snippets are what to type elsewhere, for the channel at hand. Nothing needs quoting: a channel name has no character that a shell or a
// string minds.

import { endpoint, publishURL } from "./demo-feed.js";

/** snippets returns name → text. base is the URL of the node. */
export function snippets(channel, base, sse, ws, publish) {
  return {
    client: `import { connect } from "${base}sluice.js";

const edge = connect("${base}");
edge.subscribe("${channel}", (m) => console.log(m.data));
edge.on("state", (s) => console.log(s)); // ws, sse, polling …`,
    options: `const sub = edge.subscribe("${channel}", {
  rate: "5/s",            // deliveries, at most
  conflate: "key",        // of each key the newest
  filter: "data.price > 100",
  since: kept,            // a position: what came after it
}, (m) => draw(m.json));
sub.on("gap", reload);    // something may be missing

await edge.publish("${channel}", { price: 101 }, { key: "AAPL" });`,
    eventsource: `const source = new EventSource("${sse}");\nsource.onmessage = (e) => console.log(e.data);`,
    websocket: `const socket = new WebSocket("${ws}");\nsocket.onmessage = (e) => console.log(e.data);`,
    redis: `redis-cli PUBLISH ${channel} 'Hello, live'\nredis-cli FCALL sluice_publish 1 ${channel} 'Hello, stored'`,
    curl: `curl -N '${sse}'\ncurl -d 'Hello from curl' '${publish}'`,
  };
}

export class Snippets {
  /** root has a figure for each, with data-snippet, a button that copies it and a code element; said tells that it was copied. */
  constructor(root, said) {
    this.figures = [...root.querySelectorAll("[data-snippet]")];
    this.said = said;
    for (const figure of this.figures) {
      const button = figure.querySelector("button");
      button.ariaLabel = `Copy the ${figure.dataset.snippet} snippet`;
      button.addEventListener("click", () => this.copy(figure.querySelector("code"), button));
    }
  }

  write(channel) {
    const base = new URL(".", document.baseURI).href;
    const all = snippets(channel, base, endpoint("sse", channel), endpoint("ws", channel), publishURL(channel));
    for (const figure of this.figures) figure.querySelector("code").textContent = all[figure.dataset.snippet];
  }

  async copy(source, button) {
    let said = "Copied";
    try {
      await navigator.clipboard.writeText(source.textContent);
    } catch {
      getSelection().selectAllChildren(source); // no clipboard without https: leave it to the keyboard
      said = "Selected";
    }
    button.textContent = said;
    this.said.textContent = said;
    setTimeout(() => {
      button.textContent = "Copy";
      this.said.textContent = "";
    }, 1600);
  }
}
