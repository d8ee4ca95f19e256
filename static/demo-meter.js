// Meter counts messages and keeps latencies by the second, for the last minute. It knows no clock:
// callers pass milliseconds, so that it can be tested as a table.

/** How many complete seconds a meter remembers. */
export const SECONDS = 60;

// A firehose must not make memory grow: past this many latencies a second, later ones are counted only.
const MAX_SAMPLES = 500;

export class Meter {
  constructor() {
    this.total = 0;
    this.newest = 0; // when something was last counted
    // Three more than SECONDS: the second that runs, and those that slide into and out of the chart.
    this.buckets = Array.from({ length: SECONDS + 3 }, () => ({ second: -1, count: 0, samples: [], sorted: true }));
  }

  /** add counts a message at ms, or count of them; latency, in milliseconds, is undefined where it is unknown. */
  add(ms, latency, count = 1) {
    const second = Math.floor(ms / 1000);
    const b = this.buckets[second % this.buckets.length];
    if (b.second !== second) {
      b.second = second;
      b.count = 0;
      b.samples = [];
    }
    b.count += count;
    this.total += count;
    this.newest = ms;
    if (latency !== undefined && b.samples.length < MAX_SAMPLES) {
      b.samples.push(latency);
      b.sorted = false;
    }
  }

  /** at returns {count, p50, p99} of one second; the quantiles are null where nothing was measured. */
  at(second) {
    const b = this.buckets[((second % this.buckets.length) + this.buckets.length) % this.buckets.length];
    if (b.second !== second) return { count: 0, p50: null, p99: null };
    if (!b.sorted) {
      b.samples.sort((x, y) => x - y);
      b.sorted = true;
    }
    return { count: b.count, p50: quantile(b.samples, 0.5), p99: quantile(b.samples, 0.99) };
  }

  /** latency returns {p50, p99, max} over the last seconds, by default a minute, the running one included. */
  latency(ms, seconds = SECONDS) {
    const now = Math.floor(ms / 1000);
    const all = this.buckets.filter((b) => b.second > now - seconds && b.second <= now).flatMap((b) => b.samples);
    all.sort((x, y) => x - y);
    return { p50: quantile(all, 0.5), p99: quantile(all, 0.99), max: quantile(all, 1) };
  }
}

/** quantile returns the nearest-rank quantile q of sorted numbers, null if there are none. */
export function quantile(sorted, q) {
  if (sorted.length === 0) return null;
  return sorted[Math.max(0, Math.ceil(q * sorted.length) - 1)];
}

/** niceMax returns the smallest of 1, 2, 5, 10, 20, 50 … (times low) that value fits under. */
export function niceMax(value, low) {
  for (let max = low, i = 0; i < 60; i++) {
    if (value <= max) return max;
    max *= i % 3 === 1 ? 2.5 : 2;
  }
  return value;
}
