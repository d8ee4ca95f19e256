package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// process is a program that a test needs beside Sluice and Redis. It ends with the test, however that ends.
type process struct {
	name string
	log  string        // a file
	done chan struct{} // closed when it has ended
	end  func()        // kills it and waits
}

// startProcess starts what command returns for n ports of this machine that are free, and waits until ready returns
// nil. ready is asked again and again.
func startProcess(t *testing.T, name string, n int, command func(ports []int) *exec.Cmd, ready func(ctx context.Context, ports []int) error) []int {
	t.Helper()
	// Between finding free ports and the program taking them somebody else may: try other ones then.
	for range 3 {
		ports := freePorts(t, n)
		p := &process{name: name, log: filepath.Join(t.TempDir(), name+".log"), done: make(chan struct{})}
		if err := p.start(command(ports)); err != nil {
			t.Fatalf("start %s: %v", name, err)
		}
		t.Cleanup(func() {
			p.end()
			if t.Failed() {
				t.Log(p)
			}
		})
		err := p.await(func(ctx context.Context) error { return ready(ctx, ports) })
		if err == nil {
			return ports
		}
		t.Logf("%s: %v", name, err)
	}
	t.Fatalf("%s does not start", name)
	return nil
}

func (p *process) start(cmd *exec.Cmd) error {
	log, err := os.Create(p.log)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = orphanless()
	if err := cmd.Start(); err != nil {
		return err
	}
	p.end = func() {
		_ = cmd.Process.Kill() // it may have ended before
		<-p.done
	}
	go func() {
		defer close(p.done)
		_ = cmd.Wait() // that it was killed is no news
	}()
	return nil
}

// await returns nil once ready does, and an error if the process ends or takes longer than startTime.
func (p *process) await(ready func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), startTime)
	defer cancel()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-again.C:
		case <-p.done:
			return errors.New("it ended at once")
		case <-ctx.Done():
			return fmt.Errorf("not ready within %v: %w", startTime, err)
		}
	}
}

// String is the end of its log.
func (p *process) String() string {
	b, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("log of %s:\n%s", p.name, tail(string(b), 3<<10))
}

// freePorts returns n ports of this machine that nobody listens on.
func freePorts(t *testing.T, n int) (ports []int) {
	t.Helper()
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close() // all at the end, so that no port comes twice
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports
}

// local returns the base of URLs of a port of this machine.
func local(port int) string { return fmt.Sprintf("http://127.0.0.1:%d", port) }

// answers returns nil if a GET is answered with 200.
func answers(ctx context.Context, c *http.Client, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	res, err := c.Do(req)
	if err != nil {
		return err
	}
	res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, res.Status)
	}
	return nil
}
