package main

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/transport"
)

// loadText loads settings from args, environment and the text of a file.
func loadText(t testing.TB, file string, env []string, args ...string) (*Loaded, error) {
	t.Helper()
	if file != "" {
		path := filepath.Join(t.TempDir(), "sluice.yaml")
		if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
		env = append(slices.Clone(env), "SLUICE_CONFIG="+path)
	}
	flags := newFlags("serve")
	addSettings(flags)
	if err := parseFlags(flags, args); err != nil {
		return nil, err
	}
	return load(flags, env)
}

func TestPrecedence(t *testing.T) {
	file := "heartbeat: 1s\n"
	env := []string{"PATH=/bin", "SLUICE_HEARTBEAT=2s"}
	tests := []struct {
		name string
		file string
		env  []string
		args []string
		want time.Duration
		from string
	}{
		{"default", "", nil, nil, transport.DefaultConfig().Heartbeat, "default"},
		{"file", file, nil, nil, time.Second, "sluice.yaml:1"},
		{"environment over file", file, env, nil, 2 * time.Second, "SLUICE_HEARTBEAT"},
		{"flag over all", file, env, []string{"--heartbeat", "3s"}, 3 * time.Second, "flag --heartbeat"},
		{"last flag", "", nil, []string{"--heartbeat=3s", "--heartbeat=4s"}, 4 * time.Second, "flag --heartbeat"},
		{"empty variable is not set", file, []string{"SLUICE_HEARTBEAT="}, nil, time.Second, "sluice.yaml:1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l, err := loadText(t, tt.file, tt.env, tt.args...)
			if err != nil {
				t.Fatal(err)
			}
			if got := l.Config.Transport.Heartbeat; got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
			if got := l.From("heartbeat"); got != tt.from {
				t.Errorf("from %q, want %q", got, tt.from)
			}
		})
	}
}

func TestKinds(t *testing.T) {
	l, err := loadText(t, `
origins:
  - https://a.example
  - https://b.example:8443
max-message: 2MiB
history-age: 90m
dev: true
command-rate: 2.5
log-level: debug
redis: &r redis://localhost:6379
redis-prefix: app-
max-channels: 3 # a comment
`, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := DefaultConfig()
	want.Transport.Origins = []string{"https://a.example", "https://b.example:8443"}
	want.Transport.MaxMessage = 2 << 20
	want.HistoryAge = 90 * time.Minute
	want.Dev, want.Transport.Demo, want.Listen = true, true, devListen
	want.Transport.AddressConnections = 0
	want.Transport.CommandRate = 2.5
	want.LogLevel = "debug"
	want.Redis, want.RedisPrefix = "redis://localhost:6379", "app-"
	want.Transport.MaxChannels = 3
	if !reflect.DeepEqual(l.Config, want) {
		t.Errorf("got  %+v\nwant %+v", l.Config, want)
	}

	l, err = loadText(t, "", nil, "--origins", "https://a.example, https://b.example", "--origins=*", "--dev=false")
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"https://a.example", "https://b.example", "*"}; !slices.Equal(l.Config.Transport.Origins, want) {
		t.Errorf("origins %q, want %q", l.Config.Transport.Origins, want)
	}
	if l.Config.Dev || l.Config.Listen != ":8080" {
		t.Errorf("dev %v, listen %q; want false, :8080", l.Config.Dev, l.Config.Listen)
	}
}

func TestDev(t *testing.T) {
	tests := []struct {
		name   string
		args   []string
		listen string
		demo   bool
		each   int // connections of one address
	}{
		{"loopback and page", []string{"--dev"}, devListen, true, 0},
		{"where it is told to", []string{"--dev", "--listen", ":9000"}, ":9000", true, 0},
		{"the default address, on purpose", []string{"--dev", "--listen=:8080"}, ":8080", true, 0},
		{"without page", []string{"--dev", "--demo=false"}, devListen, false, 0},
		{"page without dev", []string{"--demo"}, ":8080", true, 1000},
		{"with a limit", []string{"--dev", "--address-connections=1000"}, devListen, true, 1000},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l, err := loadText(t, "", nil, tt.args...)
			if err != nil {
				t.Fatal(err)
			}
			if c := l.Config; c.Listen != tt.listen || c.Transport.Demo != tt.demo || c.Transport.AddressConnections != tt.each {
				t.Errorf("listen %q, demo %v, %d connections of an address; want %q, %v, %d", c.Listen, c.Transport.Demo, c.Transport.AddressConnections, tt.listen, tt.demo, tt.each)
			}
		})
	}
}

