package broker_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"sluice/broker"
	"sluice/broker/memory"
)

// Small stages, so that these tests are about the lane and not about the real ones.

type onlyEven struct{ asked *int }

func (onlyEven) Name() string { return "filter" }
func (o onlyEven) Take(_ time.Time, p broker.Pending) (ready []*broker.Message, again broker.Again) {
	for _, m := range p.Messages {
		if o.asked != nil {
			*o.asked++
		}
		if number(m)%2 == 0 {
			ready = append(ready, m)
		}
	}
	return ready, again
}

type newest struct{}

func (newest) Name() string { return "conflate" }
func (newest) Take(_ time.Time, p broker.Pending) (ready []*broker.Message, again broker.Again) {
	last := map[string]*broker.Message{}
	for _, m := range p.Messages {
		last[m.Key] = m
	}
	for _, m := range p.Messages {
		if m.Key == "" || last[m.Key] == m {
			ready = append(ready, m)
		}
	}
	return ready, again
}

type every time.Duration

func (every) Name() string { return "throttle" }
func (e every) Take(now time.Time, p broker.Pending) ([]*broker.Message, broker.Again) {
	if at := p.Last.Add(time.Duration(e)); !p.Last.IsZero() && now.Before(at) {
		return nil, broker.Again{At: at}
	}
	return p.Messages, broker.Again{}
}

type gather struct {
	window time.Duration
	most   int
}

func (gather) Name() string { return "batch" }
func (g gather) Take(now time.Time, p broker.Pending) ([]*broker.Message, broker.Again) {
	if at := p.Since.Add(g.window); !p.Since.IsZero() && now.Before(at) && len(p.Messages) < g.most {
		return nil, broker.Again{At: at, Messages: g.most}
	}
	return p.Messages, broker.Again{}
}

var byKey = &broker.Key{ID: "key", Of: func(m *broker.Message) (string, bool) { return m.Key, m.Key != "" }}

var evenByKey = &broker.Key{ID: "even", Of: byKey.Of, Wants: func(m *broker.Message) bool { return number(m)%2 == 0 }}

func number(m *broker.Message) int {
	n, err := strconv.Atoi(string(m.Data))
	if err != nil {
		panic(err)
	}
	return n
}

// bench is a broker in a bubble of fake time with one channel.
type laneRig struct {
	t      *testing.T
	broker *broker.Broker
	log    *broker.Log
	sent   int
}

// inLane runs test in a bubble with the given ring.
func inLane(t *testing.T, ring int, test func(*laneRig)) {
	synctest.Test(t, func(t *testing.T) {
		b := broker.New(memory.New(memory.DefaultConfig()), broker.Options{RingMessages: ring, Linger: time.Hour})
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- b.Run(ctx) }()
		r := &laneRig{t: t, broker: b, log: b.Open("c")}
		synctest.Wait()
		defer func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}()
		test(r)
	})
}

// publish sends the next number.
func (r *laneRig) publish(key string, live bool) {
	r.t.Helper()
	m := &broker.Message{Channel: "c", Key: key, Data: []byte(strconv.Itoa(r.sent))}
	r.sent++
	if _, err := r.broker.Publish(context.Background(), m, broker.PublishOptions{Live: live}); err != nil {
		r.t.Fatal(err)
	}
	synctest.Wait()
}

// subscribe begins a subscription that follows n.
func (r *laneRig) subscribe(n *broker.Lane, since broker.Position) *broker.Subscription {
	s := new(broker.Subscription)
	r.log.Subscribe(s, since)
	s.Follow(n)
	return s
}

// take returns the numbers that s is given now, gaps as -1, and how many were skipped.
func take(s *broker.Subscription) (got []int, skipped int) {
	got, sum := takeAccounts(s)
	return got, sum.skipped
}

// accounts are what batches say of what is not in them.
type accounts struct{ skipped, conflated, gaps, lapped int }

func (a *accounts) add(b accounts) {
	a.skipped, a.conflated, a.gaps, a.lapped = a.skipped+b.skipped, a.conflated+b.conflated, a.gaps+b.gaps, a.lapped+b.lapped
}

// takeAccounts is take with all that the batches tell.
func takeAccounts(s *broker.Subscription) (got []int, sum accounts) {
	for empty := 0; ; {
		b := s.Take()
		if b == nil {
			if empty++; empty == 2 {
				return got, sum
			}
			synctest.Wait() // a page of history may be on its way
			continue
		}
		empty = 0
		sum.add(accounts{b.Skipped, b.Conflated, b.Gaps, b.Lapped})
		for _, m := range b.Messages {
			if m.Gap != nil {
				got = append(got, -1)
			} else {
				got = append(got, number(m))
			}
		}
	}
}

