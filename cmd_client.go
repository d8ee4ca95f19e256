package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"sluice/static"
)

func clientCommand() *command {
	flags := newFlags("client")
	base := flags.String("url", "", "`URL` of the node as pages reach it; by default the snippets have paths, for pages of the node's own origin")
	asJSON := flags.Bool("json", false, "print module, integrity and version, as /sluice.json has them, with the URL in front")
	return &command{"client", "", "print how pages load the client library, with its integrity hash", flags,
		func(_ context.Context, t *terminal, args []string) error {
			if len(args) > 0 {
				return usagef("sluice client takes no arguments; write --url %s if that is where the node is", args[0])
			}
			mount := "/"
			if *base != "" {
				u, err := parseBase(*base)
				if err != nil {
					return err
				}
				if u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.ContainsAny(u.Host+u.Path, "\"'<>&\\") { // it goes into HTML and scripts
					return usagef("--url %q is not where pages reach a node; write it like https://edge.example or https://app.example/edge", *base)
				}
				mount = strings.TrimSuffix(u.String(), "/") + "/"
			}
			module := mount + strings.TrimPrefix(static.ModulePath(), "/")
			if *asJSON {
				version, _, _ := build()
				return json.NewEncoder(t.out).Encode(struct {
					Module    string `json:"module"`
					Integrity string `json:"integrity"`
					Version   string `json:"version"`
				}{module, static.Integrity(), version})
			}
			return printSnippets(t.out, mount, module)
		}}
}

// printSnippets prints two ways to load the module, for a page to copy. The import map comes first: where a page may have one only, it is
// ignored behind anything that has begun to load modules.
func printSnippets(w io.Writer, mount, module string) error {
	importMap, err := json.MarshalIndent(map[string]any{
		"imports":   map[string]string{"sluice": module},
		"integrity": map[string]string{module: static.Integrity()},
	}, "", "  ")
	if err != nil {
		return fmt.Errorf("write an import map: %w", err)
	}
	_, err = fmt.Fprintf(w, `<!-- The library of this version, checked by the browser. In the head, before all other module scripts. -->
<script type="importmap">
%s
</script>
<link rel="modulepreload" href="%s" integrity="%s" crossorigin>
<script type="module">
  import { connect } from "sluice";
  const edge = connect("%s");
</script>

<!-- Whatever version the node has, unchecked. -->
<script type="module">
  import { connect } from "%ssluice.js";
</script>
`, importMap, module, static.Integrity(), mount, mount)
	return err
}
