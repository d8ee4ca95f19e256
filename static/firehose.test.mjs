// Run by static_test.go where Node is installed, or by hand: node --test static/
import assert from "node:assert/strict";
import { test } from "node:test";

import { Gather, LONGEST, QUIET } from "./firehose-gather.js";
import { Market, Pace, SYMBOLS, quote, readQuote } from "./firehose-market.js";
import { Splice } from "./firehose-splice.js";
import { apart, inForce, longestWait, sample, wish } from "./firehose-wish.js";

test("a wish leaves out what is off", () => {
  const off = { perSecond: 0, window: 0, conflate: "none", filter: " " };
  for (const [why, controls, want] of [
    ["everything as it comes", {}, {}],
    ["each in the grammar of the protocol", { perSecond: 5, window: 200, conflate: "key", filter: " data.price > 100 " },
      { rate: "5/s", batch: "200ms", conflate: "key", filter: "data.price > 100" }],
    ["one alone", { conflate: "latest" }, { conflate: "latest" }],
  ]) {
    assert.deepEqual(wish({ ...off, ...controls }), want, why);
  }
});

test("longestWait is what rate and batch may hold back", () => {
  for (const [why, deliver, want] of [
    ["nothing told", undefined, 0],
    ["nothing in force", {}, 0],
    ["only conflated", { conflate: "key" }, 0],
    ["rate", { rate: "5/s" }, 200],
    ["less than one a second", { rate: "0.5/s" }, 2000],
    ["by the minute", { rate: "30/m" }, 2000],
    ["by the hour", { rate: "100/h" }, 36_000],
    ["batch", { batch: "50ms,200" }, 50],
    ["the longer of both", { rate: "20/s", batch: "1.5s" }, 1500],
    ["durations as Go writes them", { batch: "1m2s" }, 62_000],
    ["what is not understood counts as nothing", { rate: "often", batch: "soon" }, 0],
  ]) {
    assert.equal(longestWait(deliver), want, why);
  }
});

test("apart is what keeps two deliveries from each other", () => {
  for (const [why, deliver, want] of [
    ["nothing told", undefined, 0],
    ["only conflated", { conflate: "key" }, 0],
    ["rate", { rate: "5/s" }, 200],
    ["a window without an end but time", { batch: "500ms" }, 500],
    ["a full batch goes at once", { batch: "500ms,50" }, 0],
    ["but not before the rate lets it", { rate: "20/s", batch: "500ms,50" }, 50],
    ["the longer of both", { rate: "5/s", batch: "500ms" }, 500],
  ]) {
    assert.equal(apart(deliver), want, why);
  }
});

test("what is in force is told in words", () => {
  assert.equal(inForce(undefined), "everything, as it comes");
  assert.equal(inForce({}), "everything, as it comes");
  assert.equal(inForce({ conflate: "key", rate: "5/s" }), "conflate key · rate 5/s");
});

test("the sample is code that works", () => {
  const wished = { rate: "5/s", filter: 'key == "A" && data.price > 1' };
  const sse = sample("sse", "a", wished);
  const query = new URL(sse.match(/"(.*)"/)[1], "http://localhost").searchParams;
  assert.deepEqual(Object.fromEntries(query), { channel: "a", ...wished, format: "json" });
  const ws = sample("ws", "a", wished);
  assert.deepEqual(new Function(`return ${ws.match(/stringify\((.*)\)\)/)[1]}`)(), { type: "subscribe", channel: "a", ...wished });
});

test("a splice takes each message once", () => {
  for (const [why, messages, want] of [
    ["positions only go up", [["1-0-a"], ["1-1-a"], ["2-0-a"], ["1-1-a"], ["2-0-a"], ["2-1-a"]], [1, 1, 1, 0, 0, 1]],
    ["by number, not by letter", [["9-9-a"], ["9-10-a"], ["10-0-a"], ["9-9-a"]], [1, 1, 1, 0]],
    ["live messages by their page's numbers", [[, "p", 1], [, "p", 3], [, "p", 2], [, "p", 3], [, "p", 4]], [1, 1, 0, 0, 1]],
    ["pages do not know each other", [[, "p", 5], [, "q", 1], [, "p", 5], [, "q", 2]], [1, 1, 0, 1]],
    ["what has neither is new", [[], []], [1, 1]],
  ]) {
    const s = new Splice();
    assert.deepEqual(messages.map(([position, page, n]) => Number(s.take({ position, page, n }))), want, why);
  }
});

test("a splice of two streams has all that either one alone would have had", () => {
  // The old stream conflates three by three, the new one takes each; the new one begins before the old one ends.
  const all = Array.from({ length: 30 }, (_, i) => ({ page: "p", n: i + 1, key: i % 2 }));
  const old = [...all.slice(1, 3), ...all.slice(4, 6), ...all.slice(7, 9)]; // up to 9
  const s = new Splice();
  const got = [...old, ...all.slice(6)].filter((m) => s.take(m));
  assert.deepEqual(got.map((m) => m.n), [2, 3, 5, 6, 8, 9, ...all.slice(9).map((m) => m.n)]);
});

