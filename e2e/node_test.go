package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// node is one process of the program under test.
type node struct {
	t     *testing.T
	name  string
	addr  string // host:port; a restart keeps it
	flags []string
	env   []string // NAME=value, besides what the test has itself
	path  string   // of the program
	cmd   *exec.Cmd
	done  chan struct{} // closed when the process has ended and its log is complete

	mu  sync.Mutex
	log strings.Builder
}

// startTime bounds how long a process may take until it listens; a race build on a busy machine is slow.
const startTime = 20 * time.Second

// startNode starts a development node on a free port and waits until it listens. The test fails at
// its end if the process complained of a data race or a panic.
func startNode(t *testing.T, name string, flags ...string) *node {
	t.Helper()
	return startNodeIn(t, nil, name, flags...)
}

// startNodeIn is startNode with variables of the environment, NAME=value. Those of the test that are about nodes, SLUICE_…
// and OTEL_…, do not reach a node.
func startNodeIn(t *testing.T, env []string, name string, flags ...string) *node {
	t.Helper()
	return startProgram(t, program, env, name, flags...)
}

// startUnwatched is startNode without the race detector, for what is about memory and time: it takes several times of both.
func startUnwatched(t *testing.T, name string, flags ...string) *node {
	t.Helper()
	path := program
	if len(buildFlags) > 0 {
		path = filepath.Join(t.TempDir(), "sluice")
		if out, err := exec.Command("go", "build", "-o", path, "..").CombinedOutput(); err != nil {
			t.Fatalf("build the program: %v\n%s", err, out)
		}
	}
	return startProgram(t, path, nil, name, flags...)
}

func startProgram(t *testing.T, path string, env []string, name string, flags ...string) *node {
	t.Helper()
	n := &node{t: t, name: name, flags: flags, env: env, path: path}
	n.addr = n.start("127.0.0.1:0")
	t.Cleanup(func() {
		n.kill()
		n.mu.Lock()
		defer n.mu.Unlock()
		log := n.log.String()
		for _, sign := range []string{"DATA RACE", "panic:", `"msg":"panic`, "fatal error:"} {
			if strings.Contains(log, sign) {
				t.Errorf("node %s: %s in its log", n.name, sign)
			}
		}
		if t.Failed() {
			t.Logf("log of node %s:\n%s", n.name, tail(log, 3<<10))
		}
	})
	return n
}

func tail(s string, n int) string {
	if len(s) > n {
		return "…" + s[len(s)-n:]
	}
	return s
}

// start runs the process on addr, waits until it listens and returns where it does.
func (n *node) start(addr string) string {
	n.t.Helper()
	args := append([]string{"--dev", "--listen", addr, "--log-format", "json"}, n.flags...)
	n.cmd = exec.Command(n.path, args...)
	n.cmd.SysProcAttr = orphanless()
	n.cmd.Env = append(outside(), n.env...)
	r, w, err := os.Pipe()
	if err != nil {
		n.t.Fatal(err)
	}
	n.cmd.Stderr = w
	err = n.cmd.Start()
	w.Close()
	if err != nil {
		r.Close()
		n.t.Fatalf("start node %s: %v", n.name, err)
	}
	n.done = make(chan struct{})
	listening := make(chan string, 1)
	go n.follow(n.cmd, r, n.done, listening)
	select {
	case addr = <-listening:
	case <-n.done:
		n.t.Fatalf("node %s ended at once: %v", n.name, n.cmd.ProcessState)
	case <-time.After(startTime):
		n.t.Fatalf("node %s did not listen within %v", n.name, startTime)
	}
	return addr
}

// outside is the environment of the test without the variables that are about nodes, SLUICE_… and OTEL_….
func outside() (env []string) {
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "SLUICE_") && !strings.HasPrefix(e, "OTEL_") {
			env = append(env, e)
		}
	}
	return env
}

// follow keeps the log and reports the address that the node listens on.
func (n *node) follow(cmd *exec.Cmd, r io.ReadCloser, done chan<- struct{}, listening chan<- string) {
	defer close(done)
	defer func() { _ = cmd.Wait() }() // its state says it
	defer r.Close()
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		n.mu.Lock()
		n.log.WriteString(lines.Text() + "\n")
		n.mu.Unlock()
		var l struct{ Msg, Address string }
		if json.Unmarshal(lines.Bytes(), &l) == nil && l.Msg == "listening" {
			listening <- l.Address
		}
	}
}

// restart starts the node again on the port that it had.
func (n *node) restart() {
	n.t.Helper()
	n.start(n.addr)
}

func (n *node) signal(s syscall.Signal) {
	n.t.Helper()
	if err := n.cmd.Process.Signal(s); err != nil {
		n.t.Fatalf("node %s: %v: %v", n.name, s, err)
	}
}

// kill ends the process without a word, as kill -9 does, and waits for its end.
func (n *node) kill() {
	_ = n.cmd.Process.Kill() // it may have ended before
	<-n.done
}

// wait returns the exit code, or fails if the process still runs after d.
func (n *node) wait(d time.Duration) int {
	n.t.Helper()
	select {
	case <-n.done:
		return n.cmd.ProcessState.ExitCode()
	case <-time.After(d):
		n.t.Fatalf("node %s still runs after %v", n.name, d)
		return -1
	}
}

// httpClient never shares connections between tests, and ends what hangs.
func httpClient(t *testing.T, timeout time.Duration) *http.Client {
	tr := &http.Transport{DialContext: (&net.Dialer{Timeout: timeout}).DialContext, MaxIdleConnsPerHost: 16}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: timeout}
}

// published is the answer of the publish API.
type published struct {
	Position  string
	Duplicate bool
}

// publish posts one payload to http://addr/publish/{channel} and returns the answer once acknowledged.
func publish(ctx context.Context, c *http.Client, base, channel, query string, body string) (p published, err error) {
	url := base + "/publish/" + channel
	if query != "" {
		url += "?" + query
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		return p, err
	}
	res, err := c.Do(req)
	if err != nil {
		return p, err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	switch {
	case err != nil:
		return p, err
	case res.StatusCode != http.StatusOK:
		return p, fmt.Errorf("publish to %s: %s: %s", channel, res.Status, answer)
	}
	if err := json.Unmarshal(answer, &p); err != nil {
		return p, errors.Join(fmt.Errorf("answer %q", answer), err)
	}
	return p, nil
}

func (n *node) url() string { return "http://" + n.addr }

// until polls cond until it is true, and fails the test if that takes longer than d.
func until(t *testing.T, d time.Duration, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(d); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", d, what)
		}
	}
}
