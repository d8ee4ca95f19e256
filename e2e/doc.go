// Package e2e tests Sluice from outside: the real program as processes, a real redis-server, real
// sockets and a real browser. It knows docs/protocol.md and the command line, and nothing of the code.
//
// Its fault tests publish thousands of messages while something is broken on purpose and hold what
// every client got against the ledger of what was acknowledged. They promise:
//   - No acknowledged durable message is lost, repeated or out of order, on either transport.
//   - Where Redis itself lost or trimmed messages, the hole has a gap in its place.
//   - Under a delivery policy or a client's wish, however often connections are cut, a client sees a part
//     of the channel in its order, once, with the newest message of each key; without conflation everything
//     that passes its filter. Slow readers get what the policy says, and cost their neighbours nothing.
//   - A node that is told to stop owes nobody anything when it is gone, and exits with 0.
//
// Tests of traces (TestJaeger…) have a real Jaeger take the spans, and read them back from its API. A real Prometheus
// asks for every panel of the dashboard in deploy/.
//
// Between pages of two browsers and nodes there are real proxies in many configurations, those of deploy/proxies/ among them, and one of
// our own that misbehaves on purpose (evilproxy/).
//
// SLUICE_REQUIRE_REDIS=1, …_BROWSER=1, …_FIREFOX=1, …_PROXIES=1, …_JAEGER=1 and …_PROMETHEUS=1 make a missing redis-server, Chromium,
// Firefox, proxy (nginx, HAProxy, Apache, Caddy), Jaeger or Prometheus a failure where it is a skipped test otherwise; SLUICE_JAEGER is the
// path of Jaeger's binary.
// SLUICE_E2E_SEED repeats the random choices of a run; SLUICE_E2E_FRONT=TEXT has TestBrowserProxies visit only the configurations with
// TEXT in their names.
package e2e
