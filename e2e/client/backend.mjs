// What a backend does beside its pages: it makes tokens and publishes. The Go test says where the node is and what it signs by.

import { createHmac, randomUUID } from "node:crypto";

export const { SLUICE_NODE: node, SLUICE_SECRET: secret } = process.env;

/** token makes a JWT (RFC 7519) for a subject that lives for so many seconds; more claims may say otherwise. */
export function token(sub, seconds = 3600, more = {}) {
  const part = (v) => Buffer.from(typeof v === "string" ? v : JSON.stringify(v)).toString("base64url");
  const iat = Math.floor(Date.now() / 1000);
  const body = `${part({ alg: "HS256", typ: "JWT" })}.${part({ sub, jti: randomUUID(), iat, exp: iat + seconds, ...more })}`;
  return `${body}.${createHmac("sha256", secret).update(body).digest("base64url")}`;
}

const own = token("backend", 3600, { publish: ["*"] });

/** publish publishes a payload over HTTP and returns its position. */
export async function publish(channel, data, query = "") {
  const answer = await fetch(`${node}/publish/${channel}?${query}`, { method: "POST", body: data, headers: { authorization: "Bearer " + own } });
  if (!answer.ok) throw new Error(`publish to ${channel}: ${answer.status} ${await answer.text()}`);
  return (await answer.json()).position;
}

/** until waits until f returns something true, or fails after some seconds. */
export async function until(what, f, seconds = 15) {
  for (const end = Date.now() + seconds * 1000; ; await new Promise((done) => setTimeout(done, 20))) {
    const value = await f();
    if (value) return value;
    if (Date.now() > end) throw new Error(`not within ${seconds} s: ${what}`);
  }
}

/** name makes a channel name that no other test has. */
export const name = (prefix) => `${prefix}.${randomUUID().slice(0, 8)}`;

/** transports are the ways that this Node knows, each forced. */
export const transports = ["ws", "sse", "polling"].filter((kind) => kind !== "ws" || globalThis.WebSocket);
