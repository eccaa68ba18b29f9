// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/taped-dev/tape/plugins/interpreter"
)

var (
	nameRegexp     = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	variableRegexp = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	schemeRegexp   = regexp.MustCompile(`^[a-z][a-z0-9+.-]*$`)
)

// describe calls Describe twice and checks the result.
func describe(ctx context.Context, in interpreter.Interpreter) (interpreter.Description, error) {
	d, err := in.Describe(ctx)
	if err != nil {
		return d, err
	}
	again, err := in.Describe(ctx)
	if err != nil {
		return d, fmt.Errorf("a second time: %w", err)
	}
	if !reflect.DeepEqual(d, again) {
		return d, errors.New("answers differ")
	}
	return d, checkDescription(d)
}

func checkDescription(d interpreter.Description) error {
	switch {
	case !nameRegexp.MatchString(d.Name):
		return fmt.Errorf("name %q: want lower-case letters, digits and dashes", d.Name)
	case d.Version == "":
		return errors.New("no version")
	case d.Help == "" || strings.ContainsAny(d.Help, "\r\n"):
		return fmt.Errorf("help %q: want one line", d.Help)
	}
	for _, m := range d.Markers {
		for _, pattern := range []string{m.Name, m.With} {
			// A trailing slash is allowed: it matches a folder.
			if _, err := path.Match(pattern, "x"); err != nil || strings.Contains(strings.TrimSuffix(pattern, "/"), "/") {
				return fmt.Errorf("marker %q: want a pattern of one name", pattern)
			}
		}
		if m.Name == "" {
			return errors.New("marker without a name")
		}
		if m.Above && m.With == "" {
			return fmt.Errorf("marker %q has above but not with: it would claim every folder below", m.Name)
		}
	}
	for _, v := range d.Environment {
		if !variableRegexp.MatchString(v) {
			return fmt.Errorf("environment %q: want the name of a variable", v)
		}
	}
	for _, r := range d.References {
		if !schemeRegexp.MatchString(r) {
			return fmt.Errorf("reference %q: want a scheme, such as oci", r)
		}
	}
	return checkSchema(d.Options)
}

// checkSchema checks that tape can validate options with the schema and find the paths and
// secrets in it.
func checkSchema(schema json.RawMessage) error {
	if len(schema) == 0 {
		return nil
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(schema))
	if err != nil {
		return fmt.Errorf("schema of options: %w", err)
	}
	compiler := jsonschema.NewCompiler()
	compiler.DefaultDraft(jsonschema.Draft2020)
	const name = "options.json"
	if err := compiler.AddResource(name, doc); err != nil {
		return fmt.Errorf("schema of options: %w", err)
	}
	if _, err := compiler.Compile(name); err != nil {
		return fmt.Errorf("schema of options: %w", err)
	}
	top, ok := doc.(map[string]any)
	if !ok || top["type"] != "object" {
		return errors.New(`schema of options: want "type": "object"`)
	}
	if top["additionalProperties"] != false && top["unevaluatedProperties"] != false {
		return errors.New(`schema of options: want "additionalProperties": false, so that tape can report misspelled options`)
	}
	return nil
}

// optionPaths returns the files and folders that options name, which tape treats as inputs:
// strings with format path or key=path, alone or in a list.
func optionPaths(schema, options json.RawMessage) []string {
	type property struct {
		Format string    `json:"format"`
		Items  *property `json:"items"`
	}
	var s struct {
		Properties map[string]property `json:"properties"`
	}
	var values map[string]any
	if json.Unmarshal(schema, &s) != nil || json.Unmarshal(options, &values) != nil {
		return nil
	}
	var paths []string
	for _, name := range slices.Sorted(maps.Keys(values)) {
		p := s.Properties[name]
		list, ok := values[name].([]any)
		if ok && p.Items != nil {
			p = *p.Items
		} else {
			list = []any{values[name]}
		}
		for _, v := range list {
			text, ok := v.(string)
			if p.Format == "key=path" {
				_, text, ok = strings.Cut(text, "=")
			} else if p.Format != "path" {
				ok = false
			}
			if ok {
				paths = append(paths, text)
			}
		}
	}
	return paths
}
