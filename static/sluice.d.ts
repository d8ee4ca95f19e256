// Types of sluice.js, the browser client of Sluice. docs/client.md is the manual, docs/protocol.md has the codes of errors and the reasons of gaps.

/**
 * Connects to a node, or to many behind one address. Nothing is opened before the first subscription or publish.
 *
 * @param url where the node is mounted; default "/", relative to the page. Outside of pages it has to be absolute.
 * @throws TypeError if the URL can't be read.
 */
export function connect(url?: string | URL, options?: Options): Edge;

/** What a node has refused, or what has gone wrong on the way. */
export class SluiceError extends Error {
  /** An error code of docs/protocol.md, such as "forbidden", or one of the client's own (docs/client.md#errors). */
  readonly code: string;
  /** The sentence that came with it, for people. */
  readonly detail?: string;
  /** How long to wait before trying again, in milliseconds, where the node has said so. */
  readonly retry?: number;
  /** The channel that it is about; absent: the connection. */
  readonly channel?: string;
}

/** How a connection can be made: WebSocket, Server-Sent Events read by fetch, or polls. */
export type Transport = "ws" | "sse" | "polling";

/**
 * - "idle": nothing was wanted yet, so there is no connection
 * - "connecting": on the way, or waiting for the next attempt
 * - "ws", "sse", "polling": connected, and how
 * - "offline": the browser says that there is no network; it goes on by itself
 * - "denied": the node does not let this client in, and coming back can't help; other credentials can (Edge.refresh)
 * - "closed": by Edge.close, for good
 */
export type State = "idle" | "connecting" | "ws" | "sse" | "polling" | "offline" | "denied" | "closed";

/** What JSON.stringify takes. */
export type JSONValue = string | number | boolean | null | { readonly [key: string]: JSONValue | undefined } | readonly JSONValue[];

export interface Options {
  /**
   * Answers the token (a JWT) to show, or nothing for none. Asked for each connection, when three quarters of a token's life are over, and once after a refusal; it should answer
   * with a new one each time. Without it there is no Authorization, and the browser's cookies are left.
   */
  token?: () => string | null | undefined | Promise<string | null | undefined>;
  /** What may be used, in order of preference; default ["ws", "sse", "polling"]. A single one is forced. */
  transports?: readonly Transport[];
  /** One connection for all tabs of this origin; default true. A string keeps groups apart: only those who give the same one share. */
  share?: boolean | string;
  /** Of fetch, for streams, polls and posts; default "same-origin". "include" sends cookies to a node of another origin. */
  credentials?: RequestCredentials;
}

export interface Edge {
  readonly state: State;

  /** Listens to a channel. It goes on through reconnects and changes of transport until unsubscribe, or close. */
  subscribe<T = any>(channel: string, onMessage?: (message: Message<T>) => void): Subscription<T>;
  subscribe<T = any>(channel: string, options: SubscribeOptions, onMessage?: (message: Message<T>) => void): Subscription<T>;

  /** The same, for `for await`: messages are kept from now on until they are read. One of subscribe may be iterated, too, from when that begins. */
  channel<T = any>(channel: string, options?: SubscribeOptions): Subscription<T>;

  /**
   * Publishes one message, by the connection that there is, or that is made for it. Text and bytes are sent as they are, anything else as JSON. One that has an answer
   * is in the channel's history; one that had to be repeated is there once.
   *
   * @throws SluiceError (the promise is rejected) if the node refuses it, or could not be reached within 30 s.
   */
  publish(channel: string, data: JSONValue | Uint8Array, options?: PublishOptions): Promise<Published>;

  /** Called at each change of state. Returns what takes it off. */
  on(event: "state", listener: (state: State) => void): () => void;
  /** Called with what goes wrong, with the connection and with all subscriptions. Returns what takes it off. */
  on(event: "error", listener: (error: SluiceError) => void): () => void;

  /** What there is to tell now, for dashboards and reports. */
  stats(): Stats;

