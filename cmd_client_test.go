package main

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"sluice/static"
)

func TestClientCommand(t *testing.T) {
	path := static.ModulePath()
	for _, tt := range []struct{ name, url, mount string }{
		{"own origin", "", "/"},
		{"another origin", "https://edge.example", "https://edge.example/"},
		{"below a path", "https://app.example/edge/", "https://app.example/edge/"},
		{"with a port", "http://127.0.0.1:8080/edge", "http://127.0.0.1:8080/edge/"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			args := []string{"client"}
			if tt.url != "" {
				args = append(args, "--url", tt.url)
			}
			out, errs, code := shell(t, "", args...)
			if code != 0 || errs != "" {
				t.Fatalf("exit code %d: %s", code, errs)
			}
			module := tt.mount + strings.TrimPrefix(path, "/")
			var m struct{ Imports, Integrity map[string]string }
			text := regexp.MustCompile(`(?s)<script type="importmap">\n(.*?)\n</script>`).FindStringSubmatch(out)
			if text == nil || json.Unmarshal([]byte(text[1]), &m) != nil || m.Imports["sluice"] != module || m.Integrity[module] != static.Integrity() {
				t.Errorf("import map %q, want %s with its integrity", text, module)
			}
			for _, want := range []string{`<link rel="modulepreload" href="` + module + `" integrity="` + static.Integrity() + `" crossorigin>`, `connect("` + tt.mount + `")`, `from "` + tt.mount + `sluice.js"`} {
				if !strings.Contains(out, want) {
					t.Errorf("it has no %s:\n%s", want, out)
				}
			}
			if strings.Index(out, "importmap") > strings.Index(out, "modulepreload") {
				t.Error("the preload is before the import map, which is ignored then")
			}
			var got map[string]string
			if out, _, code = shell(t, "", append(args, "--json")...); code != 0 || json.Unmarshal([]byte(out), &got) != nil || got["module"] != module || got["integrity"] != static.Integrity() || len(got) != 3 {
				t.Errorf("as JSON: %s", out)
			}
		})
	}
	for _, args := range [][]string{{"x"}, {"--url", "edge.example"}, {"--url", `https://x"<script>`}, {"--url", "https://x/'"}, {"--url", "https://x/?a=b"}, {"--url", "https://user:password@x/"}} {
		if out, errs, code := shell(t, "", append([]string{"client"}, args...)...); code != exitUsage || out != "" || errs == "" {
			t.Errorf("%q: exit code %d, %q, want a refusal", args, code, out)
		}
	}
}
