// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// Schema returns the JSON Schema (draft 2020-12) of pipeline files for this table,
// indented, for editors. It accepts what [Table.Parse] accepts, and also mistakes that a
// schema cannot express: in references, arguments and duplicates.
func (t *Table) Schema() ([]byte, error) {
	properties := schema{
		"apiVersion": schema{"const": APIVersion},
		"kind":       schema{"const": FileKind},
		"args": schema{
			"description":   "Arguments, for ${name} in string values: a default value, or a mapping.",
			"type":          "object",
			"propertyNames": schema{"pattern": argName.String()},
			"additionalProperties": schema{"anyOf": []schema{
				{"type": []string{"string", "number", "boolean"}},
				closed(schema{
					"type":    schema{"description": "The type; by default that of the default value, else string.", "enum": []string{"string", "integer", "number", "boolean"}},
					"default": schema{"description": "The value if none is given.", "type": []string{"string", "number", "boolean"}},
					"help":    schema{"description": "One line of help.", "type": "string"},
				}),
			}},
		},
		"sources": schema{
			"description": "The sources to render.",
			"type":        "array",
			"items": closed(schema{
				"name":        schema{"description": "The folder of its manifests if there are several sources; by default the last element of the path.", "type": "string"},
				"path":        schema{"description": "A folder or file below this file's folder, or a remote reference: oci://… or https://…", "type": "string", "minLength": 1},
				"interpreter": schema{"description": "The name of the interpreter; by default it is found by the source's files.", "type": "string", "pattern": `^[a-z0-9][a-z0-9-]*$|\$\{`},
				"options":     schema{"description": "Options of the interpreter, which it describes.", "type": "object"},
			}, "path"),
		},
		"environments": environmentsSchema(),
		"nodes":        t.nodesSchema(),
	}
	for section, keys := range t.sections {
		of := schema{}
		for key, option := range keys {
			of[key] = loosen(option.schema())
		}
		properties[section] = closed(of)
	}
	root := closed(properties, "apiVersion", "kind")
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["title"] = "A tape pipeline"
	root["$defs"] = t.definitions()

	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(root); err != nil {
		return nil, fmt.Errorf("print schema: %w", err)
	}
	return b.Bytes(), nil
}

type schema = map[string]any

// environmentsSchema returns the schema of environments.
func environmentsSchema() schema {
	of := closed(schema{
		"sources": schema{
			"description": "What differs, by the names of sources.",
			"type":        []string{"object", "null"},
			"additionalProperties": orNull(closed(schema{
				"path":    schema{"description": "The path in place of the source's.", "type": "string", "minLength": 1},
				"options": schema{"description": "Options over those of the source, one by one; null removes one.", "type": "object"},
			})),
		},
		"skip": schema{"description": "The names of sources that the environment does not have.", "type": []string{"array", "null"}, "items": schema{"type": "string"}},
	})
	return schema{
		"description":          "Environments: each renders the sources with options of its own, into a folder of its name.",
		"type":                 []string{"object", "null"},
		"minProperties":        1,
		"maxProperties":        MaxEnvironments,
		"propertyNames":        schema{"pattern": environmentPattern},
		"additionalProperties": orNull(of),
	}
}

// orNull returns a schema that also accepts null.
func orNull(object schema) schema {
	object["type"] = []string{"object", "null"}
	return object
}

// closed returns the schema of an object with only these properties.
func closed(properties schema, required ...string) schema {
	s := schema{"type": "object", "additionalProperties": false, "properties": properties}
	if len(required) > 0 {
		s["required"] = required
	}
	return s
}

func refTo(name string) schema { return schema{"$ref": "#/$defs/" + name} }

// nodesSchema returns the schema of nodes. It knows the kind of the nodes in the default
// pipeline and of nodes named like a kind; for others "uses" determines it.
func (t *Table) nodesSchema() schema {
	uses := map[string]string{}
	for name := range t.kinds {
		uses[name] = name
	}
	for _, n := range t.defaults {
		uses[n.name] = n.uses
	}
	properties := schema{}
	for name, kind := range uses {
		properties[name] = schema{
			"allOf": []schema{refTo("node"), {"if": schema{"required": []string{"uses"}}, "else": refTo("kind-" + kind)}},
		}
	}
	return schema{
		"description":          "Nodes in full form: changes to nodes of the default pipeline, and new ones.",
		"type":                 "object",
		"propertyNames":        schema{"pattern": nodeName.String()},
		"properties":           properties,
		"additionalProperties": refTo("node"),
	}
}

func (t *Table) definitions() schema {
	kinds := slices.Sorted(maps.Keys(t.kinds))
	var conditions []schema
	for _, name := range kinds {
		conditions = append(conditions, schema{
			"if":   schema{"properties": schema{"uses": schema{"const": name}}, "required": []string{"uses"}},
			"then": refTo("kind-" + name),
		})
	}
	node := closed(schema{
		"uses":   schema{"description": "The kind of stage; by default the node's name.", "enum": kinds},
		"each":   schema{"description": "Instantiate the node for every source.", "const": sourceSection},
		"inputs": schema{"description": "References to outputs by input name; null removes one.", "type": []string{"object", "null"}, "additionalProperties": refTo("input")},
		"with":   schema{"description": "Options of the stage; null removes one.", "type": []string{"object", "null"}},
	})
	node["type"] = []string{"object", "null"}
	if len(conditions) > 0 {
		node["allOf"] = conditions
	}
	reference := schema{"type": "string", "pattern": `^.+\.[^.]+$`}
	defs := schema{
		"node":        node,
		"placeholder": schema{"description": "An argument.", "type": "string", "pattern": `^\$\{[A-Za-z][A-Za-z0-9_.-]*\}$`},
		"input": schema{
			"description": "node.output, or several by key.",
			"anyOf":       []schema{reference, {"type": "object", "additionalProperties": reference}, {"type": "null"}},
		},
	}
	for _, name := range kinds {
		defs["kind-"+name] = t.kinds[name].nodeSchema()
	}
	return defs
}

// nodeSchema returns the part of a node's schema that is specific to the kind.
func (k *kindOf) nodeSchema() schema {
	inputs := schema{}
	for _, port := range k.Inputs {
		inputs[port.Name] = refTo("input")
	}
	with := schema{"maxProperties": 0}
	if k.schema != nil {
		with = maps.Clone(k.schema)
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
