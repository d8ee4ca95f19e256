import assert from "node:assert/strict";
import { test } from "node:test";

import { read } from "./demo-chat.js";
import { height } from "./demo-latency.js";
import { snippets } from "./demo-snippets.js";
import { step } from "./demo-source.js";

test("a bar is as high as the power of ten", () => {
  for (const [ms, want] of [[0, 0.02], [0.1, 0.02], [1, 0.25], [10, 0.5], [100, 0.75], [1000, 1], [60_000, 1]]) {
    assert.ok(Math.abs(height(ms) - want) < 1e-9, `${ms} ms: got ${height(ms)}, want ${want}`);
  }
});

test("numbers stay between 0 and 100, and turn back", () => {
  for (const [value, random, why] of [[0, 0, "the least"], [100, 1 - Number.EPSILON, "the greatest"], [50, 0.5, "the middle"]]) {
    const got = step(value, () => random);
    assert.ok(got >= 0 && got <= 100, `${why}: ${got}`);
  }
  assert.ok(step(100, () => 0.5) < 100, "it is drawn to the middle");
  assert.ok(step(0, () => 0.5) > 0, "it is drawn to the middle");
});

test("a chat takes what was said, by a page or by anybody else", () => {
  const said = { page: "p", name: "Ann", text: "<b>hello</b>" };
  assert.deepEqual(read(JSON.stringify(said)), said);
  for (const [why, data] of [["no JSON", "hello"], ["no object", "null"], ["no name", '{"text":"x"}'], ["no text", '{"name":"x","text":1}'], ["nothing", ""]]) {
    assert.deepEqual(read(data), { name: "Somebody", text: data }, why);
  }
  assert.equal(read(new Uint8Array(3)), null, "bytes");
  assert.equal(read(JSON.stringify({ name: "x".repeat(99), text: "y".repeat(9999) })).text.length, 500, "it is cut");
  assert.equal(read("y".repeat(9999)).text.length, 500, "it is cut");
});

test("snippets name the channel and the node", () => {
  const all = snippets("a/b~c", "http://node/", "http://node/sse?channel=a/b~c", "ws://node/ws?channel=a/b~c", "http://node/publish/a/b~c");
  for (const [name, text] of Object.entries(all)) assert.ok(text.includes("a/b~c"), name);
  for (const name of ["client", "eventsource", "websocket", "curl"]) assert.ok(all[name].includes("//node/"), name);
});
