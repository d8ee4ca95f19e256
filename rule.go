package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"sluice/broker"
	"sluice/middleware"
	"sluice/middleware/auth"
)

// ChannelRule is what is different for the channels that match: an entry of the file's list. Zero fields
// leave things as they are.
type ChannelRule struct {
	Match           broker.Pattern
	Access          auth.Access
	Send            bool // clients may publish to them from their connections, if they may publish
	HistoryMessages int
	HistoryAge      time.Duration
	Deliver         middleware.Delivery // slow included

	from string            // file:line
	at   map[string]string // file:line of its values, by their keys: "history age", "deliver rate"
}

// defaultSlowRing is how far behind a subscription may be where the file does not say; never more than ring-messages.
const defaultSlowRing = 256

// rule returns the first rule that matches channel, nil if none does.
func (c *Config) rule(channel string) *ChannelRule {
	for i := range c.Channels {
		if c.Channels[i].Match.Match(channel) {
			return &c.Channels[i]
		}
	}
	return nil
}

// History returns the limits of a channel's history.
func (c *Config) History(channel string) (messages int, age time.Duration) {
	messages, age = c.HistoryMessages, c.HistoryAge
	if r := c.rule(channel); r != nil {
		if r.HistoryMessages > 0 {
			messages = r.HistoryMessages
		}
		if r.HistoryAge > 0 {
			age = r.HistoryAge
		}
	}
	return messages, age
}

// Rules returns the rules as the delivery middleware takes them. Those that say nothing about delivery
// are there, too: the first that matches counts.
func (c *Config) Rules() []middleware.Rule {
	rules := make([]middleware.Rule, len(c.Channels))
	for i := range c.Channels {
		r := &c.Channels[i]
		rules[i] = middleware.Rule{Pattern: r.Match.String(), Match: r.Match.Match, Delivery: r.Deliver}
	}
	return rules
}

// fitRings settles what depends on ring-messages, which may be said elsewhere than in the file: the default of
// slow.ring, and how large it may be. It may be called again for another ringMessages.
func fitRings(rules []ChannelRule, ringMessages int) error {
	for i := range rules {
		r := &rules[i]
		if r.Deliver.Slow.Ring == 0 {
			continue
		}
		at := r.at["slow ring"]
		if at == "" {
			r.Deliver.Slow.Ring = min(defaultSlowRing, ringMessages)
		} else if n := r.Deliver.Slow.Ring; n > ringMessages {
			return usagef("channels slow ring (%s): \"%d\" is more than a node holds; use %d to %d, or raise ring-messages and restart",
				at, n, minSlowRing, ringMessages)
		}
	}
	return nil
}

// asYAML returns the rule as one entry of the list, on one line, as the file's parser reads it.
func (r *ChannelRule) asYAML() (string, error) {
	var history []*yaml.Node
	if r.HistoryMessages > 0 {
		history = append(history, yamlPair("messages", yamlInt(r.HistoryMessages))...)
	}
	if r.HistoryAge > 0 {
		history = append(history, yamlPair("age", yamlText(formatDuration(r.HistoryAge)))...)
	}
	entry := yamlPair("match", yamlText(r.Match.String()))
	for _, t := range r.accessTerms() {
		entry = append(entry, yamlPair(t.key, t.value)...)
	}
	for _, part := range []struct {
		key     string
		content []*yaml.Node
	}{{"history", history}, {"deliver", yamlPairs(r.deliverTerms())}, {"slow", yamlPairs(r.slowTerms())}} {
		if len(part.content) > 0 {
			entry = append(entry, yamlPair(part.key, yamlMap(part.content))...)
		}
	}
	return yamlLine(yamlMap(entry))
}

// ruleTerm is one value of a rule in the grammar of the file.
type ruleTerm struct {
	key   string
	value *yaml.Node
}

// accesses are the words of the file for who may listen, the default first.
var accesses = [...]string{auth.ByToken: "token", auth.Public: "public", auth.Signed: "signed"}

