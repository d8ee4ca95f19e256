package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Hostile connections, beside those that are measured. They come from a process of their own, which the tool starts on its core with the
// lowest priority: what the node does for them is to show in the latencies, not what they do themselves.

// enemy is a kind of hostile connection. Each comes back when the node has ended it.
type enemy struct {
	many  int           // of 5,000
	begin string        // what it sends at once
	then  string        // what it sends when it has been answered
	drip  string        // what it sends again and again after that
	every time.Duration // how often
	deaf  bool          // it reads nothing
	goes  bool          // it hangs up when it has been answered
	crowd bool          // all come from one address
}

// enemies returns all kinds. e2e has the same, and looks at what becomes of each.
func enemies(host string) []enemy {
	head := " HTTP/1.1\r\nHost: " + host + "\r\n"
	stream := "GET /sse?channel=loud" + head + "\r\n"
	socket := func(path string) string {
		return "GET /ws" + path + head + "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: c2x1aWNlIGJlbmNobWFyaw==\r\n"
	}
	quiet, loud := socket("?channel=quiet")+"\r\n", socket("?channel=loud")+"\r\n"
	ping := string(appendFrame(nil, opPing, nil))
	half := string(appendFrame(nil, opText, []byte("half")))
	half = string(half[0]&0x7f) + half[1:] // not the last of its message
	command := strings.Repeat(string(appendFrame(nil, opText, []byte(`{"type":"ping"}`))), 20)
	requests := strings.Repeat("GET /nothing"+head+"\r\n", 100)
	return []enemy{
		{many: 650},
		{many: 650, begin: "GET /sse?channel=loud HTTP/1.1\r\nX: ", drip: "a", every: time.Second},
		{many: 600, begin: "POST /publish/loud" + head + "Content-Length: 1000\r\n\r\n", drip: "x", every: time.Second},
		{many: 300, begin: "GET /healthz" + head + "\r\n"},
		{many: 50, begin: requests, drip: requests, every: 50 * time.Millisecond, deaf: true},
		{many: 200, begin: "GET /" + head + strings.Repeat("X-A: "+strings.Repeat("x", 1000)+"\r\n", 64)},
		{many: 550, begin: quiet},
		{many: 200, begin: quiet, then: half, drip: ping, every: time.Second},
		{many: 300, begin: loud, deaf: true},
		{many: 300, begin: stream, deaf: true},
		{many: 300, begin: quiet, then: ping, drip: strings.Repeat(ping, 50), every: 200 * time.Millisecond},
		{many: 100, begin: socket("") + "Sec-WebSocket-Protocol: sluice.v1.json\r\n\r\n", then: command, drip: command, every: 200 * time.Millisecond},
		{many: 100, begin: stream, drip: strings.Repeat("x", 4<<10), every: 50 * time.Millisecond},
		{many: 400, crowd: true},
		{many: 300, begin: stream, goes: true, crowd: true},
	}
}

// siege is the command that they are.
func siege(args []string) error {
	f := flag.NewFlagSet("siege", flag.ContinueOnError)
	addr := f.String("addr", "", "of the node")
	if err := f.Parse(args); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	number := 0
	for i, e := range enemies(*addr) {
		for range e.many {
			from := net.IPv4(127, 20, byte(number%4), byte(1+number/4%100))
			if e.crowd {
				from = net.IPv4(127, 30, 0, byte(1+i))
			}
			number++
			first := time.Duration(number) * 2 * time.Second / 5000
			go func() { // as long as the process
				time.Sleep(first)
				for {
					e.live(*addr, from)
					time.Sleep(time.Second)
				}
			}()
		}
	}
	return shout(ctx, "http://"+*addr+"/publish/loud?live=1")
}

// shout fills the sockets of those who do not read.
func shout(ctx context.Context, url string) error {
	body := strings.Repeat("x", 16<<10)
	for tick := time.NewTicker(200 * time.Millisecond); ; {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		res, err := http.Post(url, "text/plain", strings.NewReader(body))
		if err != nil {
			return fmt.Errorf("publish to those who do not read: %w", err)
		}
		_ = res.Body.Close()
	}
}

// live is one connection, until the node has ended it.
func (e *enemy) live(addr string, from net.IP) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: from}, Timeout: 10 * time.Second}
	c, err := d.Dial("tcp", addr)
	if err != nil {
		return // refused
	}
	defer c.Close()
	if e.deaf {
		_ = c.(*net.TCPConn).SetReadBuffer(16 << 10)
	}
	buf := make([]byte, 256)
	rest := []byte(e.begin)
	if e.then != "" || e.goes {
		_, err = c.Write(rest)
		if err == nil {
			_, err = c.Read(buf)
		}
		if err != nil || e.goes {
			return
		}
		rest = []byte(e.then)
	}
	for lived := time.Now(); ; {
		if len(rest) == 0 {
			rest = append(rest, e.drip...)
		}
		if len(rest) > 0 {
			_ = c.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
			n, err := c.Write(rest)
			if rest = rest[n:]; err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
				return
			}
		}
		wait := time.Minute
		if e.drip != "" {
			wait = e.every
		}
		if e.deaf {
			if time.Sleep(min(wait, time.Second)); time.Since(lived) > 30*time.Second {
				return // it may have been ended; only reading would tell
			}
			continue
		}
		_ = c.SetReadDeadline(time.Now().Add(wait))
		if _, err := io.Copy(io.Discard, c); err == nil || !errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
	}
}

// besiege starts them against the server, and returns when all are there.
func (r *runner) besiege() (before snapshot, stop func(), err error) {
	self, err := os.Executable()
	if err != nil {
		return r.snapshot(), func() {}, err
	}
	log, err := os.Create(filepath.Join(r.site.logs, r.target.Name+".siege.log"))
	if err != nil {
		return r.snapshot(), func() {}, err
	}
	defer log.Close()
	cmd := exec.Command("taskset", slices.Concat([]string{"-c", strconv.Itoa(r.site.loadCore), "nice", "-n", "19", self, "siege", "-addr", r.target.addr})...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return r.snapshot(), func() {}, fmt.Errorf("start the siege: %w", err)
	}
	p := &process{cmd: cmd, done: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // how it ended shows in its log
		close(p.done)
	}()
	r.loop.pause(5 * time.Second)
	select {
	case <-p.done:
		return r.snapshot(), func() {}, fmt.Errorf("the siege ended: see %s", log.Name())
	default:
	}
	return r.snapshot(), p.stop, nil
}

// descriptors returns how many the server has open.
func (r *runner) descriptors() int {
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", r.pid))
	if err != nil {
		return 0 // gone; the connections will tell
	}
	return len(list)
}
