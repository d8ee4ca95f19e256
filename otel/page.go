package otel

import (
	"bytes"
	"encoding/hex"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/common/expfmt"
)

// Page renders the metrics of a node. It may be used concurrently.
type Page struct{ registry *prometheus.Registry }

// NewPage returns a page of what the sources tell, of the Go runtime and of the process.
func NewPage(sources ...Source) *Page {
	c := &collector{sources: sources}
	for i := range page {
		r := &page[i]
		c.descs[i] = prometheus.V2.NewDesc(r.name, r.help, prometheus.UnconstrainedLabels(r.labels), nil, prometheus.WithUnit(baseUnits[r.unit]))
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
	r := &Readings{&prometheusOutput{descs: &c.descs, out: out}}
	for _, s := range c.sources {
		s(r)
	}
}

// prometheusOutput tells readings to Prometheus' library.
type prometheusOutput struct {
	descs *[instruments]*prometheus.Desc
	out   chan<- prometheus.Metric
}

func (p *prometheusOutput) value(i Instrument, value float64, labels []string) {
	t := prometheus.GaugeValue
	if page[i].kind == counter {
		t = prometheus.CounterValue
	}
	p.tell(i)(prometheus.NewConstMetric(p.descs[i], t, value, labels...))
}

func (p *prometheusOutput) distribution(i Instrument, d *distribution, labels []string) {
	l := page[i].layout
	below := make(map[float64]uint64, len(l.bounds))
	var n uint64
	for b, bound := range l.bounds {
		n += d.counts[b]
		below[l.tell(bound)] = n
	}
	m, err := prometheus.NewConstHistogram(p.descs[i], d.n, d.sum, below, labels...)
	if err == nil && len(d.examples) > 0 {
		all := make([]prometheus.Exemplar, len(d.examples))
		for j, e := range d.examples {
			all[j] = prometheus.Exemplar{Value: l.tell(e.value), Timestamp: e.Time, Labels: prometheus.Labels{
				"trace_id": hex.EncodeToString(e.TraceID[:]), "span_id": hex.EncodeToString(e.SpanID[:]),
			}}
		}
		m, err = prometheus.NewMetricWithExemplars(m, all...)
	}
	p.tell(i)(m, err)
}

// tell takes what the constructors return; an error, which is a bug in a source, makes the page fail.
func (p *prometheusOutput) tell(i Instrument) func(prometheus.Metric, error) {
	return func(m prometheus.Metric, err error) {
		if err != nil {
			m = prometheus.NewInvalidMetric(p.descs[i], fmt.Errorf("%s: %w", page[i].name, err))
		}
		p.out <- m
	}
}
