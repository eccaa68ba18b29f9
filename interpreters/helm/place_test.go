// SPDX-License-Identifier: Apache-2.0

package helm

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/taped-dev/tape/plugins/interpreter"
)

// TestNamespace renders one template in a chart and looks at what it becomes.
func TestNamespace(t *testing.T) {
	const web = `{"namespace": "web"}`
	for _, tt := range []struct {
		name, options, template, want string
		said                          string
	}{
		{
			"block", web,
			"apiVersion: v1\nkind: Service\nmetadata:\n  name: a # the name\n  labels: {x: y}\n",
			"apiVersion: v1\nkind: Service\nmetadata:\n  name: a # the name\n  namespace: web\n  labels: {x: y}\n", "",
		},
		{
			"block that begins with a map", web,
			"apiVersion: v1\nkind: Service\nmetadata:\n    labels:\n      x: y\n    name: a\n",
			"apiVersion: v1\nkind: Service\nmetadata:\n    namespace: web\n    labels:\n      x: y\n    name: a\n", "",
		},
		{
			"name of two lines", web,
			"apiVersion: v1\nkind: Service\nmetadata:\n  generateName: a\n    b\n  name: c\n",
			"apiVersion: v1\nkind: Service\nmetadata:\n  namespace: web\n  generateName: a\n    b\n  name: c\n", "",
		},
		{
			"flow", web,
			"{apiVersion: v1, kind: Service, metadata: {name: ä}}\n",
			"{apiVersion: v1, kind: Service, metadata: {\"namespace\": \"web\", name: ä}}\n", "",
		},
		{
			"namespace that YAML reads as a number", `{"namespace": "1234"}`,
			"apiVersion: v1\nkind: Service\nmetadata:\n  name: a\n",
			"apiVersion: v1\nkind: Service\nmetadata:\n  name: a\n  namespace: \"1234\"\n", "",
		},
		{
			"empty namespace", web,
			"apiVersion: v1\nkind: Service\nmetadata:\n  name: a\n  namespace: \"\"\n",
			"apiVersion: v1\nkind: Service\nmetadata:\n  name: a\n  namespace: web\n", "",
		},
		{
			"shared by an alias", web,
			"apiVersion: apps/v1\nkind: Deployment\nmetadata: &m\n  name: a\nspec:\n  template:\n    metadata: *m\n",
			"apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: a\n  namespace: web\nspec:\n  template:\n    metadata:\n      name: a\n", "",
		},
		{
			"list", web,
			"apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Service\n  metadata:\n    name: a\n- apiVersion: v1\n  kind: Node\n  metadata:\n    name: b\n",
			"apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Service\n  metadata:\n    name: a\n    namespace: web\n- apiVersion: v1\n  kind: Node\n  metadata:\n    name: b\n", "",
		},
		{
			"list of one kind", web,
			"apiVersion: v1\nkind: ConfigMapList\nitems:\n- metadata: {name: a}\n- metadata:\n    name: b\n",
			"apiVersion: v1\nkind: ConfigMapList\nitems:\n- metadata: {\"namespace\": \"web\", name: a}\n- metadata:\n    name: b\n    namespace: web\n", "",
		},
		{
			"another namespace stays", web,
			"apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata:\n  name: a\n  namespace: kube-system\n",
			"apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata:\n  name: a\n  namespace: kube-system\n", "",
		},
		{
			"kind of the cluster", web,
			"apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata:\n  name: a\n",
			"apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata:\n  name: a\n", "",
		},
		{
			"kind that the chart defines", web,
			"apiVersion: example.com/v1\nkind: Order\nmetadata:\n  name: a\n",
			"apiVersion: example.com/v1\nkind: Order\nmetadata:\n  name: a\n  namespace: web\n", "",
		},
		{
			"kind of the cluster that the chart defines", web,
			"apiVersion: example.com/v1\nkind: Shop\nmetadata:\n  name: a\n",
			"apiVersion: example.com/v1\nkind: Shop\nmetadata:\n  name: a\n", "",
		},
		{
			"kind that is not known", web,
			"apiVersion: example.com/v1\nkind: Cart\nmetadata:\n  name: a\n",
			"apiVersion: example.com/v1\nkind: Cart\nmetadata:\n  name: a\n",
			"warning: app/templates/x.yaml: Cart a has no namespace, and it is unknown whether a Cart.example.com needs one: the deployer decides; the release's namespace is web",
		},
		{
			"no namespace given, none named", `{}`,
			"apiVersion: v1\nkind: Service\nmetadata:\n  name: a\n",
			"apiVersion: v1\nkind: Service\nmetadata:\n  name: a\n", "",
		},
		{
			"no namespace given, the release's named elsewhere", `{}`,
			"apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata:\n  name: b\nsubjects:\n- namespace: {{ .Release.Namespace }}\n---\napiVersion: v1\nkind: Service\nmetadata:\n  name: a\n",
			"apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata:\n  name: b\nsubjects:\n- namespace: default\n---\napiVersion: v1\nkind: Service\nmetadata:\n  name: a\n  namespace: default\n",
			`info: : no namespace is given, but the chart uses the release's: its objects without one (1) get "default" too; option namespace sets another`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir()
			write(t, filepath.Join(root, "app/Chart.yaml"), "apiVersion: v2\nname: app\nversion: 1.0.0\n")
			write(t, filepath.Join(root, "app/crds/all.yaml"), `apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: orders.example.com}
spec: {group: example.com, names: {kind: Order}, scope: Namespaced}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: shops.example.com}
spec: {group: example.com, names: {kind: Shop}, scope: Cluster}
`)
			write(t, filepath.Join(root, "app/templates/x.yaml"), tt.template)
			resp := rendered(t, &interpreter.RenderRequest{Source: root, Path: "app", Options: json.RawMessage(tt.options)})
			if diff := cmp.Diff(tt.want, file(resp.Files, "templates/x.yaml")); diff != "" {
				t.Errorf("rendered (-want +got):\n%s", diff)
			}
			if got := summaries(resp.Diagnostics); got != tt.said {
				t.Errorf("said %q, want %q", got, tt.said)
			}
		})
	}
}

