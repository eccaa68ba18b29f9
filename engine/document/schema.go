// SPDX-License-Identifier: Apache-2.0

package document

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
	"golang.org/x/text/language"
	"golang.org/x/text/message"

	"github.com/taped-dev/tape/internal/nearest"
)

// Schema is a JSON Schema (draft 2020-12 by default). It is immutable.
type Schema struct {
	// Text is the schema as encoding/json decodes it. It must not be modified.
	Text map[string]any
	// Compiled is the same for the library that validates by it.
	Compiled *jsonschema.Schema
}

// NewSchema compiles a schema, which must not refer to other files. Formats are those that it may
// use besides the standard ones, for any text.
func NewSchema(text []byte, formats ...string) (*Schema, error) {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("schema: %w", err)
	}
	s := &Schema{}
	var ok bool
	if s.Text, ok = doc.(map[string]any); !ok {
		return nil, errors.New("the schema is not an object")
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.UseLoader(jsonschema.SchemeURLLoader{}) // which loads nothing
	for _, format := range formats {
		c.RegisterFormat(&jsonschema.Format{Name: format, Validate: func(any) error { return nil }})
		c.AssertFormat()
	}
	const name = "schema.json"
	if err := c.AddResource(name, doc); err != nil {
		return nil, fmt.Errorf("schema: %w", err)
	}
	if s.Compiled, err = c.Compile(name); err != nil {
		return nil, fmt.Errorf("schema: %w", err)
	}
	return s, nil
}

// Builtin returns a function that compiles a schema of the program when it is first needed:
// that takes a millisecond.
func Builtin(text []byte) func() *Schema {
	return sync.OnceValue(func() *Schema {
		s, err := NewSchema(text)
		if err != nil {
			panic(err)
		}
		return s
	})
}

// Read parses a document, checks it by the schema and decodes it into a Go value by way of JSON.
// It returns the document too, which has the positions. file is the name for errors.
func (s *Schema) Read(file string, data []byte, into any) (*Value, error) {
	v, err := Parse(file, data)
	if err != nil {
		return nil, err
	}
	at := Position{File: file}
	var p Problems
	if v == nil {
		p.Add(at, "the file is empty")
		return nil, p.Err()
	}
	s.Check(v, &p)
	if err := p.Err(); err != nil {
		return nil, err
	}
	text, err := json.Marshal(v.JSON())
	if err == nil {
		err = json.Unmarshal(text, into)
	}
	if err != nil {
		p.Cause(at, err)
	}
	return v, p.Err()
}

// Check adds what the schema does not allow of a document. If it is another kind of document, the
// rest does not matter.
func (s *Schema) Check(v *Value, p *Problems) {
	all := s.Violations(v)
	header := slices.DeleteFunc(slices.Clone(all), func(one Violation) bool {
		what := cmp.Or(one.Missing, strings.Join(one.Path, "."))
		return what != "apiVersion" && what != "kind"
	})
	if len(header) > 0 {
		all = header
	}
	for _, one := range all {
		name := cmp.Or(v.Name(one.Path...), "the file")
		switch {
		case one.Unknown != "":
			p.Unknown(one.At, one.Unknown, one.Known)
		case one.Missing != "" && len(one.Path) == 0:
			p.Add(one.At, "%s is missing%s", one.Missing, one.Text)
		case one.Missing != "":
			p.Add(one.At, "%s needs %q", name, one.Missing)
		default:
			p.Add(one.At, "%s%s", name, one.Text)
		}
	}
}

// Violation is a part of a value that a schema does not allow.
type Violation struct {
	// At is the position of the part, or of its key if the key is wrong.
	At   Position
	Path []string
	// Missing is a key that the part must have, Unknown one that it must not have, and Known
	// those that it may have.
	Missing, Unknown string
	Known            []string
	// Text describes any other mistake: it continues a sentence that begins with the name of the
	// part. After Missing it may say what is wanted.
	Text string
	// Quotes reports whether Text may quote the value.
	Quotes bool
}

// Violations returns what the schema does not allow of a value.
func (s *Schema) Violations(v *Value) []Violation {
	invalid, ok := errors.AsType[*jsonschema.ValidationError](s.Compiled.Validate(v.JSON()))
	if !ok {
		return nil
	}
	var out []Violation
	for _, leaf := range s.leaves(invalid) {
		out = append(out, s.violations(v, leaf)...)
	}
	return out
}

