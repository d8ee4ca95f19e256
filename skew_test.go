package main

import (
	"bufio"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"sluice/broker/redistest"
	"sluice/otel/oteltest"
)

// Two nodes whose clocks are 100 ms apart agree on how long messages take, since both know how far they are from Redis.
func TestSkewedNodes(t *testing.T) {
	r, collector := redistest.Start(t), oteltest.Start(t)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.HTTP)
	t.Setenv("OTEL_METRICS_EXPORTER", "none")
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
	const skew = 50 * time.Millisecond
	var nodes []*node
	for _, wrong := range []time.Duration{skew, -skew} {
		n := startNodeAs(t, func(p *Program) { p.clock.Skew = wrong }, "--dev", "--redis", r.URL(), "--metrics", "127.0.0.1:0")
		nodes = append(nodes, n)
		await(t, "an estimate of Redis' clock", func() bool { _, _, known := n.clock.Offset(); return known })
		if offset, bound, _ := n.clock.Offset(); (offset + wrong).Abs() > bound+time.Millisecond {
			t.Fatalf("a clock that is %v wrong is found to be %v behind Redis', give or take %v", wrong, offset, bound)
		}
	}
	const messages = 20
	var streams []*bufio.Scanner
	for _, n := range nodes {
		res, err := http.Get(n.base + "/sse?channel=a")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = res.Body.Close() })
		s := bufio.NewScanner(res.Body)
		readUntil(t, s, "welcome")
		streams = append(streams, s)
	}
	for i := range messages {
		res, err := http.Post(nodes[0].base+"/publish/a", "text/plain", strings.NewReader(fmt.Sprint("m", i)))
		if err != nil || res.StatusCode != http.StatusOK {
			t.Fatal(res, err)
		}
		_ = res.Body.Close()
		for _, s := range streams {
			readUntil(t, s, fmt.Sprint("data: m", i))
		}
	}
	deliveries := func() (all []oteltest.Span) {
		for _, s := range collector.Spans() {
			if s.Name == "deliver" {
				all = append(all, s)
			}
		}
		return all
	}
	await(t, "the spans", func() bool { return len(deliveries()) == 2*messages })
	behind := 0
	for _, s := range deliveries() {
		offset, _ := strconv.Atoi(s.Attribute("sluice.clock.offset_us"))
		if offset > 0 {
			behind++
		}
		took := time.Duration(s.EndTimeUnixNano - s.StartTimeUnixNano)
		transit, _ := strconv.ParseFloat(s.Attribute("sluice.transit_ms"), 64)
		if took > skew*4/5 || transit < 0 || s.Attribute("sluice.clock.clamped") != "" || time.Duration(offset).Abs()*time.Microsecond < skew*9/10 {
			t.Errorf("a delivery takes %v, transit %v ms, clamped %q, offset %d µs", took, transit, s.Attribute("sluice.clock.clamped"), offset)
		}
	}
	if behind != messages {
		t.Errorf("%d deliveries of the node that is behind, want %d", behind, messages)
	}
	for i, n := range nodes {
		_, body := get(t, http.DefaultClient, "http://"+n.metrics.addr().String()+"/metrics")
		for name, most := range map[string]float64{"sluice_transit_seconds": messages * 0.04, `sluice_publish_to_write_seconds`: messages * 0.04} {
			if sum := metric(t, body, name+"_sum"); sum <= 0 || sum > most {
				t.Errorf("node %d: %s sums up to %v s of %d messages", i, name, sum, messages)
			}
		}
		if clamped := metric(t, body, "sluice_clock_clamped_total"); clamped != 0 {
			t.Errorf("node %d: %v messages from the future", i, clamped)
		}
		want := []float64{-0.05, 0.05}[i]
		if got := metric(t, body, "sluice_clock_offset_seconds"); got < want-0.005 || got > want+0.005 {
			t.Errorf("node %d: offset %v s, want about %v", i, got, want)
		}
	}
}

// metric sums up a metric over its labels.
func metric(t *testing.T, body, name string) (sum float64) {
	t.Helper()
	found := false
	for line := range strings.Lines(body) {
		if rest, ok := strings.CutPrefix(line, name); ok && (rest[0] == ' ' || rest[0] == '{') {
			v, err := strconv.ParseFloat(strings.TrimSpace(line[strings.LastIndexByte(line, ' '):]), 64)
			if err != nil {
				t.Fatal(err)
			}
			sum, found = sum+v, true
		}
	}
	if !found {
		t.Errorf("%s is missing", name)
	}
	return sum
}

func readUntil(t *testing.T, s *bufio.Scanner, text string) {
	t.Helper()
	for s.Scan() {
		if strings.Contains(s.Text(), text) {
			return
		}
	}
	t.Fatalf("the stream ends before %q: %v", text, s.Err())
}

// await waits until ok.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for begin := time.Now(); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Since(begin) > patience {
			t.Fatalf("waited %v for %s", patience, what)
		}
	}
}
