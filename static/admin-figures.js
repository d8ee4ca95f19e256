// What the page for operators computes: differences of counters, quantiles of buckets, and numbers as people read them. It knows
// neither page nor clock, so that it can be tested as tables.

/** How many answers of /admin/stats are remembered: five minutes, one a second. */
export const MEMORY = 300;

/** Past remembers the newest answers of one process. */
export class Past {
  constructor() {
    this.list = [];
  }

  /** add takes an answer. One of a node that has been started anew, whose counters begin again, ends the past. */
  add(stats) {
    const last = this.list.at(-1);
    if (last && (stats.uptime < last.uptime || stats.time < last.time)) this.list = [];
    if (last && stats.time === last.time) this.list.pop();
    this.list.push(stats);
    if (this.list.length > MEMORY + 1) this.list.shift();
  }

  /** now returns the newest answer. */
  get now() {
    return this.list.at(-1);
  }

  /** before returns the newest answer that is at least so many seconds older than now, or the oldest; null if there is one only. */
  before(seconds) {
    const { list } = this;
    if (list.length < 2) return null;
    const limit = this.now.time - seconds * 1000;
    for (let i = list.length - 2; i > 0; i--) {
      if (list[i].time <= limit) return list[i];
    }
    return list[0];
  }

  /** rate returns a counter's growth per second over the last seconds; null if that can't be known yet. count reads it from an answer. */
  rate(count, seconds) {
    const then = this.before(seconds);
    return then && perSecond(then, this.now, count);
  }

  /** rates returns the growth per second from each of the last answers to the next, the newest last. */
  rates(count, number) {
    return this.pairs((then, now) => perSecond(then, now, count), number);
  }

  /** pairs returns what make makes of each of the last answers and the one before it, the newest last. */
  pairs(make, number) {
    const list = this.list.slice(-number - 1);
    return list.slice(1).map((now, i) => make(list[i], now));
  }

  /** values returns what read makes of the last answers, the newest last. */
  values(read, number) {
    return this.list.slice(-number).map(read);
  }

  /** histogram returns what buckets have gained over the last seconds, by transport, and over how many seconds that is. */
  histogram(name, seconds) {
    const then = this.before(seconds);
    const now = this.now;
    if (!then) return { seconds: 0, by: {} };
    const by = {};
    for (const [transport, counts] of Object.entries(now[name])) {
      by[transport] = difference(then[name][transport] ?? [], counts);
    }
    return { seconds: (now.time - then.time) / 1000, by };
  }
}

function perSecond(then, now, count) {
  const seconds = (now.time - then.time) / 1000;
  return seconds > 0 ? (count(now) - count(then)) / seconds : null;
}

/** difference returns now - then, bucket by bucket. */
export function difference(then, now) {
  return now.map((n, i) => Math.max(0, n - (then[i] ?? 0)));
}

/** sum adds up the numbers of an object or an array; of a missing one it is 0. */
export function sum(numbers) {
  return Object.values(numbers ?? {}).reduce((a, b) => a + b, 0);
}

/**
 * quantile estimates the quantile q of bucket counts, the last of which has no bound: what is in a bucket is taken to be spread
 * evenly over it. {value, beyond}: beyond is true if it is more than the last bound, which is the value then. null if nothing was counted.
 */
export function quantile(counts, bounds, q) {
  const total = sum(counts);
  if (total === 0) return null;
  let rank = q * total;
  for (let i = 0; i < bounds.length; i++) {
    if (counts[i] > 0 && rank <= counts[i]) {
      const low = i === 0 ? 0 : bounds[i - 1];
      return { value: low + (bounds[i] - low) * (rank / counts[i]), beyond: false };
    }
    rank -= counts[i];
  }
  return { value: bounds.at(-1), beyond: true };
}

/** shown returns the first and one past the last bucket to draw: those with something in them, one beside each, and at least so many. */
export function shown(lists, least) {
  const length = lists[0]?.length ?? 0;
  const used = [...Array(length).keys()].filter((i) => lists.some((counts) => counts[i] > 0));
  let from = Math.max(0, (used[0] ?? Math.floor(length / 2)) - 1);
  let to = Math.min(length, (used.at(-1) ?? Math.floor(length / 2)) + 2);
  while (to - from < Math.min(least, length)) {
    if (from > 0) from--;
    if (to < length && to - from < least) to++;
  }
  return [from, to];
}

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

// digits writes a number with three digits that count.
const digits = (n) => (n >= 100 ? n.toFixed(0) : n >= 10 ? n.toFixed(1) : n.toFixed(2));

/** number writes a count or a rate: 0, 0.25, 7.5, 1,234, 56.7k, 1.20M. null is a dash. */
export function number(n) {
  if (n === null || n === undefined) return "–";
  if (n >= 999_500) return n >= 999_500_000 ? `${digits(n / 1e9)}G` : `${digits(n / 1e6)}M`;
  if (n >= 10_000) return `${digits(n / 1e3)}k`;
  if (n >= 100 || Number.isInteger(n)) return whole.format(n);
  return n >= 10 ? n.toFixed(1) : n.toFixed(2).replace(/\.?0+$/, "");
}

/** bytes writes a number of bytes: 512 B, 1.50 KiB. */
export function bytes(n) {
  if (n === null || n === undefined) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  for (; n >= 1000 && unit < units.length - 1; unit++) n /= 1024;
  return `${unit === 0 ? whole.format(n) : digits(n)} ${units[unit]}`;
}

/** seconds writes a short duration: 5 µs, 1.2 ms, 3 s. */
export function seconds(s) {
  if (s === null || s === undefined) return "–";
  const short = (n) => (n >= 100 ? n.toFixed(0) : Number(n.toPrecision(2)).toString());
  if (s < 999.5e-6) return `${short(s * 1e6)} µs`;
  if (s < 0.9995) return `${short(s * 1e3)} ms`;
  return `${short(s)} s`;
}

/** age writes a long duration in its two largest units: 12 s, 3 m 20 s, 5 h 2 m, 3 d 4 h. */
export function age(s) {
  s = Math.max(0, Math.floor(s));
  const parts = [[86_400, "d"], [3600, "h"], [60, "m"], [1, "s"]];
  const first = parts.findIndex(([n]) => s >= n);
  if (first < 0) return "0 s";
  const text = [];
  for (const [n, unit] of parts.slice(first, first + 2)) {
    const count = Math.floor(s / n);
    if (count > 0) text.push(`${count} ${unit}`);
    s %= n;
  }
  return text.join(" ");
}

/** largest writes the entries of an object that are not 0, the largest first, and at most so many: "conflate 12 · filter 3". */
export function largest(numbers, most, write = number) {
  return Object.entries(numbers ?? {})
    .filter(([, n]) => n > 0)
    .sort((a, b) => b[1] - a[1])
    .slice(0, most)
    .map(([name, n]) => `${name.replaceAll("_", " ")} ${write(n)}`)
    .join(" · ");
}

/** deliver writes what is in force as a policy says it, in words. */
export function deliver(policy) {
  const { conflate, filter, rate, batch, slow, ...other } = policy ?? {};
  const words = [
    rate && `rate ${rate}`,
    conflate && `conflate ${conflate}`,
    batch && `batch ${batch}`,
    filter && (filter === true ? "filter" : `filter ${filter}`),
    slow && `slow: ${slow}`,
    ...Object.entries(other).map(([name, value]) => `${name} ${value}`),
  ].filter(Boolean);
  return words.length > 0 ? words.join(" · ") : "as it comes";
}
