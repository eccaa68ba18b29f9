// SPDX-License-Identifier: Apache-2.0

//go:build deployers

package deployers_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/taped-dev/tape/engine/content/registry/registrytest"
)

// kinds are those of the objects of the chart that writeShop writes, environments its environments.
const kinds = "namespaces,configmaps,services,deployments"

var environments = []string{"dev", "stage", "prod"}

// tape runs what make built, and returns its results.
func tape(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Getenv("TAPE"), append([]string{"--store", t.TempDir()}, args...)...)
	cmd.Env = append(os.Environ(), "COSIGN_PASSWORD=")
	var log bytes.Buffer
	cmd.Stderr = &log
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("tape %q: %v\n%s%s", args, err, out, log.Bytes())
	}
	return string(out)
}

// digest returns the digest of the root that a tag leads to.
func digest(t *testing.T, ref string) string {
	t.Helper()
	var view struct{ Root struct{ Digest string } }
	if err := json.Unmarshal([]byte(tape(t, "view", ref, "-o", "json")), &view); err != nil {
		t.Fatal(err)
	}
	return view.Root.Digest
}

// newKey makes a key pair, and returns its path without the endings .key and .pub.
func newKey(t *testing.T, dir, name string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	tape(t, "sign", "--generate-key", path)
	return path
}

// writeShop writes a chart of 20 objects and a pipeline with three environments of it, and returns
// the pipeline.
func writeShop(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "shop/Chart.yaml"), "apiVersion: v2\nname: shop\nversion: 1.0.0\n")
	write(t, filepath.Join(dir, "shop/values.yaml"), "replicas: 1\nimage: "+registrytest.Serve(t, &registrytest.Upstream{})+"/acme/web:1\n")
	write(t, filepath.Join(dir, "shop/prod.yaml"), "replicas: 3\n")
	write(t, filepath.Join(dir, "shop/templates/all.yaml"), `{{- range $i := until 9 }}
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
data: {level: {{ .Release.Namespace }}}
`)
	pipeline := filepath.Join(dir, "tape.yaml")
	write(t, pipeline, `apiVersion: tape/v1
kind: Pipeline
sources: [{name: shop, path: shop, options: {createNamespace: true}}]
environments:
  dev: {sources: {shop: {options: {namespace: shop-dev}}}}
  stage: {sources: {shop: {options: {namespace: shop-stage}}}}
  prod: {sources: {shop: {options: {namespace: shop-prod, values: [shop/prod.yaml]}}}}
`)
	return pipeline
}

// checkShop fails the test unless the objects are those of one environment, whose images are in the
// repository.
func checkShop(t *testing.T, objects map[string]object, env, repository string) {
	t.Helper()
	replicas := 1
	if env == "prod" {
		replicas = 3
	}
	if len(objects) != 20 {
		t.Errorf("%s has %d objects", env, len(objects))
	}
	if _, ok := objects["Namespace shop-"+env]; !ok {
		t.Errorf("%s has no Namespace", env)
	}
	if level := objects["ConfigMap shop-"+env+"/web"].Data["level"]; level != "shop-"+env {
		t.Errorf("%s: the ConfigMap says %q", env, level)
	}
	for i := range 9 {
		name := fmt.Sprintf("shop-%s/web%d", env, i)
		if _, ok := objects["Service "+name]; !ok {
			t.Errorf("there is no Service %s", name)
		}
		spec := objects["Deployment "+name].Spec
		containers := spec.Template.Spec.Containers
		if spec.Replicas != replicas || len(containers) != 1 || !strings.HasPrefix(containers[0].Image, repository+":") || !strings.Contains(containers[0].Image, "@sha256:") {
			t.Errorf("Deployment %s is %+v", name, spec)
		}
	}
}
