package middleware

import (
	"errors"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"sluice/broker"
)

// Rule is the policy of the channels that match.
type Rule struct {
	Pattern  string                    // as written; the label under which drops are counted
	Match    func(channel string) bool // takes time linear in the name; may be called concurrently
	Delivery Delivery
}

// Policies holds the rules in force and answers what they make of a channel and a wish. All methods
// may be called concurrently. The zero value has no rules: everyone gets what they wish.
type Policies struct {
	set atomic.Pointer[ruleSet]

	mu    sync.Mutex
	drops map[string]*broker.Drops // by pattern; for ever, since counters never go back
}

// ruleSet is what one Set has put in force.
type ruleSet struct {
	rules []Rule
	plain []Effective // of each rule, without a wish

	mu   sync.Mutex
	made *simplelru.LRU[request, Effective] // what was made of wishes last
}

// request is a question that has been answered.
type request struct {
	rule int // -1: none matches
	wish Delivery
}

// maxMade bounds what is remembered of wishes, which come from strangers: some 4 MiB at most. A policy that has been
// forgotten and is made anew has the same ID, so those under it stay together.
const maxMade = 1024

func newRuleSet(n int) *ruleSet {
	made, err := simplelru.NewLRU[request, Effective](maxMade, nil)
	if err != nil {
		panic(err) // only for a size of 0
	}
	return &ruleSet{rules: make([]Rule, 0, n), plain: make([]Effective, 0, n), made: made}
}

// Set puts other rules in force. The first that matches a channel counts. Counters of patterns that were there
// before go on. It returns an error, and changes nothing, if a rule can't be used.
func (p *Policies) Set(rules []Rule) error {
	s := newRuleSet(len(rules))
	for _, r := range rules {
		if r.Match == nil {
			return fmt.Errorf("rule %s: %w", r.Pattern, errNoMatch)
		}
		if _, err := r.Delivery.policy(r.Pattern, filters(r.Delivery.Filter, ""), nil); err != nil {
			return fmt.Errorf("rule %s: %w", r.Pattern, err)
		}
		s.rules = append(s.rules, r)
	}
	for i := range s.rules { // now that nothing can be wrong with any of them, they may have counters
		e, err := p.effective(s, i, Delivery{})
		if err != nil {
			return fmt.Errorf("rule %s: %w", s.rules[i].Pattern, err)
		}
		s.plain = append(s.plain, e)
	}
	p.set.Store(s)
	return nil
}

var errNoMatch = errors.New("a rule has no Match")

// For returns what is in force for a subscriber of channel that wishes w. What a wish can't have (Pointer, Slow) is
// not looked at. The error is about the wish, and says what is wrong with it.
func (p *Policies) For(channel string, w Delivery) (Effective, error) {
	s := p.set.Load()
	if s == nil {
		p.set.CompareAndSwap(nil, newRuleSet(0))
		s = p.set.Load()
	}
	q := request{s.match(channel), w.asWish()}
	if q.wish == (Delivery{}) {
		if q.rule < 0 {
			return Effective{}, nil
		}
		return s.plain[q.rule], nil
	}
	s.mu.Lock()
	e, ok := s.made.Get(q)
	s.mu.Unlock()
	if ok {
		return e, nil
	}
	e, err := p.effective(s, q.rule, q.wish)
	if err != nil {
		return Effective{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if first, ok := s.made.Get(q); ok { // somebody else was faster
		return first, nil
	}
	s.made.Add(q, e)
	return e, nil
}

// effective makes what is in force under a rule for a wish.
func (p *Policies) effective(s *ruleSet, rule int, w Delivery) (Effective, error) {
	var r Rule
	if rule >= 0 {
		r = s.rules[rule]
	}
	e := Effective{Pattern: r.Pattern, Delivery: r.Delivery.Stricter(w)}
	if e.Delivery.isZero() {
		return e, nil
	}
	var err error
	e.Policy, err = e.Delivery.policy(r.Pattern, filters(r.Delivery.Filter, w.Filter), p.counters(r.Pattern))
	return e, err
}

// asWish returns w without what a wish can't have.
func (d Delivery) asWish() Delivery {
	d.Pointer, d.Slow = "", Slow{}
	return d
}

// match returns the first rule that matches channel, -1 if none does.
func (s *ruleSet) match(channel string) int {
	for i := range s.rules {
		if s.rules[i].Match(channel) {
			return i
		}
	}
	return -1
}

func (p *Policies) counters(pattern string) *broker.Drops {
	p.mu.Lock()
	defer p.mu.Unlock()
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

// Drops calls yield for every counter: how many messages were dropped, by pattern ("" is channels without a rule) and
// reason. Patterns that once had a rule are among them.
func (p *Policies) Drops(yield func(pattern, reason string, n int64) bool) {
	p.mu.Lock()
	all := maps.Clone(p.drops)
	p.mu.Unlock()
	for pattern, d := range all {
		for reason, n := range d.All() {
			if !yield(pattern, reason, n) {
				return
			}
		}
	}
}
