package main

import (
	"strings"
	"testing"
)

func TestPulse(t *testing.T) {
	type arrival struct {
		ms  int64
		seq uint32
	}
	for _, c := range []struct {
		name, why string
		arrivals  []arrival
		n         int64
		stale     int64 // of messages 1 to 9 over 3 keys
		tooMany   bool  // at 5 a second
	}{
		{"none", "nothing came", nil, 0, 3, false},
		{"one", "what comes together is one delivery", []arrival{{0, 7}, {0, 8}, {1, 9}}, 1, 0, false},
		{"paced", "one delivery every 200 ms", []arrival{{0, 1}, {0, 2}, {200, 4}, {200, 6}, {400, 7}, {400, 8}, {401, 9}}, 3, 0, false},
		{"tool late for the first", "50 ms are allowed for", []arrival{{30, 1}, {200, 4}, {400, 7}, {400, 8}, {400, 9}}, 3, 0, false},
		{"too often", "one every 100 ms", []arrival{{0, 1}, {100, 4}, {200, 7}, {200, 8}, {200, 9}}, 3, 0, true},
		{"not conflated", "a key that stands in it twice makes it two", []arrival{{0, 1}, {0, 2}, {0, 4}, {0, 7}, {0, 8}, {0, 9}}, 3, 0, true},
		{"old value", "the newest of a key did not come", []arrival{{0, 5}, {0, 6}, {0, 7}, {200, 9}}, 2, 1, false},
	} {
		p := pulse{newest: make([]uint32, 3)}
		for _, a := range c.arrivals {
			p.add(a.seq, a.ms*1e6)
		}
		if stale, tooMany := p.stale(9), p.tooMany(5); p.n != c.n || stale != c.stale || tooMany != c.tooMany {
			t.Errorf("%s (%s): %d deliveries, %d stale keys, too many: %v; want %d, %d, %v", c.name, c.why, p.n, stale, tooMany, c.n, c.stale, c.tooMany)
		}
	}
}

func TestPulseOverStages(t *testing.T) {
	p := pulse{newest: make([]uint32, 3)}
	p.add(1, 0)
	p.add(2, 0)
	p.reset()
	p.add(4, 1e6) // key of the first, a moment later
	if p.n != 1 || p.stale(4) != 1 {
		t.Errorf("%d deliveries, %d stale keys; want 1, and 1: message 3 is missing", p.n, p.stale(4))
	}
}

func TestJudge(t *testing.T) {
	r := &runner{scenario: Scenario{Keys: 50}}
	for _, c := range []struct {
		name string
		out  StageResult
		want string // "": nothing is wrong
	}{
		{"clean", StageResult{Received: 10, MostInFrame: 50}, ""},
		{"lost", StageResult{Lost: 2}, "2 messages were lost"},
		{"order", StageResult{Reordered: 1, Duplicated: 2}, "3 messages came twice or out of order"},
		{"stale", StageResult{StaleKeys: 4}, "4 times a client ended without the newest message of a key"},
		{"slow stale", StageResult{StaleSlow: 4}, "4 times a slow client"},
		{"often", StageResult{TooOften: 7}, "7 clients got deliveries too often"},
		{"full", StageResult{Stage: Stage{Kind: flood}, Util: 0.95}, "core was full"},
		{"frame", StageResult{MostInFrame: 51}, "51 messages came in one array"},
	} {
		err := r.judge(&c.out)
		if got := ""; err != nil {
			got = err.Error()
			if c.want == "" || !strings.Contains(got, c.want) {
				t.Errorf("%s: %q, want %q", c.name, got, c.want)
			}
		} else if c.want != "" {
			t.Errorf("%s: nothing is wrong, want %q", c.name, c.want)
		}
	}
	if err := new(runner).judge(&StageResult{Lost: 1}); err != nil {
		t.Errorf("a stage without keys is judged: %v", err)
	}
}

func TestArraysInFrames(t *testing.T) {
	l, c := testLoop(true)
	c.pulse.newest = make([]uint32, 50)
	l.message(c, []byte(`{"type":"batch","messages":[{"data":"`+payload(1)+`"},{"data":"`+payload(3)+`"}]}`))
	l.message(c, []byte(`{"type":"message","data":"`+payload(60)+`"}`))
	if l.mostInFrame != 2 || l.received != 3 || c.pulse.n != 1 || c.pulse.newest[10] != 60 {
		t.Errorf("%d in a frame, %d messages, %d deliveries, key 10 at %d; want 2, 3, 1, 60", l.mostInFrame, l.received, c.pulse.n, c.pulse.newest[10])
	}
}
