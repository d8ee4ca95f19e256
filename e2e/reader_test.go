package e2e

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// reader is a page with the client library that listens to the channels of a rig.
type reader struct {
	*testing.T
	fleet    *fleet
	page     string
	channels []string
}

// listens is what the page of a reader is told to do.
type listens struct {
	Transports []string `json:"transports,omitempty"` // of the client, in order of preference
	Share      bool     `json:"share"`
	Alone      bool     `json:"alone"`  // the page has no SharedWorker
	Secret     string   `json:"secret"` // makes tokens of 4 s, as a backend would
}

// listenScript joins all channels. The page notes what it is told in seen, in the order of time.
const listenScript = `async ({ how, channels }) => {
	const { alone, secret, ...options } = how;
	if (alone) delete globalThis.SharedWorker;
	const seen = (globalThis.seen = { got: [], ends: 0, states: [], errors: [], tokens: 0, broken: false, places: {} });
	if (secret) options.token = async () => {
		seen.tokens++;
		if (seen.broken) throw new Error("no token today");
		const bytes = new TextEncoder();
		const base64 = (b) => btoa(String.fromCharCode(...b)).replace(/\+/g, "-").replace(/\//g, "_").replace(/=/g, "");
		const part = (v) => base64(bytes.encode(JSON.stringify(v)));
		const iat = Math.floor(Date.now() / 1000);
		const body = part({ alg: "HS256", typ: "JWT" }) + "." + part({ sub: "alice", jti: "j" + Math.random(), iat, exp: iat + 4, subscribe: channels });
		const key = await crypto.subtle.importKey("raw", bytes.encode(secret), { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
		return body + "." + base64(new Uint8Array(await crypto.subtle.sign("HMAC", key, bytes.encode(body))));
	};
	const { connect } = await import("/sluice.js");
	globalThis.edge = connect("/", options);
	edge.on("state", (s) => seen.states.push(s));
	edge.on("error", (e) => seen.errors.push(e.code));
	const subs = channels.map((channel) => {
		const sub = edge.subscribe(channel, (m) => {
			seen.got.push({ data: m.data, channel });
			(seen.places[channel] ??= []).push(m.position);
			if (m.data.startsWith("end|")) seen.ends++;
		});
		sub.on("gap", (g) => seen.got.push({ gap: g.reason, channel }));
		return sub;
	});
	await Promise.all(subs.map((s) => s.ready));
}`

// readAt opens a page of a node, or of a passage to it, and listens there.
func (r *rig) readAt(f *fleet, page, url string, how listens) *reader {
	r.Helper()
	p := &reader{T: r.T, fleet: f, page: r.Name() + " " + page, channels: r.channels}
	if err := f.open(p.page, url+"/healthz"); err != nil {
		r.Fatal(err)
	}
	p.run(listenScript, map[string]any{"how": how, "channels": r.channels}, nil)
	return p
}

// run calls a function in the page.
func (p *reader) run(script string, arg, value any) {
	p.Helper()
	if err := p.fleet.run(p.page, script, arg, value); err != nil {
		p.Fatalf("%s: %v", p.page, err)
	}
}

// until waits until an expression in the page, in which arg may stand, is true.
func (p *reader) until(expression string, arg any) {
	p.Helper()
	var now string
	p.run(`async (arg) => {
		const end = Date.now() + 40000;
		while (!(`+expression+`)) {
			if (Date.now() > end) return JSON.stringify({ ...edge.stats(), ...seen, got: seen.got.slice(-3) });
			await new Promise((resolve) => setTimeout(resolve, 20));
		}
		return "";
	}`, arg, &now)
	if now != "" {
		p.Fatalf("%s: not within 40 s: %s of %v; it is %s", p.page, expression, arg, now)
	}
}

// catchUp waits until the pages have all that has been acknowledged so far: of each channel the latest, since what comes meanwhile counts for nothing.
func (r *rig) catchUp(pages ...*reader) {
	r.Helper()
	latest := r.ledger.latest()
	for _, p := range pages {
		p.has(latest)
	}
}

