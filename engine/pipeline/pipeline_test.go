// SPDX-License-Identifier: Apache-2.0

package pipeline_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/document"
	"github.com/taped-dev/tape/engine/pipeline"
)

// idle is a stage without effect.
type idle struct{}

func (idle) Run(context.Context, *engine.Task) (engine.Outputs, error) { return nil, nil }

func kind(name, inputs, outputs, schema string) pipeline.Kind {
	k := pipeline.Kind{
		Name:    name,
		Help:    "help of " + name,
		Outputs: strings.Fields(outputs),
		New: func(with json.RawMessage) (engine.Stage, error) {
			if strings.Contains(string(with), "impossible") {
				return nil, errors.New("impossible")
			}
			if strings.Contains(string(with), "NO/WHERE") {
				return nil, engine.Mistaken("repository", errors.New("no repository"))
			}
			return idle{}, nil
		},
	}
	for _, port := range strings.Fields(inputs) {
		name, many := strings.CutSuffix(port, "*")
		name, optional := strings.CutSuffix(name, "?")
		k.Inputs = append(k.Inputs, pipeline.Port{Name: name, Many: many, Optional: optional})
	}
	if schema != "" {
		k.Schema = json.RawMessage(schema)
	}
	return k
}

const defaults = `
nodes:
  source:
    each: source
    with:
      name: ${source.name}
      path: ${source.path}
      interpreter: ${source.interpreter}
      options: ${source.options}
  render:
    each: source
    inputs: {files: source.files}
    with: {folder: "${source.folder}"}
  scan:
    inputs: {manifests: render.manifests}
    with:
      fields: ${images.fields}
      depth: 3
  resolve:
    inputs: {references: scan.references}
    with:
      platform: ${images.platform}
  push:
    inputs: {images: resolve.images, facts: source.facts}
    with:
      repository: ${output.image}
      tags: ${output.tags}
      title: title of ${output.image}
`

func kinds() []pipeline.Kind {
	return []pipeline.Kind{
		kind("source", "", "files facts", `{"type":"object","additionalProperties":false,"required":["name","path"],"properties":{
			"name":{"type":"string"},"path":{"type":"string"},"interpreter":{"type":"string"},"options":{"type":"object"}}}`),
		kind("render", "files", "manifests", `{"type":"object","additionalProperties":false,"properties":{"folder":{"type":"string"},"deterministic":{"type":"boolean"}}}`),
		kind("scan", "manifests*", "references manifests", `{"type":"object","additionalProperties":false,"properties":{
			"depth":{"type":"integer","minimum":1},
			"when":{"type":"object","additionalProperties":{"type":"string"}},
			"fields":{"description":"extra fields","type":"array","items":{"type":"object","additionalProperties":false,"required":["kind"],"properties":{"kind":{"type":"string"},"path":{"type":"string"}}}}}}`),
		kind("resolve", "references", "images", `{"type":"object","additionalProperties":false,"properties":{"platform":{"type":"string","pattern":"^[a-z]+/[a-z0-9]+$"}}}`),
		kind("push", "images facts?* signature?", "", `{"type":"object","additionalProperties":false,"required":["repository"],"properties":{
			"repository":{"type":"string"},"title":{"type":"string"},"tags":{"type":"array","items":{"type":"string"}}}}`),
		kind("policy", "images", "images", `{"type":"object","properties":{"allow":{"type":"array"}}}`),
		kind("count", "images", "images", ""),
	}
}

