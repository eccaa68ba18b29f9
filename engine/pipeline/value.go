// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxValues bounds the size of a file with its aliases expanded.
const maxValues = 100_000

// position is the position of a value. Line and column count from 1, columns in characters.
// A value that is not from a file has line 0.
type position struct {
	file         string
	line, column int
}

// kind is the kind of a value, named as in JSON Schema where possible.
type kind string

const (
	null    kind = "null"
	boolean kind = "boolean"
	integer kind = "integer"
	number  kind = "number"
	text    kind = "string"
	list    kind = "list"
	mapping kind = "mapping"
)

// an returns the kind with its article, in YAML's terms even if it was named in JSON's.
func (k kind) an() string {
	switch k {
	case "array":
		k = list
	case "object":
		k = mapping
	case integer:
		return "an integer"
	case null:
		return "empty"
	}
	return "a " + string(k)
}

// value is a YAML value with its position. It is immutable.
type value struct {
	at     position
	kind   kind
	scalar string // JSON notation, text without quotes
	plain  bool   // not quoted
	items  []*value
	fields []field // in the order of the file, keys unique
}

type field struct {
	key   string
	at    position // of the key
	value *value
}

// field returns the field of a key, zero if there is none.
func (v *value) field(key string) field {
	if v != nil {
		for _, f := range v.fields {
			if f.key == key {
				return f
			}
		}
	}
	return field{}
}

// get returns the value of a key, or nil.
func (v *value) get(key string) *value { return v.field(key).value }

// with returns the mapping with a key set; v may be nil.
func (v *value) with(f field) *value {
	out := &value{kind: mapping}
	if v != nil {
		*out = *v
	}
	out.fields = slices.Clone(out.fields)
	for i := range out.fields {
		if out.fields[i].key == f.key {
			out.fields[i] = f
			return out
		}
	}
	out.fields = append(out.fields, f)
	return out
}

// mapped returns the value with fn applied to its items and to the values of its fields; those
// for which it returns nil are left out.
func (v *value) mapped(fn func(*value) *value) *value {
	out := *v
	out.items, out.fields = nil, nil
	for _, item := range v.items {
		if item = fn(item); item != nil {
			out.items = append(out.items, item)
		}
	}
	for _, f := range v.fields {
		if f.value = fn(f.value); f.value != nil {
			out.fields = append(out.fields, f)
		}
	}
	return &out
}

// parse reads a single YAML document. It returns nil for an empty one.
func parse(file string, data []byte) (*value, error) {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc, more yaml.Node
	if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
		return nil, nil
	} else if err != nil {
		return nil, Errors{YAMLError(file, err.Error())}
	}
	if err := dec.Decode(&more); err == nil {
		return nil, Errors{{File: file, Line: more.Line, Column: more.Column, Message: "a second document begins here; a pipeline file has only one"}}
	} else if !errors.Is(err, io.EOF) {
		return nil, Errors{YAMLError(file, err.Error())}
	}
	r := reader{file: file}
	v := r.read(doc.Content[0])
	if len(r.problems) > 0 {
		return nil, r.problems.sorted()
	}
	if v.kind == null {
		return nil, nil
	}
	return v, nil
}

// yamlError matches an error of the YAML library, which leaves out the line if it is the first.
var yamlError = regexp.MustCompile(`^(?:yaml: )?(?:line (\d+): )?((found|could not|did not|mapping|block)?(?s:.*))$`)

// YAMLError returns what an error of the YAML library says about a file.
func YAMLError(file, text string) *Error {
	m := yamlError.FindStringSubmatch(text)
	line, _ := strconv.Atoi(m[1])
	if line == 0 && m[3] != "" {
		line = 1
	}
	return &Error{File: file, Line: line, Message: m[2]}
}

// reader converts nodes of the YAML library to values.
type reader struct {
	file     string
	count    int
	problems problems
}

func (r *reader) read(n *yaml.Node) *value {
	at := position{r.file, n.Line, n.Column}
	if r.count++; r.count > maxValues {
		if r.count == maxValues+1 {
			r.problems.add(at, "the file expands to more than %d values", maxValues)
		}
		return &value{at: at, kind: null}
	}
	switch n.Kind {
	case yaml.AliasNode:
		return r.read(n.Alias)
	case yaml.SequenceNode:
		v := &value{at: at, kind: list}
		for _, item := range n.Content {
			v.items = append(v.items, r.read(item))
		}
		return v
	case yaml.MappingNode:
		return r.readMapping(n, at)
	}
	return r.readScalar(n, at)
}

