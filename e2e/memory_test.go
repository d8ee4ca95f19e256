//go:build linux

package e2e

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// memoryLimit is what the node of TestMemoryLimit may take, in MiB.
const memoryLimit = 192

// resident returns how much memory the process takes, in MiB.
func (n *node) resident() int {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", n.cmd.Process.Pid))
	fields := strings.Fields(string(b))
	if err != nil || len(fields) < 2 {
		return 0 // it has ended, which others notice
	}
	pages, _ := strconv.Atoi(fields[1])
	return pages * os.Getpagesize() >> 20
}

// attack is one way to take a node's memory. It goes on until ctx ends, and counts what the node refused or cut off.
type attack struct {
	name string
	run  func(t *testing.T, ctx context.Context, n *node, refused *atomic.Int64)
}

// TestMemoryLimit: whatever strangers try, the node stays below its limit, refuses what would take it beyond that, goes on
// serving those who are there, and takes new ones when the strangers have gone.
func TestMemoryLimit(t *testing.T) {
	if len(buildFlags) > 0 {
		t.Skip("a race build takes several times the memory")
	}
	n := startNode(t, "A", "--memory-limit", fmt.Sprintf("%dMiB", memoryLimit), "--max-sessions", "20000", "--linger", "100ms")
	good, err := openSSE(t.Context(), httpClient(t, 0), n.url()+"/sse?channel=good", "", false)
	if err != nil {
		t.Fatal(err)
	}
	defer good.close()
	var got atomic.Int64
	heard := make(chan struct{})
	go func() {
		defer close(heard)
		for {
			e, err := good.next()
			if err != nil {
				return
			}
			if e.kind == "message" {
				got.Add(1)
			}
		}
	}()
	defer func() { good.close(); <-heard }()
	for _, a := range []attack{
		{"large live messages to many channels", func(t *testing.T, ctx context.Context, n *node, refused *atomic.Int64) {
			publishLarge(t, ctx, n, "live=1", refused)
		}},
		{"large messages to many channels", func(t *testing.T, ctx context.Context, n *node, refused *atomic.Int64) {
			publishLarge(t, ctx, n, "", refused)
		}},
		{"bodies that do not end", unendingBodies},
		{"WebSocket messages that do not end", unendingMessages},
		{"clients that read nothing", deafClients},
		{"sockets that say nothing", silentSockets},
	} {
		t.Run(a.name, func(t *testing.T) { endure(t, n, a, &got) })
	}
}

// endure has the node attacked for a while.
func endure(t *testing.T, n *node, a attack, got *atomic.Int64) {
	ctx, stop := context.WithTimeout(t.Context(), 4*time.Second)
	defer stop()
	var refused, peak atomic.Int64
	var wg sync.WaitGroup
	wg.Go(func() { a.run(t, ctx, n, &refused) })
	wg.Go(func() {
		for ctx.Err() == nil {
			peak.Store(max(peak.Load(), int64(n.resident())))
			time.Sleep(5 * time.Millisecond)
		}
	})
	c := httpClient(t, 5*time.Second)
	before, sent := got.Load(), int64(0)
	for ctx.Err() == nil { // a publisher who comes back when he is refused
		if _, err := publish(ctx, c, n.url(), "good", "live=1", "x"); err == nil {
			sent++
		}
		time.Sleep(20 * time.Millisecond)
	}
	wg.Wait()
	t.Logf("%d MiB at most, %d refusals, %d messages published meanwhile", peak.Load(), refused.Load(), sent)
	if peak.Load() > memoryLimit {
		t.Errorf("it took %d MiB, more than its limit of %d", peak.Load(), memoryLimit)
	}
	if refused.Load() == 0 {
		t.Error("nothing was refused: this is no attack")
	}
	if sent < 3 { // of some hundred that he tries
		t.Errorf("a good publisher got %d messages through", sent)
	}
	until(t, 5*time.Second, "what was published meanwhile arrives", func() bool { return got.Load()-before >= sent })
	until(t, 20*time.Second, "it is ready again", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		return answers(ctx, c, n.url()+"/readyz") == nil
	})
}

// lanes runs do in many goroutines until ctx ends.
func lanes(ctx context.Context, many int, do func(i int)) {
	var wg sync.WaitGroup
	for i := range many {
		wg.Go(func() {
			for ctx.Err() == nil {
				do(i)
			}
		})
	}
	wg.Wait()
}