func table(t *testing.T) *pipeline.Table {
	t.Helper()
	table, err := pipeline.NewTable([]byte(defaults), kinds()...)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// file returns a pipeline file with the header.
func file(body string) []byte {
	return []byte("apiVersion: tape/v1\nkind: Pipeline\n" + body)
}

func expand(t *testing.T, body string, args map[string]string) *pipeline.Expanded {
	t.Helper()
	p, err := table(t).Parse("tape.yaml", file(body))
	if err != nil {
		t.Fatal(err)
	}
	e, err := p.Expand(t.Context(), args)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// nodes returns a graph as text, one line per node.
func nodes(t *testing.T, g *engine.Graph) string {
	t.Helper()
	var b strings.Builder
	for _, n := range g.Nodes() {
		fmt.Fprintf(&b, "%s %s %v %s\n", n.Name, n.Kind, n.Inputs, n.Config)
	}
	return b.String()
}

func sortedLines(text string) []string {
	lines := strings.Split(text, "\n")
	slices.Sort(lines)
	return lines
}

func TestBuild(t *testing.T) {
	tests := []struct {
		name, body string
		args       map[string]string
		targets    []string
		want       string
	}{
		{
			name: "short form, one source",
			body: `
sources:
  - path: ./deploy/web
output:
  image: example.com/shop
`,
			want: `source/web source map[] {"name":"web","path":"./deploy/web"}
render/web render map[files:source/web.files] {}
scan scan map[manifests/web:render/web.manifests] {"depth":3}
resolve resolve map[references:scan.references] {}
push push map[facts/web:source/web.facts images:resolve.images] {"repository":"example.com/shop","title":"title of example.com/shop"}
`,
		},
		{
			name: "several sources",
			body: `
sources:
  - {name: web, path: web, interpreter: helm, options: {values: [a.yaml]}}
  - {name: api, path: oci://example.com/charts/api:1.2}
images:
  platform: linux/amd64
  fields: [{kind: Pump}]
output:
  image: example.com/shop
  tags: [v1]
`,
			want: `source/web source map[] {"interpreter":"helm","name":"web","options":{"values":["a.yaml"]},"path":"web"}
source/api source map[] {"name":"api","path":"oci://example.com/charts/api:1.2"}
render/web render map[files:source/web.files] {"folder":"web"}
render/api render map[files:source/api.files] {"folder":"api"}
scan scan map[manifests/api:render/api.manifests manifests/web:render/web.manifests] {"depth":3,"fields":[{"kind":"Pump"}]}
resolve resolve map[references:scan.references] {"platform":"linux/amd64"}
push push map[facts/api:source/api.facts facts/web:source/web.facts images:resolve.images] {"repository":"example.com/shop","tags":["v1"],"title":"title of example.com/shop"}
`,
		},
		{
			name:    "targets need no more than they use",
			body:    `sources: [{path: web}]`,
			targets: []string{"resolve"},
			want: `source/web source map[] {"name":"web","path":"web"}
render/web render map[files:source/web.files] {}
scan scan map[manifests/web:render/web.manifests] {"depth":3}
resolve resolve map[references:scan.references] {}
`,
		},
		{
			name:    "target made for each source",
			body:    `sources: [{path: web}, {path: api}]`,
			targets: []string{"source"},
			want: `source/web source map[] {"name":"web","path":"web"}
source/api source map[] {"name":"api","path":"api"}
`,
		},
		{
			name: "inserted node, changed nodes",
			body: `
sources: [{path: web}, {path: api}]
output: {image: example.com/shop}
nodes:
  policy:
    inputs: {images: resolve.images}
    with: {allow: [docker.io]}
  push:
    inputs: {images: policy.images, facts: null}
    with: {title: null, tags: [v2]}
  scan:
    with: {depth: 5}
  render:
    with: {deterministic: true}
  render/api:
    with: {folder: backend}
`,
			want: `source/web source map[] {"name":"web","path":"web"}
source/api source map[] {"name":"api","path":"api"}
render/web render map[files:source/web.files] {"deterministic":true,"folder":"web"}
render/api render map[files:source/api.files] {"deterministic":true,"folder":"backend"}
scan scan map[manifests/api:render/api.manifests manifests/web:render/web.manifests] {"depth":5}
resolve resolve map[references:scan.references] {}
policy policy map[images:resolve.images] {"allow":["docker.io"]}
push push map[images:policy.images] {"repository":"example.com/shop","tags":["v2"]}
`,
		},
		{
			name: "node for each source between two others",
			body: `
sources: [{path: web}, {path: api}]
nodes:
  patch:
    uses: render
    each: source
    inputs: {files: render.manifests}
    with: {folder: "${source.name}"}
  scan:
    inputs: {manifests: patch.manifests}
`,
			targets: []string{"scan"},
			want: `source/web source map[] {"name":"web","path":"web"}
source/api source map[] {"name":"api","path":"api"}
render/web render map[files:source/web.files] {"folder":"web"}
render/api render map[files:source/api.files] {"folder":"api"}
patch/api render map[files:render/api.manifests] {"folder":"api"}
patch/web render map[files:render/web.manifests] {"folder":"web"}
scan scan map[manifests/api:patch/api.manifests manifests/web:patch/web.manifests] {"depth":3}
`,
		},
		{
			name: "replaced node, several inputs by key, one by name",
			body: `
sources: [{path: web}, {path: api}]
nodes:
  merge: {uses: scan, inputs: {manifests: {first: render/web.manifests, second: render/api.manifests}}}
  scan: {inputs: {manifests: merge.manifests}}
  resolve: {uses: count, inputs: {images: scan.references}}
`,
			targets: []string{"resolve"},
			want: `source/web source map[] {"name":"web","path":"web"}
source/api source map[] {"name":"api","path":"api"}
render/web render map[files:source/web.files] {"folder":"web"}
render/api render map[files:source/api.files] {"folder":"api"}
merge scan map[manifests/first:render/web.manifests manifests/second:render/api.manifests] {}
scan scan map[manifests/merge:merge.manifests] {"depth":3}
resolve count map[images:scan.references] {}
`,
		},
		{
			name: "full form alone",
			body: `
nodes:
  files: {uses: source, with: {name: a, path: b}}
  again: {uses: render, inputs: {files: files.files}}
`,
			targets: []string{"again"},
			want: `files source map[] {"name":"a","path":"b"}
again render map[files:files.files] {}
`,
		},
		{
			name: "arguments",
			body: `
args:
  registry: example.com
  depth: {type: integer, help: how deep}
  strict: {type: boolean, default: false}
  ratio: {type: number, default: 1}
  tag: v1
sources:
  - {path: "${tag}", options: {strict: "${strict}", quoted: '${depth}', ratio: "x", literal: "$${tag}", mixed: "${depth}/${strict}"}}
  - path: typed
    options:
      strict: ${strict}
      ratio: ${ratio}
      depth: ["a", "x${depth}"]
output:
  image: ${registry}/shop
nodes:
  scan:
    with:
      depth: ${depth}
`,
			args: map[string]string{"depth": "7", "tag": "v2", "registry": "${tag}"},
			want: `source/v2 source map[] {"name":"v2","options":{"literal":"${tag}","mixed":"7/false","quoted":"7","ratio":"x","strict":"false"},"path":"v2"}
source/typed source map[] {"name":"typed","options":{"depth":["a","x7"],"ratio":1,"strict":false},"path":"typed"}
render/v2 render map[files:source/v2.files] {"folder":"v2"}
render/typed render map[files:source/typed.files] {"folder":"typed"}
scan scan map[manifests/typed:render/typed.manifests manifests/v2:render/v2.manifests] {"depth":7}
resolve resolve map[references:scan.references] {}
push push map[facts/typed:source/typed.facts facts/v2:source/v2.facts images:resolve.images] {"repository":"${tag}/shop","title":"title of ${tag}/shop"}
`,
		},
		{
			name: "YAML as people write it",
			body: `
sources:
  - &base
    name: web
    path: web
    options: &options {octal: 0o17, when: 2020-01-01, yes: yes, none: ~, big: 1e3, text: "1"}
  - {name: api, path: .., options: *options}
`,
			targets: []string{"source"},
			want: `source/web source map[] {"name":"web","options":{"big":1000,"none":null,"octal":15,"text":"1","when":"2020-01-01","yes":"yes"},"path":"web"}
source/api source map[] {"name":"api","options":{"big":1000,"none":null,"octal":15,"text":"1","when":"2020-01-01","yes":"yes"},"path":".."}
`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := expand(t, tt.body, tt.args)
			g, err := e.Graph(tt.targets...)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, nodes(t, g)); diff != "" {
				t.Errorf("graph differs (-want +got):\n%s", diff)
			}

			// The expanded form is the same pipeline.
			full, err := e.YAML()
			if err != nil {
				t.Fatal(err)
			}
			p, err := table(t).Parse("full.yaml", full)
			if err != nil {
				t.Fatalf("%v in:\n%s", err, full)
			}
			again, err := p.Build(t.Context(), nil, tt.targets...)
			if err == nil && len(tt.targets) == 0 {
				// In the expanded form the sources are sorted by name.
				if diff := cmp.Diff(sortedLines(nodes(t, g)), sortedLines(nodes(t, again))); diff != "" {
					t.Errorf("graph of the full form differs (-short +full):\n%s\n%s", diff, full)
				}
			}
		})
	}
}

