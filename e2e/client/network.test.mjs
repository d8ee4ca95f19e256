// The client against a node behind a network that breaks.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { describe, test } from "node:test";
import { promisify } from "node:util";
import { connect } from "../../static/sluice.js";
import { name, node, publish, token, transports, until } from "./backend.mjs";
import { wire } from "./wire.mjs";

const speaker = () => token("alice", 60, { publish: ["open*"] });
const pause = (ms) => new Promise((done) => setTimeout(done, ms));

describe("at the same time, since they wait a lot", { concurrency: true }, () => {
  for (const transport of transports) {
    test(`cut in the middle, it misses and repeats nothing, over ${transport}`, async () => {
      const [net, channel] = [await wire(node), name("open")];
      const edge = connect(net.url, { transports: [transport] });
      const [got, sent] = [[], []];
      try {
        const sub = edge.subscribe(channel, (m) => got.push(m.data));
        sub.on("gap", (g) => got.push(g));
        await sub.ready;
        for (let i = 0; i < 200; i++) {
          sent.push(`m${i}`);
          await publish(channel, sent[i]);
          if (i === 50 || i === 120) net.cut();
          if (i === 150) edge.reconnect();
          await pause(5);
        }
        await until("all messages", () => got.length >= sent.length, 30);
        await pause(200);
        assert.deepEqual(got, sent);
      } finally {
        edge.close();
        await net.close();
      }
    });

    test(`where there is no node, it comes back ever more rarely, over ${transport}`, async () => {
      const [net, channel] = [await wire(node), name("open")];
      const edge = connect(net.url, { transports: [transport] });
      const got = [];
      try {
        await edge.subscribe(channel, (m) => got.push(m.data)).ready;
        net.mode = "refuse";
        net.times.length = 0;
        net.cut();
        await until("connecting", () => edge.state === "connecting");
        const since = Date.now();
        await publish(channel, "while away");
        await pause(12_000);
        assert.equal(edge.state, "connecting");
        // Full jitter over up to 4, 8, 16 … s: a dozen in twelve seconds is as good as impossible. Node and browsers try some requests twice.
        assert.ok(net.times.length < 24, `${net.times.length} attempts in 12 s: ${net.times.map((t) => t - since)}`);
        net.mode = "pass";
        await until("what came while it was away", () => got.length, 40);
        assert.deepEqual(got, ["while away"]);
      } finally {
        edge.close();
        await net.close();
      }
    });

    test(`an earlier place is wanted while it waits for a token, over ${transport}`, async () => {
      const [net, channel] = [await wire(node), name("open")];
      let asked = 0;
      const edge = connect(net.url, {
        transports: [transport],
        token: async () => {
          asked++;
          await pause(500);
          return speaker();
        },
      });
      const [got, late] = [[], []];
      try {
        await edge.subscribe(channel, (m) => got.push(m)).ready;
        for (const data of ["a", "b", "c"]) await publish(channel, data);
        await until("the messages", () => got.length === 3);
        const before = asked;
        await until("it asks for a token", () => {
          net.cut(); // between two polls that goes unnoticed
          return asked > before;
        });
        edge.subscribe(channel, { since: got[0].position }, (m) => late.push(m.data));
        await publish(channel, "d");
        await until("what came since", () => late.length >= 3 && got.length >= 4);
        assert.deepEqual([late, got.map((m) => m.data)], [["b", "c", "d"], ["a", "b", "c", "d"]]);
      } finally {
        edge.close();
        await net.close();
      }
    });

    test(`a publish waits for the way back, and is there once, over ${transport}`, async () => {
      const [net, channel] = [await wire(node), name("open")];
      const edge = connect(net.url, { transports: [transport], token: speaker });
      const got = [];
      try {
        await edge.subscribe(channel, (m) => got.push(m.data)).ready;
        net.mode = "refuse";
        net.cut();
        const publishing = edge.publish(channel, "x");
        await pause(1000);
        net.mode = "pass";
        assert.ok((await publishing).position);
        await until("the message", () => got.length);
        await pause(200);
        assert.deepEqual(got, ["x"]);
      } finally {
        edge.close();
        await net.close();
      }
    });

    test(`once it is closed a process ends, over ${transport}`, async () => {
      const script = `
        import { connect } from ${JSON.stringify(new URL("../../static/sluice.js", import.meta.url).href)};
        const edge = connect(${JSON.stringify(node + "/")}, { transports: [${JSON.stringify(transport)}] });
        await edge.subscribe("open.end").ready;
        setTimeout(() => edge.close(), 300);`;
      const began = Date.now();
      await promisify(execFile)(process.execPath, ["--experimental-websocket", "--no-warnings", "--input-type=module", "-e", script], { timeout: 20_000 });
      assert.ok(Date.now() - began < 5000, `it took ${Date.now() - began} ms`);
    });
  }

  test("closed on the way it tries nothing more, and a process ends", async () => {
    const net = await wire(node);
    net.mode = "swallow";
    const script = `
      import { connect } from ${JSON.stringify(new URL("../../static/sluice.js", import.meta.url).href)};
      const edge = connect(${JSON.stringify(net.url)});
      edge.subscribe("open.end");
      setTimeout(() => edge.close(), 500);`;
    try {
      await promisify(execFile)(process.execPath, ["--experimental-websocket", "--no-warnings", "--input-type=module", "-e", script], { timeout: 20_000 });
      assert.ok(net.times.length <= 2, `${net.times.length} attempts`); // Node replaces what is cut, and asks nothing by it
    } finally {
      await net.close();
    }
  });

  for (const mode of ["refuse", "swallow"])
    test(`where WebSockets are met with "${mode}" it has a stream, and where streams are too it polls`, async (t) => {
      if (!globalThis.WebSocket) return t.skip("this Node has no WebSocket");
      for (const [unwanted, state, within] of [[/ \/ws/, "sse", 4000], [/ \/(ws|sse)/, "polling", 7000]]) {
        const [net, channel] = [await wire(node), name("open")];
        Object.assign(net, { mode, unwanted });
        const edge = connect(net.url, { token: speaker });
        const got = [];
        try {
          const began = Date.now();
          await edge.subscribe(channel, (m) => got.push(m.data)).ready;
          assert.ok(Date.now() - began < within, `it took ${Date.now() - began} ms`);
          assert.equal(edge.state, state);
          await publish(channel, "x");
          await until("the message", () => got.length);
          assert.equal((await edge.publish(channel, "y")).duplicate || false, false);
          await until("the other", () => got.length === 2);
          assert.deepEqual(got, ["x", "y"]);
        } finally {
          edge.close();
          await net.close();
        }
      }
    });
});