// leaves returns the innermost causes of a validation error that matter: of alternatives, those
// for values of this kind.
func (s *Schema) leaves(err *jsonschema.ValidationError) []*jsonschema.ValidationError {
	causes := err.Causes
	switch err.ErrorKind.(type) {
	case *kind.PropertyNames:
		return []*jsonschema.ValidationError{err}
	case *kind.AnyOf, *kind.OneOf:
		var of kind.Type
		causes = nil
		for _, cause := range err.Causes {
			inner := s.leaves(cause)
			if wrong, ok := inner[0].ErrorKind.(*kind.Type); ok && len(inner) == 1 && len(inner[0].InstanceLocation) == len(err.InstanceLocation) {
				of.Got, of.Want = wrong.Got, append(of.Want, wrong.Want...)
			} else {
				causes = append(causes, cause)
			}
		}
		switch {
		case len(causes) == 1:
		case s.at(err.SchemaURL)["errorMessage"] != nil:
			return []*jsonschema.ValidationError{err}
		case len(causes) == 0 && len(of.Want) > 0:
			return []*jsonschema.ValidationError{{SchemaURL: err.SchemaURL, InstanceLocation: err.InstanceLocation, ErrorKind: &of}}
		}
	}
	if len(causes) == 0 {
		return []*jsonschema.ValidationError{err}
	}
	var out []*jsonschema.ValidationError
	for _, cause := range causes {
		out = append(out, s.leaves(cause)...)
	}
	return out
}

// violations describes an error without causes.
func (s *Schema) violations(root *Value, err *jsonschema.ValidationError) []Violation {
	v := Violation{Path: err.InstanceLocation, Quotes: true}
	value, _ := root.Find(v.Path...)
	value = cmp.Or(value, root) // of a part that the value does not have
	v.At = value.At
	rule := s.at(err.SchemaURL)
	properties, _ := rule["properties"].(map[string]any)
	hint, explained := rule["errorMessage"].(string)
	switch k := err.ErrorKind.(type) {
	case *kind.Type:
		v.Quotes = false
		var wanted []string
		for _, w := range k.Want {
			if what := Kind(w).An(); !slices.Contains(wanted, what) && (Kind(w) != Null || len(k.Want) == 1) {
				wanted = append(wanted, what)
			}
		}
		v.Text = fmt.Sprintf(" must be %s, not %s", strings.Join(wanted, " or "), value.Kind.An())
		if slices.Contains(k.Want, string(Text)) && value.Plain && value.Kind != Null {
			if !explained {
				hint = "write it in quotes"
			}
			v.Text += ": " + hint
		}
		return []Violation{v}
	case *kind.AdditionalProperties:
		var out []Violation
		for _, name := range k.Properties {
			one := v
			one.Unknown, one.Known = name, slices.Sorted(maps.Keys(properties))
			if at := value.Field(name).At; at != (Position{}) {
				one.At = at
			}
			if explained && properties == nil {
				one.Unknown, one.Text = "", fmt.Sprintf(" has the key %q: %s", name, hint)
			}
			out = append(out, one)
		}
		return out
	case *kind.Required:
		if explained {
			break
		}
		var out []Violation
		for _, name := range k.Missing {
			one := v
			one.Missing = name
			if property, _ := properties[name].(map[string]any); property["const"] != nil {
				one.Text = fmt.Sprintf("; want %s: %v", name, property["const"])
			}
			out = append(out, one)
		}
		return out
	case *kind.UniqueItems:
		twice := k.Duplicates[1]
		v.At, v.Path, v.Text = value.Items[twice].At, append(v.Path, strconv.Itoa(twice)), " is there twice"
	case *kind.Enum:
		wanted := make([]string, len(k.Want))
		for i, w := range k.Want {
			wanted[i] = fmt.Sprint(w)
		}
		v.Text = fmt.Sprintf(" is %s, want %s%s", value.shown(), strings.Join(wanted, " or "), nearest.Hint(value.Scalar, slices.Values(wanted)))
	case *kind.Const:
		v.Text = fmt.Sprintf(" is %s, want %v", value.shown(), k.Want)
	case *kind.Minimum:
		v.Text = fmt.Sprintf(" is %s, want %s or more", k.Got.RatString(), k.Want.RatString())
	case *kind.Maximum:
		v.Text = fmt.Sprintf(" is %s, want %s or less", k.Got.RatString(), k.Want.RatString())
	default:
		v.Text = ": " + k.LocalizedString(message.NewPrinter(language.English))
		if value.empty() {
			v.Text = " is empty"
		}
	}
	switch {
	case explained && value.empty():
		v.Text = " is empty: " + hint
	case explained && value.Kind == Text:
		v.Text = fmt.Sprintf(" is %q: %s", value.Scalar, hint)
	case explained:
		v.Text = ": " + hint
	}
	return []Violation{v}
}

func (v *Value) empty() bool { return len(v.Scalar)+len(v.Items)+len(v.Fields) == 0 }

// shown returns a scalar in quotes, and the kind of another value.
func (v *Value) shown() string {
	if v.Kind == List || v.Kind == Mapping {
		return v.Kind.An()
	}
	return strconv.Quote(v.Scalar)
}

// at returns the part of the schema at a location.
func (s *Schema) at(location string) map[string]any {
	_, pointer, _ := strings.Cut(location, "#")
	pointer, _ = url.PathUnescape(pointer)
	var at any = s.Text
	for _, step := range strings.Split(pointer, "/")[1:] {
		switch below := at.(type) {
		case map[string]any:
			at = below[strings.NewReplacer("~1", "/", "~0", "~").Replace(step)]
		case []any:
			i, _ := strconv.Atoi(step)
			at = below[i]
		}
	}
	found, _ := at.(map[string]any)
	return found
}
