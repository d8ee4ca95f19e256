// Many clients in one process, as many pages would be, for a node that dies and comes back: node storm.mjs URL COUNT CHANNEL…
//
// Each client listens to one of the channels, round robin, over a connection of its own. What happens is told by lines of JSON on standard output:
//
//   {"event":"ready"}                     all of them listen
//   {"event":"back", …}                   all have lost the connection and have another one; with what that was like
//   {"event":"end","lists":[…]}           all have the last message of their channel (end|CHANNEL); with what they got
//
// Times are milliseconds since the first client lost its connection.

import { connect } from "../../static/sluice.js";

const [url, count, ...channels] = process.argv.slice(2);
const clients = [];
const [attempts, ups] = [[], []]; // times
let fallen; // when the first connection was lost

const tell = (event, more) => process.stdout.write(JSON.stringify({ event, ...more }) + "\n");

/** noting makes a constructor or function that notes when it is called. */
const noting = (f) => new Proxy(f, {
  construct: (target, args) => (attempts.push(performance.now()), new target(...args)),
  apply: (target, self, args) => (attempts.push(performance.now()), target.apply(self, args)),
});
globalThis.WebSocket = noting(globalThis.WebSocket);
globalThis.fetch = noting(globalThis.fetch);

/** peak returns the most times of a list within 100 ms. */
const peak = (times) => {
  let most = 0;
  times.sort((a, b) => a - b);
  for (let first = 0, i = 0; i < times.length; i++) {
    while (times[i] - times[first] >= 100) first++;
    most = Math.max(most, i - first + 1);
  }
  return most;
};

const quantile = (times, q) => Math.round(times[Math.ceil(q * times.length) - 1] - fallen);

function changed(c, state) {
  const was = c.up;
  c.up = ["ws", "sse", "polling"].includes(state);
  if (was && !c.up) {
    if (!fallen) fallen = performance.now();
    c.fallen = true;
  }
  if (!c.up || !c.fallen || c.back) return;
  c.back = true;
  ups.push(performance.now());
  if (ups.length < clients.length) return;
  const since = attempts.filter((t) => t >= fallen);
  const hundreds = [];
  for (const t of ups) hundreds[Math.floor((t - fallen) / 100)] = (hundreds[Math.floor((t - fallen) / 100)] ?? 0) + 1;
  tell("back", {
    attempts: since.length, attemptsPeak: peak(since), connectsPeak: peak(ups), hundreds: Array.from(hundreds, (n) => n ?? 0),
    median: quantile(ups, 0.5), p99: quantile(ups, 0.99), all: quantile(ups, 1),
    transports: clients.reduce((n, { edge }) => ({ ...n, [edge.state]: (n[edge.state] ?? 0) + 1 }), {}),
  });
}

let left = Number(count);
function ended() {
  if (--left) return;
  setTimeout(() => { // for what is repeated
    const lists = new Map();
    for (const { got } of clients) {
      const key = JSON.stringify(got);
      lists.set(key, (lists.get(key) ?? 0) + 1);
    }
    tell("end", { lists: Array.from(lists, ([key, clients]) => ({ clients, got: JSON.parse(key) })) });
    process.exit();
  }, 200);
}

while (clients.length < count) {
  const some = [];
  for (let i = 0; i < 50 && clients.length < count; i++) {
    const channel = channels[clients.length % channels.length];
    const c = { edge: connect(url, { share: false }), got: [], up: false };
    clients.push(c);
    c.edge.on("state", (state) => changed(c, state));
    const sub = c.edge.subscribe(channel, (m) => {
      c.got.push({ data: m.data, channel });
      if (m.data === "end|" + channel) ended();
    });
    sub.on("gap", (g) => c.got.push({ gap: g.reason, channel }));
    some.push(sub.ready);
  }
  await Promise.all(some);
}
tell("ready");
