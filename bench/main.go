package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const usageText = `usage:
  bench run [flags] [SCENARIO…]       measure; without names, all scenarios
  bench summary [-into FILE] FILE…    make the tables from files that run wrote
  bench list                          list scenarios and targets`

func main() {
	if err := command(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func command(args []string) error {
	if len(args) == 0 {
		return errors.New("a command is missing\n" + usageText)
	}
	switch args[0] {
	case "run":
		return measure(args[1:])
	case "summary":
		return summarise(args[1:])
	case "siege":
		return siege(args[1:])
	case "list":
		list(os.Stdout)
		return nil
	}
	return fmt.Errorf("no command %q\n%s", args[0], usageText)
}

func list(w io.Writer) {
	for _, s := range scenarios() {
		fmt.Fprintf(w, "%-11s %s\n", s.Name, s.About)
	}
	seen := map[string]bool{}
	for _, s := range scenarios() {
		for _, t := range s.targets() {
			if !seen[t.Name] {
				seen[t.Name] = true
				fmt.Fprintln(w, t.Name)
			}
		}
	}
}

// options are the flags of run.
type options struct {
	site    site
	out     string
	reps    int
	targets string
	noRedis bool
	quick   bool
	secs    float64
	nap     time.Duration
}

func measure(args []string) error {
	var o options
	f := flag.NewFlagSet("run", flag.ContinueOnError)
	f.StringVar(&o.site.bin, "bin", "bin", "folder of the servers' programs")
	f.StringVar(&o.out, "out", "out/run.jsonl", "append results to this file; the servers' logs go beside it")
	f.IntVar(&o.reps, "n", 1, "repetitions; targets take turns in each")
	f.StringVar(&o.targets, "targets", "", "targets, comma separated (default: all that fit the scenario)")
	f.BoolVar(&o.noRedis, "no-redis", false, "leave out the targets that need redis-server")
	f.BoolVar(&o.quick, "quick", false, "a twentieth of the clients for 2 s: shows that it works, its figures mean nothing")
	f.Float64Var(&o.secs, "secs", 0, "length of the stages that last a time; 0: as the scenario says")
	f.IntVar(&o.site.serverCore, "server-core", 0, "core of the measured server")
	f.IntVar(&o.site.loadCore, "load-core", 1, "core of Redis; start this tool on it, too, with taskset")
	f.DurationVar(&o.nap, "nap", 200*time.Microsecond, "rest on the clock this long when nothing is ready; 0 waits in epoll")
	if err := f.Parse(args); err != nil {
		return err
	}
	var chosen []Scenario
	for _, name := range f.Args() {
		s, ok := findScenario(name)
		if !ok {
			return fmt.Errorf("no scenario %q; see bench list", name)
		}
		chosen = append(chosen, s)
	}
	if len(chosen) == 0 {
		chosen = scenarios()
	}
	if err := prepare(&o); err != nil {
		return err
	}
	return o.run(chosen)
}

// prepare gives the process what it needs to hold many connections and to keep time.
func prepare(o *options) error {
	if o.site.serverCore == o.site.loadCore || max(o.site.serverCore, o.site.loadCore) >= cores() {
		return fmt.Errorf("cores %d and %d: two different ones are needed, of the %d here", o.site.serverCore, o.site.loadCore, cores())
	}
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		return fmt.Errorf("limit of open files: %w", err)
	}
	files.Cur = files.Max
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		return fmt.Errorf("limit of open files: %w", err)
	}
	if files.Max < 11000 {
		return fmt.Errorf("ulimit -n is %d; the largest scenario needs 11000", files.Max)
	}
	// Raw system calls keep their P: the second one is for the garbage collector and for Wait.
	runtime.GOMAXPROCS(2)
	// The thread stays, since the servers die with the thread that started them, and since its
	// sleeps are made to end when they should instead of up to 50 µs late.
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, 1000, 0, 0, 0); err != nil {
		return fmt.Errorf("timer slack: %w", err)
	}
	debug.SetGCPercent(400)
	o.site.logs = filepath.Dir(o.out)
	return os.MkdirAll(o.site.logs, 0o755)
}

