package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
)

// Between these lines of a page the tables are replaced.
const (
	beginMark = "<!-- results: begin -->"
	endMark   = "<!-- results: end -->"
)

func summarise(args []string) error {
	f := flag.NewFlagSet("summary", flag.ContinueOnError)
	into := f.String("into", "", "replace the results in this page (default: print them)")
	if err := f.Parse(args); err != nil {
		return err
	}
	results, err := readResults(f.Args())
	if err != nil {
		return err
	}
	var b bytes.Buffer
	writeSummary(&b, results)
	if *into == "" {
		_, err := os.Stdout.Write(b.Bytes())
		return err
	}
	page, err := os.ReadFile(*into)
	if err != nil {
		return err
	}
	page, err = replaceResults(page, b.Bytes())
	if err != nil {
		return fmt.Errorf("%s: %w", *into, err)
	}
	return os.WriteFile(*into, page, 0o644)
}

func replaceResults(page, results []byte) ([]byte, error) {
	head, rest, ok := bytes.Cut(page, []byte(beginMark))
	_, tail, ok2 := bytes.Cut(rest, []byte(endMark))
	if !ok || !ok2 {
		return nil, fmt.Errorf("the lines %s and %s are missing", beginMark, endMark)
	}
	return slices.Concat(head, []byte(beginMark+"\n\n"), results, []byte("\n"+endMark), tail), nil
}

func readResults(files []string) ([]Result, error) {
	if len(files) == 0 {
		return nil, errors.New("summary: no files given")
	}
	var all []Result
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		d := json.NewDecoder(bytes.NewReader(b))
		for {
			var r Result
			if err := d.Decode(&r); err == io.EOF {
				break
			} else if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			all = append(all, r)
		}
	}
	return all, nil
}

// writeSummary writes one table per scenario, in the order of scenarios.
func writeSummary(w io.Writer, all []Result) {
	if len(all) == 0 {
		fmt.Fprintln(w, "Nothing was measured.")
		return
	}
	first, last, foreign := all[0].At, all[0].At, []float64{}
	for _, r := range all {
		first, last = min(first, r.At), max(last, r.At)
		for _, s := range r.Stages {
			foreign = append(foreign, s.ForeignUtil)
		}
	}
	day := first[:len("2006-01-02")]
	if until := last[:len("2006-01-02")]; until != day {
		day += " to " + until
	}
	fmt.Fprintf(w, "Measured on %s: %s.", day, all[0].Host)
	if len(foreign) > 0 {
		slices.Sort(foreign)
		fmt.Fprintf(w, " Everything else on the machine took %.0f %% of the server's core (median; at worst %.0f %%).",
			100*median(foreign), 100*foreign[len(foreign)-1])
	}
	fmt.Fprintln(w)
	for _, s := range scenarios() {
		var rs []Result
		for _, r := range all {
			if r.Scenario == s.Name {
				rs = append(rs, r)
			}
		}
		if len(rs) > 0 {
			writeTable(w, &s, rs)
		}
	}
}

func writeTable(w io.Writer, s *Scenario, rs []Result) {
	fmt.Fprintf(w, "\n### %s: %s\n\n", s.Name, s.About)
	if slices.ContainsFunc(rs, func(r Result) bool { return r.Quick }) {
		fmt.Fprint(w, "**Some of these are from a quick run: they show that it works, and mean nothing.**\n\n")
	}
	cols := columnsOf(s)
	head, rule := "| target | n |", "| --- | ---: |"
	for _, c := range cols {
		head += " " + c.head + " |"
		rule += " ---: |"
		if c.ratio {
			head += " " + c.versus(s) + " |"
			rule += " ---: |"
		}
	}
	fmt.Fprintf(w, "%s\n%s\n", head, rule)
	var failures []string
	for _, t := range s.targets() {
		var own []Result
		for _, r := range rs {
			switch {
			case r.Target != t.Name:
			case r.Error != "":
				failures = append(failures, fmt.Sprintf("- %s, repetition %d: %s", t.Name, r.Rep+1, r.Error))
			default:
				own = append(own, r)
			}
		}
		if len(own) == 0 {
			continue
		}
		fmt.Fprintf(w, "| %s | %d |", t.Name, len(own))
		for _, c := range cols {
			fmt.Fprintf(w, " %s |", c.cell(own))
			if c.ratio {
				fmt.Fprintf(w, " %s |", c.ratioCell(s, own, rs))
			}
		}
		fmt.Fprintln(w)
	}
	if late := lateRuns(rs); len(late) > 0 {
		fmt.Fprintf(w, "\nHere the tool itself was held up, and the latencies are not the server's (p99 of its own delay): %s.\n", strings.Join(late, ", "))
	}
	if len(failures) > 0 {
		fmt.Fprintf(w, "\nNot in the table:\n\n%s\n", strings.Join(failures, "\n"))
	}
}

// lateRuns lists measurements in which the tool could not keep its pace: something else had its
// core.
func lateRuns(rs []Result) (late []string) {
	const tolerable = 10 // ms
	for _, r := range rs {
		worst := 0.0
		for _, s := range r.Stages {
			worst = max(worst, s.PubLagP99)
		}
		if worst > tolerable {
			late = append(late, fmt.Sprintf("%s %d (%.0f ms)", r.Target, r.Rep+1, worst))
		}
	}
	return late
}

// cell returns "median [min..max]" over the repetitions; without the range where there is none.
func (c *column) cell(rs []Result) string {
	var v []float64
	for i := range rs {
		if x, ok := c.value(&rs[i]); ok {
			v = append(v, x)
		}
	}
	if len(v) == 0 {
		return "–"
	}
	slices.Sort(v)
	mid, low, high := c.format(median(v)), c.format(v[0]), c.format(v[len(v)-1])
	if low == high {
		return mid
	}
	return fmt.Sprintf("%s [%s..%s]", mid, low, high)
}

// difference reports whether c is compared with the rival's figure by what it is more, not by how many times.
func (c *column) difference(s *Scenario) bool {
	return s.Terms != nil && strings.HasPrefix(c.head, "KiB")
}

// versus is the head of the second column.
func (c *column) versus(s *Scenario) string {
	switch {
	case c.difference(s):
		return "− as it comes"
	case s.Terms != nil:
		return "÷ as it comes"
	}
	return "÷ gohub"
}

// ratioCell returns the median of the ratios to the rival's figure of the same run and repetition.
func (c *column) ratioCell(s *Scenario, own, all []Result) string {
	var v []float64
	for i := range own {
		r := &own[i]
		if r.Rival == r.Target {
			continue
		}
		for j := range all {
			o := &all[j]
			if o.Run != r.Run || o.Rep != r.Rep || o.Target != r.Rival || o.Error != "" {
				continue
			}
			a, ok := c.value(r)
			b, ok2 := c.value(o)
			switch {
			case ok && ok2 && c.difference(s):
				v = append(v, a-b)
			case ok && ok2 && b > 0:
				v = append(v, a/b)
			}
		}
	}
	if len(v) == 0 {
		return "–"
	}
	slices.Sort(v)
	return strconv.FormatFloat(median(v), 'f', 2, 64)
}

// median of sorted values.
func median(v []float64) float64 {
	n := len(v)
	if n%2 == 1 {
		return v[n/2]
	}
	return (v[n/2-1] + v[n/2]) / 2
}
