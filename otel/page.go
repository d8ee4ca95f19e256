package otel

import (
	"bytes"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/common/expfmt"
)

// Source tells a part's numbers. It is called each time that somebody asks, by several goroutines at once.
type Source func(*Readings)

// Readings is what the sources tell at one time. It is for the goroutine that the source was called from.
type Readings struct {
	descs *[instruments]*prometheus.Desc
	out   chan<- prometheus.Metric
}

// Value tells the value of a counter or a gauge for these values of its labels. Each combination is told once.
func (r *Readings) Value(i Instrument, value float64, labels ...string) {
	t := prometheus.GaugeValue
	if page[i].kind == counter {
		t = prometheus.CounterValue
	}
	r.tell(i)(prometheus.NewConstMetric(r.descs[i], t, value, labels...))
}

// Histogram tells several histograms of i as one, for these values of its labels.
func (r *Readings) Histogram(i Instrument, parts []*Histogram, labels ...string) {
	l := page[i].layout
	below := make(map[float64]uint64, len(l.bounds))
	var n uint64
	var sum int64
	for b := range len(l.bounds) + 1 {
		for _, h := range parts {
			n += h.counts[b].Load()
		}
		if b < len(l.bounds) {
			below[float64(l.bounds[b])/l.unit] = n
		}
	}
	for _, h := range parts {
		sum += h.Sum()
	}
	r.tell(i)(prometheus.NewConstHistogram(r.descs[i], n, float64(sum)/l.unit, below, labels...))
}

// tell takes what the constructors return; an error, which is a bug in a source, makes the page fail.
func (r *Readings) tell(i Instrument) func(prometheus.Metric, error) {
	return func(m prometheus.Metric, err error) {
		if err != nil {
			m = prometheus.NewInvalidMetric(r.descs[i], fmt.Errorf("%s: %w", page[i].name, err))
		}
		r.out <- m
	}
}

// Page renders the metrics of a node. It may be used concurrently.
type Page struct{ registry *prometheus.Registry }

// NewPage returns a page of what the sources tell, of the Go runtime and of the process.
func NewPage(sources ...Source) *Page {
	c := &collector{sources: sources}
	for i := range page {
		c.descs[i] = prometheus.NewDesc(page[i].name, page[i].help, page[i].labels, nil)
	}
	p := &Page{registry: prometheus.NewPedanticRegistry()}
	p.registry.MustRegister(c, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return p
}

// formats are what a page can be rendered in; who takes anything gets the first.
var formats = []expfmt.Format{expfmt.FmtText, expfmt.FmtOpenMetrics_1_0_0, expfmt.FmtOpenMetrics_0_0_1}

// Render returns all metrics in the format that the Accept header of the request prefers: OpenMetrics or Prometheus' text.
func (p *Page) Render(accept []string) (body []byte, contentType string, err error) {
	families, err := p.registry.Gather()
	if err != nil {
		return nil, "", fmt.Errorf("gather metrics: %w", err)
	}
	format := expfmt.NegotiateAccept(map[string][]string{"Accept": accept}, formats...)
	var b bytes.Buffer
	e := expfmt.NewEncoder(&b, format)
	for _, f := range families {
		if err := e.Encode(f); err != nil {
			return nil, "", fmt.Errorf("encode %s: %w", f.GetName(), err)
		}
	}
	if c, ok := e.(expfmt.Closer); ok { // the end mark of OpenMetrics
		if err := c.Close(); err != nil {
			return nil, "", fmt.Errorf("encode metrics: %w", err)
		}
	}
	return b.Bytes(), string(format), nil
}

// collector is the sources as Prometheus' library wants them.
type collector struct {
	descs   [instruments]*prometheus.Desc
	sources []Source
}

func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		out <- d
	}
}

func (c *collector) Collect(out chan<- prometheus.Metric) {
	r := &Readings{descs: &c.descs, out: out}
	for _, s := range c.sources {
		s(r)
	}
}
