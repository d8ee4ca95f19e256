// The two transports of the firehose behind one shape. A line is one connection that listens to one channel. It is
// given callbacks
//
//   opened(deliver)           it listens; deliver is what the server says is in force
//   told(deliver)             the same after change()
//   messages(list, skipped)   envelopes, and how many the server says it dropped before them on purpose
//   bytes(n)                  what the page was handed
//   gap(reason)
//   waiting()                 the connection broke; it comes back by itself
//   lost(text)                the connection broke; a new line is needed
//   refused(text, change)     what was asked for can't be had; change: the line goes on as it was
//
// and has token(), a promise of the newest resume token, and close(). No callback comes after close().

import { closeReason, endpoint, parse, refusal, seconds } from "./demo-feed.js";

/** StreamLine is a native EventSource; what it wishes stands in its URL, so another wish needs another one. */
export class StreamLine {
  constructor(channel, wish, resume, on) {
    this.on = on;
    this.channel = channel;
    this.newest = resume;
    const url = endpoint("sse", channel);
    url.searchParams.set("format", "json");
    for (const [name, value] of Object.entries(wish)) url.searchParams.set(name, value);
    if (resume) url.searchParams.set("resume", resume);
    this.source = new EventSource(url);
    this.hear("welcome", (data) => on.opened(data.deliver?.[channel]));
    this.hear("message", (data) => on.messages([data], data.skipped ?? 0));
    this.hear("gap", (data) => on.gap(data.reason));
    this.source.addEventListener("error", () => this.failed());
  }

  hear(event, then) {
    this.source.addEventListener(event, (e) => {
      if (!this.source) return;
      if (e.lastEventId) this.newest = e.lastEventId;
      this.on.bytes(e.data.length);
      then(parse(e.data));
    });
  }

  async failed() {
    const source = this.source;
    if (!source) return;
    if (source.readyState === EventSource.CONNECTING) {
      this.on.waiting();
      return;
    }
    const { problem, mend } = await refusal(source.url);
    if (this.source !== source) return;
    if (mend) this.on.lost(problem);
    else this.on.refused(problem, false);
  }

  async token() {
    return this.newest;
  }

  close() {
    this.source?.close();
    this.source = null;
  }
}

const ANSWER = 2000; // milliseconds to wait for a reply that would be good to have

/** SocketLine is a WebSocket with envelopes and commands; it wishes something else by subscribing again. */
export class SocketLine {
  constructor(channel, wish, resume, on) {
    this.on = on;
    this.channel = channel;
    this.newest = resume;
    this.ref = 0;
    this.turn = 0; // counts wishes, so that an older one is not asked for again after a newer one
    this.asked = new Map(); // what to do with the answer, by ref
    const url = endpoint("ws", channel);
    url.search = "";
    this.socket = new WebSocket(url, "sluice.v1.json");
    this.socket.addEventListener("open", () => {
      if (this.socket) this.subscribe(wish, resume, (deliver) => on.opened(deliver));
    });
    this.socket.addEventListener("message", (e) => {
      if (this.socket) this.received(e.data);
    });
    this.socket.addEventListener("close", (e) => {
      if (!this.socket) return;
      const { why, final } = closeReason(e);
      this.close();
      if (final) on.refused(why, false);
      else on.lost(why);
    });
  }

  /** change has the server deliver by another wish from now on. Nothing is lost or repeated by that. */
  change(wish) {
    this.subscribe(wish, "", (deliver) => this.on.told(deliver));
  }

  subscribe(wish, resume, then) {
    const turn = ++this.turn;
    const again = () => {
      if (turn === this.turn) this.subscribe(wish, resume, then);
    };
    const command = { type: "subscribe", channels: [this.channel], ...(resume && { resume }), ...wish };
    this.send(command, (answer) => {
      if (answer.type === "reply") then(answer.channels?.[0]?.deliver);
      else if (answer.retry) setTimeout(again, answer.retry);
      else this.on.refused([answer.code, answer.detail].filter(Boolean).join(": "), true);
    });
  }

  send(command, then) {
    if (this.socket?.readyState !== WebSocket.OPEN) return;
    const ref = ++this.ref;
    this.asked.set(ref, then);
    this.socket.send(JSON.stringify({ ...command, ref }));
  }

  received(text) {
    this.on.bytes(text.length);
    const frame = parse(text);
    if (frame.token) this.newest = frame.token;
    switch (frame.type) {
      case "message":
        this.on.messages([frame], frame.skipped ?? 0);
        break;
      case "batch":
        this.on.messages(frame.messages, frame.skipped ?? 0);
        break;
      case "gap":
        this.on.gap(frame.reason);
        break;
      case "reply":
      case "error": {
        const then = this.asked.get(frame.ref);
        this.asked.delete(frame.ref);
        then?.(frame);
      }
    }
  }

  token() {
    return new Promise((resolve) => {
      setTimeout(() => resolve(this.newest), ANSWER);
      if (this.socket?.readyState === WebSocket.OPEN) this.send({ type: "ping" }, () => resolve(this.newest));
      else resolve(this.newest);
    });
  }

  close() {
    this.socket?.close(1000);
    this.socket = null;
    this.asked.clear();
  }
}

/** waitText tells how long it takes until a connection is tried again. */
export function waitText(why, delay) {
  return `${why || "the connection broke"}; again in ${seconds(delay)}`;
}
