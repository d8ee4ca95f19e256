package middleware

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"sluice/broker"
)

// Delivery says how messages are delivered: a channel's policy, or what a subscriber wishes. The zero value
// is everything as it comes.
type Delivery struct {
	Filter   string        // expression (docs/high-frequency.md); "": everything
	Conflate Conflation    // what supersedes what
	Pointer  string        // JSON pointer (RFC 6901) to the key in the payload; "": the publisher's key. Not for wishes
	Interval time.Duration // at most one delivery in this time; 0: no limit
	Window   time.Duration // how long a message waits for others to share its batch; 0: not at all
	Messages int           // in a batch; a full one does not wait; 0: as many as fit
	Slow     Slow          // what becomes of those that cannot keep up; not for wishes
}

// Slow says what becomes of a subscription that cannot keep up (broker.Slow).
type Slow struct {
	Ring int         // messages that it may be behind; 0: it is never slow
	Then broker.Then // what happens then
}

// Stricter returns what holds where both d and w have a say: both filters, the stricter conflation, the longer
// interval and window, the smaller batch. Pointer and Slow are d's.
func (d Delivery) Stricter(w Delivery) Delivery {
	switch fs := filters(d.Filter, w.Filter); len(fs) {
	case 1:
		d.Filter = fs[0]
	case 2:
		d.Filter = "(" + fs[0] + ") && (" + fs[1] + ")"
	}
	d.Conflate = max(d.Conflate, w.Conflate)
	d.Interval = max(d.Interval, w.Interval)
	d.Window = max(d.Window, w.Window)
	if d.Messages == 0 || w.Messages > 0 && w.Messages < d.Messages {
		d.Messages = w.Messages
	}
	return d
}

// isZero reports whether there is nothing to do.
func (d *Delivery) isZero() bool {
	return d.Filter == "" && d.Conflate == ConflateNone && d.Interval == 0 && d.Window == 0 && d.Messages == 0 && d.Slow.Ring == 0
}

// filters returns those of a rule and a wish that are there, each once.
func filters(rule, wish string) []string {
	var fs []string
	for _, f := range [...]string{rule, wish} {
		if f != "" && !slices.Contains(fs, f) {
			fs = append(fs, f)
		}
	}
	return fs
}

// policy makes what carries out d, which holds where a rule of that pattern and a wish have a say. Their filters are
// compiled one by one, not as the one text that d has for both: what a stranger writes must never change the
// meaning of what the operator wrote, nor be too long only because that is long as well.
func (d *Delivery) policy(pattern string, filters []string, drops *broker.Drops) (*broker.Policy, error) {
	filter, err := newFilter(filters)
	if err != nil {
		return nil, err
	}
	key, err := d.key(d.Conflate, filters, filter)
	if err != nil {
		return nil, err
	}
	p := &broker.Policy{
		ID:    fmt.Sprintf("%q %q %v %q %d %d %d %d %d", pattern, filters, d.Conflate, d.Pointer, d.Interval, d.Window, d.Messages, d.Slow.Ring, d.Slow.Then),
		Key:   key,
		Array: d.Window > 0 || d.Messages > 0,
		Max:   d.Messages,
		Slow:  broker.Slow{Ring: d.Slow.Ring, Then: d.Slow.Then},
		Drops: drops,
	}
	// This is the wiring: a stage is one line, in the order in which they stand.
	for _, s := range [...]struct {
		on    bool
		stage broker.Stage
	}{
		{len(filters) > 0, filter},
		{key != nil, conflate(key)},
		{d.Interval > 0, Throttle{d.Interval}},
		{d.Window > 0, Batch{d.Window, d.Messages}},
	} {
		if s.on {
			p.Stages = append(p.Stages, s.stage)
		}
	}
	if d.Slow.Ring > 0 && d.Slow.Then == broker.ThenConflate {
		if p.Slow.Key, err = d.key(max(d.Conflate, ConflateKey), filters, filter); err != nil {
			return nil, err
		}
		if len(filters) > 0 {
			p.Slow.Stages = append(p.Slow.Stages, filter)
		}
		p.Slow.Stages = append(p.Slow.Stages, conflate(p.Slow.Key))
	}
	return p, nil
}

