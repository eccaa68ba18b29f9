// SPDX-License-Identifier: Apache-2.0

package document

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxValues bounds the size of a document with its aliases expanded.
const maxValues = 100_000

// Parse reads a single YAML document. It returns nil for an empty one. file is the name for
// errors.
func Parse(file string, data []byte) (*Value, error) {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc, more yaml.Node
	if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
		return nil, nil
	} else if err != nil {
		return nil, Errors{syntaxError(file, err)}
	}
	if err := dec.Decode(&more); err == nil {
		return nil, Errors{{Position: Position{file, more.Line, more.Column}, Message: "a second document begins here; a file has only one"}}
	} else if !errors.Is(err, io.EOF) {
		return nil, Errors{syntaxError(file, err)}
	}
	r := reader{file: file}
	v := r.read(doc.Content[0])
	if len(r.problems) > 0 {
		return nil, r.problems.Err()
	}
	if v.Kind == Null {
		return nil, nil
	}
	return v, nil
}

// yamlError matches an error of the YAML library, which leaves out the line if it is the first.
var yamlError = regexp.MustCompile(`^(?:yaml: )?(?:line (\d+): )?((found|could not|did not|mapping|block)?(?s:.*))$`)

func syntaxError(file string, err error) *Error {
	m := yamlError.FindStringSubmatch(err.Error())
	line, _ := strconv.Atoi(m[1])
	if line == 0 && m[3] != "" {
		line = 1
	}
	return &Error{Position: Position{File: file, Line: line}, Message: m[2]}
}

// reader converts nodes of the YAML library to values.
type reader struct {
	file     string
	count    int
	problems Problems
}

func (r *reader) read(n *yaml.Node) *Value {
	at := Position{r.file, n.Line, n.Column}
	if r.count++; r.count > maxValues {
		if r.count == maxValues+1 {
			r.problems.Add(at, "the file expands to more than %d values", maxValues)
		}
		return &Value{At: at, Kind: Null}
	}
	switch n.Kind {
	case yaml.AliasNode:
		return r.read(n.Alias)
	case yaml.SequenceNode:
		v := &Value{At: at, Kind: List}
		for _, item := range n.Content {
			v.Items = append(v.Items, r.read(item))
		}
		return v
	case yaml.MappingNode:
		return r.readMapping(n, at)
	}
	return r.readScalar(n, at)
}

func (r *reader) readMapping(n *yaml.Node, at Position) *Value {
	v := &Value{At: at, Kind: Mapping}
	first := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		keyAt := Position{r.file, key.Line, key.Column}
		switch {
		case key.ShortTag() == "!!merge":
			r.problems.Add(keyAt, "merge keys are not supported; write the values out")
			continue
		case key.Kind == yaml.ScalarNode && key.ShortTag() != "!!str":
			r.problems.Add(keyAt, "a key must be a string: write it in quotes, %q", key.Value)
			continue
		case key.Kind != yaml.ScalarNode:
			r.problems.Add(keyAt, "a key must be a string")
			continue
		case first[key.Value] > 0:
			r.problems.Add(keyAt, "%q already exists in line %d", key.Value, first[key.Value])
			continue
		}
		first[key.Value] = key.Line
		v.Fields = append(v.Fields, Field{key.Value, keyAt, r.read(n.Content[i+1])})
	}
	return v
}

func (r *reader) readScalar(n *yaml.Node, at Position) *Value {
	v := &Value{At: at, Kind: Text, Scalar: n.Value, Plain: n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) == 0}
	var err error
	switch tag := n.ShortTag(); tag {
	case "!!str", "!!timestamp": // a date is taken as text
	case "!!null":
		v.Kind, v.Scalar = Null, "null"
	case "!!bool":
		var b bool
		err = n.Decode(&b)
		v.Kind, v.Scalar = Boolean, strconv.FormatBool(b)
	case "!!int":
		var i any
		err = n.Decode(&i)
		v.Kind, v.Scalar = Integer, fmt.Sprint(i)
	case "!!float":
		var f float64
		var data []byte
		if err = n.Decode(&f); err == nil {
			data, err = json.Marshal(f) // rejects .inf and .nan
		}
		v.Kind, v.Scalar = Number, string(data)
	default:
		err = fmt.Errorf("a value of type %s is not supported", tag)
	}
	if err != nil {
		r.problems.Add(at, "%s", strings.TrimPrefix(err.Error(), "json: "))
	}
	return v
}