func (r *reader) readMapping(n *yaml.Node, at position) *value {
	v := &value{at: at, kind: mapping}
	first := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		keyAt := position{r.file, key.Line, key.Column}
		switch {
		case key.ShortTag() == "!!merge":
			r.problems.add(keyAt, "merge keys are not supported; write the values out")
			continue
		case key.Kind == yaml.ScalarNode && key.ShortTag() != "!!str":
			r.problems.add(keyAt, "a key must be a string: write it in quotes, %q", key.Value)
			continue
		case key.Kind != yaml.ScalarNode:
			r.problems.add(keyAt, "a key must be a string")
			continue
		case first[key.Value] > 0:
			r.problems.add(keyAt, "%q already exists in line %d", key.Value, first[key.Value])
			continue
		}
		first[key.Value] = key.Line
		v.fields = append(v.fields, field{key.Value, keyAt, r.read(n.Content[i+1])})
	}
	return v
}

func (r *reader) readScalar(n *yaml.Node, at position) *value {
	v := &value{at: at, kind: text, scalar: n.Value, plain: n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) == 0}
	var err error
	switch tag := n.ShortTag(); tag {
	case "!!str", "!!timestamp": // a date is taken as text
	case "!!null":
		v.kind, v.scalar = null, "null"
	case "!!bool":
		var b bool
		err = n.Decode(&b)
		v.kind, v.scalar = boolean, strconv.FormatBool(b)
	case "!!int":
		var i any
		err = n.Decode(&i)
		v.kind, v.scalar = integer, fmt.Sprint(i)
	case "!!float":
		var f float64
		var data []byte
		if err = n.Decode(&f); err == nil {
			data, err = json.Marshal(f) // rejects .inf and .nan
		}
		v.kind, v.scalar = number, string(data)
	default:
		err = fmt.Errorf("a value of type %s is not supported", tag)
	}
	if err != nil {
		r.problems.add(at, "%s", strings.TrimPrefix(err.Error(), "json: "))
	}
	return v
}

// fromGo converts a Go value by way of JSON. The result has no positions, and sorted keys.
func fromGo(v any) (*value, error) {
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

func fromJSON(v any) *value {
	switch v := v.(type) {
	case bool:
		return &value{kind: boolean, scalar: strconv.FormatBool(v)}
	case json.Number:
		if strings.ContainsAny(v.String(), ".eE") {
			return &value{kind: number, scalar: v.String()}
		}
		return &value{kind: integer, scalar: v.String()}
	case string:
		return &value{kind: text, scalar: v}
	case []any:
		out := &value{kind: list}
		for _, item := range v {
			out.items = append(out.items, fromJSON(item))
		}
		return out
	case map[string]any:
		out := &value{kind: mapping}
		for _, key := range slices.Sorted(maps.Keys(v)) {
			out.fields = append(out.fields, field{key: key, value: fromJSON(v[key])})
		}
		return out
	}
	return &value{kind: null, scalar: "null"}
}

// json returns the value as encoding/json decodes it, with numbers as json.Number.
func (v *value) json() any {
	switch v.kind {
	case null:
		return nil
	case boolean:
		return v.scalar == "true"
	case integer, number:
		return json.Number(v.scalar)
	case list:
		out := make([]any, 0, len(v.items))
		for _, item := range v.items {
			out = append(out, item.json())
		}
		return out
	case mapping:
		out := make(map[string]any, len(v.fields))
		for _, f := range v.fields {
			out[f.key] = f.value.json()
		}
		return out
	}
	return v.scalar
}

// yaml returns the value as a node of the YAML library.
func (v *value) yaml() *yaml.Node {
	switch v.kind {
	case list:
		n := &yaml.Node{Kind: yaml.SequenceNode}
		for _, item := range v.items {
			n.Content = append(n.Content, item.yaml())
		}
		return n
	case mapping:
		n := &yaml.Node{Kind: yaml.MappingNode}
		for _, f := range v.fields {
			n.Content = append(n.Content, textNode(f.key), f.value.yaml())
		}
		return n
	case text:
		return textNode(v.scalar)
	}
	return &yaml.Node{Kind: yaml.ScalarNode, Value: v.scalar}
}

// textNode returns a string node, quoted if it would otherwise be read as something else.
func textNode(s string) *yaml.Node {
	n := &yaml.Node{}
	n.SetString(s)
	return n
}