// TestRefusals has every way to write settings wrong, and the one sentence that answers it.
func TestRefusals(t *testing.T) {
	tests := []struct {
		name string
		file string
		env  string
		args []string
		want string
	}{
		{name: "unknown flag", args: []string{"--heartbeats=1s"},
			want: `unknown flag --heartbeats; did you mean --heartbeat?`},
		{name: "unknown flag like none", args: []string{"--frobnicate"},
			want: `unknown flag --frobnicate; sluice help serve lists them`},
		{name: "one dash", args: []string{"-dev"},
			want: `unknown flag -dev; did you mean --dev?`},
		{name: "flag without value", args: []string{"--listen"},
			want: `flag --listen has no value; write --listen=VALUE`},
		{name: "unknown variable", env: "SLUICE_REDIS_URL=redis://:hunter2@h",
			want: `unknown variable SLUICE_REDIS_URL; did you mean SLUICE_REDIS?`},
		{name: "port as of other programs", env: "SLUICE_PORT=9000",
			want: `unknown variable SLUICE_PORT; remove it, or see the settings by sluice help settings`},
		{name: "unknown key", file: "listen: :80\nheart-beat: 1s\n",
			want: `sluice.yaml:2: unknown key "heart-beat"; did you mean heartbeat?`},
		{name: "unknown key like none", file: "frobnicate: 1\n",
			want: `sluice.yaml:1: unknown key "frobnicate"; use listen, dev, demo, origins, …`},
		{name: "key twice", file: "dev: true\ndev: false\n",
			want: `sluice.yaml:2: dev is there twice; remove one of them`},
		{name: "key without value", file: "redis:\n",
			want: `sluice.yaml:1: redis has no value; write one, or remove the line`},
		{name: "list where a value belongs", file: "heartbeat: [1s]\n",
			want: `heartbeat (sluice.yaml:1): it is not a single value; write heartbeat: VALUE`},
		{name: "map in a list", file: "origins: [{a: b}]\n",
			want: `origins (sluice.yaml:1): an item is not a single value; write a list of texts`},
		{name: "no mapping", file: "- dev\n",
			want: `sluice.yaml:1: settings are missing here; write lines of KEY: VALUE with the keys listen, dev, demo, origins, …`},
		{name: "no YAML", file: "dev: [\n",
			want: `sluice.yaml: line 1: did not find expected node content; mend the YAML`},
		{name: "no file", args: []string{"--config", "/nonexistent/sluice.yaml"},
			want: `config (flag --config): stat /nonexistent/sluice.yaml: no such file or directory; name a YAML file that can be read`},
		{name: "directory", env: "SLUICE_CONFIG=/",
			want: `config (SLUICE_CONFIG): / is not a YAML file of at most 1MiB; name the settings file`},
		{name: "duration without unit", env: "SLUICE_HEARTBEAT=10",
			want: `heartbeat (SLUICE_HEARTBEAT): "10" is not a duration; write it with its unit, such as 500ms, 10s or 5m`},
		{name: "duration out of range", args: []string{"--heartbeat=1ms"},
			want: `heartbeat (flag --heartbeat): "1ms" is out of range; use 100ms to 10m`},
		{name: "duration in the file", file: "\n\nheartbeat: 1h\n",
			want: `heartbeat (sluice.yaml:3): "1h" is out of range; use 100ms to 10m`},
		{name: "wrong below what overrides it", file: "heartbeat: soon\n", args: []string{"--heartbeat=1s"},
			want: `heartbeat (sluice.yaml:1): "soon" is not a duration; write it with its unit, such as 500ms, 10s or 5m`},
		{name: "int", args: []string{"--max-channels=many"},
			want: `max-channels (flag --max-channels): "many" is not a whole number; use 1 to 10000`},
		{name: "int out of range", args: []string{"--max-channels=0"},
			want: `max-channels (flag --max-channels): "0" is out of range; use 1 to 10000`},
		{name: "number", args: []string{"--command-rate=NaN"},
			want: `command-rate (flag --command-rate): "NaN" is not a number; use 1 to 1000000`},
		{name: "number out of range", args: []string{"--command-rate=0.5"},
			want: `command-rate (flag --command-rate): "0.5" is out of range; use 1 to 1000000`},
		{name: "bytes", args: []string{"--max-message=1MB"},
			want: `max-message (flag --max-message): "1MB" is not a number of bytes; write 65536, 64KiB or 1MiB`},
		{name: "bytes out of range", args: []string{"--max-message=1GiB"},
			want: `max-message (flag --max-message): "1GiB" is out of range; use 1 to 64MiB`},
		{name: "bytes beyond all", args: []string{"--max-message=9223372036854775807GiB"},
			want: `max-message (flag --max-message): "9223372036854775807GiB" is not a number of bytes; write 65536, 64KiB or 1MiB`},
		{name: "bool", env: "SLUICE_DEV=maybe",
			want: `dev (SLUICE_DEV): "maybe" is neither true nor false; use true or false`},
		{name: "enum", args: []string{"--log-format=xml"},
			want: `log-format (flag --log-format): "xml" is not a choice; use text or json`},
		{name: "listen", args: []string{"--listen=8080"},
			want: `listen (flag --listen): "8080" can't be used; write HOST:PORT such as 127.0.0.1:8080, or :8080 for all addresses`},
		{name: "admin", args: []string{"--admin=8081"},
			want: `admin (flag --admin): "8081" can't be used; write HOST:PORT such as 127.0.0.1:8081, or nothing to keep it closed`},
		{name: "origin with a path", args: []string{"--origins=https://a.example/"},
			want: `origins (flag --origins): "https://a.example/" can't be used; write a scheme and a host in lower case, without a path, such as https://app.example, or *`},
		{name: "redis does not show the password", args: []string{"--redis=http://u:hunter2@h"},
			want: `redis (flag --redis): the value can't be used; write redis://user:password@host:6379/0 (rediss:// for TLS), special characters in the password as %XX`},
		{name: "redis with a password that reads like a port and a path", args: []string{"--redis=redis://u:11/hunter2@h"},
			want: `redis (flag --redis): the value can't be used; write redis://user:password@host:6379/0 (rediss:// for TLS), special characters in the password as %XX`},
		{name: "redis certificate without key", args: []string{"--redis-cert=c.pem", "--redis=rediss://h"},
			want: `redis-cert is set and redis-key is not; set both, or neither if Redis asks for no certificate`},
		{name: "redis key without certificate", args: []string{"--redis-key=c.pem", "--redis=rediss://h"},
			want: `redis-key is set and redis-cert is not; set both, or neither if Redis asks for no certificate`},
		{name: "redis authority without TLS", args: []string{"--redis-ca=c.pem", "--redis=redis://h"},
			want: `redis-ca or redis-cert is set and redis is no rediss:// URL; write redis: rediss://… for TLS, or leave the certificates out`},
		{name: "prefix", args: []string{"--redis-prefix={a}"},
			want: `redis-prefix (flag --redis-prefix): "{a}" can't be used; use 1 to 200 characters out of A-Z a-z 0-9 _ . : / - @ ~`},
		{name: "prefix that is empty", args: []string{"--redis-prefix="},
			want: `redis-prefix (flag --redis-prefix): "" can't be used; use 1 to 200 characters out of A-Z a-z 0-9 _ . : / - @ ~`},
		{name: "certificate without key", args: []string{"--tls-cert=c.pem"},
			want: `tls-cert is set and tls-key is not; set both, or neither to serve without TLS`},
		{name: "key without certificate", env: "SLUICE_TLS_KEY=k.pem",
			want: `tls-key is set and tls-cert is not; set both, or neither to serve without TLS`},
		{name: "memory for no message", args: []string{"--memory-limit=64MiB"},
			want: `memory-limit is 64MiB, less than messages of max-message need; set it to at least 96MiB, or to 0 for no limit`},

		{name: "channels is no list", file: "channels: {match: a}\n",
			want: `sluice.yaml:1: channels is not a list; begin each entry with - match: PATTERN`},
		{name: "channels without match", file: "channels:\n  - history: {messages: 5}\n",
			want: `sluice.yaml:2: this entry of channels has no match; add match: PATTERN`},
		{name: "channels with an unknown key", file: "channels:\n  - mach: a\n",
			want: `sluice.yaml:2: unknown key "mach"; did you mean match?`},
		{name: "channels with a list to match", file: "channels:\n  - match: [a, b]\n",
			want: `channels match (sluice.yaml:2): it is not a single value; write match: VALUE`},
		{name: "channels with a bad pattern", file: "channels:\n  - match: a b\n",
			want: `channels match (sluice.yaml:2): bad channel name: byte 1 (0x20) is not one of A-Z a-z 0-9 _ . : / - @ ~; write a channel name, with * for any run of characters`},
		{name: "history with an unknown key", file: "channels:\n  - match: a\n    history: {ages: 5m}\n",
			want: `sluice.yaml:3: unknown key "ages"; did you mean age?`},
		{name: "history out of range", file: "channels:\n  - match: a\n    history: {messages: 0}\n",
			want: `channels history messages (sluice.yaml:3): "0" is out of range; use 1 to 1000000`},
		{name: "history with a list", file: "channels:\n  - match: a\n    history: {age: [1]}\n",
			want: `channels history age (sluice.yaml:3): it is not a single value; write age: VALUE`},
		{name: "channels as a variable", env: "SLUICE_CHANNELS=a",
			want: `unknown variable SLUICE_CHANNELS; remove it, or see the settings by sluice help settings`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var env []string
			if tt.env != "" {
				env = append(env, tt.env)
			}
			_, err := loadText(t, tt.file, env, tt.args...)
			var usage *usageError
			if !errors.As(err, &usage) {
				t.Fatalf("got %v, want a usage error", err)
			}
			if err.Error() != tt.want {
				t.Errorf("got  %s\nwant %s", err, tt.want)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Error("the sentence shows a secret")
			}
		})
	}
}

