// SPDX-License-Identifier: Apache-2.0

package source

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/document"
	"github.com/taped-dev/tape/internal/nearest"
	"github.com/taped-dev/tape/internal/regular"
)

// The formats of strings that name files or may contain secrets.
const (
	formatPath     = "path"
	formatKeyPath  = "key=path"  // the part after the first = is a path
	formatKeyValue = "key=value" // the part after the first = may be secret
)

// schema is the schema of the options of an interpreter, or of a part of them. It is nil for a
// part that it does not describe.
type schema struct {
	*jsonschema.Schema
	hidden bool             // what contains the part is secret
	whole  *document.Schema // nil for a part
}

// compile compiles a schema. An empty schema allows no options.
func compile(raw json.RawMessage) (schema, error) {
	if len(raw) == 0 {
		raw = json.RawMessage(`{"type": "object", "additionalProperties": false}`)
	}
	whole, err := document.NewSchema(raw, formatPath, formatKeyPath, formatKeyValue)
	if err != nil {
		return schema{}, err
	}
	return schema{Schema: whole.Compiled, whole: whole}, nil
}

// options returns the options of the source, validated against the schema. Paths in them are
// absolute.
func (s *Stage) options(sch schema) (map[string]any, error) {
	base, err := filepath.Abs(s.o.Folder)
	if err != nil {
		return nil, err
	}
	out := map[string]any{}
	if len(s.config.Options) > 0 && string(s.config.Options) != "null" {
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader(s.config.Options))
		if err != nil {
			return nil, fmt.Errorf("options: %w", err)
		}
		m, ok := v.(map[string]any)
		if !ok {
			return nil, errors.New("options: want an object of names and values")
		}
		anchored, err := sch.anchored(m, base)
		if err != nil {
			return nil, err
		}
		out = anchored.(map[string]any)
	}
	fresh := map[string]bool{} // lists that a setting has replaced
	for _, setting := range s.config.Settings {
		property := sch.property(setting.Name)
		value, err := setting.value(property)
		if err != nil {
			return nil, fmt.Errorf("option %s: %w", setting.Name, err)
		}
		from := setting.Base
		if !filepath.IsAbs(from) {
			from = filepath.Join(base, from)
		}
		if value, err = property.anchored(value, from); err != nil {
			return nil, err
		}
		if more, ok := value.([]any); ok && fresh[setting.Name] {
			value = append(out[setting.Name].([]any), more...)
		}
		_, fresh[setting.Name] = value.([]any)
		out[setting.Name] = value
	}
	if err := sch.check(out); err != nil {
		return nil, err
	}
	return out, nil
}

// all returns the schema and the schemas that apply to the same value.
func (s schema) all() iter.Seq[*jsonschema.Schema] {
	return func(yield func(*jsonschema.Schema) bool) {
		seen := map[*jsonschema.Schema]bool{nil: true}
		for queue := []*jsonschema.Schema{s.Schema}; len(queue) > 0; {
			sch, rest := queue[0], queue[1:]
			queue = rest
			if seen[sch] {
				continue
			}
			seen[sch] = true
			if !yield(sch) {
				return
			}
			queue = slices.Concat([]*jsonschema.Schema{sch.Ref}, sch.AllOf, sch.AnyOf, sch.OneOf, []*jsonschema.Schema{sch.Then, sch.Else}, rest)
		}
	}
}

// first returns the first nonzero result of a schema that applies to the value.
func first[T comparable](s schema, of func(*jsonschema.Schema) T) (found T) {
	for sch := range s.all() {
		var zero T
		if found = of(sch); found != zero {
			break
		}
	}
	return found
}

// part returns the schema of a part of the value.
func (s schema) part(sch *jsonschema.Schema) schema { return schema{Schema: sch, hidden: s.secret()} }

// property returns the schema of one option.
func (s schema) property(name string) schema {
	return s.part(first(s, func(sch *jsonschema.Schema) *jsonschema.Schema { return sch.Properties[name] }))
}

// member returns the schema of a member of an object, which need not be one of its properties.
func (s schema) member(name string) schema {
	if p := s.property(name); p.Schema != nil {
		return p
	}
	var found *jsonschema.Schema
	for sch := range s.all() {
		for pattern, p := range sch.PatternProperties {
			if pattern.MatchString(name) {
				found = p
			}
		}
		if more, ok := sch.AdditionalProperties.(*jsonschema.Schema); ok && found == nil {
			found = more
		}
	}
	return s.part(found)
}

