// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// The header of a pipeline file.
const (
	APIVersion = "tape/v1"
	FileKind   = "Pipeline"
)

// defaultFile is the name of the default pipeline in errors, which are mistakes of the
// program's author.
const defaultFile = "default pipeline"

// Table holds the kinds of stages and the default pipeline. It is immutable.
type Table struct {
	kinds    map[string]*kindOf
	defaults []node
	// sections maps section and key of the short form to the option that the value fills;
	// nil if it is only part of a value.
	sections map[string]map[string]*option
}

// kindOf is a Kind with its compiled schema.
type kindOf struct {
	Kind
	schema   map[string]any // of `with`; nil means no options
	compiled *jsonschema.Schema
}

// option is an option of a kind.
type option struct {
	kind *kindOf
	name string
}

// NewTable returns a table after checking the kinds, and the default pipeline against them.
// The default pipeline may be empty.
func NewTable(defaults []byte, kinds ...Kind) (*Table, error) {
	return new(Schemas).NewTable(defaults, kinds...)
}

// Schemas keeps the schemas of kinds and the default pipeline, so that they are compiled once
// for many tables. The zero value is ready to use; its methods may be called concurrently.
type Schemas struct {
	ready    sync.Map // of func() (*kindOf, error), by name and the schema's text
	defaults sync.Map // of func() (*value, error), by their text
}

// NewTable is [NewTable] with the schemas that s keeps.
func (s *Schemas) NewTable(defaults []byte, kinds ...Kind) (*Table, error) {
	t := &Table{kinds: map[string]*kindOf{}, sections: map[string]map[string]*option{}}
	for _, k := range kinds {
		if _, twice := t.kinds[k.Name]; twice {
			return nil, fmt.Errorf("two kinds of stage are named %q", k.Name)
		}
		ready, err := s.kind(k)
		if err != nil {
			return nil, fmt.Errorf("kind of stage %q: %w", k.Name, err)
		}
		t.kinds[k.Name] = ready
	}
	root, err := s.parse(defaults)
	if err != nil {
		return nil, err
	}
	if root == nil {
		return t, nil
	}
	var p problems
	known(root, &p, "apiVersion", "kind", "nodes")
	t.defaults = readNodes(root.get("nodes"), &p)
	for _, n := range t.defaults {
		if _, ok := t.kinds[n.uses]; !ok {
			p.add(n.usesAt, "node %q uses %q, which is not a kind of stage%s", n.name, n.uses, t.nearestKind(n.uses))
		}
		t.readSections(n, &p)
	}
	return t, p.sorted()
}

// parse parses a default pipeline. Values are not modified.
func (s *Schemas) parse(defaults []byte) (*value, error) {
	parsed, _ := s.defaults.LoadOrStore(string(defaults), sync.OnceValues(func() (*value, error) { return parse(defaultFile, defaults) }))
	return parsed.(func() (*value, error))()
}

// kind returns a kind with its schema.
func (s *Schemas) kind(k Kind) (*kindOf, error) {
	if k.New == nil {
		return nil, errors.New("New is nil")
	}
	compiled, _ := s.ready.LoadOrStore(k.Name+" "+string(k.Schema), sync.OnceValues(func() (*kindOf, error) { return newKind(k) }))
	ready, err := compiled.(func() (*kindOf, error))()
	if err != nil {
		return nil, err
	}
	own := *ready
	own.Kind = k
	return &own, nil
}

func newKind(k Kind) (*kindOf, error) {
	if !nodeName.MatchString(k.Name) || strings.Contains(k.Name, "/") {
		return nil, errors.New("the name must consist of letters, digits, -, _ and dots")
	}
	ready := &kindOf{Kind: k}
	if k.Schema == nil {
		return ready, nil
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(k.Schema))
	if err != nil {
		return nil, fmt.Errorf("schema: %w", err)
	}
	var ok bool
	if ready.schema, ok = doc.(map[string]any); !ok {
		return nil, errors.New("the schema is not an object")
	}
	if bytes.Contains(k.Schema, []byte(`"$ref"`)) {
		// It becomes part of the schema of pipeline files.
		return nil, errors.New("the schema must not use $ref")
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	const name = "kind.json"
	if err := c.AddResource(name, doc); err != nil {
		return nil, fmt.Errorf("schema: %w", err)
	}
	if ready.compiled, err = c.Compile(name); err != nil {
		return nil, fmt.Errorf("schema: %w", err)
	}
	return ready, nil
}

// readSections records the sections and keys that a default node refers to.
func (t *Table) readSections(n node, p *problems) {
	note := func(v *value, fills *option) {
		for _, m := range placeholder.FindAllStringSubmatch(v.scalar, -1) {
			section, key, ok := strings.Cut(m[1], ".")
			switch {
			case m[0] == "$${":
			case section == sourceSection:
				if !n.each || !slices.Contains(sourceKeys, key) {
					p.add(v.at, "%s: a node with each: source can use source.%s", m[0], strings.Join(sourceKeys, ", source."))
				}
			case !ok:
				p.add(v.at, "%s does not have the form section.key", m[0])
			default:
				if t.sections[section] == nil {
					t.sections[section] = map[string]*option{}
				}
				if m[0] != v.scalar {
					fills = nil
				}
				if t.sections[section][key] == nil {
					t.sections[section][key] = fills
				}
			}
		}
	}
	var walk func(v *value)
	walk = func(v *value) {
		note(v, nil)
		for _, item := range v.items {
			walk(item)
		}
		for _, f := range v.fields {
			walk(f.value)
		}
	}
	if n.with == nil {
		return
	}
	for _, f := range n.with.fields {
		if f.value.kind == text {
			note(f.value, &option{t.kinds[n.uses], f.key})
		} else {
			walk(f.value)
		}
	}
}

// schema returns the schema of an option, or one that accepts anything.
func (o *option) schema() map[string]any {
	if o != nil && o.kind != nil {
		properties, _ := o.kind.schema["properties"].(map[string]any)
		if schema, ok := properties[o.name].(map[string]any); ok {
			return schema
		}
	}
	return map[string]any{}
}

// raw returns the options for a stage's constructor.
func (v *value) raw() (json.RawMessage, error) {
	if v == nil {
		return json.RawMessage("{}"), nil
	}
	return json.Marshal(v.json())
}
