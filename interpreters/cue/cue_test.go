// SPDX-License-Identifier: Apache-2.0

package cue_test

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/taped-dev/tape/interpreters/cue"
	"github.com/taped-dev/tape/plugins/conformance"
	"github.com/taped-dev/tape/plugins/interpreter"
)

// The cases in testdata, with all checks of the contract.
func TestConformance(t *testing.T) {
	if err := conformance.Check(t.Context(), cue.New(), conformance.Options{Cases: os.DirFS("testdata")}); err != nil {
		t.Error(err)
	}
}

// layOut writes the files of an archive and returns their folder.
func layOut(t *testing.T, archive string) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range txtar.Parse([]byte(archive)).Files {
		name := filepath.Join(dir, f.Name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, f.Data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func render(t *testing.T, req interpreter.RenderRequest) *interpreter.RenderResponse {
	t.Helper()
	req.Scratch = t.TempDir()
	// The modules in the cache are read-only.
	t.Cleanup(func() {
		_ = filepath.WalkDir(req.Scratch, func(name string, _ fs.DirEntry, err error) error {
			return errors.Join(err, os.Chmod(name, 0o700))
		})
	})
	resp, err := cue.New().Render(t.Context(), &req)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

const module = `
-- cue.mod/module.cue --
module: "example.com/shop@v0"
language: version: "v0.15.0"
`

// Mistakes are diagnostics at the positions that CUE reports.
func TestProblems(t *testing.T) {
	for _, c := range []struct {
		name    string
		archive string
		options string
		path    string
		want    []interpreter.Diagnostic // Summary is a part of the actual one
	}{
		{
			name: "syntax", archive: module + "-- app.cue --\npackage app\n\na: [\n",
			want: []interpreter.Diagnostic{{File: "app.cue", Line: 3, Column: 6, Summary: "expected"}},
		}, {
			name: "conflict", archive: module + "-- app.cue --\npackage app\n\na: 1\n-- b.cue --\npackage app\n\na: 2\n",
			want: []interpreter.Diagnostic{{File: "app.cue", Line: 3, Column: 4, Summary: "a: conflicting values", Detail: "see b.cue:3:4"}},
		}, {
			name: "incomplete objects",
			archive: module + "-- app.cue --\npackage app\n\n" +
				"a: {apiVersion: \"v1\", kind: \"Secret\", metadata: name: string}\n" +
				"b: {apiVersion: \"v1\", kind: \"Secret\", metadata: name!: string}\n",
			want: []interpreter.Diagnostic{
				{File: "app.cue", Line: 3, Column: 55, Summary: "a.metadata.name: incomplete value string"},
				{File: "app.cue", Line: 4, Column: 49, Summary: "b.metadata.name: field is required but not present"},
			},
		}, {
			name: "objects that do not say what they are",
			archive: module + "-- app.cue --\npackage app\n\n" +
				"a: {apiVersion: string, kind: \"Secret\", metadata: name: \"a\"}\n" +
				"b: {apiVersion: \"v1\", kind: \"Secret\" | \"ConfigMap\", metadata: name: \"b\"}\n" +
				"c: {apiVersion: \"v1\", kind: \"ConfigMap\", metadata: name: \"c\"}\n",
			want: []interpreter.Diagnostic{
				{File: "app.cue", Line: 3, Column: 17, Summary: "a.apiVersion: incomplete value string"},
				{Summary: "b.kind: incomplete value"},
			},
		}, {
			name: "unknown import", archive: module + "-- app.cue --\npackage app\n\nimport \"example.com/shop/none\"\n\na: none.a\n",
			want: []interpreter.Diagnostic{{File: "app.cue", Line: 3, Column: 8, Summary: "import failed"}},
		}, {
			name: "unknown reference in a package below", path: "apps", options: `{"packages": ["./..."]}`,
			archive: module + "-- apps/x/app.cue --\npackage app\n\na: b\n",
			want:    []interpreter.Diagnostic{{File: "apps/x/app.cue", Line: 3, Column: 4, Summary: `reference "b" not found`}},
		}, {
			name: "no language version", archive: "-- cue.mod/module.cue --\nmodule: \"example.com/shop\"\n-- app.cue --\npackage app\n",
			want: []interpreter.Diagnostic{{Summary: "no language version declared in module.cue"}},
		}, {
			name: "unknown tag", archive: module + "-- app.cue --\npackage app\n", options: `{"tags": ["env=prod"]}`,
			want: []interpreter.Diagnostic{{Summary: `no tag for "env"`}},
		}, {
			name: "no package of one name", archive: module + "-- a.cue --\nx: 1\n",
			want: []interpreter.Diagnostic{{Summary: "build constraints exclude all CUE files in .", Detail: "a.cue: no package name"}},
		}, {
			name: "no package", archive: module + "-- deeper/app.cue --\npackage app\n",
			want: []interpreter.Diagnostic{{Summary: "there is no CUE package in . itself"}},
		}, {
			name: "several packages", archive: module + "-- a.cue --\npackage a\n-- b.cue --\npackage b\n",
			want: []interpreter.Diagnostic{{Summary: "found packages"}},
		}, {
			name: "no object", archive: module + "-- app.cue --\npackage app\n\na: 1\n",
			want: []interpreter.Diagnostic{{Summary: "there is no Kubernetes object in ."}},
		}, {
			name: "no object in the expression", archive: module + "-- app.cue --\npackage app\n\na: 1\n", options: `{"expression": "a"}`,
			want: []interpreter.Diagnostic{{Summary: "there is no Kubernetes object in a of ."}},
		}, {
			name: "an expression that does not parse", archive: module + "-- app.cue --\npackage app\n", options: `{"expression": "a["}`,
			want: []interpreter.Diagnostic{{File: "expression", Line: 1, Column: 3, Summary: "expected"}},
		}, {
			name: "an expression about nothing", archive: module + "-- app.cue --\npackage app\n", options: `{"expression": "gone"}`,
			want: []interpreter.Diagnostic{{File: "expression", Line: 1, Column: 1, Summary: `reference "gone" not found`}},
		}, {
			name: "one object in two shapes",
			archive: module + "-- app.cue --\npackage app\n\n" +
				"a: {apiVersion: \"v1\", kind: \"Secret\", metadata: name: \"x\"}\nb: a & {type: \"Opaque\"}\n",
			want: []interpreter.Diagnostic{{Summary: "v1 Secret x is found at a and at b with different content: select one with 'expression'"}},
		}, {
			name: "commands that disagree",
			archive: module + "-- app.cue --\npackage app\n" +
				"-- x_tool.cue --\npackage app\n\nimport \"encoding/yaml\"\n\n#cm: {apiVersion: \"v1\", kind: \"ConfigMap\", metadata: name: string}\n" +
				"command: a: t: {$id: \"tool/cli.Print\", text: yaml.Marshal(#cm & {metadata: name: \"a\"})}\n" +
				"command: b: t: {$id: \"tool/cli.Print\", text: yaml.Marshal(#cm & {metadata: name: \"b\"})}\n",
			want: []interpreter.Diagnostic{{Summary: "the commands a and b have different objects"}},
		}, {
			name:    "a tag that is not set",
			archive: module + "-- app.cue --\npackage app\n\n_env: string @tag(env)\na: {apiVersion: \"v1\", kind: \"Secret\", metadata: name: _env}\n",
			want:    []interpreter.Diagnostic{{File: "app.cue", Line: 3, Column: 7, Summary: "a.metadata.name: incomplete value string", Detail: "not set: the tag env"}},
		}, {
			name: "a schema in cue.mod", archive: module + "-- app.cue --\npackage app\n\nimport \"k8s.example/schema\"\n\na: schema.#Secret & {metadata: name: 1}\n" +
				"-- cue.mod/gen/k8s.example/schema/types.cue --\npackage schema\n\n#Secret: {apiVersion: \"v1\", kind: \"Secret\", metadata: name: string}\n",
			want: []interpreter.Diagnostic{{File: "app.cue", Line: 5, Column: 4, Summary: "a.metadata.name: conflicting values", Detail: "see app.cue:5:38, cue.mod/gen/k8s.example/schema/types.cue:3:61"}},
		}, {
			name: "what only a schema in cue.mod has", archive: module + "-- app.cue --\npackage app\n\nimport \"k8s.example/schema\"\n\na: schema.#Secret & {type: \"Opaque\"}\n" +
				"-- cue.mod/gen/k8s.example/schema/types.cue --\npackage schema\n\n#Secret: {apiVersion: \"v1\", kind: \"Secret\", metadata: name: string, type: string}\n",
			want: []interpreter.Diagnostic{{File: "app.cue", Line: 5, Column: 1, Summary: "a.metadata.name: incomplete value string", Detail: "see cue.mod/gen/k8s.example/schema/types.cue:3:61"}},
		}, {
			name: "values of what is no Timoni module", options: `{"values": ["v.cue"]}`,
			archive: module + "-- app.cue --\npackage app\n-- v.cue --\nvalues: {}\n",
			want:    []interpreter.Diagnostic{{Summary: "option 'values' is for Timoni modules, and . has none"}},
		}, {
			name: "a bundle with a module elsewhere", path: "b.cue",
			archive: "-- b.cue --\nbundle: {instances: web: {module: url: \"oci://example.com/web\", namespace: \"x\"}}\n",
			want:    []interpreter.Diagnostic{{Summary: "bundle: instance web: oci://example.com/web is not supported: use a module in the tree (file://…); `timoni mod pull` puts one there"}},
		}, {
			name: "a bundle with a module outside", path: "b.cue",
			archive: "-- b.cue --\nbundle: {instances: web: {module: url: \"file://../web\", namespace: \"x\"}}\n",
			want:    []interpreter.Diagnostic{{Summary: "bundle: instance web: there is no module at file://../web"}},
		}, {
			name: "no source", archive: module, path: "gone",
			want: []interpreter.Diagnostic{{Summary: "open gone: no such file"}},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := layOut(t, c.archive)
			path := c.path
			if path == "" {
				path = "."
			}
			resp := render(t, interpreter.RenderRequest{Source: dir, Path: path, Options: json.RawMessage(c.options)})
			if len(resp.Files) > 0 || len(resp.Diagnostics) != len(c.want) {
				t.Fatalf("%d files, diagnostics %+v", len(resp.Files), resp.Diagnostics)
			}
			for i, got := range resp.Diagnostics {
				want := c.want[i]
				if want.Severity = interpreter.Error; !strings.Contains(got.Summary, want.Summary) || want.Detail != "" && !strings.Contains(got.Detail, want.Detail) {
					t.Errorf("got %+v, want %+v", got, want)
				}
				if strings.HasSuffix(got.Summary, ":") {
					t.Errorf("the summary is no sentence: %+v", got)
				}
				if strings.Contains(got.Summary+got.Detail, dir) {
					t.Errorf("the folder is named: %+v", got)
				}
				if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(got, "Summary", "Detail")); diff != "" {
					t.Error(diff)
				}
			}
		})
	}
}

// Inputs are what loading may read, and nothing else.
func TestInputs(t *testing.T) {
	const tree = module + `
-- README.md --
-- top.cue --
package kube
-- apps/kube.cue --
package kube

import "example.com/shop/lib/a"
-- apps/kube_test.cue --
package kube
-- apps/notes.txt --
-- apps/web/web.cue --
package kube
-- apps/web/dump_tool.cue --
package kube

import "acme.org/tools@v1:t"
-- apps/.hidden/x.cue --
package kube
-- lib/lib.cue --
package lib
-- lib/a/a.cue --
@extern(embed)

package a

x: _ @embed(file=x.json)
-- lib/a/x.json --
{}
-- lib/a/y.json --
{}
-- lib/b/b.cue --
@extern(embed)

package b

x: _ @embed(glob=*.json)
-- lib/b/y.json --
{}
-- cue.mod/gen/acme.org/tools/x.cue --
package t
-- cue.mod/gen/example.com/shop/lib/a/types_go_gen.cue --
package a
-- cue.mod/pkg/acme.org/other/x.cue --
package other
`
	mod := []string{"cue.mod/module.cue", "top.cue"}
	for _, c := range []struct {
		name, path, options string
		want                []string
	}{
		{"a package", "apps", `{}`, []string{"apps/kube.cue", "cue.mod/gen/example.com/shop/lib/a/types_go_gen.cue", "lib/a/a.cue", "lib/a/x.json", "lib/lib.cue"}},
		{"one below", "apps/web", `{}`, []string{"apps/kube.cue", "apps/web/dump_tool.cue", "apps/web/web.cue", "cue.mod/gen/acme.org/tools/x.cue", "cue.mod/gen/example.com/shop/lib/a/types_go_gen.cue", "lib/a/a.cue", "lib/a/x.json", "lib/lib.cue"}},
		{"all below", "apps", `{"packages": ["./..."]}`, []string{"apps/kube.cue", "apps/web/dump_tool.cue", "apps/web/web.cue", "cue.mod/gen/acme.org/tools/x.cue", "cue.mod/gen/example.com/shop/lib/a/types_go_gen.cue", "lib/a/a.cue", "lib/a/x.json", "lib/lib.cue"}},
		{"by import path", "apps", `{"packages": ["example.com/shop/lib/b"]}`, []string{"lib/b/b.cue", "lib/lib.cue", "lib/b"}},
		{"by name", "apps", `{"packages": ["./web:kube"]}`, []string{"apps/kube.cue", "apps/web/dump_tool.cue", "apps/web/web.cue", "cue.mod/gen/acme.org/tools/x.cue", "cue.mod/gen/example.com/shop/lib/a/types_go_gen.cue", "lib/a/a.cue", "lib/a/x.json", "lib/lib.cue"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			resp, err := cue.New().Inputs(t.Context(), &interpreter.InputsRequest{Root: layOut(t, tree), Path: c.path, Options: json.RawMessage(c.options)})
			if err != nil {
				t.Fatal(err)
			}
			want := slices.Concat(mod, c.want)
			slices.Sort(want)
			slices.Sort(resp.Paths)
			if diff := cmp.Diff(want, resp.Paths); diff != "" || !resp.Exact {
				t.Errorf("exact is %v, %s", resp.Exact, diff)
			}
		})
	}
	// A single file has no other files of its folder as inputs.
	resp, err := cue.New().Inputs(t.Context(), &interpreter.InputsRequest{Root: layOut(t, tree), Path: "apps/web/web.cue"})
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"apps/web/web.cue", "cue.mod/module.cue"}; !slices.Equal(resp.Paths, want) {
		t.Errorf("inputs of a file: %q, want %q", resp.Paths, want)
	}
}

func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("enough")
	cancel(reason)
	if _, err := cue.New().Render(ctx, &interpreter.RenderRequest{Source: t.TempDir(), Path: ".", Scratch: t.TempDir()}); !errors.Is(err, reason) {
		t.Errorf("error %v", err)
	}
}

// The version is that of the linked module.
func TestVersion(t *testing.T) {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		t.Fatal("no build information")
	}
	for _, dep := range info.Deps {
		if dep.Path == "cuelang.org/go" && dep.Version != "v"+cue.Version {
			t.Errorf("version is %s, linked is %s", cue.Version, dep.Version)
		}
	}
}
