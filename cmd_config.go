package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"path/filepath"

	"go.yaml.in/yaml/v3"

	"sluice/broker"
)

func configCommand() *command {
	flags := newFlags("config")
	addSettings(flags)
	channel := flags.String("channel", "", "print what holds for this `channel` instead")
	return &command{"config", "[SETTINGS]", "print the settings in effect and where each comes from", flags,
		func(_ context.Context, t *terminal, args []string) error {
			if len(args) > 0 {
				return usagef("sluice config takes no arguments; remove %q", args[0])
			}
			l, err := load(flags, t.env)
			if err != nil {
				return err
			}
			if flags.Changed("channel") {
				return printChannel(t.out, l, *channel)
			}
			return printConfig(t.out, l)
		}}
}

// line is one line of YAML with a comment.
type line struct{ text, comment string }

// printLines aligns the comments, but for lines that are too long for it.
func printLines(w io.Writer, lines []line) error {
	const widest = 48
	width := 0
	for _, l := range lines {
		if len(l.text) <= widest {
			width = max(width, len(l.text))
		}
	}
	for _, l := range lines {
		if _, err := fmt.Fprintf(w, "%-*s  # %s\n", width, l.text, l.comment); err != nil {
			return err
		}
	}
	return nil
}

// printConfig prints the settings as a settings file; only masked secrets keep it from being one.
func printConfig(w io.Writer, l *Loaded) error {
	var lines []line
	table := settings()
	for i := range table {
		s := &table[i]
		text, err := inline(s, &l.Config)
		if err != nil {
			return err
		}
		lines = append(lines, line{s.name + ": " + text, l.From(s.name)})
	}
	if len(l.Config.Channels) > 0 {
		lines = append(lines, line{channelsKey + ":", "the first that matches counts"})
	}
	for i := range l.Config.Channels {
		text, err := l.Config.Channels[i].asYAML()
		if err != nil {
			return err
		}
		lines = append(lines, line{"  - " + text, l.Config.Channels[i].from})
	}
	if len(l.Config.Access.APIKeys) > 0 {
		lines = append(lines, line{apiKeysKey + ":", "hashes are not shown"})
	}
	for i := range l.Config.Access.APIKeys {
		text, err := apiKeyYAML(&l.Config.Access.APIKeys[i])
		if err != nil {
			return err
		}
		lines = append(lines, line{"  - " + text, filepath.Base(l.sources.path.text)})
	}
	return printLines(w, lines)
}

// inline returns a setting's value as YAML on one line.
func inline(s *setting, c *Config) (string, error) {
	node := yaml.Node{Kind: yaml.ScalarNode, Value: s.show(c)}
	switch s.kind {
	case kindString, kindEnum:
		node.Tag = "!!str"
	case kindList:
		node = yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
		for _, item := range *s.field(c).(*[]string) {
			node.Content = append(node.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: item})
		}
	}
	return yamlLine(&node)
}

// printChannel prints what holds for one channel, in the grammar of a rule.
func printChannel(w io.Writer, l *Loaded, channel string) error {
	if err := broker.CheckChannel(channel); err != nil {
		return usagef("--channel: %w; name one channel", err)
	}
	c := &l.Config
	r, rule := c.rule(channel), "no rule matches"
	if r != nil {
		rule = fmt.Sprintf("rule %s (%s)", r.Match, r.from)
	} else {
		r = &ChannelRule{}
	}
	messages, age := c.History(channel)
	lines := []line{
		{"channel: " + channel, rule},
		{fmt.Sprintf("history-messages: %d", messages), cmp.Or(r.at["history messages"], l.From("history-messages"))},
		{"history-age: " + formatDuration(age), cmp.Or(r.at["history age"], l.From("history-age"))},
		{"redis-channel: " + c.RedisChannelPrefix + channel, "of plain PUBLISH"},
	}
	for _, t := range r.accessTerms() {
		text, err := yamlLine(t.value)
		if err != nil {
			return err
		}
		lines = append(lines, line{t.key + ": " + text, rule})
	}
	for _, part := range []struct {
		key, otherwise string
		terms          []ruleTerm
	}{
		{"deliver", "default: everything as it comes, less if the subscriber wishes so", r.deliverTerms()},
		{"slow", "default: what left the node's memory is read from the history; what is not there is a gap", r.slowTerms()},
	} {
		if len(part.terms) == 0 {
			lines = append(lines, line{part.key + ": {}", part.otherwise})
			continue
		}
		lines = append(lines, line{part.key + ":", rule})
		for _, t := range part.terms {
			text, err := yamlLine(t.value)
			if err != nil {
				return err
			}
			lines = append(lines, line{"  " + t.key + ": " + text, cmp.Or(r.at[part.key+" "+t.key], "default")})
		}
	}
	return printLines(w, lines)
}
