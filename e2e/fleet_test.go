package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"testing"
	"time"
)

// fleet is a browser with many pages, driven by browser/pages.mjs. Its methods may be called concurrently.
type fleet struct {
	kind string // "chromium" or "firefox"
	in   io.WriteCloser

	mu    sync.Mutex
	last  int
	waits map[int]chan fleetAnswer
	ended bool
}

type fleetAnswer struct {
	ID    int
	Value json.RawMessage
	Error string
}

// startFleet starts a browser without pages, or skips the test where there is none.
func startFleet(t *testing.T, kind string) *fleet {
	t.Helper()
	name := "BROWSER"
	if kind == "firefox" {
		name = "FIREFOX"
		wantProgram(t, name, "Firefox", "install it (apt-get install firefox-esr) or name it in FIREFOX", os.Getenv("FIREFOX"), "firefox-esr", "firefox")
	} else {
		wantProgram(t, name, "Chromium", "install it (apt-get install chromium) or name it in CHROMIUM",
			os.Getenv("CHROMIUM"), "/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome")
	}
	f := &fleet{kind: kind, waits: map[int]chan fleetAnswer{}}
	lines := make(chan json.RawMessage)
	handed := make(chan struct{})
	t.Cleanup(func() { <-handed })
	f.in = startDriver(t, name, lines, "pages.mjs", kind)
	go func() {
		defer close(handed)
		f.hand(lines)
	}()
	return f
}

// hand gives each answer to who waits for it.
func (f *fleet) hand(lines <-chan json.RawMessage) {
	for line := range lines {
		var a fleetAnswer
		if err := json.Unmarshal(line, &a); err != nil {
			a.Error = err.Error()
		}
		f.mu.Lock()
		if wait := f.waits[a.ID]; wait != nil {
			wait <- a // has room
			delete(f.waits, a.ID)
		}
		f.mu.Unlock()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended = true
	for _, wait := range f.waits {
		wait <- fleetAnswer{Error: "the driver ended; its complaint is above"}
	}
	clear(f.waits)
}

// do has the driver do one thing with a page and reads its answer into value, if that is not nil.
func (f *fleet) do(name, page string, args map[string]any, value any) error {
	command := map[string]any{"do": name, "page": page}
	for k, v := range args {
		command[k] = v
	}
	wait := make(chan fleetAnswer, 1)
	f.mu.Lock()
	f.last++
	command["id"] = f.last
	f.waits[f.last] = wait
	line, err := json.Marshal(command)
	if err == nil && f.ended {
		err = errors.New("the driver has ended")
	}
	if err == nil {
		_, err = f.in.Write(append(line, '\n'))
	}
	f.mu.Unlock()
	if err != nil {
		return err
	}
	slow := time.NewTimer(2 * browserTime)
	defer slow.Stop()
	select {
	case a := <-wait:
		if a.Error != "" {
			return fmt.Errorf("%s: %s: %s", f.kind, name, a.Error)
		}
		if value == nil {
			return nil
		}
		return json.Unmarshal(a.Value, value)
	case <-slow.C:
		return fmt.Errorf("%s: no answer to %s within %v", f.kind, name, 2*browserTime)
	}
}

// open loads a page in a tab that is called page.
func (f *fleet) open(page, url string) error {
	var status int
	if err := f.do("open", page, map[string]any{"url": url}, &status); err != nil {
		return err
	}
	if status != 200 {
		return fmt.Errorf("%s: %s answered %d", f.kind, url, status)
	}
	return nil
}

// run calls a function in the page.
func (f *fleet) run(page, script string, arg, value any) error {
	return f.do("run", page, map[string]any{"script": script, "arg": arg}, value)
}
