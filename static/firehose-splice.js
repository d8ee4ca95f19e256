// Splice joins the end of one stream to the beginning of the next, which both carry one channel: what the
// first has brought is not taken again from the second. Each stream is a subsequence of the channel, in
// its order, so one mark is enough: up to it all messages were delivered, or dropped on purpose.

// Pages that are remembered. Each has marks of its own, since live messages have no position.
const MAX_PAGES = 64;

export class Splice {
  constructor() {
    this.position = null; // of the newest durable message
    this.pages = new Map(); // the newest number of each page that publishes
  }

  /**
   * take reports whether m is new, and marks it. m has a position if it is durable, else perhaps page and n:
   * who has published it, and its place among all that they have. Without those it is taken for new.
   */
  take(m) {
    if (m.position) {
      const at = place(m.position);
      if (this.position && !after(at, this.position)) return false;
      this.position = at;
      return true;
    }
    if (m.page === undefined) return true;
    if (m.n <= (this.pages.get(m.page) ?? 0)) return false;
    this.pages.delete(m.page); // the map keeps the order of insertion: the quietest page is forgotten first
    this.pages.set(m.page, m.n);
    if (this.pages.size > MAX_PAGES) this.pages.delete(this.pages.keys().next().value);
    return true;
  }

  /** broken forgets the position: after a gap the history may be another one, with lower positions. */
  broken() {
    this.position = null;
  }
}

// A position is MS-SEQ-TAG; the tag has no order.
function place(position) {
  const [ms, seq] = position.split("-");
  return { ms: Number(ms), seq: Number(seq) };
}

function after(a, b) {
  return a.ms > b.ms || (a.ms === b.ms && a.seq > b.seq);
}
