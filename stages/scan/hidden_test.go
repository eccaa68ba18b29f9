// SPDX-License-Identifier: Apache-2.0

package scan

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/taped-dev/tape/stages/images"
)

// What a pod runs is found whatever stands around it: what is read as part of
// something else is that alone, and no rule for other fields holds in a PodSpec.
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
