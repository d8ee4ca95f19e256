package main

import (
	"fmt"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"sluice/broker"
	"sluice/middleware"
)

// The keys of an entry of channels, in the order in which errors list them.
var (
	ruleKeys    = []string{"match", "access", "publish", "history", "deliver", "slow"}
	historyKeys = []string{"messages", "age"}
	deliverKeys = []string{"filter", "conflate", "key", "rate", "batch"}
	batchKeys   = []string{"window", "messages"}
	slowKeys    = []string{"ring", "then"}
)

const minSlowRing = 16 // as that of ring-messages

// Ranges of whole numbers that are in no row of the table.
var (
	batchMessages = setting{kind: kindInt, min: 1, max: 10_000} // as of middleware.ParseBatch
	slowRing      = setting{kind: kindInt, min: minSlowRing, max: many}
)

// rules reads the list of channels.
func (f *file) rules(list *yaml.Node) ([]ChannelRule, error) {
	if list.Kind != yaml.SequenceNode {
		return nil, usagef("%s: channels is not a list; begin each entry with - match: PATTERN", f.at(list))
	}
	var out []ChannelRule
	for _, n := range list.Content {
		r := ChannelRule{from: f.at(n), at: map[string]string{}}
		err := f.each(n, ruleKeys, func(key string, value *yaml.Node) error { return f.part(&r, key, value) })
		if err == nil && r.Match.String() == "" {
			err = usagef("%s: this entry of channels has no match; add match: PATTERN", r.from)
		}
		if err == nil {
			err = r.checkKey()
		}
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}

// part reads the value of one of ruleKeys.
func (f *file) part(r *ChannelRule, key string, value *yaml.Node) error {
	switch key {
	case "access":
		return f.value(r, key, value, func(text string) (err error) {
			r.Access, err = parseAccess(text)
			return err
		})
	case "publish":
		return f.value(r, key, value, func(text string) error {
			if r.Send = text == sendClients; !r.Send {
				return fmt.Errorf("%q is not a choice; write publish: %s, or remove the line", text, sendClients)
			}
			return nil
		})
	case "history":
		return f.history(r, value)
	case "deliver":
		return f.deliver(r, value)
	case "slow":
		return f.slow(r, value)
	}
	return f.value(r, key, value, func(text string) (err error) {
		r.Match, err = broker.ParsePattern(text)
		return err
	})
}

// value reads a single value. The error of read is the end of a sentence about it.
func (f *file) value(r *ChannelRule, what string, n *yaml.Node, read func(text string) error) error {
	if n.Kind != yaml.ScalarNode {
		key := what[strings.LastIndex(what, " ")+1:]
		return usagef("channels %s (%s): it is not a single value; write %s: VALUE", what, f.at(n), key)
	}
	if err := read(n.Value); err != nil {
		return usagef("channels %s (%s): %w", what, f.at(n), err)
	}
	r.at[what] = f.at(n)
	return nil
}

// history reads messages and age by the rows of the table that they are exceptions from.
func (f *file) history(r *ChannelRule, n *yaml.Node) error {
	return f.each(n, historyKeys, func(key string, value *yaml.Node) error {
		return f.value(r, "history "+key, value, func(text string) error {
			for i := range f.table {
				if f.table[i].name != "history-"+key {
					continue
				}
				v, err := f.table[i].parse(text)
				if err != nil {
					return err
				}
				switch v := v.(type) {
				case int:
					r.HistoryMessages = v
				case time.Duration:
					r.HistoryAge = v
				}
			}
			return nil
		})
	})
}

// deliver reads the terms of delivery. They have the grammar of what subscribers may wish.
func (f *file) deliver(r *ChannelRule, n *yaml.Node) error {
	if err := f.checkComma(n); err != nil {
		return err
	}
	d := &r.Deliver
	return f.each(n, deliverKeys, func(key string, value *yaml.Node) error {
		if key == "batch" && value.Kind == yaml.MappingNode {
			return f.batch(r, value)
		}
		return f.value(r, "deliver "+key, value, func(text string) (err error) {
			switch key {
			case "filter":
				d.Filter, err = text, middleware.CheckFilter(text)
			case "conflate":
				d.Conflate, err = middleware.ParseConflation(text)
			case "key":
				d.Pointer, err = text, middleware.CheckPointer(text)
			case "rate":
				d.Interval, err = middleware.ParseRate(text)
			case "batch":
				d.Window, d.Messages, err = middleware.ParseBatch(text)
			}
			return err
		})
	})
}

// checkComma finds batch: 50ms,200 within braces, where the comma ends the value and 200 looks like a key.
func (f *file) checkComma(n *yaml.Node) error {
	for i := 2; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
		batch, window, messages := n.Content[i-2], n.Content[i-1], n.Content[i]
		if batch.Value == "batch" && messages.Tag == "!!int" && n.Content[i+1].Tag == "!!null" {
			return usagef("%s: within braces the comma ends the value of batch; write batch: \"%s,%s\"", f.at(messages), window.Value, messages.Value)
		}
	}
	return nil
}

// batch reads one that is a mapping.
func (f *file) batch(r *ChannelRule, n *yaml.Node) error {
	d := &r.Deliver
	err := f.each(n, batchKeys, func(key string, value *yaml.Node) error {
		return f.value(r, "deliver batch "+key, value, func(text string) (err error) {
			if key == "window" {
				d.Window, err = middleware.ParseWindow(text)
				return err
			}
			v, err := batchMessages.parse(text)
			if err == nil {
				d.Messages = v.(int)
			}
			return err
		})
	})
	if err == nil && d.Window == 0 {
		err = usagef("%s: batch has no window; add window: 50ms", f.at(n))
	}
	r.at["deliver batch"] = f.at(n)
	return err
}

// slow reads what becomes of slow readers. The default of ring is left to fitRings.
func (f *file) slow(r *ChannelRule, n *yaml.Node) error {
	s := middleware.Slow{Ring: defaultSlowRing}
	err := f.each(n, slowKeys, func(key string, value *yaml.Node) error {
		return f.value(r, "slow "+key, value, func(text string) (err error) {
			if key == "then" {
				s.Then, err = middleware.ParseThen(text)
				return err
			}
			v, err := slowRing.parse(text)
			if err == nil {
				s.Ring = v.(int)
			}
			return err
		})
	})
	if err == nil && r.at["slow then"] == "" {
		err = usagef("%s: slow has no then; add then: %s", f.at(n), strings.Join(thens[:], " or "))
	}
	r.Deliver.Slow = s
	return err
}

// checkKey refuses a key that nothing can be conflated by. Without any conflation it is for subscribers who
// wish one.
func (r *ChannelRule) checkKey() error {
	if r.Deliver.Pointer == "" || r.Deliver.Conflate != middleware.ConflateLatest {
		return nil
	}
	return usagef("channels deliver key (%s): with conflate: latest nothing is conflated by a key; remove it, or write conflate: key", r.at["deliver key"])
}
