// Gather finds deliveries again. The server writes all that it has for a page at once, but a browser hands it
// over message by message, without pauses: only of a pause, or of a message that tells how many were
// skipped before it, the page knows that something new begins.

/** Milliseconds of quiet that end a delivery, and how long one may take at most. */
export const QUIET = 4, LONGEST = 16;

export class Gather {
  constructor() {
    this.messages = [];
    this.first = 0;
    this.last = 0;
  }

  /** add takes messages that came at ms and reports whether they begin a delivery. */
  add(ms, messages) {
    const begins = this.messages.length === 0;
    if (begins) this.first = ms;
    this.last = ms;
    this.messages.push(...messages);
    return begins;
  }

  /** wait returns how many milliseconds after ms to ask take again; 0: now. */
  wait(ms) {
    return Math.max(0, Math.min(this.last + QUIET, this.first + LONGEST) - ms);
  }

  /** take returns the messages and begins anew. */
  take() {
    const all = this.messages;
    this.messages = [];
    return all;
  }
}
