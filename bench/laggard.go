package main

import (
	"fmt"
	"net/netip"
	"time"
)

// Clients that do not read, or hardly.

// slow returns the connections that stall or crawl in their stage.
func (r *runner) slow() []*conn { return r.loop.conns[:r.scenario.Stalled+r.scenario.Crawling] }

// joinSlow connects those that come only in the lagging stage. What is measured begins after it.
func (r *runner) joinSlow() (before snapshot, err error) {
	clients := r.slow()
	r.loop.dialAll(clients, r.scenario.Dialing, 20*time.Second)
	if r.loop.ready < len(clients) {
		err = fmt.Errorf("%d of %d slow clients connected: %w", r.loop.ready, len(clients), r.loop.firstErr)
	}
	return r.snapshot(), err
}

// stall paces while some clients do not read, or crawl.
func (r *runner) stall(st Stage, m *meter) error {
	m.watched = map[netip.AddrPort]bool{}
	for i, c := range r.slow() {
		addr, err := c.localAddr()
		if err == nil {
			err = r.loop.stall(c)
		}
		if err != nil {
			return fmt.Errorf("stall a client: %w", err)
		}
		m.watched[addr] = true
		c.got = 0
		if i >= r.scenario.late() {
			for _, ch := range c.channels {
				r.pub.subs[ch]--
			}
		}
	}
	r.pace(st, m)
	return nil
}

// sip is what crawling connections read at once, four times a second.
const sip = 256

// crawl lets those that crawl read a little, if it is time.
func (r *runner) crawl() {
	t := now()
	if t < r.nextSip {
		return
	}
	r.nextSip = t + 250e6
	for _, c := range r.slow()[r.scenario.Stalled:] {
		if c.fd >= 0 {
			r.loop.readSome(c, sip)
		}
	}
}

// unstall lets the slow clients read on, after the measurement.
func (r *runner) unstall(out *StageResult) error {
	clients := r.slow()
	for _, c := range clients {
		if c.fd < 0 { // cut off while it crawled
			continue
		}
		if err := r.loop.unstall(c); err != nil {
			return fmt.Errorf("read on: %w", err)
		}
	}
	r.loop.pause(3 * time.Second)
	var got int64
	for _, c := range clients {
		got += c.got
		if c.state == closed {
			out.Cut++
		}
	}
	if out.Cut == len(clients) && out.Kind == lagging {
		return fmt.Errorf("all of the slow clients were cut off")
	}
	out.StalledGot = round(float64(got)/float64(len(clients)), 1)
	return nil
}

// sample is what the server held at one time, in KiB.
type sample struct {
	at          int64
	rss, kernel float64 // the process; the watched sockets
}

// slope returns the growth in KiB a second over the second half of a stage, by least squares.
func slope(samples []sample, value func(sample) float64) float64 {
	samples = samples[len(samples)/2:]
	n := float64(len(samples))
	var t, v, tt, tv float64
	for _, s := range samples {
		x := float64(s.at-samples[0].at) / 1e9
		t, v, tt, tv = t+x, v+value(s), tt+x*x, tv+x*value(s)
	}
	if d := n*tt - t*t; d > 0 {
		return (n*tv - t*v) / d
	}
	return 0
}

// overTime fills in how memory went.
func (m *meter) overTime(out *StageResult) {
	rss, kernel := func(s sample) float64 { return s.rss }, func(s sample) float64 { return s.kernel }
	out.RSSSlope, out.KernelSlope = round(slope(m.samples, rss), 2), round(slope(m.samples, kernel), 2)
	const every = 10 // samples: 5 s
	for i := 0; i < len(m.samples); i += every {
		out.RSSOverTime = append(out.RSSOverTime, int64(m.samples[i].rss))
		out.KernelOverTime = append(out.KernelOverTime, int64(m.samples[i].kernel))
	}
}
