// SPDX-License-Identifier: Apache-2.0

// Package tekton checks ../tekton.yaml with Tekton's own types, which tape does not link.
package tekton

import (
	"os"
	"testing"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"sigs.k8s.io/yaml"
)

// TestTask decodes the task as strictly as a cluster, and validates it with Tekton.
func TestTask(t *testing.T) {
	data, err := os.ReadFile("../tekton.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var task v1.Task
	if err := yaml.UnmarshalStrict(data, &task); err != nil {
		t.Fatal(err)
	}
	if task.APIVersion != "tekton.dev/v1" || task.Kind != "Task" {
		t.Errorf("it is a %s %s", task.APIVersion, task.Kind)
	}
	task.SetDefaults(t.Context())
	if err := task.Validate(t.Context()); err != nil {
		t.Error(err)
	}
}
