// SPDX-License-Identifier: Apache-2.0

package kustomize

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/taped-dev/tape/plugins/conformance"
	"github.com/taped-dev/tape/plugins/interpreter"
)

func TestConformance(t *testing.T) {
	if err := conformance.Check(t.Context(), New(), conformance.Options{Cases: os.DirFS("testdata")}); err != nil {
		t.Fatal(err)
	}
}

// TestErrors compares the diagnostics of faulty kustomizations with the `# want: file:line:
// summary` lines of testdata/errors.
func TestErrors(t *testing.T) {
	cases, err := filepath.Glob("testdata/errors/*.txtar")
	if err != nil || len(cases) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, file := range cases {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			c := readCase(t, file)
			resp := rendered(t, &interpreter.RenderRequest{Source: c.root, Path: c.path})
			if diff := cmp.Diff(c.want, summaries(resp.Diagnostics)); diff != "" {
				t.Errorf("diagnostics (-want +got):\n%s", diff)
			}
			if len(resp.Files) > 0 {
				t.Errorf("%d files beside errors", len(resp.Files))
			}
		})
	}
}

// testCase writes a case of the conformance kit to a folder.
type testCase struct {
	root, path string
	want       []string
}

func readCase(t *testing.T, file string) testCase {
	t.Helper()
	a, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	c := testCase{root: t.TempDir(), path: "."}
	for line := range strings.Lines(string(a.Comment)) {
		line = strings.TrimSuffix(line, "\n")
		if v, ok := strings.CutPrefix(line, "path: "); ok {
			c.path = v
		}
		if v, ok := strings.CutPrefix(line, "# want: "); ok {
			c.want = append(c.want, v)
		}
	}
	for _, f := range a.Files {
		if name, ok := strings.CutPrefix(f.Name, "in/"); ok {
			write(t, filepath.Join(c.root, name), string(f.Data))
		}
	}
	return c
}

