package e2e

import (
	"net"
	"slices"
	"syscall"
	"testing"
	"time"
)

// pagePace is between two messages of a publisher. Pages of several tests share a machine.
const pagePace = 20 * time.Millisecond

// TestBrowserClient: a page with the client library misses, repeats and misorders nothing, whatever happens to nodes, Redis and network.
func TestBrowserClient(t *testing.T) {
	t.Parallel()
	f := startFleet(t, "chromium")
	for _, tt := range []struct {
		name string
		test func(*testing.T, *fleet)
	}{
		{"node killed", testNodeKilledUnderPage},
		{"node replaced", testNodeReplacedUnderPage},
		{"Redis killed", testRedisKilledUnderPage},
		{"network changed", testNetworkChangedUnderPage},
		{"offline", testPageOffline},
		{"handshakes that hang", testHungHandshakes},
		{"transport switched", testTransportSwitched},
		{"tokens", testPageTokens},
		{"an earlier place", testEarlierPlace},
		{"ten tabs and a worker", func(t *testing.T, f *fleet) { testTabs(t, f, false) }},
		{"ten tabs and a leader", func(t *testing.T, f *fleet) { testTabs(t, f, true) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.test(t, f)
		})
	}
}

func testNodeKilledUnderPage(t *testing.T, f *fleet) {
	r := newRig(t, nil, 1, "--retry", "200ms")
	n := r.nodes[0]
	p := r.readAt(f, "page", n.url(), listens{Share: true})
	r.publish(pagePace)
	for range 3 {
		r.published(150)
		n.kill()
		r.published(50)
		n.restart()
		r.catchUp(p)
	}
	r.published(50)
	if s := p.stats(); s.Connects < 4 {
		t.Errorf("the page had %d connections, want 4 at least", s.Connects)
	}
	r.finishPages(600, p)
}

// testNodeReplacedUnderPage is a rolling deployment: nodes stop in turn, and what comes then is led to the other one.
func testNodeReplacedUnderPage(t *testing.T, f *fleet) {
	r := newRig(t, nil, 2, "--retry", "300ms", "--drain-time", "1s")
	way := newPassage(t, r.nodes[0].addr)
	pages := r.eachTransport(f, way.url(), "")
	r.publish(pagePace)
	for i, n := range r.nodes {
		r.published(150)
		way.turn(r.nodes[1-i].addr)
		n.signal(syscall.SIGTERM)
		if code := n.wait(10 * time.Second); code != 0 {
			t.Errorf("node %s ended with %d, want 0", n.name, code)
		}
		r.catchUp(pages...)
		n.restart()
	}
	r.published(50)
	r.finishPages(350, pages...)
}

func testRedisKilledUnderPage(t *testing.T, f *fleet) {
	r := newRig(t, []string{"appendonly", "yes", "appendfsync", "always"}, 1)
	p := r.readAt(f, "page", r.nodes[0].url(), listens{Share: true})
	r.publish(pagePace)
	for range 2 {
		r.published(150)
		r.redis.Kill()
		r.redis.Restart()
		r.published(50)
		r.catchUp(p)
	}
	if s := p.stats(); s.Connects != 1 {
		t.Errorf("the page had %d connections, want 1: its own has not been touched", s.Connects)
	}
	r.finishPages(400, p)
}

// heartbeat is that of nodes where a test waits until a page leaves a connection that is silent, which it does after 2.5 of them.
const heartbeat = 2 * time.Second

// testNetworkChangedUnderPage: what is open is a black hole from one moment to the next, and what is opened then works.
func testNetworkChangedUnderPage(t *testing.T, f *fleet) {
	r := newRig(t, nil, 1, "--heartbeat", heartbeat.String(), "--retry", "1s")
	way := newPassage(t, r.nodes[0].addr)
	// Silence is noticed after 2.5 heartbeats. A page waits for up to 2 s before it comes back. A browser has connections in its pool that nobody
	// uses, and are as dead: a stream that it opens on one of those is left after 5 s, and the next attempt has up to 4 s to wait. What is more is for
	// a busy machine.
	pages := []*reader{
		r.readAt(f, "ws", way.url(), listens{Transports: []string{"ws"}}),
		r.readAt(f, "sse", way.url(), listens{Transports: []string{"sse"}}),
	}
	within := []time.Duration{heartbeat*5/2 + 2*time.Second + 3*time.Second, heartbeat*5/2 + 11*time.Second + 3*time.Second}
	r.publish(pagePace)
	r.published(100)
	r.catchUp(pages...)
	began := time.Now()
	way.lose()
	r.published(100)
	latest := r.ledger.latest()
	for i, p := range pages {
		p.has(latest)
		if took := time.Since(began); took > within[i] {
			t.Errorf("%s was back after %v, want %v", p.page, took, within[i])
		} else {
			t.Logf("%s had everything after %v", p.page, took.Round(time.Millisecond))
		}
		if s := p.stats(); s.Connects < 2 || !slices.Contains(s.Errors, "silent") {
			t.Errorf("%s had %d connections and errors %v, want another one, since the first is silent", p.page, s.Connects, s.Errors)
		}
	}
	r.finishPages(200, pages...)
}