func file(files []interpreter.File, name string) string {
	for _, f := range files {
		if f.Path == name {
			return string(f.Data)
		}
	}
	return ""
}

func TestCreateNamespace(t *testing.T) {
	root := t.TempDir()
	write(t, filepath.Join(root, "app/Chart.yaml"), "apiVersion: v2\nname: app\nversion: 1.0.0\n")
	write(t, filepath.Join(root, "app/templates/x.yaml"), "{{ if .Values.own }}\napiVersion: v1\nkind: Namespace\nmetadata:\n  name: web\n{{ end }}\n---\napiVersion: v1\nkind: Secret\nmetadata: {name: x}\n")
	for _, tt := range []struct {
		options string
		files   []string
		said    string
	}{
		{`{"namespace": "web", "createNamespace": true}`, []string{"00-namespace.yaml", "templates/x.yaml"}, ""},
		{`{"namespace": "web", "createNamespace": true, "set": ["own=true"]}`, []string{"templates/x.yaml"}, ""},
		{`{"createNamespace": true}`, nil, "error: : option createNamespace needs option namespace, the namespace to create"},
		{`{"namespace": "Web_1"}`, nil, `error: : option namespace: "Web_1" is not a valid namespace: want lower-case letters, digits and dashes`},
	} {
		resp := rendered(t, &interpreter.RenderRequest{Source: root, Path: "app", Options: json.RawMessage(tt.options)})
		if diff := cmp.Diff(tt.files, names(resp.Files)); diff != "" {
			t.Errorf("%s: files (-want +got):\n%s", tt.options, diff)
		}
		if got := summaries(resp.Diagnostics); got != tt.said {
			t.Errorf("%s: said %q, want %q", tt.options, got, tt.said)
		}
	}
}

func TestHooks(t *testing.T) {
	hooks := []string{
		"pre-install", "post-install", "pre-upgrade", "post-upgrade", "pre-delete,post-install",
		"pre-delete", "post-delete", "pre-rollback", "post-rollback", "post-delete, pre-rollback", "test", "test-success",
	}
	root := t.TempDir()
	write(t, filepath.Join(root, "app/Chart.yaml"), "apiVersion: v2\nname: app\nversion: 1.0.0\n")
	write(t, filepath.Join(root, "app/templates/plain.yaml"), "apiVersion: batch/v1\nkind: Job\nmetadata: {name: plain}\n")
	for _, h := range hooks {
		name := strings.NewReplacer(",", "+", " ", "").Replace(h)
		write(t, filepath.Join(root, "app/templates", name+".yaml"),
			"apiVersion: batch/v1\nkind: Job\nmetadata:\n  name: j\n  annotations: {\"helm.sh/hook\": \""+h+"\"}\n")
	}
	for _, tt := range []struct {
		options string
		files   int
		left    []string
	}{
		{`{}`, 6, []string{"post-delete+pre-rollback", "post-delete", "post-rollback", "pre-delete", "pre-rollback", "test-success", "test"}},
		{`{"testHooks": true}`, 8, []string{"post-delete+pre-rollback", "post-delete", "post-rollback", "pre-delete", "pre-rollback"}},
		{`{"hooks": "none"}`, 1, nil},
		{`{"hooks": "none", "testHooks": true}`, 3, nil},
		{`{"hooks": "all"}`, 13, nil},
	} {
		resp := rendered(t, &interpreter.RenderRequest{Source: root, Path: "app", Options: json.RawMessage(tt.options)})
		if len(resp.Files) != tt.files {
			t.Errorf("%s: %d files %v, want %d", tt.options, len(resp.Files), names(resp.Files), tt.files)
		}
		left := map[string]bool{}
		for _, d := range resp.Diagnostics {
			if d.Severity != interpreter.Info || !strings.Contains(d.Summary, "Job j is left out") {
				t.Errorf("%s: said %v", tt.options, d)
			}
			left[strings.TrimSuffix(filepath.Base(d.File), ".yaml")] = true
		}
		want := map[string]bool{}
		for _, h := range tt.left {
			want[h] = true
		}
		if diff := cmp.Diff(want, left); diff != "" {
			t.Errorf("%s: left out (-want +got):\n%s", tt.options, diff)
		}
		for _, f := range resp.Files {
			if got, want := strings.Contains(string(f.Data), `"kustomize.toolkit.fluxcd.io/force": "Enabled"`), f.Path != "templates/plain.yaml"; got != want {
				t.Errorf("%s: %s asks Flux to replace it: %t\n%s", tt.options, f.Path, got, f.Data)
			}
		}
	}
}
