// What a subscriber wishes of its delivery, between the controls of the page and the wire (docs/protocol.md,
// "Delivery on request"). Nothing here touches the page.

/** The stops of the slider for the batch window, in milliseconds; 0 is off. */
export const WINDOWS = [0, 10, 20, 50, 100, 200, 500];

/**
 * wish makes the parameters of a query, or the fields of a subscribe command, out of what the controls
 * say: {perSecond, window, conflate, filter}. What is off is left out.
 */
export function wish({ perSecond, window, conflate, filter }) {
  return {
    ...(perSecond > 0 && { rate: `${perSecond}/s` }),
    ...(window > 0 && { batch: `${window}ms` }),
    ...(conflate !== "none" && { conflate }),
    ...(filter.trim() && { filter: filter.trim() }),
  };
}

/** longestWait returns how long, in milliseconds, a server that told deliver may hold a message back. */
export function longestWait(deliver = {}) {
  return Math.max(interval(deliver), duration((deliver.batch ?? "").split(",")[0]));
}

/** apart returns how many milliseconds there are at least between two deliveries of a server that told deliver. */
export function apart(deliver = {}) {
  const batch = deliver.batch ?? "";
  return Math.max(interval(deliver), batch.includes(",") ? 0 : duration(batch)); // a full batch does not wait
}

/** inForce writes what a server told in words. */
export function inForce(deliver) {
  if (!deliver || Object.keys(deliver).length === 0) return "everything, as it comes";
  return Object.entries(deliver).map(([name, value]) => `${name} ${value}`).join(" · ");
}

/** sample writes the code that a page needs for a wish. */
export function sample(transport, channel, wished) {
  if (transport === "ws") {
    const command = JSON.stringify({ type: "subscribe", channel, ...wished }).replaceAll(/([{,])"(\w+)":/g, "$1 $2: ").replace(/}$/, " }");
    return `const socket = new WebSocket("/ws", "sluice.v1.json");\nsocket.onopen = () => socket.send(JSON.stringify(${command}));`;
  }
  const query = Object.entries({ channel, ...wished }).map(([name, value]) => `${name}=${encodeURIComponent(value).replaceAll("%2F", "/")}`);
  return `const source = new EventSource("/sse?${query.join("&")}&format=json");`;
}

const RATE_UNITS = { s: 1000, m: 60_000, h: 3_600_000 };
const UNITS = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, "µs": 0.001, us: 0.001 };

function interval({ rate = "" }) {
  const [count, unit] = rate.split("/");
  return count > 0 ? (RATE_UNITS[unit] ?? 0) / count : 0;
}

// Reads a duration as Go writes it: 50ms, 1.5s, 1m30s.
function duration(text) {
  let sum = 0;
  for (const [, number, unit] of text.matchAll(/([\d.]+)(ms|µs|us|s|m|h)/g)) sum += number * UNITS[unit];
  return sum;
}
