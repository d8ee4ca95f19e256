package otel

import (
	"math"
	"slices"
	"sync"
	"testing"
)

// wantBucket is Layout.bucket by a search.
func wantBucket(bounds []int64, v int64) int {
	i, _ := slices.BinarySearch(bounds, v)
	return i
}

func TestBuckets(t *testing.T) {
	for _, l := range []*Layout{durations, sizes, NewLayout(1), NewLayout(1, 7), NewLayout(1, 100, 101, 102, 103, math.MaxInt64)} {
		values := []int64{0, 1, 2, 31, 32, 33, math.MaxInt64 - 1, math.MaxInt64}
		for _, b := range l.bounds {
			values = append(values, b-1, b)
			if b < math.MaxInt64 {
				values = append(values, b+1)
			}
		}
		for shift := range 62 {
			values = append(values, 1<<shift, 1<<shift+1, 1<<shift-1)
		}
		for _, v := range values {
			if got, want := l.bucket(v), wantBucket(l.bounds, v); got != want {
				t.Errorf("bounds %v: %d is in bucket %d, want %d", l.bounds, v, got, want)
			}
		}
		if got := l.bucket(-5); got != 0 {
			t.Errorf("-5 is in bucket %d, want the first", got)
		}
	}
}

func TestCells(t *testing.T) {
	if got := cell(math.MaxInt64); got != cells-1 {
		t.Errorf("the last cell is %d of %d", got, cells)
	}
	for c := range cells {
		v := cellStart(c)
		if cell(v) != c {
			t.Fatalf("cell %d starts at %d, which is in cell %d", c, v, cell(v))
		}
		if v > 0 && cell(v-1) != c-1 {
			t.Fatalf("%d is in cell %d, want %d", v-1, cell(v-1), c-1)
		}
	}
}

func FuzzBucket(f *testing.F) {
	f.Add(int64(1), int64(10), int64(100), int64(50))
	f.Add(int64(0), int64(0), int64(0), int64(0))
	f.Add(int64(math.MinInt64), int64(-1), int64(math.MaxInt64), int64(math.MaxInt64))
	f.Fuzz(func(t *testing.T, a, b, c, v int64) {
		bounds := []int64{a, b, c}
		slices.Sort(bounds)
		if v = max(v, 0); bounds[0] < 0 {
			return
		}
		if got, want := NewLayout(1, bounds...).bucket(v), wantBucket(bounds, v); got != want {
			t.Errorf("bounds %v: %d is in bucket %d, want %d", bounds, v, got, want)
		}
	})
}

// A tally adds up to the same as single observations, in whatever order they come.
func TestTally(t *testing.T) {
	one, many := WriteTime.Histogram(), WriteTime.Histogram()
	tally := many.Tally()
	for i := range int64(10_000) {
		v := i * i * i % 1_000_003 * (i % 7)
		one.Observe(v)
		tally.Observe(v)
		if i%13 == 0 {
			tally.Flush()
		}
	}
	for v := range int64(100) {
		values := []int64{v * 900, v*900 + 50, v*900 + 100}
		for _, x := range values {
			one.Observe(x)
		}
		if !tally.ObserveAll(3, values[0]+values[1]+values[2], values[0], values[2]) {
			for _, x := range values {
				tally.Observe(x)
			}
		}
	}
	tally.Flush()
	if one.Count() != 10_300 || one.Count() != many.Count() || one.Sum() != many.Sum() {
		t.Errorf("%d of %d by itself, %d of %d by the tally", one.Count(), one.Sum(), many.Count(), many.Sum())
	}
	for i := range one.counts {
		if a, b := one.counts[i].Load(), many.counts[i].Load(); a != b {
			t.Errorf("bucket %d: %d by itself, %d by the tally", i, a, b)
		}
	}
}

func TestHistogramConcurrent(t *testing.T) {
	h := WriteTime.Histogram()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for v := range int64(10_000) {
				h.Observe(v)
			}
		})
	}
	wg.Wait()
	if h.Count() != 40_000 || h.Sum() != 4*10_000*9_999/2 {
		t.Errorf("%d values, sum %d", h.Count(), h.Sum())
	}
}

func TestBucketsTogether(t *testing.T) {
	a, b := WriteTime.Histogram(), WriteTime.Histogram()
	a.Observe(5e3)
	b.Observe(5e3 + 1)
	b.Observe(math.MaxInt64)
	bounds, got := WriteTime.Bounds(), Buckets(a, b)
	want := make([]uint64, len(bounds)+1)
	want[0], want[1], want[len(bounds)] = 1, 1, 1
	if !slices.Equal(got, want) || bounds[0] != 5e-6 || bounds[len(bounds)-1] != 60 {
		t.Errorf("got %v under %v, want %v", got, bounds, want)
	}
}

func TestObserveAllocatesNothing(t *testing.T) {
	h := WriteTime.Histogram()
	if n := testing.AllocsPerRun(100, func() {
		h.Observe(12345)
		tally := h.Tally()
		tally.Observe(1)
		tally.Observe(1 << 40)
		tally.Flush()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkObserve(b *testing.B) {
	h := WriteTime.Histogram()
	b.Run("single", func(b *testing.B) {
		var v int64
		for b.Loop() {
			v = v*5 + 12345
			h.Observe(v & 0xffffff)
		}
	})
	b.Run("tally of 32", func(b *testing.B) {
		for b.Loop() {
			t := h.Tally()
			for v := range int64(32) {
				t.Observe(1_000_000 + v<<8)
			}
			t.Flush()
		}
	})
}
