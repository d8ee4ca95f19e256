// Publishing over HTTP: one message from the box, or a burst of them in batches. Messages carry the
// page's identity and the time, so that this page, and only this page, can tell how long they took.

import { problemText, publishURL } from "./demo-feed.js";

/** page is random, so that a second tab's messages are not measured by this tab's clock. */
export const page = Array.from(crypto.getRandomValues(new Uint8Array(6)), (b) => b.toString(16).padStart(2, "0")).join("");
const prefix = `{"page":"${page}",`;

const origin = performance.timeOrigin;

/** now is a wall clock in milliseconds that never goes back while the page lives. */
export function now() {
  return origin + performance.now();
}

/** stamp wraps a body into the JSON text that unstamp of this page understands. */
export function stamp(body) {
  return JSON.stringify({ page, sent: now(), body });
}

/** unstamp returns {sent, body} of a payload that this page has stamped, null for any other. */
export function unstamp(text) {
  if (!text.startsWith(prefix)) return null; // cheap: a firehose of foreign messages is not parsed
  try {
    const { sent, body } = JSON.parse(text);
    return typeof sent === "number" && typeof body === "string" ? { sent, body } : null;
  } catch {
    return null;
  }
}

/** publish posts one payload as it is and returns {position} or throws an Error to show. */
export async function publish(channel, payload, { event, live }) {
  const url = publishURL(channel);
  if (event) url.searchParams.set("event", event);
  if (live) url.searchParams.set("live", "true");
  return (await post(url, payload, "text/plain; charset=utf-8")).json();
}

const TICK = 100; // milliseconds between two batches
const GRACE = 10000; // how much longer than asked a burst may take before it gives up

/**
 * burst publishes rate × seconds messages in one batch a tick, and calls progress(sent, failed, total)
 * after each. Batches never overlap: a server that is slow gets larger ones, not more of them.
 */
export async function burst(channel, { rate, seconds, event, live, signal }, progress) {
  const total = rate * seconds;
  const start = performance.now();
  let sent = 0, failed = 0;
  while (sent < total) {
    const elapsed = performance.now() - start;
    if (elapsed > seconds * 1000 + GRACE) throw new Error(`gave up: the server took ${sent} of ${total} in time`);
    const due = Math.min(total, Math.floor((elapsed / 1000) * rate) + 1, sent + 1000);
    if (due > sent) {
      const batch = [];
      for (let i = sent + 1; i <= due; i++) {
        batch.push({ channel, data: stamp(`burst ${i} of ${total}`), ...(event && { event }), ...(live && { live }) });
      }
      const answer = await post(new URL("publish", document.baseURI), JSON.stringify(batch), "application/json", signal);
      const { results } = await answer.json();
      failed += results.filter((r) => r.error).length;
      sent = due;
      progress(sent, failed, total, results.find((r) => r.error)?.error);
    }
    await pause(TICK, signal);
  }
}

/** post returns the answer if it is a success, or throws an Error to show; an AbortError if signal says so. */
export async function post(url, body, type, signal) {
  let answer;
  try {
    answer = await fetch(url, { method: "POST", body, headers: { "Content-Type": type }, signal });
  } catch (err) {
    if (err.name === "AbortError") throw err;
    throw new Error("the server can’t be reached");
  }
  if (answer.ok) return answer;
  const again = answer.headers.get("Retry-After");
  throw new Error((await problemText(answer)) + (again ? ` (try again in ${again} s)` : ""));
}

/** pause waits, or throws the AbortError of signal. */
export function pause(ms, signal) {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", stop);
      resolve();
    }, ms);
    signal.addEventListener("abort", stop, { once: true });
    if (signal.aborted) stop();
  });
}