// testPageOffline: when the browser says that it is online again the page does not wait for a heartbeat or for its turn.
func testPageOffline(t *testing.T, _ *fleet) {
	f := startFleet(t, "chromium") // whether it is online is the same for all pages of a process
	r := newRig(t, nil, 1)
	way := newPassage(t, r.nodes[0].addr)
	p := r.readAt(f, "page", way.url(), listens{})
	r.publish(pagePace)
	for i, lose := range []func(){way.lose, way.cut} {
		r.published(100)
		r.catchUp(p)
		p.offline(true)
		lose()
		if i == 1 {
			p.until(`edge.state === "offline"`, nil)
		}
		r.published(50)
		began := time.Now()
		p.offline(false)
		r.catchUp(p)
		// The heartbeat is 10 s.
		if took := time.Since(began); took > 6*time.Second {
			t.Errorf("the page was back after %v, want it at once", took)
		}
	}
	r.finishPages(300, p)
}

// offline takes the network of the page away, or gives it back.
func (p *reader) offline(offline bool) {
	p.Helper()
	if err := p.fleet.do("offline", p.page, map[string]any{"offline": offline}, nil); err != nil {
		p.Fatal(err)
	}
}

// testTransportSwitched: ws, sse, polling and ws again, as the network lets less and then more through. On the way down there is nothing for a
// moment; on the way up the better one is there before the other one goes.
func testTransportSwitched(t *testing.T, f *fleet) {
	r := newRig(t, nil, 1, "--retry", "200ms")
	way := newPassage(t, r.nodes[0].addr)
	p := r.readAt(f, "page", way.url(), listens{})
	r.publish(pagePace)
	for _, step := range []struct {
		state    string
		unwanted []string
	}{
		{"ws", nil},
		{"sse", []string{"GET /ws"}},
		{"polling", []string{"GET /ws", "POST /sse"}},
	} {
		way.refuse(step.unwanted...)
		p.until(`edge.state === arg`, step.state)
		r.published(100)
		r.catchUp(p)
	}
	before := p.stats()
	way.mu.Lock()
	way.unwanted = nil
	way.mu.Unlock()
	p.run(`() => edge.reconnect()`, nil, nil)
	p.until(`edge.state === "ws"`, nil)
	r.published(100)
	r.catchUp(p)
	if s := p.stats(); slices.Contains(s.States[len(before.States):], "connecting") {
		t.Errorf("on the way up it was %v, want nothing between polling and ws but sse", s.States[len(before.States):])
	}
	r.finishPages(400, p)
}

// TestBrowserSleeps: all processes of the browser stand still for 30 s, as on a laptop whose lid is closed, and go on. Connections and tokens have
// ended meanwhile.
func TestBrowserSleeps(t *testing.T) {
	t.Parallel()
	f := startFleet(t, "chromium")
	r, secret := guardedRig(t, "--heartbeat", heartbeat.String())
	pages := r.eachTransport(f, r.nodes[0].url(), secret)
	r.publishStored(pagePace)
	r.published(50)
	r.catchUp(pages...)
	if err := f.do("sleep", "", map[string]any{"ms": 30_000}, nil); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	r.catchUp(pages...)
	t.Logf("the pages had everything %v after they woke", time.Since(began).Round(time.Millisecond))
	r.finishPages(500, pages...)
}

// testHungHandshakes: a network that comes and goes has pages try it again while an attempt hangs that will never be answered. What hangs keeps no
// page from coming back.
func testHungHandshakes(t *testing.T, f *fleet) {
	r := newRig(t, nil, 1, "--retry", "200ms")
	n := r.nodes[0]
	hole, err := net.Listen("tcp", "127.0.0.1:0") // takes connections, and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer hole.Close()
	way := newPassage(t, n.addr)
	p := r.readAt(f, "page", way.url(), listens{Transports: []string{"ws"}})
	r.publish(pagePace)
	r.published(20)
	way.turn(hole.Addr().String())
	p.run(`() => {
		seen.tries = 0;
		globalThis.WebSocket = new Proxy(WebSocket, { construct: (target, args) => (seen.tries++, new target(...args)) });
	}`, nil, nil)
	for i := range 2 {
		p.run(`() => dispatchEvent(new Event("online"))`, nil, nil)
		p.until("seen.tries > arg", i)
	}
	r.catchUp(p)
	way.turn(n.addr)
	n.kill()
	n.restart()
	r.published(20)
	began := time.Now()
	r.catchUp(p)
	t.Logf("the page was back after %v", time.Since(began).Round(time.Millisecond))
	r.finishPages(50, p)
}
