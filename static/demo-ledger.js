// Ledger keeps count of numbered messages: whoever publishes them counts by one, so what is missing shows, and what comes twice.

export class Ledger {
  constructor() {
    this.received = 0;
    this.lost = 0;
    this.repeated = 0;
    this.told = 0; // gaps that the node has told: what they hide is not lost in silence
    this.next = new Map(); // publisher → the number that it is due
  }

  /** add counts number n of a publisher. It returns how many were passed over; -1 if it is one that was there. */
  add(by, n) {
    const due = this.next.get(by) ?? n; // one who comes later begins anywhere
    if (n < due) {
      this.repeated++;
      return -1;
    }
    this.received++;
    this.lost += n - due;
    this.next.set(by, n + 1);
    return n - due;
  }

  /** gap forgets what is due. */
  gap() {
    this.told++;
    this.next.clear();
  }
}
