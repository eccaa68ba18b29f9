// SPDX-License-Identifier: Apache-2.0

package durable

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	apps "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/runtime"
	serializer "k8s.io/apimachinery/pkg/runtime/serializer/json"

	"github.com/taped-dev/tape/cmd/tape/cli"
)

// TestDeployment decodes the Deployment in docs/fleet.md as Kubernetes does, and parses the
// command that it runs.
func TestDeployment(t *testing.T) {
	page, err := os.ReadFile("../../../docs/fleet.md")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile("(?s)```yaml\n(apiVersion: apps/v1\nkind: Deployment\n.*?)```").FindSubmatch(page)
	if m == nil {
		t.Fatal("docs/fleet.md has no Deployment")
	}
	var d apps.Deployment
	scheme := runtime.NewScheme()
	if err := apps.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	strict := serializer.NewSerializerWithOptions(serializer.DefaultMetaFactory, scheme, scheme, serializer.SerializerOptions{Yaml: true, Strict: true})
	if _, _, err := strict.Decode(m[1], nil, &d); err != nil {
		t.Fatal(err)
	}
	pod := d.Spec.Template
	for key, value := range d.Spec.Selector.MatchLabels {
		if pod.Labels[key] != value {
			t.Errorf("the selector wants %s=%s, which its pods do not have", key, value)
		}
	}
	volumes := map[string]bool{}
	for _, v := range pod.Spec.Volumes {
		volumes[v.Name] = true
	}
	for _, c := range append(slices.Clone(pod.Spec.InitContainers), pod.Spec.Containers...) {
		for _, mount := range c.VolumeMounts {
			if !volumes[mount.Name] {
				t.Errorf("%s mounts %s, which the pod does not have", c.Name, mount.Name)
			}
		}
	}
	if got := *pod.Spec.TerminationGracePeriodSeconds; float64(got) <= drain.Seconds() {
		t.Errorf("a worker has %d s to end, and takes %s", got, drain)
	}
	command := pod.Spec.Containers[0].Command
	var out, errs strings.Builder
	if code := companion().Run(t.Context(), append(command[1:], "--help"), cli.Streams{Out: &out, Err: &errs}); code != 0 || command[0] != companion().Name {
		t.Errorf("%v ends with %d: %s", command, code, errs.String())
	}
}
