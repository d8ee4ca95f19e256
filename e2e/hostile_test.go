//go:build linux

package e2e

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Settings of the node that is attacked, short so that nobody has to wait. docs/operating.md has the table that follows from them.
const (
	hostileHeader    = 2 * time.Second
	hostileBody      = 3 * time.Second
	hostileWait      = time.Second
	hostileWrite     = 3 * time.Second
	hostileLag       = 6 * time.Second
	hostileIdle      = 4 * time.Second
	hostileHeartbeat = 2 * time.Second
	hostileMemory    = 192 // MiB
	hostileSiege     = 6 * time.Second

	hostileSweep = hostileHeartbeat / 2    // how late a session is looked at
	hostileClose = 3500 * time.Millisecond // how long a close frame may be left without an answer, and how late that is seen
	hostileFlood = 5 * time.Second         // until those who flood have been refused often enough
	hostileFill  = 2 * time.Second         // until the sockets of those who do not read are full
	hostileLater = 10 * time.Second        // how late a busy machine may be
	hostileWake  = 4 * time.Second         // the same, for those who look only then
)

var hostileFlags = []string{
	"--header-timeout", hostileHeader.String(), "--body-timeout", hostileBody.String(), "--publish-wait", hostileWait.String(),
	"--write-timeout", hostileWrite.String(), "--max-lag", hostileLag.String(), "--idle-timeout", hostileIdle.String(),
	"--heartbeat", hostileHeartbeat.String(), "--send-buffer", "32KiB", "--max-header", "8KiB",
	"--memory-limit", fmt.Sprintf("%dMiB", hostileMemory), "--metrics", "127.0.0.1:0",
	"--address-connections", "16", "--connect-rate", "5", "--connect-burst", "40", "--command-rate", "20", "--command-burst", "20",
}

// besieger is a kind of connection that wants a node to suffer.
type besieger struct {
	name   string
	many   int
	begin  string        // what it sends at once
	then   string        // what it sends once it has been answered
	drip   string        // what it sends again and again after that; "": nothing
	every  time.Duration // how often
	deaf   bool          // it reads nothing
	goes   bool          // it hangs up as soon as it is there
	from   string        // all come from this address; "": each from one of many
	within time.Duration // the node has ended it; without what a busy machine adds
}

