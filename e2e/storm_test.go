package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"
)

// stormClients are in one process of Node.
const stormClients = 2000

// stormed is what client/storm.mjs tells.
type stormed struct {
	Event string

	// Of "back": how many requests there were, the most of them and the most new connections within 100 ms, connections in each 100 ms, and
	// milliseconds from the loss of the connections until so many were back.
	Attempts, AttemptsPeak, ConnectsPeak int
	Hundreds                             []int
	Median, P99, All                     int
	Transports                           map[string]int

	// Of "end": what clients got, and how many got just that.
	Lists []struct {
		Clients int
		Got     []told
	}
}

// TestClientStorm: 2,000 clients lose their node at one moment, and it is there again at once. They come back one after the other, and none
// has missed, or has twice, what was published all the while.
func TestClientStorm(t *testing.T) {
	r := newRig(t, nil, 0)
	n := startUnwatched(t, "A", "--redis", r.redis.URL(), "--history-messages", "50000")
	r.channels = nil
	for i := range 10 {
		r.channels = append(r.channels, fmt.Sprintf("storm:%d", i))
	}
	events := startStorm(t, append([]string{n.url() + "/", fmt.Sprint(stormClients)}, r.channels...)...)
	next := func(event string) (s stormed) {
		t.Helper()
		select {
		case s = <-events:
		case <-r.ctx.Done():
		}
		if s.Event != event {
			t.Fatalf("the clients say %q, want %q", s.Event, event)
		}
		return s
	}
	next("ready")
	r.publishStored(100 * time.Millisecond)
	r.published(20)
	n.kill()
	n.restart()
	back := next("back")
	r.published(20)
	r.stopPublishing()
	end := next("end")
	t.Logf("%d clients: %d requests, at most %d of them and %d new connections within 100 ms; half were back after %d ms, 99 %% after %d ms, all after %d ms, over %v; in each 100 ms: %v",
		stormClients, back.Attempts, back.AttemptsPeak, back.ConnectsPeak, back.Median, back.P99, back.All, back.Transports, back.Hundreds)
	if back.AttemptsPeak > stormClients/2 {
		t.Errorf("%d requests came within 100 ms, want them spread", back.AttemptsPeak)
	}
	clients := 0
	for _, l := range end.Lists {
		clients += l.Clients
		r.judgeTold(fmt.Sprintf("%d clients of %s", l.Clients, l.Got[0].Channel), l.Got, []string{l.Got[0].Channel})
	}
	if clients != stormClients {
		t.Errorf("%d clients told what they got, want %d", clients, stormClients)
	}
}

// startStorm starts client/storm.mjs, or skips the test where there is no Node, and passes on what it tells.
func startStorm(t *testing.T, args ...string) <-chan stormed {
	t.Helper()
	node := wantProgram(t, "CLIENT", "Node", "install Node 20 or newer", "node")
	cmd := exec.Command(node, append([]string{"--experimental-websocket", "--no-warnings", "storm.mjs"}, args...)...)
	cmd.Dir, cmd.Stderr, cmd.SysProcAttr = "client", os.Stderr, orphanless()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	events, ended := make(chan stormed, 3), make(chan struct{})
	go func() {
		defer close(ended)
		defer close(events)
		lines := bufio.NewReader(out)
		for {
			line, err := lines.ReadBytes('\n')
			var s stormed
			if err != nil || json.Unmarshal(line, &s) != nil {
				break
			}
			events <- s
		}
		_ = cmd.Wait() // that it was killed is no news
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended before
		<-ended
	})
	return events
}
