package main

import (
	"errors"
	"fmt"
	"strings"
)

// What scenarios with keys measure besides, and what they check.

// burst is how long the messages of one delivery may take to arrive, in nanoseconds. Several deliveries in
// that time are not taken for one if the second has a key that was in the first.
const burst = 50e6

// pulse counts the deliveries to one connection: messages that come together, no key twice. So one can't
// have more messages than there are keys, and a delivery that was not conflated counts as several.
type pulse struct {
	newest []uint32 // of each key, the number of the message that came last
	n      int64    // deliveries since the last reset
	first  int64    // when the first of them began to arrive
	began  int64    // when the last of them did
	before uint32   // number of the last message of the delivery before it
	last   uint32   // number of the last message
}

// add notes message seq, read at a time.
func (p *pulse) add(seq uint32, at int64) {
	k := seq % uint32(len(p.newest))
	if p.n == 0 || at-p.began > burst || p.newest[k] > p.before {
		if p.n == 0 {
			p.first = at
		}
		p.n++
		p.began, p.before = at, p.last
	}
	p.newest[k], p.last = seq, seq
}

// reset starts a stage. What came before it stays known.
func (p *pulse) reset() { p.n, p.before = 0, p.last }

// perSec is how often deliveries came.
func (p *pulse) perSec() float64 {
	if p.n < 2 {
		return 0
	}
	return float64(p.n-1) * 1e9 / float64(max(p.began-p.first, 1))
}

// tooMany reports whether there were more deliveries than so many a second. A tool that is late for the
// first one sees the others follow sooner: 50 ms are allowed for.
func (p *pulse) tooMany(perSec float64) bool {
	return float64(p.n-1) > perSec*(float64(p.began-p.first)/1e9+0.05)
}

// stale counts the keys whose newest message, as published, is not the last that came.
func (p *pulse) stale(published uint32) (keys int64) {
	n := uint32(len(p.newest))
	for seq := published; seq > 0 && published-seq < n; seq-- {
		if p.newest[seq%n] != seq {
			keys++
		}
	}
	return keys
}

// cost is what the server has used for one message.
type cost struct{ cpu, writes float64 }

// conflation computes what only stages with keys have.
func (r *runner) conflation(out *StageResult, before, after snapshot) {
	if r.scenario.Keys == 0 {
		return
	}
	used := cost{after.server.cpu - before.server.cpu, float64(after.server.writes - before.server.writes)}
	if out.Kind == unheard {
		n := float64(max(out.Published, 1))
		r.unheard = cost{used.cpu / n, used.writes / n}
		out.PublishUs = round(r.unheard.cpu*1e6, 2)
		return
	}
	for i, c := range r.loop.conns {
		switch {
		case c.fd < 0: // late, or cut off
		case i < r.scenario.late():
			out.StaleSlow += c.pulse.stale(r.pub.seq[0])
		default:
			out.StaleKeys += c.pulse.stale(r.pub.seq[0])
		}
	}
	if out.Kind != conflated {
		return
	}
	out.Expected, out.Lost = out.Received, 0 // what did not come was superseded
	var deliveries int64
	for _, c := range r.loop.conns {
		deliveries += c.pulse.n
		out.PerClient = max(out.PerClient, round(c.pulse.perSec(), 3))
		if c.pulse.tooMany(r.target.terms.PerSec) {
			out.TooOften++
		}
	}
	// The answers to publishers are writes, too.
	used.cpu -= r.unheard.cpu * float64(out.Published)
	used.writes -= r.unheard.writes * float64(out.Published)
	n := float64(max(deliveries, 1))
	out.Together = round(float64(out.Received)/n, 2)
	out.DeliveryUs = round(used.cpu*1e6/n, 2)
	out.WriteUs = round(used.cpu*1e6/max(used.writes, 1), 2)
	out.MostInFrame = r.loop.mostInFrame
}

// judge returns what must not have happened in a stage with keys, whatever the policy. A result with an
// error is in no table.
func (r *runner) judge(out *StageResult) error {
	keys := r.scenario.Keys
	if keys == 0 {
		return nil
	}
	var wrong []string
	check := func(n int64, what string) {
		if n > 0 {
			wrong = append(wrong, fmt.Sprintf("%d %s", n, what))
		}
	}
	check(out.PubErrors, "messages could not be published")
	check(out.Lost, "messages were lost")
	check(out.Duplicated+out.Reordered, "messages came twice or out of order")
	check(out.Closed, "clients were cut off")
	check(out.StaleKeys, "times a client ended without the newest message of a key")
	check(out.StaleSlow, "times a slow client ended without the newest message of a key")
	check(out.TooOften, "clients got deliveries too often, or with a key twice")
	if out.Kind == flood && out.Util > 0.9 {
		wrong = append(wrong, "the server's core was full: its figures can't be scaled up")
	}
	if out.MostInFrame > keys {
		check(int64(out.MostInFrame), "messages came in one array")
	}
	if wrong == nil {
		return nil
	}
	return errors.New(strings.Join(wrong, ", "))
}
