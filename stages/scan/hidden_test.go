// SPDX-License-Identifier: Apache-2.0

package scan

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/taped-dev/tape/stages/images"
)

// The images of a pod are found whatever surrounds it: a value that is read as part of
// something else is only that, and no rule for other fields applies to a PodSpec.
func TestPodsHideNothing(t *testing.T) {
	const evil = "evil.example.com/evil/app:1"
	const policy = "{apiVersion: constraints.gatekeeper.sh/v1, kind: X, spec: {containers: [{image: " + evil + "}]}}"
	for _, c := range []struct{ name, in, fields string }{
		{"value", resource("v1", "Pod", "  containers: [{name: app-image, value: reg.example.com/good/app, image: "+evil+"}, {name: app-image-tag, value: '1.0'}]\n"), ""},
		{"default", resource("v1", "Pod", "  initContainers: [{name: app-image, default: reg.example.com/good/app, image: "+evil+"}, {name: app-image-tag, default: '1.0'}]\n"), ""},
		{"volume", resource("v1", "Pod", "  volumes: [{name: app-image, value: reg.example.com/good/app, image: {reference: "+evil+"}}, {name: app-image-tag, value: '1.0'}]\n"), ""},
		{"below a pair", resource("x.io/v1", "X", "  env: [{name: app-image, value: reg.example.com/good/app, pod: {containers: [{image: "+evil+"}]}}, {name: app-image-tag, value: '1.0'}]\n"), ""},
		{"parts of a pipeline", resource("v1", "Pod", "  containers: [{name: a, image: evil.example.com/evil/app, tag: '2'}]\n"),
			`[{"groups": ["*"], "kinds": ["*"], "paths": ["/**"], "parts": {"repository": "image", "tag": "tag"}}]`},
		{"parts of a pipeline that are pointers", resource("v1", "Pod", "  containers: [{name: a, image: evil.example.com/evil/app, tag: '2'}]\n"),
			`[{"groups": ["*"], "kinds": ["*"], "paths": ["/spec"], "parts": {"repository": "containers/0/image", "tag": "containers/0/tag"}}]`},
		{"parts of a pipeline in a volume", resource("v1", "Pod", "  volumes: [{name: a, image: {reference: evil.example.com/evil/app, tag: '2'}}]\n"),
			`[{"groups": ["*"], "kinds": ["*"], "paths": ["/**"], "parts": {"repository": "reference", "tag": "tag"}}]`},
		{"last element of a pipeline's parts", resource("v1", "Pod", "  containers: [{name: a, image: evil}]\n"),
			`[{"groups": ["*"], "kinds": ["*"], "paths": ["/**"], "parts": {"repository": "repository", "image": "image"}}]`},
		{"what is denied", resource("x.io/v1", "X", "  deny: {template: {spec: {containers: [{image: "+evil+"}]}}}\n"), ""},
		{"what is compared", resource("x.io/v1", "X", "  rules: [{operator: In, value: {spec: {containers: [{image: "+evil+"}]}}}]\n"), ""},
		{"what is selected", resource("x.io/v1", "X", "  selector: {pod: {containers: [{image: "+evil+"}]}}\n"), ""},
		{"what is pushed", resource("v1", "Pod", "  containers: [{args: [--destination="+evil+"], image: "+evil+"}]\n"), ""},
		{"a container of a machine", resource("v1", "Pod", "  containers: [{image: "+evil+", flavor: m1, instanceType: x}]\n"), ""},
		{"template that claims to be a policy", resource("apps/v1", "Deployment", "  template: "+policy+"\n"), ""},
		{"template of a custom resource that claims to be a policy", resource("argoproj.io/v1alpha1", "Rollout", "  template: "+policy+"\n"), ""},
		{"template in what claims to be a policy", resource("batch/v1", "CronJob", "  jobTemplate: {apiVersion: constraints.gatekeeper.sh/v1, kind: X, spec: {template: {spec: {containers: [{image: "+evil+"}]}}}}\n"), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var config Config
			if c.fields != "" {
				if err := json.Unmarshal([]byte(c.fields), &config.Fields); err != nil {
					t.Fatal(err)
				}
			}
			report := scan(t, config, "f.yaml", c.in)
			for _, r := range report.References {
				if slices.ContainsFunc(r.Locations, func(l images.Location) bool {
					return l.Class == images.Pod && strings.Contains(l.Value, "evil")
				}) {
					return
				}
			}
			t.Errorf("the image is hidden: %q, mentions %v", lines(report), report.Mentions)
		})
	}
}

// Fields that name images without running them, and their neighbours that are run.
func TestMentionedFields(t *testing.T) {
	velero := func(label string) string {
		return "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m, labels: {velero.io/plugin-config: '', " + label + ": RestoreItemAction}}\ndata: {image: 'x.io/old:1,x.io/new:2'}\n"
	}
	for _, c := range []struct {
		name, in        string
		found, mentions int
	}{
		{"images that Velero replaces", velero("velero.io/change-image-name"), 0, 2},
		{"another plugin of Velero's", velero("velero.io/pod-volume-restore"), 2, 0},
		{"cache of kpack", resource("kpack.io/v1alpha2", "Image", "  cache: {registry: {tag: x.io/cache:1}}\n"), 0, 1},
		{"cache of kaniko", configMap("args", "--destination=x.io/a:1 --cache-repo=x.io/b:1"), 0, 2},
		{"cache of kaniko, as arguments", resource("v1", "Pod", "  containers: [{args: [--cache-repo, 'x.io/b:1', '--cache-repo=x.io/b:1']}]\n"), 0, 2},
		{"variables of what generates", resource("policies.kyverno.io/v1alpha1", "GeneratingPolicy", "  variables: [{name: a, expression: '{\"image\": dyn(\"x.io/a:1\")}'}]\n"), 1, 0},
		{"variables of what validates", resource("policies.kyverno.io/v1alpha1", "ValidatingPolicy", "  variables: [{name: a, expression: '{\"image\": dyn(\"x.io/a:1\")}'}]\n"), 0, 1},
		{"an image beside the base image", resource("monitoring.coreos.com/v1", "Prometheus", "  thanos: {baseImage: x.io/a, version: v1, image: 'x.io/a:v2'}\n"), 1, 0},
		{"a base image", resource("monitoring.coreos.com/v1", "Prometheus", "  thanos: {baseImage: x.io/a, version: v1}\n"), 1, 0},
	} {
		report := scan(t, Config{}, "f.yaml", c.in)
		if len(report.References) != c.found || len(report.Mentions) != c.mentions {
			t.Errorf("%s: %q, mentions %v", c.name, lines(report), report.Mentions)
		}
	}
	// An entry that ignores a field only does so where it says.
	fields := []Field{{Kinds: []string{"X"}, Paths: []string{"/spec/*/image"}, When: map[string]string{"kind": "a"}, Ignore: true}}
	got := scan(t, Config{Fields: fields}, "f.yaml", resource("x.io/v1", "X", "  a: {kind: a, image: x.io/a:1}\n  b: {kind: b, image: x.io/b:1}\n"))
	if diff := cmp.Diff([]string{"crd x.io/b:1 /spec/b/image"}, lines(got)); diff != "" {
		t.Error(diff)
	}
}
