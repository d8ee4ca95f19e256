// The client against a node, over each transport: what is published is heard, and how.

import assert from "node:assert/strict";
import { test } from "node:test";
import { connect, SluiceError } from "../../static/sluice.js";
import { name, node, publish, token, transports, until } from "./backend.mjs";

const speaker = () => token("alice", 60, { publish: ["open*"] }); // nobody publishes without a token

for (const transport of transports) {
  const over = (what, run) =>
    test(`${what}, over ${transport}`, async () => {
      const edge = connect(node + "/", { transports: [transport], token: speaker });
      const errors = [];
      edge.on("error", (e) => errors.push(e));
      try {
        await run(edge, name("open"));
      } finally {
        edge.close();
      }
      assert.deepEqual(errors, []);
    });

  over("what is published comes as it is and in order", async (edge, channel) => {
    const payloads = ["text", "", "two\nlines\r\nand\rmore", '{"a":[1,null]}', "NUL \0, é, \u2028, 🦭", new Uint8Array([0xff, 0, 1])];
    const got = [];
    const sub = edge.subscribe(channel, (m) => got.push(m));
    await sub.ready;
    await until("the state", () => edge.state === transport);
    for (const data of payloads) {
      await edge.publish(channel, data, { event: "said", key: "k" });
    }
    const last = await edge.publish(channel, { to: ["all", 1.5, null, true] });
    await until("all messages", () => got.length >= payloads.length + 1);
    assert.deepEqual(got.slice(0, -1).map((m) => m.data), payloads);
    assert.deepEqual(got.at(-1).json, { to: ["all", 1.5, null, true] });
    for (const m of got.slice(0, -1)) assert.deepEqual([m.channel, m.event, m.key], [channel, "said", "k"]);
    assert.throws(() => got[0].json, SyntaxError);
    assert.equal(sub.position, last.position);
    assert.equal(got.at(-1).position, last.position);
    assert.ok(Math.abs(Date.now() - got[0].time) < 60_000, `time ${got[0].time}`);
  });

  over("many messages at once come in order and once", async (edge, channel) => {
    const got = [];
    await edge.subscribe(channel, (m) => got.push(m.data)).ready;
    const sent = Array.from({ length: 300 }, (_, i) => `m${i}`);
    for (const data of sent) await publish(channel, data);
    await until("all messages", () => got.length >= sent.length);
    assert.deepEqual(got, sent);
  });

  over("since a position there is what came after it", async (edge, channel) => {
    const positions = [];
    for (const data of ["a", "b", "c"]) positions.push(await publish(channel, data));
    const got = [];
    edge.subscribe(channel, { since: positions[0] }, (m) => got.push(m.data));
    await until("what came since", () => got.length >= 2);
    await publish(channel, "d");
    await until("what comes now", () => got.length >= 3);
    assert.deepEqual(got, ["b", "c", "d"]);
  });

  over("what the history does not have any more is a gap", async (edge) => {
    const channel = name("open.short"); // its history has three messages
    const since = await publish(channel, "0");
    for (let i = 1; i <= 8; i++) await publish(channel, `${i}`);
    const got = [];
    const sub = edge.subscribe(channel, { since }, (m) => got.push(m.data));
    sub.on("gap", (g) => got.push(g));
    await until("the gap and the rest", () => got.length >= 4);
    const [gap, ...rest] = got;
    assert.equal(gap.reason, "truncated");
    assert.equal(gap.channel, channel);
    assert.deepEqual(rest, ["6", "7", "8"]);
    assert.equal(edge.stats().gaps, 1);
  });

  over("an iterator has all messages, and leaving it unsubscribes", async (edge, channel) => {
    const sub = edge.channel(channel);
    await sub.ready;
    const sent = ["a", "b", "c", "d"];
    const got = [];
    const reading = (async () => {
      for await (const m of sub) {
        got.push(m.data);
        if (m.data === "c") break;
      }
    })();
    for (const data of sent) await publish(channel, data);
    await reading;
    assert.deepEqual(got, ["a", "b", "c"]);
    assert.deepEqual(await Array.fromAsync?.(sub) ?? [], []);
  });

  over("an iterator that is read too slowly has the newest, and hears of the others", async (edge, channel) => {
    const sub = edge.channel(channel, { buffer: 2 });
    const other = [];
    const gaps = [];
    edge.subscribe(channel, (m) => other.push(m.data));
    sub.on("gap", (g) => gaps.push(g));
    const reader = sub[Symbol.asyncIterator]();
    const first = reader.next();
    await sub.ready;
    for (let i = 0; i < 6; i++) await publish(channel, `${i}`);
    await until("the neighbour, who is not kept back", () => other.length === 6);
    const got = [(await first).value.data, (await reader.next()).value.data, (await reader.next()).value.data];
    assert.deepEqual(got.slice(-2), ["4", "5"]);
    assert.ok(gaps.length > 0 && gaps.every((g) => g.reason === "lapped" && g.channel === channel), JSON.stringify(gaps));
    const next = reader.next();
    sub.unsubscribe();
    assert.equal((await next).done, true);
  });

  over("who listens by on is kept nothing for, and hears of no laps", async (edge, channel) => {
    const [got, gaps] = [[], []];
    const sub = edge.subscribe(channel, { buffer: 2 });
    sub.on("message", (m) => got.push(m.data));
    sub.on("gap", (g) => gaps.push(g));
    await sub.ready;
    for (let i = 0; i < 6; i++) await publish(channel, `${i}`);
    await until("all messages", () => got.length === 6);
    assert.deepEqual(gaps, []);
  });

  over("after unsubscribe there is nothing, and the others go on", async (edge, channel) => {
    const [one, two] = [[], []];
    const a = edge.subscribe(channel, (m) => one.push(m.data));
    const b = edge.subscribe(channel, (m) => two.push(m.data));
    await Promise.all([a.ready, b.ready]);
    await publish(channel, "1");
    await until("both", () => one.length && two.length);
    a.unsubscribe();
    await publish(channel, "2");
    await until("the other", () => two.length === 2);
    b.unsubscribe();
    await publish(channel, "3");
    const got = [];
    const c = edge.subscribe(channel, (m) => got.push(m.data));
    await c.ready;
    await publish(channel, "4");
    await until("who has come anew", () => got.includes("4"));
    if (got[0] === "3") got.shift(); // it may have been on its way, or a poll goes on from where the client was
    assert.deepEqual([one, two, got], [["1"], ["1", "2"], ["4"]]);
  });

  over("each channel has its own wishes", async (edge) => {
    const [a, b, c] = [name("open.a"), name("open.b"), name("open.c")];
    const got = { [a]: [], [b]: [], [c]: [] };
    const add = (m) => got[m.channel].push(m);
    const subs = [edge.subscribe(a, { filter: "data.n > 7" }, add), edge.subscribe(b, { rate: "2/s", conflate: "latest" }, add), edge.subscribe(c, add)];
    await Promise.all(subs.map((s) => s.ready));
    for (let n = 0; n < 10; n++) for (const channel of [a, b, c]) await publish(channel, JSON.stringify({ n }));
    await until("all of them", () => got[a].length >= 2 && got[b].at(-1)?.json.n === 9 && got[c].length === 10);
    assert.deepEqual(got[a].map((m) => m.json.n), [8, 9]);
    assert.ok(got[b].length < 6, `${got[b].length} of 10 messages came at 2/s`);
    assert.ok(got[b].some((m) => m.skipped > 0), "nobody says that messages were left out");
  });

  over("one channel with two wishes", async (edge, channel) => {
    const [all, some] = [[], []];
    const subs = [edge.subscribe(channel, (m) => all.push(m.json.n)), edge.subscribe(channel, { filter: "data.n > 7" }, (m) => some.push(m.json.n))];
    await Promise.all(subs.map((s) => s.ready));
    for (let n = 0; n < 10; n++) await publish(channel, JSON.stringify({ n }));
    await until("all of them", () => all.length === 10 && some.length === 2);
    assert.deepEqual(some, [8, 9]);
  });

  over("a publish is there once, and says where", async (edge, channel) => {
    const got = [];
    await edge.subscribe(channel, (m) => got.push(m)).ready;
    const first = await edge.publish(channel, "x", { id: "order-1" });
    const again = await edge.publish(channel, "x", { id: "order-1" });
    await until("the first", () => got.length);
    await new Promise((done) => setTimeout(done, 400)); // the next poll is held: live messages are not kept for it
    const live = await edge.publish(channel, "y", { live: true });
    await until("both", () => got.length >= 2);
    assert.equal(again.position, first.position);
    assert.equal(again.duplicate, true);
    assert.ok(!first.duplicate);
    assert.equal(live.position, undefined);
    assert.deepEqual(got.map((m) => [m.data, m.position]), [["x", first.position], ["y", undefined]]);
  });
}

test("a publish without a subscription", { timeout: 20_000 }, async () => {
  const edge = connect(node + "/", { token: speaker });
  const channel = name("open");
  assert.equal(edge.state, "idle");
  assert.match((await edge.publish(channel, "x")).position, /^\d+-\d+-[0-9a-f]{4}$/);
  edge.close();
  assert.equal(edge.state, "closed");
  await assert.rejects(edge.publish(channel, "x"), (e) => e instanceof SluiceError && e.code === "closed");
});

test("listeners are taken off by what on returns", async () => {
  const edge = connect(node + "/");
  const channel = name("open");
  const got = [];
  const sub = edge.subscribe(channel);
  const off = sub.on("message", (m) => got.push("a" + m.data));
  sub.on("message", (m) => got.push("b" + m.data));
  await sub.ready;
  await publish(channel, "1");
  await until("the first", () => got.length === 2);
  off();
  await publish(channel, "2");
  await until("the second", () => got.length === 3);
  edge.close();
  assert.deepEqual(got, ["a1", "b1", "b2"]);
});
