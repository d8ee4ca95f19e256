package evilproxy

import (
	"net/http"
	"time"
)

// Mode is one way to misbehave. The zero Mode does not: it passes everything on at once. A Mode with several members set does all of
// it.
type Mode struct {
	// Name is the mode's own, in lower case with dashes.
	Name string
	// Why says what does that in the world outside, or what it stands for.
	Why string

	// Handshake is what WebSocket handshakes meet.
	Handshake Handshake
	// Status answers handshakes under HandshakeAnswered.
	Status int
	// Tunnel is what happens to a WebSocket after its handshake.
	Tunnel Tunnel
	// Answers is what happens to all answers but 101: to pages, streams and polls alike.
	Answers Answers

	// HTTP10 speaks HTTP/1.0 on both sides, which has neither chunks nor upgrades nor connections that are kept.
	HTTP10 bool
	// NoLastEventID removes that header from requests.
	NoLastEventID bool
	// NoWorkers never answers requests for scripts of SharedWorkers, which Sec-Fetch-Dest tells.
	NoWorkers bool

	// Idle is for how long a connection may carry nothing in either direction; 0 is for ever.
	Idle time.Duration
	// IdleEnd is what happens to it then.
	IdleEnd IdleEnd
	// Life is how long a connection may last, whatever it carries; 0 is for ever.
	Life time.Duration
}

// Handshake is what a WebSocket handshake meets.
type Handshake int

// Handshakes: all but the first one keep WebSockets from coming up.
const (
	HandshakePassed    Handshake = iota
	HandshakeStripped            // goes on as an ordinary request, without Upgrade and Connection
	HandshakeAnswered            // is answered with Status
	HandshakeSwallowed           // is never answered
	HandshakeReset               // has its connection reset
)

// Tunnel is what happens to a WebSocket that is open.
type Tunnel int

// Tunnels: that a direction is lost goes for its end as well.
const (
	TunnelPassed   Tunnel = iota
	TunnelLost            // nothing passes in either direction
	TunnelDownLost        // nothing reaches the client
	TunnelUpLost          // nothing reaches the server
	TunnelEnded           // ends in an orderly way right after the handshake
	TunnelAltered         // bits are flipped in both directions, but for the first bytes
)

// Answers is what happens to the bodies and heads of answers.
type Answers int

// AnswersPassed are passed on as they come.
const (
	AnswersPassed     Answers = iota
	AnswersHeld               // nothing of an answer, not even its head, passes before its end
	AnswersHeld16K            // nothing passes before 16 KiB of it are there, or its end; then the next 16 KiB
	AnswersGzip               // compressed, and flushed at the end only
	AnswersGzipPolite         // the same, but for answers that forbid it (no-transform) or are encoded already
	AnswersHTML               // streams become text/html
	AnswersRefused            // streams are answered 503
)

// IdleEnd is how a connection ends that was idle for too long.
type IdleEnd int

// IdleFIN is the orderly end.
const (
	IdleFIN  IdleEnd = iota
	IdleRST          // both sides get a reset
	IdleLost         // nothing is closed, and nothing passes again: a translator has forgotten the connection
)

// Limit is Idle and Life in Modes. It stands for the 30 to 100 seconds of proxies in the world, with heartbeats that are as much shorter.
const Limit = 5 * time.Second

