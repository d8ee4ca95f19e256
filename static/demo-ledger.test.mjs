import assert from "node:assert/strict";
import { test } from "node:test";

import { Ledger } from "./demo-ledger.js";
import { scriptURL } from "./demo-trust.js";

const counts = ({ received, lost, repeated, told }) => ({ received, lost, repeated, told });

test("a ledger counts what is lost and what comes twice", () => {
  for (const [why, numbers, want] of [
    ["nothing", [], { received: 0, lost: 0, repeated: 0, told: 0 }],
    ["who comes late begins anywhere", [["a", 7], ["a", 8]], { received: 2, lost: 0, repeated: 0, told: 0 }],
    ["one is missing", [["a", 1], ["a", 3]], { received: 2, lost: 1, repeated: 0, told: 0 }],
    ["many are missing", [["a", 1], ["a", 100], ["a", 101]], { received: 3, lost: 98, repeated: 0, told: 0 }],
    ["one comes twice", [["a", 1], ["a", 2], ["a", 2]], { received: 2, lost: 0, repeated: 1, told: 0 }],
    ["a row comes again", [["a", 1], ["a", 2], ["a", 1], ["a", 2], ["a", 3]], { received: 3, lost: 0, repeated: 2, told: 0 }],
    ["publishers count for themselves", [["a", 1], ["b", 5], ["a", 2], ["b", 6]], { received: 4, lost: 0, repeated: 0, told: 0 }],
    ["a gap was told", [["a", 1], "gap", ["a", 50], ["a", 51]], { received: 3, lost: 0, repeated: 0, told: 1 }],
  ]) {
    const l = new Ledger();
    for (const m of numbers) m === "gap" ? l.gap() : l.add(...m);
    assert.deepEqual(counts(l), want, why);
  }
});

test("a ledger tells what it thinks of a number", () => {
  const l = new Ledger();
  assert.deepEqual([l.add("a", 1), l.add("a", 2), l.add("a", 5), l.add("a", 4)], [0, 0, 2, -1]);
});

test("the worker of the library may be started, and nothing else", () => {
  const library = new URL("./sluice.js", import.meta.url).href;
  assert.equal(scriptURL(library), library);
  for (const url of [`${library}?x`, new URL("./demo.js", import.meta.url).href, "data:text/javascript,0", "https://evil.example/sluice.js", ""]) {
    assert.equal(scriptURL(url), undefined, url);
  }
});
