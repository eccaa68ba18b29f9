// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/taped-dev/tape/stages/app"
	"github.com/taped-dev/tape/stages/app/fleet"
)

// TestThreeEnvironments packs a chart for three environments, 20 objects each, into one root.
// Its environments differ in exactly the fields that their values set, and a deployer that gets
// the path of one deploys its objects, a different set for each.
func TestThreeEnvironments(t *testing.T) {
	env, registry := inThisProcess(t)
	dir := t.TempDir()
	put := writer(t, dir)
	put("shop/Chart.yaml", "apiVersion: v2\nname: shop\nversion: 1.0.0\n")
	put("shop/values.yaml", "replicas: 1\nlevel: debug\nhost: dev.example.com\n")
	put("shop/stage.yaml", "level: info\nhost: stage.example.com\n")
	put("shop/prod.yaml", "replicas: 3\nlevel: warn\nhost: shop.example.com\n")
	put("shop/templates/all.yaml", `{{- range $i := until 9 }}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web{{ $i }}}
spec:
  replicas: {{ if lt $i 2 }}{{ $.Values.replicas }}{{ else }}1{{ end }}
  template: {spec: {containers: [{name: web, image: "ex.io/web{{ $i }}:1", env: [{name: TZ, value: UTC}]}]}}
---
apiVersion: v1
kind: Service
metadata: {name: web{{ $i }}}
spec: {ports: [{port: 80}]}
{{- end }}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: web}
data: {level: {{ .Values.level }}, kept: "yes"}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web}
spec: {rules: [{host: {{ .Values.host }}}]}
`)
	put("tape.yaml", `apiVersion: tape/v1
kind: Pipeline
sources: [{name: shop, path: shop}]
environments:
  dev:
  stage: {sources: {shop: {options: {values: [shop/stage.yaml]}}}}
  prod: {sources: {shop: {options: {values: [shop/prod.yaml]}}}}
`)
	packed, err := app.Package(t.Context(), app.PackageOptions{
		Options:    app.Options{Environment: env, Pipeline: filepath.Join(dir, "tape.yaml"), Strict: true},
		Repository: registry + "/team/shop", Tags: []string{"v1"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(packed.Images) != 9 {
		t.Errorf("%d images, want those that the environments share", len(packed.Images))
	}
	ref := registry + "/team/shop:v1"

	// dev..prod names exactly the fields that differ.
	d, err := app.Diff(t.Context(), app.DiffOptions{Environment: env, A: ref, B: ref, EnvironmentA: "dev", EnvironmentB: "prod"})
	if err != nil {
		t.Fatal(err)
	}
	var fields []string
	for _, o := range d.Objects.Changed {
		for _, f := range o.Fields {
			fields = append(fields, fmt.Sprintf("%s %s %s: %s → %s", o.Kind, o.Name, f.Path, f.From, f.To))
		}
	}
	if diff := cmp.Diff([]string{
		`ConfigMap web data.level: "debug" → "warn"`,
		`Deployment web0 spec.replicas: 1 → 3`,
		`Deployment web1 spec.replicas: 1 → 3`,
		`Ingress web spec.rules[dev.example.com]: {"host":"dev.example.com"} → `,
		`Ingress web spec.rules[shop.example.com]:  → {"host":"shop.example.com"}`,
	}, fields); diff != "" {
		t.Error(diff)
	}
	if len(d.Objects.Added)+len(d.Objects.Removed) > 0 || len(d.Images.Added)+len(d.Images.Removed)+len(d.Images.Changed) > 0 {
		t.Errorf("%+v, %+v", d.Objects, d.Images)
	}

	// What a deployer builds from the path of each: like kustomize-controller, one kustomization
	// of all files below it.
	all := filepath.Join(t.TempDir(), "all")
	if _, err := app.Pull(t.Context(), app.PullOptions{Environment: env, Ref: ref, Dir: all}); err != nil {
		t.Fatal(err)
	}
	hosts := map[string]string{}
	for _, name := range []string{"dev", "stage", "prod"} {
		text, err := kustomized(t.Context(), env, filepath.Join(all, name))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if n := strings.Count(text, "\nkind: "); n != 20 {
			t.Errorf("%s has %d objects", name, n)
		}
		_, host, _ := strings.Cut(text, "host: ")
		hosts[name], _, _ = strings.Cut(host, "\n")
		// kubectl apply -R accepts what pull writes for one environment: the same files.
		alone := filepath.Join(t.TempDir(), name)
		if _, err := app.Pull(t.Context(), app.PullOptions{Environment: env, Ref: ref, Dir: alone, Env: name}); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tree(t, filepath.Join(all, name)), tree(t, alone)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	if want := map[string]string{"dev": "dev.example.com", "stage": "stage.example.com", "prod": "shop.example.com"}; !maps.Equal(hosts, want) {
		t.Errorf("hosts %v, want %v", hosts, want)
	}
	// A deployer that uses the whole root fails, and deploys nothing.
	if _, err := kustomized(t.Context(), env, all); err == nil || !strings.Contains(err.Error(), "may not add resource with an already registered id") {
		t.Errorf("the whole root: %v", err)
	}
}

// kustomized returns the output of a kustomization of all files in a folder.
func kustomized(ctx context.Context, env app.Environment, dir string) (string, error) {
	files := slices.Sorted(maps.Keys(tree(nil, dir)))
	text := "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n- " + strings.Join(files, "\n- ") + "\n"
	file := filepath.Join(dir, "kustomization.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return "", err
	}
	defer os.Remove(file)
	r, err := app.Render(ctx, app.RenderOptions{Options: app.Options{Environment: env, Sources: []app.Source{{Path: dir}}}})
	if err != nil {
		return "", err
	}
	var out strings.Builder
	for _, f := range r.Files {
		out.WriteString("---\n" + string(f.Data))
	}
	return out.String(), nil
}

// tree returns the files below a folder.
func tree(t *testing.T, dir string) map[string]string {
	out := map[string]string{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := fs.ReadFile(os.DirFS(dir), name)
		out[name] = string(data)
		return err
	})
	if err != nil && t != nil {
		t.Fatal(err)
	}
	return out
}

// TestFleetOfCharts packages a fleet with a chart in three environments, whose values differ: a
// changed value of one environment packages only its application again, and changes only that
// environment.
func TestFleetOfCharts(t *testing.T) {
	env, registry := inThisProcess(t)
	dir := t.TempDir()
	put := writer(t, dir)
	git := func(args ...string) {
		t.Helper()
		cmd := exec.Command("git", append([]string{"-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false"}, args...)...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
	put("tape.fleet.yaml", "apiVersion: tape/v1\nkind: Fleet\napplications: ['apps/*']\ndefaults: {output: {image: '"+registry+"/fleet/${name}'}}\n")
	put("apps/plain/pod.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: a, image: ex.io/a:1}]}\n")
	put("apps/shop/tape.yaml", `apiVersion: tape/v1
kind: Pipeline
sources: [{name: shop, path: shop}]
environments:
  dev: {}
  stage: {sources: {shop: {options: {set: [tag=2]}}}}
  prod: {sources: {shop: {options: {values: [prod.yaml], release: live, namespace: live}}}}
`)
	put("apps/shop/prod.yaml", "replicas: 3\ntag: 2\n")
	put("apps/shop/shop/Chart.yaml", "apiVersion: v2\nname: shop\nversion: 1.0.0\n")
	put("apps/shop/shop/values.yaml", "replicas: 1\ntag: 1\n")
	put("apps/shop/shop/templates/web.yaml", `apiVersion: apps/v1
kind: Deployment
metadata: {name: "{{ .Release.Name }}-web"}
spec:
  replicas: {{ .Values.replicas }}
  template: {spec: {containers: [{name: web, image: "ex.io/web:{{ .Values.tag }}"}]}}
`)
	git("init", "-q")
	commit := func() {
		t.Helper()
		git("add", "-A")
		git("commit", "-q", "-m", "x")
	}
	o := fleet.Options{Environment: env, Version: "test"}
	pack := func() map[string]fleet.Outcome {
		t.Helper()
		var err error
		if o.File, err = fleet.Read(filepath.Join(dir, fleet.FileName)); err != nil {
			t.Fatal(err)
		}
		report, err := fleet.Package(t.Context(), fleet.PackageOptions{Options: o})
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]fleet.Outcome{}
		for _, a := range report.Applications {
			if a.Error != nil {
				t.Fatalf("%s: %v", a.Name, a.Error)
			}
			out[a.Name] = a
		}
		return out
	}
	ref := func(a fleet.Outcome) string { return registry + "/fleet/" + a.Name + ":" + a.Tags[0] }

	commit()
	first := pack()
	view, err := app.View(t.Context(), app.ViewOptions{Environment: env, Ref: ref(first["shop"])})
	if err != nil {
		t.Fatal(err)
	}
	used := map[string][]string{}
	for _, image := range view.Images {
		used[image.Name] = image.Environments
	}
	if diff := cmp.Diff(map[string][]string{"ex.io/web:1": {"dev"}, "ex.io/web:2": {"prod", "stage"}}, used); diff != "" {
		t.Error(diff)
	}
	dirs := filepath.Join(t.TempDir(), "all")
	if _, err := app.Pull(t.Context(), app.PullOptions{Environment: env, Ref: ref(first["shop"]), Dir: dirs}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]string{"dev": {"shop-web", "replicas: 1"}, "stage": {"shop-web", "replicas: 1"}, "prod": {"live-web", `"namespace": "live"`, "replicas: 3"}} {
		text, err := os.ReadFile(filepath.Join(dirs, name, "templates", "web.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range want {
			if !strings.Contains(string(text), w) {
				t.Errorf("%s has no %q:\n%s", name, w, text)
			}
		}
	}

	put("apps/shop/prod.yaml", "replicas: 4\ntag: 2\n")
	commit()
	plan, _, err := fleet.MakePlan(t.Context(), fleet.PlanOptions{Options: o})
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range plan.Applications {
		if want := map[string]string{"shop": "apps/shop/prod.yaml changed"}[a.Name]; want != "" && a.Reason != want || (a.State == fleet.ToPackage) != (want != "") {
			t.Errorf("%s is %s: %s", a.Name, a.State, a.Reason)
		}
	}
	second := pack()
	if second["plain"].State != fleet.OutcomeUnchanged || second["shop"].State != fleet.Done {
		t.Errorf("%+v", second)
	}
	d, err := app.Diff(t.Context(), app.DiffOptions{Environment: env, A: ref(first["shop"]), B: ref(second["shop"]), EnvironmentA: "dev", EnvironmentB: "dev"})
	if err != nil {
		t.Fatal(err)
	}
	if len(d.Objects.Changed) > 0 {
		t.Errorf("dev changed: %+v", d.Objects)
	}
	if d, err = app.Diff(t.Context(), app.DiffOptions{Environment: env, A: ref(first["shop"]), B: ref(second["shop"]), EnvironmentA: "prod", EnvironmentB: "prod"}); err != nil {
		t.Fatal(err)
	}
	if len(d.Objects.Changed) != 1 || len(d.Objects.Changed[0].Fields) != 1 || d.Objects.Changed[0].Fields[0].Path != "spec.replicas" {
		t.Errorf("prod: %+v", d.Objects)
	}
	// The options of one environment are in tape.yaml.
	pipeline, err := os.ReadFile(filepath.Join(dir, "apps/shop/tape.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	put("apps/shop/tape.yaml", strings.Replace(string(pipeline), "release: live", "release: shop", 1))
	commit()
	if plan, _, err = fleet.MakePlan(t.Context(), fleet.PlanOptions{Options: o}); err != nil {
		t.Fatal(err)
	}
	if i := slices.IndexFunc(plan.Applications, func(a fleet.Planned) bool { return a.Name == "shop" }); plan.Applications[i].Reason != "the options of prod/shop changed" {
		t.Errorf("%+v", plan.Applications[i])
	}
}

// writer returns a function that writes a file below dir, and its folder.
func writer(t *testing.T, dir string) func(name, data string) {
	return func(name, data string) {
		t.Helper()
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
