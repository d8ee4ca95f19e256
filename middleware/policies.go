package middleware

import (
	"fmt"
	"sync"

	"sluice/broker"
)

// Rule is the policy of the channels that match.
type Rule struct {
	Pattern  string                    // as written; the label under which drops are counted
	Match    func(channel string) bool // takes time linear in the name
	Delivery Delivery
}

// Policies holds the rules in force and answers what they make of a channel and a wish. All methods
// may be called concurrently. The zero value has no rules: everyone gets what they wish.
type Policies struct {
	mu    sync.RWMutex
	rules []Rule
	made  map[request]Effective // what For has answered since the last Set
	drops map[string]*broker.Drops
}

// request is a question to For.
type request struct {
	rule int // -1: none matches
	wish Delivery
}

// maxMade bounds what is remembered: wishes come from strangers.
const maxMade = 1024

// Set puts other rules in force. The first that matches a channel counts. Counters of patterns that were there
// before go on. It returns an error, and changes nothing, if a rule can't be used.
func (p *Policies) Set(rules []Rule) error {
	for i := range rules {
		r := &rules[i]
		if r.Match == nil {
			return fmt.Errorf("rule %s: %w", r.Pattern, errNoMatch)
		}
		if _, err := r.Delivery.policy(r.Pattern, nil); err != nil {
			return fmt.Errorf("rule %s: %w", r.Pattern, err)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rules = append([]Rule(nil), rules...)
	p.made = nil
	return nil
}

// For returns what is in force for a subscriber of channel that wishes w.
func (p *Policies) For(channel string, w Delivery) (Effective, error) {
	p.mu.RLock()
	w = plain(w)
	q := request{p.match(channel), w}
	e, ok := p.made[q]
	p.mu.RUnlock()
	if ok {
		return e, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	q.rule = p.match(channel) // they may be others by now
	e = Effective{Delivery: w}
	if q.rule >= 0 {
		r := &p.rules[q.rule]
		e.Pattern, e.Delivery = r.Pattern, r.Delivery.Stricter(w)
	}
	if !e.Delivery.isZero() {
		var err error
		if e.Policy, err = e.Delivery.policy(e.Pattern, p.counters(e.Pattern)); err != nil {
			return Effective{}, err
		}
	}
	if p.made == nil || len(p.made) >= maxMade {
		p.made = map[request]Effective{}
	}
	p.made[q] = e
	return e, nil
}

// plain returns w without what a wish can't have.
func plain(w Delivery) Delivery {
	w.Pointer, w.Slow = "", Slow{}
	return w
}

func (p *Policies) match(channel string) int {
	for i := range p.rules {
		if p.rules[i].Match(channel) {
			return i
		}
	}
	return -1
}

func (p *Policies) counters(pattern string) *broker.Drops {
	d := p.drops[pattern]
	if d == nil {
		if p.drops == nil {
			p.drops = map[string]*broker.Drops{}
		}
		d = broker.NewDrops(Filter{}.Name(), Conflate{}.Name())
		p.drops[pattern] = d
	}
	return d
}

// Drops calls yield for every counter: how many messages were dropped, by pattern ("" is channels without a rule) and reason.
func (p *Policies) Drops(yield func(pattern, reason string, n int64) bool) {
	p.mu.RLock()
	all := make(map[string]*broker.Drops, len(p.drops))
	for pattern, d := range p.drops {
		all[pattern] = d
	}
	p.mu.RUnlock()
	for pattern, d := range all {
		for reason, n := range d.All() {
			if !yield(pattern, reason, n) {
				return
			}
		}
	}
}
