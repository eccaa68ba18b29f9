// SPDX-License-Identifier: Apache-2.0

package kustomize

import (
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/taped-dev/tape/plugins/interpreter"
)

// Recording origins has no effect on the output or on errors.
func TestOriginsLeaveTheBuildAsItIs(t *testing.T) {
	const (
		bare   = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\n"
		origin = "metadata:\n  annotations:\n    config.kubernetes.io/origin: |\n      path: a.yaml\n  name: a\n"
		json   = "patches:\n- target: {kind: ConfigMap}\n  patch: |\n    - {op: add, path: "
	)
	for _, test := range []struct{ name, kustomization, object, want, origin string }{
		{"plain", "resources: [a.yaml]\n", bare, bare, "k/a.yaml"},
		{"flow", "{resources: [a.yaml]}\n", bare, bare, "k/a.yaml"},
		{"no metadata wanted", "resources: [a.yaml]\nbuildMetadata:\n", bare, bare, "k/a.yaml"},
		{"origins wanted", "resources: [a.yaml]\nbuildMetadata: [originAnnotations]\n", bare, "apiVersion: v1\nkind: ConfigMap\n" + origin, "k/a.yaml"},
		{"patch of the first annotation", "resources: [a.yaml]\n" + json + "/metadata/annotations/x, value: z}\n", bare,
			"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  annotations:\n    x: z\n  name: a\n", "k/a.yaml"},
		{"test that fails", "resources: [a.yaml]\npatches:\n- target: {kind: ConfigMap}\n  patch: |\n    - {op: test, path: /metadata/annotations/config.kubernetes.io~1origin, value: \"path: a.yaml\\n\"}\n", bare, "", ""},
		{"copy of metadata", "resources: [a.yaml]\npatches:\n- target: {kind: ConfigMap}\n  patch: |\n    - {op: copy, from: /metadata, path: /data}\n", bare,
			"apiVersion: v1\ndata:\n  annotations:\n    internal.config.kubernetes.io/previousKinds: ConfigMap\n    internal.config.kubernetes.io/previousNames: a\n    internal.config.kubernetes.io/previousNamespaces: default\n  name: a\nkind: ConfigMap\nmetadata:\n  name: a\n", "k/a.yaml"},
		{"selector of annotations", "resources: [a.yaml]\npatches:\n- target: {annotationSelector: config.kubernetes.io/origin}\n  patch: |\n    - {op: add, path: /data, value: {x: y}}\n", bare, bare, "k/a.yaml"},
		{"the kustomization as content", "resources: []\ngeneratorOptions: {disableNameSuffixHash: true}\nconfigMapGenerator: [{name: a, files: [kustomization.yaml]}]\n", "",
			"apiVersion: v1\ndata:\n  kustomization.yaml: |\n    resources: []\n    generatorOptions: {disableNameSuffixHash: true}\n    configMapGenerator: [{name: a, files: [kustomization.yaml]}]\nkind: ConfigMap\nmetadata:\n  name: a\n", "k/kustomization.yaml"},
	} {
		t.Run(test.name, func(t *testing.T) {
			root := t.TempDir()
			write(t, filepath.Join(root, "k/kustomization.yaml"), test.kustomization)
			write(t, filepath.Join(root, "k/a.yaml"), test.object)
			resp, err := New().Render(t.Context(), &interpreter.RenderRequest{Source: root, Path: "k"})
			if err != nil {
				t.Fatal(err)
			}
			if test.want == "" {
				if len(resp.Diagnostics) == 0 {
					t.Fatal("it renders, and kustomize does not")
				}
				return
			}
			want := []interpreter.File{{Path: "configmap-a.yaml", Mode: 0o644, Origin: test.origin, Data: []byte(test.want)}}
			if diff := cmp.Diff(want, resp.Files); diff != "" || len(resp.Diagnostics) > 0 {
				t.Errorf("files (-want +got):\n%s%v", diff, resp.Diagnostics)
			}
		})
	}
}