// Modes returns all modes. Those that are about streams let no WebSocket come up, or nothing would be streamed.
func Modes() []Mode {
	answered := func(status int) Mode { return Mode{Handshake: HandshakeAnswered, Status: status} }
	streams := answered(http.StatusBadRequest)
	with := func(m Mode, change func(*Mode)) Mode { change(&m); return m }
	named := func(name, why string, m Mode) Mode {
		m.Name, m.Why = name, why
		return m
	}
	return []Mode{
		named("honest", "the control: a proxy that does nothing wrong", Mode{}),

		named("ws-stripped", "proxies that do not know Upgrade, the default of nginx", Mode{Handshake: HandshakeStripped}),
		named("ws-400", "gateways that parse strictly", answered(http.StatusBadRequest)),
		named("ws-403", "firewalls for web applications", answered(http.StatusForbidden)),
		named("ws-502", "a load balancer that takes the 101 for nonsense", answered(http.StatusBadGateway)),
		named("ws-302", "a captive portal", answered(http.StatusFound)),
		named("ws-200", "a single-page server that answers everything with its page", answered(http.StatusOK)),
		named("ws-swallowed", "inspecting firewalls that wait for an end of the request", Mode{Handshake: HandshakeSwallowed}),
		named("ws-reset", "firewalls that know WebSocket by its first bytes", Mode{Handshake: HandshakeReset}),
		named("ws-lost", "proxies that agree to Upgrade and go on to speak HTTP", Mode{Tunnel: TunnelLost}),
		named("ws-down-lost", "the same, where only what the client sends is passed on", Mode{Tunnel: TunnelDownLost}),
		named("ws-up-lost", "the same, where only what the server sends is passed on", Mode{Tunnel: TunnelUpLost}),
		named("ws-ended", "proxies that take 101 for an answer with an empty body", Mode{Tunnel: TunnelEnded}),
		named("ws-altered", "virus scanners that rewrite what they do not understand", Mode{Tunnel: TunnelAltered}),

		named("held", "TLS inspection that scans whole files; caches", with(streams, func(m *Mode) { m.Answers = AnswersHeld })),
		named("held-16k", "proxies with buffers that are passed on when they are full", with(streams, func(m *Mode) { m.Answers = AnswersHeld16K })),
		named("gzip", "compression that has never heard of streams", with(streams, func(m *Mode) { m.Answers = AnswersGzip })),
		named("gzip-polite", "compression that heeds no-transform", with(streams, func(m *Mode) { m.Answers = AnswersGzipPolite })),
		named("sse-html", "gateways with a list of content types", with(streams, func(m *Mode) { m.Answers = AnswersHTML })),
		named("sse-503", "gateways that count streams as overload", with(streams, func(m *Mode) { m.Answers = AnswersRefused })),
		named("no-last-event-id", "lists of headers that may pass; streams of 5 s", with(streams, func(m *Mode) { m.NoLastEventID, m.Life = true, Limit })),
		named("http-1.0", "old proxies, and nginx towards the node by default", Mode{HTTP10: true}),

		named("idle-fin", "time-outs of load balancers", Mode{Idle: Limit}),
		named("idle-rst", "time-outs of cloud load balancers", Mode{Idle: Limit, IdleEnd: IdleRST}),
		named("idle-lost", "home routers and mobile networks", Mode{Idle: Limit, IdleEnd: IdleLost}),
		named("sse-idle-fin", "the same for streams", with(streams, func(m *Mode) { m.Idle = Limit })),
		named("sse-idle-rst", "the same for streams", with(streams, func(m *Mode) { m.Idle, m.IdleEnd = Limit, IdleRST })),
		named("sse-idle-lost", "the same for streams", with(streams, func(m *Mode) { m.Idle, m.IdleEnd = Limit, IdleLost })),
		named("life", "maximum durations, reloads of proxies", Mode{Life: Limit}),
		named("sse-life", "the same for streams", with(streams, func(m *Mode) { m.Life = Limit })),

		named("no-workers", "a connection that died unseen in the browser's pool, at the worst moment", Mode{NoWorkers: true}),

		named("swallowed-and-held", "TLS inspection at its worst: nothing is refused, nothing comes", Mode{Handshake: HandshakeSwallowed, Answers: AnswersHeld}),
		named("lost-and-held", "the same, where Upgrade is agreed to", Mode{Tunnel: TunnelLost, Answers: AnswersHeld}),
		named("swallowed-and-gzip", "the same with compression: streams open, and have no event", Mode{Handshake: HandshakeSwallowed, Answers: AnswersGzip}),
		named("held-and-idle", "whole answers only, and none that takes longer than 5 s", with(streams, func(m *Mode) { m.Answers, m.Idle = AnswersHeld, Limit })),
		named("lost-and-life", "no WebSocket, and nothing lasts 5 s", Mode{Tunnel: TunnelLost, Life: Limit}),
	}
}