// items returns the schema of the items of a list.
func (s schema) items() schema {
	return s.part(first(s, func(sch *jsonschema.Schema) *jsonschema.Schema {
		old, _ := sch.Items.(*jsonschema.Schema)
		return cmp.Or(sch.Items2020, old)
	}))
}

// types returns the types that a schema allows, or none if it does not restrict them.
func (s schema) types() map[string]bool {
	out := map[string]bool{}
	for sch := range s.all() {
		if sch.Types != nil {
			for _, t := range sch.Types.ToStrings() {
				out[t] = true
			}
		}
	}
	return out
}

// format returns the format of a string, or "" if it has none.
func (s schema) format() string {
	format := first(s, func(sch *jsonschema.Schema) *jsonschema.Format { return sch.Format })
	if format == nil {
		return ""
	}
	return format.Name
}

func (s schema) writeOnly() bool {
	return first(s, func(sch *jsonschema.Schema) bool { return sch.WriteOnly })
}

// secret reports whether a value may be secret.
func (s schema) secret() bool { return s.hidden || s.writeOnly() || s.format() == formatKeyValue }

// value parses a setting as the type of its option.
func (s Setting) value(property schema) (any, error) {
	if len(s.JSON) > 0 {
		return jsonschema.UnmarshalJSON(bytes.NewReader(s.JSON))
	}
	types := property.types()
	if types["array"] {
		item, err := scalar(s.Value, property.items().types())
		return []any{item}, err
	}
	return scalar(s.Value, types)
}

// scalar parses a text as one of the types, or as a string if that is allowed.
func scalar(text string, types map[string]bool) (any, error) {
	switch {
	case types["string"] || len(types) == 0:
		return text, nil
	case types["boolean"] && (text == "true" || text == "false"):
		return text == "true", nil
	case types["integer"] || types["number"]:
		if _, err := strconv.ParseFloat(text, 64); err == nil && json.Valid([]byte(text)) {
			return json.Number(text), nil
		}
	case types["object"]:
		v, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
		if err == nil {
			return v, nil
		}
	}
	return nil, fmt.Errorf("want %s", strings.Join(slices.Sorted(maps.Keys(types)), " or "))
}

// mapped copies a value and replaces the parts that fn replaces. fn is called with the schemas
// that apply to a part, and returns the new value, or keep false to remove the part.
func (s schema) mapped(v any, at trail, fn func(sch schema, v any, at trail) (new any, keep bool, err error)) (any, bool, error) {
	v, keep, err := fn(s, v, at)
	if err != nil || !keep {
		return nil, keep, err
	}
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for _, name := range slices.Sorted(maps.Keys(v)) {
			sub, keep, err := s.member(name).mapped(v[name], at.key(name), fn)
			if err != nil {
				return nil, false, err
			}
			if keep {
				out[name] = sub
			}
		}
		return out, true, nil
	case []any:
		out := make([]any, 0, len(v))
		for i, item := range v {
			sub, keep, err := s.items().mapped(item, at.index(strconv.Itoa(i)), fn)
			if err != nil {
				return nil, false, err
			}
			if keep {
				out = append(out, sub)
			}
		}
		return out, true, nil
	}
	return v, true, nil
}

// trail is the path of a part of the options.
type trail struct {
	path []string
	text string // readable form: registry.hosts[0]
}

func (t trail) key(name string) trail {
	text := name
	if t.text != "" {
		text = t.text + "." + name
	}
	return trail{append(slices.Clip(t.path), name), text}
}

func (t trail) index(i string) trail {
	return trail{append(slices.Clip(t.path), i), t.text + "[" + i + "]"}
}

// mistake returns an error about this part of the options.
func (t trail) mistake(format string, args ...any) *engine.OptionError {
	return &engine.OptionError{Path: append([]string{"options"}, t.path...), Err: fmt.Errorf(format, args...)}
}

