// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// What every pipeline file says of itself.
const (
	APIVersion = "tape/v1"
	FileKind   = "Pipeline"
)

// defaultFile is what the default pipeline is called in errors: they are
// mistakes of whoever built the program.
const defaultFile = "default pipeline"

// Table is what a pipeline can be made of: kinds of stage, and the default
// pipeline. It is immutable.
type Table struct {
	kinds    map[string]*kindOf
	defaults []node
	// sections of the short form, by name and key, as the default pipeline
	// names them, with the option that a value fills: nil where it fills none
	// by itself.
	sections map[string]map[string]*option
}

// kindOf is a Kind made ready.
type kindOf struct {
	Kind
	schema   map[string]any // of `with`; nil: none is taken
	compiled *jsonschema.Schema
}

// option is one option of a kind.
type option struct {
	kind *kindOf
	name string
}

// NewTable checks the kinds, and the default pipeline against them; it may be
// empty.
func NewTable(defaults []byte, kinds ...Kind) (*Table, error) {
	t := &Table{kinds: map[string]*kindOf{}, sections: map[string]map[string]*option{}}
	for _, k := range kinds {
		if _, twice := t.kinds[k.Name]; twice {
			return nil, fmt.Errorf("two kinds of stage are named %q", k.Name)
		}
		ready, err := newKind(k)
		if err != nil {
			return nil, fmt.Errorf("kind of stage %q: %w", k.Name, err)
		}
		t.kinds[k.Name] = ready
	}
	root, err := parse(defaultFile, defaults)
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
			p.add(n.usesAt, "node %q uses %q, which is no kind of stage%s", n.name, n.uses, t.nearestKind(n.uses))
		}
		t.readSections(n, &p)
	}
	return t, p.sorted()
}

func newKind(k Kind) (*kindOf, error) {
	if !nodeName.MatchString(k.Name) || strings.Contains(k.Name, "/") {
		return nil, errors.New("the name must be letters, digits, -, _ and dots")
	}
	if k.New == nil {
		return nil, errors.New("nothing makes the stage")
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
		return nil, errors.New("the schema is no object")
	}
	if bytes.Contains(k.Schema, []byte(`"$ref"`)) {
		// It becomes part of the schema of the whole file.
		return nil, errors.New("the schema must stand alone, without $ref")
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

// readSections notes what of the short form a default node wants.
func (t *Table) readSections(n node, p *problems) {
	note := func(v *value, fills *option) {
		for _, m := range placeholder.FindAllStringSubmatch(v.scalar, -1) {
			section, key, ok := strings.Cut(m[1], ".")
			switch {
			case m[0] == "$${":
			case section == sourceSection:
				if !n.each || !slices.Contains(sourceKeys, key) {
					p.add(v.at, "%s: a node with each: source has source.%s", m[0], strings.Join(sourceKeys, ", source."))
				}
			case !ok:
				p.add(v.at, "%s is no section.key", m[0])
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

// section names, sorted.
func (t *Table) sectionNames() []string { return slices.Sorted(maps.Keys(t.sections)) }

// schema of an option, or of anything.
func (o *option) schema() map[string]any {
	if o != nil && o.kind != nil {
		properties, _ := o.kind.schema["properties"].(map[string]any)
		if schema, ok := properties[o.name].(map[string]any); ok {
			return schema
		}
	}
	return map[string]any{}
}

// raw is the options as a stage's constructor gets them.
func (v *value) raw() (json.RawMessage, error) {
	if v == nil {
		return json.RawMessage("{}"), nil
	}
	return json.Marshal(v.json())
}