func TestLaneHoldsAndLetsGo(t *testing.T) {
	inLane(t, 1024, func(r *laneRig) {
		n := r.log.Lane(&broker.Policy{ID: "p", Stages: []broker.Stage{newest{}, every(100 * time.Millisecond)}, Key: byKey})
		defer n.Release()
		s := r.subscribe(n, broker.Position{})
		take(s)
		start := time.Now()
		for _, step := range []struct {
			at    int // ms
			key   string
			again int // ms; -1: ready
			want  string
			why   string
		}{
			{0, "a", -1, "[0] 0", "the first message after quiet goes out at once"},
			{10, "a", 100, "[] 0", "the next waits for the interval"},
			{30, "b", 100, "[] 0", ""},
			{99, "a", 100, "[] 0", ""},
			{100, "", -1, "[2 3] 1", "all that came goes out together, the newest of each key, in the order of the channel"},
			{150, "a", 200, "[] 0", ""},
			{199, "", 200, "[] 0", "polling early changes nothing"},
			{200, "", -1, "[4] 0", "the last state is late by one interval at most"},
			{900, "b", -1, "[5] 0", "and at once after quiet"},
		} {
			time.Sleep(time.Until(start.Add(time.Duration(step.at) * time.Millisecond)))
			if step.key != "" {
				r.publish(step.key, false)
			}
			ready, again := n.Poll(time.Now())
			switch {
			case ready != (step.again < 0):
				t.Errorf("at %d ms: ready is %v; %s", step.at, ready, step.why)
			case !ready && again != start.Add(time.Duration(step.again)*time.Millisecond):
				t.Errorf("at %d ms: again at %v, want %d ms; %s", step.at, again.Sub(start), step.again, step.why)
			}
			got, skipped := take(s)
			if text := fmt.Sprint(got, skipped); text != step.want {
				t.Errorf("at %d ms: took %s, want %s; %s", step.at, text, step.want, step.why)
			}
		}
		r.publish("a", false)
		n.Poll(time.Now())
		n.Flush(time.Now())
		if got, _ := take(s); fmt.Sprint(got) != "[6]" {
			t.Errorf("after Flush took %v: what was held was to come", got)
		}
	})
}

func TestLaneAsksOnceForAll(t *testing.T) {
	inLane(t, 1024, func(r *laneRig) {
		asked := 0
		drops := broker.NewDrops("filter")
		policy := &broker.Policy{ID: "p", Stages: []broker.Stage{onlyEven{&asked}, gather{50 * time.Millisecond, 1000}}, Drops: drops}
		var subs []*broker.Subscription
		var lanes []*broker.Lane
		for range 100 {
			n := r.log.Lane(policy)
			defer n.Release()
			s := r.subscribe(n, broker.Position{})
			take(s)
			subs, lanes = append(subs, s), append(lanes, n)
		}
		for range 40 {
			r.publish("", false)
			for _, n := range lanes {
				n.Poll(time.Now())
			}
		}
		time.Sleep(50 * time.Millisecond)
		for _, n := range lanes {
			n.Poll(time.Now())
		}
		var shared *broker.Batch
		for i, s := range subs {
			b := s.Take()
			if i == 0 {
				shared = b
			}
			if b == nil || b != shared {
				t.Fatalf("subscription %d got %v, the first %v: they must share one batch and its encoding", i, b, shared)
			}
		}
		if len(shared.Messages) != 20 || shared.Skipped != 20 {
			t.Errorf("%d messages, %d skipped; want 20 and 20", len(shared.Messages), shared.Skipped)
		}
		if asked > 41 { // the first message, and all when they are due
			t.Errorf("the filter was asked %d times for 40 messages and 100 subscribers", asked)
		}
		for reason, n := range drops.All() {
			if want := map[string]int64{"filter": 2000}[reason]; n != want {
				t.Errorf("%s: %d dropped, want %d", reason, n, want)
			}
		}
	})
}

