// SPDX-License-Identifier: Apache-2.0

package app

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestInitEnvironments checks which environments init proposes, from the folders of sources
// that render and the values of charts.
func TestInitEnvironments(t *testing.T) {
	kustomize := func(paths ...string) (out []claimedSource) {
		for _, p := range paths {
			out = append(out, claimedSource{Source: Source{Path: p, Interpreter: "kustomize"}})
		}
		return out
	}
	chart := func(path string) claimedSource {
		return claimedSource{Source: Source{Path: path, Interpreter: "helm"}}
	}
	for _, c := range []struct {
		name    string
		sources []claimedSource
		values  []string // files
		want    string
	}{
		{"nothing", kustomize("deploy"), nil, ""},
		{"one overlay", kustomize("overlays/prod"), nil, ""},
		{"base and overlays", kustomize("overlays/dev", "overlays/prod"), nil, `
sources:
  - path: overlays/dev
    interpreter: kustomize
    name: app
# All of these go into one artifact, each in its own folder:
environments:
  dev: {sources: {app: {path: overlays/dev}}}
  prod: {sources: {app: {path: overlays/prod}}}
`},
		{"overlays of overlays", kustomize("overlays/dev", "overlays/prod/eu", "overlays/prod/us"), nil, `
sources:
  - path: overlays/dev
    interpreter: kustomize
    name: app
# All of these go into one artifact, each in its own folder:
environments:
  dev: {sources: {app: {path: overlays/dev}}}
  prod-eu: {sources: {app: {path: overlays/prod/eu}}}
  prod-us: {sources: {app: {path: overlays/prod/us}}}
`},
		{"overlays of several", kustomize("apps/db/overlays/dev", "apps/db/overlays/prod", "apps/web/overlays/dev", "apps/web/overlays/prod", "apps/web/overlays/test", "rules"), nil, `
# All of these go into one artifact: remove those that you do not want.
sources:
  - path: apps/db/overlays/dev
    interpreter: kustomize
    name: db
  - path: apps/web/overlays/dev
    interpreter: kustomize
    name: web
  - path: rules
    interpreter: kustomize
    name: rules
# All of these go into one artifact, each in its own folder:
environments:
  dev: {sources: {db: {path: apps/db/overlays/dev}, web: {path: apps/web/overlays/dev}}}
  prod: {sources: {db: {path: apps/db/overlays/prod}, web: {path: apps/web/overlays/prod}}}
  test: {sources: {web: {path: apps/web/overlays/test}}, skip: [db]}
`},
		{"several in each environment", kustomize("environments/dev/db", "environments/dev/debug", "environments/dev/web", "environments/prod/db", "environments/prod/web"), nil, `
# All of these go into one artifact: remove those that you do not want.
sources:
  - path: environments/dev/db
    interpreter: kustomize
    name: db
  - path: environments/dev/debug
    interpreter: kustomize
    name: debug
  - path: environments/dev/web
    interpreter: kustomize
    name: web
# All of these go into one artifact, each in its own folder:
environments:
  dev: {sources: {db: {path: environments/dev/db}, debug: {path: environments/dev/debug}, web: {path: environments/dev/web}}}
  prod: {sources: {db: {path: environments/prod/db}, web: {path: environments/prod/web}}, skip: [debug]}
`},
		{"values of a chart", []claimedSource{chart("chart")}, []string{"chart/values-dev.yaml", "chart/values-prod.yaml", "chart/values-Not_One.yaml"}, `
sources:
  - path: chart
    interpreter: helm
# All of these go into one artifact, each in its own folder:
# environments:
#   dev: {sources: {chart: {options: {values: [chart/values-dev.yaml]}}}}
#   prod: {sources: {chart: {options: {values: [chart/values-prod.yaml]}}}}
`},
		{"overlays and a chart", append(kustomize("envs/dev", "envs/prod"), chart("web")), []string{"web/values-ci.yaml", "web/values-prod.yaml"}, `
# All of these go into one artifact: remove those that you do not want.
sources:
  - path: envs/dev
    interpreter: kustomize
    name: app
  - path: web
    interpreter: helm
    name: web
# All of these go into one artifact, each in its own folder:
environments:
  dev: {sources: {app: {path: envs/dev}}}
  prod: {sources: {app: {path: envs/prod}, web: {options: {values: [web/values-prod.yaml]}}}}
`},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			for _, file := range c.values {
				file = filepath.Join(dir, file)
				if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(file, nil, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			o := InitOptions{Dir: dir, Repository: "ex.io/app"}
			sources := overlaid(c.sources)
			name(sources)
			got := o.text(sources, failures{}, candidates{dir: dir})
			_, body, _ := strings.Cut(got, "kind: Pipeline\n")
			body, _, _ = strings.Cut(body, "output:")
			if c.want == "" {
				if strings.Contains(got, "environments") {
					t.Errorf("got %s", got)
				}
			} else if want := strings.TrimPrefix(c.want, "\n"); body != want {
				t.Errorf("got\n%s\nwant\n%s", body, want)
			}
		})
	}
}
