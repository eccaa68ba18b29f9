// SPDX-License-Identifier: Apache-2.0

package app

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/taped-dev/tape/stages/artifact"
	"github.com/taped-dev/tape/stages/images"
)

// TestObjectMatters checks what is reported about an object: only what it may do in addition.
func TestObjectMatters(t *testing.T) {
	pod := func(spec string) string {
		return `{"apiVersion":"apps/v1","kind":"DaemonSet","metadata":{"name":"x"},"spec":{"template":{"spec":` + spec + `}}}`
	}
	role := func(rules string) string {
		return `{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRole","metadata":{"name":"x"},"rules":[` + rules + `]}`
	}
	binding := func(subjects string) string {
		return `{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRoleBinding","metadata":{"name":"x"},"roleRef":{"kind":"ClusterRole","name":"admin"},"subjects":[` + subjects + `]}`
	}
	hooks := func(list string) string {
		return `{"apiVersion":"admissionregistration.k8s.io/v1","kind":"ValidatingWebhookConfiguration","metadata":{"name":"x"},"webhooks":[` + list + `]}`
	}
	for _, tt := range []struct {
		name, before, after string
		want                []string
	}{
		{
			"a pod that reaches into its node", pod(`{"containers":[{"name":"a"}]}`),
			pod(`{"hostNetwork":true,"hostPID":true,"hostIPC":true,"volumes":[{"name":"v","hostPath":{"path":"/"}}],"containers":[{"name":"a","ports":[{"hostPort":53}],"securityContext":{"privileged":true,"runAsUser":0,"allowPrivilegeEscalation":true,"capabilities":{"add":["SYS_ADMIN"]}}}]}`),
			[]string{
				"uses the network of its node", "sees the processes of its node", "shares the memory of its node's processes", "mounts / of its node",
				"container a is privileged", "container a may gain privileges", "container a runs as root", "container a has the capability SYS_ADMIN", "container a listens on port 53 of its node",
			},
		},
		{
			"guards that went", pod(`{"securityContext":{"runAsNonRoot":true},"initContainers":[{"name":"i","securityContext":{"readOnlyRootFilesystem":true}}],"containers":[{"name":"a","securityContext":{"readOnlyRootFilesystem":true,"allowPrivilegeEscalation":false,"capabilities":{"drop":["ALL"]}}}]}`),
			pod(`{"containers":[{"name":"a"}]}`),
			[]string{"container a may run as root now", "container a may write to its file system now", "container a may gain privileges now", "container a keeps capabilities that it dropped before"},
		},
		{"as before", pod(`{"hostNetwork":true,"containers":[{"name":"a"}]}`), pod(`{"containers":[{"name":"a"}],"hostNetwork":true}`), nil},
		{
			"rights that grew", role(`{"apiGroups":[""],"resources":["pods"],"verbs":["get"]},{"apiGroups":["apps"],"resources":["*"],"verbs":["*"]}`),
			role(`{"apiGroups":[""],"resources":["pods","secrets"],"verbs":["get","list"]},{"apiGroups":["apps"],"resources":["deployments"],"verbs":["patch"]},{"nonResourceURLs":["/metrics"],"verbs":["get"]}`),
			[]string{"may get /metrics", "may get, list secrets", "may list pods"},
		},
		{"rights that shrank", role(`{"apiGroups":["*"],"resources":["*"],"verbs":["*"]}`), role(`{"apiGroups":[""],"resources":["pods"],"resourceNames":["a"],"verbs":["get"]}`), nil},
		{"all rights", "", role(`{"apiGroups":["*"],"resources":["*"],"verbs":["*"]}`), []string{"may do everything with every resource"}},
		{
			"another subject", binding(`{"kind":"User","name":"a"}`), binding(`{"kind":"User","name":"a"},{"kind":"ServiceAccount","namespace":"n","name":"b"}`),
			[]string{"gives ClusterRole admin to ServiceAccount n/b"},
		},
		{"a webhook", "", `{"apiVersion":"admissionregistration.k8s.io/v1","kind":"MutatingWebhookConfiguration","metadata":{"name":"x"}}`, []string{"is a new webhook that changes objects"}},
		{
			"rights by group", "", role(`{"apiGroups":["ex.io"],"resources":["a","b"],"verbs":["get"]},{"apiGroups":[""],"resources":["pods"],"verbs":["get"]},{"apiGroups":[""],"resources":["secrets"],"resourceNames":["x","y"],"verbs":["get"]},{"apiGroups":["apps"],"resources":["*"],"verbs":["list"]}`),
			[]string{"may get pods, secrets called x or y; a, b of ex.io", "may list everything of apps"},
		},
		{
			"webhooks of a configuration that was there", hooks(`{"name":"a","failurePolicy":"Ignore"},{"name":"gone"}`), hooks(`{"name":"a"},{"name":"b"}`),
			[]string{"lets no request pass any more while its webhook a does not answer", "has the new webhook b, which refuses objects"},
		},
		{"a service", `{"apiVersion":"v1","kind":"Service","metadata":{"name":"x"}}`, `{"apiVersion":"v1","kind":"Service","metadata":{"name":"x"},"spec":{"type":"NodePort"}}`, []string{"is reachable from outside the cluster (NodePort)"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var before, after any
			var key ObjectKey
			if tt.before != "" {
				for _, data := range parseObjects(t, tt.before) {
					if err := decodeJSON(data, &before); err != nil {
						t.Fatal(err)
					}
				}
			}
			for k, data := range parseObjects(t, tt.after) {
				key = k
				if err := decodeJSON(data, &after); err != nil {
					t.Fatal(err)
				}
			}
			var got []string
			for _, m := range objectMatters(key, before, after) {
				got = append(got, m.Text)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestImageMatters checks that a new registry, another version and a missing signature are
// reported, the most important first.
func TestImageMatters(t *testing.T) {
	image := func(name string, kinds ...string) artifact.ViewImage {
		i := artifact.ViewImage{Name: name, Digest: digest.FromString(name)}
		for _, kind := range kinds {
			i.Related = append(i.Related, images.Related{Kind: kind})
		}
		return i
	}
	a := []artifact.ViewImage{image("a.io/web:1", images.Signature, images.SBOM), image("a.io/db:1", images.Signature), image("a.io/redis:1")}
	b := []artifact.ViewImage{image("a.io/web:2", images.SBOM), image("a.io/db:2", images.Signature), image("b.io/new:1"), image("b.io/cache/redis:2")}
	matters := imageMatters(a, b, diffImages(a, b))
	sortMatters(matters)
	var got []string
	for _, m := range matters {
		got = append(got, string(m.What)+" "+m.Subject()+" "+m.Text)
	}
	want := []string{
		"registry b.io/new:1 comes from b.io, a registry that no image came from before",
		"evidence a.io/web:2 has no signature any more",
		"image b.io/cache/redis:2 is new, in place of a.io/redis:1",
		"image b.io/new:1 is new",
		"version a.io/db:2 was 1, and is 2",
		"version a.io/web:2 was 1, and is 2",
	}
	if !slices.Equal(got, want) {
		t.Error(cmp.Diff(want, got))
	}
}

// TestGone checks that objects whose deletion deletes others are reported first, and that an
// object that moved to another namespace is removed from the first and grants its rights anew in
// the second.
func TestGone(t *testing.T) {
	matters := []Matter{removed(ObjectKey{Kind: "ConfigMap", Name: "a"}), removed(ObjectKey{Group: "ex.io", Kind: "Namespace", Name: "a"}), removed(ObjectKey{Group: "apiextensions.k8s.io", Kind: "CustomResourceDefinition", Name: "b"}), removed(ObjectKey{Kind: "Namespace", Name: "c"})}
	binding := func(namespace string) []byte {
		return []byte(`{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"RoleBinding","metadata":{"name":"x","namespace":"` + namespace + `"},"roleRef":{"kind":"Role","name":"r"},"subjects":[{"kind":"User","name":"u"}]}`)
	}
	from := ObjectKey{Group: rbac, Kind: "RoleBinding", Namespace: "one", Name: "x"}
	to := from
	to.Namespace = "two"
	_, moved, err := (&changes{cells: maxCells, room: maxText}).object(pair{from, to}, binding("one"), binding("two"))
	if err != nil {
		t.Fatal(err)
	}
	matters = append(matters, moved...)
	sortMatters(matters)
	var got []string
	for _, m := range matters {
		got = append(got, string(m.What)+" "+m.Subject()+" "+m.Text)
	}
	want := []string{
		"rights rbac.authorization.k8s.io RoleBinding two/x gives Role r to User u",
		"removed Namespace c is gone; deleting it deletes everything in it",
		"removed apiextensions.k8s.io CustomResourceDefinition b is gone; deleting it deletes every object of its kind",
		"removed ConfigMap a is gone",
		"removed ex.io Namespace a is gone",
		"removed rbac.authorization.k8s.io RoleBinding two/x is gone from namespace one",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
