package main

import (
	"fmt"
	"strconv"
)

// column is one figure in the table of a scenario.
type column struct {
	head   string
	digits int
	ratio  bool // a second column has the ratio to the rival
	value  func(*Result) (float64, bool)
}

func (c *column) format(v float64) string {
	if v >= 10000 && c.digits == 0 {
		return fmt.Sprintf("%.0f k", v/1000)
	}
	return strconv.FormatFloat(v, 'f', c.digits, 64)
}

// columnsOf returns the figures that tell about a scenario, by the kinds of its stages.
func columnsOf(s *Scenario) []column {
	if s.heard() < s.Channels {
		return conflatedColumns()
	}
	var cols []column
	if len(s.Stages) == 0 || s.Stages[0].Kind == idle {
		cols = append(cols, connectColumns()...)
	}
	for _, st := range s.Stages {
		switch st.Kind {
		case idle:
			cols = append(cols, idleColumns()...)
		case paced:
			if s.Stalled == 0 && !s.resumes() {
				cols = append(cols, pacedColumns()...)
			}
		case saturated:
			cols = append(cols, saturatedColumns()...)
		case resume:
			cols = append(cols, resumeColumns()...)
		case stalled:
			cols = append(cols, stalledColumns()...)
		case besieged:
			cols = append(cols, besiegedColumns()...)
		case lagging:
			cols = append(cols, laggingColumns()...)
		}
	}
	if len(s.Stages) > 0 && s.Stages[0].Kind != idle {
		cols = append(cols, column{"lost", 0, false, sum(func(s *StageResult) float64 { return float64(s.Lost) })},
			column{"twice or out of order", 0, false, sum(func(s *StageResult) float64 { return float64(s.Duplicated + s.Reordered) })})
	}
	return cols
}

func connectColumns() []column {
	return []column{
		{"connects/s", 0, false, func(r *Result) (float64, bool) { return r.Connect.PerSec, true }},
		{"CPU ms a connect", 3, true, func(r *Result) (float64, bool) { return r.Connect.CPUms, true }},
		{"p99 ms a connect", 0, false, func(r *Result) (float64, bool) {
			if r.Connect.Latency == nil {
				return 0, false
			}
			return r.Connect.Latency.P99, true
		}},
		{"KiB each, connected", 2, true, func(r *Result) (float64, bool) {
			return float64(r.Connect.RSS-r.Connect.RSSBefore) / float64(r.Conns), true
		}},
	}
}

func idleColumns() []column {
	return []column{
		{"KiB each, 10 s later", 2, true, func(r *Result) (float64, bool) {
			s := r.stage(idle)
			if s == nil {
				return 0, false
			}
			return float64(s.RSS-r.Connect.RSSBefore) / float64(r.Conns), true
		}},
		{"CPU while idle, %", 2, false, of(idle, func(s *StageResult) float64 { return 100 * s.Util })},
	}
}

func pacedColumns() []column {
	return []column{
		{"paced: CPU µs a delivery", 2, true, of(paced, func(s *StageResult) float64 { return s.CPUus })},
		{"p50 ms", 2, false, p50(paced)},
		{"p99 ms", 1, false, p99(paced)},
	}
}

func saturatedColumns() []column {
	return []column{
		{"saturated: CPU µs a delivery", 2, true, of(saturated, func(s *StageResult) float64 { return s.CPUus })},
		{"deliveries/s", 0, false, of(saturated, func(s *StageResult) float64 { return s.PerSec })},
		{"writes a delivery", 2, false, of(saturated, func(s *StageResult) float64 { return s.Writes })},
		{"p50 ms", 1, false, p50(saturated)},
		{"p99 ms", 1, false, p99(saturated)},
	}
}

func resumeColumns() []column {
	return []column{
		{"all connected, s", 2, false, of(resume, func(s *StageResult) float64 { return s.Reconnect })},
		{"all recovered, s", 2, false, of(resume, func(s *StageResult) float64 { return s.Recovered })},
		{"CPU s", 2, false, of(resume, func(s *StageResult) float64 { return s.CPU })},
		{"CPU µs a message, connects included", 2, false, of(resume, func(s *StageResult) float64 { return s.CPUus })},
		{"messages", 0, false, of(resume, func(s *StageResult) float64 { return float64(s.Received) })},
	}
}

func stalledColumns() []column {
	return []column{
		{"p99 ms, all read", 1, false, p99(paced)},
		{"p99 ms of the others, 5 % stalled", 1, false, p99(stalled)},
		{"stalled ÷ all read", 2, false, func(r *Result) (float64, bool) {
			a, ok := p99(paced)(r)
			b, ok2 := p99(stalled)(r)
			return b / max(a, 0.001), ok && ok2
		}},
		{"KiB kernel each", 0, true, of(stalled, func(s *StageResult) float64 { return s.KernelEach })},
		{"KiB process each", 0, true, of(stalled, func(s *StageResult) float64 { return s.UserEach })},
		{"cut off, of 100", 0, false, of(stalled, func(s *StageResult) float64 { return float64(s.Cut) })},
		{"got in the end, of 150", 0, false, of(stalled, func(s *StageResult) float64 { return s.StalledGot })},
	}
}

