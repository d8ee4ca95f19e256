package e2e

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// sessions returns how many connections n has, of whatever kind.
func (n *node) sessions() (all float64) {
	n.t.Helper()
	for name, x := range n.metrics() {
		if strings.HasPrefix(name, "sluice_sessions{") {
			all += x
		}
	}
	return all
}

// testTabs: ten tabs have one connection, by a SharedWorker or, where there is none (alone), by the tab that they elect. The one that leads, or
// that came first, goes while messages come: the other nine miss nothing.
func testTabs(t *testing.T, f *fleet, alone bool) {
	r := newRig(t, nil, 1, "--metrics", "127.0.0.1:0", "--retry", "200ms")
	n := r.nodes[0]
	pages := make([]*reader, 10)
	pages[0] = r.readAt(f, "0", n.url(), listens{Share: true, Alone: alone})
	var opening sync.WaitGroup
	for i := range pages[1:] {
		opening.Go(func() {
			p := &reader{T: t, fleet: f, page: fmt.Sprintf("%s %d", t.Name(), i+1), channels: r.channels}
			if err := f.open(p.page, n.url()+"/healthz"); err != nil {
				t.Error(err)
				return
			}
			if err := f.run(p.page, listenScript, map[string]any{"how": listens{Share: true, Alone: alone}, "channels": r.channels}, nil); err != nil {
				t.Error(err)
			}
			pages[i+1] = p
		})
	}
	opening.Wait()
	if t.Failed() {
		return
	}
	want := map[string]int{"worker": 10}
	if alone {
		want = map[string]int{"leader": 1, "follower": 9}
	}
	got, leader := map[string]int{}, 0
	for i, p := range pages {
		s := p.stats()
		got[s.Shared]++
		if s.Shared == "leader" {
			leader = i
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("tabs are %v, want %v", got, want)
	}
	until(t, 10*time.Second, "ten tabs have one connection", func() bool { return n.sessions() == 1 })
	r.publish(pagePace)
	r.published(100)
	if err := f.do("close", pages[leader].page, nil, nil); err != nil {
		t.Fatal(err)
	}
	pages = append(pages[:leader], pages[leader+1:]...)
	r.published(100)
	r.catchUp(pages...)
	until(t, 10*time.Second, "nine tabs have one connection", func() bool { return n.sessions() == 1 })
	n.kill()
	n.restart()
	r.published(100)
	r.catchUp(pages...)
	until(t, 10*time.Second, "nine tabs have one connection", func() bool { return n.sessions() == 1 })
	// All of them tell the hub that the network may be another one: it takes one new connection, and a second one only where the first is not up
	// within 2 s.
	before := n.connects()
	for _, p := range pages {
		p.run(`() => dispatchEvent(new Event("online"))`, nil, nil)
	}
	r.published(100)
	r.catchUp(pages...)
	until(t, 10*time.Second, "nine tabs have one connection", func() bool { return n.sessions() == 1 })
	if more := n.connects() - before; more < 1 || more > 2 {
		t.Errorf("nine tabs that come online opened %v connections, want 1", more)
	}
	r.finishPages(400, pages...)
}

// TestBrowserFreezes: a browser freezes tabs that nobody has looked at for long, first of all the one that was opened first. The others go on, and it has
// everything when it is looked at again.
func TestBrowserFreezes(t *testing.T) {
	t.Parallel()
	f := startFleet(t, "hiding")
	for name, alone := range map[string]bool{"worker": false, "leader": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testFrozenTabs(t, f, alone)
		})
	}
}

func testFrozenTabs(t *testing.T, f *fleet, alone bool) {
	r := newRig(t, nil, 1, "--metrics", "127.0.0.1:0", "--retry", "200ms")
	n := r.nodes[0]
	var pages []*reader
	for i := range 3 {
		pages = append(pages, r.readAt(f, fmt.Sprint(i), n.url(), listens{Share: true, Alone: alone}))
	}
	r.publish(pagePace)
	r.published(50)
	r.catchUp(pages...)
	freeze := func(p *reader, frozen bool) {
		if err := f.do("freeze", p.page, map[string]any{"frozen": frozen}, nil); err != nil {
			t.Fatal(err)
		}
	}
	for i, p := range pages {
		others := append(slices.Clone(pages[:i]), pages[i+1:]...)
		freeze(p, true)
		r.published(50)
		r.catchUp(others...)
		until(t, 10*time.Second, "two tabs have one connection", func() bool { return n.sessions() == 1 })
		freeze(p, false)
		r.catchUp(pages...)
		until(t, 10*time.Second, "three tabs have one connection", func() bool { return n.sessions() == 1 })
	}
	// One goes on while another one that led before it is frozen.
	freeze(pages[0], true)
	r.published(50)
	r.catchUp(pages[1:]...)
	freeze(pages[1], true)
	r.published(50)
	r.catchUp(pages[2])
	freeze(pages[1], false)
	r.catchUp(pages[1:]...)
	freeze(pages[0], false)
	r.catchUp(pages...)
	r.finishPages(300, pages...)
	until(t, 10*time.Second, "no tab has one", func() bool { return n.sessions() == 0 })
}

// connects returns how many connections n has taken so far.
func (n *node) connects() (all float64) {
	n.t.Helper()
	for name, x := range n.metrics() {
		if strings.HasPrefix(name, "sluice_connects_total{") {
			all += x
		}
	}
	return all
}
