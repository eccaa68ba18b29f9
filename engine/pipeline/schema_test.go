// SPDX-License-Identifier: Apache-2.0

package pipeline_test

import (
	"bytes"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
)

// The schema accepts what Parse and Expand accept, and rejects the mistakes that an editor can
// show.
func TestSchema(t *testing.T) {
	data, err := table(t).Schema()
	if err != nil {
		t.Fatal(err)
	}
	again, err := table(t).Schema()
	if err != nil || !bytes.Equal(data, again) {
		t.Errorf("the schema is not always the same: %v", err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("tape.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("tape.json")
	if err != nil {
		t.Fatal(err)
	}
	validate := func(body string) error {
		var v any
		if err := yaml.Unmarshal(file(body), &v); err != nil {
			t.Fatal(err)
		}
		return s.Validate(v)
	}
	good := []string{
		"sources: [{path: x}]",
		"args: {a: x, b: 7, c: true, d: {type: integer, default: 4, help: h}}\nsources: [{name: n, path: x, interpreter: helm, options: {a: 1}}]\nimages: {platform: linux/amd64, fields: [{kind: Pump, path: /x}]}\noutput: {image: example.com/shop, tags: [v1, \"${a}\"]}",
		"sources: [{path: x}]\nenvironments: {dev: , prod: {skip: [x], sources: {x: {path: y, options: {a: null}}, y: }}}",
		"images: {platform: \"${platform}\"}\nnodes: {scan: {with: {depth: \"${b}\"}}}",
		"nodes:\n  scan:\n    with: {depth: null}\n    inputs: {manifests: {a: b.c}}\n  policy:\n    inputs: {images: resolve.images}\n    with: {allow: [a]}\n  mine:\n    uses: policy\n    each: source\n  resolve: {uses: count, inputs: {images: a.b}}\n  push: {inputs: {facts: null}}\n  count:\n",
	}
	for _, body := range good {
		if err := validate(body); err != nil {
			t.Errorf("refused:\n%s\n%v", body, err)
		}
	}
	e := expand(t, "sources: [{path: x}, {path: y}]\noutput: {image: a}", nil)
	full, err := e.YAML()
	if err != nil {
		t.Fatal(err)
	}
	var v any
	if err := yaml.Unmarshal(full, &v); err != nil {
		t.Fatal(err)
	}
	if err := s.Validate(v); err != nil {
		t.Errorf("the full form is refused: %v\n%s", err, full)
	}
	bad := []string{
		"sorces: []",
		"environments: {}",
		"environments: {Dev: }",
		"environments: {dev: {skip: x}}",
		"environments: {dev: {sources: {x: {interpreter: helm}}}}",
		"sources: {path: x}",
		"sources: [{name: x}]",
		"sources: [{path: x, interpreter: ./helm}]",
		"args: {a: []}",
		"args: {a: {type: int}}",
		"images: {size: 1}",
		"images: {platform: linux}",
		"images: {fields: [{path: x}]}",
		"output: {tags: v1}",
		"nodes: {scan: {with: {depth: 0}}}",
		"nodes: {scan: {with: {dept: 1}}}",
		"nodes: {scan: {inputs: {images: a.b}}}",
		"nodes: {scan: {inputs: {manifests: a}}}",
		"nodes: {mine: {uses: scan, with: {dept: 1}}}",
		"nodes: {mine: {uses: scam}}",
		"nodes: {count: {with: {a: 1}}}",
		"nodes: {resolve: {uses: count, with: {platform: linux/amd64}}}",
		"nodes: {mine: {each: image}}",
	}
	for _, body := range bad {
		if validate(body) == nil {
			t.Errorf("accepted:\n%s", body)
		}
	}
}