// cores is how many the machine has; runtime.NumCPU counts those that this process may use.
func cores() int {
	n := 0
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return runtime.NumCPU()
	}
	for line := range strings.Lines(string(b)) {
		if strings.HasPrefix(line, "cpu") && !strings.HasPrefix(line, "cpu ") {
			n++
		}
	}
	return n
}

func (o *options) run(chosen []Scenario) error {
	file, err := os.OpenFile(o.out, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer file.Close()
	var names []string
	if o.targets != "" {
		names = strings.Split(o.targets, ",")
	}
	id, where := time.Now().UTC().Format("20060102T150405Z"), describeHost()
	var troubles []string
	for _, s := range chosen {
		ts, err := chooseTargets(&s, names, !o.noRedis)
		if err != nil {
			return err
		}
		if o.quick {
			s.quick()
		}
		s.last(o.secs)
		for rep := range o.reps {
			for _, t := range ts {
				res := runScenario(t, s, &o.site, o.nap)
				res.Run, res.Host, res.Rep, res.Quick = id, where, rep, o.quick
				progress(os.Stderr, &res)
				if res.Error != "" {
					troubles = append(troubles, s.Name+" "+t.Name)
				}
				if err := json.NewEncoder(file).Encode(&res); err != nil {
					return fmt.Errorf("write %s: %w", o.out, err)
				}
				debug.FreeOSMemory()
			}
		}
	}
	if len(troubles) > 0 {
		slices.Sort(troubles)
		return fmt.Errorf("these went wrong: %s", strings.Join(slices.Compact(troubles), ", "))
	}
	return file.Close()
}

// progress prints a finished measurement for whoever watches.
func progress(w io.Writer, r *Result) {
	if c := r.Connect; c != nil {
		fmt.Fprintf(w, "%-21s %-9s connect  %d at %.0f/s, %.3f ms CPU, %.2f KiB each\n", r.Target, r.Scenario,
			c.Ready, c.PerSec, c.CPUms, float64(c.RSS-c.RSSBefore)/float64(max(c.Ready, 1)))
	}
	for _, s := range r.Stages {
		lat := s.Latency
		if lat == nil {
			lat = &Latency{}
		}
		fmt.Fprintf(w, "%-21s %-9s %-9s %.0f/s, %.3f µs CPU, %.3f writes, p50 %.2f p99 %.2f ms, lost %d dup %d order %d of %d, cut off %d; tool %.2f, foreign %.2f\n",
			r.Target, r.Scenario, s.Kind, s.PerSec, s.CPUus, s.Writes, lat.P50, lat.P99, s.Lost, s.Duplicated, s.Reordered,
			s.Expected, s.Closed, s.LoadUtil, s.ForeignUtil)
		if s.PubErrors > 0 {
			fmt.Fprintf(w, "    publish errors: %d, such as %.200q\n", s.PubErrors, s.PubError)
		}
		switch s.Kind {
		case resume:
			fmt.Fprintf(w, "    connected after %.2f s, recovered after %.2f s, %.2f s CPU\n", s.Reconnect, s.Recovered, s.CPU)
		case stalled, lagging:
			fmt.Fprintf(w, "    each slow one: %.1f KiB kernel, %.1f KiB process; %d cut, got %.1f of %d; growth %.1f and %.1f KiB/s\n",
				s.KernelEach, s.UserEach, s.Cut, s.StalledGot, s.Published, s.KernelSlope, s.RSSSlope)
		case unheard:
			fmt.Fprintf(w, "    %.2f µs a message\n", s.PublishUs)
		case conflated:
			fmt.Fprintf(w, "    %.2f deliveries/s with %.1f messages, %.2f µs a delivery, %.2f a write\n", s.PerClient, s.Together, s.DeliveryUs, s.WriteUs)
		case idle:
			fmt.Fprintf(w, "    %.2f KiB each, CPU %.4f\n", float64(s.RSS-r.Connect.RSSBefore)/float64(r.Conns), s.Util)
		}
	}
	if r.Error != "" {
		fmt.Fprintf(w, "%-21s %-9s ERROR %s\n", r.Target, r.Scenario, r.Error)
	}
}
