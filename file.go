package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// channelsKey is the one key of the settings file that is no setting of the table: a list.
const channelsKey = "channels"

// ChannelRule is an exception for the channels that match. Zero fields leave the setting as it is.
type ChannelRule struct {
	Match           Pattern
	HistoryMessages int
	HistoryAge      time.Duration
	from            string // file:line
}

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

// file reads one settings file. It works on YAML's nodes rather than on its values, since nodes
// know their lines, and since a setting's text goes through the same parser wherever it comes from.
type file struct {
	name  string // base name, for messages
	table []setting
}

func parseFile(table []setting, path string, text []byte) (layer, []ChannelRule, error) {
	f := &file{name: filepath.Base(path), table: table}
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, nil, usagef("%s: %s; mend the YAML", f.name, strings.TrimPrefix(err.Error(), "yaml: "))
	}
	out := layer{}
	if len(doc.Content) == 0 || doc.Content[0].Tag == "!!null" {
		return out, nil, nil // empty, or nothing but comments
	}
	var rules []ChannelRule
	err := f.each(doc.Content[0], append(names(table), channelsKey), func(key string, value *yaml.Node) (err error) {
		if key == channelsKey {
			rules, err = f.rules(value)
			return err
		}
		out[key], err = f.entry(key, value)
		return err
	})
	return out, rules, err
}

// at names the line of a node.
func (f *file) at(n *yaml.Node) string { return fmt.Sprintf("%s:%d", f.name, n.Line) }

// each calls do for every key of a mapping, and refuses keys that are unknown or there twice.
func (f *file) each(n *yaml.Node, known []string, do func(key string, value *yaml.Node) error) error {
	if n.Kind != yaml.MappingNode {
		return usagef("%s: settings are missing here; write lines of KEY: VALUE with the keys %s", f.at(n), ellipsis(known))
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if value.Kind == yaml.AliasNode {
			value = value.Alias
		}
		switch name := key.Value; {
		case !slices.Contains(known, name):
			return usagef("%s: unknown key %q; %s", f.at(key), name, didYouMean(name, known, "", "use "+ellipsis(known)))
		case seen[name]:
			return usagef("%s: %s is there twice; remove one of them", f.at(key), name)
		case value.Tag == "!!null":
			return usagef("%s: %s has no value; write one, or remove the line", f.at(key), name)
		}
		seen[key.Value] = true
		if err := do(key.Value, value); err != nil {
			return err
		}
	}
	return nil
}

// entry reads the text of a setting; a list may be a YAML list.
func (f *file) entry(key string, value *yaml.Node) (entry, error) {
	from := f.at(value)
	if value.Kind == yaml.ScalarNode {
		return entry{value.Value, from}, nil
	}
	isList := false
	for i := range f.table {
		isList = isList || f.table[i].name == key && f.table[i].kind == kindList
	}
	if !isList || value.Kind != yaml.SequenceNode {
		return entry{}, usagef("%s (%s): it is not a single value; write %s: VALUE", key, from, key)
	}
	var items []string
	for _, item := range value.Content {
		if item.Kind != yaml.ScalarNode {
			return entry{}, usagef("%s (%s): an item is not a single value; write a list of texts", key, f.at(item))
		}
		items = append(items, item.Value)
	}
	return entry{strings.Join(items, ","), from}, nil
}

func (f *file) rules(list *yaml.Node) ([]ChannelRule, error) {
	if list.Kind != yaml.SequenceNode {
		return nil, usagef("%s: channels is not a list; begin each entry with - match: PATTERN", f.at(list))
	}
	var out []ChannelRule
	for _, n := range list.Content {
		r := ChannelRule{from: f.at(n)}
		err := f.each(n, []string{"match", "history"}, func(key string, value *yaml.Node) (err error) {
			if key == "history" {
				return f.history(&r, value)
			}
			if r.Match, err = ParsePattern(value.Value); err != nil {
				return usagef("channels match (%s): %w", f.at(value), err)
			}
			return nil
		})
		if err == nil && r.Match.text == "" {
			err = usagef("%s: this entry of channels has no match; add match: PATTERN", r.from)
		}
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}

// history reads messages and age by the rows of the table that they are exceptions from.
func (f *file) history(r *ChannelRule, n *yaml.Node) error {
	return f.each(n, []string{"messages", "age"}, func(key string, value *yaml.Node) error {
		v, err := any(nil), errors.New("it is not a single value; write "+key+": VALUE")
		for i := range f.table {
			if value.Kind == yaml.ScalarNode && f.table[i].name == "history-"+key {
				v, err = f.table[i].parse(value.Value)
			}
		}
		if err != nil {
			return usagef("channels history %s (%s): %w", key, f.at(value), err)
		}
		switch v := v.(type) {
		case int:
			r.HistoryMessages = v
		case time.Duration:
			r.HistoryAge = v
		}
		return nil
	})
}

// ellipsis joins the first few words.
func ellipsis(words []string) string {
	if len(words) > 4 {
		return strings.Join(words[:4], ", ") + ", …"
	}
	return strings.Join(words, ", ")
}
