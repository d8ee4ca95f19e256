// Gather finds deliveries again. The server writes all that it has for a page at once, but a browser hands it
// over message by message, and a large one comes as several frames: only of a pause, of a message that tells how
// many were skipped before it, or of how far apart deliveries must be, the page knows that something new begins.

/** Milliseconds of quiet that end a delivery, and how long one may take, where nothing keeps deliveries apart. */
export const QUIET = 4, LONGEST = 16;

const MAX_QUIET = 50; // milliseconds; no page is busy for longer between two parts of a delivery

export class Gather {
  constructor() {
    this.messages = [];
    this.first = 0;
    this.last = 0;
    this.expect(0);
  }

  /** expect says how many milliseconds there are at least between two deliveries; 0: unknown. */
  expect(apart) {
    this.quiet = Math.min(MAX_QUIET, Math.max(QUIET, apart / 4));
    this.longest = Math.max(LONGEST, apart / 2);
    this.whole = this.longest === LONGEST; // take each frame with several messages for a delivery
  }

  /** begins reports whether a frame of count messages, after skipped others, is the beginning of a delivery. */
  begins(count, skipped) {
    return skipped > 0 || (count > 1 && this.whole);
  }

  /** add takes messages that came at ms and reports whether there were none before. */
  add(ms, messages) {
    const empty = this.messages.length === 0;
    if (empty) this.first = ms;
    this.last = ms;
    this.messages.push(...messages);
    return empty;
  }

  /** wait returns how many milliseconds after ms to ask take again; 0: now. */
  wait(ms) {
    return Math.max(0, Math.min(this.last + this.quiet, this.first + this.longest) - ms);
  }

  /** take returns the messages and begins anew. */
  take() {
    const all = this.messages;
    this.messages = [];
    return all;
  }
}