// besiegers are 5,000.
func besiegers() []besieger {
	const sse = "GET /sse?channel=loud HTTP/1.1\r\nHost: x\r\n\r\n"
	h2 := func(kind, flags byte, stream uint32, payload string) string {
		b := []byte{byte(len(payload) >> 16), byte(len(payload) >> 8), byte(len(payload)), kind, flags}
		return string(binary.BigEndian.AppendUint32(b, stream)) + payload
	}
	wide := "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + h2(4, 0, 0, "\x00\x04\x7f\xff\xff\xff") + h2(8, 0, 0, "\x7f\x00\x00\x00") // windows of 2 GiB
	requests := strings.Repeat("GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n", 100)
	commands := strings.Repeat(text(`{"type":"ping"}`), 20)
	pings := strings.Repeat(frame(fin|opPing, ""), 50)
	return []besieger{
		{name: "silence", many: 600, within: hostileHeader},
		{name: "a head, byte by byte", many: 600, begin: "GET /sse?channel=loud HTTP/1.1\r\nX: ", drip: "a", every: time.Second / 2, within: hostileHeader},
		{name: "a body, byte by byte", many: 550, begin: "POST /publish/loud HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n", drip: "x", every: time.Second / 2,
			within: hostileHeader + hostileBody},
		{name: "an idle connection", many: 300, begin: "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", within: hostileIdle},
		{name: "answers that are never read", many: 50, begin: requests, drip: requests, every: time.Second / 20, deaf: true,
			within: hostileFill + hostileBody + hostileWait + hostileWrite},
		{name: "a head of 64 KiB", many: 200, begin: "GET / HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("X-A: "+strings.Repeat("x", 1000)+"\r\n", 64), within: time.Second},
		{name: "a WebSocket that never answers", many: 550, begin: handshake("quiet", ""), within: hostileHeartbeat*5/2 + hostileSweep + hostileClose},
		{name: "half a WebSocket message, and pings", many: 200, begin: handshake("quiet", ""), then: frame(opText, "half"), drip: frame(fin|opPing, ""), every: time.Second / 2,
			within: hostileBody + hostileSweep + hostileClose},
		{name: "a WebSocket that never reads", many: 300, begin: handshake("loud", ""), deaf: true, within: hostileFill + hostileWrite + hostileSweep},
		{name: "a stream that is never read", many: 300, begin: sse, deaf: true, within: hostileFill + hostileWrite + hostileSweep},
		{name: "an HTTP/2 stream that is never read", many: 100, begin: wide + h2(1, 5, 1, "\x82\x86\x44\x11/sse?channel=loud\x41\x01x"), deaf: true,
			within: hostileFill + 2*hostileWrite + hostileSweep},
		{name: "a flood of pings", many: 300, begin: handshake("quiet", ""), then: pings, drip: pings, every: time.Second / 5, within: hostileFlood + hostileClose},
		{name: "a flood of commands", many: 100, begin: handshake("", speaksJSON), then: commands, drip: commands, every: time.Second / 5,
			within: hostileFlood + hostileClose},
		{name: "a stream that is talked at", many: 100, begin: sse, drip: strings.Repeat("x", 4<<10), every: time.Second / 20, within: time.Second},
		{name: "a crowd from one address", many: 450, from: "127.30.0.1", within: hostileHeader},
		{name: "come, listen, and go", many: 300, begin: sse, goes: true, from: "127.30.0.2"},
	}
}

// siege is all of them at once.
type siege struct {
	t     *testing.T
	addr  string
	wg    sync.WaitGroup
	there atomic.Int64

	mu      sync.Mutex
	lives   map[string]int
	refused map[string]int
	longest map[string]time.Duration
}

// begin lets them loose: each comes back when it has been ended, until ctx ends. Then it waits for its end.
func (s *siege) begin(ctx context.Context) {
	s.lives, s.refused, s.longest = map[string]int{}, map[string]int{}, map[string]time.Duration{}
	kinds, number := besiegers(), 0
	for i := range kinds {
		h := &kinds[i]
		for range h.many {
			from := h.from
			if from == "" {
				from = fmt.Sprintf("127.20.%d.%d", number%4, 1+number/4%100)
			}
			number++
			dial, first := dialing(from), time.Duration(number)*2*time.Second/5000
			s.wg.Go(func() {
				for pause := first; ; pause = 2 * time.Second { // all are there after as long
					select {
					case <-ctx.Done():
						return
					case <-time.After(pause):
						s.book(h, dial)
					}
				}
			})
		}
	}
}

// book has a connection live and notes what became of it.
func (s *siege) book(h *besieger, dial dialFunc) {
	c, err := dial(context.Background(), "tcp", s.addr)
	if err != nil { // reset at once
		s.mu.Lock()
		s.refused[h.name]++
		s.mu.Unlock()
		return
	}
	s.there.Add(1)
	defer s.there.Add(-1)
	defer c.Close()
	if h.deaf {
		_ = c.(*net.TCPConn).SetReadBuffer(16 << 10)
	}
	began := time.Now()
	err = h.live(c, began)
	took := time.Since(began)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lives[h.name]++
	s.longest[h.name] = max(s.longest[h.name], took)
	if err != nil {
		s.t.Errorf("%s: %v after %v, want the end after %v at most", h.name, err, took, h.within)
	}
}

// live does what h does until the node has ended c. An error says that it did not.
func (h *besieger) live(c net.Conn, began time.Time) error {
	end := began.Add(h.within + hostileLater)
	if h.deaf {
		end = began.Add(h.within + hostileWake)
	}
	rest, failed := []byte(h.begin), false
	buf := make([]byte, 256)
	if h.then != "" {
		_ = c.SetDeadline(end)
		if _, err := c.Write(rest); err != nil {
			return nonEnd(err)
		}
		if _, err := c.Read(buf); err != nil { // the answer to a handshake comes in one piece
			return nonEnd(err)
		}
		rest = []byte(h.then)
	}
	for {
		if len(rest) == 0 && !failed {
			rest = append(rest, h.drip...)
		}
		if len(rest) > 0 {
			_ = c.SetWriteDeadline(time.Now().Add(h.every + 100*time.Millisecond))
			n, err := c.Write(rest)
			rest = rest[n:]
			if failed = err != nil && ended(err) == io.EOF; failed {
				rest = nil // what it sent last may still be there to be read
			}
		}
		if h.goes {
			_, err := c.Read(buf)
			return nonEnd(err)
		}
		next := end
		if h.drip != "" && !failed {
			next = time.Now().Add(h.every)
		}
		if h.deaf && !failed {
			time.Sleep(time.Until(next))
			if time.Now().Before(end) {
				continue
			}
			next = time.Now().Add(time.Second)
			end = next
		}
		_ = c.SetReadDeadline(next)
		for {
			if _, err := c.Read(buf); err == nil {
				continue
			} else if ended(err) == io.EOF {
				return nil
			}
			break
		}
		if !time.Now().Before(end) {
			return os.ErrDeadlineExceeded
		}
	}
}

// nonEnd returns err unless it is an end of the connection.
func nonEnd(err error) error {
	if err == nil || ended(err) == io.EOF {
		return nil
	}
	return err
}

// descriptors returns how many the node has open.
func (n *node) descriptors() int {
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", n.cmd.Process.Pid))
	if err != nil {
		n.t.Fatal(err)
	}
	return len(list)
}

// TestHostile: 5,000 connections that want the node to suffer, in all ways that there are, beside 500 good ones. No good one is disconnected
// or misses a message; memory stays within its limit; every hostile one is ended by the node within the time that docs/operating.md says;
// what was refused is counted; and nothing is left. What messages take beside them is logged: on a machine that does
// all of that besides it says little. See the scenario hostile of bench.
func TestHostile(t *testing.T) {
	n := startUnwatched(t, "A", hostileFlags...)
	a := assemble(t, n)
	performing := func(d time.Duration) []time.Duration {
		ctx, stop := context.WithTimeout(t.Context(), d)
		defer stop()
		return a.perform(ctx)
	}
	alone := performing(3 * time.Second)
	n.metrics() // its connection is one of those that are there
	before := n.descriptors()

	s := &siege{t: t, addr: n.addr}
	ctx, stop := context.WithTimeout(t.Context(), hostileSiege)
	defer stop()
	var beside sync.WaitGroup
	var most, peak atomic.Int64
	ended := make(chan struct{})
	beside.Go(func() { // a channel that fills the sockets of those who do not read
		c, loud := httpClient(t, 10*time.Second), strings.Repeat("x", 16<<10)
		for {
			select {
			case <-ended:
				return
			case <-time.After(time.Second / 5):
			}
			if _, err := publish(t.Context(), c, n.url(), "loud", "live=1", loud); err != nil {
				t.Errorf("publish to the loud channel: %v", err)
				return
			}
		}
	})
	beside.Go(func() {
		for {
			select {
			case <-ended:
				return
			case <-time.After(time.Second / 50):
				most.Store(max(most.Load(), int64(n.resident())))
				peak.Store(max(peak.Load(), int64(n.descriptors())))
			}
		}
	})
	began := time.Now()
	s.begin(ctx)
	amid := performing(hostileSiege)
	s.wg.Wait()
	t.Logf("the last of them was gone %v after it began", time.Since(began).Round(time.Millisecond))
	close(ended)
	beside.Wait()
	for _, h := range besiegers() {
		t.Logf("%-36s %5d lived, %v at most of %v; %d reset", h.name, s.lives[h.name], s.longest[h.name].Round(time.Millisecond), h.within, s.refused[h.name])
	}
	t.Logf("p50 and p99 of the good: %v and %v before, %v and %v beside them; memory %d MiB at most, %d descriptors",
		quantile(alone, .5), quantile(alone, .99), quantile(amid, .5), quantile(amid, .99), most.Load(), peak.Load())
	if most.Load() > hostileMemory {
		t.Errorf("the node took %d MiB, more than its limit of %d", most.Load(), hostileMemory)
	}
	if peak.Load() < 2500 {
		t.Errorf("the node had %d descriptors at most: this is no attack", peak.Load())
	}
	m := n.metrics()
	for _, kind := range []string{"address_sockets", "session_command", "connect"} {
		if got := m[fmt.Sprintf("sluice_rate_limited_total{kind=%q}", kind)]; got < 100 {
			t.Errorf("%v refusals are counted as %s", got, kind)
		}
	}
	until(t, 10*time.Second, "nothing is left of them", func() bool {
		sessions := 0.0
		for name, x := range n.metrics() {
			if strings.HasPrefix(name, "sluice_sessions{") {
				sessions += x
			}
		}
		return sessions == goodClients && n.descriptors() <= before+8
	})
	performing(time.Second / 2)
}
