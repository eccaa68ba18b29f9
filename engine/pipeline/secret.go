// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/document"
)

// conceal replaces the secrets in the options of every node by references.
func (e *Expanded) conceal(ctx context.Context) error {
	e.secrets = map[string]string{}
	for i := range e.nodes {
		n := &e.nodes[i]
		n.told = n.with
		if n.with == nil {
			continue
		}
		paths := n.kind.secrets(n.with)
		if n.kind.Secrets != nil {
			with, err := raw(n.with)
			if err != nil {
				return fmt.Errorf("options of node %q: %w", n.name, err)
			}
			paths = append(paths, n.kind.Secrets(ctx, with)...)
		}
		for _, path := range paths {
			n.told = n.told.Replaced(path, func(v *document.Value) *document.Value { return e.refer(n.name, path, v) })
		}
	}
	return nil
}

// refer returns a reference to replace a value with. It keeps the items and fields of the
// value, so that errors about a part of it can be located.
func (e *Expanded) refer(node string, path []string, v *document.Value) *document.Value {
	if v.Kind == document.Null || v.Kind == document.Text && engine.IsSecret(v.Scalar) {
		return v
	}
	elements := []string{node}
	for _, step := range path {
		elements = append(elements, url.PathEscape(step))
	}
	name := strings.Join(elements, "/")
	out := *v
	out.Kind = document.Text
	if v.Kind == document.Text {
		e.secrets[name], out.Scalar = v.Scalar, string(engine.NewSecret(name))
		return &out
	}
	data, err := json.Marshal(v.JSON())
	if err != nil { // impossible: numbers are valid once parsed
		data = []byte("null")
	}
	e.secrets[name], out.Scalar = string(data), string(engine.NewJSONSecret(name))
	return &out
}

// Secrets resolves the references in the nodes: to the values given to the pipeline, and
// other names with more, which may be nil.
func (e *Expanded) Secrets(more engine.Secrets) engine.Secrets {
	return func(ctx context.Context, name string) (string, error) {
		if value, ok := e.secrets[name]; ok {
			return value, nil
		}
		if more == nil {
			return "", errors.New("no value is known")
		}
		return more(ctx, name)
	}
}

// secrets returns the paths of the options that the schema of the kind marks as writeOnly.
func (k *kindOf) secrets(with *document.Value) [][]string {
	if k.schema == nil {
		return nil
	}
	return writeOnly(k.schema.Text, with, nil)
}

// writeOnly returns the paths of the values that a schema of options marks as writeOnly.
func writeOnly(schema map[string]any, v *document.Value, path []string) [][]string {
	if secret, _ := schema["writeOnly"].(bool); secret {
		return [][]string{path}
	}
	var out [][]string
	below := func(schema any, v *document.Value, step string) {
		if schema, ok := schema.(map[string]any); ok {
			out = append(out, writeOnly(schema, v, append(slices.Clip(path), step))...)
		}
	}
	properties, _ := schema["properties"].(map[string]any)
	for _, f := range v.Fields {
		if property, ok := properties[f.Key]; ok {
			below(property, f.Value, f.Key)
		} else {
			below(schema["additionalProperties"], f.Value, f.Key)
		}
	}
	for i, item := range v.Items {
		below(schema["items"], item, strconv.Itoa(i))
	}
	return out
}

// secret reports whether the value at a path of the options is secret, or a part of one that is.
func (n expandedNode) secret(path []string) bool {
	for i := range len(path) + 1 {
		if v, _ := n.told.Find(path[:i]...); v != nil && v.Kind == document.Text && engine.IsSecret(v.Scalar) {
			return true
		}
	}
	return false
}