test("after a gap positions may be lower", () => {
  const s = new Splice();
  s.take({ position: "50-0-a" });
  assert.equal(s.take({ position: "7-0-b" }), false);
  s.broken();
  assert.equal(s.take({ position: "7-0-b" }), true, "another history");
});

test("a splice does not remember pages without end", () => {
  const s = new Splice();
  for (let i = 0; i < 1000; i++) s.take({ page: `p${i}`, n: 1 });
  assert.ok(s.pages.size <= 64, `${s.pages.size} pages`);
  assert.equal(s.take({ page: "p999", n: 1 }), false, "the newest is remembered");
});

test("what comes without a pause is one delivery", () => {
  const g = new Gather();
  assert.equal(g.add(100, ["a"]), true, "it begins one");
  assert.equal(g.add(101, ["b", "c"]), false);
  assert.equal(g.wait(102), QUIET - 1);
  assert.equal(g.wait(101 + QUIET), 0, "quiet for long enough");
  g.add(100 + LONGEST - 1, ["d"]);
  assert.equal(g.wait(100 + LONGEST), 0, "a stream without a pause is cut");
  assert.deepEqual(g.take(), ["a", "b", "c", "d"]);
  assert.equal(g.add(200, ["e"]), true);
  assert.deepEqual(g.take(), ["e"]);
});

test("a large delivery comes in several frames", () => {
  for (const [why, apart, count, skipped, want] of [
    ["nothing keeps deliveries apart: each frame is one", 0, 50, 0, true],
    ["too close to be told apart by time", 20, 50, 0, true],
    ["one message may be the next of what was written at once", 0, 1, 0, false],
    ["a part of a large one", 200, 256, 0, false],
    ["what was skipped is told where a delivery begins", 200, 50, 3, true],
    ["even by a single message", 0, 1, 3, true],
  ]) {
    const g = new Gather();
    g.expect(apart);
    assert.equal(g.begins(count, skipped), want, why);
  }
  const g = new Gather();
  g.expect(200);
  g.add(100, ["a"]);
  g.add(140, ["b"]); // the page was busy
  assert.equal(g.wait(141), 49, "a page that is busy ends nothing");
  g.add(185, ["c"]);
  assert.equal(g.wait(186), 14, "but the next one must not be taken for a part of it");
});

test("the market has fifty keys and moves them a little", () => {
  assert.equal(new Set(SYMBOLS).size, 50);
  const m = new Market();
  const last = new Map(SYMBOLS.map((key, i) => [key, m.prices[i]]));
  for (let i = 0; i < 20_000; i++) {
    const { key, price } = m.next();
    assert.ok(Math.abs(price / last.get(key) - 1) < 0.01 || price < 2, `${key} from ${last.get(key)} to ${price}`);
    assert.ok(price >= 1 && price <= 999, `${price}`);
    last.set(key, price);
  }
});

test("a quote is read as it was written", () => {
  assert.deepEqual(readQuote(quote("p", 7, 1795473212469.123, 101.25)), { page: "p", n: 7, sent: 1795473212469.1, price: 101.25 });
  for (const [why, text, want] of [
    ["a price by someone else", '{"price":3}', { price: 3 }],
    ["a page's number without its page", '{"price":3,"n":1}', { price: 3 }],
    ["a bare number", "42.5", { price: 42.5 }],
    ["text", "hello", { text: "hello" }],
    ["JSON without a price", '{"a":1}', { text: '{"a":1}' }],
    ["a price that is none", '{"price":"3"}', { text: '{"price":"3"}' }],
    ["null", "null", { text: "null" }],
    ["nothing", "", { text: "" }],
  ]) {
    assert.deepEqual(readQuote(text), want, why);
  }
});

test("a pace keeps its rate however late it is asked", () => {
  const p = new Pace(2000, 1000);
  assert.equal(p.due(1050, 1000), 100);
  assert.equal(p.due(1050, 1000), 0, "nothing twice");
  assert.equal(p.due(1400, 1000), 700, "late: more at once");
  assert.equal(p.due(1950, 1000), 1000, "but no more than an array takes");
  assert.equal(p.due(1950, 1000), 100, "the rest goes next");
  assert.equal(p.due(60_000, 1000), 1000, "a page that slept");
  assert.equal(p.due(60_000, 1000), 1000);
  assert.equal(p.due(60_000, 1000), 0, "does not make up for more than a second");
  p.restart(100, 60_000);
  assert.equal(p.due(60_100, 1000), 10, "another rate");
});
