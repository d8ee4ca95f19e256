// The browser side of Sluice: one connection for all tabs, over WebSocket, Server-Sent Events or polls, whichever the network lets through.
//
//   import { connect } from "/sluice.js";
//   const edge = connect("/", { token: async () => fetchToken() });
//   const prices = edge.subscribe("prices.AAPL", { rate: "5/s" }, (m) => draw(m.json));
//   prices.on("gap", reload);
//
// A page has an edge. A hub has the connection for all edges that share it: in a SharedWorker, in the tab that leads, or beside the edge. The
// connection outlives its links, each of which is a WebSocket, a stream or a row of polls. Edges and hubs talk by ports, in plain objects,
// since they may be of different tabs. These are closures and not classes, for the size. docs/client.md is the manual.

const VERSION = 1; // of how edges and hubs talk: tabs with another script have another hub
const STEP = 2e3; // ms until another transport is started beside those that are not up yet
const MEMORY = 4 * 3600e3; // ms to remember what worked

const now = Date.now;
const jitter = (ms) => Math.random() * ms;
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
const quiet = (promise) => (promise.catch(() => {}), promise);

/** SluiceError says what was refused, or what went wrong on the way. The codes are those of docs/protocol.md and docs/client.md. */
export class SluiceError extends Error {
  constructor(e) {
    super(e.detail ?? e.code);
    Object.assign(this, e);
  }
}

// Between hubs and edges errors are plain objects with a code. (That of a DOMException is a number.)
const LOST = { code: "disconnected" };
const plain = (e) => (e.code?.length ? e : { ...LOST, detail: e.message });
const denied = (e) => /^(unauth|token_|forb)/.test(e?.code);

/** behind reports whether position a (MS-SEQ-TAG) comes after b in their history; not if one of them is "". */
const behind = (a, b) => {
  const [m, s] = a.split("-");
  const [n, t] = b.split("-");
  return n && (m - n || s - t) > 0;
};

/** listeners makes [on, emit]. One that throws does not keep the others from it. */
const listeners = () => {
  const all = {};
  return [
    (name, f) => {
      const set = (all[name] ??= new Set());
      set.add(f);
      return () => set.delete(f);
    },
    (name, value) => {
      for (const f of all[name] ?? []) {
        try {
          f(value);
        } catch (e) {
          Promise.reject(e); // the page hears of it by unhandledrejection
        }
      }
    },
  ];
};

