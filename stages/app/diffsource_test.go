// SPDX-License-Identifier: Apache-2.0

package app_test

import (
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/taped-dev/tape/stages/app"
)

// A source does not differ from the application that was packed from it; two environments
// differ in exactly what their manifests do.
func TestDiffSource(t *testing.T) {
	e := newEnvironments(t)
	e.pack(t, e.options())
	source := e.options()
	diff := func(o app.DiffOptions) *app.DiffResult {
		t.Helper()
		o.Environment = e.env
		d, err := app.Diff(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	if d := diff(app.DiffOptions{A: e.ref, B: "tape.yaml", SourceB: &source}); !d.Empty() || len(d.Matters) > 0 {
		t.Errorf("the source differs from what it was packed to: %+v", d)
	}
	if d := diff(app.DiffOptions{A: e.ref, B: "tape.yaml", SourceB: &source, EnvironmentA: "prod", EnvironmentB: "prod"}); !d.Empty() {
		t.Errorf("prod of the source differs from what it was packed to: %+v", d)
	}
	deployment := func(name string) app.ObjectKey { return app.ObjectKey{Group: "apps", Kind: "Deployment", Name: name} }
	want := app.ObjectsDiff{Added: []app.ObjectKey{deployment("db"), deployment("more")}, Removed: []app.ObjectKey{}, Changed: []app.ObjectChange{}}
	for of, o := range map[string]app.DiffOptions{
		"application": {A: e.ref, B: e.ref}, "source": {A: "tape.yaml", B: "tape.yaml", SourceA: &source, SourceB: &source},
	} {
		o.EnvironmentA, o.EnvironmentB = "dev", "prod"
		d := diff(o)
		if diff := cmp.Diff(want, d.Objects); diff != "" {
			t.Errorf("%s: %s", of, diff)
		}
		var added []string
		for _, image := range d.Images.Added {
			added = append(added, image.Name)
		}
		if diff := cmp.Diff([]string{"ex.io/db:1", "ex.io/more:1"}, added); diff != "" {
			t.Errorf("%s: images: %s", of, diff)
		}
	}
	if _, err := app.Diff(t.Context(), app.DiffOptions{Environment: e.env, A: e.ref, B: e.ref, EnvironmentA: "dev", EnvironmentB: "pord"}); err == nil {
		t.Error("there is no environment pord")
	}
	// Another version of an image does not lose the evidence in its index.
	write(t, filepath.Join(filepath.Dir(e.file), "web", "dev", "web.yaml"), `apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec: {template: {spec: {containers: [{name: c, image: "ex.io/web:2"}]}}}
`)
	d := diff(app.DiffOptions{A: e.ref, B: "tape.yaml", SourceB: &source, EnvironmentA: "dev", EnvironmentB: "dev"})
	var matters []string
	for _, m := range d.Matters {
		matters = append(matters, string(m.What)+" "+m.Subject())
	}
	if diff := cmp.Diff([]string{"version ex.io/web:2"}, matters); diff != "" {
		t.Error(diff)
	}
}