func TestNameOfASource(t *testing.T) {
	for path, want := range map[string]string{
		"./deploy/":                   "deploy",
		".":                           "app",
		"..":                          "app",
		"chart.tgz":                   "chart.tgz",
		"oci://example.com:5000/a/b":  "b",
		"oci://example.com/a/b:1.2.3": "b",
		"oci://example.com/a/b:1@sha256:0000000000000000000000000000000000000000000000000000000000000000": "b",
		"https://example.com/charts/x-1.tgz": "x-1.tgz",
	} {
		g, err := expand(t, fmt.Sprintf("sources: [{path: %q}]", path), nil).Outline()
		if err != nil {
			t.Fatal(err)
		}
		if got := g.Nodes()[0].Name; got != "source/"+want {
			t.Errorf("%s makes the node %q, want source/%s", path, got, want)
		}
	}
}

func TestFromCode(t *testing.T) {
	p := table(t).New()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(p.SetSources(pipeline.Source{Path: "web", Interpreter: "helm", Options: json.RawMessage(`{"set":["a=${b}"]}`)}))
	check(p.Set("output.image", "example.com/shop"))
	check(p.Set("output.tags", []string{"v1", "v2"}))
	check(p.Set("images.platform", "linux/arm64"))
	check(p.With("scan", "depth", 9))
	check(p.With("render", "deterministic", true))
	g, err := p.Build(t.Context(), nil)
	check(err)
	want := `source/web source map[] {"interpreter":"helm","name":"web","options":{"set":["a=${b}"]},"path":"web"}
render/web render map[files:source/web.files] {"deterministic":true}
scan scan map[manifests/web:render/web.manifests] {"depth":9}
resolve resolve map[references:scan.references] {"platform":"linux/arm64"}
push push map[facts/web:source/web.facts images:resolve.images] {"repository":"example.com/shop","tags":["v1","v2"],"title":"title of example.com/shop"}
`
	if diff := cmp.Diff(want, nodes(t, g)); diff != "" {
		t.Errorf("graph differs (-want +got):\n%s", diff)
	}

	// A setting replaces the value in the file.
	p, err = table(t).Parse("tape.yaml", file("sources: [{path: web}]\nimages: {platform: linux/amd64, fields: [{kind: Pump}]}\n"))
	check(err)
	check(p.Set("images.platform", "linux/arm64"))
	g, err = p.Build(t.Context(), nil, "resolve")
	check(err)
	if got := nodes(t, g); !strings.Contains(got, `{"platform":"linux/arm64"}`) || !strings.Contains(got, `"fields":[{"kind":"Pump"}]`) {
		t.Errorf("graph:\n%s", got)
	}

	for _, tt := range []struct {
		err  error
		want string
	}{
		{p.Set("images.size", 1), `"images.size" is not a setting of a pipeline`},
		{p.Set("images", 1), `"images" is not a setting of a pipeline`},
		{p.Set("images.platform", func() {}), "set images.platform: json: unsupported type: func()"},
		{p.With("scan", "depth", func() {}), "set option depth of scan: json: unsupported type: func()"},
	} {
		if tt.err == nil || tt.err.Error() != tt.want {
			t.Errorf("got  %v\nwant %s", tt.err, tt.want)
		}
	}
	check(p.With("scam", "depth", 1))
	if _, err := p.Expand(t.Context(), nil); err == nil || err.Error() != `no node "scam" to set option "depth" of` {
		t.Errorf("option of no node: %v", err)
	}
}

