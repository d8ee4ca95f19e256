package main

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// runner takes one target through one scenario.
type runner struct {
	scenario Scenario
	target   *Target
	site     *site
	loop     *loop
	pub      *publisher
	pid      int    // of the server
	random   uint64 // state of pick
	rssPeak  int64  // of the stage before
	unheard  cost   // of a message that nobody listens to
	nextSip  int64  // when those that crawl read next
}

// runScenario starts the target, runs all stages and stops it. What went wrong is in Result.Error.
func runScenario(t *Target, s Scenario, where *site, nap time.Duration) Result {
	res := Result{Target: t.Name, Rival: t.rival(), Scenario: s.Name, At: time.Now().Format(time.RFC3339), Conns: s.Conns}
	rules, err := where.settings(t, &s)
	if err != nil {
		res.Error = err.Error()
		return res
	}
	if t.terms != nil && t.terms.Env != nil {
		c, err := startCollector()
		if err != nil {
			res.Error = err.Error()
			return res
		}
		defer c.stop()
	}
	ps, err := where.start(t, rules)
	if err != nil {
		res.Error = err.Error()
		return res
	}
	defer stopAll(ps)
	l, err := newLoop(t, nap)
	if err != nil {
		res.Error = err.Error()
		return res
	}
	defer l.close()
	r := &runner{scenario: s, target: t, site: where, loop: l, pid: ps[0].pid(), random: 88172645463325252}
	if err := r.run(&res); err != nil {
		res.Error = err.Error()
	}
	return res
}

func (r *runner) run(res *Result) error {
	l, s := r.loop, &r.scenario
	l.tokens = s.resumes()
	for i := range s.Conns + s.late() {
		c := &conn{fd: -1, index: i, ws: r.target.Transport == "ws", apart: i < s.Stalled+s.Crawling, windows: make([]window, s.PerConn)}
		if s.Keys > 0 {
			c.pulse.newest = make([]uint32, s.Keys)
		}
		for k := range s.PerConn {
			c.channels = append(c.channels, uint32((i+k*(s.heard()/s.PerConn))%s.heard()))
		}
		l.conns = append(l.conns, c)
	}
	var err error
	if r.pub, err = newPublisher(l, s.Channels, s.resumes()); err != nil {
		return err
	}
	l.pub, r.pub.keys = r.pub, s.Keys
	defer r.pub.close()
	r.pub.payload = newPayload(s.Payload)

	r.prefill()
	l.pause(time.Second) // what a start leaves to do is done
	res.Connect = r.connect()
	if res.Connect.Ready < s.Conns {
		return fmt.Errorf("%d of %d connected: %w", res.Connect.Ready, s.Conns, l.firstErr)
	}
	if res.Connect.WarmMissing = r.warmUp(); res.Connect.WarmMissing > 0 {
		return fmt.Errorf("%d subscriptions never got a message; publish errors: %d %s", res.Connect.WarmMissing, r.pub.errs, r.pub.lastErr)
	}
	stages := s.Stages
	if t := r.target.terms; t != nil && t.Stages != nil {
		stages = t.Stages
	}
	var wrong []string // a stage that did wrong does not keep the next from being measured
	for _, st := range stages {
		out, err := r.stage(st)
		res.Stages = append(res.Stages, out)
		if err != nil {
			return fmt.Errorf("%s: %w", st.Kind, err)
		}
		if err := r.judge(&out); err != nil {
			wrong = append(wrong, fmt.Sprintf("%s: %v", st.Kind, err))
		}
	}
	if wrong == nil {
		return nil
	}
	return errors.New(strings.Join(wrong, "; "))
}

// steady returns the connections that are there from the beginning.
func (r *runner) steady() []*conn { return r.loop.conns[r.scenario.late():] }

// prefill publishes to channels that nobody listens to.
func (r *runner) prefill() {
	for range r.scenario.Prefill {
		for ch := range r.scenario.Channels {
			r.pub.offer(uint32(ch), 0, false)
		}
		r.loop.while(func() bool { return r.pub.queued > 256 && r.pub.errs == 0 })
	}
	end := now() + 20e9
	r.loop.while(func() bool { return r.pub.queued > 0 && now() < end })
}

func (r *runner) connect() *ConnectResult {
	l := r.loop
	before := r.snapshot()
	l.dialAll(r.steady(), r.scenario.Dialing, 60*time.Second)
	secs := float64(now()-before.at) / 1e9
	out := &ConnectResult{Ready: l.ready, Secs: round(secs, 3), PerSec: round(float64(l.ready)/secs, 0),
		Latency: l.connects.summary(), RSSBefore: before.server.rss}
	l.pause(1500 * time.Millisecond) // what the server puts off until after the handshake belongs to it
	after := r.snapshot()
	out.CPUms = round((after.server.cpu-before.server.cpu)*1000/float64(max(l.ready, 1)), 4)
	out.RSS = after.server.rss
	return out
}

// warmUp publishes until every subscription has got an uncounted message, since with plain
// WebSocket and with the baselines the response head is no promise that the subscription stands.
// It returns how many have not.
func (r *runner) warmUp() (missing int64) {
	l := r.loop
	for _, c := range r.steady() {
		for _, ch := range c.channels {
			r.pub.subs[ch]++
			missing++
		}
	}
	all := missing
	for round := 0; round < 5 && missing > 0; round++ {
		for ch := range r.coldChannels() {
			r.pub.offer(ch, 0, false)
			l.while(func() bool { return r.pub.queued > 64 && r.pub.errs == 0 })
		}
		quiet, last := now(), l.warmed
		l.while(func() bool {
			if l.warmed != last {
				quiet, last = now(), l.warmed
			}
			return l.warmed < all && now()-quiet < 1e9
		})
		missing = all - l.warmed
	}
	return missing
}

// coldChannels returns those with a subscription that has not got its warm-up message.
func (r *runner) coldChannels() map[uint32]bool {
	cold := map[uint32]bool{}
	for _, c := range r.steady() {
		for i, ch := range c.channels {
			if !c.windows[i].warm {
				cold[ch] = true
			}
		}
	}
	return cold
}

// pick returns the channel of the next message, the same sequence in every run.
func (r *runner) pick() uint32 {
	r.random ^= r.random << 13
	r.random ^= r.random >> 7
	r.random ^= r.random << 17
	return uint32(r.random % uint64(r.scenario.heard()))
}

func (r *runner) snapshot() snapshot { return takeSnapshot(r.pid, r.site.serverCore) }
