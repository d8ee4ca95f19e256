package e2e

import (
	"bufio"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// browser is a Chromium with one page, driven by browser/driver.mjs.
type browser struct {
	t       *testing.T
	in      io.WriteCloser
	answers chan json.RawMessage
}

// startBrowser starts Chromium, or skips the test where there is none.
func startBrowser(t *testing.T) *browser {
	t.Helper()
	wantProgram(t, "BROWSER", "Chromium", "install it (apt-get install chromium) or name it in CHROMIUM",
		os.Getenv("CHROMIUM"), "/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome")
	b := &browser{t: t, answers: make(chan json.RawMessage)}
	b.in = startDriver(t, "BROWSER", b.answers, "driver.mjs")
	return b
}

// wantProgram returns the path of a program out of the places where it may be, or skips the test where it is in none; with
// SLUICE_REQUIRE_name=1 it fails.
func wantProgram(t *testing.T, name, what, fix string, places ...string) string {
	t.Helper()
	for _, place := range places {
		if path, err := exec.LookPath(place); place != "" && err == nil {
			return path
		}
	}
	missing(t, name, what, fix)
	return ""
}

func missing(t *testing.T, name, what, fix string) {
	t.Helper()
	if os.Getenv("SLUICE_REQUIRE_"+name) == "1" {
		t.Fatalf("SLUICE_REQUIRE_%s=1 and no %s: %s", name, what, fix)
	}
	t.Skipf("no %s: %s", what, fix)
}

// startDriver starts a script of browser/, which ends with the test. It returns its input and passes its lines on, each of which must be
// taken; the end of lines is its end.
func startDriver(t *testing.T, name string, lines chan<- json.RawMessage, script ...string) io.WriteCloser {
	t.Helper()
	node := wantProgram(t, name, "Node", "install Node 20 or newer", "node")
	if _, err := os.Stat(filepath.Join("browser", "node_modules", "puppeteer-core")); err != nil {
		missing(t, name, "playwright-core and puppeteer-core", "run npm ci in e2e/browser, or ./test.sh, which does")
	}
	cmd := exec.Command(node, script...)
	cmd.Dir, cmd.Stderr, cmd.SysProcAttr = "browser", os.Stderr, orphanless()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended, leaving := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		defer close(lines)
		r := bufio.NewReader(out)
		for {
			line, err := r.ReadBytes('\n')
			if err != nil {
				_ = cmd.Wait()
				return
			}
			select {
			case lines <- line:
			case <-leaving: // a late answer must not keep the reader
			}
		}
	}()
	t.Cleanup(func() {
		close(leaving)
		in.Close()
		kill := time.AfterFunc(10*time.Second, func() { _ = cmd.Process.Kill() })
		defer kill.Stop()
		<-ended
	})
	return in
}

// browserTime bounds one step of the browser.
const browserTime = 30 * time.Second

// do has the driver do one thing and reads its answer into value, if that is not nil.
func (b *browser) do(name string, args map[string]any, value any) {
	b.t.Helper()
	command := map[string]any{"do": name}
	for k, v := range args {
		command[k] = v
	}
	line, err := json.Marshal(command)
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := b.in.Write(append(line, '\n')); err != nil {
		b.t.Fatalf("browser: %v", err)
	}
	var answer struct {
		Value json.RawMessage
		Error string
	}
	select {
	case line, ok := <-b.answers:
		if !ok {
			b.t.Fatalf("browser: the driver ended; its complaint is above")
		}
		if err := json.Unmarshal(line, &answer); err != nil {
			b.t.Fatalf("browser: %.200q: %v", line, err)
		}
	case <-time.After(browserTime):
		b.t.Fatalf("browser: no answer to %s within %v", name, browserTime)
	}
	if answer.Error != "" {
		b.t.Fatalf("browser: %s: %s", name, answer.Error)
	}
	if value != nil {
		if err := json.Unmarshal(answer.Value, value); err != nil {
			b.t.Fatalf("browser: %s: %v", name, err)
		}
	}
}

// open loads a page. A text page such as /healthz is a blank one of the node's own origin.
func (b *browser) open(url string) {
	b.t.Helper()
	var status int
	b.do("open", map[string]any{"url": url}, &status)
	if status != 200 {
		b.t.Fatalf("browser: %s answered %d", url, status)
	}
}

// run calls a function in the page.
func (b *browser) run(script string, arg, value any) {
	b.t.Helper()
	b.do("run", map[string]any{"script": script, "arg": arg}, value)
}

// wait waits until a function in the page returns something true.
func (b *browser) wait(script string, arg any) {
	b.t.Helper()
	b.do("wait", map[string]any{"script": script, "arg": arg, "within": 15000}, nil)
}

// Widths of a window, in CSS pixels.
const (
	desktop = 1280
	phone   = 390
)

// shot writes a screenshot to browser/out.
func (b *browser) shot(name string, dark bool, width int) {
	b.t.Helper()
	b.do("shot", map[string]any{"path": filepath.Join("out", name), "dark": dark, "width": width}, nil)
}

// look has the page look so from now on.
func (b *browser) look(dark bool, width int) {
	b.t.Helper()
	b.do("look", map[string]any{"dark": dark, "width": width}, nil)
}

// press presses a key on the keyboard.
func (b *browser) press(key string) {
	b.t.Helper()
	b.do("press", map[string]any{"key": key}, nil)
}

// tab goes on in the n-th tab of the window, from 0, and opens it if it is not there.
func (b *browser) tab(n int) {
	b.t.Helper()
	b.do("tab", map[string]any{"n": n}, nil)
}

// closeTab closes the tab and goes on in the first one that is left.
func (b *browser) closeTab() {
	b.t.Helper()
	b.do("close", nil, nil)
}

// noise returns what the page has complained about: errors, warnings, broken content policy.
func (b *browser) noise() (all []string) {
	b.t.Helper()
	b.do("noise", nil, &all)
	return all
}
