package otel

// Source tells a part's numbers. It is called each time that somebody asks, by several goroutines at once.
type Source func(*Readings)

// Readings is what the sources tell at one time. It is for the goroutine that the source was called from.
type Readings struct{ out output }

// output is who wants to know: Prometheus or OpenTelemetry.
type output interface {
	value(i Instrument, value float64, labels []string)
	distribution(i Instrument, d *distribution, labels []string)
}

// distribution is several histograms as one, in the instrument's unit.
type distribution struct {
	counts   []uint64 // by bucket
	n        uint64   // of all
	sum      float64
	examples []*example // of those buckets that have one
}

// Value tells the value of a counter or a gauge for these values of its labels. Each combination is told once.
func (r *Readings) Value(i Instrument, value float64, labels ...string) {
	r.out.value(i, value, labels)
}

// Histogram tells several histograms of i as one, for these values of its labels. Of their exemplars the newest are told.
func (r *Readings) Histogram(i Instrument, parts []*Histogram, labels ...string) {
	l := page[i].layout
	d := &distribution{counts: make([]uint64, len(l.bounds)+1)}
	var sum int64
	for b := range d.counts {
		var newest *example
		for _, h := range parts {
			d.counts[b] += h.counts[b].Load()
			if e := h.example(b); e != nil && (newest == nil || e.Time.After(newest.Time)) {
				newest = e
			}
		}
		d.n += d.counts[b]
		if newest != nil {
			d.examples = append(d.examples, newest)
		}
	}
	for _, h := range parts {
		sum += h.Sum()
	}
	d.sum = l.tell(sum)
	r.out.distribution(i, d, labels)
}
