// SPDX-License-Identifier: Apache-2.0

package pipeline_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/taped-dev/tape/engine/pipeline"
)

const environments = `
args: {where: live}
sources:
  - {name: web, path: web, options: {values: [a.yaml], release: web}}
  - {name: api, path: api}
environments:
  prod:
    sources:
      web: {path: "web/${where}", options: {values: [a.yaml, b.yaml], release: }}
    skip: [api]
  dev:
output: {image: example.com/shop}
nodes:
  render/web: {with: {deterministic: true}}
`

// TestEnvironments instantiates every source in every environment that has it.
func TestEnvironments(t *testing.T) {
	const rest = `resolve resolve map[references:scan.references] {}
push push map[%s images:resolve.images] {"repository":"example.com/shop","title":"title of example.com/shop"}
`
	const dev = `source/dev/api source map[] {"name":"dev/api","path":"api"}
render/dev/api render map[files:source/dev/api.files] {"folder":"dev/api"}
source/dev/web source map[] {"name":"dev/web","options":{"release":"web","values":["a.yaml"]},"path":"web"}
render/dev/web render map[files:source/dev/web.files] {"deterministic":true,"folder":"dev/web"}
`
	const prod = `source/prod/web source map[] {"name":"prod/web","options":{"values":["a.yaml","b.yaml"]},"path":"web/live"}
render/prod/web render map[files:source/prod/web.files] {"deterministic":true,"folder":"prod/web"}
`
	for _, tt := range []struct {
		only []string
		want string
	}{
		{nil, dev + prod + "scan scan map[manifests/dev/api:render/dev/api.manifests manifests/dev/web:render/dev/web.manifests manifests/prod/web:render/prod/web.manifests] {\"depth\":3}\n" +
			fmt.Sprintf(rest, "facts/dev/api:source/dev/api.facts facts/dev/web:source/dev/web.facts facts/prod/web:source/prod/web.facts")},
		{[]string{"prod"}, prod + "scan scan map[manifests/prod/web:render/prod/web.manifests] {\"depth\":3}\n" + fmt.Sprintf(rest, "facts/prod/web:source/prod/web.facts")},
	} {
		p, err := table(t).Parse("tape.yaml", file(environments))
		if err != nil {
			t.Fatal(err)
		}
		p.SetEnvironments(tt.only...)
		e, err := p.Expand(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		g, err := e.Graph()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(sortedLines(tt.want), sortedLines(nodes(t, g))); diff != "" {
			t.Errorf("only %q (-want +got):\n%s", tt.only, diff)
		}
		full, err := e.YAML()
		if err != nil {
			t.Fatal(err)
		}
		again, err := table(t).Parse("full.yaml", full)
		if err != nil {
			t.Fatalf("the full form is refused: %v\n%s", err, full)
		}
		same, err := again.Build(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(sortedLines(nodes(t, g)), sortedLines(nodes(t, same))); diff != "" {
			t.Errorf("the full form means something else:\n%s", diff)
		}
	}
	// The folder of a single source is that of the environment.
	e := expand(t, "sources: [{path: web}]\nenvironments: {dev: , prod: }\noutput: {image: a}", nil)
	g, err := e.Graph("render")
	if err != nil {
		t.Fatal(err)
	}
	if got := nodes(t, g); !strings.Contains(got, `render/prod/web render map[files:source/prod/web.files] {"folder":"prod"}`) {
		t.Errorf("a lone source:\n%s", got)
	}
}

func TestEnvironmentErrors(t *testing.T) {
	for _, tt := range []struct{ body, want string }{
		{"environments: []", `tape.yaml:4:15: environments must be a mapping, not a list`},
		{"environments: {}", `tape.yaml:4:15: environments is empty: name them, or leave it out`},
		{"environments: {Dev: }", `tape.yaml:4:16: environment name "Dev" must consist of lower-case letters, digits and dashes`},
		{"environments: {dev: [x]}", `tape.yaml:4:21: environments.dev must be a mapping, not a list`},
		{"environments: {dev: {source: }}", `tape.yaml:4:22: unknown key "source" (did you mean "sources"?)`},
		{"environments: {dev: {sources: [x]}}", `tape.yaml:4:31: environments.dev.sources must be a mapping, not a list`},
		{"environments: {dev: {sources: {x: y}}}", `tape.yaml:4:35: environments.dev.sources.x must be a mapping, not a string`},
		{"environments: {dev: {sources: {x: {interpreter: helm}}}}", `tape.yaml:4:36: unknown key "interpreter"; want options, path`},
		{"environments: {dev: {sources: {x: {path: []}}}}", `tape.yaml:4:42: environments.dev.sources.x.path must be a string, not a list`},
		{"environments: {dev: {sources: {x: {path: ''}}}}", `tape.yaml:4:42: environments.dev.sources.x.path is empty`},
		{"environments: {dev: {sources: {z: {path: y}}}}", `tape.yaml:4:32: environment "dev" changes source "z", which does not exist (did you mean "x"?)`},
		{"environments: {dev: {skip: x}}", `tape.yaml:4:28: environments.dev.skip must be a list, not a string`},
		{"environments: {dev: {skip: [z]}}", `tape.yaml:4:29: environment "dev" skips source "z", which does not exist (did you mean "x"?)`},
		{"environments: {dev: {skip: [x, x]}}", `tape.yaml:4:32: environment "dev" skips source "x" twice`},
		{"environments: {dev: {skip: [x, y]}}", `tape.yaml:4:16: environment "dev" skips every source`},
		{"environments: {dev: {skip: [x], sources: {x: {path: z}}}}", `tape.yaml:4:29: environment "dev" skips source "x", which it also changes`},
		{"environments: {dev: {sources: {x: {options: {a: 1}}}}}\nnodes: {render/z: {}}", `tape.yaml:5:9: node "render/z" uses "render/z", which is not a kind of stage`},
	} {
		p, err := table(t).Parse("tape.yaml", file("sources: [{path: x}, {path: y}]\n"+tt.body))
		if err == nil {
			_, err = p.Build(t.Context(), nil)
		}
		if err == nil || !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("%s\ngot  %v\nwant %s", tt.body, err, tt.want)
		}
	}
	for body, want := range map[string]string{
		"sources: [{path: x}]":                                `there is no environment "pord": the pipeline has no environments`,
		"sources: [{path: x}]\nenvironments: {dev: , prod: }": `there is no environment "pord" (did you mean "prod"?)`,
	} {
		p, err := table(t).Parse("tape.yaml", file(body))
		if err != nil {
			t.Fatal(err)
		}
		p.SetEnvironments("pord")
		if _, err := p.Build(t.Context(), nil); err == nil || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
	var many strings.Builder
	for i := range pipeline.MaxEnvironments + 1 {
		fmt.Fprintf(&many, "  e%d:\n", i)
	}
	if _, err := table(t).Parse("tape.yaml", file("sources: [{path: x}]\nenvironments:\n"+many.String())); err == nil || !strings.Contains(err.Error(), "more than 64 environments") {
		t.Errorf("too many: %v", err)
	}
}
