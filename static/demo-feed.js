// The two transports behind one shape. A feed is given callbacks
//
//   state(state)        "connecting", "open" or "closed"
//   opened(again)       a connection stands; again is true from the second one of a channel on
//   message(event, data, bytes)
//   note(kind, text)    one line for the log
//   ended()             the feed has given up; only connect() tries again
//
// and has listen(channel), disconnect() and connect(). Nothing here is needed to use Sluice: the
// plain browser objects are, and what surrounds them here shows what happens to them.

/** endpoint returns the URL of /sse or /ws beside the page, for a channel. */
export function endpoint(name, channel) {
  const url = new URL(name, document.baseURI);
  if (name === "ws") url.protocol = url.protocol.replace("http", "ws");
  url.search = `?channel=${channel}`; // the grammar of channel names has nothing that a query must escape
  url.hash = "";
  return url;
}

/** publishURL returns the URL that a message for channel is posted to. */
export function publishURL(channel) {
  // All that a channel name may have is legal in a path, but URL parsers resolve "a/../b".
  const dots = /(^|\/)\.\.?(\/|$)/.test(channel);
  return new URL(`publish/${dots ? encodeURIComponent(channel) : channel}`, document.baseURI);
}

/** SSEFeed is a native EventSource. It reconnects and resumes by itself (Last-Event-ID). */
export class SSEFeed {
  constructor(on) {
    this.on = on;
    this.channel = "";
    this.source = null;
    this.token = ""; // the newest resume token, for when the user disconnects and connects again
    this.opens = 0;
    this.backoff = new Backoff();
    this.events = new Set(["message"]);
  }

  listen(channel) {
    this.disconnect();
    this.channel = channel;
    this.token = "";
    this.opens = 0;
    this.connect();
  }

  /** hear adds a listener for a publisher's event name: EventSource drops names that nobody asked for. */
  hear(event) {
    if (event === "" || this.events.has(event) || CONTROL.has(event)) return;
    this.events.add(event);
    if (this.source) this.attach(this.source, event);
  }

  disconnect() {
    this.backoff.stop();
    if (!this.source) return;
    this.source.close();
    this.source = null;
    this.on.state("closed");
  }

  connect() {
    this.backoff.stop();
    this.source?.close();
    const url = endpoint("sse", this.channel);
    if (this.token) {
      url.searchParams.set("resume", this.token);
      this.on.note("resume", `after ${this.token}`);
    }
    const source = new EventSource(url);
    this.source = source;
    this.on.state("connecting");
    source.addEventListener("open", (e) => {
      if (e instanceof MessageEvent || this.source !== source) return; // a published event may be named "open"
      this.backoff.reset();
      this.on.state("open");
      this.on.opened(this.opens++ > 0);
    });
    source.addEventListener("error", (e) => {
      if (e instanceof MessageEvent || this.source !== source) return;
      this.failed(source);
    });
    for (const kind of CONTROL) {
      source.addEventListener(kind, (e) => {
        if (e.lastEventId) this.token = e.lastEventId;
        this.on.note(kind, explain(kind, parse(e.data)));
      });
    }
    for (const event of this.events) this.attach(source, event);
  }

  attach(source, event) {
    source.addEventListener(event, (e) => {
      if (!(e instanceof MessageEvent) || this.source !== source) return;
      if (e.lastEventId) this.token = e.lastEventId;
      this.on.message(event, e.data);
    });
  }

  failed(source) {
    if (source.readyState === EventSource.CONNECTING) {
      this.on.state("connecting");
      this.on.note("waiting", "the stream ended; the browser comes back by itself");
      return;
    }
    this.on.state("closed");
    this.diagnose(source);
  }

  async diagnose(source) {
    const { problem, mend } = await refusal(source.url);
    if (this.source !== source) return;
    if (!mend) {
      this.on.note("refused", problem);
      this.on.ended();
      return;
    }
    const delay = this.backoff.start(() => this.connect());
    this.on.note("waiting", `${problem || "the stream was refused"}; again in ${seconds(delay)}`);
  }
}

/** WSFeed is a plain WebSocket: every frame is a payload. It is reopened here, with jittered back-off. */
export class WSFeed {
  constructor(on) {
    this.on = on;
    this.channel = "";
    this.socket = null;
    this.opens = 0;
    this.backoff = new Backoff();
    window.addEventListener("online", () => this.backoff.now());
  }

  listen(channel) {
    this.disconnect();
    this.channel = channel;
    this.opens = 0;
    this.connect();
  }

  hear() {} // a plain WebSocket has no event names

  disconnect() {
    this.backoff.stop();
    const socket = this.socket;
    this.socket = null;
    if (!socket) return;
    socket.close(1000);
    this.on.state("closed");
  }

  connect() {
    this.backoff.stop();
    const url = endpoint("ws", this.channel);
    url.searchParams.set("gaps", "frame"); // so that the log can show gaps, which bare payloads can't
    const socket = new WebSocket(url);
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    this.on.state("connecting");
    socket.addEventListener("open", () => {
      if (this.socket !== socket) return;
      this.backoff.opened();
      this.on.state("open");
      this.on.note("open", this.opens > 0 ? "back; what was published meanwhile needs sluice.v1.json" : "no welcome on a plain socket");
      this.on.opened(this.opens++ > 0);
    });
    socket.addEventListener("message", (e) => {
      if (this.socket === socket) this.received(e.data);
    });
    socket.addEventListener("close", (e) => {
      if (this.socket === socket) this.closed(e);
    });
  }

