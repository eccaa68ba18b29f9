// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/taped-dev/tape/engine/document"
)

//go:embed pipeline.schema.json
var formText []byte

// form is the schema of what does not depend on the kinds and the default pipeline.
var form = document.Builtin(formText)

type schema = map[string]any

// Schema returns the JSON Schema (draft 2020-12) of pipeline files for this table,
// indented, for editors. It accepts what [Table.Parse] accepts, and also mistakes that a
// schema cannot express: in references, arguments and duplicates.
func (t *Table) Schema() ([]byte, error) {
	var root schema
	if err := json.Unmarshal(formText, &root); err != nil {
		return nil, fmt.Errorf("print schema: %w", err)
	}
	properties, defs := root["properties"].(schema), root["$defs"].(schema)
	root["additionalProperties"] = false
	source := properties["sources"].(schema)["items"].(schema)["properties"].(schema)
	source["interpreter"].(schema)["pattern"] = interpreterName.String() + `|\$\{`
	environments := properties["environments"].(schema)
	environments["maxProperties"], environments["propertyNames"] = MaxEnvironments, schema{"pattern": environmentPattern}
	for section, keys := range t.sections {
		of := schema{}
		for key, option := range keys {
			of[key] = loosen(option.schema())
		}
		properties[section] = schema{"type": []string{"object", "null"}, "additionalProperties": false, "properties": of}
	}

	// The kind of nodes in the default pipeline, and of nodes named like a kind, is known; for
	// others "uses" determines it.
	kinds, uses := slices.Sorted(maps.Keys(t.kinds)), map[string]string{}
	var conditions []schema
	for _, name := range kinds {
		uses[name] = name
		defs["kind-"+name] = t.kinds[name].nodeSchema()
		conditions = append(conditions, schema{
			"if":   schema{"properties": schema{"uses": schema{"const": name}}, "required": []string{"uses"}},
			"then": refTo("kind-" + name),
		})
	}
	for _, n := range t.defaults {
		uses[n.name] = n.uses
	}
	nodes := schema{}
	for name, kind := range uses {
		nodes[name] = schema{"if": schema{"required": []string{"uses"}}, "else": refTo("kind-" + kind)}
	}
	properties["nodes"].(schema)["properties"] = nodes
	node := defs["node"].(schema)
	node["properties"].(schema)["uses"].(schema)["enum"] = kinds
	if len(conditions) > 0 {
		node["allOf"] = conditions
	}

	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(root); err != nil {
		return nil, fmt.Errorf("print schema: %w", err)
	}
	return b.Bytes(), nil
}

func refTo(name string) schema { return schema{"$ref": "#/$defs/" + name} }

// nodeSchema returns the part of a node's schema that is specific to the kind.
func (k *kindOf) nodeSchema() schema {
	inputs := schema{}
	for _, port := range k.Inputs {
		inputs[port.Name] = refTo("input")
	}
	with := schema{"maxProperties": 0}
	if k.schema != nil {
		with = maps.Clone(k.schema.Text)
		delete(with, "required") // the default pipeline may set them
		delete(with, "type")
		if below, ok := with["properties"].(map[string]any); ok {
			options := schema{}
			for name, of := range below {
				options[name] = schema{"anyOf": []any{loosen(of), schema{"type": "null"}}}
			}
			with["properties"] = options
		}
	}
	out := schema{"properties": schema{
		"inputs": schema{"properties": inputs, "additionalProperties": false},
		"with":   with,
	}}
	if k.Help != "" {
		out["description"] = k.Help
	}
	return out
}

// loosen also allows an argument in place of a scalar.
func loosen(v any) any {
	s, ok := v.(map[string]any)
	if !ok {
		return v
	}
	s = maps.Clone(s)
	for _, key := range []string{"items", "additionalProperties"} {
		if below, ok := s[key]; ok {
			s[key] = loosen(below)
		}
	}
	for _, key := range []string{"properties", "patternProperties"} {
		if below, ok := s[key].(map[string]any); ok {
			loose := schema{}
			for name, of := range below {
				loose[name] = loosen(of)
			}
			s[key] = loose
		}
	}
	switch s["type"] {
	case "array", "object":
		return s
	case "string":
		if len(s) == 1 || len(s) == 2 && s["description"] != nil {
			return s // any text is fine already
		}
	case nil:
		if s["enum"] == nil && s["const"] == nil {
			return s
		}
	}
	loose := schema{"anyOf": []any{s, refTo("placeholder")}}
	if help, ok := s["description"]; ok {
		delete(s, "description")
		loose["description"] = help
	}
	return loose
}
