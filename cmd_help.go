package main

import (
	"context"
	"fmt"
	"io"
	"runtime/debug"
	"strings"

	"github.com/spf13/pflag"
)

const helpHead = `Sluice: publish once, every browser gets it, over WebSocket or Server-Sent Events.

  sluice --dev                      a node for development, open to everyone on this machine
  sluice --redis redis://host:6379  a node of many, behind Redis

Commands:
`

const helpFoot = `
Settings come from flags, SLUICE_* variables and a YAML file (--config FILE), in this order.
sluice help settings lists them all.
`

func helpCommand() *command {
	return &command{"help", "[COMMAND|settings]", "print this, the flags of a command, or all settings", newFlags("help"),
		func(_ context.Context, t *terminal, args []string) error { return help(t.out, args) }}
}

func help(w io.Writer, args []string) error {
	switch {
	case len(args) == 0 || args[0] == "help":
		fmt.Fprint(w, helpHead)
		for _, c := range commands() {
			fmt.Fprintf(w, "  %-8s %-19s %s\n", c.name, c.synopsis, c.text)
		}
		fmt.Fprint(w, helpFoot)
		return nil
	case args[0] == "settings":
		printSettings(w)
		return nil
	}
	known := []string{"settings"}
	for _, c := range commands() {
		if c.name == args[0] {
			printCommand(w, c)
			return nil
		}
		known = append(known, c.name)
	}
	return usagef("no help on %q; %s", args[0], didYouMean(args[0], known, "sluice help ", "sluice help lists the commands"))
}

func printCommand(w io.Writer, c *command) {
	fmt.Fprintf(w, "sluice %s %s\n\n  %s\n", c.name, c.synopsis, c.text)
	own := newFlagList()
	c.flags.VisitAll(func(f *pflag.Flag) {
		if f.Usage != "" {
			own.AddFlag(f)
		}
	})
	if own.HasFlags() {
		fmt.Fprintf(w, "\nFlags:\n%s", own.FlagUsages())
	}
	if c.flags.Lookup(configFlag) != nil {
		fmt.Fprint(w, helpFoot)
	}
}

func newFlagList() *pflag.FlagSet {
	list := pflag.NewFlagSet("", pflag.ContinueOnError)
	list.SortFlags = false
	return list
}

// printSettings lists the table as flags.
func printSettings(w io.Writer) {
	fmt.Fprintf(w, "Every setting is a flag --NAME, a variable SLUICE_NAME (dashes as underscores) and a key of the YAML file.\n")
	table, group := settings(), ""
	defaults := DefaultConfig()
	for i := range table {
		s := &table[i]
		if s.group != group {
			group = s.group
			fmt.Fprintf(w, "\n%s\n", group)
		}
		fmt.Fprintf(w, "  --%-22s %s\n", s.name, strings.ReplaceAll(s.text, "`", ""))
		fmt.Fprintf(w, "  %24s %s\n", "", describe(s, &defaults))
	}
	fmt.Fprintf(w, "\n  --%-22s %s\n", configFlag, "The YAML file with settings, and with exceptions by channel. See docs/settings.md.")
}

// describe returns kind, default and range in a few words.
func describe(s *setting, defaults *Config) string {
	words := []string{string(s.kind)}
	if s.unit != "" {
		words[0] = s.unit
	}
	if d := s.show(defaults); d != "" {
		words = append(words, "default "+d)
	}
	if span := s.span(); span != "" {
		words = append(words, span)
	}
	return "(" + strings.Join(words, "; ") + ")"
}

func versionCommand() *command {
	return &command{"version", "", "print the version", newFlags("version"), version}
}

// version prints what was built into the program about its origin.
func version(_ context.Context, t *terminal, args []string) error {
	if len(args) > 0 {
		return usagef("sluice version takes no arguments; remove %q", args[0])
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		fmt.Fprintln(t.out, "sluice (unknown build)")
		return nil
	}
	fmt.Fprintln(t.out, "sluice", info.Main.Version, info.GoVersion)
	return nil
}
