package main

import (
	"flag"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write what is generated from the code: docs/settings.md")

// pointers collects the addresses of all fields of a struct, those of inner structs included.
func pointers(v reflect.Value, path string, out map[any]string) {
	for i := range v.NumField() {
		field, name := v.Field(i), path+v.Type().Field(i).Name
		if field.Kind() == reflect.Struct {
			pointers(field, name+".", out)
			continue
		}
		out[field.Addr().Interface()] = name
	}
}

func TestTableCoversConfig(t *testing.T) {
	var c Config
	fields := map[any]string{}
	pointers(reflect.ValueOf(&c).Elem(), "", fields)
	for _, s := range settings() {
		p := s.field(&c)
		if _, ok := fields[p]; !ok {
			t.Errorf("setting %s: its field is not in Config, or belongs to another setting, too", s.name)
		}
		delete(fields, p)
	}
	except := map[string]string{
		"Transport.Access":      "made by the program",
		"Transport.Policies":    "made by the program of the policies in the file",
		"Transport.Status":      "made by the program, which knows of the file",
		"Transport.Lacks":       "made by the program, which knows of tokens",
		"Transport.Metrics":     "made by the program: on if there is an address",
		"Transport.Admin":       "the same",
		"Transport.Faults":      "made by the program: with dev, and never else",
		"Transport.Version":     "made by the program",
		"Transport.Tracer":      "made by the program",
		"Transport.TraceTrust":  "made by the program",
		"Transport.Clock":       "made by the program",
		"Transport.RevokeFor":   "made by the program: as long as tokens hold",
		"Channels":              "only in the file",
		"Access.APIKeys":        "only in the file",
		"Transport.PassHeaders": "made by the program: webhook-headers",
	}
	for _, name := range fields {
		if except[name] == "" {
			t.Errorf("Config.%s can't be set: add a row to the table", name)
		}
	}
}

func TestTable(t *testing.T) {
	kinds := map[kind]any{
		kindString: new(string), kindEnum: new(string), kindBool: new(bool), kindInt: new(int), kindBytes: new(int),
		kindNumber: new(float64), kindDuration: new(time.Duration), kindList: new([]string),
	}
	defaults := DefaultConfig()
	seen := map[string]bool{}
	for _, s := range settings() {
		t.Run(s.name, func(t *testing.T) {
			if seen[s.name] || seen[s.env()] {
				t.Error("is there twice")
			}
			seen[s.name], seen[s.env()] = true, true
			if got, want := reflect.TypeOf(s.field(&defaults)), reflect.TypeOf(kinds[s.kind]); got != want {
				t.Errorf("field is a %v, want %v for kind %s", got, want, s.kind)
			}
			if s.text == "" || !strings.HasSuffix(s.text, ".") || s.group == "" {
				t.Errorf("text %q, group %q: want a sentence and a heading", s.text, s.group)
			}
			if s.kind == kindList && s.check == nil {
				t.Error("a list without a check of its items")
			}
			v, err := s.parse(s.show(&defaults))
			if err != nil {
				t.Fatalf("its default is refused: %v", err)
			}
			var c Config
			s.set(&c, v)
			if got, want := s.show(&c), s.show(&defaults); got != want {
				t.Errorf("after show, parse and set: %q, want %q", got, want)
			}
		})
	}
}

// manual writes docs/settings.md out of the table.
func manual() string {
	var b strings.Builder
	b.WriteString(`# Settings

<!-- Generated from the table in config.go by: go test -run TestManual -update . -->

Every setting is a flag ` + "`--NAME`" + `, an environment variable and a key of a YAML file, in this order of precedence; what none
of them says has its default. Unknown flags, ` + "`SLUICE_*`" + ` variables and keys, and values out of range, stop the start with
exit code 2 and a sentence that names the setting, where it stands and the fix.

- ` + "`sluice config`" + ` prints what is in effect and where each setting comes from, passwords masked.
- ` + "`--config FILE`" + ` or ` + "`SLUICE_CONFIG`" + ` names the file. None is read otherwise. ` + "[deploy/sluice.example.yaml](../deploy/sluice.example.yaml)" + ` shows one.
- An empty variable counts as not set. The variables that Kubernetes makes of services (` + "`SLUICE_SERVICE_HOST`" + ` …) are ignored.
- Durations have a unit: ` + "`500ms`, `10s`, `5m`, `24h`" + `. Bytes may have one: ` + "`65536`, `64KiB`, `1MiB`, `2GiB`" + `.
- Lists are separated by commas; a flag may be repeated instead, and the file may have a YAML list.
- A boolean flag needs no value: ` + "`--dev`" + ` is ` + "`--dev=true`" + `.
`)
	table, group := settings(), ""
	defaults := DefaultConfig()
	for i := range table {
		s := &table[i]
		if s.group != group {
			group = s.group
			fmt.Fprintf(&b, "\n## %s\n\n| flag and file key | variable | unit or kind | default | range | |\n| --- | --- | --- | --- | --- | --- |\n", group)
		}
		unit := s.unit
		if unit == "" {
			unit = string(s.kind)
		}
		text := s.text
		if s.secret {
			text += " Secret: never printed with its password."
		}
		fmt.Fprintf(&b, "| `%s` | `%s` | %s | %s | %s | %s |\n", s.name, s.env(), unit, code(s.show(&defaults)), s.span(), text)
	}
	b.WriteString(`
## Exceptions by channel

Only in the file: a list ` + "`channels`" + `. The first entry whose ` + "`match`" + ` fits a channel's name counts for it; what the entry does not say
stays as above. ` + "`*`" + ` stands for any run of characters, none included; everything else for itself. ` + "`sluice config --channel NAME`" + ` prints
what holds for a channel. The list is [reloaded](operating.md#policies-and-reload) when the file changes; everything else is read at the start.

` + "```" + `yaml
channels:
  - match: "chat:*"
    history: {messages: 200, age: 1h}
  - match: "prices.*"
    history: {messages: 1000, age: 1h}
    deliver: {filter: 'event != "debug"', conflate: key, key: /symbol, rate: 10/s, batch: {window: 50ms, messages: 200}}
    slow: {ring: 256, then: conflate}
` + "```" + `

| key | values | without it | |
| --- | --- | --- | --- |
| ` + "`history`" + `: ` + "`messages`" + `, ` + "`age`" + ` | as ` + "`history-messages`" + `, ` + "`history-age`" + ` | those | what is kept for those who come back |
| ` + "`deliver`" + `: ` + "`filter`" + ` | an expression, at most 512 bytes | everything | only messages for which it is true |
| ` + "`deliver`" + `: ` + "`conflate`" + ` | ` + "`key`" + `, ` + "`latest`" + `, ` + "`none`" + ` | ` + "`none`" + ` | of what goes out together, only the newest of each key, or the newest of all |
| ` + "`deliver`" + `: ` + "`key`" + ` | a JSON pointer, such as ` + "`/symbol`" + ` | the publisher's key | where the key stands in the payload: for ` + "`conflate: key`" + `, for ` + "`slow`" + ` with ` + "`then: conflate`" + `, and for subscribers who wish ` + "`conflate=key`" + `; not with ` + "`conflate: latest`" + ` |
| ` + "`deliver`" + `: ` + "`rate`" + ` | ` + "`5/s`" + `, ` + "`30/m`" + `, ` + "`100/h`" + `; ` + "`1000/s`" + ` to ` + "`1/h`" + ` | no limit | at most one delivery in that time, made of all that came in it |
| ` + "`deliver`" + `: ` + "`batch`" + ` | ` + "`{window: 50ms, messages: 200}`" + `; 1ms to 10s, 1 to 10000. Or the text ` + "`50ms`" + ` or ` + "`50ms,200`" + ` | no waiting | messages wait up to so long for others; so many are enough to go at once |
| ` + "`slow`" + `: ` + "`ring`" + ` | 16 to ` + "`ring-messages`" + ` | 256, or ` + "`ring-messages`" + ` if that is less | a subscriber is slow once it is so many messages further behind than it should be |
| ` + "`slow`" + `: ` + "`then`" + ` | ` + "`conflate`" + `, ` + "`gap`" + `, ` + "`history`" + `, ` + "`disconnect`" + ` | has to be there with ` + "`slow`" + ` | what becomes of it: it gets the newest of each key; a gap, and what is new; everything, from the history where need be; its session ends with ` + "`slow_consumer`" + ` |

Subscribers may wish for less ([protocol](protocol.md#delivery-on-request)); the stricter of both wins. Within braces write ` + "`batch: \"50ms,200\"`" + ` with its quotes: the comma
would end the value.
`)
	return b.String()
}

func code(s string) string {
	if s == "" {
		return ""
	}
	return "`" + s + "`"
}

func TestManual(t *testing.T) {
	const path = "docs/settings.md"
	want := manual()
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is not what the table says: go test -run TestManual -update .", path)
	}
}

// TestExample: the example files are read by the program itself.
func TestExample(t *testing.T) {
	flags := newFlags("serve")
	addSettings(flags)
	if err := parseFlags(flags, []string{"--config", "deploy/sluice.example.yaml"}); err != nil {
		t.Fatal(err)
	}
	l, err := load(flags, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(l.Config.Channels) == 0 {
		t.Error("the example shows no channels")
	}
}
