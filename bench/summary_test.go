package main

import (
	"os"
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

// Policies are compared with Sluice as it comes: by ratios, and memory by what it is more.
func TestSummaryOfPolicies(t *testing.T) {
	rs := func(scenario, target string, rss int64, stages ...StageResult) Result {
		return Result{Run: "a", Host: "host", At: "2026-01-02T03:04:05Z", Target: target, Rival: "sluice-ws", Scenario: scenario, Conns: 1000,
			Connect: &ConnectResult{RSSBefore: 1000, RSS: rss}, Stages: stages}
	}
	idling := func(rss int64) StageResult { return StageResult{Stage: Stage{Kind: idle}, RSS: rss} }
	silence := StageResult{Stage: Stage{Kind: unheard}, PublishUs: 20}
	var b strings.Builder
	writeSummary(&b, []Result{
		rs("idle-policy", "sluice-ws", 3000, idling(3100)),
		rs("idle-policy", "sluice-ws+rule", 3250, idling(3500)),
		rs("prices", "sluice-ws", 0, silence, StageResult{Stage: Stage{Kind: paced}, CPUus: 12, Writes: 1}, StageResult{Stage: Stage{Kind: flood, Secs: 10, Clients: 100}, CPU: 2.9}),
		rs("prices", "sluice-ws+batch", 0, silence, StageResult{Stage: Stage{Kind: conflated, Secs: 10}, CPU: 1.6, WriteUs: 15, DeliveryUs: 15,
			PerClient: 4.99, Together: 49.9, MostInFrame: 50}),
	})
	for _, want := range []string{
		"| KiB each, 10 s later | − as it comes |",
		"| 2.25 | 0.25 | 2.50 | 0.40 |",
		"| 2.000 | – | 1.900 | – | 12.00 | – |",
		"| 0.160 | 0.08 | 0.060 | 0.03 | 15.00 | 1.25 | 15.00 | 1.25 | 4.99 | 49.9 | 50 |",
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

func TestTerms(t *testing.T) {
	s, ok := findScenario("prices")
	if !ok {
		t.Fatal("no scenario prices")
	}
	ts, err := chooseTargets(&s, []string{"sluice-ws-json+batch", "sluice-sse+rate"}, false)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{
		"GET /ws?channel=c00000&rate=5/s&conflate=key&batch=50ms HTTP/1.1\r\n",
		"GET /sse?channel=c00000&rate=5/s&conflate=key HTTP/1.1\r\n",
	} {
		if got := string(ts[i].request([]uint32{0}, "")); !strings.HasPrefix(got, want) {
			t.Errorf("%s asks %q, want %q", ts[i].Name, got, want)
		}
	}
	if !strings.Contains(string(ts[0].request([]uint32{0}, "")), "sluice.v1.json") {
		t.Errorf("%s does not ask for envelopes", ts[0].Name)
	}
	where := site{logs: t.TempDir()}
	if args, err := where.settings(ts[0], &s); args != nil || err != nil {
		t.Errorf("without rules: %q, %v; want no arguments", args, err)
	}
	s.Rules = "channels: []\n"
	args, err := where.settings(ts[0], &s)
	if err != nil || len(args) != 2 || args[0] != "--config" {
		t.Fatalf("with rules: %q, %v; want --config and a file", args, err)
	}
	if b, err := os.ReadFile(args[1]); err != nil || string(b) != s.Rules {
		t.Errorf("the settings file has %q, %v; want %q", b, err, s.Rules)
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
