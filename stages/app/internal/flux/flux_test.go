// SPDX-License-Identifier: Apache-2.0

// Package flux_test deploys environments with the code of Flux: it fetches an application as
// source-controller does, and builds each path as kustomize-controller does. It is a separate
// module, so that tape does not depend on Flux and its dependencies.
package flux_test

import (
	"bufio"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fluxcd/pkg/kustomize"
	"github.com/fluxcd/pkg/tar"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// template is a chart of 20 objects.
const template = `{{- range $i := until 9 }}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web{{ $i }}}
spec:
  replicas: {{ $.Values.replicas }}
  selector: {matchLabels: {app: web{{ $i }}}}
  template:
    metadata: {labels: {app: web{{ $i }}}}
    spec: {containers: [{name: web, image: "{{ $.Values.image }}"}]}
---
apiVersion: v1
kind: Service
metadata: {name: web{{ $i }}}
spec: {ports: [{port: 80}]}
{{- end }}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: web}
data: {level: {{ .Values.level }}}
---
apiVersion: v1
kind: Namespace
metadata: {name: shop-{{ .Values.level }}}
`

// TestThreeKustomizations has one root with three environments: the Kustomizations with the
// paths of them apply three different sets, and one with the whole root applies nothing.
func TestThreeKustomizations(t *testing.T) {
	dir := t.TempDir()
	host := serve(t)
	image, err := random.Image(100, 1)
	if err != nil {
		t.Fatal(err)
	}
	ref, err := name.ParseReference(host + "/upstream/web:1")
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, image); err != nil {
		t.Fatal(err)
	}
	for file, data := range map[string]string{
		"shop/Chart.yaml":         "apiVersion: v2\nname: shop\nversion: 1.0.0\n",
		"shop/values.yaml":        "replicas: 1\nlevel: dev\nimage: " + ref.Name() + "\n",
		"shop/stage.yaml":         "level: stage\n",
		"shop/prod.yaml":          "replicas: 3\nlevel: prod\n",
		"shop/templates/all.yaml": template,
		"tape.yaml": `apiVersion: tape/v1
kind: Pipeline
sources: [{name: shop, path: shop}]
environments:
  dev:
  stage: {sources: {shop: {options: {values: [shop/stage.yaml]}}}}
  prod: {sources: {shop: {options: {values: [shop/prod.yaml]}}}}
`,
	} {
		file = filepath.Join(dir, file)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), os.Getenv("TAPE"), "--store", t.TempDir(), "package", "-p", filepath.Join(dir, "tape.yaml"), "-O", host+"/team/shop", "--tag", "v1", "--strict")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}

	levels := map[string]string{}
	for _, environment := range []string{"dev", "stage", "prod"} {
		objects, err := apply(t, host+"/team/shop:v1", "./"+environment)
		if err != nil {
			t.Fatalf("%s: %v", environment, err)
		}
		if len(objects) != 20 {
			t.Errorf("%s has %d objects: %q", environment, len(objects), objects)
		}
		levels[environment] = objects["ConfigMap web"]
		if want := "kind: Namespace\nmetadata:\n  name: shop-" + environment; !strings.Contains(objects["Namespace shop-"+environment], want) {
			t.Errorf("%s has objects %q", environment, slices.Sorted(maps.Keys(objects)))
		}
	}
	for environment, text := range levels {
		if !strings.Contains(text, "level: "+environment) {
			t.Errorf("%s: %s", environment, text)
		}
	}
	if _, err := apply(t, host+"/team/shop:v1", "./"); err == nil || !strings.Contains(err.Error(), "may not add resource with an already registered id") {
		t.Errorf("the whole root: %v", err)
	}
}

// apply fetches the root and builds a path of it, as a Kustomization does.
func apply(t *testing.T, reference, path string) (map[string]string, error) {
	t.Helper()
	ref, err := name.ParseReference(reference)
	if err != nil {
		t.Fatal(err)
	}
	image, err := remote.Image(ref)
	if err != nil {
		t.Fatal(err)
	}
	layers, err := image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	content, err := layers[0].Compressed()
	if err != nil {
		t.Fatal(err)
	}
	defer content.Close()
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := tar.Untar(content, root, tar.WithMaxUntarSize(-1)); err != nil {
		t.Fatal(err)
	}
	spec := unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization",
		"metadata": map[string]any{"name": "shop", "namespace": "flux-system"},
		"spec":     map[string]any{"path": path, "prune": true},
	}}
	at := filepath.Join(root, path)
	if _, err := kustomize.NewGenerator(root, spec).WriteFile(at); err != nil {
		return nil, err
	}
	built, err := kustomize.SecureBuild(root, at, false)
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for _, r := range built.Resources() {
		out[r.GetKind()+" "+r.GetName()] = r.MustYaml()
	}
	return out, nil
}

// serve starts a registry and returns its host.
func serve(t *testing.T) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Getenv("TAPE"), "registry", "serve", "--addr", "127.0.0.1:0", "--data", t.TempDir())
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(fmt.Errorf("start %q, which TAPE names: %w", os.Getenv("TAPE"), err))
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if _, host, ok := strings.Cut(lines.Text(), " at "); ok {
			return strings.TrimSpace(host)
		}
	}
	t.Fatal("the registry did not start")
	return ""
}