// key returns what messages are conflated by; nil: nothing.
func (d *Delivery) key(c Conflation, filters []string, filter Filter) (*broker.Key, error) {
	k := &broker.Key{ID: fmt.Sprintf("%v %q %q", c, d.Pointer, filters)}
	if len(filters) > 0 {
		k.Wants = filter.Match
	}
	switch {
	case c == ConflateNone:
		return nil, nil
	case c == ConflateLatest:
		k.Of = everyKey
	case d.Pointer == "":
		k.Of = publisherKey
	default:
		var err error
		if k.Of, err = pointerKey(d.Pointer); err != nil {
			return nil, err
		}
	}
	return k, nil
}

var thens = [...]string{broker.ThenHistory: "history", broker.ThenConflate: "conflate", broker.ThenGap: "gap", broker.ThenDisconnect: "disconnect"}

// ParseThen reads "history", "conflate", "gap" or "disconnect".
func ParseThen(text string) (broker.Then, error) {
	for i, name := range thens {
		if text == name {
			return broker.Then(i), nil
		}
	}
	return 0, fmt.Errorf("then %q can't be used; write conflate, gap, history or disconnect", shorten(text))
}

// term is one value of a delivery, in the grammar of the wishes.
type term struct{ name, text string }

// terms lists what is not zero. The pointer, which is nobody's business outside, is not among them.
func (d *Delivery) terms() []term {
	var ts []term
	add := func(name, text string) { ts = append(ts, term{name, text}) }
	if d.Filter != "" {
		add("filter", d.Filter)
	}
	if d.Conflate != ConflateNone {
		add("conflate", d.Conflate.String())
	}
	if d.Interval > 0 {
		add("rate", FormatRate(d.Interval))
	}
	if d.Window > 0 || d.Messages > 0 {
		add("batch", FormatBatch(d.Window, d.Messages))
	}
	if d.Slow.Ring > 0 {
		add("slow", thens[d.Slow.Then])
	}
	return ts
}

// Effective is what is in force for one subscription.
type Effective struct {
	Policy   *broker.Policy // nil: everything as it comes
	Delivery Delivery       // the same in words
	Pattern  string         // of the rule that matched; "": none did
}

// IsZero reports whether everything is delivered as it comes and slowness is treated as it is by default.
func (e *Effective) IsZero() bool { return e.Policy == nil }

// AppendJSON appends what is in force as a JSON object of texts, in the grammar of the wishes:
// {"filter":"…","conflate":"key","rate":"5/s","batch":"50ms,200","slow":"conflate"}; what is not in force is absent.
func (e *Effective) AppendJSON(dst []byte) []byte {
	dst = append(dst, '{')
	for i, t := range e.Delivery.terms() {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendJSON(append(dst, '"'), t.name)
		dst = append(appendJSON(append(dst, `":"`...), t.text), '"')
	}
	return append(dst, '}')
}

// appendJSON appends what stands between the quotes of a JSON string (RFC 8259 §7).
func appendJSON(dst []byte, s string) []byte {
	for _, r := range s { // what is not UTF-8 becomes U+FFFD
		switch {
		case r == '"' || r == '\\':
			dst = append(dst, '\\', byte(r))
		case r < 0x20:
			dst = fmt.Appendf(dst, `\u%04x`, r)
		default:
			dst = append(dst, string(r)...)
		}
	}
	return dst
}

// AppendHeader appends a member of the Sluice-Deliver header (RFC 9651 list): the channel as a
// string, what is in force as its parameters. The filter, which may be long and is not ASCII, is only named.
func (e *Effective) AppendHeader(dst []byte, channel string) []byte {
	dst = append(append(append(dst, '"'), channel...), '"') // channel names have nothing to escape
	for _, t := range e.Delivery.terms() {
		dst = append(append(dst, ';'), t.name...)
		if t.name != "filter" {
			dst = append(append(append(dst, `="`...), t.text...), '"')
		}
	}
	return dst
}

// FormatRate writes an interval as ParseRate reads it.
func FormatRate(interval time.Duration) string {
	for _, u := range rateUnits {
		if n := float64(u.length) / float64(interval); n >= 1 || u.length == time.Hour {
			return strconv.FormatFloat(n, 'g', 6, 64) + "/" + u.name
		}
	}
	return ""
}

// FormatBatch writes a batch as ParseBatch reads it.
func FormatBatch(window time.Duration, messages int) string {
	text := strings.TrimSuffix(window.String(), "m0s")
	if text != window.String() {
		text += "m"
	}
	if messages > 0 {
		text += "," + strconv.Itoa(messages)
	}
	return text
}