// TestLaneOutlivesRing: what is filtered out or superseded may fall out of the ring without anybody
// missing it.
func TestLaneOutlivesRing(t *testing.T) {
	inLane(t, 16, func(r *laneRig) {
		drops := broker.NewDrops()
		n := r.log.Lane(&broker.Policy{ID: "p", Stages: []broker.Stage{newest{}, every(time.Minute)}, Key: byKey, Drops: drops})
		defer n.Release()
		s := r.subscribe(n, broker.Position{})
		r.publish("rare", true)
		n.Poll(time.Now())
		take(s)
		r.publish("rare", true) // held
		r.publish("once", true)
		for i := range 500 {
			n.Poll(time.Now())
			r.publish(strconv.Itoa(i%5), true)
		}
		time.Sleep(time.Minute)
		n.Poll(time.Now())
		if got, skipped := take(s); fmt.Sprint(got, skipped) != "[1 2 498 499 500 501 502] 495" {
			t.Errorf("took %v, skipped %d: the newest of each key was to come, however long ago", got, skipped)
		}
		for reason, n := range drops.All() {
			if want := map[string]int64{broker.DropConflated: 495}[reason]; n != want {
				t.Errorf("%s: %d counted, want %d: what has left the ring counts as well", reason, n, want)
			}
		}
	})
	inLane(t, 16, func(r *laneRig) {
		n := r.log.Lane(&broker.Policy{ID: "p", Stages: []broker.Stage{onlyEven{}}})
		defer n.Release()
		s, other := r.subscribe(n, broker.Position{}), r.subscribe(n, broker.Position{})
		take(other)
		for range 200 {
			r.sent += r.sent%2 ^ 1
			r.publish("", true)
			n.Poll(time.Now())
		}
		late := r.subscribe(n, broker.Position{})
		for range 50 {
			r.sent += r.sent%2 ^ 1
			r.publish("", false)
			n.Poll(time.Now())
		}
		if !other.Advance() || other.Position() == late.Position() {
			t.Error("Advance did not move the position over what was filtered out")
		}
		r.sent = 1000
		r.publish("", false)
		n.Poll(time.Now())
		for name, c := range map[string]struct {
			s    *broker.Subscription
			want string
		}{"there all the time": {s, "[1000] 250"}, "and advanced": {other, "[1000] 250"}, "came in between": {late, "[1000] 50"}} {
			if got, skipped := take(c.s); fmt.Sprint(got, skipped) != c.want {
				t.Errorf("%s: took %v %d, want %s", name, got, skipped, c.want)
			}
		}
	})
}

func TestLaneSlow(t *testing.T) {
	slow := func(then broker.Then) *broker.Policy {
		return &broker.Policy{ID: "p", Drops: broker.NewDrops(),
			Slow: broker.Slow{Ring: 20, Then: then, Stages: []broker.Stage{newest{}}, Key: byKey}}
	}
	for _, c := range []struct {
		name   string
		policy *broker.Policy
		behind int
		want   string
		drops  string
		why    string
	}{
		{"conflate, a little behind", slow(broker.ThenConflate), 20, "0…19", "", "who is a little behind gets everything"},
		{"conflate", slow(broker.ThenConflate), 40, "[35 36 37 38 39]", "slow 35", "who is far behind gets the newest of each key"},
		{"conflate, out of the ring", slow(broker.ThenConflate), 4000, "[3995 3996 3997 3998 3999]", "", "however far"},
		{"gap", slow(broker.ThenGap), 40, "[-1 39]", "lapped 39", "a gap, and what is new"},
		{"history", slow(broker.ThenHistory), 40, "0…39", "", "everything"},
		{"history, out of the ring", slow(broker.ThenHistory), 900, "0…899", "", "everything, from the history"},
		{"disconnect", slow(broker.ThenDisconnect), 40, "[]", "", "nothing more"},
	} {
		t.Run(c.name, func(t *testing.T) {
			inLane(t, 64, func(r *laneRig) {
				n := r.log.Lane(c.policy)
				defer n.Release()
				s, healthy := r.subscribe(n, broker.Position{}), r.subscribe(n, broker.Position{})
				take(s)
				for i := range c.behind {
					r.publish(strconv.Itoa(i%5), false)
					n.Poll(time.Now())
					if got, _ := take(healthy); fmt.Sprint(got) != fmt.Sprintf("[%d]", i) {
						t.Fatalf("a healthy neighbour got %v, want %d", got, i)
					}
				}
				got, sum := takeAccounts(s)
				want := c.want
				if want == fmt.Sprintf("0…%d", c.behind-1) {
					all := make([]int, c.behind)
					for i := range all {
						all[i] = i
					}
					want = fmt.Sprint(all)
				}
				if fmt.Sprint(got) != want {
					t.Errorf("took %v, want %s: %s", got, want, c.why)
				}
				if a := fmt.Sprint(sum); c.drops != "" && c.drops != fmt.Sprintf("slow %d", sum.conflated) && c.drops != fmt.Sprintf("lapped %d", sum.lapped) {
					t.Errorf("the batches account for %s, want %s", a, c.drops)
				}
				if s.TooSlow() != (c.policy.Slow.Then == broker.ThenDisconnect) {
					t.Errorf("TooSlow is %v", s.TooSlow())
				}
				for reason, dropped := range c.policy.Drops.All() {
					if text := fmt.Sprintf("%s %d", reason, dropped); c.drops != "" && dropped > 0 && text != c.drops {
						t.Errorf("counted %s, want %s", text, c.drops)
					}
				}
				if s.TooSlow() {
					s = r.subscribe(n, s.Position())
					if got, _ := take(s); len(got) != c.behind {
						t.Errorf("after coming back it got %d messages, want all %d", len(got), c.behind)
					}
				}
				for range 3 {
					r.publish("0", false)
					n.Poll(time.Now())
				}
				if got, _ := take(s); len(got) != 3 {
					t.Errorf("having caught up it got %v, want everything again", got)
				}
			})
		})
	}
}