// sendClients is the word of the file for messages from clients.
const sendClients = "clients"

func parseAccess(text string) (auth.Access, error) {
	for a, word := range accesses {
		if word == text {
			return auth.Access(a), nil
		}
	}
	return 0, fmt.Errorf("%q is not a choice; use %s", text, strings.Join(accesses[:], " or "))
}

// accessTerms returns what the rule says about who may listen and publish.
func (r *ChannelRule) accessTerms() (ts []ruleTerm) {
	if r.at["access"] != "" {
		ts = append(ts, ruleTerm{"access", yamlText(accesses[r.Access])})
	}
	if r.Send {
		ts = append(ts, ruleTerm{"publish", yamlText(sendClients)})
	}
	return ts
}

// deliverTerms returns what the rule says under deliver.
func (r *ChannelRule) deliverTerms() (ts []ruleTerm) {
	d := &r.Deliver
	if d.Filter != "" {
		ts = append(ts, ruleTerm{"filter", yamlText(d.Filter)})
	}
	if d.Conflate != middleware.ConflateNone {
		ts = append(ts, ruleTerm{"conflate", yamlText(d.Conflate.String())})
	}
	if d.Pointer != "" {
		ts = append(ts, ruleTerm{"key", yamlText(d.Pointer)})
	}
	if d.Interval > 0 {
		ts = append(ts, ruleTerm{"rate", yamlText(formatRate(d.Interval))})
	}
	if d.Window > 0 {
		batch := yamlPair("window", yamlText(formatDuration(d.Window)))
		if d.Messages > 0 {
			batch = append(batch, yamlPair("messages", yamlInt(d.Messages))...)
		}
		ts = append(ts, ruleTerm{"batch", yamlMap(batch)})
	}
	return ts
}

// slowTerms returns what the rule says under slow.
func (r *ChannelRule) slowTerms() []ruleTerm {
	s := r.Deliver.Slow
	if s.Ring == 0 {
		return nil
	}
	return []ruleTerm{{"ring", yamlInt(s.Ring)}, {"then", yamlText(formatThen(s.Then))}}
}

// thens are the words of the file for what becomes of slow readers, in the order in which errors list them.
var thens = [...]string{"conflate", "gap", "history", "disconnect"}

// formatThen writes what middleware.ParseThen reads.
func formatThen(then broker.Then) string {
	for _, word := range thens {
		if t, err := middleware.ParseThen(word); err == nil && t == then {
			return word
		}
	}
	return ""
}

// formatRate writes an interval as middleware.ParseRate reads it, to the nanosecond: what is printed for
// people is rounded.
func formatRate(interval time.Duration) string {
	text := middleware.FormatRate(interval)
	if again, err := middleware.ParseRate(text); err == nil && again == interval {
		return text
	}
	n := float64(time.Hour) / (float64(interval) + 0.5) // ParseRate cuts off what is less than a nanosecond
	return strconv.FormatFloat(n, 'f', -1, 64) + "/h"
}

func yamlInt(n int) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!int", Value: strconv.Itoa(n)}
}

func yamlText(s string) *yaml.Node {
	n := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s}
	if strings.ContainsAny(s, "\n\r\t") {
		n.Style = yaml.DoubleQuotedStyle // the others take more than one line
	}
	return n
}

func yamlPair(key string, value *yaml.Node) []*yaml.Node { return []*yaml.Node{yamlText(key), value} }

func yamlPairs(ts []ruleTerm) (content []*yaml.Node) {
	for _, t := range ts {
		content = append(content, yamlPair(t.key, t.value)...)
	}
	return content
}

func yamlMap(content []*yaml.Node) *yaml.Node {
	return &yaml.Node{Kind: yaml.MappingNode, Style: yaml.FlowStyle, Content: content}
}

// yamlLine writes a node that fits on one line.
func yamlLine(n *yaml.Node) (string, error) {
	text, err := yaml.Marshal(n)
	return strings.TrimSpace(string(text)), err
}
