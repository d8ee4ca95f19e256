package redis

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"sync"
	"time"

	"sluice/broker"
)

// Questions go to all nodes on one channel: "1 NODE ID TEXT". The one that has what is asked for answers on the first control channel
// of NODE: "a ID TEXT", where an empty text says that another answer follows.

// asks are the questions of this node that wait for their answers.
type asks struct {
	mu      sync.Mutex
	waiting map[string]chan string // by ID
}

// maxAsks bounds the questions of a node that wait at once; more are not put.
const maxAsks = 1024

func (a *asks) add(id string) (came chan string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.waiting) >= maxAsks {
		return nil
	}
	came = make(chan string, 2) // what else comes was not asked for
	a.waiting[id] = came
	return came
}

func (a *asks) remove(id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.waiting, id)
}

// answered takes an answer. One that nobody waits for any more has come too late.
func (a *asks) answered(id, text string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if came := a.waiting[id]; came != nil {
		select {
		case came <- strings.Clone(text):
		default:
		}
	}
}

// Ask implements broker.Backend. An unanswered question costs Config.AskTimeout.
func (b *Backend) Ask(ctx context.Context, question []byte) ([]byte, error) {
	if ctx.Err() != nil {
		return nil, b.ended(ctx)
	}
	b.mu.Lock()
	first := b.links[0]
	b.mu.Unlock()
	if !first.up.Load() {
		return nil, unavailable(errNoLink)
	}
	id := rand.Text()
	came := b.asks.add(id)
	if came == nil {
		return nil, unavailable(fmt.Errorf("%d questions wait for their answers", maxAsks))
	}
	defer b.asks.remove(id)
	once, cancel := context.WithTimeout(ctx, b.config.CommandTimeout)
	n, err := b.client.Do(once, b.publish, b.keys.asked(), "1 "+b.node+" "+id+" "+string(question)).Int64()
	cancel()
	if err != nil {
		return nil, unavailable(err)
	}
	if n <= 1 { // this node has heard it, and nobody else
		return nil, broker.ErrNoAnswer
	}
	found := time.NewTimer(b.config.AskTimeout)
	defer found.Stop()
	none := found.C
	for {
		select {
		case text := <-came:
			if text != "" {
				return []byte(text), nil
			}
			none = nil // there is a node that has it
		case <-none:
			return nil, broker.ErrNoAnswer
		case <-ctx.Done():
			return nil, broker.ErrNoAnswer
		case <-b.life.Done():
			return nil, b.ended(ctx)
		}
	}
}

// asked takes a question that anybody may have published. It reports false for what is none; Ask's own are left out.
func (b *Backend) asked(payload string, s broker.Sink) bool {
	node, id, text, ok := parseQuestion(payload)
	if !ok || node == b.node {
		return ok
	}
	node, id = strings.Clone(node), strings.Clone(id)
	return s.Asked(broker.Question{Text: []byte(text), Answer: func(ctx context.Context, text []byte) error {
		if len(text) > broker.MaxAnswer {
			return fmt.Errorf("answer %d bytes: %w", len(text), broker.ErrTooLarge)
		}
		return b.send(ctx, b.keys.control(node+"/0"), "a "+id+" "+string(text))
	}})
}

func parseQuestion(payload string) (node, id, text string, ok bool) {
	rest, ok1 := strings.CutPrefix(payload, "1 ")
	node, rest, ok2 := strings.Cut(rest, " ")
	id, text, ok3 := strings.Cut(rest, " ")
	if !ok1 || !ok2 || !ok3 || !isState(node) || !isState(id) || len(text) > broker.MaxQuestion {
		return "", "", "", false
	}
	return node, id, text, true
}

// parseAnswer reads what came on a node's control channel and is no echo.
func parseAnswer(payload string) (id, text string, ok bool) {
	rest, ok1 := strings.CutPrefix(payload, "a ")
	id, text, ok2 := strings.Cut(rest, " ")
	if !ok1 || !ok2 || !isState(id) || len(text) > broker.MaxAnswer {
		return "", "", false
	}
	return id, text, true
}