// conflatedColumns compare what comes as it comes with what is thinned out.
func conflatedColumns() []column {
	return []column{
		{"cores for 5,000 messages/s to 1,000", 3, true, cores5000(func(*StageResult) float64 { return 0 })},
		{"without publishing", 3, true, cores5000(func(s *StageResult) float64 { return s.PublishUs })},
		{"CPU µs a write", 2, true, func(r *Result) (float64, bool) {
			if s := r.stage(conflated); s != nil {
				return s.WriteUs, true
			}
			s := r.stage(paced)
			if s == nil || s.Writes == 0 {
				return 0, false
			}
			return s.CPUus / s.Writes, true
		}},
		{"CPU µs a delivery", 2, true, func(r *Result) (float64, bool) {
			if s := r.stage(conflated); s != nil {
				return s.DeliveryUs, true
			}
			return of(paced, func(s *StageResult) float64 { return s.CPUus })(r)
		}},
		{"deliveries/s, the client with most", 2, false, of(conflated, func(s *StageResult) float64 { return s.PerClient })},
		{"messages a delivery", 1, false, of(conflated, func(s *StageResult) float64 { return s.Together })},
		{"most in a frame", 0, false, of(conflated, func(s *StageResult) float64 { return float64(s.MostInFrame) })},
	}
}

// cores5000 returns what 5,000 messages a second to 1,000 clients take, less what a message costs by less,
// in µs. As they come that is more than a core can do: then what each of fewer clients takes is scaled up, and
// what publishing takes is not.
func cores5000(less func(*StageResult) float64) func(*Result) (float64, bool) {
	const messages, clients = 5000, 1000
	return func(r *Result) (float64, bool) {
		silent := r.stage(unheard)
		if silent == nil {
			return 0, false
		}
		publishing, used := silent.PublishUs*messages/1e6, 0.0
		if s := r.stage(conflated); s != nil {
			used = s.CPU / max(s.Secs, 1)
		} else if s := r.stage(flood); s != nil {
			used = publishing + (s.CPU/max(s.Secs, 1)-publishing)*clients/float64(max(s.Clients, 1))
		}
		return used - less(silent)*messages/1e6, used > 0
	}
}

func besiegedColumns() []column {
	return []column{
		{"p50 ms beside them", 2, false, p50(besieged)},
		{"p99 ms beside them", 1, false, p99(besieged)},
		{"p99, with ÷ without", 2, false, func(r *Result) (float64, bool) {
			a, ok := p99(paced)(r)
			b, ok2 := p99(besieged)(r)
			return b / max(a, 0.001), ok && ok2
		}},
		{"descriptors", 0, false, of(besieged, func(s *StageResult) float64 { return float64(s.Descriptors) })},
		{"CPU, %", 0, false, of(besieged, func(s *StageResult) float64 { return 100 * s.Util })},
		{"MiB at most", 0, false, of(besieged, func(s *StageResult) float64 { return float64(s.RSSPeak) / 1024 })},
		{"good ones cut off", 0, false, of(besieged, func(s *StageResult) float64 { return float64(s.Closed) })},
	}
}

func laggingColumns() []column {
	return []column{
		{"p99 ms, without the slow", 1, false, p99(paced)},
		{"p99 ms, with them", 1, false, p99(lagging)},
		{"with ÷ without", 2, false, func(r *Result) (float64, bool) {
			a, ok := p99(paced)(r)
			b, ok2 := p99(lagging)(r)
			return b / max(a, 0.001), ok && ok2
		}},
		{"KiB kernel a slow one", 0, false, of(lagging, func(s *StageResult) float64 { return s.KernelEach })},
		{"KiB process a slow one", 0, false, of(lagging, func(s *StageResult) float64 { return s.UserEach })},
		{"kernel, KiB/s", 1, false, of(lagging, func(s *StageResult) float64 { return s.KernelSlope })},
		{"process, KiB/s", 1, false, of(lagging, func(s *StageResult) float64 { return s.RSSSlope })},
		{"cut off, of 100", 0, false, of(lagging, func(s *StageResult) float64 { return float64(s.Cut) })},
		{"a slow one got, of 2,400", 0, false, of(lagging, func(s *StageResult) float64 { return s.StalledGot })},
	}
}

// stage returns the first stage of a kind, or nil.
func (r *Result) stage(kind string) *StageResult {
	for i := range r.Stages {
		if r.Stages[i].Kind == kind {
			return &r.Stages[i]
		}
	}
	return nil
}

// of takes a figure from the stage of a kind.
func of(kind string, f func(*StageResult) float64) func(*Result) (float64, bool) {
	return func(r *Result) (float64, bool) {
		s := r.stage(kind)
		if s == nil {
			return 0, false
		}
		return f(s), true
	}
}

// sum adds a figure up over all stages.
func sum(f func(*StageResult) float64) func(*Result) (float64, bool) {
	return func(r *Result) (total float64, ok bool) {
		for i := range r.Stages {
			total += f(&r.Stages[i])
		}
		return total, true
	}
}

func p50(kind string) func(*Result) (float64, bool) {
	return latencyOf(kind, func(l *Latency) float64 { return l.P50 })
}

func p99(kind string) func(*Result) (float64, bool) {
	return latencyOf(kind, func(l *Latency) float64 { return l.P99 })
}

func latencyOf(kind string, f func(*Latency) float64) func(*Result) (float64, bool) {
	return func(r *Result) (float64, bool) {
		s := r.stage(kind)
		if s == nil || s.Latency == nil {
			return 0, false
		}
		return f(s.Latency), true
	}
}
