package main

import (
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// meter watches a stage while it runs.
type meter struct {
	r          *runner
	lastCount  int64
	lastAt     int64 // when the count last grew
	nextSample int64
	rssPeak    int64
	samples    []sample                // twice a second
	watched    map[netip.AddrPort]bool // clients whose kernel memory on the server's side is sampled; nil: it is not
	kernelPeak float64                 // KiB, of the watched
	err        error
}

// look notes progress, and takes samples twice a second.
func (m *meter) look() {
	t := now()
	if n := m.r.loop.received; n != m.lastCount {
		m.lastCount, m.lastAt = n, t
	}
	if t < m.nextSample {
		return
	}
	m.nextSample = t + 500e6
	rss := procField(fmt.Sprintf("/proc/%d/status", m.r.pid), "VmRSS:")
	s := sample{at: t, rss: float64(rss)}
	m.rssPeak = max(m.rssPeak, rss)
	if m.watched != nil && m.err == nil {
		s.kernel, m.err = sockMemory(m.r.loop.server.Port, m.watched)
		m.kernelPeak = max(m.kernelPeak, s.kernel)
	}
	m.samples = append(m.samples, s)
}

// drain waits for what is expected, until nothing has come for quiet.
func (m *meter) drain(quiet time.Duration) {
	end, began := now()+20e9, now()
	m.r.loop.while(func() bool {
		m.look()
		return m.lastCount < m.r.pub.expected && now() < end && now()-max(m.lastAt, began) < int64(quiet)
	})
}

// stage runs one stage and measures it.
func (r *runner) stage(st Stage) (StageResult, error) {
	r.loop.reset()
	r.pub.reset()
	r.pub.bundle = max(st.Bundle, 1)
	out := StageResult{Stage: st}
	for _, c := range r.loop.conns {
		c.got = 0
		c.pulse.reset()
	}
	before := r.snapshot()
	m := &meter{r: r, lastAt: before.at}
	var err error
	switch st.Kind {
	case idle:
		r.loop.pause(time.Duration(st.Secs * 1e9))
		m.lastAt = now()
	case paced:
		if r.scenario.late() > 0 { // what is looked at later is looked at now, so that it costs the same
			m.watched = map[netip.AddrPort]bool{}
		}
		r.pace(st, m)
	case saturated:
		r.saturate(st, m)
	case resume:
		before, err = r.resume(st, m, &out)
	case stalled:
		err = r.stall(st, m)
	case lagging:
		if before, err = r.joinSlow(); err == nil {
			err = r.stall(st, m)
		}
	case besieged:
		var stop func()
		before, stop, err = r.besiege()
		defer stop()
		if err == nil {
			out.Descriptors = r.descriptors()
			r.pace(st, m)
		}
	case flood:
		before = r.leave(st.Clients)
		r.pace(st, m)
	case unheard, conflated:
		r.pace(st, m)
	default:
		err = fmt.Errorf("no such kind of stage")
	}
	m.look()
	after := r.snapshot()
	r.fill(&out, m, before, after)
	if (st.Kind == stalled || st.Kind == lagging) && err == nil {
		err = errors.Join(m.err, r.unstall(&out))
	}
	r.conflation(&out, before, after)
	r.rssPeak = m.rssPeak
	return out, err
}

// pace publishes at a fixed rate. A message that could not be sent when it was due is still
// stamped with that time.
func (r *runner) pace(st Stage, m *meter) {
	start := now()
	end := start + int64(st.Secs*1e9)
	for sent := int64(0); now() < end; {
		due := start
		for range 64 {
			if due = start + int64(float64(sent)*1e9/st.Rate); due > now() || due >= end {
				break
			}
			sent += r.offer(st, due)
		}
		r.loop.poll(min(max(due-now(), 0), 2e6))
		m.look()
		if st.Kind == lagging {
			r.crawl()
		}
	}
	m.drain(1500 * time.Millisecond)
}

// leave closes all but so many connections. What is measured begins after it.
func (r *runner) leave(left int) snapshot {
	for _, c := range r.loop.conns[left:] {
		for _, ch := range c.channels {
			r.pub.subs[ch]--
		}
		c.shut()
		c.state = unused
	}
	r.loop.pause(time.Second)
	return r.snapshot()
}

// offer publishes what goes into one request, and returns how many messages that is.
func (r *runner) offer(st Stage, due int64) int64 {
	ch := r.pick()
	if st.Kind == unheard {
		ch = uint32(r.scenario.Channels - 1)
	}
	for range r.pub.bundle {
		r.pub.offer(ch, due, true)
	}
	return int64(r.pub.bundle)
}

// saturate keeps messages in flight. What has not come for a second is taken for lost, so that
// the others go on.
func (r *runner) saturate(st Stage, m *meter) {
	p, l := r.pub, r.loop
	perMessage := max(int64(r.scenario.Conns*r.scenario.PerConn/r.scenario.heard()), 1)
	perRequest := perMessage * int64(r.pub.bundle)
	window := int64(st.Inflight) * perMessage
	var writtenOff int64
	for end := now() + int64(st.Secs*1e9); now() < end; {
		for p.queued == 0 && p.expected-writtenOff-l.received+perRequest <= window {
			sent := p.sent
			r.offer(st, 0)
			if p.sent == sent {
				break
			}
		}
		l.poll(1e6)
		m.look()
		if now()-m.lastAt > 1e9 && p.expected-writtenOff-m.lastCount+perRequest > window {
			writtenOff, m.lastAt = p.expected-m.lastCount, now()
		}
	}
	m.drain(1500 * time.Millisecond)
}

// resume drops every connection, publishes to nobody, and has all clients come back with their
// tokens. What is measured begins with the first of them.
func (r *runner) resume(st Stage, m *meter, out *StageResult) (before snapshot, err error) {
	l, p := r.loop, r.pub
	if err := r.askTokens(); err != nil {
		return r.snapshot(), err
	}
	for _, c := range l.conns {
		c.shut()
		c.state = unused
	}
	l.pause(time.Second)
	for range st.Missed {
		for ch := range p.subs {
			p.offer(uint32(ch), 0, true)
		}
	}
	end := now() + 20e9
	l.while(func() bool { return p.queued > 0 && now() < end })
	l.pause(500 * time.Millisecond)
	before = r.snapshot()
	l.dialAll(l.conns, r.scenario.Dialing, 60*time.Second)
	out.Reconnect = round(float64(now()-before.at)/1e9, 3)
	m.drain(5 * time.Second)
	out.Recovered = round(float64(max(m.lastAt, before.at)-before.at)/1e9, 3)
	if l.ready < len(l.conns) {
		err = fmt.Errorf("%d of %d came back: %w", l.ready, len(l.conns), l.firstErr)
	}
	return before, err
}

// askTokens asks for the tokens on WebSocket, by a ping; SSE clients have the last event's.
func (r *runner) askTokens() error {
	l := r.loop
	for _, c := range l.conns {
		if !c.ws {
			continue
		}
		c.token = ""
		if err := c.send(appendFrame(nil, opText, []byte(`{"type":"ping"}`))); err != nil {
			return fmt.Errorf("ask for the token: %w", err)
		}
	}
	missing := 0
	end := now() + 10e9
	l.while(func() bool {
		missing = 0
		for _, c := range l.conns {
			if c.token == "" {
				missing++
			}
		}
		return missing > 0 && now() < end
	})
	if missing > 0 {
		return fmt.Errorf("%d clients have no resume token", missing)
	}
	return nil
}

// fill computes the figures of a stage.
func (r *runner) fill(out *StageResult, m *meter, before, after snapshot) {
	l, p := r.loop, r.pub
	out.Measured = round(max(float64(m.lastAt-before.at)/1e9, 1e-3), 3)
	out.Published, out.PubErrors, out.PubError = p.sent, p.errs, p.lastErr
	out.PubLagP99 = round(float64(p.lag.quantile(.99))/1e6, 3)
	out.Expected, out.Received = p.expected, l.received
	out.Lost = max(p.expected-l.received, 0)
	out.Duplicated, out.Reordered, out.Closed = l.duplicated, l.reordered, l.closed
	out.Latency = l.latency.summary()

	wall := float64(after.at-before.at) / 1e9
	cpu := after.server.cpu - before.server.cpu
	out.CPU, out.Util = round(cpu, 2), round(cpu/wall, 3)
	out.LoadUtil = round((after.own-before.own)/wall, 3)
	out.ForeignUtil = round(max((after.busy-before.busy)/max(after.all-before.all, 1)-cpu/wall, 0), 3)
	if n := float64(l.received); n > 0 {
		out.PerSec = round(n/out.Measured, 0)
		out.CPUus = round(cpu*1e6/n, 3)
		out.Writes = round(float64(after.server.writes-before.server.writes)/n, 3)
		out.Frames = round(n/float64(max(l.framesSeen, 1)), 2)
		out.Bytes = round(float64(l.bytes)/n, 1)
	}
	out.RSS, out.RSSPeak = after.server.rss, m.rssPeak
	if out.Kind == stalled || out.Kind == lagging {
		n := float64(r.scenario.Stalled + r.scenario.Crawling)
		out.KernelEach = round(m.kernelPeak/n, 1)
		out.UserEach = round(float64(max(m.rssPeak-r.rssPeak, 0))/n, 1)
		m.overTime(out)
	}
}
