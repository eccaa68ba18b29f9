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
		paths := writeOnly(n.kind.schema, n.with, nil)
		if n.kind.Secrets != nil {
			with, err := n.with.raw()
			if err != nil {
				return fmt.Errorf("options of node %q: %w", n.name, err)
			}
			paths = append(paths, n.kind.Secrets(ctx, with)...)
		}
		for _, path := range paths {
			n.told = n.told.replaced(path, func(v *value) *value { return e.refer(n.name, path, v) })
		}
	}
	return nil
}

// refer returns a reference to replace a value with. It keeps the items and fields of the
// value, so that errors about a part of it can be located.
func (e *Expanded) refer(node string, path []string, v *value) *value {
	if v.kind == null || v.kind == text && engine.IsSecret(v.scalar) {
		return v
	}
	elements := []string{node}
	for _, step := range path {
		elements = append(elements, url.PathEscape(step))
	}
	name := strings.Join(elements, "/")
	out := *v
	out.kind = text
	if v.kind == text {
		e.secrets[name], out.scalar = v.scalar, string(engine.NewSecret(name))
		return &out
	}
	data, err := json.Marshal(v.json())
	if err != nil { // impossible: numbers are valid once parsed
		data = []byte("null")
	}
	e.secrets[name], out.scalar = string(data), string(engine.NewJSONSecret(name))
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

// writeOnly returns the paths of the values that a schema of options marks as writeOnly.
func writeOnly(schema map[string]any, v *value, path []string) [][]string {
	if secret, _ := schema["writeOnly"].(bool); secret {
		return [][]string{path}
	}
	var out [][]string
	below := func(schema any, v *value, step string) {
		if schema, ok := schema.(map[string]any); ok {
			out = append(out, writeOnly(schema, v, append(slices.Clip(path), step))...)
		}
	}
	properties, _ := schema["properties"].(map[string]any)
	for _, f := range v.fields {
		if property, ok := properties[f.key]; ok {
			below(property, f.value, f.key)
		} else {
			below(schema["additionalProperties"], f.value, f.key)
		}
	}
	for i, item := range v.items {
		below(schema["items"], item, strconv.Itoa(i))
	}
	return out
}

// secret reports whether the value at a path of the options is secret.
func (n expandedNode) secret(path []string) bool {
	found := false
	n.told.replaced(path, func(v *value) *value {
		found = v.kind == text && engine.IsSecret(v.scalar)
		return v
	})
	return found
}

// replaced returns the value with the part at a path replaced by fn. It is unchanged if the
// path does not exist.
func (v *value) replaced(path []string, fn func(*value) *value) *value {
	if v == nil || len(path) == 0 {
		if v == nil {
			return nil
		}
		return fn(v)
	}
	out := *v
	if v.kind == list {
		if i, err := strconv.Atoi(path[0]); err == nil && i >= 0 && i < len(v.items) {
			out.items = slices.Clone(v.items)
			out.items[i] = v.items[i].replaced(path[1:], fn)
		}
		return &out
	}
	out.fields = slices.Clone(v.fields)
	for i, f := range v.fields {
		if f.key == path[0] {
			out.fields[i].value = f.value.replaced(path[1:], fn)
		}
	}
	return &out
}
