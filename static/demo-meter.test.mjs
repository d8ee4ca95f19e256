// Run by static_test.go where Node is installed, or by hand: node --test static/
import assert from "node:assert/strict";
import { test } from "node:test";

import { Meter, SECONDS, niceMax, quantile } from "./demo-meter.js";

test("quantile is the nearest rank", () => {
  const hundred = Array.from({ length: 100 }, (_, i) => i + 1);
  for (const [why, sorted, q, want] of [
    ["nothing measured", [], 0.5, null],
    ["one value is every quantile", [7], 0.99, 7],
    ["the median of an even count is the lower one", [1, 2, 3, 4], 0.5, 2],
    ["p99 of 100", hundred, 0.99, 99],
    ["p0 is the least", hundred, 0, 1],
    ["p100 is the greatest", hundred, 1, 100],
  ]) {
    assert.equal(quantile(sorted, q), want, why);
  }
});

test("a meter counts by the second and forgets after a minute", () => {
  const m = new Meter();
  m.add(10_000, 3);
  m.add(10_999, 1);
  m.add(11_000);
  assert.deepEqual(m.at(10), { count: 2, p50: 1, p99: 3 });
  assert.deepEqual(m.at(11), { count: 1, p50: null, p99: null }, "a message without latency counts all the same");
  assert.deepEqual(m.at(9), { count: 0, p50: null, p99: null });
  assert.deepEqual(m.at(-1), { count: 0, p50: null, p99: null }, "the chart asks for seconds before the first");
  assert.deepEqual(m.latency(11_500), { p50: 1, p99: 3, max: 3 });
  assert.deepEqual(m.latency(10_000 + SECONDS * 1000), { p50: null, p99: null, max: null }, "older than a minute");

  assert.deepEqual(m.latency(14_000, 3), { p50: null, p99: null, max: null }, "older than three seconds");

  m.add((10 + m.buckets.length) * 1000, 9);
  assert.equal(m.at(10).count, 0, "its bucket belongs to a later second now");
  assert.equal(m.total, 4, "the total forgets nothing");
});

test("a meter counts several at once", () => {
  const m = new Meter();
  m.add(10_000, 3, 50);
  m.add(10_100, 5, 20);
  assert.deepEqual(m.at(10), { count: 70, p50: 3, p99: 5 }, "a delivery is one latency, of many messages");
  assert.equal(m.total, 70);
});

test("a firehose does not make a meter grow", () => {
  const m = new Meter();
  for (let i = 0; i < 20_000; i++) m.add(5_000, i);
  assert.equal(m.at(5).count, 20_000);
  assert.ok(m.buckets[5].samples.length <= 500, `${m.buckets[5].samples.length} samples`);
});

test("niceMax climbs 1, 2, 5, 10 …", () => {
  for (const [value, low, want] of [[0, 10, 10], [10, 10, 10], [11, 10, 20], [45, 10, 50], [51, 10, 100], [5000, 10, 5000], [5001, 10, 10000], [3, 2, 4]]) {
    assert.equal(niceMax(value, low), want, `niceMax(${value}, ${low})`);
  }
});
