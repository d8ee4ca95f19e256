package otel

import (
	"sync/atomic"
	"time"
)

// Exemplar is a span that a value was measured in: who wonders about the slow ones finds one of them by it.
type Exemplar struct {
	TraceID [16]byte
	SpanID  [8]byte
	Time    time.Time
}

// exemplars are the last ones of a histogram, by bucket.
type exemplars [maxBuckets]atomic.Pointer[example]

// example is an exemplar with its value.
type example struct {
	Exemplar
	value int64
}

// Exemplify keeps e as an example of the values in v's bucket, instead of the one before. It observes nothing. It allocates: it
// is for the few messages that are traced.
func (h *Histogram) Exemplify(v int64, e Exemplar) {
	all := h.exemplars.Load()
	if all == nil {
		h.exemplars.CompareAndSwap(nil, new(exemplars))
		all = h.exemplars.Load()
	}
	all[h.layout.bucket(v)].Store(&example{e, v})
}

// example returns the exemplar of a bucket, nil if there is none.
func (h *Histogram) example(bucket int) *example {
	if all := h.exemplars.Load(); all != nil {
		return all[bucket].Load()
	}
	return nil
}
