package main

import (
	"math"
	"math/bits"
)

// hist is a log-linear histogram of nanoseconds: 64 buckets per power of two, about 1.5 % apart.
type hist struct {
	n       int64
	max     int64
	buckets [64 * 64]int64
}

func (h *hist) add(v int64) {
	v = max(v, 0)
	h.max = max(h.max, v)
	h.n++
	h.buckets[bucket(uint64(v))]++
}

func bucket(v uint64) int {
	if v < 64 {
		return int(v)
	}
	e := bits.Len64(v) - 7 // v>>e is in [64,128)
	return (e+1)*64 + int(v>>uint(e)) - 64
}

func bucketMiddle(i int) int64 {
	if i < 64 {
		return int64(i)
	}
	e := uint(i/64 - 1)
	return int64(i%64+64)<<e + int64(1)<<e/2
}

// quantile returns the value that the share p of all values does not exceed; 0 if there are none.
func (h *hist) quantile(p float64) int64 {
	if h.n == 0 {
		return 0
	}
	want := int64(p*float64(h.n) + 0.5)
	var seen int64
	for i, n := range h.buckets {
		if seen += n; seen >= want && n > 0 {
			return min(bucketMiddle(i), h.max)
		}
	}
	return h.max
}

// Latency sums a histogram up, in milliseconds.
type Latency struct {
	P50 float64 `json:"p50_ms"`
	P99 float64 `json:"p99_ms"`
	Max float64 `json:"max_ms"`
}

// summary returns nil for an empty histogram.
func (h *hist) summary() *Latency {
	if h.n == 0 {
		return nil
	}
	ms := func(v int64) float64 { return round(float64(v)/1e6, 3) }
	return &Latency{P50: ms(h.quantile(.5)), P99: ms(h.quantile(.99)), Max: ms(h.max)}
}

func round(v float64, digits int) float64 {
	m := math.Pow(10, float64(digits))
	return math.Round(v*m) / m
}
