// SPDX-License-Identifier: Apache-2.0

package artifact

import (
	"path"
	"slices"
	"strings"
	"testing"
)

func TestContentName(t *testing.T) {
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
		".gitlab/agents/a/config.yaml":  "agents/a/config.objects.yaml",
		"a/.GIT/hooks.yaml":             "a/hooks.objects.yaml",
		".git.d/a.yaml":                 "a.objects.yaml",
		".argocd-source.yaml":           ".argocd-source.objects.yaml",
		"d/.argocd-source-shop.yaml":    "d/.argocd-source-shop.objects.yaml",
		".argocd-source.json":           ".argocd-source.json.yaml",
		".argocd-sources.yaml":          ".argocd-sources.yaml",
		"über/ä ö.yaml":                 "über/ä ö.yaml",
	} {
		if got := ContentName(in); got != want {
			t.Errorf("ContentName(%q) = %q, want %q", in, got, want)
		}
	}
}

// FuzzContentName checks that, whatever a file is called, every deployer reads its name in the
// content, and that it stays the same when it is taped again.
func FuzzContentName(f *testing.F) {
	for _, seed := range []string{"a.yaml", "d/Kustomization", ".git/a.JSON", ".json", "x/.github/.yaml", "Chart.YAML"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in string) {
		if in == "" || path.Clean(in) != in || path.IsAbs(in) || in == "." || strings.HasPrefix(in, "..") {
			t.Skip()
		}
		got := ContentName(in)
		if ext := path.Ext(got); ext != ".yaml" && ext != ".yml" {
			t.Errorf("ContentName(%q) = %q", in, got)
		}
		if slices.ContainsFunc(strings.Split(path.Dir(got), "/"), isReservedFolder) {
			t.Errorf("ContentName(%q) = %q lies in a folder that is ignored", in, got)
		}
		if slices.Contains(reservedFiles(), path.Base(got)) {
			t.Errorf("ContentName(%q) = %q is reserved", in, got)
		}
		if again := ContentName(got); again != got {
			t.Errorf("ContentName(%q) = %q, and then %q", in, got, again)
		}
		if path.Clean(got) != got {
			t.Errorf("ContentName(%q) = %q is not clean", in, got)
		}
	})
}