// publishLarge listens to some hundred channels and publishes as much as it can to each.
func publishLarge(t *testing.T, ctx context.Context, n *node, query string, refused *atomic.Int64) {
	for i := range 10 {
		var path strings.Builder
		for j := range 60 {
			fmt.Fprintf(&path, "channel=big%d.%d&", i, j)
		}
		conn, _, err := websocket.DefaultDialer.Dial("ws://"+n.addr+"/ws?"+path.String(), nil)
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		go func() { // ends with the connection
			for {
				_, r, err := conn.NextReader()
				if err != nil {
					return
				}
				_, _ = io.Copy(io.Discard, r)
			}
		}()
	}
	body := strings.Repeat("x", 1<<20)
	c := httpClient(t, 5*time.Second)
	var next atomic.Int64
	lanes(ctx, 8, func(int) {
		k := next.Add(1)
		if _, err := publish(ctx, c, n.url(), fmt.Sprintf("big%d.%d", k%10, k/10%60), query, body); err != nil && ctx.Err() == nil {
			refused.Add(1)
		}
	})
}

// held keeps what do returns until ctx ends, and has many made.
func held(ctx context.Context, many int, do func() net.Conn) {
	var mu sync.Mutex
	var all []net.Conn
	sub, stop := context.WithCancel(ctx)
	lanes(sub, 16, func(int) {
		c := do()
		mu.Lock()
		defer mu.Unlock()
		if c != nil {
			all = append(all, c)
		}
		if len(all) >= many {
			stop()
		}
	})
	stop()
	<-ctx.Done()
	for _, c := range all {
		c.Close()
	}
}

// unendingBodies announces 4 MiB and sends almost all of it.
func unendingBodies(_ *testing.T, ctx context.Context, n *node, refused *atomic.Int64) {
	body := `{"channel":"a","data":"` + strings.Repeat("x", 4<<20-100)
	held(ctx, 300, func() net.Conn {
		c, err := net.Dial("tcp", n.addr)
		if err != nil {
			refused.Add(1)
			return nil
		}
		_ = c.SetDeadline(time.Now().Add(3 * time.Second))
		_, err = fmt.Fprintf(c, "POST /publish HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", 4<<20, body)
		if err != nil {
			refused.Add(1)
			c.Close()
			return nil
		}
		return c
	})
}

// unendingMessages sends almost all of a WebSocket message, on each of many connections.
func unendingMessages(_ *testing.T, ctx context.Context, n *node, refused *atomic.Int64) {
	head := append(binary.BigEndian.AppendUint64([]byte{0x81, 0x80 | 127}, 64<<10), 0, 0, 0, 0)
	frame := append(head, strings.Repeat("x", 64<<10-1)...)
	d := websocket.Dialer{Subprotocols: []string{subprotocol}, HandshakeTimeout: 3 * time.Second}
	held(ctx, 4000, func() net.Conn {
		conn, _, err := d.Dial("ws://"+n.addr+"/ws", nil)
		if err != nil {
			refused.Add(1)
			return nil
		}
		c := conn.NetConn()
		_ = c.SetDeadline(time.Now().Add(3 * time.Second))
		if _, err := c.Write(frame); err != nil {
			refused.Add(1)
			c.Close()
			return nil
		}
		go func() { // refusals come a little later
			_, _, err := conn.ReadMessage()
			for err == nil {
				_, _, err = conn.ReadMessage()
			}
			if websocket.IsCloseError(err, websocket.CloseTryAgainLater) {
				refused.Add(1)
			}
		}()
		return c
	})
}

// deafClients listens to channels with large messages and reads nothing.
func deafClients(t *testing.T, ctx context.Context, n *node, refused *atomic.Int64) {
	var wg sync.WaitGroup
	wg.Go(func() {
		held(ctx, 3000, func() net.Conn {
			c, err := net.Dial("tcp", n.addr)
			if err != nil {
				refused.Add(1)
				return nil
			}
			_, _ = fmt.Fprintf(c, "GET /sse?channel=loud.%d HTTP/1.1\r\nHost: a\r\n\r\n", time.Now().UnixNano()%50)
			return c
		})
	})
	body := strings.Repeat("x", 512<<10)
	c := httpClient(t, 5*time.Second)
	var next atomic.Int64
	lanes(ctx, 4, func(int) {
		if _, err := publish(ctx, c, n.url(), fmt.Sprintf("loud.%d", next.Add(1)%50), "live=1", body); err != nil && ctx.Err() == nil {
			refused.Add(1)
		}
	})
	wg.Wait()
}

// silentSockets opens connections and says nothing, or asks for one thing again and again.
func silentSockets(_ *testing.T, ctx context.Context, n *node, refused *atomic.Int64) {
	held(ctx, 15_000, func() net.Conn {
		c, err := net.Dial("tcp", n.addr)
		if err != nil {
			refused.Add(1)
			return nil
		}
		_ = c.SetDeadline(time.Now().Add(2 * time.Second))
		_, _ = io.WriteString(c, "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
		if _, err := io.ReadFull(c, make([]byte, len("HTTP/1.1 200"))); err != nil {
			refused.Add(1)
			c.Close()
			return nil
		}
		return c
	})
}
