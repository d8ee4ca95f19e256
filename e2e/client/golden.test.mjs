// What the Go encoder writes is what the client reads: the golden frames of transport/testdata, over real sockets, in pieces of all sizes.

import assert from "node:assert/strict";
import { before, test } from "node:test";
import { connect } from "../../static/sluice.js";
import { golden, replay } from "./replay.mjs";

let expected;

before(async () => (expected = await golden("golden-messages.json")));

const transports = ["ws", "sse", "polling"];
for (const transport of transports)
  for (const name of ["golden", "golden-paced"])
    for (const size of [Infinity, 1, 7, 64])
      test(`${name} over ${transport}, ${size} bytes in a write`, async (t) => {
        if (transport === "ws" && !globalThis.WebSocket) return t.skip("this Node has no WebSocket");
        const want = expected[name];
        const node = await replay(name, size);
        const edge = connect(node.url, { transports: [transport] });
        const got = [];
        try {
          await new Promise((done, fail) => {
            const timer = setTimeout(() => fail(new Error(`after 10 s there were ${got.length} of ${want.length}: ${JSON.stringify(got)}`)), 10_000);
            const add = (m) => {
              got.push(m);
              if (got.length === want.length) setTimeout(done, 50, clearTimeout(timer)); // none may follow
            };
            const news = edge.subscribe("news", (m) => add(plain(m)));
            news.on("gap", ({ channel, reason, from, to }) => add({ gap: true, channel, from, to, reason }));
            edge.on("error", fail);
          });
        } finally {
          edge.close();
          await node.close();
        }
        assert.deepEqual(got.map(defined), want);
      });

/** plain is what golden-messages.json says of a message. */
function plain({ channel, position, event, key, time, data, skipped }) {
  const payload = typeof data === "string" ? { data } : { data64: Buffer.from(data).toString("base64") };
  return { channel, position, event, key, time, ...payload, skipped };
}

/** defined leaves out what is undefined. */
function defined(m) {
  return Object.fromEntries(Object.entries(m).filter(([, v]) => v !== undefined));
}
