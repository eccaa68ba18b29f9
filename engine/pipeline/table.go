// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/taped-dev/tape/engine/document"
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
	schema *document.Schema // of `with`; nil means no options
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
	compiled sync.Map // of *document.Schema, by text
	defaults sync.Map // of *document.Value, by text
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
	root, err := once(&s.defaults, string(defaults), func() (*document.Value, error) { return document.Parse(defaultFile, defaults) })
	if err != nil {
		return nil, err
	}
	if root == nil {
		return t, nil
	}
	var p document.Problems
	known(root, &p, "apiVersion", "kind", "nodes")
	form().Check(header().Set("nodes", cmp.Or(root.Get("nodes"), &document.Value{Kind: document.Mapping})), &p)
	if err := p.Err(); err != nil {
		return nil, err
	}
	t.defaults = readNodes(root.Get("nodes"))
	for _, n := range t.defaults {
		if _, ok := t.kinds[n.uses]; !ok {
			p.Add(n.usesAt, "node %q uses %q, which is not a kind of stage%s", n.name, n.uses, t.nearestKind(n.uses))
		}
		t.readSections(n, &p)
	}
	return t, p.Err()
}

// header returns the part of every pipeline file that identifies it.
func header() *document.Value {
	var v *document.Value
	return v.Set("apiVersion", document.Of(APIVersion)).Set("kind", document.Of(FileKind))
}

// once returns what make returned for the key when it was first asked for.
func once[V any](kept *sync.Map, key string, make func() (V, error)) (V, error) {
	made, _ := kept.LoadOrStore(key, sync.OnceValues(make))
	return made.(func() (V, error))()
}

// kind returns a kind with its schema.
func (s *Schemas) kind(k Kind) (*kindOf, error) {
	switch {
	case k.New == nil:
		return nil, errors.New("New is nil")
	case !sourceName.MatchString(k.Name):
		return nil, errors.New("the name must consist of letters, digits, -, _ and dots")
	case k.Schema == nil:
		return &kindOf{Kind: k}, nil
	case bytes.Contains(k.Schema, []byte(`"$ref"`)):
		// It becomes part of the schema of pipeline files.
		return nil, errors.New("the schema must not use $ref")
	}
	schema, err := once(&s.compiled, string(k.Schema), func() (*document.Schema, error) { return document.NewSchema(k.Schema) })
	return &kindOf{Kind: k, schema: schema}, err
}

// readSections records the sections and keys that a default node refers to.
func (t *Table) readSections(n node, p *document.Problems) {
	var walk func(v *document.Value, fills *option)
	walk = func(v *document.Value, fills *option) {
		for _, m := range placeholder.FindAllStringSubmatch(v.Scalar, -1) {
			section, key, ok := strings.Cut(m[1], ".")
			switch {
			case m[0] == "$${":
			case section == sourceSection:
				if !n.each || !slices.Contains(sourceKeys, key) {
					p.Add(v.At, "%s: a node with each: source can use source.%s", m[0], strings.Join(sourceKeys, ", source."))
				}
			case !ok:
				p.Add(v.At, "%s does not have the form section.key", m[0])
			default:
				if t.sections[section] == nil {
					t.sections[section] = map[string]*option{}
				}
				if m[0] != v.Scalar {
					fills = nil // it is a part of the value
				}
				if t.sections[section][key] == nil {
					t.sections[section][key] = fills
				}
			}
		}
		for _, item := range v.Items {
			walk(item, nil)
		}
		for _, f := range v.Fields {
			walk(f.Value, nil)
		}
	}
	if n.with == nil {
		return
	}
	for _, f := range n.with.Fields {
		walk(f.Value, &option{t.kinds[n.uses], f.Key})
	}
}

// schema returns the schema of an option, or one that accepts anything.
func (o *option) schema() map[string]any {
	if o != nil && o.kind != nil && o.kind.schema != nil {
		properties, _ := o.kind.schema.Text["properties"].(map[string]any)
		if schema, ok := properties[o.name].(map[string]any); ok {
			return schema
		}
	}
	return map[string]any{}
}

// raw returns options for a stage's constructor.
func raw(with *document.Value) (json.RawMessage, error) {
	if with == nil {
		return json.RawMessage("{}"), nil
	}
	return json.Marshal(with.JSON())
}