func write(t *testing.T, file, data string) {
	t.Helper()
	err := os.MkdirAll(filepath.Dir(file), 0o755)
	if err == nil {
		err = os.WriteFile(file, []byte(data), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func symlink(t *testing.T, name, target string) {
	t.Helper()
	err := os.MkdirAll(filepath.Dir(name), 0o755)
	if err == nil {
		err = os.Symlink(target, name)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func rendered(t *testing.T, req *interpreter.RenderRequest) *interpreter.RenderResponse {
	t.Helper()
	req.Scratch = t.TempDir()
	resp, err := New().Render(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

func summaries(all []interpreter.Diagnostic) []string {
	var out []string
	for _, d := range all {
		at := d.File
		if d.Line > 0 {
			at += fmt.Sprintf(":%d", d.Line)
		}
		out = append(out, at+": "+d.Summary)
	}
	return out
}

func TestVersionIsThatOfTheModule(t *testing.T) {
	data, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	if want := "sigs.k8s.io/kustomize/api v" + Version + "\n"; !strings.Contains(string(data), want) {
		t.Errorf("go.mod does not require %s", want)
	}
}

func TestInputs(t *testing.T) {
	overlay := readCase(t, "testdata/overlay.txtar")
	plugins := readCase(t, "testdata/plugins.txtar")
	other := t.TempDir()
	write(t, filepath.Join(other, "app/kustomization.yaml"), `
resources: [../../outside, linked.yaml, linked, https://github.com/org/repo, https://files.invalid/a.yaml]
crds: [crd.json]
configurations: [config.yaml]
openapi: {path: openapi.json}
patchesStrategicMerge: [old.yaml, "{apiVersion: v1, kind: ConfigMap, metadata: {name: a}}"]
patchesJson6902: [{path: json6902.yaml, target: {kind: ConfigMap, name: a, version: v1}}]
replacements: [{path: replacement.yaml}]
secretGenerator: [{name: s, env: old.env}]
`)
	for _, name := range []string{"crd.json", "config.yaml", "openapi.json", "old.yaml", "json6902.yaml", "replacement.yaml", "old.env", "unused.yaml"} {
		write(t, filepath.Join(other, "app", name), "{}")
	}
	write(t, filepath.Join(other, "app/real.yaml"), "{}")
	symlink(t, filepath.Join(other, "app/linked.yaml"), "real.yaml")
	write(t, filepath.Join(other, "base/kustomization.yaml"), "resources: [a.yaml]\n")
	write(t, filepath.Join(other, "base/a.yaml"), "{}")
	symlink(t, filepath.Join(other, "app/linked"), "../base")

	for _, tt := range []struct {
		name, root, path string
		want             []string
	}{
		{"overlay", overlay.root, overlay.path, []string{
			"base/deployment.yaml", "base/kustomization.yaml", "base/service.yaml", "base/settings.env",
			"components/sidecar/kustomization.yml", "components/sidecar/sidecar.yaml",
			"overlays/prod/files/page.html", "overlays/prod/kustomization.yaml", "overlays/prod/namespace.yaml", "overlays/prod/patches/port.yaml",
		}},
		{"plugins", plugins.root, plugins.path, []string{
			"app", "app/all.yaml", "app/generator.yaml", "app/kustomization.yaml", "app/transformers/kustomization.yaml", "app/transformers/patch.yaml",
		}},
		{"every field", other, "app", []string{
			"../outside", "app/config.yaml", "app/crd.json", "app/json6902.yaml", "app/kustomization.yaml", "app/linked", "app/linked.yaml",
			"app/old.env", "app/old.yaml", "app/openapi.json", "app/real.yaml", "app/replacement.yaml", "base", "base/a.yaml", "base/kustomization.yaml",
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := New().Inputs(t.Context(), &interpreter.InputsRequest{Root: tt.root, Path: tt.path})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(&interpreter.InputsResponse{Paths: tt.want, Exact: true}, got); diff != "" {
				t.Errorf("inputs (-want +got):\n%s", diff)
			}
		})
	}
}

func TestOptionsAreRefused(t *testing.T) {
	root := t.TempDir()
	write(t, filepath.Join(root, "kustomization.yaml"), "resources: []\n")
	resp := rendered(t, &interpreter.RenderRequest{Source: root, Path: ".", Options: json.RawMessage(`{"enableHelm": true}`)})
	if diff := cmp.Diff([]string{`: options: unknown field "enableHelm"`}, summaries(resp.Diagnostics)); diff != "" {
		t.Errorf("diagnostics (-want +got):\n%s", diff)
	}
}

func TestRenderSideBySide(t *testing.T) {
	cases, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for _, file := range cases {
		c := readCase(t, file)
		want := rendered(t, &interpreter.RenderRequest{Source: c.root, Path: c.path})
		for range 4 {
			wg.Go(func() {
				resp, err := New().Render(t.Context(), &interpreter.RenderRequest{Source: c.root, Path: c.path})
				if err != nil {
					t.Error(err)
				} else if diff := cmp.Diff(want, resp); diff != "" {
					t.Errorf("%s (-alone +side by side):\n%s", file, diff)
				}
			})
		}
	}
	wg.Wait()
}

// An openapi schema defines how lists of a custom resource are merged; kyaml keeps it in a
// global.
func TestSchemaIsForgotten(t *testing.T) {
	root := t.TempDir()
	const kustomization = "resources: [widget.yaml]\npatches: [{path: patch.yaml}]\n"
	for _, dir := range []string{"with", "without"} {
		write(t, filepath.Join(root, dir, "widget.yaml"), "apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: a}\nparts: [{name: a, size: 1}]\n")
		write(t, filepath.Join(root, dir, "patch.yaml"), "apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: a}\nparts: [{name: b, size: 2}]\n")
		write(t, filepath.Join(root, dir, "kustomization.yaml"), kustomization)
	}
	write(t, filepath.Join(root, "with/kustomization.yaml"), kustomization+"openapi: {path: schema.json}\n")
	write(t, filepath.Join(root, "with/schema.json"), `{"definitions": {"com.example.v1.Widget": {
		"properties": {"parts": {"type": "array", "items": {"type": "object"}, "x-kubernetes-patch-merge-key": "name", "x-kubernetes-patch-strategy": "merge"}},
		"x-kubernetes-group-version-kind": [{"group": "example.com", "version": "v1", "kind": "Widget"}]}}}`)
	for range 2 {
		for dir, want := range map[string]int{"with": 2, "without": 1} {
			resp := rendered(t, &interpreter.RenderRequest{Source: root, Path: dir})
			if len(resp.Files) != 1 {
				t.Fatalf("%s: %v", dir, summaries(resp.Diagnostics))
			}
			if got := strings.Count(string(resp.Files[0].Data), "size:"); got != want {
				t.Errorf("%s a schema: %d parts, want %d:\n%s", dir, got, want, resp.Files[0].Data)
			}
		}
	}
}

// The example shows the output documented in docs/interpreters/kustomize.md.
func TestExample(t *testing.T) {
	root, path := "../../examples/kustomize", "overlays/prod"
	in, err := New().Inputs(t.Context(), &interpreter.InputsRequest{Root: root, Path: path})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"base/deployment.yaml", "base/kustomization.yaml", "base/service.yaml",
		"components/metrics/kustomization.yaml", "components/metrics/sidecar.yaml",
		"overlays/prod/catalog.env", "overlays/prod/kustomization.yaml", "overlays/prod/namespace.yaml",
	}
	if diff := cmp.Diff(&interpreter.InputsResponse{Paths: want, Exact: true}, in); diff != "" {
		t.Errorf("inputs (-want +got):\n%s", diff)
	}
	resp := rendered(t, &interpreter.RenderRequest{Source: root, Path: path})
	var names, origins []string
	for _, f := range resp.Files {
		names, origins = append(names, f.Path), append(origins, f.Origin)
	}
	if diff := cmp.Diff([]string{"overlays/prod/namespace.yaml", "overlays/prod/kustomization.yaml", "base/service.yaml", "base/deployment.yaml"}, origins); diff != "" {
		t.Errorf("origins (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"00-namespace-shop.yaml", "configmap-catalog-8d858chtkd.yaml", "service-catalog.yaml", "deployment-catalog.yaml"}, names); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}
