package main

import (
	"math"
	"testing"
)

func TestSlope(t *testing.T) {
	series := func(f func(i int) float64) (s []sample) {
		for i := range 120 {
			s = append(s, sample{at: 7e9 + int64(i)*500e6, rss: f(i)})
		}
		return s
	}
	for _, c := range []struct {
		name    string
		samples []sample
		want    float64
	}{
		{"none", nil, 0},
		{"one", series(func(int) float64 { return 1 })[:1], 0},
		{"flat", series(func(int) float64 { return 4000 }), 0},
		{"grows", series(func(i int) float64 { return 4000 + 3*float64(i) }), 6},
		{"fills first", series(func(i int) float64 { return float64(100 * min(i, 40)) }), 0},
		{"up and down", series(func(i int) float64 { return float64(1000 * (i % 2)) }), 0},
	} {
		if got := slope(c.samples, func(s sample) float64 { return s.rss }); math.Abs(got-c.want) > 2 {
			t.Errorf("%s: %v KiB/s, want %v", c.name, got, c.want)
		}
	}
}

func TestLateOnes(t *testing.T) {
	for _, s := range scenarios() {
		late := s.late()
		if late > 0 != (s.Crawling > 0) || late > 0 && late != s.Stalled+s.Crawling {
			t.Errorf("%s: %d connections come late of %d stalled, %d crawling", s.Name, late, s.Stalled, s.Crawling)
		}
		if heard := s.heard(); heard < 1 || heard > s.Channels {
			t.Errorf("%s: %d of %d channels have listeners", s.Name, heard, s.Channels)
		}
	}
}
