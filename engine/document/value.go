// SPDX-License-Identifier: Apache-2.0

package document

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Kind is the kind of a value, named as in JSON Schema where possible.
type Kind string

// The kinds.
const (
	Null    Kind = "null"
	Boolean Kind = "boolean"
	Integer Kind = "integer"
	Number  Kind = "number"
	Text    Kind = "string"
	List    Kind = "list"
	Mapping Kind = "mapping"
)

// An returns the kind with its article, in YAML's terms even if it was named in JSON's.
func (k Kind) An() string {
	switch k {
	case "array":
		k = List
	case "object":
		k = Mapping
	case Integer:
		return "an integer"
	case Null:
		return "empty"
	}
	return "a " + string(k)
}

// Value is a value of a document, with its position. It is immutable.
type Value struct {
	At     Position
	Kind   Kind
	Scalar string // JSON notation, text without quotes
	Plain  bool   // not quoted
	Items  []*Value
	Fields []Field // in the order of the file, keys unique
}

// Field is a key of a mapping with its value.
type Field struct {
	Key   string
	At    Position // of the key
	Value *Value
}

// Field returns the field of a key, zero if there is none. v may be nil.
func (v *Value) Field(key string) Field {
	if v != nil {
		for _, f := range v.Fields {
			if f.Key == key {
				return f
			}
		}
	}
	return Field{}
}

// Get returns the value of a key, or nil. v may be nil.
func (v *Value) Get(key string) *Value { return v.Field(key).Value }

// With returns the mapping with a field set; v may be nil.
func (v *Value) With(f Field) *Value {
	out := &Value{Kind: Mapping}
	if v != nil {
		*out = *v
	}
	out.Fields = slices.Clone(out.Fields)
	for i := range out.Fields {
		if out.Fields[i].Key == f.Key {
			out.Fields[i] = f
			return out
		}
	}
	out.Fields = append(out.Fields, f)
	return out
}

// Set returns the mapping with the value of a key set; v may be nil.
func (v *Value) Set(key string, to *Value) *Value { return v.With(Field{Key: key, Value: to}) }

// Of returns a string without a position.
func Of(text string) *Value { return &Value{Kind: Text, Scalar: text} }

// Mapped returns the value with fn applied to its items and to the values of its fields; those
// for which it returns nil are left out.
func (v *Value) Mapped(fn func(*Value) *Value) *Value {
	out := *v
	out.Items, out.Fields = nil, nil
	for _, item := range v.Items {
		if item = fn(item); item != nil {
			out.Items = append(out.Items, item)
		}
	}
	for _, f := range v.Fields {
		if f.Value = fn(f.Value); f.Value != nil {
			out.Fields = append(out.Fields, f)
		}
	}
	return &out
}

// Replaced returns the value with the part at a path of keys and indexes replaced by fn. It is
// unchanged if the path does not exist.
func (v *Value) Replaced(path []string, fn func(*Value) *Value) *Value {
	if v == nil {
		return nil
	}
	if len(path) == 0 {
		return fn(v)
	}
	out := *v
	out.Items, out.Fields = slices.Clone(v.Items), slices.Clone(v.Fields)
	for i, item := range v.Items {
		if strconv.Itoa(i) == path[0] {
			out.Items[i] = item.Replaced(path[1:], fn)
		}
	}
	for i, f := range v.Fields {
		if f.Key == path[0] {
			out.Fields[i].Value = f.Value.Replaced(path[1:], fn)
		}
	}
	return &out
}

// Find returns the value at a path of keys and indexes, nil if there is none, and the position of
// the last key of the path.
func (v *Value) Find(path ...string) (found *Value, key Position) {
	for _, step := range path {
		f := v.Field(step)
		if v != nil && v.Kind == List {
			if i, err := strconv.Atoi(step); err == nil && i >= 0 && i < len(v.Items) {
				f.Value = v.Items[i]
			}
		}
		v, key = f.Value, f.At
	}
	return v, key
}

// Name returns a path in this value as people write it: fields[0].path.
func (v *Value) Name(path ...string) string {
	var b strings.Builder
	for _, step := range path {
		switch {
		case v != nil && v.Kind == List:
			b.WriteString("[" + step + "]")
		case b.Len() > 0:
			b.WriteString("." + step)
		default:
			b.WriteString(step)
		}
		v, _ = v.Find(step)
	}
	return b.String()
}

// FromGo converts a Go value by way of JSON. The result has no positions, and sorted keys.
func FromGo(v any) (*Value, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var decoded any
	if err := dec.Decode(&decoded); err != nil {
		return nil, err
	}
	return fromJSON(decoded), nil
}

func fromJSON(v any) *Value {
	switch v := v.(type) {
	case bool:
		return &Value{Kind: Boolean, Scalar: strconv.FormatBool(v)}
	case json.Number:
		if strings.ContainsAny(v.String(), ".eE") {
			return &Value{Kind: Number, Scalar: v.String()}
		}
		return &Value{Kind: Integer, Scalar: v.String()}
	case string:
		return &Value{Kind: Text, Scalar: v}
	case []any:
		out := &Value{Kind: List}
		for _, item := range v {
			out.Items = append(out.Items, fromJSON(item))
		}
		return out
	case map[string]any:
		out := &Value{Kind: Mapping}
		for _, key := range slices.Sorted(maps.Keys(v)) {
			out.Fields = append(out.Fields, Field{Key: key, Value: fromJSON(v[key])})
		}
		return out
	}
	return &Value{Kind: Null, Scalar: "null"}
}

// JSON returns the value as encoding/json decodes it, with numbers as [json.Number].
func (v *Value) JSON() any {
	switch v.Kind {
	case Null:
		return nil
	case Boolean:
		return v.Scalar == "true"
	case Integer, Number:
		return json.Number(v.Scalar)
	case List:
		out := make([]any, 0, len(v.Items))
		for _, item := range v.Items {
			out = append(out, item.JSON())
		}
		return out
	case Mapping:
		out := make(map[string]any, len(v.Fields))
		for _, f := range v.Fields {
			out[f.Key] = f.Value.JSON()
		}
		return out
	}
	return v.Scalar
}

// YAML returns the value as a document.
func (v *Value) YAML() ([]byte, error) {
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := enc.Encode(v.node()); err != nil {
		return nil, fmt.Errorf("write YAML: %w", err)
	}
	err := enc.Close()
	return b.Bytes(), err
}

// node returns the value as a node of the YAML library.
func (v *Value) node() *yaml.Node {
	n := &yaml.Node{Kind: yaml.ScalarNode, Value: v.Scalar}
	switch v.Kind {
	case List:
		n.Kind = yaml.SequenceNode
		for _, item := range v.Items {
			n.Content = append(n.Content, item.node())
		}
	case Mapping:
		n.Kind = yaml.MappingNode
		for _, f := range v.Fields {
			n.Content = append(n.Content, textNode(f.Key), f.Value.node())
		}
	case Text:
		return textNode(v.Scalar)
	}
	return n
}

// textNode returns a string node, quoted if it would otherwise be read as something else.
func textNode(s string) *yaml.Node {
	n := &yaml.Node{}
	n.SetString(s)
	return n
}
