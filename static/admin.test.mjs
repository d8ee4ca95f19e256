// Run by static_test.go where Node is installed, or by hand: node --test static/
import assert from "node:assert/strict";
import { test } from "node:test";

import { age, bytes, deliver, difference, largest, MEMORY, number, Past, quantile, seconds, shown, sum } from "./admin-figures.js";

const at = (second, count, more = {}) => ({ time: second * 1000, uptime: second, count, h: { sse: [count, 0, 1] }, ...more });
const count = (s) => s.count;

test("rates are differences of counters over the time between two answers", () => {
  const past = new Past();
  assert.equal(past.rate(count, 3), null, "nothing was answered");
  past.add(at(10, 100));
  assert.equal(past.rate(count, 3), null, "one answer is no difference");
  past.add(at(11, 110));
  assert.equal(past.rate(count, 3), 10, "as far back as there is");
  past.add(at(12, 140));
  past.add(at(13.5, 140));
  past.add(at(14.5, 200));
  assert.equal(past.rate(count, 2), 60 / 2.5, "the newest that is old enough");
  assert.deepEqual(past.rates(count, 3), [30, 0, 60], "from answer to answer");
  assert.deepEqual(past.rates(count, 60), [10, 30, 0, 60], "those that there are");
  assert.deepEqual(past.values(count, 2), [140, 200]);
});

test("a node that was started anew has no past", () => {
  const past = new Past();
  past.add(at(10, 100));
  past.add(at(11, 110));
  past.add({ ...at(12, 3), uptime: 1 });
  assert.equal(past.rate(count, 3), null);
  past.add({ ...at(13, 5), uptime: 2 });
  assert.equal(past.rate(count, 3), 2);
  past.add({ ...at(13, 6), uptime: 2 });
  assert.equal(past.rate(count, 3), 3, "two answers of one millisecond are the second");
});

test("the past has an end", () => {
  const past = new Past();
  for (let i = 0; i < MEMORY + 50; i++) past.add(at(i, i));
  assert.equal(past.list.length, MEMORY + 1);
  assert.equal(past.rate(count, 1e9), 1);
});

test("a histogram is what buckets have gained", () => {
  const past = new Past();
  assert.deepEqual((past.add(at(1, 5)), past.histogram("h", 10)), { seconds: 0, by: {} });
  past.add(at(2, 9));
  past.add({ ...at(3, 20), h: { sse: [20, 0, 1], ws: [1, 2, 3] } });
  assert.deepEqual(past.histogram("h", 10), { seconds: 2, by: { sse: [15, 0, 0], ws: [1, 2, 3] } });
  assert.deepEqual(past.histogram("h", 1).by.sse, [11, 0, 0]);
  assert.deepEqual(difference([5], [3, 1]), [0, 1], "never negative");
});

test("quantiles are estimated within a bucket", () => {
  const bounds = [1, 2, 4];
  for (const [why, counts, q, want] of [
    ["nothing", [0, 0, 0, 0], 0.5, null],
    ["no buckets", [], 0.5, null],
    ["in the middle of the first", [10, 0, 0, 0], 0.5, { value: 0.5, beyond: false }],
    ["at a bound", [5, 5, 0, 0], 0.5, { value: 1, beyond: false }],
    ["in the middle of a later one", [0, 0, 10, 0], 0.5, { value: 3, beyond: false }],
    ["empty buckets have nothing", [1, 0, 1, 0], 1, { value: 4, beyond: false }],
    ["beyond the last bound", [1, 0, 0, 9], 0.99, { value: 4, beyond: true }],
  ]) {
    assert.deepEqual(quantile(counts, bounds, q), want, why);
  }
});

test("shown is where something is, and a little beside it", () => {
  for (const [why, lists, least, want] of [
    ["nothing at all", [], 3, [0, 0]],
    ["nothing counted", [[0, 0, 0, 0, 0, 0]], 4, [1, 5]],
    ["one bucket", [[0, 0, 0, 1, 0, 0]], 1, [2, 5]],
    ["at the beginning", [[1, 0, 0, 0]], 1, [0, 2]],
    ["at the end", [[0, 0, 0, 1]], 1, [2, 4]],
    ["of both lists", [[0, 1, 0, 0, 0], [0, 0, 0, 1, 0]], 2, [0, 5]],
    ["widened", [[0, 0, 0, 1, 0, 0]], 5, [1, 6]],
    ["no wider than there is", [[1, 1]], 9, [0, 2]],
  ]) {
    assert.deepEqual(shown(lists, least), want, why);
  }
});

test("numbers as people read them", () => {
  for (const [write, value, want] of [
    [number, null, "–"], [number, 0, "0"], [number, 0.25, "0.25"], [number, 0.5, "0.5"], [number, 7.5, "7.5"], [number, 42.42, "42.4"], [number, 1234, "1,234"],
    [number, 9999.4, "9,999"], [number, 56_700, "56.7k"], [number, 123_456, "123k"], [number, 999_499, "999k"], [number, 999_500, "1.00M"], [number, 1.2e9, "1.20G"],
    [bytes, undefined, "–"], [bytes, 0, "0 B"], [bytes, 999, "999 B"], [bytes, 1536, "1.50 KiB"], [bytes, 20 * 1024, "20.0 KiB"], [bytes, 1024 ** 3, "1.00 GiB"],
    [seconds, null, "–"], [seconds, 5e-6, "5 µs"], [seconds, 0.00025, "250 µs"], [seconds, 0.0012345, "1.2 ms"], [seconds, 0.25, "250 ms"], [seconds, 2.5, "2.5 s"], [seconds, 60, "60 s"],
    [age, -1, "0 s"], [age, 12.9, "12 s"], [age, 200, "3 m 20 s"], [age, 3600, "1 h"], [age, 18_120, "5 h 2 m"], [age, 273_600, "3 d 4 h"],
  ]) {
    assert.equal(write(value), want, `${write.name} of ${value}`);
  }
});

test("what is in force is told in words", () => {
  assert.equal(deliver(undefined), "as it comes");
  assert.equal(deliver({}), "as it comes");
  assert.equal(deliver({ filter: 'key == "a"', conflate: "key", rate: "5/s", batch: "50ms,200", slow: "conflate" }), 'rate 5/s · conflate key · batch 50ms,200 · filter key == "a" · slow: conflate');
  assert.equal(deliver({ later: "1" }), "later 1", "what a newer node may say");
});

test("the largest come first", () => {
  assert.equal(largest({ a: 1, bad_token: 12_000, c: 0, d: 2 }, 2), "bad token 12.0k · d 2");
  assert.equal(largest(undefined, 2), "");
  assert.equal(sum(undefined), 0);
});