/** makeHub makes a connection for the edges of tabs (id → how to post to it). Only the first of a place tells its state. */
const makeHub = ({ base, kinds, credentials, tokens, memo }, tabs, first) => {
  const STAGE = 5e3; // ms for each stage of new links: the handshake, the welcome, the answer
  const SHORT = 10e3; // ms; a link that lived less was cut by the network. After two of them another transport is used for a while
  const UPGRADE = 60e3; // ms until a better transport is tried again, doubled each time up to MEMORY
  const LONGEST = 30e3; // ms between two attempts
  const PATIENCE = 30e3; // ms for what is to be published and can't be
  const HOLD = 20; // seconds of a poll that has nothing to tell
  const wants = new Map(); // channel → { ask: what the node is asked for, wish: how to have it, as JSON, subs: key of a subscription → id of its edge, ready }
  const trying = new Set(); // links that are not up
  const timers = {};
  let publishing = 0;
  let queue = []; // transports to start
  let short = 0; // links in a row that the network has cut
  let connects = 0;
  let attempt = 0;
  let retry = 2e3;
  let upgrade = UPGRADE;
  let hold = HOLD;
  let active, token, shown, given, error, offline;

  const after = (name, ms, f) => {
    clearTimeout(timers[name]);
    timers[name] = setTimeout(f, ms);
  };

  const tell = (ids, message) => {
    for (const post of new Set([...ids].map((id) => tabs.get(id)))) post?.(message);
  };

  /** changed tells what the connection is like now, and an error if there is one to tell. */
  const changed = (e) => {
    const state = active?.kind ?? (offline ? "offline" : denied(error) ? "denied" : wants.size ? "connecting" : "idle");
    if (first) tell(tabs.keys(), { s: { state, session: active?.session, connects, error, memo }, e });
  };

  // -- asking

  /** credential returns the token to show, if the pages have any. The oldest of them is asked where it is not known. */
  const credential = () =>
    (shown ??= (async () => {
      if (!tokens) return;
      const [[to, post]] = tabs;
      post({ to, ask: 1 });
      const { v, e } = await new Promise((done) => (given = done));
      if (!e) return v;
      throw { code: "token", detail: e };
    })());

  /** post sends JSON, again with another token if that one is not taken. */
  const post = async (path, body, signal, ms) => {
    for (let again = tokens; ; again = false) {
      const token = await credential();
      const answer = await fetch(new URL(path, base), {
        method: "POST",
        body: JSON.stringify(body),
        headers: { "content-type": "application/json", ...(token && { authorization: "Bearer " + token }) },
        credentials,
        signal: ms ? AbortSignal.any([signal, AbortSignal.timeout(ms)]) : signal,
      });
      if (answer.ok) return ms ? answer.json() : answer;
      if (!again || answer.status !== 401)
        // A proxy does not say it in JSON (RFC 9457).
        throw { code: "unavailable", ...(await answer.json().catch(() => {})) };
      shown = undefined;
    }
  };

  /** send posts one command after the other, so that they keep their order. */
  const send = (link, path, command) => (link.tail = Promise.allSettled([link.tail]).then(() => post(path, command, link.signal, 2 * STAGE)));

  /** request asks for channels from where they are: by the position of each, or the resume token of all, whichever is later. */
  const request = (list, resume) => ({ subscriptions: list.map((w) => w.ask), resume });

  /** join tells the node what is wanted now. */
  const join = async (link, begin) => {
    const list = [...wants.values()].filter((w) => !link.asked.has(w));
    const gone = [...link.asked].filter((w) => wants.get(w.ask.channel) !== w);
    link.asked = new Set(wants.values());
    if (gone.length) quiet(link.send({ type: "unsubscribe", channels: gone.map((w) => w.ask.channel) }));
    if (!list.length && !begin) return;
    const { channels } = await link.send({ type: "subscribe", ...request(list, begin && token) });
    for (const c of channels) frame(link, { ...c, type: "joined" });
  };

  /** change has the node told of wants that have changed; those of a moment together. */
  const change = () => {
    if (!active) return error || start(); // or when it is time
    after("join", 0, () => active && join(active).catch(active.fail));
  };

  // -- links

  const start = () => {
    if (active || trying.size || queue.length || !(wants.size || publishing)) return;
    queue = [...kinds].sort((a, b) => (b === memo) - (a === memo));
    changed();
    credential().then(next, (e) => {
      queue = [];
      again(plain(e));
    });
  };

  /** next starts a transport, and plans the one after it. */
  const next = () => {
    const kind = queue.shift();
    if (!kind) return;
    open(kind);
    after("next", STEP, next);
  };

  /** stage gives all links that are not up some time more. */
  const stage = () => after("stage", STAGE, () => [...trying].map((link) => link.fail({ code: "timeout" })));

  const open = (kind) => {
    const abort = new AbortController();
    const link = {
      kind,
      rank: kinds.indexOf(kind),
      signal: abort.signal,
      asked: new Set(), // the wants that the node knows of
      early: [], // frames before it was up: messages of a channel may come before the answer, which is about all channels
      fail(e) {
        if (abort.signal.aborted) return;
        abort.abort();
        down(link, plain(e));
      },
    };
    trying.add(link);
    stage();
    transports[kind](link).catch(link.fail);
  };

  /** up is called when something came through link that only a working one lets through. */
  const up = (link, welcome) => {
    if (!trying.delete(link)) return;
    const old = active;
    active = link;
    // Make before break: the old one was there until now. Better ones that are on their way may still come.
    old?.fail(LOST);
    for (const other of trying) if (other.rank >= link.rank && trying.delete(other)) other.fail(LOST);
    queue = [];
    link.born = link.seen = now();
    link.session = welcome.session;
    link.beat = welcome.heartbeat ?? 1e5; // seconds; polls have none
    retry = welcome.retry || retry;
    memo = link.kind;
    error = undefined;
    connects++;
    watch(link);
    plan();
    expire(welcome.expires);
    changed();
    // What is live has come through the old one as well. Refusals are early or, on streams, of channels that the welcome does not list.
    for (const f of link.early) if (!old || f.position || f.type !== "message") frame(link, f);
    for (const channel of welcome.channels) frame(link, { type: "joined", channel });
    change();
  };

  const down = (link, e) => {
    if (active === link) {
      active = undefined;
      attempt = 0;
      if (e.delay || now() - link.born > SHORT) short = 0;
      else if (++short > 1) memo = kinds[link.rank + 1];
    } else if (!trying.delete(link)) return;
    else if (active) {
      upgrade = Math.min(upgrade * 2, MEMORY);
      return plan();
    } else if (queue.length) return next();
    if (trying.size) return changed();
    if (!link.born) memo = undefined;
    again(e);
  };

  /** drop leaves all links, and none that were planned take their place. Where there is none yet those are left alone. */
  const drop = (e) => {
    for (const link of [active, ...trying]) link?.fail(e, (queue = []));
  };

  /** again starts after what the node asks for, and full jitter. */
  const again = (e) => {
    error = e;
    shown = undefined; // it may have expired meanwhile, and WebSocket does not tell
    quit();
    const ms = e.delay ?? (e.retry || 0) + jitter(Math.min(LONGEST, retry * 2 ** attempt++));
    if (tokens || !denied(e)) after("start", ms, start);
    changed(e);
  };

  const quit = () => {
    for (const name in timers) clearTimeout(timers[name]);
  };

  /** renew opens links beside the one that is up, which they are to replace. */
  const renew = (list) => {
    queue = list;
    next();
  };

  /** plan has better transports tried later. */
  const plan = () => after("plan", upgrade * (0.75 + jitter(0.5)), () => renew(kinds.slice(0, active?.rank)));

  /** watch leaves a link that was silent for 2.5 heartbeats. It looks twice: a timer that is late may run before what came meanwhile is read. */
  const watch = (link, late) => {
    const left = link.seen + 2300 * link.beat - now();
    if (late && left < 0) return link.fail({ code: "silent" });
    after("watch", Math.max(left, 100 * link.beat), () => watch(link, left < 0));
  };

  /** expire shows another token before this one ends, in Unix seconds. */
  const expire = (at) => {
    const left = at * 1e3 - now();
    if (tokens && at) after("refresh", Math.max(1e3, Math.min(left * 0.75, 2e9)), refresh);
  };

  const refresh = async () => {
    shown = undefined;
    try {
      const token = await credential();
      if (active) expire((await active.send({ type: "refresh", token })).expires);
      else start();
    } catch (e) {
      changed(plain(e));
      after("refresh", STAGE, refresh);
    }
  };

  // -- transports, which end only by failing

  const transports = {
    async ws(link) {
      const token = await credential();
      const url = "ws" + new URL("ws", base).href.slice(4); // for http, wss for https
      const socket = new WebSocket(url, ["sluice.v1.json"].concat(token ? "sluice.token." + token : []));
      const replies = new Map();
      let ref = 0;
      link.send = (command) =>
        new Promise((...reply) => {
          replies.set(++ref, reply);
          socket.send(JSON.stringify({ ...command, ref }));
        });
      link.signal.onabort = () => {
        socket.close();
        for (const [, fail] of replies.values()) fail(LOST);
      };
      socket.onopen = stage;
      socket.onerror = socket.onclose = ({ code }) => link.fail(code === 4401 ? { code: "unauthorized" } : LOST);
      socket.onmessage = ({ data }) => {
        try {
          const f = JSON.parse(data);
          const reply = replies.get(f.ref);
          link.seen = now();
          if (reply) {
            replies.delete(f.ref);
            reply[f.type === "reply" ? 0 : 1](f);
          } else if (f.type === "welcome") {
            stage();
            // Only an answer shows that both directions work.
            join(link, 1).then(() => up(link, f), link.fail);
          } else frame(link, f);
        } catch (e) {
          link.fail(e); // altered on the way
        }
      };
    },

    // By fetch, not EventSource: it has headers and a status, and lives with a changed Content-Type.
    async sse(link) {
      const list = [...wants.values()];
      const { body } = await post("sse", request(list, token), link.signal);
      const reader = body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "";
      let event = {};
      link.asked = new Set(list);
      stage();
      for (;;) {
        const { done, value } = await reader.read();
        if (done) throw LOST;
        link.seen = now();
        const lines = (rest + value).split("\n");
        rest = lines.pop();
        lines.map((line) => {
          const colon = line.indexOf(": ");
          event[line.slice(0, colon)] = line.slice(colon + 2); // the data of an envelope is one line
          if (line || !event.data) return;
          const f = { type: event.event, token: event.id, ...JSON.parse(event.data) };
          event = {};
          if (f.type === "welcome") {
            link.send = (command) => send(link, "sessions/" + f.session, command);
            up(link, f);
          }
          frame(link, f);
        });
      }
    },

    async polling(link) {
      link.send = async ({ type, ...message }) => {
        if (type === "publish") return send(link, type, message);
        renew(["polling"]); // which asks for what is wanted by now
        return { channels: [] };
      };
      while (!link.signal.aborted) {
        const list = [...wants.values()];
        const wait = link.born ? hold : 0; // what is answered at once shows that this way works
        const sent = now();
        let a = { retry: 1e3, messages: [] };
        try {
          if (list.length) a = await post("poll", { ...request(list, token), wait }, link.signal, (wait + 10) * 1e3);
        } catch (e) {
          if (now() - sent > 1500) hold = Math.max(2, hold / 2); // it may have been cut for its length
          throw e;
        }
        link.asked = new Set(list);
        for (const m of a.messages) frame(link, m);
        if (!link.born) up(link, { channels: list.map((w) => w.ask.channel) });
        frame(link, a);
        await sleep(a.more ? 0 : Math.max(a.retry, 100 + jitter(100))); // a floor, in which messages gather
      }
    },
  };

  const tellSubs = (w, f) => tell(w.subs.values(), { ks: [...w.subs.keys()], f });

  /** frame takes what a node has sent. */
  const frame = (link, f) => {
    if (/^(recon|denied|unav)/.test(f.type)) return link.fail({ code: f.type, ...f });
    if (active !== link) return link.early.push(f);
    const w = wants.get(f.channel);
    if (w) {
      w.ready = true;
      w.ask.since = f.messages?.findLast((m) => m.position)?.position ?? f.position ?? f.to ?? w.ask.since;
      if (f.type === "unsubscribed") link.asked.delete(w, wants.delete(f.channel));
      tellSubs(w, f);
    }
    token = f.token || token;
  };

  // -- what edges say

  return {
    /** fits reports whether what m asks for can be had on this connection: the channel is not had otherwise. */
    fits: ({ ask, wish }) => (wants.get(ask?.channel)?.wish ?? wish) === wish,

    hello: () => changed(),

    sub({ from, k, ask, wish }) {
      const { channel, since } = ask;
      let w = wants.get(channel);
      if (!w || behind(w.ask.since, since)) {
        // New, or wanted from an earlier place: who knows what is told again by that leaves it out.
        const old = w;
        w = { ask, wish, subs: old?.subs ?? new Map() };
        wants.set(channel, w);
        if (since) token = undefined; // it may know a later place
        if (old) drop({ ...LOST, delay: 50 }); // what is on its way could not be told from what comes again; others may come as well
        change();
      }
      w.subs.set(k, from);
      if (w.ready) tellSubs(w, { type: "joined", position: w.ask.since });
    },

    /** k is a key, or what many begin with. */
    unsub({ k }) {
      for (const w of wants.values()) {
        for (const key of w.subs.keys()) if (key.startsWith(k)) w.subs.delete(key);
        if (!w.subs.size) change(wants.delete(w.ask.channel));
      }
    },

    async publish({ from, k, m }) {
      if (!first) return;
      const end = now() + PATIENCE;
      let f;
      publishing++;
      while (!f) {
        try {
          if (!active) throw error ?? LOST;
          f = await active.send({ type: "publish", id: k, ...m }); // with an id, so that it may be repeated
        } catch (x) {
          const e = plain(x);
          error || start();
          if (/^(bad|too_l|forb|unau)/.test(e.code) || now() > end) f = e;
          else await sleep(e.retry || jitter(500));
        }
      }
      publishing--;
      tell([from], { ks: [k], f });
    },

    token: (answer) => given?.(answer),

    /** The network may be another one, where better transports work, or there again. */
    wake(m) {
      offline = m.offline;
      changed();
      attempt = 0;
      if (!offline) after("start", jitter(500), () => (active ? renew(kinds.slice(0, active.rank + 1)) : start()));
    },

    refresh,

    bye({ from }) {
      given?.({ e: "closed" }); // if it was the one that is asked
      this.unsub({ k: from });
      if (tabs.size) return;
      drop(LOST);
      quit();
      error = undefined; // a tab that comes next need not wait
    },
  };
}

