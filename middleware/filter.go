package middleware

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"sluice/broker"
)

// Filter is the stage that lets through the messages for which an expression is true. The zero value lets
// all of them through.
type Filter struct{ expressions []*expression } // all of which must be true

// NewFilter returns the stage for an expression of at most 512 bytes, in the language of docs/high-frequency.md. The error
// says what is wrong, where, and how to mend it.
func NewFilter(source string) (Filter, error) {
	return newFilter([]string{source})
}

// newFilter returns a filter that lets through what every one of the sources lets through.
func newFilter(sources []string) (Filter, error) {
	var f Filter
	for _, source := range sources {
		switch {
		case len(source) > maxExpression:
			return Filter{}, fmt.Errorf("a filter has at most %d bytes", maxExpression)
		case strings.TrimSpace(source) == "":
			return Filter{}, errors.New(`the filter is empty; write an expression such as event == "trade"`)
		}
		e, err := compile(source)
		if err != nil {
			return Filter{}, fmt.Errorf("filter %q can't be used: %w", shorten(source), err)
		}
		f.expressions = append(f.expressions, e)
	}
	return f, nil
}

// CheckFilter returns the error of NewFilter.
func CheckFilter(source string) error {
	_, err := NewFilter(source)
	return err
}

// Name implements broker.Stage.
func (Filter) Name() string { return "filter" }

// Match reports whether f lets m through.
func (f Filter) Match(m *broker.Message) bool {
	for _, e := range f.expressions {
		if !e.match(m) {
			return false
		}
	}
	return true
}

// Take implements broker.Stage. It holds nothing back.
func (f Filter) Take(_ time.Time, p broker.Pending) ([]*broker.Message, broker.Again) {
	for i, m := range p.Messages {
		if f.Match(m) {
			continue
		}
		ready := append(make([]*broker.Message, 0, len(p.Messages)-1), p.Messages[:i]...)
		for _, m := range p.Messages[i+1:] {
			if f.Match(m) {
				ready = append(ready, m)
			}
		}
		return ready, broker.Again{}
	}
	return p.Messages, broker.Again{}
}
