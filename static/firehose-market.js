// Market is where the firehose comes from: prices that wander at random, and how one of them is written into
// a message and read out of it. It knows neither clock nor page.

/** The keys, one per cell of the grid: rivers, as a sluice would have them. */
export const SYMBOLS = (
  "AARE ADDA AMUR ARNO AVON BOYNE CLYDE CONGO DON DOURO DRAVA EBRO EIDER ELBE FORTH HUAI INDUS INN ISAR KAMA LENA " +
  "LOIRE LUNE MAAS MAIN MARNE MINHO MOSEL NEVA NIGER NILE OB ODER OHIO ORB PARA PO RHINE RHONE RUHR SAAR SAVA SEINE " +
  "SPREE TAGUS TIBER VOLGA WESER YUKON ZAIRE"
).split(" ");

const STEP = 0.004; // the largest change of one update, as a part of the price

export class Market {
  /** random returns a number from 0 to 1, 1 excluded. */
  constructor(random = Math.random) {
    this.random = random;
    this.prices = SYMBOLS.map(() => 20 + 180 * random());
  }

  /** next moves one price and returns {key, price}. */
  next() {
    const i = Math.floor(this.random() * SYMBOLS.length);
    const price = this.prices[i] * (1 + STEP * (2 * this.random() - 1));
    this.prices[i] = Math.min(999, Math.max(1, price));
    return { key: SYMBOLS[i], price: Math.round(this.prices[i] * 100) / 100 };
  }
}

/** quote writes the payload of an update: page and n tell it from all others, sent is when, in milliseconds. */
export function quote(page, n, sent, price) {
  return `{"page":"${page}","n":${n},"sent":${sent.toFixed(1)},"price":${price}}`;
}

/**
 * readQuote reads a payload: {price, page, n, sent} of a quote, {price} where there is only that, and {text} of
 * anything else. What others publish on the channel is shown, too.
 */
export function readQuote(text) {
  let value;
  try {
    value = JSON.parse(text);
  } catch {
    return { text };
  }
  if (typeof value === "number") return { price: value };
  if (typeof value?.price !== "number") return { text };
  const { price, page, n, sent } = value;
  if (typeof page !== "string" || typeof n !== "number" || typeof sent !== "number") return { price };
  return { price, page, n, sent };
}

/** Pace says how many messages are due, so that a rate holds however late its timer is. */
export class Pace {
  constructor(perSecond, ms) {
    this.restart(perSecond, ms);
  }

  restart(perSecond, ms) {
    this.perSecond = perSecond;
    this.begin = ms;
    this.done = 0;
  }

  /** due returns how many messages to send at ms, at most most. What is more than a second late is dropped. */
  due(ms, most) {
    const late = Math.floor(((ms - this.begin) / 1000) * this.perSecond) - this.done;
    if (late > this.perSecond) this.restart(this.perSecond, ms - 1000);
    const n = Math.max(0, Math.min(most, Math.floor(((ms - this.begin) / 1000) * this.perSecond) - this.done));
    this.done += n;
    return n;
  }
}
