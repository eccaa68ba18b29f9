// SPDX-License-Identifier: Apache-2.0

package app_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/taped-dev/tape/engine/content/registry/registrytest"
	"github.com/taped-dev/tape/stages/app"
	"github.com/taped-dev/tape/stages/artifact"
)

// deployment returns a Deployment with an image; the environments of newEnvironments have one
// each.
func deployment(name, image string) string {
	return `apiVersion: apps/v1
kind: Deployment
metadata: {name: ` + name + `}
spec: {template: {spec: {containers: [{name: c, image: "` + image + `"}]}}}
`
}

// environments is a pipeline with two sources in the environments dev and prod; dev skips one of
// them.
type environments struct {
	env  app.Environment
	file string // tape.yaml
	dst  string // host of the registry
	ref  string // where pack pushes to
}

func newEnvironments(t *testing.T) *environments {
	t.Helper()
	dir := t.TempDir()
	for file, data := range map[string]string{
		"tape.yaml": `apiVersion: tape/v1
kind: Pipeline
sources: [{name: web, path: web/dev}, {name: db, path: db}]
environments:
  prod: {sources: {web: {path: web/prod}}}
  dev: {skip: [db]}
`,
		"web/dev/web.yaml":  deployment("web", "ex.io/web:1"),
		"web/prod/web.yaml": deployment("web", "ex.io/web:1") + "---\n" + deployment("more", "ex.io/more:1"),
		"db/db.yaml":        deployment("db", "ex.io/db:1"),
	} {
		file = filepath.Join(dir, file)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, file, data)
	}
	env, done, err := environment(t.TempDir(), registrytest.Serve(t, &registrytest.Upstream{}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = done() })
	e := &environments{env: env, file: filepath.Join(dir, "tape.yaml"), dst: registrytest.Serve(t, registrytest.GGCR())}
	e.ref = e.dst + "/team/shop:v1"
	return e
}

func (e *environments) options() app.Options {
	return app.Options{Environment: e.env, Pipeline: e.file, Strict: true}
}

func (e *environments) pack(t *testing.T, o app.Options) *app.PackageResult {
	t.Helper()
	result, err := app.Package(t.Context(), app.PackageOptions{Options: o, Repository: e.dst + "/team/shop", Tags: []string{"v1"}})
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// TestEnvironments packs two environments that define the same object into one artifact, in
// which every statement names its environment.
func TestEnvironments(t *testing.T) {
	e := newEnvironments(t)
	result := e.pack(t, e.options())
	if len(result.Images) != 3 || len(result.Warnings) > 0 {
		t.Errorf("%d images, warnings %q", len(result.Images), result.Warnings)
	}
	view, err := app.View(t.Context(), app.ViewOptions{Environment: e.env, Ref: e.ref})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range view.Content.Files {
		names = append(names, f.Name)
	}
	if want := []string{"dev/web/web.yaml", "prod/db/db.yaml", "prod/web/web.yaml"}; !slices.Equal(names, want) {
		t.Errorf("files %q, want %q", names, want)
	}
	if got := view.Root.Annotations[artifact.AnnotationEnvironments]; got != "dev,prod" {
		t.Errorf("environments of the root: %q", got)
	}
	var said []string
	for _, s := range view.Sources {
		said = append(said, s.Environment+" "+s.Name)
	}
	if want := []string{"dev dev/web", "prod prod/db", "prod prod/web"}; !slices.Equal(said, want) {
		t.Errorf("sources %q, want %q", said, want)
	}
	for _, s := range view.Statements {
		if s.PredicateType == artifact.PredicateTransform && strings.Contains(string(s.Predicate), `"kind":"render"`) {
			environment, _, _ := strings.Cut(s.Subjects[0].Name, "/")
			if !strings.Contains(string(s.Predicate), `"environment":"`+environment+`"`) {
				t.Errorf("the statement about %s names another environment: %s", s.Subjects[0].Name, s.Predicate)
			}
		}
	}
	// The path that Flux and Argo CD get is a folder of the layer.
	dir := filepath.Join(t.TempDir(), "out")
	if _, err := app.Pull(t.Context(), app.PullOptions{Environment: e.env, Ref: e.ref, Dir: dir}); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, "prod", "db", "db.yaml"))
	if err != nil || !strings.Contains(string(data), "/team/shop:db.1.") {
		t.Errorf("%s, %v", data, err)
	}
	// Another run changes nothing.
	if again := e.pack(t, e.options()); again.Root.Digest != result.Root.Digest {
		t.Errorf("packed twice: %s and %s", result.Root.Digest, again.Root.Digest)
	}
}

