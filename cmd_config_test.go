package main

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// TestConfigRoundTrip: what sluice config prints is a settings file that says the same.
func TestConfigRoundTrip(t *testing.T) {
	out, errs, code := shell(t, "", "config", "--config=deploy/sluice.example.yaml", "--dev", "--redis-channel-prefix=",
		"--listen=[::1]:80", "--origins=*", "--max-message=100000", "--tls-cert=on", "--tls-key=# x")
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, errs)
	}
	path := filepath.Join(t.TempDir(), "again.yaml")
	if err := os.WriteFile(path, []byte(out), 0o600); err != nil {
		t.Fatal(err)
	}
	again, err := loadText(t, "", []string{"SLUICE_CONFIG=" + path})
	if err != nil {
		t.Fatalf("%v in\n%s", err, out)
	}
	first, err := loadText(t, "", nil, "--config=deploy/sluice.example.yaml", "--dev", "--redis-channel-prefix=",
		"--listen=[::1]:80", "--origins=*", "--max-message=100000", "--tls-cert=on", "--tls-key=# x")
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range []*Loaded{first, again} {
		for i := range l.Config.Channels {
			l.Config.Channels[i].from, l.Config.Channels[i].at = "", nil
		}
	}
	if !reflect.DeepEqual(first.Config, again.Config) {
		t.Errorf("first %+v\nagain %+v\nby way of\n%s", first.Config, again.Config, out)
	}
}

func TestConfigSources(t *testing.T) {
	out, _, code := shell(t, "", "config", "--redis=redis://app:hunter2@cache:6379/1", "--heartbeat=5s")
	if code != 0 {
		t.Fatalf("exit code %d", code)
	}
	for _, want := range []string{
		"redis: redis://app:***@cache:6379/1 ",
		"# flag --redis\n",
		"heartbeat: 5s",
		"# flag --heartbeat\n",
		"max-message: 1MiB",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
	if strings.Contains(out, "hunter2") {
		t.Errorf("the password is shown in\n%s", out)
	}
	table := settings()
	for i, line := range strings.Split(strings.TrimSpace(out), "\n") {
		if !strings.HasPrefix(line, table[i].name+": ") || !strings.Contains(line, "  # ") {
			t.Errorf("line %d is %q, want %s and its source", i+1, line, table[i].name)
		}
	}
}

func TestConfigChannel(t *testing.T) {
	tests := []struct {
		channel  string
		want     []string
		exitCode int
	}{
		{"chat:1", []string{"rule chat:* (sluice.example.yaml:", "history-messages: 200", "history-age: 1h"}, 0},
		{"eur.prices", []string{"rule *.prices", "history-messages: 1 ", "history-age: 10s"}, 0},
		{"chat:eur.prices", []string{"rule chat:*"}, 0},
		{"quotes.eur", []string{"rule quotes.* (sluice.example.yaml:", "history-age: 5m", "\n  filter: event != \"debug\"", "\n  key: /symbol ", "\n  rate: 10/s ",
			"\n  batch: {window: 50ms, messages: 200}  # sluice.example.yaml:", "\nslow: ", "\n  ring: 256 ", "# default\n  then: conflate "}, 0},
		{"news", []string{"deliver: {} ", "# default: everything as it comes", "slow: {} ", "no rule matches", "history-messages: 1000  # sluice.example.yaml:", "history-age: 5m"}, 0},
		{"no channel", []string{"bad channel name"}, 2},
		{"", []string{"bad channel name"}, 2},
	}
	for _, tt := range tests {
		out, errs, code := shell(t, "", "config", "--config=deploy/sluice.example.yaml", "--channel", tt.channel)
		if code != tt.exitCode {
			t.Errorf("%s: exit code %d, want %d", tt.channel, code, tt.exitCode)
		}
		for _, want := range tt.want {
			if !strings.Contains(out+errs, want) {
				t.Errorf("%s: %q is missing in\n%s%s", tt.channel, want, out, errs)
			}
		}
	}
}

func TestHistory(t *testing.T) {
	l, err := loadText(t, `
history-messages: 7
history-age: 7m
channels:
  - {match: a, history: {messages: 1}}
  - {match: b, history: {age: 1m}}
  - {match: c}
  - {match: "*", history: {messages: 9, age: 9m}}
`, nil)
	if err != nil {
		t.Fatal(err)
	}
	for channel, want := range map[string]string{"a": "1 7m", "b": "7 1m", "c": "7 7m", "d": "9 9m"} {
		messages, age := l.Config.History(channel)
		if got := formatBytes(int64(messages)) + " " + formatDuration(age); got != want {
			t.Errorf("%s: got %s, want %s", channel, got, want)
		}
	}
}
