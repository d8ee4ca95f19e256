// Sluice is a real-time edge: publish once, and every browser that listens gets it, over WebSocket
// or Server-Sent Events.
//
// This package wires the parts into a program and gives it a command line.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/pflag"
)

// Exit codes.
const (
	exitOK    = 0
	exitError = 1 // it did not work
	exitUsage = 2 // a flag, variable, setting or argument is wrong
)

func main() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		<-signals
		cancel()
		<-signals // whoever asks twice does not want to wait
		os.Exit(exitError)
	}()
	t := &terminal{env: os.Environ(), in: os.Stdin, out: os.Stdout, err: os.Stderr}
	os.Exit(t.run(ctx, os.Args[1:]))
}

// terminal is what a command sees of the world around it. Its context ends with the first SIGINT or SIGTERM.
type terminal struct {
	env      []string
	in       io.Reader
	out, err io.Writer
}

// command is a subcommand of the program. It is made anew for each use, since flags hold values.
type command struct {
	name     string
	synopsis string // arguments
	text     string // one line for the list
	flags    *pflag.FlagSet
	run      func(ctx context.Context, t *terminal, args []string) error // args: what is no flag
}

func commands() []*command {
	return []*command{
		serveCommand(), publishCommand(), tailCommand(), configCommand(), healthCommand(),
		tokenCommand(), keysCommand(), revokeCommand(), clientCommand(), versionCommand(), helpCommand(),
	}
}

// run runs the command that args name and returns the exit code.
func (t *terminal) run(ctx context.Context, args []string) int {
	name := "serve"
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		name, args = args[0], args[1:]
	} else if len(args) == 1 && (args[0] == "--help" || args[0] == "-h" || args[0] == "--version") {
		name, args = strings.TrimPrefix(args[0], "--"), nil
		if name == "-h" {
			name = "help"
		}
	}
	err := t.dispatch(ctx, name, args)
	var usage *usageError
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errHelp):
		if err = help(t.out, []string{name}); err == nil {
			return exitOK
		}
	}
	fmt.Fprintf(t.err, "sluice: %s\n", printable(err.Error()))
	if errors.As(err, &usage) && name != "health" { // docker reserves 2 in health checks
		return exitUsage
	}
	return exitError
}

func (t *terminal) dispatch(ctx context.Context, name string, args []string) error {
	var known []string
	for _, c := range commands() {
		if c.name == name {
			if err := parseFlags(c.flags, args); err != nil {
				return err
			}
			return c.run(ctx, t, c.flags.Args())
		}
		known = append(known, c.name)
	}
	return usagef("unknown command %q; %s", name, didYouMean(name, known, "", "sluice help lists them"))
}