// has waits until the page was told data, one of each channel.
func (p *reader) has(data []string) {
	p.Helper()
	p.until("arg.every((data) => seen.got.some((m) => m.data === data))", data)
}

// report is what the page of a reader has to say at the end.
type report struct {
	Got []told
	readerStats
}

// readerStats are the statistics of a page's edge, and what its page noted.
type readerStats struct {
	State                          string
	Connects, Messages, Duplicates int
	Shared                         string
	States, Errors                 []string
	Tokens                         int
}

func (p *reader) stats() (s readerStats) {
	p.Helper()
	p.run(`() => ({ states: seen.states, errors: seen.errors, tokens: seen.tokens, ...edge.stats() })`, nil, &s)
	return s
}

// publishStored starts publishers at Redis only, for nodes that let nobody else publish or that are away most of the time.
func (r *rig) publishStored(pace time.Duration) {
	for _, name := range []string{"fcall 0", "fcall 1"} {
		p := &publisher{name: name, channels: r.channels, pace: pace, ledger: r.ledger, send: r.redis.send, write: r.write,
			rng: rand.New(rand.NewPCG(r.rng.Uint64(), 0))}
		r.publishing.Go(func() { p.run(r.ctx, r.stop) })
	}
}

// stopPublishing ends the publishing with a last message on each channel.
func (r *rig) stopPublishing() {
	r.Helper()
	close(r.stop)
	r.publishing.Wait()
	last := &publisher{ledger: r.ledger, send: r.redis.send}
	for _, ch := range r.channels {
		if !last.publish(r.ctx, r.write(ch, endMark+ch)) {
			r.Fatalf("the last message of %s was never acknowledged", ch)
		}
	}
	for _, f := range r.ledger.check() {
		r.Error(f)
	}
}

// told is one thing that a page was told: a message, or the reason of a gap.
type told struct{ Data, Gap, Channel string }

// judgeTold holds what who was told of channels against what was published: everything, once and in order, and no gap in what is durable.
func (r *rig) judgeTold(who string, list []told, channels []string) verdict {
	r.Helper()
	var all []received
	for _, g := range list {
		m := received{data: g.Data, channel: g.Channel, via: who}
		if g.Gap != "" {
			m = received{gap: &body{Channel: g.Channel, Reason: g.Gap}}
		}
		all = append(all, m)
	}
	v := r.ledger.judge(all, channels, nil)
	if v.lost+v.duplicated+v.misordered+v.foreign > 0 {
		r.Errorf("%s: %s (lost %d, duplicated %d, misordered %d, foreign %d)", who, v.first, v.lost, v.duplicated, v.misordered, v.foreign)
	}
	for reason, n := range v.gaps {
		if reason != "interrupted" {
			r.Errorf("%s: %d gaps %q though the history was whole", who, n, reason)
		}
	}
	return v
}

// finishPages ends the publishing with a last message on each channel. Each page must have everything, once and in order, and must not have
// been told of a gap in what is durable.
func (r *rig) finishPages(atLeast int, pages ...*reader) {
	r.Helper()
	r.stopPublishing()
	if n := r.ledger.total(); n < atLeast {
		r.Errorf("only %d messages were acknowledged, the test wants %d", n, atLeast)
	}
	for _, p := range pages {
		p.until("seen.ends >= arg", len(r.channels))
		var got report
		p.run(`async () => {
			await new Promise((resolve) => setTimeout(resolve, 100)); // for what is repeated
			return { got: seen.got, states: seen.states, errors: seen.errors, tokens: seen.tokens, ...edge.stats() };
		}`, nil, &got)
		v := r.judgeTold(p.page, got.Got, r.channels)
		r.Logf("%s: %d connections, %d messages of %d, %d left out as repeated, gaps %v, states %v, errors %v, %d tokens", p.page, got.Connects, v.got,
			r.ledger.total(), got.Duplicates, v.gaps, slices.Compact(got.States), slices.Compact(got.Errors), got.Tokens)
		p.run(`() => edge.close()`, nil, nil)
	}
}
