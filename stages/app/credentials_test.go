// SPDX-License-Identifier: Apache-2.0

package app_test

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/content/registry/registrytest"
	"github.com/taped-dev/tape/stages/app"
	"github.com/taped-dev/tape/stages/artifact"
)

const plainSecrets = `apiVersion: v1
kind: Secret
metadata: {name: db}
stringData:
  user: planted-one
  password: planted-two
---
apiVersion: v1
kind: ConfigMap
metadata: {name: web, namespace: shop}
data:
  app.ini: |
    [db]
    password = planted-three
`

// Packing credentials in plain text is a warning that names file, line, object and key, an
// error in a strict run, and can be accepted with a reason, which is recorded in the
// statements. Values are only in the manifests.
func TestPlainSecrets(t *testing.T) {
	src, dst := registrytest.Serve(t, &registrytest.Upstream{}), registrytest.Serve(t, registrytest.GGCR())
	env, done, err := environment(t.TempDir(), src)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = done() }()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "app.yaml"), plainSecrets+"---\n"+deployment("web", "ex.io/web:1"))
	file := filepath.Join(dir, "tape.yaml")
	pipeline := "apiVersion: tape/v1\nkind: Pipeline\nsources: [{path: app.yaml}]\n"
	pack := func(strict bool) (*app.PackageResult, string, error) {
		var events strings.Builder
		o := app.Options{Environment: env, Pipeline: file, Strict: strict}
		o.Events = func(e engine.Event) {
			data, _ := json.Marshal(e)
			events.Write(data)
		}
		result, err := app.Package(t.Context(), app.PackageOptions{Options: o, Repository: dst + "/team/shop", Tags: []string{"v1"}})
		return result, events.String(), err
	}

	write(t, file, pipeline)
	result, events, err := pack(false)
	if err != nil {
		t.Fatal(err)
	}
	place := filepath.Join(dir, "app.yaml")
	for _, want := range []string{
		place + ":5:9: Secret db has plain text that everyone who can pull the artifact can read: user (a value), password (a password); ",
		place + ":14:16: ConfigMap web has plain text that everyone who can pull the artifact can read: app.ini (a password, password); ",
	} {
		if !slices.ContainsFunc(result.Warnings, func(w string) bool { return strings.HasPrefix(w, want) }) {
			t.Errorf("no warning begins with %q: %q", want, result.Warnings)
		}
	}
	if len(result.Warnings) != 2 || strings.Contains(events, "planted") {
		t.Errorf("warnings %q, events %s", result.Warnings, events)
	}
	unaccepted := result.Root

	if _, _, err := pack(true); err == nil || !strings.Contains(err.Error(), "Secret db has plain text") || strings.Contains(err.Error(), "planted") {
		t.Errorf("a strict run: %v", err)
	}

	write(t, file, pipeline+`secrets:
  accept:
    - {kind: Secret, name: d*, reason: the operator replaces it}
    - {kind: ConfigMap, name: web, namespace: shop, keys: [app.ini], reason: it is a demo}
`)
	result, _, err = pack(true)
	if err != nil {
		t.Fatal(err)
	}
	if result.Root == unaccepted {
		t.Error("what is accepted is not stated")
	}
	view, err := app.View(t.Context(), app.ViewOptions{Environment: env, Ref: dst + "/team/shop:v1"})
	if err != nil {
		t.Fatal(err)
	}
	at := slices.IndexFunc(view.Statements, func(s artifact.ViewStatement) bool { return s.PredicateType == artifact.PredicateSecrets })
	if at < 0 {
		t.Fatal("no statement about secrets")
	}
	const want = `{"accepted":[` +
		`{"file":"app.yaml","line":5,"column":9,"pointer":"/stringData/user","kind":"Secret","name":"db","key":"user","what":"a value","reason":"the operator replaces it"},` +
		`{"file":"app.yaml","line":6,"column":13,"pointer":"/stringData/password","kind":"Secret","name":"db","key":"password","what":"a password","reason":"the operator replaces it"},` +
		`{"file":"app.yaml","line":14,"column":16,"pointer":"/data/app.ini","kind":"ConfigMap","namespace":"shop","name":"web","key":"app.ini","what":"a password, password","reason":"it is a demo"}]}`
	if got := string(view.Statements[at].Predicate); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if subjects := view.Statements[at].Subjects; len(subjects) != 1 || subjects[0].Name != "app.yaml" {
		t.Errorf("subjects %v", subjects)
	}
}