// paths replaces each path by the result of fn.
func (s schema) paths(v any, fn func(path string, at trail) (string, error)) (any, error) {
	v, _, err := s.mapped(v, trail{}, func(sch schema, v any, at trail) (any, bool, error) {
		text, ok := v.(string)
		if !ok || text == "" {
			return v, true, nil
		}
		key := ""
		switch sch.format() {
		case formatPath:
		case formatKeyPath:
			var named bool
			if key, text, named = strings.Cut(text, "="); !named || text == "" {
				return v, true, nil
			}
			key += "="
		default:
			return v, true, nil
		}
		text, err := fn(text, at)
		return key + text, true, err
	})
	return v, err
}

// anchored makes paths absolute.
func (s schema) anchored(v any, base string) (any, error) {
	return s.paths(v, func(path string, _ trail) (string, error) {
		if filepath.IsAbs(path) {
			return path, nil
		}
		return filepath.Join(base, path), nil
	})
}

// placed makes absolute paths relative to the root, which grows if it may, and lists them. It
// resolves symbolic links to their folders.
func (s schema) placed(options map[string]any, at *place) (json.RawMessage, []string, error) {
	absolute, err := s.paths(options, func(path string, option trail) (string, error) {
		dir, err := filepath.EvalSymlinks(filepath.Dir(path))
		if err == nil {
			path = filepath.Join(dir, filepath.Base(path))
			_, err = os.Stat(path)
		}
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return "", engine.OptionErrors{option.mistake("option %s: %s does not exist", option.text, path)}
		case err != nil:
			return "", engine.OptionErrors{option.mistake("option %s: open %s: %w", option.text, path, regular.Cause(err))}
		case !at.grow(path):
			return "", engine.OptionErrors{option.mistake("option %s: %w", option.text, at.outside(path))}
		}
		return path, nil
	})
	if err != nil {
		return nil, nil, err
	}
	// The root is final only now.
	var inputs []string
	relative, err := s.paths(absolute, func(path string, _ trail) (string, error) {
		rel, _ := below(at.root, path)
		inputs = append(inputs, rel)
		return rel, nil
	})
	if err != nil {
		return nil, nil, err
	}
	raw, err := engine.MarshalJSON(relative)
	return raw, inputs, err
}

// shown returns options in a form that may be published: without values that the schema marks as
// writeOnly, and with a digest instead of the value in key=value.
func (s schema) shown(raw json.RawMessage) (json.RawMessage, error) {
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		return nil, err
	}
	v, _, err = s.mapped(v, trail{}, func(sch schema, v any, _ trail) (any, bool, error) {
		if text, ok := v.(string); ok && sch.format() == formatKeyValue {
			if key, value, assigned := strings.Cut(text, "="); assigned {
				v = key + "=" + digest.FromString(value).String()
			}
		}
		return v, !sch.writeOnly(), nil
	})
	if err != nil {
		return nil, err
	}
	return engine.MarshalJSON(v)
}

// check validates options, and describes mistakes in terms that users know.
func (s schema) check(options map[string]any) error {
	v, err := document.FromGo(options)
	if err != nil {
		return fmt.Errorf("options: %w", err)
	}
	var all engine.OptionErrors
	for _, wrong := range s.whole.Violations(v) {
		at, sch := trail{}, s
		for _, name := range wrong.Path {
			if _, err := strconv.Atoi(name); err == nil && sch.items().Schema != nil {
				at, sch = at.index(name), sch.items()
			} else {
				at, sch = at.key(name), sch.member(name)
			}
		}
		option := strings.TrimSuffix("option "+at.text, " ")
		switch {
		case wrong.Unknown != "":
			hint := nearest.Hint(wrong.Unknown, slices.Values(wrong.Known))
			switch {
			case len(wrong.Known) == 0 && at.text == "":
				hint = " (the interpreter takes none)"
			case hint == "":
				hint = fmt.Sprintf(" (there are: %s)", strings.Join(wrong.Known, ", "))
			}
			at = at.key(wrong.Unknown)
			all = append(all, at.mistake("there is no option %q%s", at.text, hint))
		case wrong.Missing != "":
			all = append(all, at.mistake("%s %s is missing", option, wrong.Missing))
		case wrong.Quotes && sch.format() == formatKeyValue:
			all = append(all, at.mistake("%s: want key=value", option))
		case wrong.Quotes && sch.secret():
			all = append(all, at.mistake("%s: its value is not allowed", option))
		default:
			all = append(all, at.mistake("%s%s", option, wrong.Text))
		}
	}
	if len(all) > 0 {
		return all
	}
	return nil
}
