package middleware

import (
	"errors"
	"fmt"
	"time"

	"sluice/broker"
)

// Filter is the stage that lets through the messages for which an expression is true.
type Filter struct{ expression *expression }

// NewFilter returns the stage for an expression in the language of docs/high-frequency.md.
func NewFilter(source string) (Filter, error) {
	e, err := compile(source)
	if err != nil {
		return Filter{}, fmt.Errorf("filter %q can't be used: %w", shorten(source), err)
	}
	return Filter{e}, nil
}

// CheckFilter returns an error that says what is wrong with an expression and where.
func CheckFilter(source string) error {
	if len(source) > maxExpression {
		return fmt.Errorf("a filter has at most %d bytes", maxExpression)
	}
	if source == "" {
		return errors.New(`the filter is empty; write an expression such as event == "trade"`)
	}
	_, err := NewFilter(source)
	return err
}

// Name implements broker.Stage.
func (Filter) Name() string { return "filter" }

// Match reports whether f lets m through.
func (f Filter) Match(m *broker.Message) bool { return f.expression.match(m) }

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