// A wrong value that was set by code has no position.
func TestErrorsFromCode(t *testing.T) {
	p := table(t).New()
	if _, err := p.Build(t.Context(), nil); err == nil || err.Error() != "the pipeline has no sources" {
		t.Errorf("nothing: %v", err)
	}
	for _, err := range []error{
		p.SetSources(pipeline.Source{Path: "a"}, pipeline.Source{Path: "b/a"}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := p.Build(t.Context(), nil); err == nil || err.Error() != `two sources are called "a" and would share a folder; name them in a pipeline file` {
		t.Errorf("duplicate: %v", err)
	}
	if err := p.SetSources(pipeline.Source{Path: "a"}); err != nil {
		t.Fatal(err)
	}
	if err := p.Set("images.platform", "linux"); err != nil {
		t.Fatal(err)
	}
	_, err := p.Build(t.Context(), nil)
	want := "option platform of resolve: 'linux' does not match pattern '^[a-z]+/[a-z0-9]+$'\noutput.image is missing"
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	var one *document.Error
	if !errors.As(err, &one) || one.Line != 0 {
		t.Errorf("error is %#v", one)
	}
}

func TestOutline(t *testing.T) {
	g, err := expand(t, "sources: [{path: web}]\nnodes: {policy: {inputs: {images: resolve.images}}, push: {inputs: {images: policy.images}}}", nil).Outline()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, n := range g.Nodes() {
		for _, from := range slices.Sorted(maps.Values(n.Inputs)) {
			got = append(got, string(from)+" > "+n.Name)
		}
	}
	want := []string{
		"source/web.files > render/web", "render/web.manifests > scan", "scan.references > resolve",
		"resolve.images > policy", "policy.images > push", "source/web.facts > push",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("outline differs (-want +got):\n%s", diff)
	}
}

// No content of a file makes tape panic, and an expanded pipeline can be written and read
// again.
func FuzzParse(f *testing.F) {
	f.Add(file("sources: [{path: x}]\noutput: {image: x}"))
	f.Add(file("args: {a: 1}\nsources: [&a {path: x, options: {a: ${a}, b: 'x${a}', c: $${d}}}, {name: y, path: x}]"))
	f.Add(file("nodes:\n  scan: {uses: scan, each: source, inputs: {manifests: {a: b.c}}, with: {depth: 0x1f}}\n  mine:\n    uses: policy\n"))
	f.Add(file("a: &a [*a]"))
	f.Add([]byte("%YAML 1.2\n--- !!map {? a : b}\n...\n"))
	made, err := pipeline.NewTable([]byte(defaults), kinds()...)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := made.Parse("tape.yaml", data)
		if err != nil {
			return
		}
		e, err := p.Expand(t.Context(), nil)
		if err != nil {
			return
		}
		_, _ = e.Graph()
		full, err := e.YAML()
		if err != nil {
			t.Fatal(err)
		}
		if p, err = made.Parse("full.yaml", full); err == nil {
			_, err = p.Expand(t.Context(), nil)
		}
		if err != nil {
			t.Errorf("%v in:\n%s", err, full)
		}
	})
}

