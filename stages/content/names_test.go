// SPDX-License-Identifier: Apache-2.0

package content

import (
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestName(t *testing.T) {
	for in, want := range map[string]string{
		"a.yaml":                        "a.yaml",
		"d/a.b.yml":                     "d/a.b.yml",
		"A.YAML":                        "A.yaml",
		"d/a.Yml":                       "d/a.yml",
		"deployment.json":               "deployment.json.yaml",
		"Deployment.JSON":               "Deployment.json.yaml",
		"noext":                         "noext.yaml",
		"d.d/objects.txt":               "d.d/objects.txt.yaml",
		"kustomization.yaml":            "kustomization.objects.yaml",
		"kustomization.json":            "kustomization.json.yaml",
		"d/kustomization.YML":           "d/kustomization.objects.yaml",
		"Kustomization":                 "Kustomization.objects.yaml",
		"Kustomization.yaml":            "Kustomization.yaml",
		"my-kustomization.yaml":         "my-kustomization.yaml",
		"Chart.yaml":                    "Chart.objects.yaml",
		"chart.yaml":                    "chart.yaml",
		".sourceignore":                 ".sourceignore.objects.yaml",
		".travis.yml":                   ".travis.objects.yaml",
		".travis.yaml":                  ".travis.yaml",
		"d/.gitlab-ci.yml":              "d/.gitlab-ci.objects.yaml",
		"appveyor.yml":                  "appveyor.objects.yaml",
		".drone.yml":                    ".drone.objects.yaml",
		"cloudbuild.yaml":               "cloudbuild.objects.yaml",
		"codeship-services.yml":         "codeship-services.objects.yaml",
		"codeship.yml":                  "codeship.yml",
		".goreleaser.yml":               ".goreleaser.objects.yaml",
		".sops.yaml":                    ".sops.objects.yaml",
		".flux.yaml":                    ".flux.objects.yaml",
		".github/workflows/deploy.yaml": "workflows/deploy.objects.yaml",
		"a/.circleci/b/.git/c.json":     "a/b/c.json.objects.yaml",
		".git/kustomization.yaml":       "kustomization.objects.yaml",
		".github.yaml":                  ".github.yaml",
		"über/ä ö.yaml":                 "über/ä ö.yaml",
	} {
		if got := name(in); got != want {
			t.Errorf("name(%q) = %q, want %q", in, got, want)
		}
	}
}

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

// FuzzName: whatever a file is called, its name in the content is one that every
// deployer reads, and stays when it is taped again.
func FuzzName(f *testing.F) {
	for _, seed := range []string{"a.yaml", "d/Kustomization", ".git/a.JSON", ".json", "x/.github/.yaml", "Chart.YAML"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in string) {
		if in == "" || path.Clean(in) != in || path.IsAbs(in) || in == "." || strings.HasPrefix(in, "..") {
			t.Skip()
		}
		got := name(in)
		if ext := path.Ext(got); ext != ".yaml" && ext != ".yml" {
			t.Errorf("name(%q) = %q", in, got)
		}
		for _, folder := range reservedFolders() {
			if slices.Contains(strings.Split(path.Dir(got), "/"), folder) {
				t.Errorf("name(%q) = %q lies in %s", in, got, folder)
			}
		}
		if slices.Contains(reservedFiles(), path.Base(got)) {
			t.Errorf("name(%q) = %q is reserved", in, got)
		}
		if again := name(got); again != got {
			t.Errorf("name(%q) = %q, and then %q", in, got, again)
		}
		if path.Clean(got) != got {
			t.Errorf("name(%q) = %q is not clean", in, got)
		}
	})
}
