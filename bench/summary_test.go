package main

import (
	"strings"
	"testing"
)

func broadcastResult(target, run string, rep int, us float64) Result {
	rival := "gohub-ws"
	lat := &Latency{P50: 1, P99: 2, Max: 3}
	return Result{Run: run, Host: "host", At: "2026-01-02T03:04:05Z", Target: target, Rival: rival, Scenario: "broadcast", Rep: rep,
		Conns: 1000, Connect: &ConnectResult{Latency: lat}, Stages: []StageResult{
			{Stage: Stage{Kind: paced}, CPUus: us, Latency: lat}, {Stage: Stage{Kind: saturated}, CPUus: us / 10, Latency: lat}}}
}

func TestSummary(t *testing.T) {
	rs := []Result{
		broadcastResult("sluice-ws", "a", 0, 6), broadcastResult("gohub-ws", "a", 0, 12),
		broadcastResult("sluice-ws", "a", 1, 8), broadcastResult("gohub-ws", "a", 1, 12.8),
		broadcastResult("sluice-ws", "b", 0, 7), // no gohub in this run: no ratio
	}
	rs = append(rs, Result{At: rs[0].At, Target: "sluice-sse", Scenario: "broadcast", Error: "it broke"})
	var b strings.Builder
	writeSummary(&b, rs)
	for _, want := range []string{
		"### broadcast: 1,000 clients on one channel",
		"| sluice-ws | 3 | 7.00 [6.00..8.00] | 0.56 |", // median of 6/12 and 8/12.8
		"| gohub-ws | 2 | 12.40 [12.00..12.80] | – |",
		"- sluice-sse, repetition 1: it broke",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is missing in:\n%s", want, b.String())
		}
	}
}

func TestReplaceResults(t *testing.T) {
	page := "head\n" + beginMark + "\nold\n" + endMark + "\ntail\n"
	got, err := replaceResults([]byte(page), []byte("new\n"))
	if want := "head\n" + beginMark + "\n\nnew\n\n" + endMark + "\ntail\n"; err != nil || string(got) != want {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
	if _, err := replaceResults([]byte("no marks"), nil); err == nil {
		t.Error("a page without marks was accepted")
	}
}

// Every scenario must have targets and columns, and quick ones must still be consistent.
func TestScenarios(t *testing.T) {
	for _, s := range scenarios() {
		ts, err := chooseTargets(&s, nil, true)
		if err != nil || len(ts) == 0 {
			t.Errorf("%s: targets %v, %v", s.Name, ts, err)
		}
		if len(columnsOf(&s)) == 0 {
			t.Errorf("%s: no columns", s.Name)
		}
		s.quick()
		if s.Channels < s.PerConn || s.Conns < s.Channels && s.Channels > 1 || s.Stalled >= s.Conns {
			t.Errorf("%s: quick makes it %+v", s.Name, s)
		}
	}
	if _, err := chooseTargets(&scenarios()[0], []string{"nobody"}, true); err == nil {
		t.Error("an unknown target was accepted")
	}
}

func TestRequest(t *testing.T) {
	for _, c := range []struct{ target, token, want string }{
		{"sluice-sse", "", "GET /sse?channel=c00001&channel=c00002 HTTP/1.1\r\n"},
		{"sluice-sse", "tok", "Last-Event-ID: tok\r\n"},
		{"sluice-ws-json", "tok", "GET /ws?channel=c00001&channel=c00002&resume=tok HTTP/1.1\r\n"},
		{"sluice-ws-json", "", "Sec-WebSocket-Protocol: sluice.v1.json\r\n"},
		{"gohub-ws", "", "GET /ws?c=c00001,c00002 HTTP/1.1\r\n"},
	} {
		for _, target := range targets() {
			if got := string(target.request([]uint32{1, 2}, c.token)); target.Name == c.target && !strings.Contains(got, c.want) {
				t.Errorf("%s: %q is missing in %q", c.target, c.want, got)
			}
		}
	}
}