// laneClient is a client over all its connections.
type laneClient struct {
	sub  *broker.Subscription
	lane *broker.Lane
	got  []int
	accounts
	moved bool // it has been away, or was under another policy
	from  int  // what was sent before it came
}

// TestLaneProperties drives random policies with random publishes, polls, takes, reconnects and
// changes of policy, and checks what every client may rely on.
func TestLaneProperties(t *testing.T) {
	for seed := range uint64(200) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			inLane(t, 16<<(seed%3*2), func(r *laneRig) { laneProperties(r, rand.New(rand.NewPCG(seed, 7))) })
		})
	}
}

func randomPolicies(x *rand.Rand) (p, other *broker.Policy, filtered, conflated bool) {
	p = &broker.Policy{ID: "p", Max: x.IntN(2) * (1 + x.IntN(9)), Drops: broker.NewDrops("filter", "conflate")}
	if filtered = x.IntN(2) == 0; filtered {
		p.Stages = append(p.Stages, onlyEven{})
	}
	if conflated = x.IntN(2) == 0; conflated {
		p.Stages, p.Key = append(p.Stages, newest{}), byKey
		if filtered {
			p.Key = evenByKey
		}
	}
	if x.IntN(2) == 0 {
		p.Stages = append(p.Stages, every(time.Duration(1+x.IntN(40))*time.Millisecond))
	}
	if x.IntN(2) == 0 {
		p.Stages = append(p.Stages, gather{time.Duration(1+x.IntN(20)) * time.Millisecond, 1 + x.IntN(10)})
	}
	if x.IntN(2) == 0 {
		p.Slow = broker.Slow{Ring: 1 + x.IntN(20), Then: broker.ThenConflate, Stages: []broker.Stage{newest{}}, Key: byKey}
		if filtered {
			p.Slow.Stages, p.Slow.Key = []broker.Stage{onlyEven{}, newest{}}, evenByKey
		}
		conflated = true
	}
	o := *p
	o.ID, o.Stages = "other", append([]broker.Stage{}, p.Stages...)
	if x.IntN(2) == 0 {
		o.Stages = append(o.Stages, every(30*time.Millisecond))
	}
	return p, &o, filtered, conflated
}

