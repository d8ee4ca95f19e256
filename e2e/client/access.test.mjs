// The client against a node, over each transport: who is let in, and what becomes of it when a token ends.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { connect, SluiceError } from "../../static/sluice.js";
import { name, node, publish, token, transports, until } from "./backend.mjs";

describe("at the same time, since they wait a lot", { concurrency: true }, () => {
  for (const transport of transports) {
    const over = (what, options, run) =>
      test(`${what}, over ${transport}`, async () => {
        const edge = connect(node + "/", { transports: [transport], ...options });
        try {
          await run(edge);
        } finally {
          edge.close();
        }
      });

    over("a channel that is refused ends alone", { token: () => token("alice", 60, { subscribe: ["news*"] }) }, async (edge) => {
      const [mine, other] = [name("news"), name("secret")];
      const got = [];
      const errors = [];
      const allowed = edge.subscribe(mine, (m) => got.push(m.data));
      const refused = edge.subscribe(other, (m) => got.push(m.data));
      refused.on("error", (e) => errors.push(e));
      await assert.rejects(refused.ready, (e) => e instanceof SluiceError && e.code === "forbidden" && e.channel === other);
      await allowed.ready;
      await publish(other, "secret");
      await publish(mine, "x");
      await until("what is allowed", () => got.length);
      const late = edge.subscribe(name("secret"));
      await assert.rejects(late.ready, { code: "forbidden" });
      await publish(mine, "y");
      await until("what is allowed, still", () => got.length === 2);
      assert.deepEqual(got, ["x", "y"]);
      assert.deepEqual(errors.map((e) => [e.code, e.channel]), [["forbidden", other]]);
      assert.equal(edge.state, transport);
      if (transport !== "polling") assert.equal(edge.stats().connects, 1); // polls begin anew where the channels change
      await assert.rejects((async () => {
        for await (const m of edge.channel(name("secret"))) assert.fail(`got ${m.data}`);
      })(), { code: "forbidden" });
    });

    test(`a token is replaced before it ends, and nothing is missed, over ${transport}`, async () => {
      const [channel, seen] = [name("news"), []];
      let asked = 0;
      const edge = connect(node + "/", { transports: [transport], token: () => (asked++, token("alice", 3, { subscribe: ["news*"] })) });
      const got = [];
      edge.on("state", (s) => seen.push(s));
      try {
        await edge.subscribe(channel, (m) => got.push(m.data)).ready;
        const sent = [];
        for (const end = Date.now() + 8000; Date.now() < end; await new Promise((done) => setTimeout(done, 50))) {
          sent.push(`m${sent.length}`);
          await publish(channel, sent.at(-1));
        }
        await until("all messages", () => got.length >= sent.length);
        assert.deepEqual(got, sent);
        assert.ok(asked >= 3 && asked < 12, `the page was asked ${asked} times in eight seconds for tokens of three`);
        if (transport !== "polling") assert.deepEqual([edge.stats().connects, seen], [1, ["connecting", transport]]);
      } finally {
        edge.close();
      }
    });

    test(`who is not let in is denied, and let in with another token, over ${transport}`, async () => {
      const channel = name("news");
      let good = false;
      let asked = 0;
      const give = () => (asked++, good ? token("alice", 60, { subscribe: ["news*"] }) : token("alice", -60));
      const edge = connect(node + "/", { transports: [transport], token: give });
      const got = [];
      const errors = [];
      edge.on("error", (e) => errors.push(e.code));
      try {
        const sub = edge.subscribe(channel, (m) => got.push(m.data));
        // What a WebSocket was refused for is not told to scripts.
        await until("denied", () => (transport === "ws" ? errors.length : edge.state === "denied"));
        if (transport !== "ws") assert.match(errors[0], /^(token_expired|unauthorized)$/);
        assert.ok(asked < 6, `the page was asked ${asked} times`);
        good = true;
        edge.refresh();
        await sub.ready;
        await publish(channel, "x");
        await until("the message", () => got.length);
        assert.equal(edge.state, transport);
      } finally {
        edge.close();
      }
    });

    over("a channel of its own token", { token: () => token("alice", 60, { subscribe: [] }) }, async (edge) => {
      const channel = name("room");
      const got = [];
      await assert.rejects(edge.subscribe(channel).ready, SluiceError);
      const sub = edge.subscribe(channel, { signed: token("alice", 60, { channel }) }, (m) => got.push(m.data));
      await sub.ready;
      await publish(channel, "x");
      await until("the message", () => got.length);
      assert.deepEqual(got, ["x"]);
    });

    over("a publish that is not allowed is refused", { token: () => token("alice", 60, { subscribe: ["*"], publish: [] }) }, async (edge) => {
      await edge.subscribe(name("news")).ready;
      await assert.rejects(edge.publish(name("news"), "x"), (e) => e instanceof SluiceError && e.code === "forbidden");
      assert.equal(edge.state, transport);
    });
  }

  test("a page that can't say a token is told, and asked again", async () => {
    let asked = 0;
    const edge = connect(node + "/", {
      token: async () => {
        if (asked++ < 1) throw new Error("the session service is away");
        return token("alice", 60, { subscribe: ["news*"] });
      },
    });
    const errors = [];
    edge.on("error", (e) => errors.push(e.code));
    try {
      await edge.subscribe(name("news")).ready;
      assert.equal(errors[0], "token");
    } finally {
      edge.close();
    }
  });
});
