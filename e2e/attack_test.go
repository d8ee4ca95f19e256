package e2e

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"
)

// arena is a node under attack, whose limits are so small that attacks reach them, and witnesses: clients that were there before, and are
// not to notice.
type arena struct {
	*node
	http      *http.Client
	witnesses []*witness
	proofs    int
}

// witness is a client that listens to the channel good from the start to the end of a test.
type witness struct {
	stream
	name string
	got  chan string // payloads; closed at the end of the stream
	err  error       // before got is closed
}

// noticed is how long a message to a witness may take. It is for a machine that does other things as well.
const noticed = 5 * time.Second

// limits of a node under attack.
var arenaFlags = []string{
	"--admin", "127.0.0.1:0", "--access-log",
	"--max-channels", "8", "--max-message", "16KiB", "--max-batch", "50", "--max-command", "64KiB", "--max-header", "8KiB",
	"--command-rate", "50", "--command-burst", "50",
	"--header-timeout", "1s", "--body-timeout", "1s", "--join-timeout", "2s", "--write-timeout", "2s", "--max-lag", "4s",
	"--heartbeat", "1s", "--ring-messages", "64", "--ring-bytes", "256KiB", "--history-messages", "100", "--send-buffer", "64KiB",
}

func newArena(t *testing.T, flags ...string) *arena {
	t.Helper()
	a := &arena{node: startNode(t, "A", append(append([]string{}, arenaFlags...), flags...)...), http: httpClient(t, 10*time.Second)}
	sse, err := openSSE(t.Context(), httpClient(t, 0), a.url()+"/sse?channel=good", "", false)
	if err != nil {
		t.Fatal(err)
	}
	a.watch(t, "SSE", sse)
	for _, envelope := range []bool{false, true} {
		ws, err := openWS(t.Context(), "ws://"+a.addr+"/ws?channel=good", envelope)
		if err != nil {
			t.Fatal(err)
		}
		a.watch(t, "WebSocket", ws)
	}
	// A plain WebSocket is not told when it listens: what comes is from then on.
	for _, w := range a.witnesses {
		until(t, startTime, w.name+" listens", func() bool {
			if _, err := publish(t.Context(), a.http, a.url(), "good", "live=1", "probe"); err != nil {
				t.Fatal(err)
			}
			select {
			case <-w.got:
				return true
			case <-time.After(20 * time.Millisecond):
				return false
			}
		})
	}
	a.unharmed(t)
	t.Cleanup(func() { a.wellLogged(t) })
	return a
}

func (a *arena) watch(t *testing.T, name string, s stream) {
	w := &witness{stream: s, name: name, got: make(chan string, 1<<16)}
	a.witnesses = append(a.witnesses, w)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(w.got)
		for {
			e, err := s.next()
			if err != nil {
				w.err = err
				return
			}
			if e.kind == "message" {
				w.got <- e.data
			}
		}
	}()
	t.Cleanup(func() { s.close(); <-done })
}

// unharmed fails the test unless a message reaches all witnesses, in time.
func (a *arena) unharmed(t *testing.T) {
	t.Helper()
	a.proofs++
	proof := fmt.Sprint("proof ", a.proofs)
	began := time.Now()
	if _, err := publish(t.Context(), a.http, a.url(), "good", "", proof); err != nil {
		t.Fatalf("nobody can publish any more: %v", err)
	}
	late := time.NewTimer(noticed)
	defer late.Stop()
	for _, w := range a.witnesses {
		for got := ""; got != proof; {
			var on bool
			select {
			case got, on = <-w.got:
				if !on {
					t.Fatalf("%s has lost its connection: %v", w.name, w.err)
				}
			case <-late.C:
				t.Fatalf("%s has no message after %v", w.name, time.Since(began))
			}
		}
	}
}

// sessions returns how many connections the node counts.
func (a *arena) sessions(t *testing.T) (n int) {
	t.Helper()
	_, body := get(t, a.admin()+"/admin/stats")
	var stats struct{ Sessions []struct{ Count int } }
	if err := json.Unmarshal([]byte(body), &stats); err != nil {
		t.Fatal(err)
	}
	for _, s := range stats.Sessions {
		n += s.Count
	}
	return n
}

// alone waits until all connections but those of the witnesses are gone.
func (a *arena) alone(t *testing.T) {
	t.Helper()
	until(t, 20*time.Second, "only the witnesses are left", func() bool { return a.sessions(t) == len(a.witnesses) })
}

// wellLogged: whatever strangers send, a line of the log is one JSON object, and has nothing in it that a terminal would obey.
func (a *arena) wellLogged(t *testing.T) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for line := range strings.Lines(a.log.String()) {
		line = strings.TrimSuffix(line, "\n")
		if !json.Valid([]byte(line)) || strings.ContainsFunc(line, unicode.IsControl) {
			t.Errorf("a line of the log is %.300q", line)
		}
	}
}

// memory returns the bytes that the process has in memory; 0 where that can't be told.
func (a *arena) memory() int64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", a.cmd.Process.Pid))
	fields := strings.Fields(string(b))
	if err != nil || len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize())
}

// raw is a connection on which a stranger writes whatever he likes.
type raw struct {
	net.Conn
	r *bufio.Reader
}

// rawTime bounds all that happens on a raw connection.
const rawTime = 20 * time.Second

func (a *arena) dial(t *testing.T) *raw {
	t.Helper()
	c, err := net.Dial("tcp", a.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(rawTime))
	return &raw{c, bufio.NewReader(c)}
}

// send writes s; that the node has hung up meanwhile is for who reads to find out.
func (c *raw) send(s string) { _, _ = io.WriteString(c, s) }

// answer is what was answered to one request.
type answer struct {
	status int
	header http.Header
	last   bool // of its connection
	body   string
	code   string // of a problem
}

// answer reads one answer; io.EOF if there is none because the connection is closed.
func (c *raw) answer() (*answer, error) {
	for {
		res, err := http.ReadResponse(c.r, nil)
		if err != nil {
			return nil, ended(err)
		}
		if res.StatusCode == http.StatusContinue {
			continue
		}
		x := &answer{status: res.StatusCode, header: res.Header, last: res.Close}
		if res.StatusCode == http.StatusSwitchingProtocols || res.Header.Get("Content-Type") == "text/event-stream" {
			return x, nil
		}
		b, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
		if err != nil {
			return nil, ended(err)
		}
		x.body = string(b)
		var p struct{ Code string }
		if res.Header.Get("Content-Type") == "application/problem+json" {
			if err := json.Unmarshal(b, &p); err != nil {
				return nil, fmt.Errorf("problem %q: %w", b, err)
			}
			x.code = p.Code
		}
		return x, nil
	}
}

// ended makes io.EOF of all ways in which a connection ends; what remains is a timeout or nonsense.
func ended(err error) error {
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return err
	}
	var op *net.OpError
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &op) {
		return io.EOF
	}
	return err
}
