package backendtest

import (
	"context"
	"runtime"
	"strings"
	"time"

	"sluice/broker"
)

var lifecycle = []contract{
	{
		name: "probe",
		why:  "readiness asks the backend to prove that it delivers; the proof is no message of anyone's channel",
		run: func(e *env) {
			e.join(e.channel())
			for range 3 {
				if err := e.backend.Probe(e.ctx); err != nil {
					e.Fatalf("probe: %v", err)
				}
			}
		},
	},
	{
		name: "probe without Run",
		why:  "a node whose backend does not run can't deliver, and must say so within the time it is given",
		run: func(e *env) {
			e.stop()
			ctx, cancel := context.WithTimeout(e.ctx, 200*time.Millisecond)
			defer cancel()
			begun := time.Now()
			if err := e.backend.Probe(ctx); err == nil {
				e.Error("Probe returned nil though Run has ended")
			}
			if d := time.Since(begun); d > 2*time.Second {
				e.Errorf("Probe took %v with 200ms to answer", d)
			}
		},
	},
	{
		name: "end",
		why:  "a node that stops waits for Run, and then nothing of the backend may be left: no goroutine, no late delivery",
		run: func(e *env) {
			c, d := e.channel(), e.channel()
			e.join(c, d)
			e.publish(c, "a", broker.PublishOptions{})
			e.delivered(c, 1)
			e.stop()
			// Publishing may fail by now. If it does not, the sink must not hear of it.
			ctx, cancel := context.WithTimeout(e.ctx, time.Second)
			defer cancel()
			_, _ = e.backend.Publish(ctx, &broker.Message{Channel: c, Data: []byte("late")}, broker.PublishOptions{})
			e.backend.Join(e.channel())
			e.backend.Leave(d)
			left := e.left()
			for end := time.Now().Add(patience); len(left) > 0 && time.Now().Before(end); left = e.left() {
				runtime.Gosched()
			}
			if len(left) > 0 {
				e.Errorf("%d goroutines are left:\n%s", len(left), strings.Join(left, "\n\n"))
			}
			for _, p := range e.sink.takeProblems() {
				e.Error(p)
			}
		},
	},
}

// left returns the stacks of the goroutines that the backend has left behind. What the table itself
// runs does not count, nor what a library keeps for its connections.
func (e *env) left() []string {
	var stacks []string
	for _, s := range stacksOfAll() {
		if strings.Contains(s, "sluice/broker/") && !strings.Contains(s, "sluice/broker/backendtest.") && !e.there[goroutine(s)] {
			stacks = append(stacks, s)
		}
	}
	return stacks
}

// goroutines returns the names of all goroutines.
func goroutines() map[string]bool {
	names := map[string]bool{}
	for _, s := range stacksOfAll() {
		names[goroutine(s)] = true
	}
	return names
}

// goroutine returns "goroutine 17" of the stack that begins with "goroutine 17 [running]:".
func goroutine(stack string) string {
	name, _, _ := strings.Cut(stack, " [")
	return name
}

func stacksOfAll() []string {
	buf := make([]byte, 1<<20)
	return strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n")
}
