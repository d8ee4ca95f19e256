package middleware

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A wish is a Delivery that a subscriber asks for, in the query of its request or in a command.

const (
	minInterval = time.Millisecond
	maxInterval = time.Hour
	minWindow   = time.Millisecond
	maxWindow   = 10 * time.Second
	maxMessages = 10_000
)

var rateUnits = [...]struct {
	name   string
	length time.Duration
}{{"s", time.Second}, {"m", time.Minute}, {"h", time.Hour}}

// ParseRate reads "5/s", "0.5/s", "30/m" or "100/h" and returns the interval: 1ms to 1h.
func ParseRate(text string) (interval time.Duration, err error) {
	count, unit, _ := strings.Cut(text, "/")
	for _, u := range rateUnits {
		if unit != u.name {
			continue
		}
		n, err := strconv.ParseFloat(count, 64)
		if err != nil || strings.ContainsAny(count, "xXpPiInN_+") {
			break
		}
		if i := float64(u.length) / n; n > 0 && i >= float64(minInterval) && i <= float64(maxInterval) {
			return time.Duration(i), nil
		}
		return 0, fmt.Errorf("rate %q is out of range; use 1000/s to 1/h", shorten(text))
	}
	return 0, fmt.Errorf("rate %q can't be used; write 5/s, 30/m or 100/h", shorten(text))
}

// ParseBatch reads "100ms" or "100ms,50": a window of 1ms to 10s, and the most messages in a batch, 1 to 10,000.
func ParseBatch(text string) (window time.Duration, messages int, err error) {
	first, second, both := strings.Cut(text, ",")
	if window, err = ParseWindow(first); err != nil {
		return 0, 0, err
	}
	if both {
		n, err := strconv.ParseUint(strings.TrimSpace(second), 10, 32)
		if err != nil || n < 1 || n > maxMessages {
			return 0, 0, fmt.Errorf("batch %q can't be used; write 100ms,50 with 1 to %d messages", shorten(text), maxMessages)
		}
		messages = int(n)
	}
	return window, messages, nil
}

// ParseWindow reads a window of 1ms to 10s.
func ParseWindow(text string) (time.Duration, error) {
	d, err := time.ParseDuration(strings.TrimSpace(text))
	switch {
	case err != nil:
		return 0, fmt.Errorf("batch %q can't be used; write 100ms, or 100ms,50", shorten(text))
	case d < minWindow || d > maxWindow:
		return 0, fmt.Errorf("batch %q is out of range; use %v to %v", shorten(text), minWindow, maxWindow)
	}
	return d, nil
}

// ParseWish reads what a subscriber wishes from texts as they stand in queries and commands: rate,
// batch, conflate and filter, "" where there is none.
func ParseWish(rate, batch, conflate, filter string) (d Delivery, err error) {
	if rate != "" {
		if d.Interval, err = ParseRate(rate); err != nil {
			return Delivery{}, err
		}
	}
	if batch != "" {
		if d.Window, d.Messages, err = ParseBatch(batch); err != nil {
			return Delivery{}, err
		}
	}
	if conflate != "" {
		if d.Conflate, err = ParseConflation(conflate); err != nil {
			return Delivery{}, err
		}
	}
	if filter != "" {
		if err = CheckFilter(filter); err != nil {
			return Delivery{}, err
		}
		d.Filter = filter
	}
	return d, nil
}

// WishParams are the query parameters that QueryWishes reads, without brackets.
var WishParams = []string{"rate", "batch", "conflate", "filter"}

// WishError is why what is wished for one channel can't be had.
type WishError struct {
	Channel string
	Err     error
}

// Error implements error.
func (e *WishError) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e *WishError) Unwrap() error { return e.Err }

// QueryWishes reads the wishes of a query: rate=5/s is for all of its channels, rate[NAME]=5/s for one of them
// and stronger. The result has one Delivery per channel. A name in brackets that is not among the channels,
// or a parameter that is there twice, is an error; what can't be had for one channel is a *WishError.
func QueryWishes(q url.Values, channels []string) ([]Delivery, error) {
	own := map[string]bool{} // channels that have a parameter of their own
	for name, values := range q {
		param, channel, bracket := strings.Cut(name, "[")
		if !slices.Contains(WishParams, param) {
			continue
		}
		if len(values) > 1 {
			return nil, fmt.Errorf("%q is there twice; give it once", shorten(name))
		}
		if !bracket {
			continue
		}
		channel, closed := strings.CutSuffix(channel, "]")
		if !closed {
			return nil, fmt.Errorf("%q lacks its ]", shorten(name))
		}
		if !slices.Contains(channels, channel) {
			return nil, fmt.Errorf("%q is for a channel that is not asked for; add channel=%s", shorten(name), url.QueryEscape(shorten(channel)))
		}
		own[channel] = true
	}
	all := make([]Delivery, len(channels))
	common, err := parseWishOf(q, "")
	if err != nil {
		return nil, err
	}
	for i, c := range channels {
		if all[i] = common; own[c] {
			if all[i], err = parseWishOf(q, c); err != nil {
				return nil, &WishError{c, err}
			}
		}
	}
	return all, nil
}

// parseWishOf reads the wishes for one channel, or for all if it is "".
func parseWishOf(q url.Values, channel string) (Delivery, error) {
	var texts [4]string
	for i, param := range WishParams {
		texts[i] = q.Get(param)
		if own := param + "[" + channel + "]"; channel != "" && q.Has(own) {
			texts[i] = q.Get(own)
		}
	}
	return ParseWish(texts[0], texts[1], texts[2], texts[3])
}
