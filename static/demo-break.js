// Break asks the node to do wrong to this page's connection (docs/protocol.md). Only nodes for development do.

const WHILE = 60_000; // milliseconds that a transport is refused

/** FAULTS are what the buttons do: requests, of which "session" is replaced; end cuts the connection if it is of one of these; again has it made anew. */
export const FAULTS = {
  kill: { asks: [{ session: true, do: "kill" }], says: "Cut, without a word" },
  swallow: { asks: [{ session: true, do: "swallow" }], says: "Nothing comes through any more; the client leaves after 2.5 heartbeats" },
  delay: { asks: [{ session: true, do: "delay", ms: 500 }], says: "Each write is held back for 500 ms" },
  "no-ws": { asks: [{ transport: "ws", do: "refuse", ms: WHILE }], end: ["ws"], says: "No WebSocket for a minute" },
  "no-stream": {
    asks: [{ transport: "ws", do: "refuse", ms: WHILE }, { transport: "sse", do: "refuse", ms: WHILE }],
    end: ["ws", "sse"],
    says: "No WebSocket and no stream for a minute",
  },
  heal: {
    asks: [{ session: true, do: "heal" }, ...["ws", "sse", "poll"].map((transport) => ({ transport, do: "heal" }))],
    says: "All is well again",
    again: true,
  },
};

/** requests returns what to ask a node for, in order, for a connection; silent has a transport not answer instead of refuse. */
export function requests({ asks, end = [] }, { session, state }, silent) {
  const list = asks.flatMap((a) => {
    if (!a.session) return [a.do === "refuse" && silent ? { ...a, do: "swallow" } : a];
    return session ? [{ ...a, session }] : []; // polls have none
  });
  if (session && end.includes(state)) list.push({ session, do: "kill" });
  return list;
}

export class Break {
  /** note(kind, text) writes to the log. */
  constructor(root, result, silent, note) {
    this.result = result;
    this.silent = silent;
    this.note = note;
    this.buttons = [...root.querySelectorAll("[data-fault]")];
    root.addEventListener("click", (e) => {
      const button = e.target.closest("[data-fault]");
      if (button && button.ariaDisabled !== "true") this.act(button.dataset.fault);
    });
  }

  use(edge) {
    this.edge = edge;
  }

  /** follow says which faults there can be, of a connection as it is. */
  follow({ session }) {
    for (const b of this.buttons) {
      const needs = FAULTS[b.dataset.fault].asks.every((a) => a.session);
      b.ariaDisabled = String(needs && !session); // and stays where the keyboard finds it
    }
  }

  async act(name) {
    const fault = FAULTS[name];
    const { edge } = this;
    this.note(fault.again ? "healed" : "broken", fault.says);
    this.result.textContent = fault.says;
    for (const body of requests(fault, edge.stats(), this.silent.checked)) {
      const answer = await fetch(new URL("dev/break", document.baseURI), {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify(body),
      }).catch(() => ({ status: 0 }));
      // One that has just ended can't be broken any more.
      if (!answer.ok && answer.status !== 404) this.result.textContent = `The node did not do it (${answer.status})`;
    }
    if (fault.again) edge.reconnect();
  }
}
