package main

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"sluice/broker"
	"sluice/middleware"
)

func TestRules(t *testing.T) {
	key := middleware.ConflateKey
	tests := []struct {
		name, entry string
		args        []string
		want        middleware.Delivery
	}{
		{name: "nothing", entry: `history: {messages: 1}`},
		{name: "empty", entry: `deliver: {}`},
		{name: "everything", entry: `
    deliver: {filter: 'event != "debug"', conflate: key, key: /symbol, rate: 10/s, batch: {window: 50ms, messages: 200}}
    slow: {ring: 300, then: conflate}`,
			want: middleware.Delivery{Filter: `event != "debug"`, Conflate: key, Pointer: "/symbol", Interval: 100 * time.Millisecond,
				Window: 50 * time.Millisecond, Messages: 200, Slow: middleware.Slow{Ring: 300, Then: broker.ThenConflate}}},
		{name: "a filter without quotes", entry: "deliver:\n      filter: event != \"debug\"", want: middleware.Delivery{Filter: `event != "debug"`}},
		{name: "batch as text", entry: `deliver: {batch: 50ms}`, want: middleware.Delivery{Window: 50 * time.Millisecond}},
		{name: "batch as text with messages", entry: `deliver: {batch: "50ms,200"}`, want: middleware.Delivery{Window: 50 * time.Millisecond, Messages: 200}},
		{name: "the same without braces", entry: "deliver:\n      batch: 50ms,200", want: middleware.Delivery{Window: 50 * time.Millisecond, Messages: 200}},
		{name: "batch of a window", entry: `deliver: {batch: {window: 1s}}`, want: middleware.Delivery{Window: time.Second}},
		{name: "none", entry: `deliver: {conflate: none}`},
		{name: "latest", entry: `deliver: {conflate: latest}`, want: middleware.Delivery{Conflate: middleware.ConflateLatest}},
		{name: "key for those who wish to conflate", entry: "deliver: {key: /a/b}", want: middleware.Delivery{Pointer: "/a/b"}},
		{name: "key of the slow", entry: "deliver: {key: /a/b}\n    slow: {then: conflate}",
			want: middleware.Delivery{Pointer: "/a/b", Slow: middleware.Slow{Ring: 256, Then: broker.ThenConflate}}},
		{name: "default ring", entry: `slow: {then: gap}`, want: middleware.Delivery{Slow: middleware.Slow{Ring: 256, Then: broker.ThenGap}}},
		{name: "default ring of a small node", entry: `slow: {then: disconnect}`, args: []string{"--ring-messages=100"},
			want: middleware.Delivery{Slow: middleware.Slow{Ring: 100, Then: broker.ThenDisconnect}}},
		{name: "all of the ring", entry: `slow: {ring: 2000, then: history}`, args: []string{"--ring-messages=2000"},
			want: middleware.Delivery{Slow: middleware.Slow{Ring: 2000, Then: broker.ThenHistory}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l, err := loadText(t, "channels:\n  - match: a*\n    "+tt.entry+"\n", nil, tt.args...)
			if err != nil {
				t.Fatal(err)
			}
			rules := l.Config.Rules()
			if len(rules) != 1 || rules[0].Pattern != "a*" || !rules[0].Match("ab") || rules[0].Match("b") {
				t.Fatalf("got %+v, want one rule for a*", rules)
			}
			if got := rules[0].Delivery; got != tt.want {
				t.Errorf("got  %+v\nwant %+v", got, tt.want)
			}
			if err := new(middleware.Policies).Set(rules); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestRuleRefusals has the ways to write an entry of channels wrong, and the sentences that answer them.
func TestRuleRefusals(t *testing.T) {
	tests := []struct {
		name, entry string
		args        []string
		want        string
	}{
		{name: "unknown key", entry: `delivery: {}`, want: `sluice.yaml:3: unknown key "delivery"; did you mean deliver?`},
		{name: "unknown term", entry: `deliver: {rates: 5/s}`, want: `sluice.yaml:3: unknown key "rates"; did you mean rate?`},
		{name: "unknown term like none", entry: `deliver: {colour: red}`, want: `sluice.yaml:3: unknown key "colour"; use filter, conflate, key, rate, …`},
		{name: "slow is not delivered", entry: `deliver: {slow: {then: gap}}`, want: `sluice.yaml:3: unknown key "slow"; use filter, conflate, key, rate, …`},
		{name: "no terms", entry: `deliver: fast`, want: `sluice.yaml:3: settings are missing here; write lines of KEY: VALUE with the keys filter, conflate, key, rate, …`},
		{name: "term without value", entry: "deliver:\n      rate:", want: `sluice.yaml:4: rate has no value; write one, or remove the line`},
		{name: "term twice", entry: "deliver:\n      rate: 5/s\n      rate: 6/s", want: `sluice.yaml:5: rate is there twice; remove one of them`},
		{name: "term with a list", entry: `deliver: {rate: [5/s]}`, want: `channels deliver rate (sluice.yaml:3): it is not a single value; write rate: VALUE`},
		{name: "rate", entry: `deliver: {rate: fast}`, want: `channels deliver rate (sluice.yaml:3): rate "fast" can't be used; write 5/s, 30/m or 100/h`},
		{name: "rate out of range", entry: `deliver: {rate: 5000/s}`, want: `channels deliver rate (sluice.yaml:3): rate "5000/s" is out of range; use 1000/s to 1/h`},
		{name: "conflate", entry: `deliver: {conflate: newest}`, want: `channels deliver conflate (sluice.yaml:3): conflate "newest" can't be used; write key, latest or none`},
		{name: "empty filter", entry: `deliver: {filter: ""}`, want: `channels deliver filter (sluice.yaml:3): the filter is empty; write an expression such as event == "trade"`},
		{name: "long filter", entry: `deliver: {filter: '` + strings.Repeat("!", 513) + `'}`, want: `channels deliver filter (sluice.yaml:3): a filter has at most 512 bytes`},
		{name: "key", entry: `deliver: {conflate: key, key: symbol}`, want: `channels deliver key (sluice.yaml:3): key "symbol" is not a JSON pointer; write /symbol, or /a/b for a member of a member`},
		{name: "key with another conflation", entry: "deliver: {conflate: latest, key: /symbol}\n    slow: {then: conflate}",
			want: `channels deliver key (sluice.yaml:3): with conflate: latest nothing is conflated by a key; remove it, or write conflate: key`},
		{name: "batch", entry: `deliver: {batch: often}`, want: `channels deliver batch (sluice.yaml:3): batch "often" can't be used; write 100ms, or 100ms,50`},
		{name: "batch with a list", entry: `deliver: {batch: [50ms, 200]}`, want: `channels deliver batch (sluice.yaml:3): it is not a single value; write batch: VALUE`},
		{name: "batch with a comma in braces", entry: `deliver: {batch: 50ms,200}`,
			want: `sluice.yaml:3: within braces the comma ends the value of batch; write batch: "50ms,200"`},
		{name: "batch without window", entry: `deliver: {batch: {messages: 200}}`, want: `sluice.yaml:3: batch has no window; add window: 50ms`},
		{name: "window", entry: `deliver: {batch: {window: 50}}`, want: `channels deliver batch window (sluice.yaml:3): batch "50" can't be used; write 100ms, or 100ms,50`},
		{name: "window out of range", entry: `deliver: {batch: {window: 1m}}`, want: `channels deliver batch window (sluice.yaml:3): batch "1m" is out of range; use 1ms to 10s`},
		{name: "messages out of range", entry: `deliver: {batch: {window: 50ms, messages: 0}}`, want: `channels deliver batch messages (sluice.yaml:3): "0" is out of range; use 1 to 10000`},
		{name: "unknown key of a batch", entry: `deliver: {batch: {window: 50ms, message: 5}}`, want: `sluice.yaml:3: unknown key "message"; did you mean messages?`},
		{name: "slow without then", entry: `slow: {ring: 256}`, want: `sluice.yaml:3: slow has no then; add then: conflate or gap or history or disconnect`},
		{name: "slow with nothing", entry: `slow: {}`, want: `sluice.yaml:3: slow has no then; add then: conflate or gap or history or disconnect`},
		{name: "then", entry: `slow: {ring: 16, then: panic}`, want: `channels slow then (sluice.yaml:3): then "panic" can't be used; write conflate, gap, history or disconnect`},
		{name: "unknown key of slow", entry: `slow: {rings: 16, then: gap}`, want: `sluice.yaml:3: unknown key "rings"; did you mean ring?`},
		{name: "small ring", entry: `slow: {ring: 15, then: gap}`, want: `channels slow ring (sluice.yaml:3): "15" is out of range; use 16 to 1000000`},
		{name: "ring that is larger than the node's", entry: `slow: {then: gap, ring: 1025}`,
			want: `channels slow ring (sluice.yaml:3): "1025" is more than a node holds; use 16 to 1024, or raise ring-messages and restart`},
		{name: "the same by a flag", entry: `slow: {then: gap, ring: 200}`, args: []string{"--ring-messages=100"},
			want: `channels slow ring (sluice.yaml:3): "200" is more than a node holds; use 16 to 100, or raise ring-messages and restart`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := loadText(t, "channels:\n  - match: a\n    "+tt.entry+"\n", nil, tt.args...)
			var usage *usageError
			if !errors.As(err, &usage) {
				t.Fatalf("got %v, want a usage error", err)
			}
			if err.Error() != tt.want {
				t.Errorf("got  %s\nwant %s", err, tt.want)
			}
		})
	}
	_, err := loadText(t, "channels:\n  - match: a\n    deliver:\n      rate: 1/s\n      filter: event ==\n", nil)
	if err == nil || !strings.HasPrefix(err.Error(), `channels deliver filter (sluice.yaml:5): filter "event ==" can't be used: `) {
		t.Errorf("a filter that ends early: got %v", err)
	}
}

// forget removes from rules where they stand.
func forget(rules []ChannelRule) []ChannelRule {
	for i := range rules {
		rules[i].from, rules[i].at = "", nil
	}
	return rules
}

// TestRulesRoundTrip: what sluice config prints of channels says the same when it is read again.
func TestRulesRoundTrip(t *testing.T) {
	text := `
channels:
  - match: "*"
    history: {messages: 3}
    deliver: {filter: "data.text == \"a # b, {c}: 'd'\" && event != \"\\n\"", rate: 123.4567/s, batch: "1.5s,7"}
  - match: "a:*"
    deliver:
      conflate: key
      key: "/a, b/~0~1/ü"
      filter: |
        event == "x" ||
          event == "y"
    slow: {ring: 17, then: conflate}
  - match: b
    history: {age: 90m}
    deliver: {rate: 1/h, conflate: latest}
    slow: {then: history}
  - match: c
    deliver: {rate: 1000/s, batch: {window: 10s, messages: 10000}}
    slow: {then: gap}
  - {match: "1", slow: {then: disconnect}, deliver: {rate: 7/m}}
  - {match: "true"}
`
	first, err := loadText(t, text, nil)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "sluice.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	out, errs, code := shell(t, "", "config", "--config", path)
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, errs)
	}
	again, err := loadText(t, out, nil)
	if err != nil {
		t.Fatalf("%v in\n%s", err, out)
	}
	if a, b := forget(first.Config.Channels), forget(again.Config.Channels); len(a) != 6 || !reflect.DeepEqual(a, b) {
		t.Errorf("first %+v\nagain %+v\nby way of\n%s", a, b, out)
	}
}

func TestFormatRate(t *testing.T) {
	tests := []struct {
		interval time.Duration
		want     string
	}{
		{100 * time.Millisecond, "10/s"},
		{time.Second / 3, "3/s"},
		{2 * time.Second, "30/m"},
		{time.Minute, "1/m"},
		{time.Hour, "1/h"},
		{time.Millisecond, "1000/s"},
	}
	for _, tt := range tests {
		if got := formatRate(tt.interval); got != tt.want {
			t.Errorf("formatRate(%v): got %q, want %q", tt.interval, got, tt.want)
		}
	}
	for interval := time.Millisecond; interval <= time.Hour; interval += interval/7 + 1 {
		text := formatRate(interval)
		if got, err := middleware.ParseRate(text); err != nil || got != interval {
			t.Errorf("%v is written %s, which is read as %v, %v", interval, text, got, err)
		}
	}
}
