package backendtest

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"time"

	"sluice/broker"
)

var asking = []contract{
	{
		name: "asked and answered",
		why:  "who posts a command to one node must get the answer of the one that has his stream, byte for byte",
		run: func(e *env) {
			other := e.asked(func(q broker.Question) { _ = q.Answer(e.ctx, append([]byte("to "), q.Text...)) })
			for _, question := range []string{"x", "", "a b  c\r\n\x00\xff", strings.Repeat("q", broker.MaxQuestion-8)} {
				got, err := e.backend.Ask(e.ctx, []byte(question))
				if other == nil {
					e.wantNoAnswer(got, err)
				} else if err != nil || string(got) != "to "+question {
					e.Errorf("got %.50q, %v, want %.50q", got, err, "to "+question)
				}
			}
			e.sink.mu.Lock()
			defer e.sink.mu.Unlock()
			if len(e.sink.asked) > 0 {
				e.Errorf("a node was asked by itself: %.50q", e.sink.asked)
			}
		},
	},
	{
		name: "answered late",
		why:  "a channel that takes long to join must not make a stream look as if it had ended",
		run: func(e *env) {
			other := e.asked(func(q broker.Question) {
				_ = q.Answer(e.ctx, nil)
				<-time.After(1500 * time.Millisecond)
				_ = q.Answer(e.ctx, bytes.Repeat([]byte("a"), broker.MaxAnswer))
			})
			got, err := e.backend.Ask(e.ctx, []byte("x"))
			if other == nil {
				e.wantNoAnswer(got, err)
			} else if err != nil || len(got) != broker.MaxAnswer {
				e.Errorf("got %.50q, %v, want the answer that came late", got, err)
			}
		},
	},
	{
		name: "asked in vain",
		why:  "a stream that has ended is told as such, soon: its client waits",
		run: func(e *env) {
			e.asked(nil)
			began := time.Now()
			got, err := e.backend.Ask(e.ctx, []byte("x"))
			e.wantNoAnswer(got, err)
			if took := time.Since(began); took > 2*time.Second {
				e.Errorf("took %v, want about a second at most", took)
			}
		},
	},
	{
		name: "promised and not answered",
		why:  "a node that dies after it said that it has the stream must not hold who asks longer than he likes",
		run: func(e *env) {
			e.asked(func(q broker.Question) { _ = q.Answer(e.ctx, nil) })
			ctx, cancel := context.WithTimeout(e.ctx, 1500*time.Millisecond)
			defer cancel()
			got, err := e.backend.Ask(ctx, []byte("x"))
			e.wantNoAnswer(got, err)
		},
	},
	{
		name: "an answer that is too large",
		why:  "nobody may make another node hold more than it said",
		run: func(e *env) {
			refused := make(chan error, 1)
			if e.asked(func(q broker.Question) { refused <- q.Answer(e.ctx, make([]byte, broker.MaxAnswer+1)) }) == nil {
				return
			}
			got, err := e.backend.Ask(e.ctx, []byte("x"))
			e.wantNoAnswer(got, err)
			if err := <-refused; !errors.Is(err, broker.ErrTooLarge) {
				e.Errorf("Answer returned %v, want ErrTooLarge", err)
			}
		},
	},
	{
		name: "ask after the end of the context",
		why:  "who has stopped waiting asks nobody",
		run: func(e *env) {
			ctx, cancel := context.WithCancel(e.ctx)
			cancel()
			if _, err := e.backend.Ask(ctx, []byte("x")); !unavailable(err) {
				e.Errorf("got %v, want an error that wraps ErrUnavailable", err)
			}
		},
	},
}

// asked starts another node that answers questions and waits until it hears them; nil if a store has one node only.
func (e *env) asked(answers func(broker.Question)) *env {
	e.Helper()
	e.listed()
	if e.peer == nil {
		return nil
	}
	other := e.another()
	e.Cleanup(other.stop)
	other.listed()
	e.ready()
	other.ready()
	other.sink.mu.Lock()
	other.sink.answers = answers
	other.sink.mu.Unlock()
	return other
}

// ready waits until messages pass.
func (e *env) ready() {
	e.Helper()
	if err := e.backend.Probe(e.ctx); err != nil {
		e.Fatalf("probe: %v", err)
	}
}

func (e *env) wantNoAnswer(got []byte, err error) {
	e.Helper()
	if !errors.Is(err, broker.ErrNoAnswer) || got != nil {
		e.Errorf("got %.50q, %v, want ErrNoAnswer", got, err)
	}
}