  /** Asks for a token now: after a login or a logout, and where "denied" was the state. */
  refresh(): void;
  /** Makes a new connection, and leaves the old one when that is up. No durable message is lost or repeated. */
  reconnect(): void;
  /** Ends all subscriptions and the connection, if no other tab needs it. */
  close(): void;
}

export interface SubscribeOptions {
  /** At most one delivery per interval, such as "5/s", "0.5/s" or "30/m"; the last state always arrives. */
  rate?: string;
  /** How long messages may wait for others, and how many are enough: "100ms" or "100ms,50". */
  batch?: string;
  /** Of what goes out together only the newest of each key, or the newest of all. */
  conflate?: "key" | "latest" | "none";
  /** Only messages for which it is true: `event == "trade" && data.price > 100`; at most 512 bytes. */
  filter?: string;
  /** Begin after this position (Message.position) in the channel's history; default: now. */
  since?: string;
  /** A token for this one subscription, for channels that ask for it (`access: signed`). */
  signed?: string;
  /** How many messages wait for an async iterator; default 1000. What is beyond is dropped, oldest first, and told as a gap with the reason "lapped". */
  buffer?: number;
}

export interface PublishOptions {
  /** Event name; at most 200 bytes. */
  event?: string;
  /** Conflation key; at most 200 bytes. */
  key?: string;
  /** Idempotency key; at most 200 bytes. The same one within five minutes is not published again. Default: one for each call. */
  id?: string;
  /** Send without storing. */
  live?: boolean;
}

export interface Published {
  /** The place in the channel's history; absent if it was live. */
  position?: string;
  /** The idempotency key had been there before; the position is that of the first. */
  duplicate?: boolean;
}

export interface Subscription<T = any> extends AsyncIterable<Message<T>> {
  readonly channel: string;
  /** Of the last message, to go on after it some time (SubscribeOptions.since); "" before the first durable one. */
  readonly position: string;
  /** Resolves when the channel is joined: what is published after it arrives. Rejected with a SluiceError if it is refused. */
  readonly ready: Promise<void>;

  on(event: "message", listener: (message: Message<T>) => void): () => void;
  /** Messages may be missing: read anew what they were about. */
  on(event: "gap", listener: (gap: Gap) => void): () => void;
  /** The channel was refused, or what allowed it has ended. */
  on(event: "error", listener: (error: SluiceError) => void): () => void;

  unsubscribe(): void;
}

export interface Message<T = any> {
  readonly channel: string;
  /** The payload; bytes where it is not UTF-8. */
  readonly data: string | Uint8Array;
  /** The payload parsed as JSON, at the first look. Throws a SyntaxError if it is none. */
  readonly json: T;
  /** MS-SEQ-TAG, the place in the channel's history; absent in live messages. */
  readonly position?: string;
  readonly event?: string;
  readonly key?: string;
  /** When it was published, in Unix milliseconds. */
  readonly time?: number;
  /** How many were left out on purpose since the delivery before, by filter or conflate. */
  readonly skipped?: number;
  readonly traceparent?: string;
}

/** Notice that messages may be missing. */
export interface Gap {
  readonly channel: string;
  /** One of docs/protocol.md, such as "truncated"; "lapped" also where an async iterator was read too slowly. */
  readonly reason: string;
  readonly from?: string;
  readonly to?: string;
}

export interface Stats {
  readonly state: State;
  /** Where the connection is: in a SharedWorker, here for other tabs, too, in another tab, or here alone. */
  readonly shared: "worker" | "leader" | "follower" | "";
  /** The session's id at the node; absent: there is no connection, or it is made of polls. */
  readonly session?: string;
  /** Connections that were up since the client began. */
  readonly connects?: number;
  /** Messages that this tab was told. */
  readonly messages: number;
  /** Messages that came twice and were left out. */
  readonly duplicates: number;
  readonly gaps: number;
  /** What keeps it from being connected; absent: nothing. */
  readonly error?: { readonly code: string; readonly detail?: string };
}