  received(data) {
    if (typeof data !== "string") {
      this.on.message("message", hex(data), data.byteLength);
      return;
    }
    const gap = data.startsWith('{"type":"gap"') ? parse(data) : null;
    if (gap?.reason && gap.channel === this.channel) this.on.note("gap", explain("gap", gap));
    else this.on.message("message", data);
  }

  closed(e) {
    this.on.state("closed");
    const { why, final } = closeReason(e);
    if (final) {
      this.on.note("closed", `${why}; coming back would not help`);
      this.on.ended();
      return;
    }
    const delay = this.backoff.start(() => this.connect());
    this.on.note(e.code === 1012 ? "reconnect" : "closed", `${why}; again in ${seconds(delay)}`);
  }
}

/**
 * refusal says why a stream was refused: EventSource gives up for good on an answer that is not a stream, and does
 * not say why, so it is asked for once more. mend tells whether to try again.
 */
export async function refusal(url) {
  const abort = new AbortController();
  let problem = "", mend = true;
  try {
    const answer = await fetch(url, { headers: { Accept: "text/event-stream" }, signal: abort.signal });
    if (!answer.ok) {
      mend = answer.status >= 500 || answer.status === 429;
      problem = await problemText(answer);
    }
  } catch {
    problem = "the server can’t be reached";
  }
  abort.abort();
  return { problem, mend };
}

/** problemText reads an error answer: problem+json where it is one. */
export async function problemText(answer) {
  try {
    const p = await answer.json();
    if (p.code || p.detail) return [p.code, p.detail || p.title].filter(Boolean).join(": ");
  } catch {
    // not JSON: a proxy's answer; its status has to do
  }
  return `${answer.status} ${answer.statusText}`.trim();
}

const FIRST = 500, LONGEST = 15000, STABLE = 5000; // milliseconds

/**
 * Backoff waits longer each time, up to LONGEST, and a random part of it, so that pages which lost
 * their server together do not come back together.
 */
export class Backoff {
  constructor() {
    this.tries = 0;
    this.since = 0; // when the connection was opened; 0 while there is none
    this.timer = 0;
    this.again = null;
  }

  opened() {
    this.since = performance.now();
  }

  reset() {
    this.tries = 0;
  }

  // A server that accepts and drops at once must not be hammered: only a connection that stood a while resets.
  start(again) {
    if (this.since && performance.now() - this.since > STABLE) this.reset();
    this.since = 0;
    const delay = Math.min(LONGEST, FIRST * 2 ** this.tries) * (0.5 + Math.random() / 2);
    this.tries = Math.min(this.tries + 1, 10);
    this.again = again;
    this.timer = setTimeout(() => this.now(), delay);
    return delay;
  }

  now() {
    const again = this.again;
    this.stop();
    again?.();
  }

  stop() {
    clearTimeout(this.timer);
    this.again = null;
  }
}

// The events that are Sluice's own; publishers can't use their names.
const CONTROL = new Set(["welcome", "gap", "reconnect", "unavailable"]);

const FINAL = new Set([1002, 1003, 1007, 1009, 4400, 4403]);
const CLOSE = {
  1006: "connection lost", 1008: "read too slowly", 1011: "server error", 1012: "the node restarts",
  1013: "try again later", 4403: "forbidden", 4408: "no sign of life", 4429: "too many commands",
};

/** closeReason says why a WebSocket was closed, and whether coming back would not help. */
export function closeReason({ code, reason }) {
  return { why: `${code}${CLOSE[code] ? ` ${CLOSE[code]}` : ""}${reason ? `: ${reason}` : ""}`, final: FINAL.has(code) };
}

function explain(kind, data) {
  switch (kind) {
    case "welcome":
      return `session ${data.session ?? "?"}, heartbeat ${data.heartbeat ?? "?"} s`;
    case "gap":
      return `${data.reason ?? "messages may be missing"}${data.from ? `, from ${data.from}` : ""}${data.to ? ` to ${data.to}` : ""}`;
    case "reconnect":
      return `the node goes away; back in ${seconds(data.delay ?? 0)}`;
  }
  return data.detail ?? data.code ?? "";
}

/** parse reads JSON; what is none becomes an empty object. */
export function parse(text) {
  try {
    return JSON.parse(text) ?? {};
  } catch {
    return {};
  }
}

/** seconds writes milliseconds as seconds. */
export function seconds(ms) {
  return `${(ms / 1000).toFixed(1)}\u00a0s`;
}

function hex(buffer) {
  const bytes = Array.from(new Uint8Array(buffer, 0, Math.min(24, buffer.byteLength)), (b) => b.toString(16).padStart(2, "0"));
  return `${buffer.byteLength} bytes: ${bytes.join(" ")}${buffer.byteLength > 24 ? " …" : ""}`;
}
