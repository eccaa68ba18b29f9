// SPDX-License-Identifier: Apache-2.0

package content

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestNamesAreUnique(t *testing.T) {
	in := []string{
		"a.json", "a.json.yaml", "a.JSON", "a.json.2.yaml",
		"kustomization.yaml", "kustomization.objects.yaml", "kustomization.yml", ".github/kustomization.yaml",
	}
	want := map[string]string{
		"a.json.yaml":                "a.json.yaml",
		"a.json.2.yaml":              "a.json.2.yaml",
		"a.JSON":                     "a.json.3.yaml",
		"a.json":                     "a.json.4.yaml",
		"kustomization.objects.yaml": "kustomization.objects.yaml",
		".github/kustomization.yaml": "kustomization.objects.2.yaml",
		"kustomization.yaml":         "kustomization.objects.3.yaml",
		"kustomization.yml":          "kustomization.objects.4.yaml",
	}
	if diff := cmp.Diff(want, names(in)); diff != "" {
		t.Error(diff)
	}
	slices.Reverse(in)
	if diff := cmp.Diff(want, names(in)); diff != "" {
		t.Errorf("in reverse order: %s", diff)
	}
}
