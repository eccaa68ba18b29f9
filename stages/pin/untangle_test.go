// SPDX-License-Identifier: Apache-2.0

package pin_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestPinAnchors checks that text that an anchor makes both an image and something else
// is only changed where it is an image.
func TestPinAnchors(t *testing.T) {
	deployment := func(rest string) string { return "apiVersion: apps/v1\nkind: Deployment\n" + rest }
	latest := ref("docker.io/library/nginx:latest", "nginx.latest")
	written := written("docker.io/library/nginx:1", ":1")
	for _, c := range []struct {
		name, in, want string
		left           int // references that stay
	}{
		{"a name, labels and a selector",
			deployment("metadata: {name: &app nginx, labels: {app: *app}}\nspec: {selector: {matchLabels: {app: *app}}, template: {spec: {containers: [{name: *app, image: *app}]}}}\n"),
			deployment("metadata: {name: &app nginx, labels: {app: *app}}\nspec: {selector: {matchLabels: {app: *app}}, template: {spec: {containers: [{name: *app, image: " + latest + "}]}}}\n"), 0},
		{"an image that a label repeats", deployment("spec: {containers: [{image: &i nginx:1}]}\nmetadata: {annotations: {of: *i}, labels: {of: *i}}\n"),
			deployment("spec: {containers: [{image: &i nginx:1}]}\nmetadata: {annotations: {of: *i}, labels: {of: *i}}\n"), 1},
		{"a key", deployment("metadata: {annotations: {&k nginx: x}}\nspec: {containers: [{image: *k}]}\n"),
			deployment("metadata: {annotations: {&k nginx: x}}\nspec: {containers: [{image: " + latest + "}]}\n"), 0},
		{"a key that is an alias", deployment("spec: {containers: [{image: &k nginx}]}\nmetadata: {annotations: {? *k : x}}\n"),
			deployment("spec: {containers: [{image: &k nginx}]}\nmetadata: {annotations: {? *k : x}}\n"), 1},
		{"a merged map", deployment("metadata: {labels: &l {image: 'nginx:1'}}\nspec: {containers: [{<<: *l}]}\n"),
			deployment("metadata: {labels: &l {image: 'nginx:1'}}\nspec: {containers: [{<<: *l}]}\n"), 1},
		{"an alias in a map that is repeated", deployment("metadata: {name: &n nginx}\nspec: {containers: [&c {image: *n}, *c]}\n"),
			deployment("metadata: {name: &n nginx}\nspec: {containers: [&c {image: *n}, *c]}\n"), 1},
		{"two roles", deployment("spec: {containers: [{image: &i 'nginx:1', env: [{name: X_IMAGE, value: *i}]}]}\n"),
			deployment("spec: {containers: [{image: &i '" + written + "', env: [{name: X_IMAGE, value: *i}]}]}\n"), 0},
		{"a role that is never pinned", "apiVersion: build.openshift.io/v1\nkind: BuildConfig\nspec:\n  output: {to: {kind: DockerImage, name: &out 'nginx:1'}}\n  strategy: {sourceStrategy: {from: {kind: DockerImage, name: *out}}}\n",
			"apiVersion: build.openshift.io/v1\nkind: BuildConfig\nspec:\n  output: {to: {kind: DockerImage, name: &out 'nginx:1'}}\n  strategy: {sourceStrategy: {from: {kind: DockerImage, name: " + written + "}}}\n", 0},
		{"with a scheme and without", "apiVersion: extensions.istio.io/v1\nkind: WasmPlugin\nspec: {url: &u 'oci://docker.io/library/nginx:1', image: *u}\n",
			"apiVersion: extensions.istio.io/v1\nkind: WasmPlugin\nspec: {url: &u 'oci://docker.io/library/nginx:1', image: *u}\n", 1},
		{"an argument", deployment("spec: {containers: [{args: [&a --image=nginx:1], command: [*a]}]}\nmetadata: {labels: {a: *a}}\n"),
			deployment("spec: {containers: [{args: [&a --image=nginx:1], command: [*a]}]}\nmetadata: {labels: {a: *a}}\n"), 1},
		{"fields of a custom resource", "apiVersion: x.io/v1\nkind: X\nspec: {name: &i docker.io/library/nginx:1, sidecarImage: *i, version: *i, nodeSelector: {x: *i}, env: [{name: X_IMAGE, value: *i}]}\n",
			"apiVersion: x.io/v1\nkind: X\nspec: {name: &i docker.io/library/nginx:1, sidecarImage: " + written + ", version: *i, nodeSelector: {x: *i}, env: [{name: X_IMAGE, value: " + written + "}]}\n", 1},
		{"an image of a custom resource that a title repeats", "apiVersion: x.io/v1\nkind: X\nspec: {sidecarImage: &i 'docker.io/library/nginx:1', title: *i}\n",
			"apiVersion: x.io/v1\nkind: X\nspec: {sidecarImage: &i 'docker.io/library/nginx:1', title: *i}\n", 1},
		{"a key in a document in a string", "apiVersion: v1\nkind: ConfigMap\ndata:\n  x: |\n    image: &i docker.io/library/nginx:1\n    key: *i\n",
			"apiVersion: v1\nkind: ConfigMap\ndata:\n  x: |\n    image: &i docker.io/library/nginx:1\n    key: *i\n", 1},
		{"in a document in a string", "apiVersion: v1\nkind: ConfigMap\ndata:\n  x: |\n    name: &n nginx\n    image: *n\n",
			"apiVersion: v1\nkind: ConfigMap\ndata:\n  x: |\n    name: &n nginx\n    image: " + strings.Replace(written, ":1@", "@", 1) + "\n", 0},
		{"a document that is repeated", "apiVersion: v1\nkind: ConfigMap\ndata:\n  x: &x |\n    image: nginx:1\n  y: *x\n",
			"apiVersion: v1\nkind: ConfigMap\ndata:\n  x: &x |\n    image: " + written + "\n  y: *x\n", 0},
		{"a part that is a version as well", "apiVersion: helm.toolkit.fluxcd.io/v2\nkind: HelmRelease\nspec: {values: {image: {repository: docker.io/library/nginx, tag: &v 1}, version: *v}}\n",
			"apiVersion: helm.toolkit.fluxcd.io/v2\nkind: HelmRelease\nspec: {values: {image: {repository: docker.io/library/nginx, tag: &v 1}, version: *v}}\n", 1},
		{"a part that does not change", "apiVersion: helm.toolkit.fluxcd.io/v2\nkind: HelmRelease\nspec: {values: {image: {repository: docker.io/library/nginx, tag: &v 1, digest: ''}, version: *v}}\n",
			"apiVersion: helm.toolkit.fluxcd.io/v2\nkind: HelmRelease\nspec: {values: {image: {repository: " + repository + ", tag: &v 1, digest: '" + written[len(repository)+len(":1@"):] + "'}, version: *v}}\n", 0},
		{"parts of two images", "apiVersion: helm.toolkit.fluxcd.io/v2\nkind: HelmRelease\nspec: {values: {a: {image: {registry: &r docker.io, repository: library/nginx, tag: &v 1}}, b: {image: {registry: *r, repository: library/nginx, tag: *v}}}}\n",
			"apiVersion: helm.toolkit.fluxcd.io/v2\nkind: HelmRelease\nspec: {values: {a: {image: {registry: &r registry.example.com:5000, repository: team/app, tag: &v " + written[len(repository)+1:] + "}}, b: {image: {registry: *r, repository: team/app, tag: *v}}}}\n", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			// The digest of nginx without a tag is that of nginx:latest.
			want := c.want
			if c.name == "in a document in a string" {
				want = strings.ReplaceAll(want, written[len(repository)+len(":1@"):], latest[strings.Index(latest, "sha256:"):])
			}
			got, edits := run(t, c.in)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
			left := 0
			for _, u := range edits.Unpinned {
				left += len(u.Locations)
			}
			if c.left == 0 && left > 0 || c.left > 0 && left == 0 {
				t.Errorf("left: %s", fmt.Sprint(edits.Unpinned))
			}
			if len(edits.Files) > 0 {
				if before, err := edits.Files[0].Undo([]byte(got)); err != nil || string(before) != c.in {
					t.Errorf("undone: %q, %v", before, err)
				}
			}
			if again, edits := run(t, got); again != got || len(edits.Files) != 0 {
				t.Errorf("pinned twice: %s", cmp.Diff(got, again))
			}
		})
	}
}
