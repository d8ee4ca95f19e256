package main

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"sluice/middleware/auth"
)

// The keys of the settings file that are no settings of the table: lists.
const (
	channelsKey = "channels"
	apiKeysKey  = "api-keys"
)

// file reads one settings file. It works on YAML's nodes rather than on its values, since nodes
// know their lines, and since a setting's text goes through the same parser wherever it comes from.
type file struct {
	name  string // base name, for messages
	table []setting
}

// fileLists are what the lists of the settings file say.
type fileLists struct {
	channels []ChannelRule
	apiKeys  []auth.APIKey
}

func parseFile(table []setting, path string, text []byte) (layer, fileLists, error) {
	var lists fileLists
	f := &file{name: filepath.Base(path), table: table}
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, lists, usagef("%s: %s; mend the YAML", f.name, strings.TrimPrefix(err.Error(), "yaml: "))
	}
	out := layer{}
	if len(doc.Content) == 0 || doc.Content[0].Tag == "!!null" {
		return out, lists, nil // empty, or nothing but comments
	}
	err := f.each(doc.Content[0], append(names(table), channelsKey, apiKeysKey), func(key string, value *yaml.Node) (err error) {
		switch key {
		case channelsKey:
			lists.channels, err = f.rules(value)
			return err
		case apiKeysKey:
			lists.apiKeys, err = f.apiKeys(value)
			return err
		}
		out[key], err = f.entry(key, value)
		return err
	})
	return out, lists, err
}

// at names the line of a node.
func (f *file) at(n *yaml.Node) string { return fmt.Sprintf("%s:%d", f.name, n.Line) }

// each calls do for every key of a mapping, and refuses keys that are unknown or there twice.
func (f *file) each(n *yaml.Node, known []string, do func(key string, value *yaml.Node) error) error {
	if n.Kind != yaml.MappingNode {
		return usagef("%s: settings are missing here; write lines of KEY: VALUE with the keys %s", f.at(n), ellipsis(known))
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if value.Kind == yaml.AliasNode {
			value = value.Alias
		}
		switch name := key.Value; {
		case !slices.Contains(known, name):
			return usagef("%s: unknown key %q; %s", f.at(key), name, didYouMean(name, known, "", "use "+ellipsis(known)))
		case seen[name]:
			return usagef("%s: %s is there twice; remove one of them", f.at(key), name)
		case value.Tag == "!!null":
			return usagef("%s: %s has no value; write one, or remove the line", f.at(key), name)
		}
		seen[key.Value] = true
		if err := do(key.Value, value); err != nil {
			return err
		}
	}
	return nil
}

// entry reads the text of a setting; a list may be a YAML list.
func (f *file) entry(key string, value *yaml.Node) (entry, error) {
	from := f.at(value)
	if value.Kind == yaml.ScalarNode {
		return entry{value.Value, from}, nil
	}
	isList := false
	for i := range f.table {
		isList = isList || f.table[i].name == key && f.table[i].kind == kindList
	}
	if !isList || value.Kind != yaml.SequenceNode {
		return entry{}, usagef("%s (%s): it is not a single value; write %s: VALUE", key, from, key)
	}
	var items []string
	for _, item := range value.Content {
		if item.Kind != yaml.ScalarNode {
			return entry{}, usagef("%s (%s): an item is not a single value; write a list of texts", key, f.at(item))
		}
		items = append(items, item.Value)
	}
	return entry{strings.Join(items, ","), from}, nil
}

// ellipsis joins the first few words.
func ellipsis(words []string) string {
	if len(words) > 4 {
		return strings.Join(words[:4], ", ") + ", …"
	}
	return strings.Join(words, ", ")
}
