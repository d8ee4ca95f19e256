//go:build linux

package e2e

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// audience are the good ones beside those who are hostile: half of them over SSE, half over WebSocket, ten from an address each, and on
// ten channels. They get messages that say when they were published, and keep how long each has taken.
type audience struct {
	*testing.T
	http      *http.Client // the publisher's
	url       string
	members   []*member
	reading   sync.WaitGroup
	ctx       context.Context // theirs; it outlives the test's, which ends first
	over      atomic.Bool     // their streams may end now
	published [goodChannels]int
}

// member is one of them.
type member struct {
	stream
	name    string
	channel int

	mu   sync.Mutex
	got  int // messages; the next one has this number
	took []time.Duration
}

const (
	goodClients  = 500
	goodChannels = 10
	goodPace     = 20 * time.Millisecond // between two messages
)

// dialing returns a function that connects from an address of the loopback network: Linux lets a client choose any of 127/8.
func dialing(from string) dialFunc {
	d := &net.Dialer{Timeout: 10 * time.Second, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	return d.DialContext
}

// assemble connects the audience and waits for its welcomes.
func assemble(t *testing.T, n *node) *audience {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	a := &audience{T: t, http: httpClient(t, 10*time.Second), url: n.url(), ctx: ctx, members: make([]*member, goodClients)}
	t.Cleanup(func() { a.leave(); stop() })
	var joining sync.WaitGroup
	for lane := range 16 {
		joining.Go(func() {
			for i := lane; i < goodClients; i += 16 {
				a.members[i] = a.join(n, i)
			}
		})
	}
	joining.Wait()
	for _, m := range a.members {
		if m != nil {
			a.reading.Go(func() { a.listen(m) })
		}
	}
	if t.Failed() {
		t.FailNow()
	}
	return a
}

// join connects the member with number i; nil if that fails.
func (a *audience) join(n *node, i int) *member {
	m := &member{name: fmt.Sprintf("SSE client %d", i), channel: i / 2 % goodChannels}
	dial, path := dialing(fmt.Sprintf("127.10.0.%d", 1+i/10)), fmt.Sprintf("?channel=good%d", m.channel)
	var err error
	if i%2 == 0 {
		tr := &http.Transport{DialContext: dial, DisableKeepAlives: true}
		m.stream, err = openSSE(a.ctx, &http.Client{Transport: tr}, a.url+"/sse"+path, "", false)
	} else {
		m.name = fmt.Sprintf("WebSocket client %d", i)
		m.stream, err = openWSBy(a.ctx, dial, "ws://"+n.addr+"/ws"+path, true)
	}
	if err == nil {
		var e event
		if e, err = m.next(); err == nil && e.kind != "welcome" {
			err = fmt.Errorf("got %+v, want a welcome", e)
		}
	}
	if err != nil {
		a.Errorf("%s: %v", m.name, err)
		return nil
	}
	return m
}

// listen reads until the stream ends. Each message must be the one after that before it.
func (a *audience) listen(m *member) {
	for {
		e, err := m.next()
		if err != nil {
			if !a.over.Load() {
				a.Errorf("%s was disconnected: %v", m.name, err)
			}
			return
		}
		if e.kind != "message" {
			if e.kind != "heartbeat" {
				a.Errorf("%s: got %+v", m.name, e)
			}
			continue
		}
		number, at, _ := strings.Cut(e.data, " ")
		sent, err := strconv.ParseInt(at, 10, 64)
		m.mu.Lock()
		if err != nil || number != strconv.Itoa(m.got) {
			a.Errorf("%s: got %q after %d messages", m.name, e.data, m.got)
		}
		m.got++
		m.took = append(m.took, time.Duration(time.Now().UnixNano()-sent))
		m.mu.Unlock()
	}
}

// perform publishes until ctx ends, and returns what the messages took, sorted, once all have arrived everywhere.
func (a *audience) perform(ctx context.Context) []time.Duration {
	a.Helper()
	for i := 0; ctx.Err() == nil; i++ {
		ch := i % goodChannels
		payload := fmt.Sprintf("%d %d", a.published[ch], time.Now().UnixNano())
		if _, err := publish(a.Context(), a.http, a.url, fmt.Sprintf("good%d", ch), "", payload); err != nil {
			a.Fatalf("a good publisher: %v", err)
		}
		a.published[ch]++
		time.Sleep(goodPace)
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		waiting := a.waiting()
		if len(waiting) == 0 {
			break
		}
		if time.Now().After(deadline) {
			a.Fatalf("%d good ones wait for messages: %.1000q", len(waiting), waiting)
		}
	}
	var all []time.Duration
	for _, m := range a.members {
		m.mu.Lock()
		all = append(all, m.took...)
		m.took = nil
		m.mu.Unlock()
	}
	slices.Sort(all)
	return all
}

// waiting lists who has not got everything that was published.
func (a *audience) waiting() (list []string) {
	for _, m := range a.members {
		m.mu.Lock()
		if want := a.published[m.channel]; m.got < want {
			list = append(list, fmt.Sprintf("%s has %d of %d", m.name, m.got, want))
		}
		m.mu.Unlock()
	}
	return list
}

// leave disconnects everybody.
func (a *audience) leave() {
	a.over.Store(true)
	for _, m := range a.members {
		if m != nil {
			m.close()
		}
	}
	a.reading.Wait()
}

// quantile returns the p-th of sorted durations.
func quantile(sorted []time.Duration, p float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[int(p*float64(len(sorted)-1))].Round(10 * time.Microsecond)
}
