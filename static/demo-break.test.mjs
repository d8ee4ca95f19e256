import assert from "node:assert/strict";
import { test } from "node:test";

import { FAULTS, requests } from "./demo-break.js";

test("a fault is asked for as the connection is", () => {
  const ws = { session: "S", state: "ws" };
  const sse = { session: "S", state: "sse" };
  const poll = { state: "polling" };
  const kill = { session: "S", do: "kill" };
  const refuse = (transport) => ({ transport, do: "refuse", ms: 60_000 });
  for (const [why, fault, connection, silent, want] of [
    ["one that is there is cut", "kill", ws, false, [kill]],
    ["polls have no session", "kill", poll, false, []],
    ["for good", "swallow", sse, false, [{ session: "S", do: "swallow" }]],
    ["a WebSocket has to come back to be refused", "no-ws", ws, false, [refuse("ws"), kill]],
    ["another transport stays", "no-ws", sse, false, [refuse("ws")]],
    ["without an answer", "no-ws", sse, true, [{ transport: "ws", do: "swallow", ms: 60_000 }]],
    ["a stream goes too", "no-stream", sse, false, [refuse("ws"), refuse("sse"), kill]],
    ["what is done to a session is as loud as ever", "kill", ws, true, [kill]],
    ["there may be nothing to heal but transports", "heal", poll, false, ["ws", "sse", "poll"].map((transport) => ({ transport, do: "heal" }))],
  ]) {
    assert.deepEqual(requests(FAULTS[fault], connection, silent), want, why);
  }
});
