package otel

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

// producer hands the sources' numbers to the SDK, which asks before each export. So nothing is recorded twice, and what goes out is
// what the page for Prometheus says. Its counters count from the start of the process, whatever temporality is preferred.
type producer struct {
	sources []Source
	scope   instrumentation.Scope
	since   time.Time
}

// Produce implements sdkmetric.Producer.
func (p *producer) Produce(context.Context) ([]metricdata.ScopeMetrics, error) {
	out := &otlpOutput{since: p.since, now: time.Now()}
	for _, s := range p.sources {
		s(&Readings{out})
	}
	if out.err != nil { // a bug in a source: nothing that looks right goes out, as on the page
		return nil, out.err
	}
	return []metricdata.ScopeMetrics{{Scope: p.scope, Metrics: out.metrics()}}, nil
}

// otlpName returns an instrument's name by the conventions of OpenTelemetry, which put the unit, and that it is a counter, beside
// the name. A receiver that puts them back gets the name on the page.
func otlpName(i Instrument) string {
	r := &page[i]
	name := strings.TrimPrefix(r.name, "sluice_")
	if r.kind == counter {
		name = strings.TrimSuffix(name, "_total")
	}
	if unit := baseUnits[r.unit]; unit != "" {
		name = strings.TrimSuffix(name, "_"+unit)
	}
	return "sluice." + name
}

// otlpOutput gathers readings as OpenTelemetry has them: by instrument.
type otlpOutput struct {
	since, now time.Time
	values     [instruments][]metricdata.DataPoint[float64]
	histograms [instruments][]metricdata.HistogramDataPoint[float64]
	err        error
}

func (o *otlpOutput) value(i Instrument, value float64, labels []string) {
	p := metricdata.DataPoint[float64]{Attributes: o.attributes(i, labels), Time: o.now, Value: value}
	if page[i].kind == counter {
		p.StartTime = o.since
	}
	o.values[i] = append(o.values[i], p)
}

func (o *otlpOutput) distribution(i Instrument, d *distribution, labels []string) {
	l := page[i].layout
	p := metricdata.HistogramDataPoint[float64]{
		Attributes: o.attributes(i, labels), StartTime: o.since, Time: o.now,
		Count: d.n, Sum: d.sum, BucketCounts: d.counts, Bounds: make([]float64, len(l.bounds)),
	}
	for b, bound := range l.bounds {
		p.Bounds[b] = l.tell(bound)
	}
	for _, e := range d.examples {
		p.Exemplars = append(p.Exemplars, metricdata.Exemplar[float64]{Time: e.Time, Value: l.tell(e.value), TraceID: e.TraceID[:], SpanID: e.SpanID[:]})
	}
	o.histograms[i] = append(o.histograms[i], p)
}

func (o *otlpOutput) attributes(i Instrument, labels []string) attribute.Set {
	names := page[i].labels
	if len(labels) != len(names) {
		o.err = errors.Join(o.err, fmt.Errorf("%s: %d values for the labels %v", page[i].name, len(labels), names))
		return attribute.Set{}
	}
	kvs := make([]attribute.KeyValue, len(names))
	for j, n := range names {
		kvs[j] = attribute.String(n, labels[j])
	}
	return attribute.NewSet(kvs...)
}

// metrics returns what was gathered, in the order of the page.
func (o *otlpOutput) metrics() (all []metricdata.Metrics) {
	for i := range instruments {
		r := &page[i]
		m := metricdata.Metrics{Name: otlpName(i), Description: r.help, Unit: r.unit}
		switch {
		case len(o.histograms[i]) > 0:
			m.Data = metricdata.Histogram[float64]{DataPoints: o.histograms[i], Temporality: metricdata.CumulativeTemporality}
		case len(o.values[i]) == 0:
			continue
		case r.kind == counter:
			m.Data = metricdata.Sum[float64]{DataPoints: o.values[i], Temporality: metricdata.CumulativeTemporality, IsMonotonic: true}
		default:
			m.Data = metricdata.Gauge[float64]{DataPoints: o.values[i]}
		}
		all = append(all, m)
	}
	return all
}