/** serve has a port served by the hubs of a place: one, and another where a channel is wanted in two ways. */
const serve = (port, tabs = new Map(), hubs = []) => {
  const post = (m) => port.postMessage(m);
  const take = (m) => {
    const { t, from, lock, settings } = m;
    const fitting = () => hubs.find((hub) => hub.fits(m)) ?? hubs[hubs.push(makeHub(settings, tabs, !hubs.length)) - 1];
    if (t === "hello") {
      tabs.set(from, post);
      if (lock) navigator.locks.request(lock, () => take({ ...m, t: "bye" })); // is had when the tab has gone
      if (!hubs[0]) fitting();
    } else if (t === "bye") tabs.delete(from);
    for (const hub of t === "sub" ? [fitting()] : hubs) hub[t](m);
  };
  port.onmessage = ({ data }) => data.from && take(data);
  port.end = () => {
    port.close();
    tabs.clear();
    take({ t: "bye", from: "" });
  };
  return port;
}

/** connect returns an edge of the node at url, which is relative to the page. Nothing is opened before something is wanted. */
export function connect(url = "/", { token: give, transports = ["ws", "sse", "polling"], share = true, credentials } = {}) {
  const base = new URL(url, globalThis.location?.href).href;
  const settings = { base, kinds: transports, credentials, tokens: !!give };
  const store = `sluice ${VERSION} ${base} ${transports} `;
  const id = Math.random() + "-";
  const asks = new Map(); // key → [what was asked of the hub, who takes what it tells]
  const counts = { messages: 0, duplicates: 0, gaps: 0 };
  const [on, emit] = listeners();
  let stats = { state: "idle" };
  let shared;
  let last = 0;
  let abort, lock, port, late;

  const post = (m) => port?.postMessage({ ...m, from: id, settings });

  const leave = () => {
    clearTimeout(late);
    post({ t: "bye" });
    port?.close();
    abort.abort();
    port = undefined;
  };

  const attach = async () => {
    abort = new AbortController();
    const { signal } = abort;
    const left = new Promise((done) => (signal.onabort = done));
    const events = {
      online: () => post({ t: "wake" }),
      offline: () => post({ t: "wake", offline: 1 }),
      // A frozen tab must not lead, nor have messages wait for it. It goes on from where it was when its timers do.
      freeze() {
        leave();
        late = setTimeout(attach, STEP);
      },
    };
    for (const name in events) globalThis.addEventListener?.(name, events[name], { signal, capture: true });
    let name = share && globalThis.document && navigator.locks && store + [credentials, !!give, share, ""];
    try {
      // Tabs of different users must not share: the token tells whose it is.
      const shown = name && give && (await give());
      if (shown) name += JSON.parse(atob(shown.split(".")[1].replace(/-/g, "+").replace(/_/g, "/"))).sub;
    } catch {
      name = "";
    }
    if (signal.aborted) return;
    try {
      const [kind, until] = localStorage[store].split(",");
      if (until > now()) settings.memo = kind;
    } catch {} // there is none in workers, or it is forbidden
    const wire = (to, as) => {
      port = to;
      shared = as;
      port.onmessage = receive;
      announce();
    };
    const elect = () => {
      if (signal.aborted) return;
      post({ t: "bye" });
      port?.close();
      // Whose tab has the lock leads: it has the hub, to which all talk by a channel.
      wire(new BroadcastChannel(name), "follower");
      const lead = () => {
        shared = "leader";
        const hub = serve(new BroadcastChannel(name));
        hub.postMessage({ hub: 1 });
        return left.then(hub.end);
      };
      quiet(navigator.locks.request(name, { signal }, lead));
    };
    if (!name) {
      const { port1, port2 } = new MessageChannel();
      serve(port2);
      return wire(port1, "");
    }
    lock = name + id + ++last; // another one each time: a leader that is frozen may have asked for the one before
    const begin = () => {
      try {
        // Bundlers know this form. Where there is no such file beside the bundle, or workers are forbidden, tabs elect one of them.
        const worker = new SharedWorker(new URL("./sluice.js", import.meta.url), { /* @vite-ignore */ type: "module", name });
        worker.onerror = elect;
        late = setTimeout(elect, STEP); // its script may be asked for on a connection that is dead
        wire(worker.port, "worker");
      } catch {
        elect();
      }
      return left;
    };
    quiet(navigator.locks.request(lock, { signal }, begin));
  };

  /** announce tells a hub all that this edge wants. */
  const announce = () => {
    post({ t: "hello", lock });
    for (const [m] of asks.values()) post(m());
  };

  const receive = async ({ data: { from, to, ks, f, s, e, ask, hub } }) => {
    if (from || (to ?? id) !== id) return;
    clearTimeout(late);
    if (hub) announce();
    for (const k of ks ?? []) asks.get(k)?.[1](f);
    if (s) {
      const { state } = stats;
      stats = s;
      try {
        localStorage[store] = [s.memo, now() + MEMORY]; // as "ws,1795426843459"
      } catch {}
      if (s.state !== state) emit("state", s.state);
      if (e) emit("error", new SluiceError(e));
    }
    if (ask) {
      try {
        post({ t: "token", v: await give() });
      } catch (e) {
        post({ t: "token", e: "" + e });
      }
    }
  };

  /** put asks the hub for something, and the next one if that goes. */
  const put = (ask, take) => {
    const k = id + ++last + "-"; // which no other key begins with
    const m = () => ({ k, ...ask() });
    asks.set(k, [m, take]);
    post(m());
    return () => asks.delete(k) && post({ t: "unsub", k });
  };

  const subscribe = (channel, options = {}, handler) => {
    if (options.call) [options, handler] = [{}, options];
    const { since = "", buffer = 1000, ...wish } = options;
    const [on, tell] = listeners();
    let position = since;
    let queue = handler === 0 ? [] : undefined; // for who iterates
    let over, wake, done, fail;

    const gap = (g) => tell("gap", g, counts.gaps++);

    const message = ({ type, data64, messages, ...m }) => {
      if (m.position) {
        // The last guard against what two links, two nodes or two tabs tell twice.
        if (position && !behind(m.position, position)) return counts.duplicates++;
        position = m.position;
      }
      counts.messages++;
      if (data64 !== undefined) m.data = Uint8Array.from(atob(data64), (c) => c.charCodeAt());
      Object.defineProperty(m, "json", { get: () => JSON.parse(m.data) });
      tell("message", m);
      if (queue?.push(m) > buffer) gap({ channel, reason: "lapped", to: queue.shift().position });
    };

    const end = (f = { code: "unsubscribed" }) => {
      if (over) return;
      over = new SluiceError(f);
      fail(over);
      wake?.();
      drop();
    };

    const sub = {
      channel,
      on,
      ready: quiet(new Promise((...both) => ([done, fail] = both))),
      unsubscribe: () => end(),
      get position() {
        return position;
      },
      async *[Symbol.asyncIterator]() {
        queue ??= [];
        try {
          for (;;) {
            while (queue.length) yield queue.shift();
            if (over) {
              if (over.channel) throw over;
              return;
            }
            await new Promise((done) => (wake = done));
          }
        } finally {
          end();
        }
      },
    };
    if (handler) on("message", handler);
    const drop = put(
      () => ({ t: "sub", ask: { ...wish, channel, since: position }, wish: JSON.stringify(wish) }),
      (f) => {
        if (f.type === "joined") {
          position ||= f.position ?? "";
          done();
        } else if (f.type === "gap") {
          position = f.to ?? (f.reason === "interrupted" ? position : "");
          gap(f);
        } else if (f.type === "unsubscribed") {
          end(f);
          if (!f.channel) return; // the edge was closed
          tell("error", over);
          emit("error", over);
        } else {
          (f.messages ?? [f]).map((m, i) => message({ ...m, channel, skipped: i ? undefined : f.skipped }));
          wake?.();
        }
      },
    );
    return sub;
  };

  attach();

  return {
    on,
    subscribe,
    channel: (channel, options) => subscribe(channel, options, 0),
    get state() {
      return stats.state;
    },
    stats: () => ({ ...stats, ...counts, shared }),
    refresh: () => post({ t: "refresh" }),
    reconnect: () => post({ t: "wake" }),
    publish: (channel, data, options) =>
      new Promise((done, fail) => {
        if (abort.signal.aborted) return fail(new SluiceError({ code: "closed" }));
        const m = { ...options, channel };
        if (data instanceof Uint8Array) m.data64 = btoa(String.fromCharCode(...data));
        else m.data = typeof data === "string" ? data : JSON.stringify(data);
        const drop = put(
          () => ({ t: "publish", m }),
          ({ position, duplicate, ...e }) => {
            drop();
            e.code ? fail(new SluiceError(e)) : done({ position, duplicate });
          },
        );
      }),
    close() {
      for (const [, take] of asks.values()) take({ type: "unsubscribed", code: "closed" });
      leave();
      stats = { state: "closed" };
      emit("state", "closed");
    },
  };
}

// In its own SharedWorker this module is the hub of all tabs.
if (globalThis.SharedWorkerGlobalScope && name.startsWith("sluice ")) {
  const place = [new Map(), []];
  onconnect = ({ ports: [port] }) => serve(port, ...place);
}
