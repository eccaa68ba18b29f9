// SPDX-License-Identifier: Apache-2.0

package helm

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"golang.org/x/text/language"
	"golang.org/x/text/message"

	"helm.sh/helm/v3/pkg/chart"

	"github.com/taped-dev/tape/plugins/interpreter"
)

// schemas checks values against the values.schema.json of a chart and its subcharts, as
// chartutil.ValidateAgainstSchema does, but reads nothing that a schema refers to, because
// everything that a render fetches must be recorded and locked, which is impossible for a remote
// schema. A reference to one allows any value.
type schemas struct {
	*renderer
	problems interpreter.Problems
}

func (s *schemas) check(c *chart.Chart, values map[string]any) {
	if c.Schema != nil {
		s.one(s.where(path.Join(c.ChartFullPath(), "values.schema.json")), c, values)
	}
	for _, sub := range c.Dependencies() {
		switch vals := values[sub.Name()].(type) {
		case map[string]any:
			s.check(sub, vals)
		case nil:
		default:
			s.problem(s.where(path.Join(c.ChartFullPath(), "values.yaml")), "the values of subchart %s are %T, not a table", sub.Name(), vals)
		}
	}
}

// schemaURL is the URL of the schema of the chart for the compiler, to which references are
// relative.
const schemaURL = "file:///values.schema.json"

func (s *schemas) one(file string, c *chart.Chart, values map[string]any) {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(c.Schema))
	if err != nil {
		s.problem(file, "the schema is not valid JSON: %s", err)
		return
	}
	refs := &unread{alone: ignoresSiblings(doc)}
	doc = refs.without(doc)
	compiler := jsonschema.NewCompiler()
	compiler.UseLoader(refs)
	if err := compiler.AddResource(schemaURL, doc); err != nil {
		s.problem(file, "the schema is not valid: %s", err)
		return
	}
	schema, err := compiler.Compile(schemaURL)
	for _, url := range refs.urls {
		s.warn(file, "the schema refers to %s, which is not fetched: that part is not checked", url)
	}
	if err != nil {
		s.problem(file, "the schema is not valid: %s", strings.ReplaceAll(err.Error(), schemaURL, "values.schema.json"))
		return
	}
	err = schema.Validate(values)
	if invalid, ok := errors.AsType[*jsonschema.ValidationError](err); ok {
		for _, leaf := range leaves(invalid) {
			s.problem(file, "the values of chart %s do not match its schema: %s", c.Name(), leaf)
		}
	} else if err != nil {
		s.problem(file, "the values of chart %s cannot be checked: %s", c.Name(), err)
	}
}

func (s *schemas) problem(file, format string, args ...any) {
	s.problems = append(s.problems, interpreter.Problem(file, 0, format, args...)...)
}

// leaves returns the values that do not match, each as `at image.tag: got number, want
// string`. They are sorted because validation iterates over maps.
func leaves(err *jsonschema.ValidationError) []string {
	var out []string
	if len(err.Causes) == 0 {
		at := cmp.Or(strings.Join(err.InstanceLocation, "."), "the top")
		out = append(out, fmt.Sprintf("at %s: %s", at, err.ErrorKind.LocalizedString(message.NewPrinter(language.English))))
	}
	for _, cause := range err.Causes {
		out = append(out, leaves(cause)...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// unread is a loader that does not fetch schemas but records their URLs.
type unread struct {
	// alone is set in drafts before 2019-09, where a reference replaces its siblings;
	// later it applies in addition to them.
	alone bool
	urls  []string
}

// without removes references to remote schemas.
func (u *unread) without(v any) any {
	switch v := v.(type) {
	case map[string]any:
		if ref, ok := v["$ref"].(string); ok && elsewhere(ref) {
			u.note(ref)
			if u.alone {
				return true
			}
			delete(v, "$ref")
		}
		for k, sub := range v {
			v[k] = u.without(sub)
		}
	case []any:
		for i, sub := range v {
			v[i] = u.without(sub)
		}
	}
	return v
}

// Load handles references that without does not see: relative references in a schema whose $id is
// remote.
func (u *unread) Load(url string) (any, error) {
	if strings.HasPrefix(url, "file:") {
		return nil, errors.New("a chart's schema cannot refer to a file")
	}
	u.note(url)
	return true, nil
}

func (u *unread) note(url string) {
	if !slices.Contains(u.urls, url) {
		u.urls = append(u.urls, url)
		slices.Sort(u.urls)
	}
}

// elsewhere reports whether a reference leads outside the chart. The compiler has the
// meta-schemas, so these do not count.
func elsewhere(ref string) bool {
	u, err := url.Parse(ref)
	return err == nil && u.Scheme != "" && u.Scheme != "file" && u.Host != "json-schema.org"
}

func ignoresSiblings(doc any) bool {
	m, _ := doc.(map[string]any)
	draft, _ := m["$schema"].(string)
	return strings.Contains(draft, "/draft-0")
}