func laneProperties(r *laneRig, x *rand.Rand) {
	p, other, filtered, conflated := randomPolicies(x)
	keyless, live := x.IntN(2) == 0, x.IntN(2) == 0
	lanes := []*broker.Lane{r.log.Lane(p), r.log.Lane(other)}
	var clients []*laneClient
	keys := map[int]string{}
	type sent struct{ live bool }
	var all []sent
	join := func(c *laneClient, since broker.Position) {
		c.sub = r.subscribe(c.lane, since)
		synctest.Wait()
		c.take()
	}
	step := func(c *laneClient) {
		c.take()
	}
	for range 400 {
		switch d := x.IntN(20); {
		case d < 10:
			k := strconv.Itoa(x.IntN(6))
			if keyless && x.IntN(4) == 0 {
				k = ""
			}
			l := live && x.IntN(3) == 0
			keys[r.sent] = k
			all = append(all, sent{l})
			r.publish(k, l)
		case d < 13:
			time.Sleep(time.Duration(x.IntN(30)) * time.Millisecond)
		case d == 13 && len(clients) < 6:
			c := &laneClient{lane: lanes[0], from: r.sent}
			clients = append(clients, c)
			join(c, broker.Position{})
		case d == 14 && len(clients) > 0: // the connection breaks, and is there again
			c := clients[x.IntN(len(clients))]
			at := c.sub.Position()
			c.sub.Follow(nil)
			c.moved = true
			join(c, at)
		case d == 15 && len(clients) > 0: // its policy changes
			c := clients[x.IntN(len(clients))]
			c.lane, c.moved = lanes[x.IntN(2)], true
			c.sub.Follow(c.lane)
		case len(clients) > 0: // the others are busy
			step(clients[x.IntN(len(clients))])
		}
		for _, n := range lanes {
			n.Poll(time.Now())
		}
	}
	r.sent += r.sent % 2
	for len(all) < r.sent {
		all = append(all, sent{true})
		keys[len(all)-1] = "never sent"
	}
	all, keys[r.sent] = append(all, sent{}), "end"
	total := r.sent
	r.publish("end", false) // so that what was skipped last is told
	for range 10 {
		time.Sleep(50 * time.Millisecond)
		for _, n := range lanes {
			n.Poll(time.Now())
		}
		for _, c := range clients {
			step(c)
		}
	}
	for i, c := range clients {
		for j := 1; j < len(c.got); j++ {
			if c.got[j] <= c.got[j-1] {
				r.t.Fatalf("client %d got %d after %d", i, c.got[j], c.got[j-1])
			}
		}
		if c.gaps > 0 && (!keyless || !live) && c.mayNotGap(p, keyless) {
			r.t.Errorf("client %d was told %d gaps", i, c.gaps)
		}
		if c.gaps == 0 {
			had := map[int]bool{}
			for _, n := range c.got {
				had[n] = true
			}
			superseded := map[string]bool{}
			for n := total; n >= c.from; n-- {
				if all[n].live || keys[n] == "never sent" || filtered && n%2 == 1 {
					if !all[n].live || keys[n] == "never sent" || filtered && n%2 == 1 {
						continue
					}
					superseded[keys[n]] = true // it may have come, and stood for the older ones
					continue
				}
				k := keys[n]
				if !had[n] && (!conflated || k == "" || !superseded[k]) {
					r.t.Fatalf("client %d never got %d (key %q)\npolicy %+v\ngot %v", i, n, k, p, c.got)
				}
				superseded[k] = true
			}
			if !c.moved {
				never := 0
				for n := c.from; n <= total; n++ {
					if keys[n] == "never sent" {
						never++
					}
				}
				if len(c.got)+c.skipped != total+1-c.from-never {
					r.t.Errorf("client %d got %d and was told of %d skipped, of %d\npolicy %+v", i, len(c.got), c.skipped, total+1-c.from-never, p)
				}
				odd := 0
				for n := c.from; n <= total; n++ {
					if keys[n] != "never sent" && n%2 == 1 {
						odd++
					}
				}
				if out := c.skipped - c.conflated; !conflated && c.conflated != 0 || !filtered && out != 0 || out < 0 || out > odd {
					r.t.Errorf("client %d: of %d skipped %d were conflated; filtered %v, conflated %v, %d are odd", i, c.skipped, c.conflated, filtered, conflated, odd)
				}
			}
		}
		c.sub.Follow(nil)
	}
	for _, n := range lanes {
		n.Release()
	}
}

func (c *laneClient) take() {
	got, sum := takeAccounts(c.sub)
	c.accounts.add(sum)
	for _, n := range got {
		if n >= 0 {
			c.got = append(c.got, n)
		}
	}
}

// mayNotGap: with keys on everything, conflation finds the newest of each as far as ever it is behind.
func (c *laneClient) mayNotGap(p *broker.Policy, keyless bool) bool {
	return !keyless && p.Key != nil && !c.moved
}

// So many messages as a batch waits for are enough, whenever the lane was asked before.
func TestLaneCountsExactly(t *testing.T) {
	for asked := 1; asked < 10; asked++ {
		inLane(t, 64, func(r *laneRig) {
			n := r.log.Lane(&broker.Policy{ID: "p", Stages: []broker.Stage{gather{time.Hour, 10}}})
			defer n.Release()
			s := r.subscribe(n, broker.Position{})
			defer s.Follow(nil)
			for range asked {
				r.publish("", false)
			}
			if ready, _ := n.Poll(time.Now()); ready {
				t.Errorf("%d of 10 go out", asked)
			}
			for range 10 - asked {
				r.publish("", false)
			}
			if ready, _ := n.Poll(time.Now()); !ready {
				t.Errorf("asked with %d before, the lane holds 10 of 10 back", asked)
			}
		})
	}
}
