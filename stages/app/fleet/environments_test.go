// SPDX-License-Identifier: Apache-2.0

package fleet_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/taped-dev/tape/stages/app"
	"github.com/taped-dev/tape/stages/app/fleet"
)

// TestEnvironments packages an application with environments in a fleet: a change in one of
// them is named by its file or its source, and packages the application again.
func TestEnvironments(t *testing.T) {
	t.Parallel()
	l := newLab(t, 1)
	pod := func(image string) string {
		return "apiVersion: v1\nkind: Pod\nmetadata: {name: shop}\nspec: {containers: [{name: a, image: ex.io/own/" + image + "}]}\n"
	}
	pipeline := func(prod string) string {
		return "apiVersion: tape/v1\nkind: Pipeline\nsources: [{name: web, path: dev}, {name: more, path: more}]\nenvironments:\n  dev: {}\n  prod: " + prod + "\n"
	}
	l.write(t, "apps/shop/tape.yaml", pipeline("{sources: {web: {path: prod}}}"))
	l.write(t, "apps/shop/dev/pod.yaml", pod("shop:1"))
	l.write(t, "apps/shop/prod/pod.yaml", pod("shop:1"))
	l.write(t, "apps/shop/more/map.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: more}\ndata: {a: b}\n")
	l.commit(t, "environments")
	pack := fleet.PackageOptions{Options: l.options(t, "one")}
	if report := l.pack(t, pack); report.Totals.Done != 2 {
		t.Fatalf("%+v: %+v", report.Totals, report.Applications)
	}

	for _, c := range []struct{ name, file, data, reason string }{
		{"a file of prod", "apps/shop/prod/pod.yaml", pod("shop:2"), "apps/shop/prod/pod.yaml changed"},
		{"an environment has fewer sources", "apps/shop/tape.yaml", pipeline("{sources: {web: {path: prod}}, skip: [more]}"), "it no longer has these sources: prod/more"},
		{"an environment has another path", "apps/shop/tape.yaml", pipeline("{skip: [more]}"), "apps/shop/dev/pod.yaml is new"},
	} {
		l.write(t, c.file, c.data)
		l.commit(t, c.name)
		pack.Options = l.options(t, "one")
		plan, _, err := fleet.MakePlan(t.Context(), fleet.PlanOptions{Options: pack.Options, Since: "HEAD~1"})
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range plan.Applications {
			if p.Name == "shop" && (p.State != fleet.ToPackage || !strings.HasPrefix(p.Reason, c.reason)) {
				t.Errorf("%s: shop is %s: %s; want a reason that begins with %q", c.name, p.State, p.Reason, c.reason)
			} else if p.Name != "shop" && p.State != fleet.Skipped {
				t.Errorf("%s: %s is %s: %s", c.name, p.Name, p.State, p.Reason)
			}
		}
		if report := l.pack(t, pack); report.Totals.Done != 1 || report.Totals.Unchanged != 1 {
			t.Errorf("%s: %+v: %+v", c.name, report.Totals, report.Applications)
		}
	}
	report := l.pack(t, pack)
	i := slices.IndexFunc(report.Applications, func(o fleet.Outcome) bool { return o.Name == "shop" })
	if report.Applications[i].State != fleet.OutcomeUnchanged {
		t.Errorf("%+v", report.Applications[i])
	}
	view, err := app.View(t.Context(), app.ViewOptions{Environment: pack.Environment, Ref: l.host + "/team/shop:" + report.Applications[i].Tags[0]})
	if err != nil {
		t.Fatal(err)
	}
	var files []string
	for _, f := range view.Content.Files {
		files = append(files, f.Name)
	}
	if want := []string{"dev/more/map.yaml", "dev/web/pod.yaml", "prod/web/pod.yaml"}; !slices.Equal(files, want) || !slices.Equal(view.Environments, []string{"dev", "prod"}) {
		t.Errorf("environments %q, files %q, want %q", view.Environments, files, want)
	}
}