func TestNewTableRefuses(t *testing.T) {
	make1 := func(json.RawMessage) (engine.Stage, error) { return nil, nil }
	tests := []struct {
		name, defaults string
		kinds          []pipeline.Kind
		want           string
	}{
		{"twice", "", []pipeline.Kind{kind("a", "", "", ""), kind("a", "", "", "")}, `two kinds of stage are named "a"`},
		{"name", "", []pipeline.Kind{kind("a/b", "", "", "")}, `kind of stage "a/b": the name must consist of letters, digits, -, _ and dots`},
		{"new", "", []pipeline.Kind{{Name: "a"}}, `kind of stage "a": New is nil`},
		{"no JSON", "", []pipeline.Kind{{Name: "a", New: make1, Schema: json.RawMessage("{")}}, `kind of stage "a": schema: unexpected EOF`},
		{"no object", "", []pipeline.Kind{{Name: "a", New: make1, Schema: json.RawMessage("true")}}, `kind of stage "a": the schema is not an object`},
		{"ref", "", []pipeline.Kind{{Name: "a", New: make1, Schema: json.RawMessage(`{"$ref":"#/x"}`)}}, `kind of stage "a": the schema must not use $ref`},
		{"no schema", "", []pipeline.Kind{{Name: "a", New: make1, Schema: json.RawMessage(`{"type":7}`)}}, `kind of stage "a": schema: `},
		{"YAML", "nodes: [", nil, "default pipeline:1: did not find expected node content"},
		{"uses", "nodes:\n  scan:\n    uses: scam\n", []pipeline.Kind{kind("scan", "", "", "")}, `default pipeline:3:11: node "scan" uses "scam", which is not a kind of stage (did you mean "scan"?)`},
		{"placeholder", "nodes:\n  a:\n    with: {x: '${y}'}\n", []pipeline.Kind{kind("a", "", "", "{}")}, "default pipeline:3:15: ${y} does not have the form section.key"},
		{"source", "nodes:\n  a:\n    with: {x: ['${source.name}']}\n", []pipeline.Kind{kind("a", "", "", "{}")}, "default pipeline:3:16: ${source.name}: a node with each: source can use source.name, source.path, source.interpreter, source.options, source.folder"},
		{"key", "node:\n  a: {}\n", nil, `default pipeline:1:1: unknown key "node" (did you mean "nodes"?)`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := pipeline.NewTable([]byte(tt.defaults), tt.kinds...)
			if err == nil || !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}
}
