package middleware_test

import (
	"fmt"
	"hash/crc32"
	"os"
	"strings"
	"testing"
	"time"

	"sluice/broker"
	"sluice/middleware"
)

// Sample lets through the messages of one key in so many, for a preview of a channel with thousands of them. Messages
// without a key all go out.
type Sample struct{ Every uint32 }

// Name implements broker.Stage.
func (Sample) Name() string { return "sample" }

// Take implements broker.Stage. It holds nothing back.
func (s Sample) Take(_ time.Time, p broker.Pending) ([]*broker.Message, broker.Again) {
	var ready []*broker.Message
	for _, m := range p.Messages {
		if m.Key == "" || crc32.ChecksumIEEE([]byte(m.Key))%s.Every == 0 {
			ready = append(ready, m)
		}
	}
	return ready, broker.Again{}
}

// A stage that is written outside of this package stands in a row with those that are in it.
func Example() {
	stages := []broker.Stage{Sample{Every: 2}, middleware.Throttle{Interval: time.Second}}
	pending := broker.Pending{Last: time.Unix(100, 0)}
	for _, key := range []string{"AAPL", "MSFT", "GOOG", "", "AAPL"} {
		pending.Messages = append(pending.Messages, &broker.Message{Key: key})
	}
	for _, now := range []time.Time{time.Unix(100, 5e8), time.Unix(101, 0)} {
		p := pending
		var again broker.Again
		for _, s := range stages {
			if p.Messages, again = s.Take(now, p); !again.IsZero() {
				fmt.Println(s.Name(), "asks to be asked again in", again.At.Sub(now))
				break
			}
			fmt.Print(s.Name(), " lets through")
			for _, m := range p.Messages {
				fmt.Printf(" %q", m.Key)
			}
			fmt.Println()
		}
	}
	// Output:
	// sample lets through "AAPL" "GOOG" "" "AAPL"
	// throttle asks to be asked again in 500ms
	// sample lets through "AAPL" "GOOG" "" "AAPL"
	// throttle lets through "AAPL" "GOOG" "" "AAPL"
}

// TestStagesDoc: the stage in the manual is the one that is compiled here.
func TestStagesDoc(t *testing.T) {
	doc, err := os.ReadFile("../docs/stages.md")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	_, code, ok := strings.Cut(string(doc), "```go\n// Sample ")
	code, _, closed := strings.Cut(code, "```")
	if !ok || !closed || !strings.Contains(string(source), code) {
		t.Error("the stage Sample of docs/stages.md is not word for word the one in this file")
	}
}
