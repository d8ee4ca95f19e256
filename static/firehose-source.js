// Source publishes the firehose from this page: arrays of live messages, posted one after the other. It
// needs no worker, whose URL the page's content policy would forbid; so a browser slows it down while
// the page is in the background.

import { Market, Pace, quote } from "./firehose-market.js";
import { now, page, pause, post } from "./demo-publish.js";

const TICK = 50; // milliseconds between two arrays
const MOST = 1000; // messages in an array, as the server takes them
const RETRY = 1000; // milliseconds until the next try after a failure

export class Source {
  /**
   * on.published(key, price, ms) is called for each message that the server has taken, on.failed(text) when it
   * has not taken some, with "" when it does again.
   */
  constructor(on) {
    this.on = on;
    this.market = new Market();
    this.n = 0; // the number of the newest message; never one twice, since streams are joined by it
    this.running = null;
  }

  /** start publishes to channel until stop. */
  start(channel, perSecond) {
    this.stop();
    this.running = new AbortController();
    this.pace = new Pace(perSecond, performance.now());
    this.run(channel, this.running.signal);
  }

  stop() {
    this.running?.abort();
    this.running = null;
  }

  /** setRate changes the rate of a source that runs. */
  setRate(perSecond) {
    if (this.running) this.pace.restart(perSecond, performance.now());
  }

  async run(channel, signal) {
    try {
      for (;;) {
        const began = performance.now();
        const ok = await this.send(channel, this.pace.due(began, MOST), signal);
        await pause(ok ? Math.max(0, TICK - (performance.now() - began)) : RETRY, signal);
      }
    } catch (err) {
      if (err.name !== "AbortError") throw err;
    }
  }

  // Arrays never overlap: a server that is slow gets larger ones, not more of them, and the order stays.
  async send(channel, count, signal) {
    if (count === 0) return true;
    const quotes = Array.from({ length: count }, () => ({ ...this.market.next(), sent: now() }));
    const body = quotes.map(({ key, price, sent }) => ({ channel, key, live: true, data: quote(page, ++this.n, sent, price) }));
    try {
      const answer = await post(new URL("publish", document.baseURI), JSON.stringify(body), "application/json", signal);
      const { results } = await answer.json();
      results.forEach((r, i) => {
        if (!r.error) this.on.published(quotes[i].key, quotes[i].price, quotes[i].sent);
      });
      const failed = results.find((r) => r.error);
      this.on.failed(failed ? `${failed.error.code}: ${failed.error.detail}` : "");
      return !failed;
    } catch (err) {
      if (err.name === "AbortError") throw err;
      this.on.failed(err.message);
      return false;
    }
  }
}
