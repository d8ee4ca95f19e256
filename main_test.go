package main

import (
	"bufio"
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

// patience bounds every wait of these tests.
const patience = 20 * time.Second

// asProgram makes the test binary the program itself.
const asProgram = "TEST_BINARY_IS_SLUICE"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	before := runtime.NumGoroutine()
	code := m.Run()
	quiet := func() bool {
		http.DefaultClient.CloseIdleConnections() // again and again: one may have been dialled in vain and be idle only now
		return runtime.NumGoroutine() <= before
	}
	fuzzing := flag.Lookup("test.fuzz").Value.String() != "" // has goroutines of its own
	if code == 0 && !fuzzing && !settles(quiet) {
		stacks := make([]byte, 1<<20)
		fmt.Fprintf(os.Stderr, "goroutines are left over:\n%s\n", stacks[:runtime.Stack(stacks, true)])
		code = 1
	}
	os.Exit(code)
}

// settles polls until ok answers true, for as long as patience lasts.
func settles(ok func() bool) bool {
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}

// shell runs one command and returns what it printed and its exit code.
func shell(t *testing.T, in string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var out, err bytes.Buffer
	term := &terminal{in: strings.NewReader(in), out: &out, err: &err}
	code = term.run(ctx, args)
	if ctx.Err() != nil {
		t.Errorf("%q did not end in time", args)
	}
	return out.String(), err.String(), code
}

func TestCommandLine(t *testing.T) {
	tests := []struct {
		name     string
		args     []string
		code     int
		out, err string // contained in it
	}{
		{"help", []string{"help"}, 0, "Commands:\n  serve", ""},
		{"help flag", []string{"--help"}, 0, "Commands:\n", ""},
		{"help of a command", []string{"help", "tail"}, 0, "--resume token", ""},
		{"help flag of a command", []string{"tail", "-h"}, 0, "--resume token", ""},
		{"help flag among others", []string{"--dev", "--help"}, 0, "sluice serve", ""},
		{"help on settings", []string{"help", "settings"}, 0, "--heartbeat ", ""},
		{"help on nothing", []string{"help", "tial"}, 2, "", "sluice: no help on \"tial\"; did you mean sluice help tail?\n"},
		{"version", []string{"version"}, 0, "sluice ", ""},
		{"version flag", []string{"--version"}, 0, "sluice ", ""},
		{"version with more", []string{"version", "x"}, 2, "", "takes no arguments"},
		{"unknown command", []string{"serv"}, 2, "", "sluice: unknown command \"serv\"; did you mean serve?\n"},
		{"unknown command like none", []string{"frobnicate"}, 2, "", "sluice help lists them"},
		{"unknown flag", []string{"--lisen=:80"}, 2, "", "sluice: unknown flag --lisen; did you mean --listen?\n"},
		{"serve with an argument", []string{"serve", "x"}, 2, "", "takes no arguments"},
		{"config with an argument", []string{"config", "x"}, 2, "", "takes no arguments"},
		{"bad setting", []string{"--heartbeat=1"}, 2, "", "sluice: heartbeat (flag --heartbeat): "},
		{"certificate that is not there", []string{"--tls-cert=/nonexistent", "--tls-key=/nonexistent"}, 2, "", "tls-cert and tls-key can't be used"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out, err, code := shell(t, "", tt.args...)
			if code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
			if !strings.Contains(out, tt.out) || tt.out == "" && out != "" {
				t.Errorf("standard output %q, want %q", out, tt.out)
			}
			if !strings.Contains(err, tt.err) || tt.err == "" && err != "" {
				t.Errorf("standard error %q, want %q", err, tt.err)
			}
		})
	}
}

// TestCommandManual: docs/cli.md knows all commands and their flags.
func TestCommandManual(t *testing.T) {
	text, err := os.ReadFile("docs/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range commands() {
		if !bytes.Contains(text, []byte("sluice "+c.name)) {
			t.Errorf("docs/cli.md does not know sluice %s", c.name)
		}
		c.flags.VisitAll(func(f *pflag.Flag) {
			if f.Usage != "" && !bytes.Contains(text, []byte("`--"+f.Name)) {
				t.Errorf("docs/cli.md does not know --%s of sluice %s", f.Name, c.name)
			}
		})
	}
}

// process is the program as a process of its own.
type process struct {
	cmd  *exec.Cmd
	base string
	log  *bufio.Scanner
}

func startProcess(t *testing.T, args ...string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(os.Args[0], args...)}
	p.cmd.Env = []string{asProgram + "=1"}
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // it has ended, if all went well
		_ = p.cmd.Wait()
	})
	p.log = bufio.NewScanner(stderr)
	p.base = "http://" + p.await(t, regexp.MustCompile(`msg=listening address=(\S+)`))
	return p
}

// await reads the log until a line matches, and returns the line's first group, if there is one.
func (p *process) await(t *testing.T, line *regexp.Regexp) string {
	t.Helper()
	stop := time.AfterFunc(patience, func() { _ = p.cmd.Process.Kill() }) // which ends the log
	defer stop.Stop()
	for p.log.Scan() {
		if m := line.FindStringSubmatch(p.log.Text()); m != nil {
			return m[len(m)-1]
		}
	}
	t.Fatalf("the log ended before %s", line)
	return ""
}

// exit waits for the end and returns the exit code.
func (p *process) exit(t *testing.T) int {
	t.Helper()
	stop := time.AfterFunc(patience, func() { _ = p.cmd.Process.Kill() })
	defer stop.Stop()
	for p.log.Scan() {
		t.Log(p.log.Text())
	}
	_ = p.cmd.Wait() // the state says more
	return p.cmd.ProcessState.ExitCode()
}

func TestSignals(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(sig.String(), func(t *testing.T) {
			p := startProcess(t, "--dev", "--listen=127.0.0.1:0", "--drain-time=0")
			if err := p.cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			if code := p.exit(t); code != 0 {
				t.Errorf("exit code %d, want 0", code)
			}
		})
	}
	t.Run("a second one", func(t *testing.T) {
		p := startProcess(t, "--dev", "--listen=127.0.0.1:0", "--drain-time=1h")
		res, err := http.Get(p.base + "/sse?channel=news")
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if _, err := io.ReadFull(res.Body, make([]byte, 20)); err != nil {
			t.Fatal(err)
		}
		if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		p.await(t, regexp.MustCompile(`msg=draining`))
		if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if code := p.exit(t); code != exitError {
			t.Errorf("exit code %d, want %d", code, exitError)
		}
	})
}