// TestForeignVariables: a service called sluice must not keep the pods beside it from starting.
func TestForeignVariables(t *testing.T) {
	_, err := loadText(t, "", []string{
		"SLUICE_SERVICE_HOST=10.0.0.1",
		"SLUICE_SERVICE_PORT=8080",
		"SLUICE_SERVICE_PORT_HTTP=8080",
		"SLUICE_PORT=tcp://10.0.0.1:8080",
		"SLUICE_PORT_8080_TCP=tcp://10.0.0.1:8080",
		"SLUICE_PORT_8080_TCP_PROTO=tcp",
		"SLUICE_PORT_8080_TCP_PORT=8080",
		"SLUICE_PORT_8080_TCP_ADDR=10.0.0.1",
		"SLUICE_REDIS_SERVICE_HOST=10.0.0.2",
		"SLUICE_REDIS_PORT=tcp://10.0.0.2:6379",
		"SLUICE_REDIS_PORT_6379_TCP=tcp://10.0.0.2:6379",
	})
	if err != nil {
		t.Error(err)
	}
}

func TestEmptyFile(t *testing.T) {
	for _, text := range []string{"\n", "# nothing\n", "---\n", "channels: []\n"} {
		if _, err := loadText(t, text, nil); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func FuzzFile(f *testing.F) {
	f.Add([]byte("dev: true\nchannels:\n  - match: a*\n    history: {messages: 5, age: 1m}\n"))
	f.Add([]byte("a: &a [*a]\n"))
	f.Add([]byte("origins: &o [a, b]\nredis: *o\n"))
	f.Add([]byte("<<: {dev: true}\n"))
	f.Add([]byte("channels:\n  - match: a\n    deliver: &d {filter: 'event != \"x\"', conflate: key, key: /a, rate: 5/s, batch: '50ms,2'}\n    slow: {ring: 16, then: conflate}\n  - {match: b, deliver: *d}\n"))
	f.Add([]byte("channels: [{match: a, deliver: {filter: \"\\t!\\n\\x85event == 'x'\", batch: {window: 1ms, messages: 9}}, slow: {then: gap}}]\n"))
	table := settings()
	f.Fuzz(func(t *testing.T, text []byte) {
		entries, lists, err := parseFile(table, "sluice.yaml", text)
		var usage *usageError
		if err != nil && !errors.As(err, &usage) {
			t.Fatalf("%q: %v is not a usage error", text, err)
		}
		for name := range entries {
			if !slices.Contains(names(table), name) {
				t.Fatalf("%q: entry %q is no setting", text, name)
			}
		}
		for _, r := range lists.channels {
			if err == nil && r.Match.String() == "" {
				t.Fatalf("%q: rule without match", text)
			}
		}
		if err == nil {
			again(t, table, lists.channels)
		}
	})
}

// again checks that rules can be written as they are read.
func again(t *testing.T, table []setting, rules []ChannelRule) {
	t.Helper()
	text := "channels:\n"
	for i := range rules {
		line, err := rules[i].asYAML()
		if err != nil {
			t.Fatal(err)
		}
		text += "  - " + line + "\n"
	}
	if len(rules) == 0 {
		return
	}
	_, same, err := parseFile(table, "again.yaml", []byte(text))
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	if !reflect.DeepEqual(forget(same.channels), forget(rules)) {
		t.Fatalf("got  %+v\nwant %+v\nby way of\n%s", same, rules, text)
	}
}
