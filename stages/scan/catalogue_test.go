// SPDX-License-Identifier: Apache-2.0

package scan

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/stages/images"
)

// TestCatalogue checks that every entry would be valid in a pipeline.
func TestCatalogue(t *testing.T) {
	k := builtin()
	data, err := engine.MarshalJSON(Config{Fields: k.Fields})
	if err != nil {
		t.Fatal(err)
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(configSchema))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("config.json", document); err != nil {
		t.Fatal(err)
	}
	compiled, err := compiler.Compile("config.json")
	if err != nil {
		t.Fatal(err)
	}
	var value any
	if err := json.Unmarshal(data, &value); err != nil {
		t.Fatal(err)
	}
	if err := compiled.Validate(value); err != nil {
		t.Error(err)
	}
	for _, f := range k.Fields {
		if f.Pin == "never" && f.Reason == "" {
			t.Errorf("%s: never pinned, and no reason given", strings.Join(f.Kinds, ", "))
		}
	}
	if !slices.IsSorted(k.Official) {
		t.Error("the official images are not in order")
	}
}

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		pattern string
		yes, no []string
	}{
		{"gcr.io", []string{"gcr.io"}, []string{"gcr.io.x", "xgcr.io", ""}},
		{"*.gcr.io", []string{"eu.gcr.io", "a.b.gcr.io"}, []string{"gcr.io", "eu.gcr.io.x"}},
		{"registry.*", []string{"registry.k8s.io", "registry."}, []string{"my.registry.io"}},
		{"*.dkr.ecr.*.amazonaws.com", []string{"1.dkr.ecr.eu-west-1.amazonaws.com"}, []string{"1.dkr.ecr.amazonaws.com"}},
		{"a*a", []string{"aa", "aba"}, []string{"a"}},
		{"*", []string{"", "x"}, nil},
	} {
		for _, s := range c.yes {
			if !images.Match(c.pattern, s) {
				t.Errorf("%s does not match %q", c.pattern, s)
			}
		}
		for _, s := range c.no {
			if images.Match(c.pattern, s) {
				t.Errorf("%s matches %q", c.pattern, s)
			}
		}
	}
}
