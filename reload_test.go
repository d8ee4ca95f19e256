package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sluice/middleware"
)

// logbook is a log that may be read while it is written.
type logbook struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logbook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// lines returns the lines that contain all of the words.
func (l *logbook) lines(words ...string) (found []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.text.String()) {
		if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(line, w) }) {
			found = append(found, line)
		}
	}
	return found
}

// settingsFile is one that a node follows.
type settingsFile struct {
	*testing.T
	path string
}

func newSettingsFile(t *testing.T, text string) *settingsFile {
	t.Helper()
	f := &settingsFile{t, filepath.Join(t.TempDir(), "sluice.yaml")}
	f.write(text)
	return f
}

// write writes into the file as it is.
func (f *settingsFile) write(text string) {
	f.Helper()
	if err := os.WriteFile(f.path, []byte(text), 0o600); err != nil {
		f.Fatal(err)
	}
}

// replace renames another file over it, as editors do.
func (f *settingsFile) replace(text string) {
	f.Helper()
	other := &settingsFile{f.T, f.path + ".new"}
	other.write(text)
	if err := os.Rename(other.path, f.path); err != nil {
		f.Fatal(err)
	}
}

// newWatched returns a program that follows the file and does not run: the test looks for it.
func newWatched(t *testing.T, f *settingsFile, args ...string) (*Program, *logbook) {
	t.Helper()
	l, err := loadText(t, "", []string{"SLUICE_CONFIG=" + f.path}, append([]string{"--listen=127.0.0.1:0", "--drain-time=0", "--dev"}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	log := new(logbook)
	p, err := NewProgram(l, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	return p, log
}

// rateOf returns the rate in force for newcomers to channel.
func rateOf(t *testing.T, p *Program, channel string) string {
	t.Helper()
	e, err := p.policies.For(channel, middleware.Delivery{})
	if err != nil {
		t.Fatal(err)
	}
	var d struct{ Rate string }
	if err := json.Unmarshal(e.AppendJSON(nil), &d); err != nil {
		t.Fatal(err)
	}
	return d.Rate
}

const (
	fast = "channels: [{match: a, deliver: {rate: 10/s}}]\n"
	slow = "channels: [{match: a, deliver: {rate: 1/s}, history: {messages: 3}}]\n"
	bad  = "channels: [{match: a, deliver: {rate: often}}]\n"
)

// TestWatch takes the steps of a watch one by one.
func TestWatch(t *testing.T) {
	f := newSettingsFile(t, fast)
	p, log := newWatched(t, f)
	w := p.watch
	look := func(want time.Duration) {
		t.Helper()
		if got := w.look(); got != want {
			t.Errorf("looks again after %v, want %v", got, want)
		}
	}
	is := func(rate string, errors int, trouble string) {
		t.Helper()
		if got := rateOf(t, p, "a"); got != rate {
			t.Errorf("rate %q, want %q", got, rate)
		}
		if got := log.lines("level=ERROR"); len(got) != errors {
			t.Errorf("%d errors in the log, want %d: %q", len(got), errors, got)
		}
		if got := strings.Join(p.status(), ""); !strings.Contains(got, trouble) || trouble == "" && got != "" {
			t.Errorf("status %q, want %q", got, trouble)
		}
	}
	look(watchInterval)
	is("10/s", 0, "")

	f.write("") // who writes into a file empties it first
	look(settleTime)
	f.write(slow)
	look(settleTime)
	is("10/s", 0, "")
	look(watchInterval)
	is("1/s", 0, "")
	if messages, _ := p.inForce.Load().History("a"); messages != 3 {
		t.Errorf("history of %d messages, want 3", messages)
	}

	f.write("") // and may change nothing in the end
	look(settleTime)
	f.write(slow)
	look(watchInterval)
	is("1/s", 0, "")

	f.replace(bad)
	look(settleTime)
	for range 3 {
		look(watchInterval)
		is("1/s", 1, `rate "often" can't be used`)
	}
	f.replace(bad + "# still\n")
	look(settleTime)
	look(watchInterval)
	is("1/s", 2, "sluice.yaml:1")
	if err := os.Remove(f.path); err != nil {
		t.Fatal(err)
	}
	look(settleTime)
	for range 3 {
		look(watchInterval)
		is("1/s", 3, "no such file")
	}
	f.replace(fast)
	look(settleTime)
	look(watchInterval)
	is("10/s", 3, "")
	if got := log.lines("level=INFO", `msg="channels reloaded"`, "rules=1"); len(got) != 2 {
		t.Errorf("reloaded %d times, want 2: %q", len(got), got)
	}
}

// TestWatchOldFile: one that nobody has touched for long is not read again, and is found all the same when it changes.
func TestWatchOldFile(t *testing.T) {
	f := newSettingsFile(t, fast)
	age := func() {
		t.Helper()
		if err := os.Chtimes(f.path, time.Time{}, time.Now().Add(-time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	age()
	p, _ := newWatched(t, f)
	p.watch.look()
	if !p.watch.untouched() {
		t.Error("an old file counts as touched")
	}
	f.replace(strings.Replace(fast, "10/s", "20/s", 1)) // of the same length
	age()                                               // and, but for nanoseconds, of the same time
	if p.watch.untouched() {
		t.Error("another file counts as the same")
	}
	p.watch.look()
	p.watch.look()
	if got := rateOf(t, p, "a"); got != "20/s" {
		t.Errorf("rate %q, want 20/s", got)
	}
}

// TestWatchDirectory: Kubernetes swaps a link to the directory of the file; nothing else changes.
func TestWatchDirectory(t *testing.T) {
	dir := t.TempDir()
	volume := func(name, text string) {
		t.Helper()
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		(&settingsFile{t, filepath.Join(dir, name, "sluice.yaml")}).write(text)
		if err := os.Symlink(name, filepath.Join(dir, "..data_tmp")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	volume("..2026_01", fast)
	f := &settingsFile{t, filepath.Join(dir, "sluice.yaml")}
	if err := os.Symlink(filepath.Join("..data", "sluice.yaml"), f.path); err != nil {
		t.Fatal(err)
	}
	p, _ := newWatched(t, f)
	p.watch.look()
	volume("..2026_02", slow)
	if err := os.RemoveAll(filepath.Join(dir, "..2026_01")); err != nil {
		t.Fatal(err)
	}
	p.watch.look()
	p.watch.look()
	if got := rateOf(t, p, "a"); got != "1/s" {
		t.Errorf("rate %q, want 1/s", got)
	}
}

// pipe returns the name of a pipe that has text in it, and ends after it unless it is open.
func pipe(t *testing.T, text string, open bool) string {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	if _, err := w.WriteString(text); err != nil {
		t.Fatal(err)
	}
	if !open {
		w.Close()
	}
	return fmt.Sprintf("/dev/fd/%d", r.Fd())
}

// TestWatchPipe: what is no file is read at the start only. A second look would find it empty, which is no rules, or wait
// for ever, and the node could not stop.
func TestWatchPipe(t *testing.T) {
	p, _ := newWatched(t, &settingsFile{t, pipe(t, fast, false)})
	if got := rateOf(t, p, "a"); got != "10/s" || p.watch != nil {
		t.Errorf("rate %q, watch %v; want 10/s, and no watch", got, p.watch)
	}

	f := newSettingsFile(t, fast)
	p, log := newWatched(t, f)
	p.watch.look()
	if err := os.Remove(f.path); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(pipe(t, "", true), f.path); err != nil {
		t.Fatal(err)
	}
	p.watch.look()
	p.watch.look()
	if got := log.lines("level=ERROR", "is not a regular file"); len(got) != 1 || rateOf(t, p, "a") != "10/s" {
		t.Errorf("a file that became a pipe: rate %q, log %q", rateOf(t, p, "a"), got)
	}
	f.replace(slow)
	p.watch.look()
	p.watch.look()
	if got := rateOf(t, p, "a"); got != "1/s" {
		t.Errorf("rate %q once it is a file again, want 1/s", got)
	}
}

// TestWatchRestart: settings that a reload does not change are named, without their values.
func TestWatchRestart(t *testing.T) {
	f := newSettingsFile(t, "heartbeat: 5s\nredis: redis://:hunter2@127.0.0.1:1\nring-messages: 100\n"+fast)
	p, log := newWatched(t, f, "--max-lag=2m")
	tests := []struct{ name, text, want, why string }{
		{"the same", "redis: redis://:hunter2@127.0.0.1:1\nheartbeat: 5s\nring-messages: 100\n" + slow, "", "order does not count"},
		{"changed", "heartbeat: 6s\nredis: redis://:hunter3@127.0.0.1:1\nring-messages: 100\n" + slow, `settings="[redis heartbeat]"`, "also of a secret, that it has changed"},
		{"gone", "redis: redis://:hunter2@127.0.0.1:1\nring-messages: 100\n" + slow, "settings=[heartbeat]", "the default counts again"},
		{"overridden", "redis: redis://:hunter2@127.0.0.1:1\nheartbeat: 5s\nring-messages: 100\nmax-lag: 3m\n" + slow, "", "the flag wins after a restart, too"},
	}
	for _, tt := range tests {
		before := len(log.lines("level=WARN"))
		f.write(tt.text)
		p.watch.look()
		p.watch.look()
		lines := log.lines("level=WARN")[before:]
		if tt.want == "" && len(lines) > 0 || tt.want != "" && (len(lines) != 1 || !strings.Contains(lines[0], tt.want)) {
			t.Errorf("%s: got the warnings %q, want %q: %s", tt.name, lines, tt.want, tt.why)
		}
	}
	f.write("redis: redis://:hunter2@127.0.0.1:1\nheartbeat: 5s\nring-messages: 2000\nchannels: [{match: a, slow: {ring: 1000, then: gap}}]\n")
	p.watch.look()
	p.watch.look()
	if got := log.lines("level=ERROR"); len(got) != 1 || !strings.Contains(got[0], "use 16 to 100, or raise ring-messages and restart") {
		t.Errorf("a ring that is only there after a restart: got %q", got)
	}
	if got := log.lines("hunter"); len(got) > 0 {
		t.Errorf("the log shows a secret: %q", got)
	}
}

// TestReload: a running node takes another file without losing a session; a bad one changes nothing and is told.
func TestReload(t *testing.T) {
	t.Parallel()
	const none, strict = "# no rules\n", "channels: [{match: news, deliver: {filter: 'event != \"debug\"'}}]\n"
	f := newSettingsFile(t, none)
	n := startNode(t, "--dev", "--config", f.path)
	res, err := http.Get(n.base + "/sse?channel=news")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	stop := time.AfterFunc(3*patience, func() { res.Body.Close() })
	defer stop.Stop()
	stream := bufio.NewScanner(res.Body)
	until := func(data string) (seen []string) { // what comes before it
		t.Helper()
		for stream.Scan() {
			if d, ok := strings.CutPrefix(stream.Text(), "data: "); ok {
				if d == data {
					return seen
				}
				seen = append(seen, d)
			}
		}
		t.Fatalf("the session ended before %s: %v", data, stream.Err())
		return nil
	}
	count := 0
	filtered := func() bool { // whether messages with the event debug are missing
		t.Helper()
		count++
		for _, message := range []string{fmt.Sprintf("noise %d?event=debug", count), fmt.Sprint(count)} {
			data, query, _ := strings.Cut(message, "?")
			res, err := http.Post(n.base+"/publish/news?"+query, "text/plain", strings.NewReader(data))
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
		}
		return !slices.Contains(until(fmt.Sprint(count)), fmt.Sprintf("noise %d", count))
	}
	noted := func() bool { // whether readyz has a note
		t.Helper()
		status, body := get(t, http.DefaultClient, n.base+"/readyz")
		if status != http.StatusOK {
			t.Errorf("readyz: got %d %s", status, body)
		}
		return strings.Contains(body, `"notes":["settings file can't be used, and what was in force stays so: channels deliver rate (sluice.yaml:1): `)
	}
	if filtered() || noted() {
		t.Error("at the start there is a filter or a note")
	}
	f.replace(strict)
	if !settles(filtered) {
		t.Fatal("the filter does not take hold of the session")
	}
	f.replace(bad)
	if !settles(noted) {
		t.Fatal("readyz says nothing of a bad file")
	}
	if !filtered() {
		t.Error("a bad file has changed the policy")
	}
	f.write(none)
	if !settles(func() bool { return !noted() && !filtered() }) {
		t.Fatal("a mended file does not take hold")
	}
}

// TestHangup: SIGHUP has the file read at once, also if it is the same; without a file it ends the program as ever.
func TestHangup(t *testing.T) {
	t.Parallel()
	f := newSettingsFile(t, fast)
	p := startProcess(t, "--dev", "--listen=127.0.0.1:0", "--drain-time=0", "--config", f.path)
	hangup := func(want string) {
		t.Helper()
		if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		p.await(t, regexp.MustCompile(want))
	}
	hangup(`level=INFO msg="channels reloaded" file=\S+ rules=1`)
	f.replace(bad)
	hangup(`level=ERROR msg="settings file can't be used.*" file=\S+ err="channels deliver rate \(sluice.yaml:1\)`)
	f.replace("channels: [{match: a}, {match: b}]\n")
	hangup(`level=INFO msg="channels reloaded" file=\S+ rules=2`)
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := p.exit(t); code != exitOK {
		t.Errorf("exit code %d, want 0", code)
	}

	p = startProcess(t, "--dev", "--listen=127.0.0.1:0")
	if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	if code := p.exit(t); code != -1 {
		t.Errorf("without a file: exit code %d, want an end by the signal", code)
	}
}
