package backendtest

import (
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"sluice/broker"
)

// recorder is the table's sink. It keeps what comes, and complains about what no backend may do:
// calls about one channel at the same time, channels that were never joined, calls after Run.
type recorder struct {
	mu       sync.Mutex
	wanted   map[string]bool // was joined at least once
	busy     map[string]bool // a call about it is under way
	messages map[string][]*broker.Message
	seen     map[string]map[broker.Position]bool
	joined   map[string]int
	list     map[string]broker.Revocation // that the sink was told of last, by kind and value
	lists    int                          // calls of Revoked
	listing  bool                         // one is under way
	asked    []string                     // questions of other nodes
	answers  func(broker.Question)        // called with each, on a goroutine; nil: nobody answers
	finished bool
	problems []string
	changed  chan struct{}           // closed and replaced when something has come
	inJoined func(channels []string) // called by Joined, if it is not nil
}

func newRecorder() *recorder {
	return &recorder{
		wanted: map[string]bool{}, busy: map[string]bool{}, messages: map[string][]*broker.Message{},
		seen: map[string]map[broker.Position]bool{}, joined: map[string]int{}, list: map[string]broker.Revocation{}, changed: make(chan struct{}),
	}
}

// Deliver keeps m. A durable message that comes twice is kept once: that much a backend may do.
func (r *recorder) Deliver(m *broker.Message) {
	defer r.enter("Deliver", m.Channel)()
	r.mu.Lock()
	defer r.mu.Unlock()
	if m.Durable() {
		if r.seen[m.Channel] == nil {
			r.seen[m.Channel] = map[broker.Position]bool{}
		}
		if r.seen[m.Channel][m.Position] {
			return
		}
		r.seen[m.Channel][m.Position] = true
	}
	r.messages[m.Channel] = append(r.messages[m.Channel], m)
}

// Joined counts.
func (r *recorder) Joined(channels []string) {
	defer r.enter("Joined", channels...)()
	r.mu.Lock()
	if call := r.inJoined; call != nil {
		r.mu.Unlock()
		call(channels)
		r.mu.Lock()
	}
	defer r.mu.Unlock()
	for _, c := range channels {
		r.joined[c]++
	}
}

// Lost is a complaint: nothing breaks connections here.
func (r *recorder) Lost(channels []string) {
	defer r.enter("Lost", channels...)()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.problem("Lost was called for %d channels though the connection is sound", len(channels))
}

// Verify may come at any time, and needs nothing here.
func (r *recorder) Verify() {}

// Revoked keeps the list.
func (r *recorder) Revoked(list []broker.Revocation) {
	r.mu.Lock()
	switch {
	case r.finished:
		r.problem("Revoked after Run had returned")
	case r.listing:
		r.problem("Revoked while another call of it was under way")
	}
	r.listing = true
	r.mu.Unlock()
	runtime.Gosched()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.listing = false
	r.lists++
	for _, x := range list {
		if err := x.Check(); err != nil {
			r.problem("Revoked with %v", err)
		}
		r.list[name(x)] = x
	}
	close(r.changed)
	r.changed = make(chan struct{})
}

// Asked keeps the question.
func (r *recorder) Asked(q broker.Question) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.finished {
		r.problem("Asked after Run had returned")
	}
	r.asked = append(r.asked, string(q.Text))
	if r.answers != nil {
		go r.answers(q)
	}
	close(r.changed)
	r.changed = make(chan struct{})
	return true
}

// enter notes that a call about the channels has begun; what it returns notes the end.
func (r *recorder) enter(call string, channels ...string) func() {
	r.mu.Lock()
	// Joined may name a channel twice, if it was joined twice.
	channels = slices.Compact(slices.Sorted(slices.Values(channels)))
	for _, c := range channels {
		switch {
		case r.finished:
			r.problem("%s of %s after Run had returned", call, c)
		case r.busy[c]:
			r.problem("%s of %s while another call about that channel was under way", call, c)
		case !r.wanted[c]:
			r.problem("%s of %s, which was never joined", call, c)
		}
		r.busy[c] = true
	}
	r.mu.Unlock()
	runtime.Gosched() // let others get in, if they can
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, c := range channels {
			r.busy[c] = false
		}
		close(r.changed)
		r.changed = make(chan struct{})
	}
}

// problem keeps the first complaints. r.mu is held.
func (r *recorder) problem(format string, args ...any) {
	if len(r.problems) < 5 {
		r.problems = append(r.problems, fmt.Sprintf(format, args...))
	}
}

func (r *recorder) takeProblems() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	ps := r.problems
	r.problems = nil
	return ps
}

// wantChannels admits the channels and returns how often each was joined until now.
func (r *recorder) wantChannels(channels []string) []int {
	r.mu.Lock()
	defer r.mu.Unlock()
	counts := make([]int, len(channels))
	for i, c := range channels {
		r.wanted[c] = true
		counts[i] = r.joined[c]
	}
	return counts
}

func (r *recorder) of(channel string) []*broker.Message {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.messages[channel])
}

func (r *recorder) finish() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.finished = true
}

// wait reports whether done, called under the lock, became true before the deadline.
func (r *recorder) wait(deadline time.Time, done func() bool) bool {
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	for {
		r.mu.Lock()
		ok, changed := done(), r.changed
		r.mu.Unlock()
		if ok {
			return true
		}
		select {
		case <-changed:
		case <-timer.C:
			return false
		}
	}
}
