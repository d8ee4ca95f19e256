package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// process is a server that the tool has started.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
}

// startProcess runs a program pinned to one core and waits until it listens.
func startProcess(core int, env []string, listen, logFile string, argv ...string) (*process, error) {
	if c, err := net.DialTimeout("tcp", listen, 200*time.Millisecond); err == nil {
		_ = c.Close()
		return nil, fmt.Errorf("start %s: something listens on %s already", filepath.Base(argv[0]), listen)
	}
	log, err := os.Create(logFile)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command("taskset", append([]string{"-c", strconv.Itoa(core)}, argv...)...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(os.Environ(), env...)
	// If the tool ends, by Ctrl-C or by accident, the server goes with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", argv[0], err)
	}
	p := &process{cmd: cmd, done: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // how it ended shows in its log
		close(p.done)
	}()
	if err := p.awaitListening(listen); err != nil {
		p.stop()
		return nil, fmt.Errorf("start %s: %w; see %s", filepath.Base(argv[0]), err, logFile)
	}
	return p, nil
}

func (p *process) awaitListening(addr string) error {
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if c, err := net.DialTimeout("tcp", addr, 200*time.Millisecond); err == nil {
			return c.Close()
		}
		select {
		case <-deadline:
			return fmt.Errorf("it does not listen on %s", addr)
		case <-p.done:
			return fmt.Errorf("it ended")
		case <-tick.C:
		}
	}
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// stop ends the process, first politely, and waits for it.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended already
	select {
	case <-p.done:
		return
	case <-time.After(2 * time.Second):
	}
	_ = p.cmd.Process.Kill()
	<-p.done
}

// site is where servers are started: their programs, their logs, their cores.
type site struct {
	bin, logs            string
	serverCore, loadCore int
}

// start starts a target with its Redis, which shares the tool's core. The first process is the
// one to be measured; it gets more arguments.
func (s *site) start(t *Target, more []string) ([]*process, error) {
	var ps []*process
	if t.Redis {
		r, err := startProcess(s.loadCore, nil, redisAddr, s.log(t, "redis"), "redis-server", "--bind", "127.0.0.1",
			"--port", redisAddr[len("127.0.0.1:"):], "--save", "", "--appendonly", "no", "--daemonize", "no")
		if err != nil {
			return nil, err
		}
		ps = append(ps, r)
	}
	var env []string
	if t.terms != nil {
		env = t.terms.Env
	}
	p, err := startProcess(s.serverCore, env, t.addr, s.log(t, t.Server), slices.Concat([]string{filepath.Join(s.bin, t.Server)}, t.args, more)...)
	if err != nil {
		stopAll(ps)
		return nil, err
	}
	return append([]*process{p}, ps...), nil
}

// settings writes the settings file of t in a scenario, and returns the arguments that name it: none
// if there is none.
func (s *site) settings(t *Target, sc *Scenario) ([]string, error) {
	rules := sc.Rules
	if t.terms != nil && t.terms.Rules != "" {
		rules = t.terms.Rules
	}
	if rules == "" {
		return nil, nil
	}
	name := filepath.Join(s.logs, sc.Name+"."+t.Name+".yaml")
	return []string{"--config", name}, os.WriteFile(name, []byte(rules), 0o644)
}

func (s *site) log(t *Target, program string) string {
	return filepath.Join(s.logs, t.Name+"."+program+".log")
}

func stopAll(ps []*process) {
	for _, p := range ps {
		p.stop()
	}
}