// TestOneEnvironment runs with one environment.
func TestOneEnvironment(t *testing.T) {
	e := newEnvironments(t)
	e.pack(t, e.options())
	dir := filepath.Join(t.TempDir(), "prod")
	pulled, err := app.Pull(t.Context(), app.PullOptions{Environment: e.env, Ref: e.ref, Dir: dir, Env: "prod"})
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"db/db.yaml", "web/web.yaml"}; !slices.Equal(pulled.Files, want) {
		t.Errorf("pulled %q, want %q", pulled.Files, want)
	}
	if _, err := os.Stat(filepath.Join(dir, "web", "web.yaml")); err != nil {
		t.Error(err)
	}
	var usage *app.UsageError
	_, err = app.Pull(t.Context(), app.PullOptions{Environment: e.env, Ref: e.ref, Dir: dir, Env: "pord"})
	if !errors.As(err, &usage) || !strings.Contains(err.Error(), `there is no environment "pord" (did you mean "prod"?)`) {
		t.Errorf("another one: %v", err)
	}
	view, err := app.View(t.Context(), app.ViewOptions{Environment: e.env, Ref: e.ref, Env: "dev"})
	if err != nil {
		t.Fatal(err)
	}
	if len(view.Images) != 1 || len(view.Content.Files) != 1 || len(view.Sources) != 1 {
		t.Errorf("dev has images %v, files %v, sources %v", view.Images, view.Content.Files, view.Sources)
	}
	for _, s := range view.Statements {
		if strings.Contains(string(s.Predicate), `"environment":"prod"`) && s.PredicateType != artifact.PredicateProvenance {
			t.Errorf("dev has a statement of prod about %v", s.Subjects)
		}
	}
	manifests, err := app.Manifests(t.Context(), app.ViewOptions{Environment: e.env, Ref: e.ref, Env: "dev"})
	if err != nil || len(manifests.Files) != 1 || manifests.Files[0].Name != "web/web.yaml" {
		t.Errorf("manifests of dev: %v, %v", manifests, err)
	}

	o := e.options()
	images, err := app.Images(t.Context(), app.ImagesOptions{Options: o})
	if err != nil {
		t.Fatal(err)
	}
	var used []string
	for _, image := range images.Images {
		used = append(used, image.Name+" "+strings.Join(image.Environments, ","))
	}
	if want := []string{"ex.io/db:1 prod", "ex.io/more:1 prod", "ex.io/web:1 dev,prod"}; !slices.Equal(used, want) {
		t.Errorf("images %q, want %q", used, want)
	}
	o.Environments = []string{"dev"}
	rendered, err := app.Render(t.Context(), app.RenderOptions{Options: o})
	if err != nil || len(rendered.Files) != 1 || rendered.Files[0].Name != "web/web.yaml" {
		t.Errorf("rendered %v, %v", rendered, err)
	}
	alone := e.pack(t, o)
	if !slices.Equal(alone.Environments, o.Environments) || len(alone.Images) != 1 {
		t.Errorf("packed %q with %d images", alone.Environments, len(alone.Images))
	}
	o.Environments = []string{"test"}
	if _, err := app.Render(t.Context(), app.RenderOptions{Options: o}); !errors.As(err, &usage) || !strings.Contains(err.Error(), `there is no environment "test"; want dev, prod`) {
		t.Errorf("render another one: %v", err)
	}
}

// TestEnvironmentsElsewhere signs, copies, saves and relocates, and verifies the results.
func TestEnvironmentsElsewhere(t *testing.T) {
	e := newEnvironments(t)
	public, signer := newKey(t)
	o := e.options()
	o.Signer = signer
	e.pack(t, o)
	if _, err := app.Copy(t.Context(), app.CopyOptions{Environment: e.env, Pairs: []app.CopyPair{{Source: e.ref, Target: e.dst + "/copy/shop:v1"}}}); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "shop.tar")
	if _, err := app.Save(t.Context(), app.SaveOptions{Environment: e.env, Ref: e.ref, File: file}); err != nil {
		t.Fatal(err)
	}
	if _, err := app.Relocate(t.Context(), app.RelocateOptions{Options: app.Options{Environment: e.env}, Source: e.ref, Repository: e.dst + "/site/shop"}); err != nil {
		t.Fatal(err)
	}
	if _, err := app.Sign(t.Context(), app.SignOptions{Environment: e.env, Ref: e.dst + "/site/shop:v1", Signer: signer}); err != nil {
		t.Fatal(err)
	}
	for _, ref := range []string{e.ref, e.dst + "/copy/shop:v1", "archive:" + file, e.dst + "/site/shop:v1"} {
		r, err := app.Verify(t.Context(), app.VerifyOptions{Environment: e.env, Ref: ref, Key: public})
		if err != nil {
			t.Fatal(err)
		}
		if !r.OK {
			t.Errorf("%s: %v", ref, failing(r))
		}
		dir := filepath.Join(t.TempDir(), "out")
		if pulled, err := app.Pull(t.Context(), app.PullOptions{Environment: e.env, Ref: ref, Dir: dir, Env: "prod"}); err != nil || len(pulled.Files) != 2 {
			t.Errorf("pull %s: %v, %v", ref, pulled, err)
		}
	}
}

// TestEnvironmentsWarnOnce checks that each warning about a source that two environments share is
// reported once.
func TestEnvironmentsWarnOnce(t *testing.T) {
	e := newEnvironments(t)
	dir := filepath.Dir(e.file)
	write(t, e.file, "apiVersion: tape/v1\nkind: Pipeline\nsources: [{path: db}]\nenvironments: {dev: {}, prod: {}}\n")
	write(t, filepath.Join(dir, "db", "secret.yaml"), "apiVersion: v1\nkind: Secret\nmetadata: {name: x}\nstringData: {password: hunter2}\n")
	o := e.options()
	o.Strict = false
	for _, run := range []string{"rendered", "cached"} {
		if r := e.pack(t, o); len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], "db/secret.yaml:4:24: Secret x has plain text") {
			t.Errorf("%s: %q", run, r.Warnings)
		}
	}
}

// TestEnvironmentTwice rejects the same object twice in one environment.
func TestEnvironmentTwice(t *testing.T) {
	e := newEnvironments(t)
	write(t, filepath.Join(filepath.Dir(e.file), "db", "web.yaml"), deployment("web", "ex.io/web:1"))
	_, err := app.Package(t.Context(), app.PackageOptions{Options: e.options(), Repository: e.dst + "/team/shop", DryRun: true})
	if err == nil || !strings.Contains(err.Error(), "Deployment web is already defined at ") {
		t.Errorf("got %v", err)
	}
}
