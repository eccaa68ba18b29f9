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

// secrets returns the paths of secrets in the configuration of a source: its path if that has
// credentials, and the options that the schema of the interpreter marks. If no interpreter is
// found, these are all options.
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
	add := func(sch schema, raw json.RawMessage, at []string, unknown bool) {
		if v, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw)); err == nil {
			paths = append(paths, sch.secrets(v, at, unknown)...)
		}
	}
	add(sch, config.Options, []string{"options"}, !known)
	for i, setting := range config.Settings {
		property := sch.property(setting.Name)
		at := []string{"settings", strconv.Itoa(i)}
		add(schema{property}, setting.JSON, append(slices.Clip(at), "json"), property == nil)
		if s := (schema{property}); property == nil || s.secret() || (schema{s.items()}).secret() {
			paths = append(paths, append(at, "value"))
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

// secrets returns the paths of secrets in a value. A secret object is one secret as a whole; in
// a secret list each item is. Names of files are not secret, because the files that are read
// are published.
func (s schema) secrets(v any, at []string, secret bool) (paths [][]string) {
	secret = secret || s.secret()
	switch v := v.(type) {
	case nil:
	case map[string]any:
		if secret && len(at) > 1 {
			return [][]string{at}
		}
		for _, name := range slices.Sorted(maps.Keys(v)) {
			member := s.member(name)
			// An unknown option may be a misspelt secret.
			unknown := secret || member.Schema == nil && len(at) == 1
			paths = append(paths, member.secrets(v[name], append(slices.Clip(at), name), unknown)...)
		}
	case []any:
		for i, item := range v {
			paths = append(paths, schema{s.items()}.secrets(item, append(slices.Clip(at), strconv.Itoa(i)), secret)...)
		}
	default:
		if format := s.format(); secret && format != formatPath && format != formatKeyPath {
			return [][]string{at}
		}
	}
	return paths
}

// refused returns an error for references in options whose values are published, because that
// would disclose the secrets.
func (s schema) refused(config json.RawMessage) error {
	var told Config
	if len(config) == 0 {
		return nil
	}
	if err := json.Unmarshal(config, &told); err != nil {
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
		var walk func(sch schema, v any, at trail, secret bool)
		walk = func(sch schema, v any, at trail, secret bool) {
			secret = secret || sch.secret()
			switch v := v.(type) {
			case map[string]any:
				for _, name := range slices.Sorted(maps.Keys(v)) {
					walk(sch.member(name), v[name], at.key(name), secret)
				}
			case []any:
				for i, item := range v {
					walk(schema{sch.items()}, item, at.index(strconv.Itoa(i)), secret)
				}
			case string:
				if engine.IsSecret(v) && !secret && sch.Schema != nil {
					mistakes = append(mistakes, at.mistake("option %s: its value is published, so that it cannot be a secret", at.text))
				}
			}
		}
		walk(sch, v, trail{path, option}, false)
		return nil
	}
	if err := look(s, told.Options, ""); err != nil {
		return err
	}
	for _, setting := range told.Settings {
		value := setting.JSON
		sch := schema{s.property(setting.Name)}
		if setting.Value != "" {
			value, _ = json.Marshal(setting.Value)
			if items := sch.items(); items != nil {
				sch = schema{items}
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
