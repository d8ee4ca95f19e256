// Hose is one channel by one line at a time, whose delivery can be changed while it runs: in place on a
// WebSocket, else make before break. The new line is opened first, after the old one's resume token; once it
// listens, the old one stays until it has delivered what it held back at that moment, and only then do
// the new one's messages count, without those that the old one has brought.

import { Backoff } from "./demo-feed.js";
import { SocketLine, StreamLine, waitText } from "./firehose-line.js";
import { readQuote } from "./firehose-market.js";
import { Splice } from "./firehose-splice.js";
import { longestWait } from "./firehose-wish.js";

const SLACK = 250; // milliseconds that a delivery may take on its way
const LONGEST_OVERLAP = 5000; // milliseconds; whoever is fed every hour does not keep two lines for an hour

export class Hose {
  /**
   * on has state("connecting" | "open" | "closed"), told(deliver, transport) when something else is in force,
   * messages(list, skipped) with new messages only, each {key, time, price | text, page, n, sent}, bytes(n),
   * gap(reason), and trouble(text), "" when it is over.
   */
  constructor(on) {
    this.on = on;
    this.backoff = new Backoff();
    this.wanted = null; // {transport, wish}
    this.current = null;
    this.next = null;
    this.held = []; // what next has brought so far
    this.turn = 0; // counts changes, so that one that took its time is not carried out after another
  }

  /** listen begins anew with a channel. */
  listen(channel, transport, wish) {
    this.close();
    this.channel = channel;
    this.splice = new Splice();
    this.wanted = { transport, wish };
    this.open("");
  }

  close() {
    this.turn++;
    this.backoff.stop();
    this.dropNext();
    this.current?.close();
    this.current = null;
    this.deliver = undefined;
    this.on.state("closed");
  }

  /** change asks for another delivery, or for the same by another transport. */
  async change(transport, wish) {
    const before = this.wanted;
    this.wanted = { transport, wish };
    const turn = ++this.turn;
    this.backoff.stop();
    if (!this.current) return;
    const old = this.current;
    if (!this.next && this.up && transport === before.transport && old.change) {
      old.change(wish);
      return;
    }
    const token = await old.token();
    if (this.turn !== turn || this.current !== old) return;
    this.dropNext();
    if (this.up) {
      this.next = this.line(token);
      return;
    }
    old.close(); // it isn't there, or its wish was refused: nothing to be kept
    this.open(token);
  }

  open(token) {
    this.up = false;
    this.on.state("connecting");
    this.current = this.line(token);
  }

  // line makes the line that is wanted. What comes from one that has been replaced meanwhile is left out.
  line(token) {
    const { transport, wish } = this.wanted;
    const own = (then) => (...args) => {
      if (line === this.current || line === this.next) then(...args);
    };
    const Line = transport === "ws" ? SocketLine : StreamLine;
    const line = new Line(this.channel, wish, token, {
      opened: own((deliver) => this.opened(line, deliver)),
      told: own((deliver) => this.told(deliver)),
      messages: own((list, skipped) => this.messages(line, list, skipped)),
      bytes: own((n) => this.on.bytes(n)),
      gap: own((reason) => this.gap(line, reason)),
      waiting: own(() => this.waiting(line)),
      lost: own((text) => this.lost(line, text)),
      refused: own((text, change) => this.refused(line, text, change)),
    });
    line.transport = transport;
    return line;
  }

  opened(line, deliver) {
    line.deliver = deliver;
    line.listens = true;
    if (line === this.current) {
      this.up = true;
      this.backoff.opened();
      this.on.state("open");
      this.told(deliver);
      return;
    }
    const overlap = this.up ? Math.min(LONGEST_OVERLAP, longestWait(this.current.deliver) + SLACK) : 0;
    clearTimeout(this.handing);
    this.handing = setTimeout(() => this.handOver(), overlap);
  }

  // handOver puts next in the place of current. Where that one broke, next has what it still owed: it resumed.
  handOver() {
    const { next, held } = this;
    this.current.close();
    this.current = next;
    this.next = null;
    this.dropNext();
    this.up = next.listens ?? false;
    this.on.state(this.up ? "open" : "connecting");
    if (this.up) this.told(next.deliver);
    for (const then of held) then();
  }

  dropNext() {
    clearTimeout(this.handing);
    this.next?.close();
    this.next = null;
    this.held = [];
  }

  told(deliver) {
    this.current.deliver = deliver;
    this.on.trouble("");
    this.on.told(deliver, this.current.transport);
  }

  messages(line, list, skipped) {
    if (line === this.next) {
      this.held.push(() => this.messages(line, list, skipped));
      return;
    }
    const fresh = [];
    let told = skipped;
    for (const [i, m] of list.entries()) {
      const read = { key: m.key ?? "", time: m.time, position: m.position, ...readQuote(m.data ?? "") };
      if (this.splice.take(read)) fresh.push(read);
      else if (i === 0) told = 0; // what was dropped before a message that the old line brought, it has told
    }
    if (fresh.length > 0 || told > 0) this.on.messages(fresh, told);
  }

  gap(line, reason) {
    if (line === this.next) {
      this.held.push(() => this.gap(line, reason));
      return;
    }
    this.splice.broken();
    this.on.gap(reason);
  }

  waiting(line) {
    if (line === this.next) return; // it comes back, and the old one goes on
    if (this.next) {
      this.handOver();
      return;
    }
    this.up = false;
    this.on.state("connecting");
  }

  async lost(line, text) {
    if (line === this.next) {
      this.dropNext();
      this.retry(text);
      return;
    }
    if (this.next) {
      this.handOver();
      return;
    }
    const token = await line.token();
    if (this.current !== line) return;
    this.up = false;
    this.on.state("connecting");
    this.retry(text, token);
  }

  // retry makes the wanted line once more, after a while.
  retry(text, token) {
    const delay = this.backoff.start(() => {
      if (token === undefined) this.change(this.wanted.transport, this.wanted.wish);
      else this.open(token);
    });
    this.on.trouble(waitText(text, delay));
  }

  refused(line, text, change) {
    this.on.trouble(text);
    if (line === this.next) {
      this.dropNext();
      return;
    }
    if (change && this.up) return;
    line.close();
    this.up = false;
    this.on.state("closed");
  }
}
