package otel

import (
	"math"
	"math/bits"
	"slices"
	"sync/atomic"
)

// maxBuckets is how many buckets a histogram can have, the last without a bound.
const maxBuckets = 24

// Layout says where the buckets of a histogram end. It is made once, by NewLayout, and immutable.
//
// A bucket is found without a search: log-linear cells, sixteen to each power of two, know the first bound that may hold for
// what is in them, and hardly any cell has two bounds.
type Layout struct {
	bounds []int64 // ascending
	unit   float64 // so many make one of what is told
	cells  [cells]uint8
}

const (
	cellBits = 4 // 16 cells for each power of two
	cells    = (63-cellBits-1)<<cellBits + 2<<cellBits
)

// NewLayout returns a layout with these bounds, ascending and at most 23. Values are told divided by unit: 1e9 makes
// seconds of nanoseconds.
func NewLayout(unit float64, bounds ...int64) *Layout {
	if len(bounds) >= maxBuckets || !slices.IsSorted(bounds) {
		panic("otel: a layout has at most 23 bounds, ascending")
	}
	l := &Layout{bounds: bounds, unit: unit}
	for c := range l.cells {
		i, _ := slices.BinarySearch(bounds, cellStart(c))
		l.cells[c] = uint8(i)
	}
	return l
}

// cell returns the cell of v, which is not negative.
func cell(v int64) int {
	shift := max(0, bits.Len64(uint64(v))-cellBits-1)
	return shift<<cellBits + int(v>>shift)
}

// cellStart returns the least value of cell c.
func cellStart(c int) int64 {
	shift := max(0, c>>cellBits-1)
	return int64(c-shift<<cellBits) << shift
}

// bucket returns the index of the first bound that is not less than v; values under 0 count as 0.
func (l *Layout) bucket(v int64) int {
	i := int(l.cells[cell(max(v, 0))])
	for i < len(l.bounds) && v > l.bounds[i] {
		i++
	}
	return i
}

// tell returns v in the unit that is told.
func (l *Layout) tell(v int64) float64 { return float64(v) / l.unit }

// Histogram counts values by bucket. It may be used concurrently; it is fastest where one goroutine observes. Make it
// with Instrument.Histogram.
type Histogram struct {
	layout    *Layout
	sum       atomic.Int64
	counts    [maxBuckets]atomic.Uint64
	exemplars atomic.Pointer[exemplars] // nil until there is one
	_         [40]byte                  // whole cache lines, so that one writer's does not share any with another's
}

// Observe counts one value.
func (h *Histogram) Observe(v int64) {
	h.counts[h.layout.bucket(v)].Add(1)
	h.sum.Add(v)
}

// Count returns how many values were observed.
func (h *Histogram) Count() (n uint64) {
	for i := range h.counts {
		n += h.counts[i].Load()
	}
	return n
}

// Buckets returns how many values were observed in each bucket, of several histograms of one instrument together; the last bucket
// has no bound.
func Buckets(parts ...*Histogram) []uint64 {
	n := make([]uint64, len(parts[0].layout.bounds)+1)
	for _, h := range parts {
		for i := range n {
			n[i] += h.counts[i].Load()
		}
	}
	return n
}

// Sum returns the sum of what was observed.
func (h *Histogram) Sum() int64 { return h.sum.Load() }

// Tally observes many values that are mostly alike, such as the ages of messages that leave in one pass: what falls into the
// same bucket one after the other is added at once. Flush ends it. It is for one goroutine.
type Tally struct {
	h      *Histogram
	lo, hi int64 // the bucket: lo < v ≤ hi
	n      uint64
	sum    int64
	bucket int
}

// Tally returns an empty tally of h.
func (h *Histogram) Tally() Tally { return Tally{h: h} }

// Observe notes one value; h has it after Flush at the latest.
func (t *Tally) Observe(v int64) {
	if v <= t.lo || v > t.hi {
		t.turn(v)
	}
	t.n++
	t.sum += v
}

// ObserveAll notes n values from lo to hi with this sum, if they all fall into one bucket; else it notes nothing and returns false.
func (t *Tally) ObserveAll(n int, sum, lo, hi int64) bool {
	if lo <= t.lo || lo > t.hi {
		t.turn(lo)
	}
	if hi > t.hi {
		return false
	}
	t.n += uint64(n)
	t.sum += sum
	return true
}

// turn goes to the bucket of v.
func (t *Tally) turn(v int64) {
	t.settle()
	bounds := t.h.layout.bounds
	t.bucket = t.h.layout.bucket(v)
	t.lo, t.hi = math.MinInt64, math.MaxInt64
	if t.bucket > 0 {
		t.lo = bounds[t.bucket-1]
	}
	if t.bucket < len(bounds) {
		t.hi = bounds[t.bucket]
	}
}

func (t *Tally) settle() {
	if t.n > 0 {
		t.h.counts[t.bucket].Add(t.n)
		t.n = 0
	}
}

// Flush adds what was noted. The tally is empty then.
func (t *Tally) Flush() {
	t.settle()
	if t.sum != 0 {
		t.h.sum.Add(t.sum)
		t.sum = 0
	}
}
