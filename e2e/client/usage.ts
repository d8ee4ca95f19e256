// What TypeScript must take from users of the package, and, behind each @ts-expect-error, what it must not. It is compiled, not run.

import { connect, SluiceError } from "sluice-client";
import type { Edge, Gap, JSONValue, Message, Options, Published, State, Stats, SubscribeOptions, Subscription, Transport } from "sluice-client";

connect();
connect("/edge/");
connect(new URL("https://edge.example/"));
const options: Options = { token: async () => "token", transports: ["sse", "polling"], share: "group", credentials: "include" };
const edge: Edge = connect("https://edge.example/", options);
connect("/", { token: () => null });
connect("/", { token: () => undefined, share: false });
connect("/", { transports: ["ws"] as const });
// @ts-expect-error transports have names
connect("/", { transports: ["websocket"] });
// @ts-expect-error a token is text
connect("/", { token: () => 42 });
// @ts-expect-error the token is asked for, not given: it expires
connect("/", { token: "token" });
// @ts-expect-error there is no such option
connect("/", { retries: 3 });
// @ts-expect-error a node has a URL
connect(8080);

const state: State = edge.state;
// @ts-expect-error the state is read
edge.state = "closed";
// @ts-expect-error states are known
const wrong: State = "open";

interface Quote {
  price: number;
}
const a: Subscription = edge.subscribe("prices", (m) => m.json.anything);
const b: Subscription<Quote> = edge.subscribe<Quote>("prices", { rate: "5/s", batch: "100ms,50", conflate: "key", filter: "data.price > 1", since: "1-0-abcd", signed: "t", buffer: 10 }, (m) => {
  const price: number = m.json.price;
  const data: string | Uint8Array = m.data;
  const place: string | undefined = m.position;
  const when: number | undefined = m.time;
  // @ts-expect-error data may be bytes
  data.toUpperCase();
  // @ts-expect-error a quote has no such member
  m.json.volume;
  // @ts-expect-error messages are shared
  m.data = "";
  return [price, place, when];
});
edge.subscribe("prices", { conflate: "latest" });
edge.subscribe("prices", undefined as unknown as SubscribeOptions, () => {});
// @ts-expect-error a channel is one name
edge.subscribe(["a", "b"]);
// @ts-expect-error rates have a unit
edge.subscribe("a", { rate: 5 });
// @ts-expect-error there is no such way
edge.subscribe("a", { conflate: "all" });
// @ts-expect-error the handler takes a message
edge.subscribe("a", (m: number) => m);

const channel: string = b.channel;
const position: string = b.position;
const joined: Promise<void> = b.ready;
const off: () => void = a.on("message", (m: Message) => m.event);
b.on("gap", (g: Gap) => [g.channel, g.reason, g.from, g.to]);
b.on("error", (e: SluiceError) => [e.code, e.retry, e.channel, e.message]);
// @ts-expect-error subscriptions have no state
b.on("state", () => {});
off();
b.unsubscribe();

async function read(): Promise<void> {
  for await (const m of edge.channel<Quote>("prices", { buffer: 5 })) {
    const price: number = m.json.price;
    if (price > 1) break;
  }
  for await (const m of a) m.key?.length;
  const answer: Published = await edge.publish("chat", { text: "hello", at: [1, 2.5, null, true] }, { event: "said", key: "k", id: "i", live: false });
  const { position, duplicate }: { position?: string; duplicate?: boolean } = answer;
  await edge.publish("chat", "text");
  await edge.publish("chat", new Uint8Array([1, 2]));
  const value: JSONValue = { a: { b: ["c"] } };
  await edge.publish("chat", value);
  // @ts-expect-error a function is no payload
  await edge.publish("chat", () => {});
  // @ts-expect-error a promise is no payload
  await edge.publish("chat", fetch("/"));
  // @ts-expect-error there has to be one
  await edge.publish("chat");
  // @ts-expect-error keys are text
  await edge.publish("chat", "x", { key: 1 });
  const stats: Stats = edge.stats();
  const transport: Transport = "polling";
  const shared: "worker" | "leader" | "follower" | "" = stats.shared;
  const numbers: number[] = [stats.connects ?? 0, stats.messages, stats.duplicates, stats.gaps];
  void [position, duplicate, transport, shared, numbers];
}

edge.on("state", (s: State) => s)();
edge.on("error", (e) => e.code satisfies string);
// @ts-expect-error edges have no messages
edge.on("message", () => {});
edge.refresh();
edge.reconnect();
edge.close();
void [state, wrong, channel, position, joined, read];
