// Source publishes numbers that walk up and down, for all tabs: one of them does it at a time, one that is in sight if there is any, since
// browsers slow hidden ones down. It publishes by itself, not by the client, so that it goes on while the connection is broken.

import { now, page, pause, post } from "./demo-publish.js";

const EVERY = 250; // milliseconds between two numbers
const AGAIN = 500; // and until one is sent again that did not get through

export class Source {
  /** active(on) is called when this tab begins or ends to publish. */
  constructor(active) {
    this.active = active;
    this.n = 0;
    this.value = 50;
    this.stopped = true;
    document.addEventListener("visibilitychange", () => this.turn(true));
  }

  start(channel) {
    this.channel = channel;
    this.stopped = false;
    this.turn(true);
  }

  stop() {
    this.stopped = true;
    this.abort?.abort();
  }

  /** follow goes on from a number that another tab has published. */
  follow(value) {
    this.value = value;
  }

  /** turn lets others go first, and waits for its turn again; take has it have its turn at once if it is in sight. */
  turn(take) {
    this.abort?.abort();
    this.active(false);
    if (this.stopped) return;
    this.abort = new AbortController();
    const { signal } = this.abort;
    const run = () => this.run(signal).catch(() => {}); // ends by the signal only
    if (!navigator.locks) {
      run();
      return;
    }
    // One that comes into sight does not wait: who has the lock may be hidden, and slow. Who loses it so waits for it again.
    const how = take && !document.hidden ? { steal: true } : { signal };
    navigator.locks.request(`sluice-demo ${this.channel}`, how, run).catch(() => {
      if (!signal.aborted) this.turn();
    });
  }

  async run(signal) {
    this.active(true);
    try {
      for (;;) {
        this.value = step(this.value);
        const n = this.n + 1;
        await this.send({ by: page, n, value: this.value, sent: now() }, signal);
        this.n = Math.max(this.n, n); // not before: one that was never sent must not be missed; a turn that ends may send the same one
        await pause(EVERY, signal);
      }
    } finally {
      if (this.abort.signal === signal) this.active(false);
    }
  }

  /** send publishes one number until it is stored; the id makes it one however often that takes. */
  async send(data, signal) {
    const body = JSON.stringify({ channel: this.channel, data, id: `${data.by}.${data.n}` });
    for (;;) {
      try {
        await post(new URL("publish", document.baseURI), body, "application/json");
        return;
      } catch {
        await pause(AGAIN, signal);
      }
    }
  }
}

/** step is the next value of a walk between 0 and 100. */
export function step(value, random = Math.random) {
  return Math.round(Math.min(100, Math.max(0, value + (random() - 0.5) * 14 + (50 - value) / 40)) * 10) / 10;
}
