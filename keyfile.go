package main

import (
	"fmt"

	"go.yaml.in/yaml/v3"

	"sluice/middleware/auth"
)

// apiKeyKeys are the keys of an entry of api-keys, in the order in which errors list them.
var apiKeyKeys = []string{"id", "hash", "publish"}

// maxAPIKeys bounds the list of keys, which are all in memory.
const maxAPIKeys = 10_000

// apiKeys reads the list of API keys.
func (f *file) apiKeys(list *yaml.Node) ([]auth.APIKey, error) {
	if list.Kind != yaml.SequenceNode || len(list.Content) > maxAPIKeys {
		return nil, usagef("%s: %s is not a list of at most %d; begin each entry with - id: NAME", f.at(list), apiKeysKey, maxAPIKeys)
	}
	var out []auth.APIKey
	at := map[string]string{}
	for _, n := range list.Content {
		var k auth.APIKey
		err := f.each(n, apiKeyKeys, func(key string, value *yaml.Node) error { return f.apiKey(&k, key, value) })
		if err != nil {
			return nil, err
		}
		if err := k.Check(); err != nil {
			return nil, usagef("%s (%s): %w", apiKeysKey, f.at(n), err)
		}
		if first := at[k.ID]; first != "" {
			return nil, usagef("%s (%s): the id %s is at %s already; give each key its own", apiKeysKey, f.at(n), k.ID, first)
		}
		at[k.ID] = f.at(n)
		out = append(out, k)
	}
	return out, nil
}

// apiKey reads the value of one of apiKeyKeys.
func (f *file) apiKey(k *auth.APIKey, key string, value *yaml.Node) error {
	if key == "publish" {
		if value.Kind != yaml.SequenceNode {
			return usagef("%s publish (%s): it is not a list; write publish: [PATTERN, …]", apiKeysKey, f.at(value))
		}
		for _, item := range value.Content {
			if err := checkPattern(item.Value); err != nil || item.Kind != yaml.ScalarNode {
				return usagef("%s publish (%s): %q can't be used; write a channel name, with * for any run of characters", apiKeysKey, f.at(item), item.Value)
			}
			k.Publish = append(k.Publish, item.Value)
		}
		return nil
	}
	if value.Kind != yaml.ScalarNode {
		return usagef("%s %s (%s): it is not a single value; write %s: VALUE", apiKeysKey, key, f.at(value), key)
	}
	if key == "id" {
		k.ID = value.Value
	} else {
		k.Hash = value.Value
	}
	return nil
}

// apiKeyYAML returns a key as one entry of the list, on one line. The hash is not the secret, and is nobody's business either.
func apiKeyYAML(k *auth.APIKey) (string, error) {
	publish := &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
	for _, p := range k.Publish {
		publish.Content = append(publish.Content, yamlText(p))
	}
	entry := append(yamlPair("id", yamlText(k.ID)), yamlPair("hash", yamlText("***"))...)
	text, err := yamlLine(yamlMap(append(entry, yamlPair("publish", publish)...)))
	if err != nil {
		return "", fmt.Errorf("write API key %s: %w", k.ID, err)
	}
	return text, nil
}
