// SPDX-License-Identifier: Apache-2.0

package source

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strconv"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/stages/rendering"
)

// secrets returns the paths of secrets in the configuration of a source: its path if that
// contains credentials, and the options that the schema of the interpreter marks as secret. If no
// interpreter is found, these are all options.
func (o Options) secrets(ctx context.Context, with json.RawMessage) (paths [][]string) {
	var config Config
	if json.Unmarshal(with, &config) != nil {
		return [][]string{{"path"}, {"options"}, {"settings"}}
	}
	if rendering.PublicURI(config.Path) != config.Path {
		paths = append(paths, []string{"path"})
	}
	if len(config.Options) == 0 && len(config.Settings) == 0 {
		return paths
	}
	sch, known := o.schemaOf(ctx, config)
	var options map[string]any
	if err := json.Unmarshal(config.Options, &options); err == nil {
		for _, name := range slices.Sorted(maps.Keys(options)) {
			member := sch.member(name)
			member.hidden = member.hidden || !known || member.Schema == nil // an unknown option may be a misspelled secret
			paths = append(paths, member.secrets(options[name], "options", name)...)
		}
	}
	for i, setting := range config.Settings {
		property := sch.property(setting.Name)
		property.hidden = property.hidden || property.Schema == nil
		at := strconv.Itoa(i)
		if v, err := jsonschema.UnmarshalJSON(bytes.NewReader(setting.JSON)); err == nil {
			paths = append(paths, property.secrets(v, "settings", at, "json")...)
		}
		if property.items().secret() {
			paths = append(paths, []string{"settings", at, "value"})
		}
	}
	return paths
}

// schemaOf finds the interpreter of a source and the schema of its options.
func (o Options) schemaOf(ctx context.Context, config Config) (schema, bool) {
	s, err := New(config, o)
	if err != nil {
		return schema{}, false
	}
	at, err := locate(config.Path, o.Folder)
	if err != nil {
		return schema{}, false
	}
	found, err := s.find(ctx, func(engine.Event) {}, &at)
	if err != nil {
		return schema{}, false
	}
	return found.schema, true
}

// secrets returns the paths of secrets in a value. A secret object is a single secret; in a
// secret list, each item is one. Names of files are not secret, because the files that are read
// are published.
func (s schema) secrets(v any, path ...string) (paths [][]string) {
	_, _, _ = s.mapped(v, trail{path: path}, func(sch schema, v any, at trail) (any, bool, error) {
		_, object := v.(map[string]any)
		_, list := v.([]any)
		format := sch.format()
		secret := v != nil && !list && sch.secret() && (object || format != formatPath && format != formatKeyPath)
		if secret {
			paths = append(paths, at.path)
		}
		return v, !secret, nil
	})
	return paths
}

// refused returns an error for references to secrets in options whose values are published,
// because that would disclose the secrets.
func (s schema) refused(config json.RawMessage) error {
	var given Config
	if len(config) == 0 {
		return nil
	}
	if err := json.Unmarshal(config, &given); err != nil {
		return err
	}
	var mistakes engine.OptionErrors
	look := func(sch schema, raw json.RawMessage, option string, path ...string) error {
		if len(raw) == 0 {
			return nil
		}
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
		if err != nil {
			return err
		}
		_, _, err = sch.mapped(v, trail{path, option}, func(sch schema, v any, at trail) (any, bool, error) {
			if text, ok := v.(string); ok && engine.IsSecret(text) && !sch.secret() && sch.Schema != nil {
				mistakes = append(mistakes, at.mistake("option %s: its value is published, so it cannot be a secret", at.text))
			}
			return v, true, nil
		})
		return err
	}
	if err := look(s, given.Options, ""); err != nil {
		return err
	}
	for _, setting := range given.Settings {
		value := setting.JSON
		sch := s.property(setting.Name)
		if setting.Value != "" {
			value, _ = json.Marshal(setting.Value)
			if items := sch.items(); items.Schema != nil {
				sch = items
			}
		}
		if err := look(sch, value, setting.Name, setting.Name); err != nil {
			return err
		}
	}
	if mistakes != nil {
		return mistakes
	}
	return nil
}
